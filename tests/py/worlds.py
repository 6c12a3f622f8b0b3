"""A puff call in each of the worlds of docs/worlds.md, within a bound."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

import puff

LIMIT_S = 20.0


async def awaited(call: Callable[[], Any]) -> Any:
    return await call()


def on_loop(coro: Any) -> Any:
    """Runs a coroutine on a loop of ours, within the bound."""

    async def bounded() -> Any:
        return await asyncio.wait_for(coro, LIMIT_S)

    return puff.run(bounded())


def in_coroutine(call: Callable[[], Any]) -> Any:
    return on_loop(awaited(call))


def in_greenlet(call: Callable[[], Any]) -> Any:
    return on_loop(awaited(lambda: puff.spawn(call).join()))


def in_bridge(call: Callable[[], Any]) -> Any:
    return on_loop(awaited(lambda: puff.to_greenlet(call)))


def in_thread(call: Callable[[], Any]) -> Any:
    return on_loop(asyncio.to_thread(call))


def in_script(call: Callable[[], Any]) -> Any:
    return call()


EVERY = [in_coroutine, in_greenlet, in_bridge, in_thread, in_script]
SYNC = EVERY[1:]

every_world = pytest.mark.parametrize("world", EVERY, ids=lambda w: w.__name__[3:])
sync_worlds = pytest.mark.parametrize("world", SYNC, ids=lambda w: w.__name__[3:])


def refused_on_foreign_loop(call: Callable[[], Any]) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"puff\.run\(main\(\)\)"):
            call()

    asyncio.run(main())


def script(text: str, **env: str) -> list[str]:
    """Runs a Python program in a process of its own; the words that it printed."""
    done = subprocess.run(
        [sys.executable, "-c", text], env=os.environ | env, capture_output=True, timeout=30
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode().split()
