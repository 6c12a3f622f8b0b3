"""socket.socket's methods park the greenlet that calls them.

They are replaced on the class itself: sockets that exist already, subclasses and `from socket
import socket` have them too. Each is one attempt without blocking, a wait for the descriptor, and
the next attempt; what an attempt does is CPython's business. The socket keeps its timeout: it is 0
during an attempt only, and nothing parks inside one. A socket whose timeout is 0 is the caller's
own affair, as ever.
"""

from __future__ import annotations

import _socket
import errno
import functools
import os
import socket
from _socket import MSG_DONTWAIT
from collections.abc import Callable
from typing import Any

import puff._bind.sock  # noqa: F401  it looks at socket.socket's own methods when first imported
from puff.monkey._patches import Patches
from puff.monkey._wait import READABLE, WRITABLE, Deadline, closing, parks, pause, wait

__all__ = ["attempt", "cooperates", "patch", "until_done"]

_Method = Callable[..., Any]
_raw = _socket.socket
_IN_PROGRESS = (errno.EINPROGRESS, errno.EALREADY, errno.EINTR)
_RETRY_CONNECT_S = 0.002  # a Unix socket's full backlog: nothing tells when there is room


def cooperates(sock: socket.socket) -> bool:
    """Whether a call that would block should park instead."""
    return parks() and sock.gettimeout() != 0


def attempt(sock: socket.socket, method: _Method, *args: Any, **kwargs: Any) -> Any:
    """One call that does not block, whatever the socket's timeout is."""
    timeout = sock.gettimeout()
    _raw.settimeout(sock, 0.0)
    try:
        return method(sock, *args, **kwargs)
    finally:
        if sock.fileno() >= 0:
            _raw.settimeout(sock, timeout)


def until_done(
    sock: socket.socket,
    events: int,
    deadline: Deadline,
    method: _Method,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Attempts and waits in turn. TimeoutError when the time is over."""
    while True:
        try:
            return attempt(sock, method, *args, **kwargs)
        except (BlockingIOError, InterruptedError):
            pass
        if not wait(sock.fileno(), events, deadline.left()):
            raise TimeoutError("timed out")


def _waits_for(events: int, name: str) -> _Method:
    method: _Method = getattr(_raw, name)

    @functools.wraps(method)
    def call(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if not cooperates(self):
            return method(self, *args, **kwargs)
        return until_done(self, events, Deadline(self.gettimeout()), method, *args, **kwargs)

    return call


def _flagged(events: int, name: str, n_before: int) -> _Method:
    """The same for calls with flags after so many arguments. Without a timeout those say what
    turning the socket to 0 and back says elsewhere, by two system calls."""
    method: _Method = getattr(_raw, name)
    waits = _waits_for(events, name)

    @functools.wraps(method)
    def call(self: socket.socket, *args: Any, **kwargs: Any) -> Any:
        if kwargs or not args or len(args) > n_before or not parks():
            return waits(self, *args, **kwargs)
        if self.gettimeout() is not None:
            return waits(self, *args)
        args += (0,) * (n_before - len(args))  # recv_into()'s nbytes
        while True:
            try:
                return method(self, *args, MSG_DONTWAIT)
            except (BlockingIOError, InterruptedError):
                pass
            wait(self.fileno(), events, None)

    return call


def _of_buffers(method: _Method) -> _Method:
    """Its first argument is gone through at each attempt, which a generator can be once."""

    @functools.wraps(method)
    def call(self: socket.socket, buffers: Any, *args: Any) -> Any:
        return method(self, list(buffers), *args)

    return call


# ---- sending -------------------------------------------------------------------------------------


def _sent_at_once(sock: socket.socket, data: bytes, flags: int) -> int:
    """How much leaves without a wait, and without turning a timeout that the socket has off."""
    if sock.gettimeout() is not None:
        return 0
    try:
        return _raw.send(sock, data, flags | MSG_DONTWAIT)
    except (BlockingIOError, InterruptedError):
        return 0


@functools.wraps(_raw.sendall)
def _sendall(self: socket.socket, data: Any, flags: int = 0, /) -> None:
    if not cooperates(self):
        return _raw.sendall(self, data, flags)
    deadline = Deadline(self.gettimeout())
    sent = _sent_at_once(self, data, flags) if type(data) is bytes and data else 0
    if sent and sent == len(data):
        return None
    with memoryview(data) as view, view.cast("B") as octets:
        while True:
            sent += until_done(self, WRITABLE, deadline, _raw.send, octets[sent:], flags)
            if sent >= len(octets):
                return None


_sendto_waits = _waits_for(WRITABLE, "sendto")


@functools.wraps(_raw.sendto)
def _sendto(self: socket.socket, data: Any, *args: Any) -> int:
    if args and cooperates(self):
        args = (*args[:-1], _resolved(self, args[-1]))
    n: int = _sendto_waits(self, data, *args)
    return n


_original_sendfile = socket.socket.sendfile


@functools.wraps(_original_sendfile)
def _sendfile(self: Any, file: Any, offset: int = 0, count: int | None = None) -> int:
    if cooperates(self):
        n: int = self._sendfile_use_send(file, offset, count)
        return n
    return _original_sendfile(self, file, offset, count)


# ---- connecting ----------------------------------------------------------------------------------


def _is_numeric(family: int, host: str) -> bool:
    try:
        socket.inet_pton(family, host)
    except OSError:
        return False
    return True


def _resolved(sock: socket.socket, address: Any) -> Any:
    """The address without a name in it: looking that up would block."""
    if sock.family not in (socket.AF_INET, socket.AF_INET6) or not isinstance(address, tuple):
        return address
    if len(address) < 2 or not isinstance(address[0], str) or not isinstance(address[1], int):
        return address  # wrong, or somebody else's: the call will say
    host = address[0]
    if not host or "%" in host or host == "<broadcast>" or _is_numeric(sock.family, host):
        return address
    found = socket.getaddrinfo(host, address[1], sock.family, sock.type, sock.proto)
    return (found[0][4][0], *address[1:])


def _connected(sock: socket.socket, address: Any, deadline: Deadline) -> int:
    """connect(2) to its end: 0, or the error's number. TimeoutError when the time is over."""
    code: int = attempt(sock, _raw.connect_ex, address)
    while code == errno.EAGAIN and sock.family == socket.AF_UNIX:
        if deadline.passed():
            raise TimeoutError("timed out")
        pause(_RETRY_CONNECT_S)
        code = attempt(sock, _raw.connect_ex, address)
    if code not in _IN_PROGRESS:
        return code
    if not wait(sock.fileno(), WRITABLE, deadline.left()):
        raise TimeoutError("timed out")
    return sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)


@functools.wraps(_raw.connect)
def _connect(self: socket.socket, address: Any, /) -> None:
    if not cooperates(self):
        return _raw.connect(self, address)
    deadline = Deadline(self.gettimeout())
    code = _connected(self, _resolved(self, address), deadline)
    if code:
        raise OSError(code, os.strerror(code))
    return None


@functools.wraps(_raw.connect_ex)
def _connect_ex(self: socket.socket, address: Any, /) -> int:
    if not cooperates(self):
        return _raw.connect_ex(self, address)
    try:
        return _connected(self, _resolved(self, address), Deadline(self.gettimeout()))
    except TimeoutError:
        return errno.EWOULDBLOCK


# ---- closing -------------------------------------------------------------------------------------

_original_close = socket.socket._real_close  # type: ignore[attr-defined]
_original_detach = socket.socket.detach


def _real_close(self: socket.socket, _ss: Any = _raw) -> None:
    if self.fileno() >= 0:
        closing(self.fileno())
    _original_close(self, _ss)


@functools.wraps(_original_detach)
def _detach(self: socket.socket) -> int:
    if self.fileno() >= 0:
        closing(self.fileno())
    return _original_detach(self)


_RECEIVING = ("recvfrom", "recvfrom_into", "recvmsg", "recvmsg_into")
_FLAGGED = (("recv", READABLE, 1), ("recv_into", READABLE, 2), ("send", WRITABLE, 1))
_OTHERS: dict[str, _Method] = {
    "_real_close": _real_close,
    "connect": _connect,
    "connect_ex": _connect_ex,
    "detach": _detach,
    "sendall": _sendall,
    "sendfile": _sendfile,
    "sendto": _sendto,
}


def patch(patches: Patches) -> None:
    for name in (*_RECEIVING, "_accept"):
        patches.replace(socket.socket, name, _waits_for(READABLE, name))
    patches.replace(socket.socket, "sendmsg", _waits_for(WRITABLE, "sendmsg"))
    for name, events, n_before in _FLAGGED:
        patches.replace(socket.socket, name, _flagged(events, name, n_before))
    for name in ("recvmsg_into", "sendmsg"):
        patches.replace(socket.socket, name, _of_buffers(getattr(socket.socket, name)))
    for name, method in _OTHERS.items():
        patches.replace(socket.socket, name, method)
