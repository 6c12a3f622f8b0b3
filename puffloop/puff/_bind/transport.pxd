"""Stream transports on the core's streams."""

from cpython.object cimport PyObject

from puff._bind.core cimport puff_stream
from puff._bind.loop cimport LoopBase


cdef class Stream:
    cdef puff_stream *core      # owned; NULL once its close has begun
    cdef LoopBase loop
    cdef object transport       # the asyncio.Transport that users see; None once closed
    cdef object protocol
    cdef bint buffered          # the protocol is a BufferedProtocol
    cdef object context         # contextvars context in which the protocol is told of data
    cdef object sock            # shares the descriptor with core, which closes it
    cdef int fd
    cdef dict extra
    cdef object server          # asyncio's Server that accepted it, or None
    cdef object empty_waiter    # sendfile's
    cdef size_t low, high       # write buffer limits
    cdef int conn_lost          # asyncio's: 1 when connection_lost() is scheduled, + writes since
    cdef bint closing, paused, eof_written, protocol_paused, leaked
    cdef bint long_reads        # the last one was: the next goes straight into a chunk
    cdef PyObject *chunk        # owned; the bytes that the read under way fills
    cdef object target          # the memoryview that it fills instead (buffered)
    cdef bint allocating        # the protocol is being asked for that memory,
    cdef bint stop_pending      # and has asked to stop reading,
    cdef object failure         # or has raised

    cdef int open(self) except -1
    cdef size_t queued(self) noexcept
    cdef int start_reading(self) except -1
    cdef int write(self, object data) except -1
    cdef int queue(self, object data) except -1
    cdef int after_write(self) except -1
    cdef int pause_protocol(self) except -1
    cdef int resume_protocol(self) except -1
    cdef int drained(self) except -1
    cdef int set_water(self) except -1
    cdef int close(self) except -1
    cdef int force_close(self, object exc) except -1
    cdef int fatal_error(self, object exc, object message) except -1
    cdef int lose(self, object exc) except -1
    cdef int close_core(self) except -1
    cdef void stop_reading(self) noexcept
    cdef int feed(self, object data) except -1
    cdef int feed_buffer(self, Py_ssize_t n) except -1
    cdef int feed_eof(self) except -1
