"""What a worker that is its own load prints: operations, seconds, user and kernel CPU seconds."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable

SECONDS = float(os.environ.get("SECONDS_EACH", "3"))


def used() -> resource.struct_rusage:
    """CPU time to the microsecond, where os.times() counts hundredths of a second."""
    return resource.getrusage(resource.RUSAGE_SELF)


def report(run: Callable[[], int]) -> None:
    """`run` returns how many operations it did; its first call is not counted."""
    run()
    before, start, done = used(), time.perf_counter(), 0
    while time.perf_counter() - start < SECONDS:
        done += run()
    elapsed, after = time.perf_counter() - start, used()
    print(done, elapsed, after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime)
