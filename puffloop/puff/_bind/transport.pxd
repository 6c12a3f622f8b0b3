"""Stream transports on the core's streams."""

from cpython.object cimport PyObject

from puff._bind.core cimport puff_stream
from puff._bind.endpoint cimport Endpoint


cdef class Filter:
    """A native protocol between a Stream and the user's: it is given reads without a copy."""
    # data is borrowed until it returns.
    cdef int received(self, const char *data, Py_ssize_t n) except -1


cdef class Stream(Endpoint):
    # stream_io.h has these fields in this order.
    cdef puff_stream *core      # owned; NULL once its close has begun
    cdef PyObject *chunk        # owned; the bytes that the read under way fills
    cdef Py_buffer target       # what it fills instead (a BufferedProtocol's memory)
    cdef size_t low, high       # write buffer limits
    cdef int sink               # who gets what is read
    cdef bint long_reads        # the last one was: the next goes straight into a chunk
    cdef bint eof_written
    cdef object empty_waiter    # sendfile's
    # The rest is ours alone.
    cdef Filter filter          # the native half of the protocol, if it has one
    cdef dict extra
    cdef object server          # asyncio's Server that accepted it, or None
    cdef bint protocol_paused

    cdef int write(self, object data) except -1
    cdef int queue(self, object data) except -1
    cdef int after_write(self) except -1
    cdef int pause_protocol(self) except -1
    cdef int resume_protocol(self) except -1
    cdef int drained(self) except -1
    cdef int set_water(self) except -1
    cdef int leave_server(self, transport) except -1


# What writelines() is given, or TypeError before any of it is written.
cdef list pieces_of(list_of_data)
# (high, low) in bytes, of what set_write_buffer_limits() is given.
cdef tuple limits(high, low, kib)
