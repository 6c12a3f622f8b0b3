"""queue.SimpleQueue, which is C and blocks. The others are Python over threading's locks."""

from __future__ import annotations

import concurrent.futures.thread as pool
import queue
from collections import deque
from types import GenericAlias, SimpleNamespace
from typing import Any

from puff._bind.thread_lock import Lock
from puff.monkey._patches import Patches
from puff.monkey._wait import Deadline, parks

__all__ = ["patch"]

_SimpleQueue = queue.SimpleQueue


class SimpleQueue:
    """A real one, in which threads wait, and a line of locks: a greenlet's each, that put() opens.

    What must hold: a greenlet stands in line before it looks again, and put() looks at the line
    after the item is there. Who is let in may find nothing, when a thread was faster: it stands in
    line again. Who leaves when it was let in already tells the next.
    """

    def __init__(self) -> None:
        self._real: Any = _SimpleQueue()
        self._line: deque[Lock] = deque()

    def put(self, item: Any, block: bool = True, timeout: float | None = None) -> None:
        """Never blocks; the other arguments are for those who know Queue.put()."""
        self._real.put(item)
        if self._line:
            self._admit()

    def put_nowait(self, item: Any) -> None:
        self.put(item)

    def get(self, block: bool = True, timeout: float | None = None) -> Any:
        if not block or not parks() or (timeout is not None and timeout < 0):
            return self._real.get(block, timeout)
        deadline = Deadline(timeout)
        while True:
            try:
                return self._real.get_nowait()
            except queue.Empty:
                if deadline.passed():
                    raise
            self._wait(deadline.left())

    def get_nowait(self) -> Any:
        return self._real.get_nowait()

    def empty(self) -> bool:
        empty: bool = self._real.empty()
        return empty

    def qsize(self) -> int:
        size: int = self._real.qsize()
        return size

    def _admit(self) -> None:
        try:  # noqa: SIM105  suppress() costs as much as all of this
            self._line.popleft().release()
        except IndexError:  # another thread has
            pass

    def _wait(self, timeout: float | None) -> None:
        turn = Lock()
        turn.acquire()
        self._line.append(turn)
        try:
            if self._real.empty() and turn.acquire(True, -1 if timeout is None else timeout):
                return
        except BaseException:
            if not self._leave(turn) and not self._real.empty():
                self._admit()
            raise
        self._leave(turn)

    def _leave(self, turn: Lock) -> bool:
        """False: it was let in meanwhile."""
        try:
            self._line.remove(turn)
        except ValueError:
            return False
        return True

    __class_getitem__: Any = classmethod(GenericAlias)


def patch(patches: Patches) -> None:
    patches.replace(queue, "SimpleQueue", SimpleQueue)
    # Only threads wait for an executor's queue: those keep the fast one.
    own = SimpleNamespace(**{**vars(queue), "SimpleQueue": _SimpleQueue})
    patches.replace(pool, "queue", own)
