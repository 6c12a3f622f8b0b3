"""What a loop says of itself: `loop.stats()`.

async def main():
    puff_loop = asyncio.get_running_loop()
    await asyncio.sleep(0.1)
    stats = puff_loop.stats()
    assert stats.idle_s > 0.09
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LoopStats"]


class LoopStats(NamedTuple):
    """Counters of a loop since it was made; `loop.stats()` makes one."""

    iterations: int  # turns of the loop
    waits: int  # turns that slept for an event
    idle_s: float  # how long it slept, in seconds
    ready: int  # callbacks that are queued now
    timers: int  # timers that are scheduled now
    slowest_s: float  # how long the slowest callback took, in seconds
    slowest: str | None  # which it was, if it took a millisecond or more
