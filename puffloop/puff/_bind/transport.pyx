"""Stream transports on the core's streams.

`Stream` is the native half and `Transport` what users see (endpoint.pyx says how they belong
together). What runs for each read and each write is C: stream_io.c. Protocols are called in the
core's callbacks, each in the contextvars context of whoever made the transport.
"""

import _socket
import asyncio
import logging
import socket
from asyncio import base_events, constants, transports

cimport cython
from cpython.bytes cimport PyBytes_CheckExact
from cpython.ref cimport Py_XDECREF

from puff._bind.core cimport (
    puff_stream_abort,
    puff_stream_cbs,
    puff_stream_data,
    puff_stream_flush,
    puff_stream_open,
    puff_stream_queued,
    puff_stream_read_start,
    puff_stream_read_stop,
    puff_stream_set_water,
    puff_stream_shutdown,
)
from puff._bind.errors cimport os_error
from puff._bind.loop cimport LoopBase
from puff._bind.slot cimport puff_slot, puff_slot_find, puff_slot_of
from puff._bind.streams cimport adopt

from puff._bind.endpoint import EndpointTransport


cdef extern from "stdint.h":
    size_t SIZE_MAX

cdef extern from "uv.h":
    enum:
        UV_EOF

cdef extern from "compat.h":
    object puff_take_exception()

cdef extern from "stream_io.h":
    ctypedef struct puff_stream_object:
        size_t low
        int eof_written
        PyObject *empty_waiter
    ctypedef struct puff_stream_rare:
        void (*failed)(PyObject *stream, const char *message) noexcept
        void (*ended)(PyObject *stream, ssize_t status) noexcept
        int (*write)(PyObject *stream, PyObject *data) except -1
        int (*over_high)(PyObject *stream) except -1
        int (*filter)(PyObject *stream, const char *data, ssize_t n) except -1
    enum:
        PUFF_SINK_PROTOCOL
        PUFF_SINK_BUFFERED
        PUFF_SINK_FILTER
    void puff_stream_on_alloc(puff_stream *st, char **buf, size_t *cap) noexcept
    void puff_stream_on_read(puff_stream *st, char *buf, ssize_t n) noexcept
    int puff_stream_queue(puff_stream_object *s, object bytes) except -1
    int puff_stream_io_init(
        object transport_class, object stream_class, const puff_stream_rare *rare
    ) except -1


cdef object _logger = logging.getLogger("asyncio")
cdef object _BufferedProtocol = asyncio.BufferedProtocol
cdef int _LOST_WRITES = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
# 3.13's Server keeps its transports, before it only counts them.
cdef bint _server_takes_transport = base_events.Server._attach.__code__.co_argcount > 1
cdef puff_stream_cbs _cbs
cdef puff_stream_rare _rare


# ---- what the core calls -------------------------------------------------------------------------

cdef void _on_failed(PyObject *stream, const char *message) noexcept:
    _failed(<Stream>stream, puff_take_exception(), message.decode())


cdef void _on_ended(PyObject *stream, ssize_t status) noexcept:
    cdef Stream s = <Stream>stream
    if status != UV_EOF:
        _failed(s, os_error(status), "Fatal read error on socket transport")
        return
    try:
        s.context.run(_feed_eof, s)
    except BaseException as exc:
        _failed(s, exc, "Fatal error: protocol.eof_received() call failed.")


def _feed_eof(Stream s):
    if s.loop.d.debug:
        _logger.debug("%r received EOF", s.transport)
    if not s.protocol.eof_received():
        s.close()


cdef int _on_write(PyObject *stream, PyObject *data) except -1:
    return (<Stream>stream).write(<object>data)


cdef int _on_over_high(PyObject *stream) except -1:
    return (<Stream>stream).after_write()


cdef int _on_filter(PyObject *stream, const char *data, ssize_t n) except -1:
    cdef Filter f = (<Stream>stream).filter  # held: the protocol may be replaced meanwhile
    return f.received(data, n)


cdef void _on_drain(puff_stream *st) noexcept:
    cdef Stream s = <Stream>puff_stream_data(st)
    try:
        s.drained()
    except BaseException as exc:
        s.loop.interrupt(exc)


cdef void _on_write_error(puff_stream *st, int status) noexcept:
    cdef Stream s = <Stream>puff_stream_data(st)
    exc = os_error(status)
    _failed(s, exc, "Fatal write error on socket transport")
    if s.empty_waiter is not None and not s.empty_waiter.done():
        s.empty_waiter.set_exception(exc)


cdef void _on_close(puff_stream *st) noexcept:
    cdef Stream s = <Stream>puff_stream_data(st)
    Py_XDECREF(s.chunk)
    s.chunk = NULL
    core, s.core = s.core, NULL
    s.core_closed(core is not NULL)


cdef void _failed(Stream s, exc, str message) noexcept:
    """An exception of a protocol, or of the socket, as asyncio's transports treat it."""
    try:
        if isinstance(exc, (SystemExit, KeyboardInterrupt)):
            s.loop.interrupt(exc)
            s.stop_reading()  # the run ends here, so nothing more is read before the next one
            s.loop.call_soon(_go_on, s)
        else:
            s.fatal_error(exc, message)
    except BaseException as again:
        s.loop.interrupt(again)


_cbs.on_alloc = puff_stream_on_alloc
_cbs.on_read = puff_stream_on_read
_cbs.on_drain = _on_drain
_cbs.on_write_error = _on_write_error
_cbs.on_close = _on_close
_rare.failed = _on_failed
_rare.ended = _on_ended
_rare.write = _on_write
_rare.over_high = _on_over_high
_rare.filter = _on_filter


cdef class Filter:
    cdef int received(self, const char *data, Py_ssize_t n) except -1:
        raise NotImplementedError


# ---- the stream ----------------------------------------------------------------------------------

@cython.no_gc_clear  # the core calls it until it is closed
cdef class Stream:
    """One connection. Its methods follow asyncio's _SelectorSocketTransport, name by name."""

    def __cinit__(self):
        self.low = 16384
        self.high = 65536

    # ---- what Endpoint asks ----------------------------------------------------------------------

    cdef str kind(self):
        return "socket"

    cdef int open_core(self) noexcept:
        return puff_stream_open(&self.core, self.loop.core, self.fd, &_cbs, <void *>self)

    cdef bint is_open(self) noexcept:
        return self.core is not NULL

    cdef int read_core(self) noexcept:
        return puff_stream_read_start(self.core)

    cdef void stop_reading(self) noexcept:
        if self.core is not NULL:
            puff_stream_read_stop(self.core)

    cdef size_t queued(self) noexcept:
        return 0 if self.core is NULL else puff_stream_queued(self.core)

    cdef int drop_queued(self) except -1:
        if self.queued() > 0:
            self.close_core()  # what is queued must not leave any more
        return 0

    cdef int close_when_sent(self) except -1:
        puff_stream_flush(self.core)  # asyncio has sent it in write(): what comes now is too late
        if self.conn_lost:
            return 0
        return self.lose_soon(None) if self.queued() == 0 else self.set_water()  # or drained()

    cdef void release_core(self) noexcept:
        core, self.core = self.core, NULL
        puff_stream_abort(core, False)

    cdef int ended(self) except -1:
        if self.empty_waiter is not None and not self.empty_waiter.done():
            self.empty_waiter.set_exception(ConnectionError("Connection is closed by peer"))
        self.filter = None
        return self.leave_server(self.transport)

    cdef int leave_server(self, transport) except -1:
        server, self.server = self.server, None
        if server is None:
            return 0
        if _server_takes_transport:
            server._detach(transport)
        else:
            server._detach()
        return 0

    # ---- writing ---------------------------------------------------------------------------------

    cdef int write(self, object data) except -1:
        if not PyBytes_CheckExact(data) and not isinstance(data, (bytes, bytearray, memoryview)):
            raise TypeError(
                f"data argument must be a bytes-like object, not {type(data).__name__!r}"
            )
        if self.loop.d.debug:
            self.loop._check_thread()
        if self.eof_written:
            raise RuntimeError("Cannot call write() after write_eof()")
        if self.empty_waiter is not None:
            raise RuntimeError("unable to write; sendfile is in progress")
        if not data:
            return 0
        if self.conn_lost:
            if self.conn_lost >= _LOST_WRITES:
                _logger.warning("socket.send() raised exception.")
            self.conn_lost += 1
            return 0
        self.queue(data)
        return self.after_write()

    cdef int queue(self, object data) except -1:
        """Hands bytes to the core; what may still be changed by its owner is copied."""
        if not PyBytes_CheckExact(data):
            data = bytes(data)
        return puff_stream_queue(<puff_stream_object *>self, data)

    cdef int after_write(self) except -1:
        # asyncio has sent by now what the kernel takes: only what it does not take counts.
        if self.core is NULL:
            return 0
        if puff_stream_queued(self.core) > self.high or not self.loop.d.running:
            puff_stream_flush(self.core)
            if self.queued() > self.high:
                self.pause_protocol()
        return 0

    cdef int pause_protocol(self) except -1:
        if self.protocol_paused:
            return 0
        self.protocol_paused = True
        self.set_water()
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("protocol.pause_writing() failed", exc)
        return 0

    cdef int resume_protocol(self) except -1:
        self.protocol_paused = False
        try:
            self.protocol.resume_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self.report("protocol.resume_writing() failed", exc)
        return 0

    cdef int drained(self) except -1:
        """The queue has fallen to where somebody waits for it."""
        if self.protocol_paused and self.queued() <= self.low:
            self.resume_protocol()  # may write again
        if self.queued() == 0:
            if self.empty_waiter is not None and not self.empty_waiter.done():
                self.empty_waiter.set_result(None)
            if self.closing and not self.conn_lost:
                self.lose_soon(None)
        return self.set_water()

    cdef int set_water(self) except -1:
        """Asks the core for on_drain at the next level that matters."""
        cdef size_t low = self.low, high = self.high, queued = self.queued()
        if self.core is NULL:
            return 0
        if not self.protocol_paused and (self.closing or self.empty_waiter is not None):
            low = high = 0
        elif self.protocol_paused and queued > 0 and high >= queued:
            high = queued - 1  # the limits were raised meanwhile
        puff_stream_set_water(self.core, low, high)
        return 0


def _go_on(Stream s):
    s.start_reading()


cdef int _attach(server, transport) except -1:
    if _server_takes_transport:
        server._attach(transport)
    else:
        server._attach()
    return 0


# ---- what users see ------------------------------------------------------------------------------


cdef list pieces_of(list_of_data):
    return [data if PyBytes_CheckExact(data) else memoryview(data) for data in list_of_data]


cdef tuple limits(high, low, kib):
    """asyncio's defaults: high in KiB, low a quarter of high."""
    if high is None:
        high = kib * 1024 if low is None else 4 * low
    if low is None:
        low = high // 4
    if not high >= low >= 0:
        raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
    return int(min(high, SIZE_MAX)), int(min(low, SIZE_MAX))


cdef puff_slot _slot


cdef inline Stream _native(self):
    return <Stream?><object>puff_slot_of(self, &_slot)


class Transport(EndpointTransport, transports.Transport):
    """A TCP or Unix stream transport of a puff loop. See asyncio.Transport."""

    __slots__ = ()

    _start_tls_compatible = True
    _sendfile_compatible = constants._SendfileMode.TRY_NATIVE

    def __init__(self, LoopBase loop, sock, protocol, waiter=None, extra=None, server=None):
        cdef Stream s = Stream.__new__(Stream)
        s.extra = {} if extra is None else extra
        self._native = s
        self.set_protocol(protocol)
        if server is not None:
            _attach(server, self)  # fails when it has been closed meanwhile
            s.server = server
        s.open(self, loop, sock)
        s.describe(s.extra)
        _set_nodelay(sock)
        s.begin(waiter)

    def __del__(self):
        super().__del__()
        cdef Stream s = getattr(self, "_native", None)
        if s is not None:
            s.leave_server(self)

    # ---- BaseTransport ---------------------------------------------------------------------------

    def get_extra_info(self, name, default=None):
        """What is known of the connection: socket, sockname, peername and what `extra` brought."""
        return _native(self).extra.get(name, default)

    def abort(self):
        """Closes; what the kernel does not take at once is thrown away."""
        cdef Stream s = _native(self)
        if s.core is not NULL and not s.conn_lost:
            puff_stream_flush(s.core)  # asyncio has sent it in write()
        s.force_close(None)

    def set_protocol(self, protocol):
        """From now on protocol is told of data and of the end."""
        cdef Stream s = _native(self)
        adopt(protocol)
        s.protocol = protocol
        buffered = isinstance(protocol, _BufferedProtocol)
        s.filter = getattr(protocol, "_puff_filter", None) if buffered else None
        if s.filter is not None:
            s.sink = PUFF_SINK_FILTER
        else:
            s.sink = PUFF_SINK_BUFFERED if buffered else PUFF_SINK_PROTOCOL

    # ---- writing ---------------------------------------------------------------------------------

    def writelines(self, list_of_data):
        """Queues several pieces; they leave together."""
        cdef Stream s = _native(self)
        if s.loop.d.debug:
            s.loop._check_thread()
        if s.eof_written:
            raise RuntimeError("Cannot call writelines() after write_eof()")
        if s.empty_waiter is not None:
            raise RuntimeError("unable to writelines; sendfile is in progress")
        pieces = pieces_of(list_of_data)
        if s.conn_lost:
            s.conn_lost += 1
            return
        for data in pieces:
            s.queue(data)
        s.after_write()

    def can_write_eof(self):
        """True: a stream socket can be closed one way."""
        return True

    def write_eof(self):
        """Sends what is queued, then shuts the write side down."""
        cdef Stream s = _native(self)
        if s.closing or s.eof_written:
            return
        s.eof_written = True
        puff_stream_shutdown(s.core)

    def get_write_buffer_limits(self):
        """(low, high) in bytes."""
        cdef Stream s = _native(self)
        return (s.low, s.high)

    def set_write_buffer_limits(self, high=None, low=None):
        """Above high the protocol is paused, at low resumed. Default 64 KiB, a quarter of high."""
        cdef Stream s = _native(self)
        s.high, s.low = limits(high, low, 64)
        s.set_water()
        s.after_write()

    # ---- what asyncio's own code reads -----------------------------------------------------------

    def _make_empty_waiter(self):
        """A future that is done when nothing is queued: loop.sendfile() waits for it."""
        cdef Stream s = _native(self)
        if s.empty_waiter is not None:
            raise RuntimeError("Empty waiter is already set")
        s.empty_waiter = s.loop.create_future()
        if s.core is not NULL:
            puff_stream_flush(s.core)
        if s.queued() == 0 and not s.empty_waiter.done():
            s.empty_waiter.set_result(None)
        s.set_water()
        return s.empty_waiter

    def _reset_empty_waiter(self):
        cdef Stream s = _native(self)
        s.empty_waiter = None
        s.set_water()

    @property
    def _loop(self):
        return _native(self).loop

    @property
    def _extra(self):
        return _native(self).extra

    @property
    def _server(self):
        return _native(self).server

    @property
    def _eof(self):
        return _native(self).eof_written

    @property
    def _protocol_paused(self):
        return _native(self).protocol_paused


# As numbers: the socket module's properties make enums of them.
cdef object _family = _socket.socket.family.__get__
cdef object _type = _socket.socket.type.__get__
cdef tuple _IP = (int(socket.AF_INET), int(socket.AF_INET6))
cdef object _STREAM = int(socket.SOCK_STREAM)


cdef int _set_nodelay(sock) except -1:
    """Small writes do not wait for an ACK. asyncio looks at sock.proto, which accept() leaves 0."""
    if _family(sock) in _IP and _type(sock) == _STREAM:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except OSError:
            pass  # reset already: reading will say so; or another protocol
    return 0


cdef _check_layout():
    cdef Stream s = Stream.__new__(Stream)
    cdef puff_stream_object *seen = <puff_stream_object *>s
    if &seen.low != &s.low or &seen.eof_written != <int *>&s.eof_written \
            or seen.empty_waiter != <PyObject *>s.empty_waiter:
        raise SystemError("stream_io.h and transport.pxd disagree about Stream")


_check_layout()
puff_slot_find(Transport, "_native", &_slot)
puff_stream_io_init(Transport, Stream, &_rare)
