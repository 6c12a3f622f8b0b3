"""A Waiter that a timer can end."""

from cpython.object cimport PyObject

from puff._bind.core cimport puff_timer
from puff._bind.loop cimport puff_held
from puff._bind.waiter cimport Waiter


cdef struct OwnedTimer:
    puff_timer timer  # first, so that the core's pointer to it is a pointer to this
    PyObject *owner   # borrowed; the loop holds it while the timer runs


cdef class TimedWaiter(Waiter):
    cdef OwnedTimer timer
    cdef puff_held held
    cdef bint timing

    # On the loop's thread, at most one at a time. fired() is the override: the time is over.
    cdef int arm(self, unsigned long long timeout_ms) except -1
    cdef int arm_seconds(self, object timeout) except -1
    cdef void disarm(self) noexcept
    cdef void fired(self) noexcept
