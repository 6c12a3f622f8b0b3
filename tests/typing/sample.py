"""A user's program, for the type checkers only: mypy --strict and pyright must find nothing in it.

`assert_type` fails where a public function is typed as Any, or otherwise than documented.
"""

from __future__ import annotations

import asyncio
from typing import Any

from typing_extensions import assert_type

import puff
from puff.postgres import Postgres, Record, global_postgres as pg, named_client
from puff.redis import global_redis as redis


async def queries() -> int:
    rows = await pg.fetch("select id, title from posts where author = $1", 7, timeout_ms=500)
    assert_type(rows, list[Record])
    row = await pg.fetchrow("select 1 as one")
    assert_type(row, Record | None)
    value: int = await pg.fetchval("select 1")
    assert_type(await pg.execute("update posts set seen = true"), str)
    audit = named_client("audit")
    assert_type(audit, Postgres)
    return value + len(rows)


async def commands() -> bytes | None:
    await redis.set("name", "puff")
    assert_type(await redis.incr("visits"), int)
    return await redis.get("name")


def job(n: int, label: str = "") -> str:
    puff.sleep_ms(1)
    name: str = puff.value_of(pg.fetchval("select 'x'"))
    return f"{name}{label}{n}"


async def greenlets() -> None:
    one = puff.spawn(job, 1, label="a")
    assert_type(await one.join(), str)
    assert_type(await puff.join_all([one, puff.spawn(job, 2)]), list[str])


async def main() -> int:
    await greenlets()
    return await queries()


def loops() -> None:
    assert_type(puff.run(main()), int)
    assert_type(puff.new_event_loop(), puff.Loop)
    policy: asyncio.AbstractEventLoopPolicy = puff.Policy()
    loop: asyncio.AbstractEventLoop = policy.new_event_loop()
    task: asyncio.Task[Any] = loop.create_task(main())
    task.cancel()
    puff.install()
