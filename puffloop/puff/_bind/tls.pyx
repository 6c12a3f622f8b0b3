"""TLS above any transport: what asyncio.sslproto does, on the core's engine.

The handshake and the goodbye are CPython's: an ssl.SSLObject of the user's SSLContext makes them,
so that callbacks, checks and exceptions are its own. What lies between, the data, is ours: the
SSL inside that object reads and writes through the engine's BIO (core/loop/tls.c).

    app protocol  <->  SSLTransport --_native--> Tls --engine--> SSL <--_sslobj-- ssl.SSLObject
                                                  |
       Stream (ours): read buffer and write queue are shared    other transports: bytes objects

The states, their order and the limits are asyncio's from 3.11 on:
UNWRAPPED -> HANDSHAKE -> WRAPPED -> FLUSHING -> SHUTDOWN -> UNWRAPPED. What differs: writes of a
turn become full records, and a fatal error is still told to the peer (an alert).
"""

import asyncio
import logging
import ssl
from asyncio import constants, sslproto

import _ssl
from cpython.buffer cimport PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.string cimport memcpy

from puff._bind.core cimport (
    PUFF_ENOMEM,
    PUFF_TLS_CLOSED,
    PUFF_TLS_OK,
    PUFF_TLS_WANT_READ,
    puff_alloc_system,
    puff_defer,
    puff_defer_cancel,
    puff_defer_init,
    puff_loop_defer,
    puff_str,
    puff_stream,
    puff_stream_flush,
    puff_stream_write,
    puff_tls,
    puff_tls_drop_output,
    puff_tls_error,
    puff_tls_feed,
    puff_tls_free,
    puff_tls_is_of,
    puff_tls_is_ours,
    puff_tls_keep,
    puff_tls_new,
    puff_tls_peek_output,
    puff_tls_read,
    puff_tls_readable,
    puff_tls_set_sink,
    puff_tls_unread,
    puff_tls_write,
    ssl_ctx_st,
    ssl_st,
)
from puff._bind.streams cimport adopt
from puff._bind.transport cimport Filter

from puff._bind.transport import Transport


cdef extern from *:
    PyObject *_new_bytes "PyBytes_FromStringAndSize"(const char *s, Py_ssize_t n) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t n) except -1

cdef extern from "compat.h":
    ssl_st *puff_ssl_of(object sslsocket)
    ssl_ctx_st *puff_ssl_ctx_of(object sslcontext)


cdef enum:
    RECORD = 16384         # what one record holds
    MAX_READ = 112 * 1024  # one data_received(): below malloc's mmap threshold
    # asyncio pauses the transport below at 256 KiB, but whoever raises that limit gets more.
    MAX_KEPT = 1 << 30
    GATHER = 65536         # ciphertext for a transport that is not ours, per write()

cdef object _logger = logging.getLogger("asyncio")
cdef object _BufferedProtocol = asyncio.BufferedProtocol
cdef object _SSLError = ssl.SSLError
cdef tuple _Again = (ssl.SSLWantReadError, ssl.SSLSyscallError)  # as asyncio's
# Late in 3.14 the goodbye's time limit became that of the transport's close() too, whose queue a
# peer may never read; before, nothing ends that. (3.10's protocol has other methods.)
cdef object _asyncios_end = getattr(sslproto.SSLProtocol, "_on_shutdown_complete", None)
cdef bint _LIMITS_CLOSE = (
    _asyncios_end is not None and "_ssl_shutdown_timeout" in _asyncios_end.__code__.co_names
)
cdef int _LOST_WRITES = constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES
cdef type _SSLSocket = _ssl._SSLSocket
cdef type _SSLContext = _ssl._SSLContext


class NotOurs(Exception):
    """The SSLContext makes objects that the engine cannot drive: asyncio's protocol has to."""


# ---- helpers of the trampolines ------------------------------------------------------------------

cdef int _sink(void *arg, const void *data, size_t len) noexcept nogil:
    """Ciphertext for a Stream. Also called without the GIL: CPython gives it up to shake hands."""
    cdef puff_stream *core = (<puff_stream **>arg)[0]
    if core is not NULL and puff_stream_write(core, data, len) == PUFF_ENOMEM:
        return PUFF_ENOMEM
    return 0  # a broken stream's connection_lost() is on its way


cdef void _on_turn_end(puff_defer *d) noexcept:
    cdef Tls tls = <Tls>(<Deferred *>d).tls
    try:
        tls.flush_turn()
    except BaseException as exc:
        tls.loop.interrupt(exc)


cdef object _error(puff_tls_error *err):
    """The exception that CPython's ssl makes of an error."""
    text = err.text.decode("ascii", "replace")
    library = err.library.decode("ascii", "replace") or None
    reason = err.reason.decode("ascii", "replace") or None
    if reason is not None and library is not None:
        text = f"[{library}: {reason}] {text} (puff)"
    elif library is not None:
        text = f"[{library}] {text} (puff)"
    cls, number = _SSLError, err.kind
    if err.eof:
        cls, number = ssl.SSLEOFError, ssl.SSL_ERROR_EOF
    elif err.kind == ssl.SSL_ERROR_SYSCALL:
        cls, text = ssl.SSLSyscallError, "Some I/O error occurred"
    elif reason == "CERTIFICATE_VERIFY_FAILED":
        cls = ssl.SSLCertVerificationError
    exc = cls(number, text)
    exc.library, exc.reason = library, reason
    return exc


cdef object _failure(int rc, puff_tls_error *err):
    return MemoryError() if rc == PUFF_ENOMEM else _error(err)


cdef puff_tls *engine_of(sslcontext, sslobj) except NULL:
    """Puts the engine under the SSL of sslobj."""
    cdef puff_tls *engine
    cdef ssl_st *raw
    sock = getattr(sslobj, "_sslobj", None)
    if type(sock) is not _SSLSocket or not isinstance(sslcontext, _SSLContext):
        raise NotOurs
    for name in ("do_handshake", "read", "unwrap", "write"):
        if getattr(type(sslobj), name, None) is not getattr(ssl.SSLObject, name):
            raise NotOurs
    raw = puff_ssl_of(sock)
    if raw is NULL or not puff_tls_is_of(raw, puff_ssl_ctx_of(sslcontext)):
        raise NotOurs
    if puff_tls_new(&engine, &puff_alloc_system, MAX_KEPT, raw) < 0:
        raise MemoryError()
    return engine


# ---- one connection ------------------------------------------------------------------------------

cdef class Tls(Filter):
    """The state of a TLS connection. Its methods follow asyncio's SSLProtocol."""

    def __cinit__(self):
        self.backlog = []
        self.turn_end.tls = <void *>self
        puff_defer_init(&self.turn_end.defer, _on_turn_end)

    def __dealloc__(self):
        puff_defer_cancel(&self.turn_end.defer)
        puff_tls_free(self.engine)

    cdef int set_app_protocol(self, protocol) except -1:
        adopt(protocol)
        self.app_protocol = protocol
        self.buffered = isinstance(protocol, _BufferedProtocol)
        return 0

    cdef int wake_waiter(self, exc) except -1:
        waiter, self.waiter = self.waiter, None
        if waiter is None or waiter.cancelled():
            return 0
        if exc is not None:
            waiter.set_exception(exc)
        else:
            waiter.set_result(None)
        return 0

    cdef object extra_info(self, name, default):
        # Asked of OpenSSL when somebody wants them: a certificate's dict costs more than a record.
        if name in ("peercert", "cipher", "compression") and "ssl_object" in self.extra:
            if name not in self.extra:
                ask = "getpeercert" if name == "peercert" else name
                self.extra[name] = getattr(self.sslobj, ask)()
            return self.extra[name]
        if name in self.extra:
            return self.extra[name]
        if self.transport is not None:
            return self.transport.get_extra_info(name, default)
        return default

    # ---- the transport below ---------------------------------------------------------------------

    cdef int made(self, transport) except -1:
        self.transport = transport
        if isinstance(transport, Transport):
            self.stream = transport._native
            puff_tls_set_sink(self.engine, _sink, &self.stream.core)
        return self.start_handshake()

    cdef int lost(self, exc) except -1:
        self.drop_backlog()
        puff_tls_set_sink(self.engine, NULL, NULL)
        puff_tls_drop_output(self.engine)
        puff_defer_cancel(&self.turn_end.defer)
        self.conn_lost += 1
        self.closed = True
        if self.state != HANDSHAKE and self.app_state in (MADE, AT_EOF):
            self.app_state = LOST
            self.loop.call_soon(self.app_protocol.connection_lost, exc)
        self.state = UNWRAPPED
        self.transport = self.stream = self.app_transport = self.app_protocol = None
        self.protocol = None
        self.wake_waiter(exc)
        self.stop_timers()
        return 0

    cdef int received(self, const char *data, Py_ssize_t n) except -1:
        """Ciphertext, borrowed until we return."""
        self.take(puff_tls_feed(self.engine, data, n))
        self.receiving = True
        try:
            self.advance()
        finally:
            self.receiving = False
            self.take(puff_tls_keep(self.engine))
        return 0

    cdef int feed_early(self, bytes data) except -1:
        self.take(puff_tls_feed(self.engine, PyBytes_AS_STRING(data), PyBytes_GET_SIZE(data)))
        return self.take(puff_tls_keep(self.engine))

    cdef int take(self, int rc) except -1:
        if rc < 0:
            raise MemoryError()
        return 0

    cdef int advance(self) except -1:
        if self.failed:
            return 0
        if self.state == WRAPPED:
            return self.read_all()
        if self.state == HANDSHAKE:
            return self.do_handshake()
        if self.state == FLUSHING:
            return self.do_flush()
        if self.state == SHUTDOWN:
            return self.do_shutdown()
        return 0

    cdef object eof(self):
        """Of the transport below: it came without a close_notify before it, or with one."""
        self.eof_seen = True
        try:
            if self.loop.d.debug:
                _logger.debug("%r received EOF", self.protocol)
            if self.state == HANDSHAKE:
                self.handshake_done(ConnectionResetError())
            elif self.state == WRAPPED:
                self.state = FLUSHING
                if self.reading_paused:
                    return True
                self.do_flush()
            elif self.state == FLUSHING:
                self.flush(True)
                self.state = SHUTDOWN
                self.do_shutdown()
            elif self.state == SHUTDOWN:
                self.do_shutdown()
        except Exception:
            self.transport.close()
            raise
        # The app may have been told to write before it was lost: asyncio's transport below would
        # close itself now, and so does ours, when its queue is sent.
        return None

    # ---- handshake -------------------------------------------------------------------------------

    cdef int start_handshake(self) except -1:
        if self.loop.d.debug:
            _logger.debug("%r starts SSL handshake", self.protocol)
            self.began_at = self.loop.time()
        self.state = HANDSHAKE
        self.handshake_timer = self.loop.call_later(
            self.handshake_timeout, _handshake_late, self
        )
        return self.do_handshake()

    cdef int do_handshake(self) except -1:
        try:
            self.sslobj.do_handshake()
        except _Again:
            self.pump()
        except _SSLError as exc:
            self.handshake_done(exc)
        else:
            self.handshake_done(None)
        return 0

    cdef int handshake_done(self, exc) except -1:
        timer, self.handshake_timer = self.handshake_timer, None
        if timer is not None:
            timer.cancel()
        if exc is not None:
            self.state = UNWRAPPED
            message = "SSL handshake failed"
            if isinstance(exc, ssl.CertificateError):
                message = "SSL handshake failed on verifying the certificate"
            self.fatal_error(exc, message)
            return self.wake_waiter(exc)
        self.state = WRAPPED
        self.pump()
        if self.loop.d.debug:
            took = self.loop.time() - self.began_at
            _logger.debug("%r: SSL handshake took %.1f ms", self.protocol, took * 1e3)
        self.extra["ssl_object"] = self.sslobj
        if self.app_state == INIT:
            self.app_state = MADE
            self.app_protocol.connection_made(self.app_transport)
        self.wake_waiter(None)
        return self.read_all()

    cdef int stop_timers(self) except -1:
        for timer in (self.handshake_timer, self.shutdown_timer):
            if timer is not None:
                timer.cancel()
        self.handshake_timer = self.shutdown_timer = None
        return 0

    # ---- goodbye ---------------------------------------------------------------------------------

    cdef int limit_shutdown(self) except -1:
        if self.shutdown_timer is None:
            self.shutdown_timer = self.loop.call_later(self.shutdown_timeout, _shutdown_late, self)
        return 0

    cdef int start_shutdown(self) except -1:
        if self.state in (FLUSHING, SHUTDOWN, UNWRAPPED):
            return 0
        self.closed = True
        if self.state == HANDSHAKE:
            return self.abort(None)
        self.state = FLUSHING
        self.limit_shutdown()
        return self.do_flush()

    cdef int do_flush(self) except -1:
        self.read_all()
        if self.state != FLUSHING or self.failed:
            return 0
        try:
            self.flush(True)
        except Exception as exc:
            return self.fatal_error(exc, "Fatal error on SSL protocol")
        self.state = SHUTDOWN
        return self.do_shutdown()

    cdef int do_shutdown(self) except -1:
        try:
            if not self.eof_seen:
                self.sslobj.unwrap()
        except _Again:
            self.pump()
        except _SSLError as exc:
            self.shutdown_done(exc)
        else:
            self.pump()
            self.tell_eof()
            self.shutdown_done(None)
        return 0

    cdef int shutdown_done(self, exc) except -1:
        if exc is not None or not _LIMITS_CLOSE:
            timer, self.shutdown_timer = self.shutdown_timer, None
            if timer is not None:
                timer.cancel()
        if exc is not None:
            self.fatal_error(exc, "Fatal error on transport")
        elif self.transport is not None:
            self.said_goodbye = True
            if _LIMITS_CLOSE:
                self.limit_shutdown()
            self.loop.call_soon(self.transport.close)
        return 0

    cdef int abort(self, exc) except -1:
        self.state = UNWRAPPED
        if self.transport is not None:
            self.transport._force_close(exc)
        return 0

    cdef int fatal_error(self, exc, message) except -1:
        self.failed = True
        if self.transport is not None:
            self.pump()
            if self.stream is not None and self.stream.core is not NULL:
                puff_stream_flush(self.stream.core)  # the alert, as far as there is room
            self.transport._force_close(exc)
        if isinstance(exc, OSError):
            if self.loop.d.debug:
                _logger.debug("%r: %s", self.protocol, message, exc_info=exc)
        elif not isinstance(exc, asyncio.CancelledError):
            self.loop.call_exception_handler({
                "message": message, "exception": exc,
                "transport": self.transport, "protocol": self.protocol,
            })
        return 0

    # ---- reading ---------------------------------------------------------------------------------

    cdef int read_all(self) except -1:
        """Tells the app of all that has come, then writes what it answered."""
        if self.state != WRAPPED and self.state != FLUSHING:
            return 0
        try:
            if not self.reading_paused:
                if self.buffered:
                    self.read_buffered()
                else:
                    self.read_bytes()
                if self.state == WRAPPED or self.state == FLUSHING:
                    self.flush(False)
            self.control_reading()
        except Exception as exc:
            self.fatal_error(exc, "Fatal error on SSL protocol")
        return 0

    cdef bint may_read(self) noexcept:
        return (
            not self.reading_paused and not self.failed
            and (self.state == WRAPPED or self.state == FLUSHING)
        )

    cdef int read_bytes(self) except -1:
        cdef puff_tls_error err
        cdef PyObject *chunk
        cdef size_t cap, n
        cdef int rc
        while self.may_read() and not self.buffered:
            cap = puff_tls_readable(self.engine)
            if cap == 0:
                return 0
            cap = min(cap, <size_t>MAX_READ)
            chunk = _new_bytes(NULL, cap)
            rc = puff_tls_read(self.engine, PyBytes_AS_STRING(<object>chunk), cap, &n, &err)
            if n > 0:
                _PyBytes_Resize(&chunk, n)
                data = <object>chunk
                Py_XDECREF(chunk)
                self.app_protocol.data_received(data)
            else:
                Py_XDECREF(chunk)
            if self.read_ended(rc, &err):
                return 0
        return 0

    cdef int read_buffered(self) except -1:
        cdef puff_tls_error err
        cdef Py_buffer view
        cdef size_t n
        cdef int rc
        while self.may_read() and self.buffered and puff_tls_readable(self.engine) > 0:
            target = self.app_protocol.get_buffer(puff_tls_unread(self.engine))
            PyObject_GetBuffer(target, &view, PyBUF_WRITABLE)
            if view.len == 0:
                PyBuffer_Release(&view)
                raise RuntimeError("get_buffer() returned an empty buffer")
            rc = puff_tls_read(self.engine, view.buf, view.len, &n, &err)
            PyBuffer_Release(&view)
            if n > 0:
                self.app_protocol.buffer_updated(n)
            if self.read_ended(rc, &err):
                return 0
        return 0

    cdef bint read_ended(self, int rc, puff_tls_error *err) except -1:
        if rc == PUFF_TLS_OK:
            return False
        if rc == PUFF_TLS_CLOSED:
            self.tell_eof()
            self.start_shutdown()
        elif rc != PUFF_TLS_WANT_READ:
            raise _failure(rc, err)
        return True

    cdef int tell_eof(self) except -1:
        if self.app_state != MADE:
            return 0
        self.app_state = AT_EOF
        try:
            if self.app_protocol.eof_received():
                _logger.warning("returning true from eof_received() has no effect when using ssl")
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.fatal_error(exc, "Error calling eof_received()")
        return 0

    cdef int resume_reading(self) except -1:
        if self.reading_paused:
            self.reading_paused = False
            self.loop.call_soon(_resume, self)
        return 0

    cdef int control_reading(self) except -1:
        cdef size_t size
        if self.transport is None:
            return 0
        size = puff_tls_unread(self.engine)
        if size >= self.high_in and not self.reading_below_paused:
            self.reading_below_paused = True
            self.transport.pause_reading()
        elif size <= self.low_in and self.reading_below_paused:
            self.reading_below_paused = False
            self.transport.resume_reading()
        return 0

    # ---- writing ---------------------------------------------------------------------------------

    cdef int write(self, list_of_data) except -1:
        if self.state in (FLUSHING, SHUTDOWN, UNWRAPPED):
            if self.conn_lost >= _LOST_WRITES:
                _logger.warning("SSL connection is closed")
            self.conn_lost += 1
            return 0
        for data in list_of_data:
            self.append(data)
        return self.written()

    cdef int append(self, data) except -1:
        if not PyBytes_CheckExact(data):
            data = bytes(data)  # its owner may change it before it is encrypted
        if PyBytes_GET_SIZE(data) > 0:
            self.backlog.append(data)
            self.n_backlog += PyBytes_GET_SIZE(data)
        return 0

    cdef int written(self) except -1:
        """Small writes wait for the end of the turn, to share a record."""
        if self.state != WRAPPED:
            return 0
        if self.stream is None or self.n_backlog >= min(<size_t>RECORD, self.high_out):
            try:
                self.flush(False)
            except Exception as exc:
                self.fatal_error(exc, "Fatal error on SSL protocol")
        elif not self.receiving:
            puff_loop_defer(self.loop.core, &self.turn_end.defer)
        return 0

    cdef int flush_turn(self) except -1:
        if self.state != WRAPPED or self.failed:
            return 0
        try:
            self.flush(False)
        except Exception as exc:
            return self.fatal_error(exc, "Fatal error on SSL protocol")
        if self.stream is not None and self.stream.core is not NULL:
            puff_stream_flush(self.stream.core)  # its own turn to flush has passed
        return 0

    cdef int flush(self, bint everything) except -1:
        """Encrypts the backlog, as far as the transport below takes it, or everything."""
        cdef puff_tls_error err
        cdef size_t n
        cdef int rc
        while self.n_backlog > 0 and (everything or not self.writing_paused):
            rc = self.write_record(&n, &err)
            self.consume(n)
            if rc == PUFF_TLS_WANT_READ:
                break
            if rc != PUFF_TLS_OK:
                raise _failure(rc, &err)
            self.hand_down()
        self.pump()
        return self.control_writing()

    cdef int write_record(self, size_t *n, puff_tls_error *err) except? -1:
        cdef char record[RECORD]
        cdef Py_ssize_t size
        cdef size_t room = RECORD, k
        cdef char *to = record
        first = <bytes>self.backlog[0]
        size = PyBytes_GET_SIZE(first) - self.done
        if size >= RECORD or len(self.backlog) == 1:
            return puff_tls_write(self.engine, PyBytes_AS_STRING(first) + self.done, size, n, err)
        at = self.done
        for data in self.backlog:
            k = min(room, <size_t>(PyBytes_GET_SIZE(data) - at))
            memcpy(to, PyBytes_AS_STRING(data) + <Py_ssize_t>at, k)
            to += k
            room -= k
            at = 0
            if room == 0:
                break
        return puff_tls_write(self.engine, record, RECORD - room, n, err)

    cdef int consume(self, size_t n) except -1:
        """n bytes of the front of the backlog are encrypted."""
        cdef Py_ssize_t k = 0, size
        self.n_backlog -= n
        if self.n_backlog == 0:
            self.backlog.clear()
            self.done = 0
            return 0
        n += self.done
        while n > 0:
            size = PyBytes_GET_SIZE(self.backlog[k])
            if n < <size_t>size:
                break
            n -= size
            k += 1
        self.done = n
        if k > 0:
            del self.backlog[:k]
        return 0

    cdef int drop_backlog(self) except -1:
        self.backlog.clear()
        self.n_backlog = 0
        self.done = 0
        return 0

    cdef int hand_down(self) except -1:
        """Lets the transport below send, and say whether it wants more."""
        if self.stream is None:
            if puff_tls_peek_output(self.engine).len >= GATHER:
                self.pump()
        elif self.stream.queued() > self.stream.high:
            self.stream.after_write()
        return 0

    cdef int pump(self) except -1:
        """Gives what the engine has gathered to a transport that is not ours."""
        cdef puff_str out
        if self.stream is not None or self.writing_paused or self.transport is None:
            return 0
        out = puff_tls_peek_output(self.engine)
        if out.len == 0:
            return 0
        data = PyBytes_FromStringAndSize(out.ptr, out.len)
        puff_tls_drop_output(self.engine)
        self.transport.write(data)
        return 0

    cdef size_t write_buffer_size(self) noexcept:
        if self.engine is NULL:
            return 0
        return puff_tls_peek_output(self.engine).len + self.n_backlog

    cdef int control_writing(self) except -1:
        cdef size_t size = self.write_buffer_size()
        if self.app_protocol is None:
            return 0
        if size >= self.high_out and not self.app_writing_paused:
            self.app_writing_paused = True
            self.tell_flow("pause_writing")
        elif size <= self.low_out and self.app_writing_paused:
            self.app_writing_paused = False
            self.tell_flow("resume_writing")
        return 0

    cdef int tell_flow(self, what) except -1:
        try:
            getattr(self.app_protocol, what)()
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as exc:
            self.loop.call_exception_handler({
                "message": f"protocol.{what}() failed", "exception": exc,
                "transport": self.app_transport, "protocol": self.protocol,
            })
        return 0

    cdef int resume_writing(self) except -1:
        self.writing_paused = False
        try:
            if self.state == WRAPPED and not self.failed:
                return self.flush(False)
            self.pump()
            return self.control_writing()
        except Exception as exc:
            return self.fatal_error(exc, "Fatal error on SSL protocol")


def _handshake_late(Tls tls):
    if tls.state == HANDSHAKE:
        tls.fatal_error(ConnectionAbortedError(
            f"SSL handshake is taking longer than {tls.handshake_timeout} seconds: "
            f"aborting the connection"
        ), "Fatal error on transport")


def _shutdown_late(Tls tls):
    if tls.state in (FLUSHING, SHUTDOWN) and tls.transport is not None:
        tls.transport._force_close(asyncio.TimeoutError("SSL shutdown timed out"))


def _resume(Tls tls):
    if tls.state in (WRAPPED, FLUSHING, SHUTDOWN):
        tls.advance()


# ---- does the engine fit this interpreter? -------------------------------------------------------

def check():
    """Raises unless an SSL can be found in an SSLObject, is of our libssl, and takes our BIO.

    A client's hello goes out by the engine; a server without a certificate refuses it, and the
    engine hands the alert back: both directions, without a key.
    """
    cdef puff_tls *engine
    cdef puff_str out
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    from_peer, to_peer = ssl.MemoryBIO(), ssl.MemoryBIO()
    sslobj = client.wrap_bio(from_peer, to_peer)
    if type(sslobj._sslobj) is not _SSLSocket or puff_ssl_of(sslobj._sslobj) is NULL:
        raise NotOurs("the SSLObject has no SSL where it should be")
    if not puff_tls_is_of(puff_ssl_of(sslobj._sslobj), puff_ssl_ctx_of(client)):
        raise NotOurs("the SSLObject is laid out in an unknown way")
    if not puff_tls_is_ours(puff_ssl_of(sslobj._sslobj)):
        raise NotOurs("the ssl module has a libssl of its own")
    engine = engine_of(client, sslobj)
    try:
        try:
            sslobj.do_handshake()
        except ssl.SSLWantReadError:
            pass
        out = puff_tls_peek_output(engine)
        alert = _refusal(PyBytes_FromStringAndSize(out.ptr, out.len))
        if to_peer.pending or not alert or puff_tls_feed(engine, <char *><bytes>alert, len(alert)):
            raise NotOurs("the hello has gone astray")
        try:
            sslobj.do_handshake()
        except ssl.SSLError as exc:
            if exc.reason is not None and "ALERT" in exc.reason:
                return
        raise NotOurs("the alert has gone astray")
    finally:
        puff_tls_free(engine)


cdef bytes _refusal(bytes hello):
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).wrap_bio(incoming, outgoing, server_side=True)
    incoming.write(hello)
    try:
        server.do_handshake()
    except ssl.SSLError:
        pass
    return outgoing.read()
