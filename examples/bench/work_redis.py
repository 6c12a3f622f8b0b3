"""work_redis.py CLIENT get|set PORT - prints operations, seconds, user and kernel CPU seconds."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any

CALLERS = 64
SECONDS = float(os.environ.get("SECONDS_EACH", "3"))
client, case, port = sys.argv[1], sys.argv[2], int(sys.argv[3])


async def connect() -> Any:
    if client == "puff":
        os.environ["PUFF_DEFAULT_REDIS_URL"] = f"redis://127.0.0.1:{port}"
        from puff.redis import global_redis

        return global_redis
    if client == "redis-py":
        import redis.asyncio

        return redis.asyncio.Redis(port=port, max_connections=CALLERS)
    from glide import GlideClient, GlideClientConfiguration, NodeAddress

    return await GlideClient.create(GlideClientConfiguration([NodeAddress("127.0.0.1", port)]))


async def main() -> None:
    connection = await connect()
    await connection.set("bench", "x" * 64)
    done, deadline = 0, 0.0

    async def caller() -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            if case == "get":
                await connection.get("bench")
            else:
                await connection.set("bench", "y" * 64)
            done += 1

    async def run(seconds: float) -> None:
        nonlocal done, deadline
        done, deadline = 0, time.perf_counter() + seconds
        await asyncio.gather(*[caller() for _ in range(CALLERS)])

    await run(0.5)
    before, start = os.times(), time.perf_counter()
    await run(SECONDS)
    elapsed, after = time.perf_counter() - start, os.times()
    print(done, elapsed, after.user - before.user, after.system - before.system)
    sys.stdout.flush()
    os._exit(0)


if client == "puff":
    import puff

    puff.run(main())
else:
    import uvloop

    uvloop.run(main())
