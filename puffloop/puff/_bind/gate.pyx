# cython: language_level=3
"""A line of those who wait for something that one of them at a time can have: what Lock, Event,
Semaphore and the queues are made of.

    enter() there is some: take it                                   any thread, any world
       |    none: stand in line  [turn, turn, turn]
       |                            |
       |    <--- admit() ----- release(), set(), put() of anybody   any thread; posts
       +--- left: cancelled, killed, late: out of the line; if it was granted something: undo()

What is granted has changed hands when admit() returns, so nobody can get in between, and the line
is served in order. All of this happens under the GIL without calling Python code in the middle,
except in queues.pyx, which has a lock. A turn is woken on its own loop, so those in line need not
share one.
"""

import asyncio
from collections import OrderedDict

from puff._bind.loop cimport running
from puff._bind.waiter cimport W_ABANDONED, call

cdef object _get_running_loop = asyncio._get_running_loop
cdef tuple _nobody = ()  # the line until somebody stands in it: most never see one


cdef class Turn(TimedWaiter):
    cdef int start(self) except -1:
        if self.gate.enter(self):
            self.granted = True
            self.resolve(self.answer)
        elif self.timeout is not None and self.timeout <= 0:
            self.miss()
        else:
            if self.gate.line is _nobody:
                self.gate.line = OrderedDict()
            self.gate.line[self] = None
            if self.timeout is not None:
                self.arm_seconds(self.timeout)
            self.gate.lined_up(self)
        return 0

    cdef void deliver(self) noexcept:
        self.disarm()
        if self.failure is None:
            self.resolve(self.answer)
        else:
            self.reject(self.failure)

    cdef void miss(self) noexcept:
        if isinstance(self.late, BaseException):
            self.reject(self.late)
        else:
            self.resolve(self.late)

    cdef void fired(self) noexcept:
        if self in self.gate.line:  # else the answer is on its way here
            del self.gate.line[self]
            self.miss()

    cdef void abandon(self) noexcept:
        self.disarm()
        if self.gate.line is not _nobody:
            self.gate.line.pop(self, None)
        self.untaken()

    cdef void untaken(self) noexcept:
        if self.granted:
            self.granted = False
            self.gate.undo(self)


def _deliver(Turn turn):
    turn.deliver()


cdef class Gate:
    def __cinit__(self, *args, **kwargs):
        self.line = _nobody

    cdef void forget_line(self) noexcept:
        self.line = _nobody

    cdef bint enter(self, Turn turn) except -1:
        raise NotImplementedError

    cdef void undo(self, Turn turn) noexcept:
        pass

    cdef int lined_up(self, Turn turn) except -1:
        return 0

    cdef object ask(self, object timeout, object late, object gift):
        cdef Turn turn = Turn()
        turn.gate = self
        turn.timeout, turn.late, turn.gift = timeout, late, gift
        if running() is None and _get_running_loop() is None and self.enter(turn):
            turn.state = W_ABANDONED  # no loop had to be asked
            return turn.answer
        return call(turn)

    cdef object ask_in_line(self, object timeout, object gift):
        cdef Turn turn = Turn()
        turn.gate = self
        turn.timeout, turn.late, turn.gift = timeout, False, gift
        return call(turn)

    cdef Turn pop(self):
        return <Turn>self.line.popitem(last=False)[0] if self.line else None

    cdef bint admit(self, Turn turn, object answer) noexcept:
        turn.answer = answer
        turn.granted = True
        if self.wake(turn):
            return True
        turn.granted = False
        return False

    cdef void refuse(self, Turn turn, object failure) noexcept:
        turn.failure = failure
        self.wake(turn)

    cdef bint wake(self, Turn turn) noexcept:
        if running() is turn.loop:
            turn.deliver()
            return True
        try:
            turn.loop.call_soon_threadsafe(_deliver, turn)
        except RuntimeError:
            return False
        return True

    cdef bint admit_next(self, object answer) noexcept:
        while self.line:
            if self.admit(self.pop(), answer):
                return True
        return False


cdef object time_limit(object block, object timeout):
    if not block:
        return 0
    if timeout is None or timeout == -1:
        return None
    if timeout < 0:
        raise ValueError("timeout must not be negative")
    return timeout


cdef int refuse_in_coroutine(str instead) except -1:
    if _get_running_loop() is not None:
        raise RuntimeError(f"this blocks: in a coroutine, write `{instead}`")
    return 0
