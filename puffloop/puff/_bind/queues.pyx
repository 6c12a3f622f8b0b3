# cython: language_level=3
"""Queue, LifoQueue, PriorityQueue: between coroutines, greenlets and threads.

An item that is put goes into the queue, and from there to the first that waits for one; a place
that becomes free goes to the first that waits to put. What is said of a gate in gate.pyx holds, but
for the GIL: items may be compared by Python code, hence the mutex. It can be entered twice by one
thread, since a signal handler may put while its thread does.
"""

import asyncio
import queue
import threading
import types
from collections import deque
from heapq import heapify, heappop, heappush

from puff._bind.gate cimport Gate, Turn, time_limit
from puff._bind.waiter cimport W_ABANDONED


class QueueEmpty(asyncio.QueueEmpty, queue.Empty):
    """There is nothing to get. queue.Empty and asyncio.QueueEmpty, for either habit."""


class QueueFull(asyncio.QueueFull, queue.Full):
    """There is no place to put. queue.Full and asyncio.QueueFull, for either habit."""


_shut_down_bases = tuple(
    getattr(module, name) for module, name in ((asyncio, "QueueShutDown"), (queue, "ShutDown"))
    if hasattr(module, name)
) or (Exception,)


class QueueShutDown(*_shut_down_bases):
    """The queue has been shut down. queue.ShutDown and asyncio.QueueShutDown, where Python has
    them.
    """


cdef class _Getters(Gate):
    cdef Queue queue

    cdef bint enter(self, Turn turn) except -1:
        return self.queue.take(turn)

    cdef void undo(self, Turn turn) noexcept:
        self.queue.take_back(turn.answer)


cdef class _Putters(Gate):
    cdef Queue queue

    cdef bint enter(self, Turn turn) except -1:
        return self.queue.offer(turn.gift)

    cdef void undo(self, Turn turn) noexcept:
        self.queue.withdraw(turn.gift)


cdef class _Joiners(Gate):
    cdef Queue queue

    cdef bint enter(self, Turn turn) except -1:
        return self.queue.n_unfinished == 0


cdef class Queue:
    """A queue of at most `maxsize` items (0: any number), first in, first out.

    `put`, `get` and `join` are puff calls: they are awaited in a coroutine and wait elsewhere. Who
    waits is served in order. All other methods are plain, and may be called from any thread.

        jobs = puff.Queue(maxsize=100)
        puff.spawn(lambda: [work(jobs.get()) for _ in range(10)])
        await jobs.put("job")
    """

    cdef readonly Py_ssize_t maxsize
    cdef object items
    cdef object mutex
    cdef _Getters getters
    cdef _Putters putters
    cdef _Joiners joiners
    cdef Py_ssize_t n_unfinished
    cdef bint shut
    cdef object __weakref__

    def __cinit__(self, *args, **kwargs):
        self.mutex = threading.RLock()
        self.getters, self.putters, self.joiners = _Getters(), _Putters(), _Joiners()
        self.getters.queue = self.putters.queue = self.joiners.queue = self

    def __init__(self, Py_ssize_t maxsize=0):
        self.maxsize = maxsize
        self.items = self.container()

    @classmethod
    def __class_getitem__(cls, item):
        return types.GenericAlias(cls, item)

    # ---- how it is kept: overrides -----------------------------------------------------------

    cdef object container(self):
        return deque()

    cdef int push(self, object item) except -1:
        self.items.append(item)
        return 0

    cdef object pop(self):
        return self.items.popleft()

    cdef int push_back(self, object item) except -1:
        """Where pop() had it from."""
        self.items.appendleft(item)
        return 0

    cdef int remove(self, Py_ssize_t i) except -1:
        del self.items[i]
        return 0

    # ---- what happens to items, in any thread ------------------------------------------------

    cdef bint is_full(self) noexcept:
        return 0 < self.maxsize <= len(self.items)

    cdef bint take(self, Turn turn) except -1:
        with self.mutex:
            if not self.items:
                if self.shut:
                    raise QueueShutDown
                return False
            turn.answer = self.pop()
            self.fill()
        return True

    cdef bint offer(self, object item) except -1:
        with self.mutex:
            if self.shut:
                raise QueueShutDown
            if self.is_full():
                return False
            self.add(item)
            self.serve()
        return True

    cdef int add(self, object item) except -1:
        self.push(item)
        self.n_unfinished += 1
        return 0

    cdef int serve(self) except -1:
        """Items to those who wait for them."""
        while self.items and self.getters.line:
            item = self.pop()
            if not self.getters.admit_next(item):
                self.push_back(item)
        return 0

    cdef int fill(self) except -1:
        """Free places to those who wait for them."""
        cdef Turn turn
        while self.putters.line and not self.is_full():
            turn = self.putters.pop()
            if self.putters.admit(turn, None):
                self.add(turn.gift)
        return 0

    cdef int take_back(self, object item) except -1:
        """Of somebody who was given it and is gone."""
        with self.mutex:
            self.push_back(item)
            self.serve()
        return 0

    cdef int withdraw(self, object item) except -1:
        """The put that brought it was cancelled: nobody shall get it, if nobody has."""
        with self.mutex:
            for i in range(len(self.items) - 1, -1, -1):
                if self.items[i] is item:
                    self.remove(i)
                    self.finish(1)
                    self.fill()
                    break
        return 0

    cdef int finish(self, Py_ssize_t n) except -1:
        self.n_unfinished -= n
        if self.n_unfinished == 0:
            while self.joiners.admit_next(None):
                pass
        return 0

    # ---- what users call ---------------------------------------------------------------------

    def put(self, item, block=True, timeout=None):
        """Put an item, waiting for a place. QueueFull when `timeout` seconds are over, or at once
        when not `block`; QueueShutDown when it is shut down.
        """
        return self.putters.ask(time_limit(block, timeout), QueueFull(), item)

    def get(self, block=True, timeout=None):
        """Remove and return an item, waiting for one. QueueEmpty when `timeout` seconds are over,
        or at once when not `block`; QueueShutDown when it is shut down and empty.
        """
        return self.getters.ask(time_limit(block, timeout), QueueEmpty(), None)

    def put_nowait(self, item):
        """Put an item now, or raise QueueFull."""
        if not self.offer(item):
            raise QueueFull

    def get_nowait(self):
        """Remove and return an item now, or raise QueueEmpty."""
        cdef Turn turn = Turn.__new__(Turn)
        turn.state = W_ABANDONED
        if not self.take(turn):
            raise QueueEmpty
        return turn.answer

    def task_done(self):
        """Say that an item that was got has been worked on. ValueError when there was none."""
        with self.mutex:
            if self.n_unfinished <= 0:
                raise ValueError("task_done() called too many times")
            self.finish(1)

    def join(self, timeout=None):
        """Wait until task_done() has been called for each item. TimeoutError when `timeout`
        seconds are over.
        """
        late = TimeoutError("the queue was not worked off in time")
        return self.joiners.ask(time_limit(True, timeout), late, None)

    def shutdown(self, immediate=False):
        """Refuse what is put from now on, with QueueShutDown; also to those who wait. Items can
        still be got, unless `immediate`, which throws them away.
        """
        with self.mutex:
            self.shut = True
            if immediate and self.items:
                n = len(self.items)
                self.items.clear()
                self.finish(n)
            for gate in (self.getters, self.putters):
                while (<Gate>gate).line:
                    (<Gate>gate).refuse((<Gate>gate).pop(), QueueShutDown())

    def qsize(self):
        """How many items there are."""
        return len(self.items)

    def empty(self):
        """Whether get() would wait."""
        return not self.items

    def full(self):
        """Whether put() would wait."""
        return self.is_full()

    def __repr__(self):
        return f"<puff.{type(self).__name__} {len(self.items)} of {self.maxsize or 'any'}>"


cdef class LifoQueue(Queue):
    """A Queue that gives the newest item first."""

    cdef object pop(self):
        return self.items.pop()

    cdef int push_back(self, object item) except -1:
        self.items.append(item)
        return 0


cdef class PriorityQueue(Queue):
    """A Queue that gives the smallest item first."""

    cdef object container(self):
        return []

    cdef int push(self, object item) except -1:
        heappush(self.items, item)
        return 0

    cdef object pop(self):
        return heappop(self.items)

    cdef int push_back(self, object item) except -1:
        heappush(self.items, item)
        return 0

    cdef int remove(self, Py_ssize_t i) except -1:
        del self.items[i]
        heapify(self.items)
        return 0
