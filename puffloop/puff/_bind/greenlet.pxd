"""What puff.spawn returns, for those who make one of their own kind."""

from puff._bind.green cimport Job, Worker
from puff._bind.loop cimport LoopBase


cdef enum State:
    WAITING  # on the ready ring
    ALIVE
    DEAD


cdef class Greenlet(Job):
    cdef LoopBase loop
    cdef object fn, args, kwargs, context
    cdef object result, error
    cdef list joiners             # _Join and JoinIter: told once when it ends, and dropped
    cdef Worker worker
    cdef unsigned long long order  # among all that have ended
    cdef State state
    cdef bint retrieved, killed
    cdef bint doomed  # killed before it has begun; set in any thread
    cdef object __weakref__

    # On the loop's thread, once: the state is DEAD and the joiners are told.
    cdef int _end(self, object result, object error) except -1


# The loop that a call in this place belongs to: that which runs here, else the process's, else
# this thread's own. RuntimeError where another kind of loop runs.
cdef LoopBase loop_here()
