# cython: language_level=3
"""A Waiter that a timer can end: sleeps, and whatever takes a timeout."""

from cpython.object cimport PyObject

cimport cython

from puff._bind.core cimport puff_timer, puff_timer_init, puff_timer_start, puff_timer_stop
from puff._bind.loop cimport puff_hold, puff_let_go

# A timeout beyond this (34 years) is none: the core's clock counts nanoseconds in 64 bits.
cdef double _FOREVER_MS = 2.0**40


@cython.no_gc_clear  # disarm() needs the loop
cdef class TimedWaiter(Waiter):
    cdef int arm(self, unsigned long long timeout_ms) except -1:
        puff_timer_init(&self.timer.timer, self.loop.core, on_timer)
        self.timer.owner = <PyObject *>self
        if puff_timer_start(&self.timer.timer, timeout_ms) != 0:
            raise MemoryError
        self.timing = True
        puff_hold(self.loop, &self.held, self)
        return 0

    cdef int arm_seconds(self, object timeout) except -1:
        """Rounded up to a millisecond."""
        cdef double ms = timeout * 1000 + 0.999
        if not ms < _FOREVER_MS:  # nor a number
            return 0
        return self.arm(<unsigned long long>max(0.0, ms))

    cdef void disarm(self) noexcept:
        if self.timing:
            self.timing = False
            if self.loop.core is not NULL:  # else its timers are gone
                puff_timer_stop(&self.timer.timer)
            puff_let_go(&self.held)

    cdef void fired(self) noexcept:
        pass


cdef void on_timer(puff_timer *t) noexcept:
    cdef TimedWaiter waiter = <TimedWaiter>(<OwnedTimer *>t).owner
    waiter.timing = False
    waiter.fired()
    puff_let_go(&waiter.held)
