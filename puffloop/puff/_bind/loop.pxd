"""The native half of puff.Loop: ready ring, timers, the run loop, descriptor watching."""

from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

from puff._bind.core cimport puff_loop


cdef extern from "watchdog.h":
    ctypedef struct puff_watchdog:
        pass


cdef extern from "dispatch.h":
    ctypedef struct puff_ring:
        size_t head
        size_t tail
    ctypedef struct puff_slowest:
        pass
    # What the core calls back: kept by the loop meanwhile (dispatch.h). Its type is no_gc_clear.
    ctypedef struct puff_held:
        pass
    void puff_hold(object loop, puff_held *h, object o)
    void puff_let_go(puff_held *h)
    ctypedef struct puff_dispatch:
        puff_ring ring
        bint waiting
        bint debug
        bint stopping
        bint closed
        bint running
        uint64_t ticks
        uint64_t n_turns
        puff_slowest slowest
        puff_watchdog *watchdog


cdef class LoopBase:
    # dispatch.h knows these by their place.
    cdef puff_dispatch d
    cdef puff_loop *core            # owned; NULL once closed
    # While set, call_soon() stores the callable in `captured` instead of scheduling it (see
    # asgi_task.c).
    cdef bint capturing
    cdef object captured
    cdef object fatal               # a protocol's SystemExit or KeyboardInterrupt: ends the run
    cdef object socks               # None, or what sock.c knows of descriptors
    cdef object task_factory        # asyncio's _task_factory
    cdef object loop_keyword        # {"loop": self}

    # Per-loop objects by key: ("postgres", name) -> pool. loop.close() closes them.
    cdef dict clients
    cdef object greenlets           # the Pool of green.pyx, which is one of them, or None
    cdef object __weakref__

    cdef dict watchers              # fd -> Watcher
    # A script's own loop: it runs only while its thread waits, so it serves no other.
    cdef bint private
    cdef int pid                    # the process whose kernel objects these are

    # Runs fn(arg) from the loop's dispatch, in no particular context; never inside a core callback.
    cdef int schedule(self, object fn, object arg) except -1
    # For trampolines: an exception of user code that asyncio lets pass out of run_forever().
    cdef void interrupt(self, object exc) noexcept
    cdef int turn(self) except -1


# The puff loop that runs in this thread now, or None. Cheap: a C thread-local. Not changed by
# greenlets.
cdef LoopBase running()
# The loop that serves other threads of this process: the first that is running, or None.
cdef LoopBase primary()
# This thread's own loop for scripts without one; made on first use, closed at exit.
cdef LoopBase of_thread()
