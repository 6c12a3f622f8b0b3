"""What stream and datagram transports have in common: one socket of the core's, one protocol.

Two objects make a transport. An `Endpoint` is native: it has the state and is what the core calls.
An `EndpointTransport` is what users see, of asyncio's own family, which a cdef class cannot be; it
reaches its Endpoint through a slot.

    protocol  <->  EndpointTransport --_native--> Endpoint --> puff_stream or puff_udp
                          ^---------transport--------'
The loop holds the Endpoint for the core until it is closed.

The order of events is asyncio's: connection_made, then data; connection_lost exactly once, from the
ready ring, and the descriptor is closed after it.
"""

import logging
import socket
import warnings
from asyncio import transports, trsock
from weakref import WeakValueDictionary

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.weakref cimport PyWeakref_NewRef

from puff._bind.core cimport PUFF_EARG
from puff._bind.errors cimport os_error
from puff._bind.loop cimport puff_hold, puff_let_go
from puff._bind.slot cimport puff_slot, puff_slot_find, puff_slot_of


cdef extern from *:
    object PyContext_CopyCurrent()

cdef extern from "address.h":
    object puff_address_local(int fd)

cdef extern from "endpoint.h":
    ctypedef struct puff_endpoint:
        PyObject *loop
        int leaked


cdef object _logger = logging.getLogger("asyncio")
cdef object _TransportSocket = trsock.TransportSocket


# ---- the native half -----------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it until it is closed
cdef class Endpoint:
    """One socket. Its methods follow asyncio's _SelectorTransport, name by name."""

    # ---- what each kind has of its own -----------------------------------------------------------

    cdef str kind(self):
        raise NotImplementedError

    cdef int open_core(self) noexcept:
        return PUFF_EARG

    cdef bint is_open(self) noexcept:
        return False

    cdef int read_core(self) noexcept:
        return PUFF_EARG

    cdef void stop_reading(self) noexcept:
        pass

    cdef size_t queued(self) noexcept:
        return 0

    cdef int drop_queued(self) except -1:
        return 0

    cdef int close_when_sent(self) except -1:
        return 0

    cdef void release_core(self) noexcept:
        pass

    cdef int ended(self) except -1:
        return 0

    # ---- its beginning ---------------------------------------------------------------------------

    cdef int open(self, transport, LoopBase loop, sock) except -1:
        """Hands the descriptor of sock to the core."""
        cdef int rc
        self.loop = loop
        self.sock = sock
        self.fd = sock.fileno()
        self.context = PyContext_CopyCurrent()
        rc = self.open_core()
        if rc < 0:
            sock.detach()  # the core has closed the descriptor
            raise os_error(rc)
        Py_INCREF(sock)  # given back in disown_sock()
        puff_hold(loop, &self.held, self)
        self.transport = transport
        _register(loop, self.fd, transport)
        return 0

    cdef int begin(self, waiter) except -1:
        """Schedules connection_made(), and what follows it."""
        self.loop.call_soon(self.protocol.connection_made, self.transport)
        self.loop.call_soon(_begin, self, waiter)
        return 0

    cdef int describe(self, dict extra) except -1:
        """asyncio's extra info. Asked early: a socket that its peer has reset has no name."""
        sock = self.sock
        extra["socket"] = _TransportSocket(sock)
        extra["sockname"] = _local_address(sock, self.fd)
        if "peername" not in extra:
            try:
                extra["peername"] = sock.getpeername()
            except OSError:
                extra["peername"] = None
        return 0

    # ---- reading ---------------------------------------------------------------------------------

    cdef int start_reading(self) except -1:
        cdef int rc
        if self.closing or self.paused or not self.is_open():
            return 0
        rc = self.read_core()
        if rc < 0:
            self.fatal_error(os_error(rc), f"Fatal read error on {self.kind()} transport")
        return 0

    # ---- its end ---------------------------------------------------------------------------------

    cdef int close(self) except -1:
        if self.closing:
            return 0
        self.closing = True
        self.stop_reading()
        return self.lose_soon(None) if self.queued() == 0 else self.close_when_sent()

    cdef int force_close(self, exc) except -1:
        if self.conn_lost:
            return 0
        self.closing = True
        self.stop_reading()
        self.drop_queued()
        return self.lose_soon(exc)

    cdef int lose_soon(self, exc) except -1:
        self.conn_lost += 1
        self.loop.call_soon(_lose, self, exc)
        return 0

    cdef int lose(self, exc) except -1:
        """Tells the protocol, once, and lets the descriptor go."""
        try:
            self.protocol.connection_lost(exc)
        finally:
            self.ended()
            self.close_core()
            self.protocol = None
            self.transport = None
        return 0

    cdef int close_core(self) except -1:
        if self.is_open():
            self.release_core()
            self.disown_sock()
        self.sock = None
        return 0

    cdef void core_closed(self, bint leaked) noexcept:
        """After the core's last call. leaked: the loop ends, not the transport."""
        if leaked:
            self.leaked = True
            self.closing = True  # from here on all calls are silent, as on a lost connection
            self.conn_lost = 1
            self.disown_sock()
            self.transport = None
        puff_let_go(&self.held)

    cdef void disown_sock(self) noexcept:
        """The core has closed the descriptor: its number may soon be another's. Until here the
        socket has one more reference than the garbage collector can explain, so that it does not
        close what is the core's."""
        sock = self.sock
        try:
            sock.detach()
        except BaseException as exc:  # a subclass
            self.loop.interrupt(exc)
        Py_DECREF(sock)

    # ---- errors ----------------------------------------------------------------------------------

    cdef int fatal_error(self, exc, message) except -1:
        if not isinstance(exc, OSError):
            self.report(message, exc)
        elif self.loop.d.debug:
            _logger.debug("%r: %s", self.transport, message, exc_info=exc)
        return self.force_close(exc)

    cdef int report(self, message, exc) except -1:
        """To the loop's exception handler."""
        self.loop.call_exception_handler({
            "message": message, "exception": exc,
            "transport": self.transport, "protocol": self.protocol,
        })
        return 0


cdef _local_address(sock, int fd):
    if type(sock) is socket.socket:
        try:
            return puff_address_local(fd)  # connections of one server have one, made once
        except OSError:  # of a rare family
            pass
    try:
        return sock.getsockname()
    except OSError:
        return None


cdef int _register(LoopBase loop, int fd, transport) except -1:
    """For _ensure_fd_no_transport(). A weak reference that is dead means none: a KeyedRef, which
    leaves the dictionary, would cost ten times as much."""
    by_fd = loop._transports
    if type(by_fd) is WeakValueDictionary:
        by_fd.data[fd] = PyWeakref_NewRef(transport, None)
    else:
        by_fd[fd] = transport
    return 0


cdef bint is_free(loop, fd):
    by_fd = loop._transports
    if type(by_fd) is not WeakValueDictionary:
        return False
    if type(fd) is socket.socket:
        fd = fd.fileno()
    if type(fd) is not int or fd < 0:
        return False
    ref = by_fd.data.get(fd)
    return ref is None or ref() is None


def _lose(Endpoint e, exc):
    e.lose(exc)


def _begin(Endpoint e, waiter):
    """After connection_made(): data may come, and whoever waits for the transport goes on."""
    e.start_reading()
    if waiter is not None and not waiter.cancelled():
        waiter.set_result(None)


# ---- what users see ------------------------------------------------------------------------------

cdef puff_slot _slot


cdef inline Endpoint _native(self):
    return <Endpoint?><object>puff_slot_of(self, &_slot)


class EndpointTransport(transports._FlowControlMixin):
    """The methods that all of our transports on a socket have. See asyncio.Transport."""

    __slots__ = ("_native", "__dict__", "__weakref__")

    def __del__(self):
        cdef Endpoint e = getattr(self, "_native", None)
        if e is not None and (e.leaked or e.is_open()):
            warnings.warn(f"unclosed transport {self!r}", ResourceWarning, source=self)

    def __repr__(self):
        cdef Endpoint e = _native(self)
        info = [type(self).__name__]
        if not e.is_open():
            info.append("closed")
        elif e.closing:
            info.append("closing")
        info.append(f"fd={e.fd}")
        if e.is_open():
            info.append("read=idle" if e.closing or e.paused else "read=polling")
            state = "polling" if e.queued() else "idle"
            info.append(f"write=<{state}, bufsize={e.queued()}>")
        return f"<{' '.join(info)}>"

    def is_closing(self):
        """True once close() or abort() has been called, or the connection is lost."""
        return _native(self).closing

    def close(self):
        """Stops reading, sends what is queued, then calls connection_lost(None)."""
        _native(self).close()

    def abort(self):
        """Throws away what is queued and closes."""
        _native(self).force_close(None)

    def set_protocol(self, protocol):
        """From now on protocol is told of data and of the end."""
        _native(self).protocol = protocol

    def get_protocol(self):
        """The protocol; None once the transport is closed."""
        return _native(self).protocol

    # ---- reading ---------------------------------------------------------------------------------

    def is_reading(self):
        """True unless it is paused or closing."""
        cdef Endpoint e = _native(self)
        return not e.closing and not e.paused

    def pause_reading(self):
        """No data comes until resume_reading()."""
        cdef Endpoint e = _native(self)
        if e.closing or e.paused:
            return
        e.paused = True
        e.stop_reading()
        if e.loop.d.debug:
            _logger.debug("%r pauses reading", self)

    def resume_reading(self):
        """Data may come again."""
        cdef Endpoint e = _native(self)
        if e.closing or not e.paused:
            return
        e.paused = False
        e.start_reading()
        if e.loop.d.debug:
            _logger.debug("%r resumes reading", self)

    # ---- writing ---------------------------------------------------------------------------------

    def get_write_buffer_size(self):
        """Bytes that the kernel has not taken yet (of datagrams from 3.13 on 8 more for each)."""
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
    def _closing(self):
        return _native(self).closing

    @property
    def _conn_lost(self):
        return _native(self).conn_lost

    @property
    def _paused(self):
        return _native(self).paused


cdef _check_layout():
    cdef Endpoint e = Endpoint.__new__(Endpoint)
    cdef puff_endpoint *seen = <puff_endpoint *>e
    if seen.loop != <PyObject *>e.loop or &seen.leaked != <int *>&e.leaked:
        raise SystemError("endpoint.h and endpoint.pxd disagree about Endpoint")


_check_layout()
puff_slot_find(EndpointTransport, "_native", &_slot)
