"""asyncio's loop as the oracle: the same scenario on both loops, whose outcomes must be equal.

A scenario is a coroutine function that takes a loop and notes what happens. `outcome()` also says
what left the run and what the exception handler was told, and that the loop still works after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import puff

MAKERS: dict[str, Callable[[], asyncio.AbstractEventLoop]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "puff": puff.new_event_loop,
}
Scenario = Callable[[asyncio.AbstractEventLoop, list[Any]], Coroutine[Any, Any, object]]


def name_of(exc: BaseException | None) -> str | None:
    return None if exc is None else type(exc).__name__


def attempt(function: Callable[..., Any], *args: Any, **kwargs: Any) -> str:
    """The class of what it raises, or "ok"."""
    try:
        function(*args, **kwargs)
    except BaseException as exc:
        return type(exc).__name__
    return "ok"


def outcome(make: Callable[[], asyncio.AbstractEventLoop], scenario: Scenario) -> list[Any]:
    loop, notes, reported = make(), [], []  # type: ignore[var-annotated]

    def on_error(_: object, context: dict[str, Any]) -> None:
        message = context["message"].partition(" callback ")[0]  # whose names are private
        # Not asyncio's word on its own state, nor what comes when the collector does.
        if not (
            isinstance(context.get("exception"), AssertionError) or "never retrieved" in message
        ):
            reported.append((message, name_of(context.get("exception"))))

    loop.set_exception_handler(on_error)
    try:
        left = attempt(loop.run_until_complete, asyncio.wait_for(scenario(loop, notes), 10))
        assert "Timeout" not in left, notes
        _finish(loop)
        assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    finally:
        loop.close()
    return [left, notes, reported]


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    """Cancels what an exit has left behind, and lets it end."""
    left = asyncio.all_tasks(loop)
    for task in left:
        task.cancel()
    for _ in range(3):
        attempt(loop.run_until_complete, asyncio.sleep(0))
    if left:  # of none, gather() asks for a current loop
        attempt(loop.run_until_complete, asyncio.gather(*left, return_exceptions=True))


def same(scenario: Scenario) -> None:
    """Fails unless Puff's outcome is asyncio's."""
    expected, ours = (outcome(make, scenario) for make in MAKERS.values())
    assert ours == expected, f"asyncio {expected}\nPuff    {ours}"
