# cython: language_level=3
"""Lock, RLock, Event, Semaphore: one object for coroutines, greenlets and threads."""

from puff._bind.bridge cimport flow_here
from puff._bind.gate cimport Gate, Turn, refuse_in_coroutine, time_limit


cdef class _Held(Gate):
    """What `with` and `async with` hold."""

    def __enter__(self):
        refuse_in_coroutine("async with")
        self.acquire()
        return self

    def __exit__(self, *exc_info):
        self.release()

    async def __aenter__(self):
        await self.acquire()
        return self

    async def __aexit__(self, *exc_info):
        self.release()


cdef class Lock(_Held):
    """A lock for coroutines, greenlets and threads, of one loop or of several.

    `async with lock:` in a coroutine, `with lock:` elsewhere. Who waits gets it in order. Whoever
    likes may release it.

        lock = puff.Lock()
        with lock:
            pg.execute("update account set ...")     # others wait, the loop runs
    """

    cdef bint enter(self, Turn turn) except -1:
        if self.held:
            return False
        self.held = True
        turn.answer = True
        return True

    cdef void undo(self, Turn turn) noexcept:
        self.pass_on()

    cdef void pass_on(self) noexcept:
        """Nobody sees it free between two holders."""
        if not self.admit_next(True):
            self.held = False

    def acquire(self, blocking=True, timeout=None):
        """Wait until it is ours; True. False when `timeout` seconds are over, or at once when not
        `blocking`.
        """
        return self.ask(time_limit(blocking, timeout), False, None)

    def release(self):
        """Give it to the next in line, or leave it free. RuntimeError when it is not held."""
        if not self.held:
            raise RuntimeError("release of a lock that is not held")
        self.pass_on()

    def locked(self):
        """Whether somebody holds it."""
        return self.held

    def __repr__(self):
        state = f"held, {len(self.line)} waiting" if self.held else "free"
        return f"<puff.Lock {state}>"


cdef class RLock(_Held):
    """A lock that whoever holds it may acquire again; it is free when released as often.

    The holder is a flow of code: a Task with the sync code that it runs, a spawned greenlet with
    what it awaits, or a thread. Nobody else may release it.

        lock = puff.RLock()
        with lock, lock:
            ...
    """

    cdef bint enter(self, Turn turn) except -1:
        if self.depth > 0 and self.holder is not turn.gift:
            return False
        self.holder = turn.gift
        self.depth += 1
        turn.answer = True
        return True

    cdef void undo(self, Turn turn) noexcept:
        self.leave(1)

    cdef void leave(self, Py_ssize_t n) noexcept:
        self.depth -= n
        if self.depth == 0:
            self.pass_on()

    cdef void pass_on(self) noexcept:
        cdef Turn turn
        while self.line:
            turn = self.pop()
            self.holder, self.depth = turn.gift, 1
            if self.admit(turn, True):
                return
        self.holder, self.depth = None, 0

    cdef bint is_mine(self) except -1:
        return self.depth > 0 and self.holder is flow_here()

    def acquire(self, blocking=True, timeout=None):
        """Wait until it is ours; True. False when `timeout` seconds are over, or at once when not
        `blocking`.
        """
        return self.ask(time_limit(blocking, timeout), False, flow_here())

    def release(self):
        """Undo one acquire(). RuntimeError when it is not held here."""
        if not self.is_mine():
            raise RuntimeError("release of an RLock that is not held here")
        self.leave(1)

    def locked(self):
        """Whether somebody holds it."""
        return self.depth > 0

    def __repr__(self):
        state = f"held {self.depth} times, {len(self.line)} waiting" if self.depth else "free"
        return f"<puff.RLock {state}>"


cdef class Semaphore(_Held):
    """A counter that `acquire` takes one from, waiting while it is 0, and `release` adds to.

    `async with` in a coroutine, `with` elsewhere. Who waits is served in order. ValueError for a
    negative `value`.

        at_most_ten = puff.Semaphore(10)
    """

    cdef Py_ssize_t value

    def __init__(self, Py_ssize_t value=1):
        if value < 0:
            raise ValueError("the value of a semaphore must not be negative")
        self.value = value

    cdef bint enter(self, Turn turn) except -1:
        if self.value == 0:
            return False
        self.value -= 1
        turn.answer = True
        return True

    cdef void undo(self, Turn turn) noexcept:
        self.add(1)

    cdef void add(self, Py_ssize_t n) noexcept:
        """Those in line first: while there are some, the value is 0."""
        while n > 0 and self.admit_next(True):
            n -= 1
        self.value += n

    def acquire(self, blocking=True, timeout=None):
        """Take one, waiting for it; True. False when `timeout` seconds are over, or at once when
        not `blocking`.
        """
        return self.ask(time_limit(blocking, timeout), False, None)

    def release(self, Py_ssize_t n=1):
        """Add `n`."""
        if n < 1:
            raise ValueError("n must be one or more")
        self.add(n)

    def locked(self):
        """Whether acquire() would wait."""
        return self.value == 0

    def __repr__(self):
        return f"<puff.{type(self).__name__} {self.value}, {len(self.line)} waiting>"


cdef class BoundedSemaphore(Semaphore):
    """A Semaphore that refuses, with ValueError, to be released more often than acquired."""

    cdef Py_ssize_t bound

    def __init__(self, Py_ssize_t value=1):
        Semaphore.__init__(self, value)
        self.bound = value

    def release(self, Py_ssize_t n=1):
        """Add `n`."""
        if n > self.bound - self.value:
            raise ValueError("BoundedSemaphore released too many times")
        Semaphore.release(self, n)


cdef class Event(Gate):
    """A flag to wait for: `await event.wait()` in a coroutine, `event.wait()` elsewhere.

        ready = puff.Event()
        puff.spawn(lambda: ready.wait() and print("ready"))
        ready.set()
    """

    cdef bint flag

    cdef bint enter(self, Turn turn) except -1:
        turn.answer = True
        return self.flag

    def wait(self, timeout=None):
        """Wait until it is set; True. False when `timeout` seconds are over."""
        return self.ask(time_limit(True, timeout), False, None)

    def set(self):
        """Set it and wake all who wait. From any thread."""
        self.flag = True
        while self.admit_next(True):
            pass

    def clear(self):
        """Make wait() wait again."""
        self.flag = False

    def is_set(self):
        """Whether it is set."""
        return self.flag

    def __repr__(self):
        state = "set" if self.flag else f"{len(self.line)} waiting"
        return f"<puff.Event {state}>"
