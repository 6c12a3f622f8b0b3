# cython: language_level=3
"""threading.Lock for greenlets and threads: a real lock, and a line of greenlets that wait for it.

    acquire() in a thread, a coroutine, a script   the real lock's own, which blocks
    acquire() on a greenlet                        attempts; parks on a Turn in between
    release()                                      the real lock's, then the first Turn is told

Whoever comes first after a release has the lock, as with real ones; a Turn that is told tries
again. What must hold: a greenlet is in the line before its last attempt (else a release between
the two would tell nobody), and one that leaves after it was told tells the next.
"""

from _thread import TIMEOUT_MAX, allocate_lock
from time import monotonic

from puff._bind cimport green
from puff._bind.loop cimport running
from puff._bind.timed cimport TimedWaiter
from puff._bind.waiter cimport W_STARTED, call


cdef class Turn(TimedWaiter):
    """A greenlet in line. The value: whether it was told, or else its time is over."""

    cdef double timeout  # seconds; negative: none
    cdef bint told

    cdef int start(self) except -1:
        if self.timeout >= 0:
            self.arm_seconds(self.timeout)
        if self.told:
            self._arrive()
        return 0

    cdef void fired(self) noexcept:
        self.resolve(False)

    cdef void abandon(self) noexcept:
        self.disarm()

    cdef int tell(self) except -1:
        """From any thread, once."""
        self.told = True
        if self.state != W_STARTED:
            return 0  # it will see
        if self.loop is running():
            self._arrive()
        elif not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self._arrive)
        return 0

    def _arrive(self):
        self.disarm()
        self.resolve(True)


cdef class Lock:
    """threading.Lock()."""

    cdef object real
    cdef list turns
    cdef object __weakref__

    def __cinit__(self):
        self.real = allocate_lock()
        self.turns = []

    cdef int tell_next(self) except -1:
        cdef Turn turn
        if self.turns:
            turn = self.turns.pop(0)
            turn.tell()
        return 0

    cdef int leave(self, Turn turn) except -1:
        if not turn.told:
            self.turns.remove(turn)
        return 0

    cdef bint attempt_in_line(self, Turn turn) except -1:
        """One attempt; without success a wait until told, or until the time is over."""
        self.turns.append(turn)
        if self.real.acquire(False):
            self.leave(turn)
            return True
        try:
            call(turn)
        except BaseException:
            if turn.told:
                self.tell_next()
            else:
                self.leave(turn)
            raise
        self.leave(turn)
        return self.real.acquire(False)

    cdef bint acquire_parked(self, double timeout) except -1:
        cdef Turn turn
        cdef double deadline = monotonic() + timeout
        while True:
            turn = Turn()
            turn.timeout = -1 if timeout < 0 else max(0.0, deadline - monotonic())
            if self.attempt_in_line(turn):
                return True
            if not turn.told:
                return False

    def acquire(self, blocking=True, timeout=-1):
        if running() is None or green.current() is None or not blocking:
            return self.real.acquire(blocking, timeout)
        if timeout != -1 and not 0 < timeout <= TIMEOUT_MAX:
            return self.real.acquire(blocking, timeout)  # does not wait, or says what is wrong
        return self.real.acquire(False) or self.acquire_parked(timeout)

    def release(self):
        self.real.release()
        self.tell_next()

    def locked(self):
        return self.real.locked()

    acquire_lock = acquire
    release_lock = release
    locked_lock = locked

    def __enter__(self):
        return self.acquire()

    def __exit__(self, exc_type, exc, tb):
        self.release()

    def _at_fork_reinit(self):
        self.real._at_fork_reinit()
        self.turns = []

    def __repr__(self):
        state = "locked" if self.real.locked() else "unlocked"
        return f"<{state} puff.monkey lock at {id(self):#x}>"
