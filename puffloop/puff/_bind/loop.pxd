"""The native half of puff.Loop: ready ring, timers, the run loop, descriptor watching."""

from puff._bind.core cimport puff_loop


cdef class LoopBase:
    cdef puff_loop *core            # owned; NULL once closed
    cdef dict clients               # per-loop objects by key: ("postgres", name) -> pool. Closed by loop.close()
    cdef object hub                 # the greenlet that runs the loop, while it runs (None: greenlet not in use)
    cdef object __weakref__

    # Runs fn(arg) from the loop's dispatch, in no particular context; never inside a core callback.
    cdef int schedule(self, object fn, object arg) except -1
    # While set, call_soon() stores the callable in `captured` instead of scheduling it (see http.pyx).
    cdef bint capturing
    cdef object captured
    # ... private state of loop.pyx follows


# The puff loop that runs in this thread now, or None. Cheap: a C thread-local. Not changed by greenlets.
cdef LoopBase running()
# The loop that serves other threads of this process: the first that is running, or None.
cdef LoopBase primary()
# This thread's own loop for scripts without one; made on first use, closed at exit.
cdef LoopBase of_thread()
