"""A Python frame for code that has none."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

__all__ = ["in_frame"]

T = TypeVar("T")
R = TypeVar("R")


def in_frame(function: Callable[[T], R], argument: T) -> R:
    """Calls it. On a greenlet that runs C functions alone asyncio's debug mode, which notes where a
    Future was made, finds this frame at least."""
    return function(argument)
