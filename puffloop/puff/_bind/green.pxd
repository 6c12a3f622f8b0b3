"""Pooled greenlets: switching in from the loop's dispatch, parking, throwing. See docs/design.md.
"""

from cpython.object cimport PyObject

from puff._bind.loop cimport LoopBase


cdef class Namespace:
    """Attributes that live as long as what they are local to."""
    cdef dict __dict__
    cdef object __weakref__


cdef class Job:
    """What a worker runs, at less cost than another callable."""

    # On the worker. SystemExit and KeyboardInterrupt go to the loop, others to its handler.
    cdef int run(self, Worker worker) except -1


cdef class Pool:
    """The workers of one loop; lives in loop.clients."""

    cdef LoopBase loop      # borrowed in effect: the loop outlives its pool
    cdef Worker idle        # a list by Worker.next, as is the other
    cdef Py_ssize_t n_idle
    cdef Worker parked

    cdef void link(self, Worker worker) noexcept
    cdef void unlink(self, Worker worker) noexcept


cdef class Worker:
    cdef Pool pool
    cdef LoopBase loop      # borrowed in effect: the loop outlives its pool
    cdef Worker prev        # the list of those that are parked, or idle
    cdef Worker next
    cdef object raw         # its greenlet; owned
    cdef object target      # the greenlet to switch to: raw, or one that user code made inside it
    cdef object hub         # the greenlet that switched in last
    cdef object job         # what it runs now: a callable without arguments, or None when idle
    cdef object context     # for the job that is about to begin
    cdef object token       # what it is parked for; None while it runs or is idle
    cdef object locals      # a Namespace: what is local to this job as to a thread, or None yet
    cdef object bridge      # to_greenlet()'s, while its function runs; see bridge.pyx
    cdef object yielded     # a Future for the Task that awaits the bridge
    cdef object task        # in whose step it runs, where that is hidden (see hides_task); or None
    cdef object fatal       # SystemExit or KeyboardInterrupt of its job, for the loop


# CPython 3.14 has one current task per thread, and not per loop: it is hidden with the loop, so
# that sync code may run another loop.
cdef bint hides_task

# The worker that runs in this thread now, or None.
cdef Worker current()
# In a forked child: the worker whose sync code goes on there, no longer on a loop; or None.
cdef Worker forked()
# Between these two nothing parks, and a puff call returns its awaitable: for a core callback that
# runs the user's Python (a parameter's __index__, a destructor) while core structs are half
# changed.
cdef PyObject *hide() noexcept
cdef void show(PyObject *hidden) noexcept
# Leaves the current worker until resume(worker, token); raises what throw_into() brings.
cdef int park(Worker worker, object token) except -1
# Both from the loop's dispatch only, and without effect unless the worker is parked for this token.
cdef int resume(Worker worker, object token) except -1
cdef int throw_into(Worker worker, object token, object exc) except -1
# Runs job() on a pooled worker, in the given contextvars context; returns when it parks or ends.
cdef int run_job(LoopBase loop, object job, object context) except -1
# The same, for one who keeps the loop's pool.
cdef Pool pool_of(LoopBase loop)
cdef int run_in(Pool pool, object job, object context) except -1
# A worker under a bridge waits for a Future by way of the Task that awaits the bridge.
cdef int yield_to_task(Worker worker, object future) except -1
# asyncio's running loop, of this thread; None hides it.
cdef int show_loop(object loop) except -1
