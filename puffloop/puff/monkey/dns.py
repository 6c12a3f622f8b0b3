"""getaddrinfo() parks the greenlet while one of the loop's threads for names asks.

For its older kin one of the loop's executor does.
"""

from __future__ import annotations

import functools
import socket
from collections.abc import Callable
from typing import Any

from puff.greenlet import await_
from puff.monkey._patches import Patches
from puff.monkey._wait import in_thread, own_loop, parks

__all__ = ["patch"]

_getaddrinfo = socket.getaddrinfo
_NUMERIC = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV


def _elsewhere(original: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(original)
    def call(*args: Any, **kwargs: Any) -> Any:
        if not parks():
            return original(*args, **kwargs)
        return in_thread(functools.partial(original, *args, **kwargs))

    return call


@functools.wraps(_getaddrinfo)
def getaddrinfo(
    host: Any, port: Any, family: int = 0, type: int = 0, proto: int = 0, flags: int = 0
) -> Any:
    if not parks():
        return _getaddrinfo(host, port, family, type, proto, flags)
    try:  # asks nobody
        return _getaddrinfo(host, port, family, type, proto, flags | _NUMERIC)
    except socket.gaierror:
        return await_(
            own_loop().getaddrinfo(host, port, family=family, type=type, proto=proto, flags=flags)
        )


def patch(patches: Patches) -> None:
    patches.replace(socket, "getaddrinfo", getaddrinfo)
    for name in ("gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo"):
        patches.replace(socket, name, _elsewhere(getattr(socket, name)))
