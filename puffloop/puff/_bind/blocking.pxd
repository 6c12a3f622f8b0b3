"""Python that blocks, on threads of ours."""

from puff._bind.waiter cimport Waiter


cdef class Threads:
    cdef object jobs          # queue.SimpleQueue of Job
    cdef readonly str name
    cdef readonly Py_ssize_t max_threads
    cdef readonly Py_ssize_t n_threads
    cdef readonly Py_ssize_t n_pending  # jobs given and not ended

    cdef Job submit(self, object fn, tuple args, dict kwargs, object on_end)


cdef class Job:
    cdef Threads threads
    cdef object fn, context, on_end
    cdef tuple args
    cdef dict kwargs

    cdef void run(self) noexcept
    # Before it has begun: it never will, and on_end is not called.
    cdef void take_back(self) noexcept


cdef class ThreadCall(Waiter):
    cdef Threads threads
    cdef Job job
    cdef object fn
    cdef tuple args
    cdef dict kwargs

    # Override: the job has ended, and nobody takes what it returned (None: it raised).
    cdef void lost(self, object result) noexcept


# Runs fn on one of the threads: what it returns, in the caller's world.
cdef object call_in(Threads threads, object fn, tuple args, dict kwargs)
# Also right in a thread and in a script, which may block: there fn runs where it is called.
cdef object call_aside(Threads threads, object fn, tuple args, dict kwargs)
