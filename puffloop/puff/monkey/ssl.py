"""ssl.SSLSocket over patched sockets: its reads, writes and handshakes park the greenlet.

OpenSSL reads and writes the socket itself, in C, and blocks there by the socket's timeout. With a
timeout of 0 it says what it waits for instead (SSLWantReadError, SSLWantWriteError).
"""

from __future__ import annotations

import functools
import ssl
from collections.abc import Callable
from typing import Any

from puff.monkey._patches import Patches
from puff.monkey._wait import READABLE, WRITABLE, Deadline, wait
from puff.monkey.socket import attempt, cooperates

__all__ = ["patch"]


def _until_done(
    sock: ssl.SSLSocket, doing: str, method: Callable[..., Any], *args: Any, **kwargs: Any
) -> Any:
    deadline = Deadline(sock.gettimeout())
    while True:
        try:
            return attempt(sock, method, *args, **kwargs)
        except ssl.SSLWantReadError:
            events = READABLE
        except (ssl.SSLWantWriteError, BlockingIOError):  # the latter: send() before a handshake
            events = WRITABLE
        if not wait(sock.fileno(), events, deadline.left()):
            raise TimeoutError(f"{doing} timed out")


def _cooperative(name: str, doing: str) -> Callable[..., Any]:
    method = getattr(ssl.SSLSocket, name)

    @functools.wraps(method)
    def call(self: ssl.SSLSocket, *args: Any, **kwargs: Any) -> Any:
        if self.fileno() < 0 or not cooperates(self):  # the original says what is wrong
            return method(self, *args, **kwargs)
        return _until_done(self, doing, method, *args, **kwargs)

    return call


_original_handshake = ssl.SSLSocket.do_handshake


@functools.wraps(_original_handshake)
def _do_handshake(self: ssl.SSLSocket, block: bool = False) -> None:
    if not cooperates(self):
        return _original_handshake(self, block)
    _until_done(self, "_ssl.c: The handshake operation", _original_handshake)
    return None


def patch(patches: Patches) -> None:
    patches.replace(ssl.SSLSocket, "read", _cooperative("read", "The read operation"))
    patches.replace(ssl.SSLSocket, "write", _cooperative("write", "The write operation"))
    patches.replace(ssl.SSLSocket, "send", _cooperative("send", "The write operation"))
    patches.replace(ssl.SSLSocket, "unwrap", _cooperative("unwrap", "The shutdown operation"))
    patches.replace(ssl.SSLSocket, "do_handshake", _do_handshake)
