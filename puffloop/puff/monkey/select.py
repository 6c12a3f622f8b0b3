"""select, poll, epoll and the selectors: a greenlet parks until there is something to report.

What is ready is found by the original call with a timeout of 0, before and after each wait.
"""

from __future__ import annotations

import select
import selectors
from collections.abc import Callable, Iterable, Sequence
from types import TracebackType
from typing import Any

from puff.monkey._patches import Patches
from puff.monkey._wait import READABLE, WRITABLE, Deadline, parks, poll as wait_for

__all__ = ["patch"]

_select = select.select
_poll = select.poll
_epoll: Any = getattr(select, "epoll", None)
_Entries = Callable[[], Iterable[tuple[int, int]]]


# The longest timeouts; with more the originals raise at once.
_INT_MAX_MS = 2**31 - 1
_INT_MAX_S = _INT_MAX_MS / 1000
_TIME_T_MAX_S = 2.0**62 / 10**9


def _waits(timeout: float | None, longest: float = _INT_MAX_S) -> bool:
    return (timeout is None or 0 < timeout <= longest) and parks()


def _until(look: Callable[[], Any], entries: _Entries, timeout: float | None) -> Any:
    """Looks, and parks between two looks, until there is something or the time is over."""
    deadline = Deadline(timeout)
    while True:
        found = look()
        if found or deadline.passed():
            return found
        wait_for(entries(), deadline.left())


def _fd(what: Any) -> int:
    return what if isinstance(what, int) else int(what.fileno())


def _sequence(items: Iterable[Any]) -> Sequence[Any]:
    """What can be gone through twice; a list itself, which a fileno() may change as ever."""
    return items if isinstance(items, (list, tuple)) else list(items)


class _Lists(tuple[list[Any], list[Any], list[Any]]):
    """What select() returns; true when there is anything in it."""

    def __bool__(self) -> bool:
        return any(map(len, self))


def cooperative_select(
    rlist: Iterable[Any],
    wlist: Iterable[Any],
    xlist: Iterable[Any],
    timeout: float | None = None,
    /,
) -> tuple[list[Any], list[Any], list[Any]]:
    """select.select(). Exceptional conditions are seen when something else wakes us."""
    if not _waits(timeout, _TIME_T_MAX_S):
        return _select(rlist, wlist, xlist, timeout)
    r, w, x = _sequence(rlist), _sequence(wlist), _sequence(xlist)

    def entries() -> list[tuple[int, int]]:
        watched = [(_fd(each), READABLE) for each in [*r, *x]]
        return watched + [(_fd(each), WRITABLE) for each in w]

    found: _Lists = _until(lambda: _Lists(_select(r, w, x, 0)), entries, timeout)
    return found[0], found[1], found[2]


class Poll:
    """select.poll()'s object."""

    def __init__(self) -> None:
        self._real = _poll()
        self._events: dict[int, int] = {}

    def register(
        self, fd: Any, eventmask: int = select.POLLIN | select.POLLPRI | select.POLLOUT, /
    ) -> None:
        self._real.register(fd, eventmask)
        self._events[_fd(fd)] = eventmask

    def modify(self, fd: Any, eventmask: int, /) -> None:
        self._real.modify(fd, eventmask)
        self._events[_fd(fd)] = eventmask

    def unregister(self, fd: Any, /) -> None:
        self._real.unregister(fd)
        del self._events[_fd(fd)]

    def poll(self, timeout: float | None = None, /) -> list[tuple[int, int]]:
        timeout = None if timeout is None or timeout < 0 else timeout
        if not _waits(timeout, _INT_MAX_MS):
            return self._real.poll(timeout)
        seconds = None if timeout is None else timeout / 1000
        found: list[tuple[int, int]] = _until(lambda: self._real.poll(0), self._entries, seconds)
        return found

    def _entries(self) -> list[tuple[int, int]]:
        return [
            (fd, (WRITABLE if mask & select.POLLOUT else 0) | READABLE)
            for fd, mask in self._events.items()
        ]


class Epoll:
    """select.epoll, whose type cannot be a base; itself a descriptor that can be waited for."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._real = _epoll(sizehint, flags)

    @classmethod
    def fromfd(cls, fd: int, /) -> Epoll:
        self = cls.__new__(cls)
        self._real = _epoll.fromfd(fd)
        return self

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)

    def __enter__(self) -> Epoll:
        self._real.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        tb: TracebackType | None = None,
    ) -> None:
        self._real.close()

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        seconds = None if timeout is None or timeout < 0 else timeout
        if not _waits(seconds):
            return self._real.poll(timeout, maxevents)  # type: ignore[no-any-return]
        found: list[tuple[int, int]] = _until(
            lambda: self._real.poll(0, maxevents),
            lambda: [(self._real.fileno(), READABLE)],
            seconds,
        )
        return found


def _watched(selector: selectors.BaseSelector) -> list[tuple[int, int]]:
    return [
        (
            key.fd,
            (READABLE if key.events & selectors.EVENT_READ else 0)
            | (WRITABLE if key.events & selectors.EVENT_WRITE else 0),
        )
        for key in selector.get_map().values()
    ]


def _selector_method(original: Callable[..., Any], longest: float) -> Callable[..., Any]:
    def select(self: Any, timeout: float | None = None) -> Any:
        if not _waits(timeout, longest):
            return original(self, timeout)
        return _until(lambda: original(self, 0), lambda: _watched(self), timeout)

    return select


def patch(patches: Patches) -> None:
    patches.replace(select, "select", cooperative_select)
    patches.replace(select, "poll", Poll)
    if _epoll is not None:
        patches.replace(select, "epoll", Epoll)
    for name in ("SelectSelector", "PollSelector", "EpollSelector"):
        cls = getattr(selectors, name, None)
        if cls is not None:
            longest = _TIME_T_MAX_S if name == "SelectSelector" else _INT_MAX_S
            patches.replace(cls, "select", _selector_method(cls.select, longest))
