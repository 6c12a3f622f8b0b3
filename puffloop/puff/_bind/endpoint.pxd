"""What stream and datagram transports have in common."""

from puff._bind.loop cimport LoopBase, puff_held


cdef class Endpoint:
    # endpoint.h has these fields in this order.
    cdef puff_held held         # for the core, until on_close
    cdef LoopBase loop
    cdef object transport       # the asyncio transport that users see; None once closed
    cdef object protocol        # None once closed
    cdef object context         # contextvars context in which the protocol is told of data
    cdef object sock            # shares the descriptor with the core, which closes it
    cdef int fd
    cdef int conn_lost          # asyncio's: 1 when connection_lost() is scheduled, + writes since
    cdef bint closing, paused
    cdef bint leaked            # the loop has ended, and this was open

    # ---- what each kind has of its own -----------------------------------------------------------
    cdef str kind(self)                         # for messages
    cdef int open_core(self) noexcept           # 0, or the error of the core, which has closed fd
    cdef bint is_open(self) noexcept
    cdef int read_core(self) noexcept           # 0 or an error
    cdef void stop_reading(self) noexcept
    cdef size_t queued(self) noexcept           # asyncio's measure of what waits
    cdef int drop_queued(self) except -1
    cdef int close_when_sent(self) except -1    # lose_soon() once nothing is queued
    cdef void release_core(self) noexcept       # closes; is_open() no more
    cdef int ended(self) except -1              # the protocol has been told

    # ---- what they share -------------------------------------------------------------------------
    cdef int open(self, transport, LoopBase loop, sock) except -1
    cdef int begin(self, waiter) except -1
    cdef int describe(self, dict extra) except -1
    cdef int start_reading(self) except -1
    cdef int close(self) except -1
    cdef int force_close(self, exc) except -1
    cdef int lose_soon(self, exc) except -1
    cdef int lose(self, exc) except -1
    cdef int close_core(self) except -1
    cdef void core_closed(self, bint leaked) noexcept
    cdef void disown_sock(self) noexcept
    cdef int fatal_error(self, exc, message) except -1
    cdef int report(self, message, exc) except -1


# That no transport of the loop has it (a socket or a number), without the exception in which
# asyncio's look for one ends. False: asyncio's own look may tell.
cdef bint is_free(loop, fd)
