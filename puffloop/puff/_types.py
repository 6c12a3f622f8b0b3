"""Types that say how a puff call is used."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Protocol, TypeVar, cast

__all__ = ["Reply", "value_of"]

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


class Reply(Awaitable[T_co], Protocol[T_co]):
    """What every I/O function of Puff returns, for type checkers.

    In a coroutine it is awaited. In a greenlet, a thread or a script the call has returned the
    value itself: Python's types
    cannot depend on the caller, so typed code says so with `value_of`.
    """


def value_of(reply: Reply[T]) -> T:
    """Return `reply` unchanged, typed as the value that it is outside coroutines.

    name: str = puff.value_of(pg.fetchval("select 'x'"))     # in a greenlet, a thread or a script
    """
    return cast(T, reply)
