"""Datagram transports on the core's sockets.

As with streams (transport.pyx) two objects make an endpoint: `Datagram` is native, has the state
and is what the core calls; `DatagramTransport` is the asyncio.DatagramTransport that users see.

    protocol  <->  DatagramTransport --_native--> Datagram --core--> puff_udp
                       ^-----------transport----------'
The loop holds the Datagram for the core until on_close.

The semantics are those of the interpreter's own _SelectorDatagramTransport, name by name; flow
control is inherited from it. What differs: several datagrams may come in one turn, and sending on
a transport whose connection is lost is dropped (with asyncio's warning) also where asyncio's own
raises an AttributeError.
"""

import logging
import socket
import warnings
from asyncio import constants, selector_events, transports, trsock

cimport cython
from cpython.buffer cimport PyBUF_SIMPLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject, PyObject_TypeCheck, PyTypeObject
from cpython.ref cimport Py_DECREF, Py_INCREF

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
from puff._bind.loop cimport puff_hold, puff_let_go


cdef extern from *:
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1
    object PyContext_CopyCurrent()

cdef extern from "address.h":
    ctypedef struct puff_address:
        sockaddr sa
        unsigned len
    object puff_address_object(const sockaddr *sa, unsigned len)
    bint puff_address_of(object o, int family, const puff_address **out)

cdef extern from "compat.h":
    enum:
        PUFF_DATAGRAM_HEADER

cdef extern from "transport.h":
    int puff_slot_offset(object member, Py_ssize_t *out) except -1
    PyObject *puff_slot_at(object self, Py_ssize_t offset)


cdef object _logger = logging.getLogger("asyncio")
cdef object _TransportSocket = trsock.TransportSocket
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
    if s.core is not NULL:  # the loop ends, not the transport
        s.core = NULL
        s.leaked = True
        s.disown_sock()
        s.transport = None
    puff_let_go(&s.held)


cdef void _callback_failed(Datagram s, exc, method) noexcept:
    """What asyncio does with an exception of a reader's callback: the transport stays."""
    try:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            s.loop.interrupt(exc)
            return
        s.loop.call_exception_handler({
            "message": f"Exception in callback {type(s.protocol).__name__}.{method}()",
            "exception": exc, "transport": s.transport, "protocol": s.protocol,
        })
    except BaseException as again:
        s.loop.interrupt(again)


_cbs.on_recv = _on_recv
_cbs.on_error = _on_error
_cbs.on_sent = _on_sent
_cbs.on_close = _on_close


# ---- the socket ----------------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it until it is closed
cdef class Datagram:
    cdef int open(self) except -1:
        cdef int rc = puff_udp_open(&self.core, self.loop.core, self.fd, &_cbs, <void *>self)
        if rc < 0:
            self.core = NULL
            self.sock.detach()  # the core has closed the descriptor
            raise os_error(rc)
        Py_INCREF(self.sock)  # given back in disown_sock()
        puff_hold(self.loop, &self.held, self)
        return 0

    cdef void disown_sock(self) noexcept:
        """As Stream's: the descriptor is closed, and not the socket's to close."""
        sock = self.sock
        try:
            sock.detach()
        except BaseException as exc:  # a subclass
            self.loop.interrupt(exc)
        Py_DECREF(sock)

    cdef size_t queued(self) noexcept:
        """asyncio's measure of what waits."""
        if self.core is NULL:
            return 0
        return puff_udp_queued(self.core) + PUFF_DATAGRAM_HEADER * puff_udp_n_queued(self.core)

    # ---- reading ---------------------------------------------------------------------------------

    cdef int start_reading(self) except -1:
        cdef int rc
        if self.closing or self.paused or self.core is NULL:
            return 0
        rc = puff_udp_recv_start(self.core)
        if rc < 0:
            self.fatal_error(os_error(rc), "Fatal read error on datagram transport")
        return 0

    cdef int stop_reading(self) except -1:
        if self.core is not NULL:
            puff_udp_recv_stop(self.core)
        return 0

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
            self.conn_lost = 1
            self.loop.call_soon(_lose, self, None)
        return 0

    # ---- closing ---------------------------------------------------------------------------------

    cdef int close(self) except -1:
        if self.closing:
            return 0
        self.closing = True
        self.stop_reading()
        if self.queued() == 0:
            self.conn_lost += 1
            self.loop.call_soon(_lose, self, None)
        return 0  # else sent() goes on

    cdef int force_close(self, object exc) except -1:
        if self.conn_lost:
            return 0
        self.closing = True
        self.conn_lost += 1
        self.stop_reading()
        if self.core is not NULL:
            puff_udp_drop(self.core)
        self.loop.call_soon(_lose, self, exc)
        return 0

    cdef int fatal_error(self, object exc, object message) except -1:
        if isinstance(exc, OSError):
            if self.loop.d.debug:
                _logger.debug("%r: %s", self.transport, message, exc_info=exc)
        else:
            self.loop.call_exception_handler({
                "message": message, "exception": exc,
                "transport": self.transport, "protocol": self.protocol,
            })
        return self.force_close(exc)

    cdef int lose(self, object exc) except -1:
        """Tells the protocol, once, and lets the descriptor go."""
        try:
            if self.protocol is not None:
                self.protocol.connection_lost(exc)
        finally:
            self.close_core()
            self.protocol = None
            self.transport = None
        return 0

    cdef int close_core(self) except -1:
        core, self.core = self.core, NULL
        if core is not NULL:
            puff_udp_close(core)
            self.disown_sock()
        self.sock = None
        return 0


def _lose(Datagram s, exc):
    s.lose(exc)


def _begin(Datagram s, waiter):
    """After connection_made(): datagrams may come, and whoever waits for the endpoint goes on."""
    s.start_reading()
    if waiter is not None and not waiter.cancelled():
        waiter.set_result(None)


cdef object _snapshot(data):
    """The bytes of what its owner may change; they must lie in one piece, as send() has it."""
    cdef Py_buffer view
    PyObject_GetBuffer(data, &view, PyBUF_SIMPLE)
    try:
        return PyBytes_FromStringAndSize(<char *>view.buf, view.len)
    finally:
        PyBuffer_Release(&view)


# ---- what users see ------------------------------------------------------------------------------

cdef Py_ssize_t _native_offset
cdef PyTypeObject *_transport_type


cdef inline Datagram _native(object self):
    """The Datagram of a transport; its methods check `self` as a slot descriptor would."""
    if not PyObject_TypeCheck(self, _transport_type):
        raise TypeError(f"a puff DatagramTransport was expected, not {type(self).__name__!r}")
    cdef PyObject *native = puff_slot_at(self, _native_offset)
    if native is NULL:
        raise RuntimeError("this DatagramTransport has not been initialised")
    return <Datagram>native


class DatagramTransport(transports._FlowControlMixin, transports.DatagramTransport):
    """A datagram transport of a puff loop. See asyncio.DatagramTransport."""

    __slots__ = ("_native", "__dict__", "__weakref__")

    def __init__(self, LoopBase loop, sock, protocol, address=None, waiter=None, extra=None):
        super().__init__(extra, loop)
        cdef Datagram s = Datagram.__new__(Datagram)
        self._native = s
        s.loop = loop
        s.sock = sock
        s.fd = sock.fileno()
        s.family = sock.family
        s.address = address or None
        s.context = PyContext_CopyCurrent()
        s.protocol = protocol
        _describe(self._extra, sock)
        s.connected = bool(self._extra["peername"])
        s.open()
        s.transport = self
        loop._transports[s.fd] = self
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(_begin, s, waiter)

    def __del__(self):
        cdef Datagram s = getattr(self, "_native", None)
        if s is not None and (s.leaked or s.core is not NULL):
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        cdef Datagram s = _native(self)
        info = [type(self).__name__]
        if s.core is NULL:
            info.append("closed")
        elif s.closing:
            info.append("closing")
        info.append(f"fd={s.fd}")
        if s.core is not NULL:
            info.append("read=idle" if s.closing or s.paused else "read=polling")
            state = "polling" if puff_udp_n_queued(s.core) else "idle"
            info.append(f"write=<{state}, bufsize={s.queued()}>")
        return f"<{' '.join(info)}>"

    # ---- BaseTransport ---------------------------------------------------------------------------

    def is_closing(self):
        """True once close() or abort() has been called."""
        return _native(self).closing

    def close(self):
        """Stops receiving, sends what is queued, then calls connection_lost(None)."""
        _native(self).close()

    def abort(self):
        """Throws away what is queued and closes."""
        _native(self).force_close(None)

    def set_protocol(self, protocol):
        """From now on protocol is told of datagrams and of the end."""
        _native(self).protocol = protocol

    def get_protocol(self):
        """The protocol; None once the transport is closed."""
        return _native(self).protocol

    # ---- receiving: asyncio's has these from 3.12 on ---------------------------------------------

    def is_reading(self):
        """True unless it is paused or closing."""
        cdef Datagram s = _native(self)
        return not s.closing and not s.paused

    def pause_reading(self):
        """No datagram comes until resume_reading(); the kernel keeps, and drops, what arrives."""
        cdef Datagram s = _native(self)
        if s.closing or s.paused:
            return
        s.paused = True
        s.stop_reading()
        if s.loop.d.debug:
            _logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Datagrams may come again."""
        cdef Datagram s = _native(self)
        if s.closing or not s.paused:
            return
        s.paused = False
        s.start_reading()
        if s.loop.d.debug:
            _logger.debug("%r resumes reading", self)

    # ---- sending ---------------------------------------------------------------------------------

    def sendto(self, data, addr=None):
        """Sends a datagram now, or when the kernel has room for it. Errors of the socket go to the
        protocol's error_received()."""
        _native(self).sendto(data, addr)

    def get_write_buffer_size(self):
        """Bytes that the kernel has not taken yet (from 3.13 on with 8 for each datagram)."""
        return _native(self).queued()

    # ---- what asyncio's own code reads -----------------------------------------------------------

    def _fatal_error(self, exc, message="Fatal error on transport"):
        _native(self).fatal_error(exc, message)

    def _force_close(self, exc):
        _native(self).force_close(exc)

    @property
    def _sock(self):
        return _native(self).sock

    @property
    def _sock_fd(self):
        return _native(self).fd

    @property
    def _protocol(self):
        return _native(self).protocol

    @property
    def _address(self):
        return _native(self).address

    @property
    def _closing(self):
        return _native(self).closing

    @property
    def _conn_lost(self):
        return _native(self).conn_lost


cdef int _describe(dict extra, sock) except -1:
    """asyncio's extra info."""
    extra["socket"] = _TransportSocket(sock)
    try:
        extra["sockname"] = sock.getsockname()
    except OSError:
        extra["sockname"] = None
    if "peername" not in extra:
        try:
            extra["peername"] = sock.getpeername()
        except OSError:
            extra["peername"] = None
    return 0


class DatagramMethods:
    """puff.Loop's methods for datagrams."""

    def _make_datagram_transport(self, sock, protocol, address=None, waiter=None, extra=None):
        self._ensure_fd_no_transport(sock)
        # What only behaves like a socket is used by its methods, as the other families are.
        if not issubclass(type(sock), socket.socket) or sock.family not in _families:
            return _asyncios_own(self, sock, protocol, address, waiter, extra)
        return DatagramTransport(self, sock, protocol, address, waiter, extra)


puff_slot_offset(DatagramTransport._native, &_native_offset)
_transport_type = <PyTypeObject *>DatagramTransport
