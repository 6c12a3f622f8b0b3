# cython: language_level=3
"""Sockets that Python code reads and writes itself.

    loop.sock_recv() and its kin     sock.c and sock_io.c: one attempt, then one wait
    sock_connect(), sock_sendfile()  here: coroutines of several steps over the same wait
    wait_socket()                    the wait alone, for tasks, greenlets and threads

All of them wait on the loop's ready set (puff/loop.h), where a socket stays registered.
"""

import _socket
import errno
import os
import socket
import sys
from asyncio import base_events, exceptions, selector_events, unix_events

cimport cython
from libc.limits cimport INT_MAX

from puff._bind.core cimport (
    PUFF_READABLE,
    PUFF_READY_ONCE,
    PUFF_READY_TRIED,
    PUFF_WRITABLE,
    puff_ready,
    puff_ready_cancel,
    puff_ready_init,
    puff_ready_supported,
    puff_ready_wait,
)
from puff._bind.endpoint cimport is_free
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase, puff_hold, puff_let_go
from puff._bind.waiter cimport Waiter, call


cdef extern from "sock.h":
    ctypedef struct puff_socket:
        int fd
        int family
        int type
        int proto
        long long timeout
    int puff_sock_init(object loop_base, object socket_type, object check_ssl,
                       object check_transport) except -1
    object puff_sock_wait(object loop, object sock, int events, int flags)
    void puff_sock_forget(object loop, int fd)
    bint puff_sock_can_accept(object sock)
    object puff_sock_accept(object listener)
    bint puff_sock_is_known(object loop, object sock, int fd)
    int puff_sock_remember(object loop, object sock, int fd) except -1

cdef object _check_ssl = base_events._check_ssl_socket
cdef object _check_transport = selector_events.BaseSelectorEventLoop._ensure_fd_no_transport
cdef tuple _resolved = (socket.AF_INET, socket.AF_INET6) if socket.has_ipv6 else (socket.AF_INET,)
cdef object _NotAvailable = exceptions.SendfileNotAvailableError
# From 3.14.1 on the file stands at the end of what was sent also when that was nothing.
cdef bint _always_seeks = (
    "total_sent" not in unix_events.SelectorEventLoop._sock_sendfile_update_filepos
    .__code__.co_varnames
)


cdef bint can_accept(object sock):
    return puff_sock_can_accept(sock)


cdef object accept_now(object sock):
    return puff_sock_accept(sock)


# ---- the loop's methods --------------------------------------------------------------------------

class SockMethods:
    """What puff.Loop has instead of asyncio's own, besides the methods of sock.c."""

    def _ensure_fd_no_transport(self, fd):
        """asyncio's check, which comes before somebody else watches the descriptor."""
        if not is_free(self, fd):
            _check_transport(self, fd)
        number = fd if isinstance(fd, int) else int(fd.fileno())
        if number <= INT_MAX:  # else no file has it
            puff_sock_forget(self, number)

    async def sock_connect(self, sock, address):
        """Connects a socket; a name is resolved with getaddrinfo()."""
        _check_ssl(sock)
        if self._debug and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
        if sock.family in _resolved:
            infos = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto, loop=self
            )
            address = infos[0][4]
        try:
            sock.connect(address)
            return
        except (BlockingIOError, InterruptedError):
            pass
        while True:
            await puff_sock_wait(self, sock, PUFF_WRITABLE, PUFF_READY_ONCE)
            try:
                return _check_connected(sock, address)
            except (BlockingIOError, InterruptedError):
                pass

    async def _sock_sendfile_native(self, sock, file, offset, count):
        """sendfile(2), or SendfileNotAvailableError before anything has been sent."""
        fileno, size = _regular_file(file)
        if not (count or size):
            return 0
        sent = 0
        waited = False
        try:
            while count is None or sent < count:
                rest = count - sent if count else size
                n = _send_part(sock, fileno, offset + sent, rest, sent, waited)
                if n == 0:
                    break
                sent += max(n, 0)
                # Also when there is room for more: others have their turn between two parts.
                await puff_sock_wait(self, sock, PUFF_WRITABLE, 0)
                waited = True
        finally:
            if sent > 0 or _always_seeks:
                os.lseek(fileno, offset + sent, os.SEEK_SET)
        return sent


def _check_connected(sock, address):
    code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if code != 0:
        raise OSError(code, f"Connect call failed {address}")


def _regular_file(file):
    """Its descriptor and size."""
    try:
        fileno = file.fileno()
        return fileno, os.fstat(fileno).st_size
    except (AttributeError, OSError):  # io.UnsupportedOperation is one
        raise _NotAvailable("not a regular file") from None


def _send_part(sock, fileno, offset, size, sent, waited):
    """One os.sendfile(): the bytes sent, 0 at the end of the file, -1 where it would block."""
    try:
        return os.sendfile(sock.fileno(), fileno, offset, min(size, sys.maxsize // 2 + 1))
    except (BlockingIOError, InterruptedError):
        return -1
    except OSError as exc:
        if sent == 0:  # most likely a file that cannot be mapped: asyncio then sends it by hand
            raise _NotAvailable("os.sendfile call failed") from None
        if waited and exc.errno == errno.ENOTCONN and type(exc) is not ConnectionError:
            raise ConnectionError("socket is not connected", errno.ENOTCONN) from exc
        raise


# ---- the wait alone ------------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it until it is ready
cdef class Ready(Waiter):
    def __cinit__(self):
        puff_ready_init(&self.ready, _on_ready)
        self.ready.data = <void *>self
        self.ready.shared = True

    cdef int start(self) except -1:
        cdef int flags = 0
        cdef int rc
        if self.sock is not None:
            self.fd = self.sock.fileno()
            if puff_sock_is_known(self.loop, self.sock, self.fd):
                flags = PUFF_READY_TRIED
        if self.loop.core is NULL:
            raise RuntimeError("Event loop is closed")
        rc = puff_ready_wait(self.loop.core, &self.ready, self.fd, self.events, flags)
        if rc < 0:
            raise os_error(rc)
        puff_hold(self.loop, &self.held, self)
        if self.sock is not None and not flags:
            puff_sock_remember(self.loop, self.sock, self.fd)
        return 0

    cdef void abandon(self) noexcept:
        puff_ready_cancel(&self.ready)
        puff_let_go(&self.held)


cdef void _on_ready(puff_ready *r) noexcept:
    cdef Ready ready = <Ready>r.data
    puff_let_go(&ready.held)
    ready.resolve(None)


cdef object wait_socket(object sock, int events):
    cdef Ready w = Ready.__new__(Ready)
    w.sock = sock
    w.events = events
    return call(w)


cdef object wait_fd(int fd, int events):
    cdef Ready w = Ready.__new__(Ready)
    w.fd = fd
    w.events = events
    return call(w)


cdef object _wait(object what, int events):
    return wait_fd(what, events) if isinstance(what, int) else wait_socket(what, events)


def wait_readable(what):
    """Waits until a socket or a descriptor can be read, in the caller's world."""
    return _wait(what, PUFF_READABLE)


def wait_writable(what):
    """Waits until a socket or a descriptor can be written, in the caller's world."""
    return _wait(what, PUFF_WRITABLE)


# ---- set-up --------------------------------------------------------------------------------------

cdef bint _begins_as_known(object sock, long long timeout):
    cdef puff_socket *s = <puff_socket *><void *>sock
    return (s.fd, s.family, s.type, s.proto, s.timeout) == (
        sock.fileno(), sock.family, sock.type, sock.proto, timeout
    )


cdef object _native_type():
    """socket.socket, when its objects begin as compat.h has it and its methods are CPython's."""
    if not issubclass(socket.socket, _socket.socket) or "recv" in vars(socket.socket):
        return None
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP) as sock:
            sock.settimeout(1.5)
            known = _begins_as_known(sock, 1_500_000_000)
            sock.setblocking(False)
            return socket.socket if known and _begins_as_known(sock, 0) else None
    except OSError:  # a sandbox without networks
        return None


if puff_ready_supported():
    puff_sock_init(LoopBase, _native_type(), _check_ssl, _check_transport)
else:
    SockMethods = type("SockMethods", (), {})
