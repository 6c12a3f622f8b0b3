"""The state of a TLS connection above any transport."""

from puff._bind.core cimport puff_defer, puff_tls, puff_tls_error
from puff._bind.loop cimport LoopBase
from puff._bind.transport cimport Filter, Stream


cdef enum State:
    UNWRAPPED
    HANDSHAKE
    WRAPPED
    FLUSHING
    SHUTDOWN

cdef enum AppState:
    INIT
    MADE
    AT_EOF
    LOST

cdef struct Deferred:
    puff_defer defer
    void *tls  # borrowed; cancels it before it dies


cdef class Tls(Filter):
    cdef LoopBase loop
    cdef puff_tls *engine           # owned
    cdef object sslobj              # the ssl.SSLObject
    cdef object protocol            # the SSLProtocol below the app; None once lost
    cdef object transport           # what carries us; None once lost
    cdef Stream stream              # its native half, if it is ours
    cdef object app_protocol        # None once lost
    cdef object app_transport       # None once lost
    cdef object waiter              # of the handshake
    cdef dict extra
    cdef object handshake_timeout, shutdown_timeout
    cdef object handshake_timer, shutdown_timer
    cdef double began_at            # the handshake (debug mode)
    cdef State state
    cdef AppState app_state
    cdef bint buffered              # the app protocol is a BufferedProtocol
    cdef bint closed                # the app transport
    cdef bint failed                # fatal_error() has run
    cdef bint said_goodbye          # both sides have; only the transport below is still there
    cdef bint eof_seen              # of the transport below
    cdef bint reading_paused, reading_below_paused
    cdef bint writing_paused        # by the transport below
    cdef bint app_writing_paused
    cdef bint receiving             # writes of callbacks wait for the end of received()
    cdef int conn_lost
    cdef list backlog               # bytes not yet encrypted
    cdef Py_ssize_t done            # of the first of them
    cdef size_t n_backlog
    cdef size_t high_in, low_in, high_out, low_out
    cdef Deferred turn_end
    cdef bytearray target           # what a transport that is not ours reads into

    cdef int set_app_protocol(self, protocol) except -1
    cdef int feed_early(self, bytes data) except -1
    cdef int wake_waiter(self, exc) except -1
    cdef object extra_info(self, name, default)
    cdef int made(self, transport) except -1
    cdef int lost(self, exc) except -1
    cdef int take(self, int rc) except -1
    cdef int advance(self) except -1
    cdef object eof(self)
    cdef int start_handshake(self) except -1
    cdef int do_handshake(self) except -1
    cdef int handshake_done(self, exc) except -1
    cdef int stop_timers(self) except -1
    cdef int limit_shutdown(self) except -1
    cdef int start_shutdown(self) except -1
    cdef int do_flush(self) except -1
    cdef int do_shutdown(self) except -1
    cdef int shutdown_done(self, exc) except -1
    cdef int abort(self, exc) except -1
    cdef int fatal_error(self, exc, message) except -1
    cdef int read_all(self) except -1
    cdef bint may_read(self) noexcept
    cdef int read_bytes(self) except -1
    cdef int read_buffered(self) except -1
    cdef bint read_ended(self, int rc, puff_tls_error *err) except -1
    cdef int tell_eof(self) except -1
    cdef int resume_reading(self) except -1
    cdef int control_reading(self) except -1
    cdef int write(self, list_of_data) except -1
    cdef int append(self, data) except -1
    cdef int written(self) except -1
    cdef int flush_turn(self) except -1
    cdef int flush(self, bint everything) except -1
    cdef int write_record(self, size_t *n, puff_tls_error *err) except? -1
    cdef int consume(self, size_t n) except -1
    cdef int drop_backlog(self) except -1
    cdef int hand_down(self) except -1
    cdef int pump(self) except -1
    cdef size_t write_buffer_size(self) noexcept
    cdef int control_writing(self) except -1
    cdef int tell_flow(self, what) except -1
    cdef int resume_writing(self) except -1


# Puts the engine under the SSL of an ssl.SSLObject of sslcontext; NotOurs where it does not fit.
cdef puff_tls *engine_of(sslcontext, sslobj) except NULL
# asyncio's defaults: high in KiB, low a quarter of high.
