"""What the pools of all clients are to a loop."""

from puff._bind.loop cimport LoopBase


cdef class ClientPool:
    """A core pool in loop.clients, which ends with its loop."""

    cdef bint closed

    # Override: begins to close the core's pool, which will call on_pool_closed(self); False: there
    # is none.
    cdef bint begin_close(self) except -1
    # Override: in a forked child the connections are the parent's.
    cdef int forked(self) except -1


# For the core, with the ClientPool as its argument.
cdef void on_pool_closed(void *arg) noexcept
