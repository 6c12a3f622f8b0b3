"""The green row of docs/worlds.md: each call in a coroutine, a greenlet, sync code of a task, a
thread and a script, and refused with the fix on a foreign loop.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from worlds import every_world, refused_on_foreign_loop

import puff
from puff import config
from puff.postgres import named_client as named_postgres
from puff.redis import named_client as named_redis


@pytest.fixture
def servers(tmp_path: Path, postgres_url: str, redis_url: str) -> Iterator[None]:
    path = tmp_path / "puff.toml"
    path.write_text(
        f'[[postgres]]\nname = "every"\nurl = "{postgres_url}"\n'
        f'[[redis]]\nname = "every"\nurl = "{redis_url}"\n'
    )
    config.use(config.load(path))
    yield
    config.use(None)


def full_queue() -> puff.Queue[int]:
    queue: puff.Queue[int] = puff.Queue(1)
    queue.put_nowait(7)
    return queue


CALLS: dict[str, tuple[Callable[[], Any], Any]] = {
    "sleep_ms": (lambda: puff.sleep_ms(1), None),
    "spawn": (lambda: puff.spawn(int, "7").join(), 7),
    "join_all": (lambda: puff.join_all([puff.spawn(int, "7")]), [7]),
    "spawn_blocking": (lambda: puff.spawn_blocking(int, "7").join(), 7),
    "blocking": (lambda: puff.blocking(int)("7"), 7),
    "wrap_async": (lambda: puff.wrap_async(lambda ret: ret(7)), 7),
    "read_file_bytes": (lambda: puff.read_file_bytes("/dev/null"), b""),
    "Lock": (lambda: puff.Lock().acquire(), True),
    "Semaphore": (lambda: puff.Semaphore().acquire(), True),
    "Event": (lambda: puff.Event().wait(timeout=0.001), False),
    "Queue": (lambda: full_queue().get(), 7),
}
CLIENT_CALLS: dict[str, tuple[Callable[[], Any], Any]] = {
    "postgres": (lambda: named_postgres("every").fetchval("select 7"), 7),
    "redis": (lambda: named_redis("every").echo("seven"), b"seven"),
}


@every_world
@pytest.mark.parametrize("name", CALLS)
def test_a_primitive_in_every_world(world: Callable[..., Any], name: str) -> None:
    call, value = CALLS[name]
    assert world(call) == value


@every_world
@pytest.mark.parametrize("name", CLIENT_CALLS)
def test_a_client_in_every_world(world: Callable[..., Any], name: str, servers: None) -> None:
    call, value = CLIENT_CALLS[name]
    assert world(call) == value


@pytest.mark.parametrize("name", sorted({*CALLS} - {"spawn", "join_all"}))
def test_a_primitive_on_a_foreign_loop(name: str) -> None:
    refused_on_foreign_loop(CALLS[name][0])


@pytest.mark.parametrize("name", CLIENT_CALLS)
def test_a_client_on_a_foreign_loop(name: str, servers: None) -> None:
    refused_on_foreign_loop(CLIENT_CALLS[name][0])
