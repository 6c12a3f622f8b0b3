# cython: language_level=3
"""Condition: wait, with a lock let go, until somebody says that it is time to look again.

    wait()   in line --> lets the lock go --> ... notify() ... --> has the lock again
                 |                                                     |
                 +-- first: nobody can                                 +-- also when it was
                     notify in between                                     cancelled, killed or late
"""

import asyncio
import time

from puff._bind.gate cimport Gate, Turn, refuse_in_coroutine, time_limit
from puff._bind.sync cimport Lock, RLock
from puff._bind.waiter cimport foreign_loop
from puff._bind.loop cimport running

import greenlet as _greenlet

cdef object _get_running_loop = asyncio._get_running_loop
cdef object CancelledError = asyncio.CancelledError
cdef object GreenletExit = _greenlet.GreenletExit


cdef class _Kept:
    """How a waiter held the lock that it has let go."""

    cdef object holder
    cdef Py_ssize_t depth
    cdef bint gone


cdef class _Line(Gate):
    """Those who wait to be notified."""

    cdef Condition condition

    cdef bint enter(self, Turn turn) except -1:
        return False

    cdef int lined_up(self, Turn turn) except -1:
        return self.condition.let_go(<_Kept>turn.gift)

    cdef void undo(self, Turn turn) noexcept:
        self.admit_next(True)


cdef class Condition:
    """A lock, and a line of those who wait for what it guards to change.

    `lock` is a puff.Lock or puff.RLock; without one it has an RLock of its own, as threading's.

        ready = puff.Condition()
        with ready:                                  # in a coroutine: async with
            ready.wait_for(lambda: len(jobs) > 0)    # in a coroutine: await
            job = jobs.pop()
    """

    cdef object lock   # of one of the two kinds; the other field is None
    cdef Lock plain
    cdef RLock again
    cdef _Line line
    cdef object __weakref__

    def __init__(self, lock=None):
        if lock is None:
            lock = RLock()
        if isinstance(lock, RLock):
            self.again = lock
        elif isinstance(lock, Lock):
            self.plain = lock
        else:
            raise TypeError(f"a Condition takes a puff.Lock or puff.RLock, not {lock!r}")
        self.lock = lock
        self.line = _Line()
        self.line.condition = self

    # ---- the lock ------------------------------------------------------------------------------

    cdef object guard(self):
        if self.lock is None:
            raise RuntimeError("this Condition is not initialised: its __init__ has not run")
        return self.lock

    cdef int must_hold(self, str what) except -1:
        self.guard()
        if not (self.plain.held if self.again is None else self.again.is_mine()):
            raise RuntimeError(f"{what} without holding the lock")
        return 0

    cdef _Kept keep(self):
        cdef _Kept kept = _Kept()
        if self.again is not None:
            kept.holder, kept.depth = self.again.holder, self.again.depth
        return kept

    cdef int let_go(self, _Kept kept) except -1:
        kept.gone = True
        if self.again is None:
            self.plain.pass_on()
        else:
            self.again.leave(kept.depth)
        return 0

    cdef object take_again(self, _Kept kept):
        """The call that waits for the lock."""
        cdef Gate gate = self.lock
        return gate.ask(None, None, kept.holder)

    cdef int have_again(self, _Kept kept) except -1:
        kept.gone = False
        if self.again is not None:
            self.again.depth = kept.depth
        return 0

    def acquire(self, blocking=True, timeout=None):
        """As the lock's."""
        return self.guard().acquire(blocking, timeout)

    def release(self):
        """As the lock's."""
        self.guard().release()

    def locked(self):
        """Whether somebody holds the lock."""
        return self.guard().locked()

    def __enter__(self):
        refuse_in_coroutine("async with")
        self.guard().acquire()
        return self

    def __exit__(self, *exc_info):
        self.guard().release()

    async def __aenter__(self):
        await self.guard().acquire()
        return self

    async def __aexit__(self, *exc_info):
        self.guard().release()

    # ---- waiting -------------------------------------------------------------------------------

    def wait(self, timeout=None):
        """Let the lock go, wait to be notified, and take it again; True. False when `timeout`
        seconds are over. The lock is held again in any case. RuntimeError when it was not held.
        """
        self.must_hold("wait()")
        limit = time_limit(True, timeout)
        if _get_running_loop() is None:
            return self.wait_here(limit)
        if running() is None:
            raise foreign_loop()
        return self.wait_in_task(self.keep(), limit)

    cdef object wait_here(self, limit):
        kept = self.keep()
        try:
            if limit is not None and limit <= 0:
                self.let_go(kept)
                return False
            return self.line.ask_in_line(limit, kept)
        finally:
            if kept.gone:
                self.take_here(kept)

    cdef int take_here(self, _Kept kept) except -1:
        interrupted = None
        while kept.gone:
            try:
                self.take_again(kept)
                self.have_again(kept)
            except (CancelledError, GreenletExit) as exc:
                interrupted = exc
        if interrupted is not None:
            raise interrupted
        return 0

    async def wait_in_task(self, _Kept kept, limit):
        try:
            if limit is not None and limit <= 0:
                self.let_go(kept)
                return False
            return await self.line.ask_in_line(limit, kept)
        finally:
            interrupted = None
            while kept.gone:
                try:
                    await self.take_again(kept)
                    self.have_again(kept)
                except CancelledError as exc:
                    interrupted = exc
            if interrupted is not None:
                raise interrupted

    def wait_for(self, predicate, timeout=None):
        """Wait until `predicate()` is true, looking whenever notified; its value, which is false
        when `timeout` seconds are over.
        """
        limit = time_limit(True, timeout)
        if _get_running_loop() is not None:
            return self.wait_for_in_task(predicate, limit)
        end = None if limit is None else time.monotonic() + limit
        while not (found := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return found

    async def wait_for_in_task(self, predicate, limit):
        end = None if limit is None else time.monotonic() + limit
        while not (found := predicate()):
            left = None if end is None else end - time.monotonic()
            if left is not None and left <= 0:
                break
            await self.wait(left)
        return found

    def notify(self, Py_ssize_t n=1):
        """Wake the first `n` who wait; they go on when they have the lock. RuntimeError when it is
        not held.
        """
        self.must_hold("notify()")
        while n > 0 and self.line.admit_next(True):
            n -= 1

    def notify_all(self):
        """Wake all who wait."""
        self.must_hold("notify_all()")
        self.notify(len(self.line.line))

    def __repr__(self):
        return f"<puff.Condition of {self.lock!r}, {len(self.line.line)} waiting>"
