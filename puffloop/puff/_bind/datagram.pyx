"""Datagram transports on the core's sockets.

`Datagram` is the native half and `DatagramTransport` what users see (endpoint.pyx says how they
belong together).

The semantics are those of the interpreter's own _SelectorDatagramTransport, name by name; flow
control is inherited from it. What differs: several datagrams may come in one turn, and sending on
a transport whose connection is lost is dropped (with asyncio's warning) also where asyncio's own
raises an AttributeError.
"""

import logging
import socket
from asyncio import constants, selector_events, transports

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)

from puff._bind.core cimport (
    PUFF_ENOMEM,
    puff_datagram,
    puff_udp_cbs,
    puff_udp_close,
    puff_udp_data,
    puff_udp_drop,
    puff_udp_n_queued,
    puff_udp_open,
    puff_udp_queue,
    puff_udp_queued,
    puff_udp_recv_start,
    puff_udp_recv_stop,
    puff_udp_send,
    sockaddr,
)
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase
from puff._bind.slot cimport puff_slot, puff_slot_find, puff_slot_of

from puff._bind.endpoint import EndpointTransport


cdef extern from *:
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1

cdef extern from "address.h":
    ctypedef struct puff_address:
        sockaddr sa
        unsigned len
    object puff_address_object(const sockaddr *sa, unsigned len)
    bint puff_address_of(object o, int family, const puff_address **out)

cdef extern from "compat.h":
    enum:
        PUFF_DATAGRAM_HEADER


cdef object _logger = logging.getLogger("asyncio")
cdef object _asyncios_own = selector_events.BaseSelectorEventLoop._make_datagram_transport
cdef int _LOST_SENDS = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
# Whose addresses address.c knows; others (netlink, CAN ...) get asyncio's own transport.
cdef int _AF_UNIX = socket.AF_UNIX
cdef tuple _families = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)
cdef puff_udp_cbs _cbs


# ---- what the core calls -------------------------------------------------------------------------

cdef size_t _on_recv(puff_udp *u, const puff_datagram *d, size_t n) noexcept:
    cdef Datagram s = <Datagram>puff_udp_data(u)
    cdef size_t i = 0
    try:
        PyContext_Enter(s.context)
        try:
            while i < n and not s.closing:
                if s.paused or s.loop.fatal is not None:
                    return i  # the rest comes when reading goes on, or the loop runs again
                i += 1
                _received(s, &d[i - 1])
        finally:
            PyContext_Exit(s.context)
    except BaseException as exc:
        s.loop.interrupt(exc)
    return n


cdef int _received(Datagram s, const puff_datagram *d) except -1:
    try:
        s.protocol.datagram_received(
            PyBytes_FromStringAndSize(d.data, d.len), puff_address_object(d.sender, d.sender_len)
        )
    except BaseException as exc:
        _callback_failed(s, exc, "datagram_received")
    return 0


cdef void _on_error(puff_udp *u, int status) noexcept:
    cdef Datagram s = <Datagram>puff_udp_data(u)
    try:
        PyContext_Enter(s.context)
        try:
            s.protocol.error_received(os_error(status))
        finally:
            PyContext_Exit(s.context)
    except BaseException as exc:
        _callback_failed(s, exc, "error_received")


cdef void _on_sent(puff_udp *u) noexcept:
    cdef Datagram s = <Datagram>puff_udp_data(u)
    try:
        s.sent()
    except BaseException as exc:
        s.loop.interrupt(exc)


cdef void _on_close(puff_udp *u) noexcept:
    cdef Datagram s = <Datagram>puff_udp_data(u)
    core, s.core = s.core, NULL
    s.core_closed(core is not NULL)


cdef void _callback_failed(Datagram s, exc, method) noexcept:
    """What asyncio does with an exception of a reader's callback: the transport stays."""
    try:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            s.loop.interrupt(exc)
            return
        s.report(f"Exception in callback {type(s.protocol).__name__}.{method}()", exc)
    except BaseException as again:
        s.loop.interrupt(again)


_cbs.on_recv = _on_recv
_cbs.on_error = _on_error
_cbs.on_sent = _on_sent
_cbs.on_close = _on_close


# ---- the socket ----------------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it until it is closed
cdef class Datagram:
    # ---- what Endpoint asks ----------------------------------------------------------------------

    cdef str kind(self):
        return "datagram"

    cdef int open_core(self) noexcept:
        return puff_udp_open(&self.core, self.loop.core, self.fd, &_cbs, <void *>self)

    cdef bint is_open(self) noexcept:
        return self.core is not NULL

    cdef int read_core(self) noexcept:
        return puff_udp_recv_start(self.core)

    cdef void stop_reading(self) noexcept:
        if self.core is not NULL:
            puff_udp_recv_stop(self.core)

    cdef size_t queued(self) noexcept:
        if self.core is NULL:
            return 0
        return puff_udp_queued(self.core) + PUFF_DATAGRAM_HEADER * puff_udp_n_queued(self.core)

    cdef int drop_queued(self) except -1:
        if self.core is not NULL:
            puff_udp_drop(self.core)
        return 0

    cdef void release_core(self) noexcept:
        core, self.core = self.core, NULL
        puff_udp_close(core)

    # ---- sending ---------------------------------------------------------------------------------

    cdef int sendto(self, object data, object addr) except -1:
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if not PUFF_DATAGRAM_HEADER and not data:
            return 0
        if self.address is not None:
            if addr is not None and addr != self.address:
                raise ValueError(f"Invalid address: must be None or {self.address}")
            addr = self.address
        if self.core is NULL or (self.conn_lost and self.address is not None):
            if self.conn_lost >= _LOST_SENDS:
                _logger.warning("socket.send() raised exception.")
            self.conn_lost += 1
            return 0
        if PyBytes_CheckExact(data):
            return self.send(data, addr)
        try:
            data = _snapshot(data)
        except BufferError as exc:
            return self.fatal_error(exc, "Fatal write error on datagram transport")
        return self.send(data, addr)

    cdef int send(self, object data, object addr) except -1:
        cdef const puff_address *to = NULL
        cdef int rc
        if self.connected:
            rc = puff_udp_send(self.core, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), NULL, 0)
        elif puff_address_of(addr, self.family, &to):
            rc = puff_udp_send(
                self.core, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &to.sa, to.len
            )
        else:
            return self.send_by_name(data, addr)
        if rc < 0:
            return self.send_failed(rc)
        if puff_udp_n_queued(self.core):
            self.transport._maybe_pause_protocol()
        return 0

    cdef int send_by_name(self, object data, object addr) except -1:
        """A host's name, or nonsense: the socket module looks it up, or says what is wrong."""
        try:
            if puff_udp_n_queued(self.core):
                self.queue_by_name(data, addr)
                return 0
            try:
                self.sock.sendto(data, addr)
            except BlockingIOError:
                self.queue_by_name(data, addr)
        except OSError as exc:
            self.protocol.error_received(exc)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Fatal write error on datagram transport")
        return 0

    cdef int queue_by_name(self, object data, object addr) except -1:
        cdef const puff_address *to = NULL
        cdef int rc
        if self.family == _AF_UNIX:
            addr = bytes(addr)
        else:
            addr = socket.getaddrinfo(*addr[:2], self.family, self.sock.type)[0][4] + addr[2:]
        if not puff_address_of(addr, self.family, &to):
            raise OSError(f"cannot send to {addr!r}")
        rc = puff_udp_queue(
            self.core, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data), &to.sa, to.len
        )
        if rc < 0:
            raise os_error(rc)
        self.transport._maybe_pause_protocol()
        return 0

    cdef int send_failed(self, int code) except -1:
        if code == PUFF_ENOMEM:
            raise MemoryError()
        self.protocol.error_received(os_error(code))
        return 0

    cdef int sent(self) except -1:
        """The queue is shorter."""
        self.transport._maybe_resume_protocol()  # may send again
        if self.closing and not self.conn_lost and puff_udp_n_queued(self.core) == 0:
            self.lose_soon(None)
        return 0


cdef object _snapshot(data):
    """The bytes of what its owner may change; they must lie in one piece, as send() has it."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


# ---- what users see ------------------------------------------------------------------------------

cdef puff_slot _slot


cdef inline Datagram _native(self):
    return <Datagram?><object>puff_slot_of(self, &_slot)


class DatagramTransport(EndpointTransport, transports.DatagramTransport):
    """A datagram transport of a puff loop. See asyncio.DatagramTransport."""

    __slots__ = ()

    def __init__(self, LoopBase loop, sock, protocol, address=None, waiter=None, extra=None):
        super().__init__(extra, loop)
        cdef Datagram s = Datagram.__new__(Datagram)
        self._native = s
        s.family = sock.family
        s.address = address or None
        s.protocol = protocol
        s.open(self, loop, sock)
        s.describe(self._extra)
        s.connected = bool(self._extra["peername"])
        s.begin(waiter)

    def sendto(self, data, addr=None):
        """Sends a datagram now, or when the kernel has room for it. Errors of the socket go to the
        protocol's error_received()."""
        _native(self).sendto(data, addr)

    @property
    def _address(self):
        return _native(self).address


class DatagramMethods:
    """puff.Loop's methods for datagrams."""

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None):
        self._ensure_fd_no_transport(sock)
        # What only behaves like a socket is used by its methods, as the other families are.
        if not issubclass(type(sock), socket.socket) or sock.family not in _families:
            return _asyncios_own(self, sock, protocol, address, waiter, extra)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)


puff_slot_find(DatagramTransport, "_native", &_slot)
