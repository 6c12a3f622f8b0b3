"""Datagram transports on the core's sockets."""

from puff._bind.core cimport puff_udp
from puff._bind.loop cimport LoopBase, puff_held


cdef class Datagram:
    cdef puff_udp *core         # owned; NULL once its close has begun
    cdef LoopBase loop
    cdef puff_held held         # for the core, until on_close
    cdef object transport       # the asyncio.DatagramTransport that users see; None once closed
    cdef object protocol
    cdef object context         # contextvars context in which the protocol is told of datagrams
    cdef object sock            # shares the descriptor with core, which closes it
    cdef int fd, family
    cdef object address         # asyncio's: where all goes, or None
    cdef bint connected         # the socket itself knows where all goes
    cdef int conn_lost          # asyncio's: 1 when connection_lost() is scheduled, + sends since
    cdef bint closing, paused, leaked

    cdef int open(self) except -1
    cdef void disown_sock(self) noexcept
    cdef size_t queued(self) noexcept
    cdef int start_reading(self) except -1
    cdef int stop_reading(self) except -1
    cdef int sendto(self, object data, object addr) except -1
    cdef int send(self, object data, object addr) except -1
    cdef int send_by_name(self, object data, object addr) except -1
    cdef int queue_by_name(self, object data, object addr) except -1
    cdef int send_failed(self, int code) except -1
    cdef int sent(self) except -1
    cdef int close(self) except -1
    cdef int force_close(self, object exc) except -1
    cdef int fatal_error(self, object exc, object message) except -1
    cdef int lose(self, object exc) except -1
    cdef int close_core(self) except -1
