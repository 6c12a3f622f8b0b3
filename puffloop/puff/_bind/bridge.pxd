"""What `await to_greenlet(f)` awaits, for those who begin it in another way."""

cimport puff._bind.green as green
from puff._bind.loop cimport LoopBase


cdef enum State:
    NEW
    RUNNING
    DONE


cdef class Bridge(green.Job):
    cdef object fn
    cdef tuple args
    cdef dict kwargs
    cdef LoopBase loop
    cdef object context       # of the Task that awaits; the worker's too
    cdef green.Worker worker  # while it runs
    cdef object inner         # the iterator of what the function awaits now, or None
    cdef object answer        # what inner has returned
    cdef object error         # what the function has raised
    cdef State state
    cdef bint busy            # a step is on the stack
    cdef object __weakref__

    # The first step: fn runs on a worker. An override may set another fn; or, instead, `inner`,
    # which then does everything, and RUNNING.
    cdef int begin(self) except -1
    # For the warning of one that was never awaited. In a destructor.
    cdef str name(self)

    cdef object wait(self, object aw)
    cdef object advance(self, object exc, int *returned)
    cdef object inner_ended(self, object exc, int *returned)
    cdef object outcome(self, int *returned)
    cdef object step(self, object exc, int *returned)


# The flow of code that runs here, in any world: an object that is the same in all of it. A Task
# with the sync code that it runs is one, a spawned greenlet with what it awaits, a thread.
cdef object flow_here()
# On the hub: GreenletExit where a worker without a bridge waits. If that is in await_(), what it
# awaits is cancelled, and the exit comes when it has ended. `again`: the worker has been told
# before; only what it awaits, if it is that which has not ended, is cancelled again.
cdef int kill_parked(green.Worker worker, bint again) except -1
