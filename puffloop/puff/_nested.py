"""Running a loop inside a callback of the same loop: for notebooks, whose cells run in one already.

asyncio refuses that, and so does Puff unless it is asked: `puff.Loop(nested=True)`. What is below
differs from asyncio's run_until_complete() in one thing: the end of the future does not stop() the
loop but only this run, for another one may be on top of it.
"""

from __future__ import annotations

import asyncio
from asyncio import events
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from puff._bind.nested import come_back, leave

if TYPE_CHECKING:
    from collections.abc import Awaitable, Generator

__all__ = ["NestedRuns"]

T = TypeVar("T")


class _Until:
    """A done callback: whether it has been called, as those before it have."""

    reached = False

    def __call__(self, future: asyncio.Future[Any]) -> None:
        self.reached = True


class _Runs(Protocol):
    """What is used of the loop."""

    _stopping: bool

    def _check_closed(self) -> None: ...
    def _check_running(self) -> None: ...
    def _run_once(self) -> None: ...
    def _run(self, until: _Until | None) -> None: ...


class NestedRuns:
    """Runs inside runs, in a loop whose `nested` is true."""

    nested = False

    def run_until_complete(self, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        """Runs until the future is done; returns its result or raises its exception."""
        if not self.nested:
            return cast(T, cast(Any, super()).run_until_complete(future))
        runs = cast(_Runs, self)
        runs._check_closed()
        if not self._runs_here():
            runs._check_running()
        return self._complete(runs, future)

    def _complete(self, runs: _Runs, future: Generator[Any, None, T] | Awaitable[T]) -> T:
        task: Any = asyncio.ensure_future(cast(Any, future), loop=cast(Any, self))
        if task is not future:
            task._log_destroy_pending = False  # asyncio: whoever interrupts us knows that it pends
        until = _Until()
        task.add_done_callback(until)
        try:
            runs._run(until)
        except BaseException:
            if task is not future and task.done() and not task.cancelled():
                task.exception()  # nobody else will ask for it
            raise
        finally:
            task.remove_done_callback(until)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        return cast(T, task.result())

    def _runs_here(self) -> bool:
        """Whether a callback of this loop is on the stack."""
        return events._get_running_loop() is cast(Any, self)

    def _run_inside(self, until: _Until | None) -> None:
        """The turns of a run that is inside another. A stop() ends it; the run around it sees that
        too, unless this one was for nothing but to be stopped."""
        runs, loop = cast(_Runs, self), cast(asyncio.AbstractEventLoop, self)
        aside = leave(loop)
        try:
            self._turn_until(runs, until)
        finally:
            come_back(loop, aside)
        if until is None:
            runs._stopping = False

    def _turn_until(self, runs: _Runs, until: _Until | None) -> None:
        runs._run_once()
        while not runs._stopping and (until is None or not until.reached):
            runs._run_once()

    @property
    def _nest_patched(self) -> bool:
        """nest_asyncio asks for this attribute whether it has replaced the class's methods already.
        It need not: asked, the loop nests from now on. (It would otherwise put in methods which
        know asyncio's own ready queue.)"""
        self.nested = True
        return True
