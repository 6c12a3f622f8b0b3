"""Frameworks under load: 200 clients at once on one worker, some of whom leave midway.

Every answer carries its caller's nonce, so that one who sees another's data is found out; after the
load no descriptor is left of the connections there were.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from rawhttp import Connection
from test_django import migrate, site_env

import puff

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors")

N_CLIENTS = 200
N_REQUESTS = 4  # of each client
LEAVE_EVERY = 5  # one client in so many goes away with its answer under way

FLASK = """
import flask
import puff
from puff.redis import global_redis as redis

app = flask.Flask("load")

@app.route("/")
def view():
    nonce = flask.request.args["nonce"]
    redis.set("load:" + nonce, nonce, ex=60)
    puff.sleep_ms(int(nonce[-1]))
    return {"nonce": flask.request.args["nonce"], "found": redis.get("load:" + nonce).decode()}
"""

FASTAPI = """
import fastapi
import puff
from puff.postgres import global_postgres as pg
from puff.redis import global_redis as redis

app = fastapi.FastAPI()

def look(nonce: str) -> dict:
    redis.set("load:" + nonce, nonce, ex=60)
    found = pg.fetchval("select $1::text from pg_sleep($2)", nonce, int(nonce[-1]) / 1000)
    return {"nonce": found, "found": redis.get("load:" + nonce).decode()}

@app.get("/thread")
def in_a_thread(nonce: str):
    return look(nonce)

@app.get("/greenlet")
async def on_a_greenlet(nonce: str):
    return await puff.to_greenlet(look, nonce)
"""


@dataclass
class Load:
    """Clients of one server, each with a connection that it keeps while it may."""

    address: tuple[str, int]
    path: str
    expected: Callable[[str], object]
    n_requests: int = N_REQUESTS
    wrong: list[object] = field(default_factory=list)
    n_answers: int = 0

    async def client(self, number: int) -> None:
        connection = await self._connect()
        for turn in range(self.n_requests):
            nonce = f"{number}x{turn}x{random.randrange(10**6)}"
            if number % LEAVE_EVERY == 0 and turn % 2 == 1:
                connection.send(f"GET {self.path}?nonce={nonce} HTTP/1.1\r\nhost: x\r\n\r\n")
                await asyncio.sleep(random.random() / 200)  # midway, anywhere
                connection.reset()
                connection = await self._connect()
                continue
            reply = await connection.get(f"{self.path}?nonce={nonce}")
            if reply.status != 200 or json.loads(reply.body) != self.expected(nonce):
                self.wrong.append((nonce, reply))
            self.n_answers += 1
        connection.close()

    async def _connect(self) -> Connection:
        return Connection(*await asyncio.open_connection(*self.address))

    async def run(self) -> None:
        await asyncio.wait_for(asyncio.gather(*map(self.client, range(N_CLIENTS))), 40)


def n_descriptors(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def both_nonces(nonce: str) -> object:
    return {"nonce": nonce, "found": nonce}


def check(
    serve: Any, path: str, expected: Callable[[str], object], n_requests: int = N_REQUESTS
) -> None:
    """Two rounds: what the first leaves open (pools, threads) the second must not add to."""
    after = []
    for _ in range(2):
        load = Load(serve.address, path, expected, n_requests)
        puff.run(load.run())
        assert load.wrong == []
        assert load.n_answers == N_CLIENTS * n_requests - N_CLIENTS // LEAVE_EVERY * (
            n_requests // 2
        )
        after.append(_settled(serve.process.pid, min(after, default=0)))
    assert after[1] <= after[0] + 2, "descriptors leak"
    assert serve.stop() == 0
    assert "Traceback" not in serve.output, serve.output


def _settled(pid: int, aim: int) -> int:
    """The number of descriptors once it falls to the aim, or once it has been still for a while."""
    deadline, still, last = time.monotonic() + 5, 0, -1
    while time.monotonic() < deadline and still < 10:
        now = n_descriptors(pid)
        if aim and now <= aim:
            return now
        still, last = (still + 1, now) if now == last else (0, now)
        time.sleep(0.03)
    return last


def test_flask_with_redis(puff_serve: Any, tmp_path: Path, puff_env: dict[str, str]) -> None:
    pytest.importorskip("flask")
    (tmp_path / "load_flask.py").write_text(FLASK)
    serve = puff_serve(None, "--wsgi", "load_flask:app", env=puff_env)
    check(serve, "/", both_nonces)


@pytest.mark.parametrize("path", ["/thread", "/greenlet"])
def test_fastapi_with_puffs_clients(
    puff_serve: Any, tmp_path: Path, puff_env: dict[str, str], path: str
) -> None:
    (tmp_path / "load_fastapi.py").write_text(FASTAPI)
    check(puff_serve("load_fastapi:app", env=puff_env), path, both_nonces)


# On threads: on greenlets each request has a connection of its own, and 200 at once were more than
# the server has (two of 400 got a 500, once asgiref's Local was per flow). docs/worlds.md says so.
def test_django_with_three_queries(puff_serve: Any, tmp_path: Path, postgres_url: str) -> None:
    pytest.importorskip("psycopg")
    env = site_env(SITE_POSTGRES=postgres_url)
    migrate(env)
    serve = puff_serve(None, "--wsgi", "django_site:application", "--wsgi-threads", "8", env=env)
    # Few requests: Django opens a Postgres connection for each, which costs a process there.
    check(serve, "/orm/", lambda nonce: {"orm": nonce, "sql": nonce}, n_requests=2)
