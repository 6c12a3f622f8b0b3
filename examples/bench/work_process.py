"""work_process.py LOOP - children that are started and waited for, one after the other.

The CPU time is the loop's own; that of /bin/true is the same for all.
"""

from __future__ import annotations

import asyncio
import sys

from loops import factory
from timing import report

N = 20
loop = factory(sys.argv[1])()
asyncio.set_event_loop(loop)


async def spawn() -> int:
    for _ in range(N):
        process = await asyncio.create_subprocess_exec("/bin/true")
        await process.wait()
    return N


report(lambda: loop.run_until_complete(spawn()))
