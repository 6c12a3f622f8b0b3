"""One outstanding operation and whoever waits for it. See docs/design.md, "Who waits"."""

from puff._bind.loop cimport LoopBase


cdef enum WaiterState:
    W_NEW        # not started
    W_STARTED    # the core has it
    W_DONE       # value or error is set
    W_ABANDONED  # nobody waits; the core's answer will be dropped

cdef enum World:
    IN_NONE      # nobody waits yet
    IN_TASK      # parked: an asyncio.Future
    IN_GREENLET  # parked: a green.Worker
    IN_THREAD    # parked: a lock


cdef class Waiter:
    cdef LoopBase loop   # the loop it runs on; set before start()
    cdef object value    # set when done
    cdef object error    # an exception instance, or None
    cdef object parked   # what resolve() wakes, or None; see World
    cdef WaiterState state
    cdef World world

    # Overrides. All run on the loop's thread with the GIL. start() hands the operation to
    # the core and may
    # resolve at once; it keeps a reference to self until the core's callback has run.
    # abandon() says that
    # nobody waits any more: the core's callback still comes, once, and resolve() then does nothing.
    # untaken() says so of one that had its answer, on the loop's thread too: what came with it can
    # go to somebody else.
    cdef int start(self) except -1
    cdef void abandon(self) noexcept
    cdef void untaken(self) noexcept

    # For the client's trampolines, once each, on the loop's thread with the GIL.
    cdef void resolve(self, object value) noexcept
    cdef void reject(self, object error) noexcept
    # False: skip building Python objects for the answer.
    cdef bint wanted(self) noexcept

    cdef object _step(self, int *returned)
    cdef int _begin(self, LoopBase loop) except -1
    cdef void _give_up(self) noexcept
    cdef void _finish(self) noexcept
    cdef object _outcome(self)


# Runs the operation in the caller's world: returns the value, or the waiter itself as an awaitable.
cdef object call(Waiter waiter)
# For whoever awaits a puff call on another loop: an exception that names the fix.
cdef object foreign_loop()
# The exception, or another in its place that may leave an awaitable.
cdef object not_stop(object error)
cdef void warn_never_awaited(str name) noexcept
