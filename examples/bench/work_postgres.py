"""work_postgres.py CLIENT select|rows URL - prints operations, seconds, user and kernel CPU."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

CALLERS = 64
SECONDS = float(os.environ.get("SECONDS_EACH", "3"))
client, case, url = sys.argv[1:]
Fetch = Callable[..., Awaitable[Any]]
SELECT = "select balance from bench where id = $1"


async def puff_fetch() -> tuple[Fetch, Fetch]:
    os.environ["PUFF_DEFAULT_POSTGRES_URL"] = url
    from puff.postgres import global_postgres as pg

    return pg.fetchval, pg.fetch


async def asyncpg_fetch(reset: bool) -> tuple[Fetch, Fetch]:
    import asyncpg

    async def nothing(_: Any) -> None:
        pass

    options = {} if reset else {"reset": nothing}
    pool = await asyncpg.create_pool(url, min_size=10, max_size=10, **options)
    return pool.fetchval, pool.fetch


async def psycopg_fetch() -> tuple[Any, Any]:
    from psycopg_pool import AsyncConnectionPool

    pool = AsyncConnectionPool(url, min_size=10, max_size=10, open=False)
    await pool.open(wait=True)

    async def fetchval(sql: str, *args: Any) -> Any:
        async with pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql.replace("$1", "%s"), args or None)
            row = await cursor.fetchone()
            return row and row[0]

    async def fetch(sql: str) -> Any:
        async with pool.connection() as connection:
            cursor = connection.cursor(binary=True)
            await cursor.execute(sql)
            return await cursor.fetchall()

    return fetchval, fetch


async def main() -> None:
    if client == "puff":
        fetchval, fetch = await puff_fetch()
    elif client.startswith("asyncpg"):
        fetchval, fetch = await asyncpg_fetch(reset="no reset" not in client)
    else:
        fetchval, fetch = await psycopg_fetch()
    done = 0
    deadline = 0.0

    async def select_caller(n: int) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            n = n % 1000 + 1
            assert await fetchval(SELECT, n) == n
            done += 1

    async def rows_caller(_: int) -> None:
        nonlocal done
        while time.perf_counter() < deadline:
            done += len(await fetch("select id, balance from bench_rows"))

    async def run(seconds: float) -> None:
        nonlocal done, deadline
        done, deadline = 0, time.perf_counter() + seconds
        if case == "select":
            await asyncio.gather(*[select_caller(n * 13) for n in range(CALLERS)])
        else:
            await rows_caller(0)

    await run(0.5)
    before, start = os.times(), time.perf_counter()
    await run(SECONDS)
    elapsed, after = time.perf_counter() - start, os.times()
    print(done, elapsed, after.user - before.user, after.system - before.system)
    sys.stdout.flush()
    os._exit(0)  # a pool's farewell is not what is measured


if client == "puff":
    import puff

    puff.run(main())
else:
    import uvloop

    uvloop.run(main())
