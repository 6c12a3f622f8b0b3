"""Locks, events, semaphores and queues for coroutines, greenlets and threads at once.

    lock, jobs = puff.Lock(), puff.Queue(maxsize=100)

    def in_a_greenlet_or_thread():
        with lock:
            jobs.put("job")

    async def in_a_coroutine():
        async with lock:
            await jobs.put("job")

docs/sync.md has the rules.
"""

from __future__ import annotations

from puff._bind.condition import Condition
from puff._bind.queues import (
    LifoQueue,
    PriorityQueue,
    Queue,
    QueueEmpty,
    QueueFull,
    QueueShutDown,
)
from puff._bind.sync import BoundedSemaphore, Event, Lock, RLock, Semaphore

__all__ = [
    "BoundedSemaphore", "Condition", "Event", "LifoQueue", "Lock", "PriorityQueue", "Queue",
    "QueueEmpty", "QueueFull", "QueueShutDown", "RLock", "Semaphore",
]  # fmt: skip
