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
    cdef object wait_for(self, object aw)
    cdef object wait_in_context(self, object aw)
    cdef object drive(self, object exc, int *returned)
    cdef object advance(self, object exc, int *returned)
    cdef object inner_ended(self, object exc, int *returned)
    cdef object outcome(self, int *returned)
    cdef object step(self, object exc, int *returned)


# The flow of code that runs here, in any world: an object that is the same in all of it. A Task
# with the sync code that it runs is one, a spawned greenlet with what it awaits, a thread.
cdef object flow_here()
# What `await aw` would iterate.
cdef object iterator_of(object aw)
