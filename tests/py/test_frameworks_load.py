"""Frameworks under load: 200 clients at once on one worker, some of whom leave midway.

Every answer carries its caller's nonce, so that one who sees another's data is found out; after the
load no descriptor is left of the connections there were.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import pytest
from rawhttp import Connection
from test_django import migrate, site_env

import puff

pytestmark = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors")

N_CLIENTS = 200
N_REQUESTS = 4  # of each client
LEAVE_EVERY = 5  # one client in so many goes away with its answer under way

FLASK = """
import os, time
import flask
from puff.redis import global_redis
from redis import BlockingConnectionPool, Redis

redis, url = global_redis, os.environ["PUFF_DEFAULT_REDIS_URL"]
if "REDIS_PY" in os.environ:  # a plain pool raises when more than 100 want a connection
    redis = Redis(connection_pool=BlockingConnectionPool.from_url(url, max_connections=20))
app = flask.Flask("load")

@app.route("/")
def view():
    nonce = flask.request.args["nonce"]
    redis.set("load:" + nonce, nonce, ex=60)
    time.sleep(int(nonce[-1]) / 1000)
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
                connection.send(f"GET {self.path}{nonce} HTTP/1.1\r\nhost: x\r\n\r\n")
                await asyncio.sleep(random.random() / 200)  # midway, anywhere
                connection.reset()
                connection = await self._connect()
                continue
            reply = await connection.get(f"{self.path}{nonce}")
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


@pytest.mark.parametrize("client", [{}, {"REDIS_PY": "1"}], ids=["puff", "redis-py"])
def test_flask_with_two_redis_calls(
    client: dict[str, str], puff_serve: Any, tmp_path: Path, puff_env: dict[str, str]
) -> None:
    pytest.importorskip("flask")
    (tmp_path / "load_flask.py").write_text(FLASK)
    serve = puff_serve(None, "--wsgi", "load_flask:app", "--monkey", env=puff_env | client)
    check(serve, "/?nonce=", both_nonces)


@pytest.mark.parametrize("path", ["/thread", "/greenlet"])
def test_fastapi_with_puffs_clients(
    puff_serve: Any, tmp_path: Path, puff_env: dict[str, str], path: str
) -> None:
    (tmp_path / "load_fastapi.py").write_text(FASTAPI)
    check(puff_serve("load_fastapi:app", env=puff_env), f"{path}?nonce=", both_nonces)


# Postgres lets this site have 20 connections: on greenlets 200 requests would have one each.
N_CONNECTIONS = 20
MONKEY = ["--monkey", "--wsgi-greenlets"]
POOL = {"SITE_OPTIONS": '{"pool": {"min_size": 2, "max_size": 8}}'}
DJANGO = {
    "threads": (["--wsgi-threads", "8"], {}),
    "greenlets": ([*MONKEY, "8"], {}),
    "greenlets that keep connections": ([*MONKEY, "8"], {"SITE_CONN_MAX_AGE": "60"}),
    "any number of greenlets, a pool": (["--monkey"], POOL),
}


def a_role_of_few_connections(url: str) -> str:
    """The URL for a role that has no more than N_CONNECTIONS, and what it needs."""
    name = f"site_{secrets.token_hex(6)}"
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            f"create role {name} login connection limit {N_CONNECTIONS}; "
            f"grant all on all tables in schema public to {name}; "
            f"grant all on all sequences in schema public to {name}"
        )
    return re.sub("//[^/]*@", f"//{name}@", url)


@pytest.mark.parametrize("how", DJANGO)
def test_django_with_three_queries(how: str, puff_serve: Any, postgres_url: str) -> None:
    flags, settings = DJANGO[how]
    migrate(site_env(SITE_POSTGRES=postgres_url))
    env = site_env(SITE_POSTGRES=a_role_of_few_connections(postgres_url), **settings)
    serve = puff_serve(None, "--wsgi", "django_site:application", *flags, env=env)
    path = "/orm/?hold=0.02&nonce="  # long enough for all to want a connection at once
    check(serve, path, lambda nonce: {"orm": nonce, "sql": nonce}, n_requests=2)
