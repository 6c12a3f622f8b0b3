"""One outstanding operation and whoever waits for it. See docs/design.md, "Who waits"."""

from puff._bind.loop cimport LoopBase


cdef enum WaiterState:
    W_NEW       # not started
    W_STARTED   # the core has it
    W_DONE      # value or error is set
    W_ABANDONED # nobody waits; the core's answer will be dropped


cdef class Waiter:
    cdef LoopBase loop          # the loop it runs on; set before start()
    cdef object value           # set when done
    cdef object error           # an exception instance, or None
    cdef object parked          # what to wake: a Future, a RawGreenlet, a lock, or None
    cdef int state
    cdef int world              # how to wake it

    # Overrides. Both run on the loop's thread with the GIL.
    cdef int start(self) except -1
    cdef void abandon(self) noexcept

    # For the client's trampolines, once each, on the loop's thread with the GIL.
    cdef void resolve(self, object value) noexcept
    cdef void reject(self, object error) noexcept
    # True while somebody wants the answer: skip building Python objects when False.
    cdef bint wanted(self) noexcept


# Runs the operation in the caller's world: returns the value, or the waiter as an awaitable.
cdef object call(Waiter waiter)
# The loop that a call made here would use, for objects (pools) that are kept per loop.
cdef LoopBase loop_for_call()
