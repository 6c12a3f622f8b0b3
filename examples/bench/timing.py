"""What a worker that is its own load prints: operations, seconds, user and kernel CPU seconds."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

SECONDS = float(os.environ.get("SECONDS_EACH", "3"))


def report(run: Callable[[], int]) -> None:
    """`run` returns how many operations it did; its first call is not counted."""
    run()
    before, start, done = os.times(), time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        done += run()
    elapsed, after = time.perf_counter() - start, os.times()
    print(done, elapsed, after.user - before.user, after.system - before.system, flush=True)
