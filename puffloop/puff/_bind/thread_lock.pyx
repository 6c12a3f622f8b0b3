# cython: language_level=3
"""threading.Lock for greenlets and threads: a real lock, and a line of greenlets that wait for it.

    acquire() in a thread, a coroutine, a script   the real lock's own, which blocks
    acquire() on a greenlet                        an attempt, then a Turn in line
    release()                                      the real lock's; who is first in line gets it

What must hold: a greenlet is in the line before its last attempt, else a release between the two
would tell nobody. The real lock may be taken for another thread's Turn: threading lets one thread
release what another has acquired.
"""

from _thread import TIMEOUT_MAX, allocate_lock

cimport cython

cimport puff._bind.green as green
from puff._bind.gate cimport Gate, Turn
from puff._bind.loop cimport running


@cython.final  # as threading's is
cdef class Lock(Gate):
    """threading.Lock()."""

    cdef object real

    def __cinit__(self):
        self.real = allocate_lock()

    def __init__(self):
        pass  # takes nothing

    cdef bint enter(self, Turn turn) except -1:
        turn.answer = True
        return self.real.acquire(False)

    cdef int lined_up(self, Turn turn) except -1:
        self.serve()
        return 0

    cdef void undo(self, Turn turn) noexcept:
        self.real.release()
        self.serve()

    cdef void serve(self) noexcept:
        """Gives it to the first in line, unless somebody else has it."""
        while self.line and self.real.acquire(False):
            if self.admit_next(True):
                return
            self.real.release()

    def acquire(self, blocking=True, timeout=-1):
        if running() is None or green.current() is None or not blocking:
            return self.real.acquire(blocking, timeout)
        if timeout != -1 and not 0 < timeout <= TIMEOUT_MAX:
            return self.real.acquire(blocking, timeout)  # does not wait, or says what is wrong
        return self.real.acquire(False) or self.ask(None if timeout == -1 else timeout, False, None)

    def release(self):
        self.real.release()
        if self.line:
            self.serve()

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
        self.forget_line()

    # What threading.Condition does by calls of its own when its lock has none of these.

    def _is_owned(self):
        return self.real.locked()

    def _release_save(self):
        self.release()

    def _acquire_restore(self, state):
        self.acquire()

    def __repr__(self):
        state = "locked" if self.real.locked() else "unlocked"
        return f"<{state} puff.monkey.Lock object at {id(self):#x}>"
