"""200 greenlets share a client that was written for threads: each gets its own answers."""

from __future__ import annotations

import queue
import secrets
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psycopg
import psycopg2.pool
import psycopg_pool
import pytest
import redis
import requests
import requests.adapters
import urllib3
from mariadb import server as mariadb
from monkeys import crowd, patched, slow_http

N = 200
ROUNDS = 5
CONNECTIONS = 10  # of the pools that are bounded: 200 wait for them
LONG_S = 60


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with slow_http() as url:
        yield url


def assert_answered(ask: Callable[[str], Any], rounds: int = ROUNDS) -> None:
    """Each greenlet asks for a nonce of its own at a time."""

    def work(i: int) -> list[tuple[str, Any]]:
        sent = [f"{i}-{n}-{secrets.token_hex(8)}" for n in range(rounds)]
        return [(nonce, answer) for nonce in sent if (answer := ask(nonce)) != nonce]

    assert [wrong for wrong in crowd(work, N)[0] if wrong] == []


# ---- HTTP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("block", [False, True], ids=["any number", "bounded"])
def test_requests(url: str, block: bool) -> None:
    with requests.Session() as session:
        session.mount(
            "http://", requests.adapters.HTTPAdapter(pool_maxsize=CONNECTIONS, pool_block=block)
        )

        def get(nonce: str) -> str:
            return session.get(url, params={"s": "0", "nonce": nonce}, timeout=LONG_S).text

        assert_answered(get, 2)


def test_urllib3(url: str) -> None:
    with urllib3.PoolManager(maxsize=CONNECTIONS, block=True) as pool:

        def get(nonce: str) -> str:
            return pool.request("GET", url, fields={"s": "0", "nonce": nonce}).data.decode()

        assert_answered(get)


def test_httpx(url: str) -> None:
    limits = httpx.Limits(max_connections=CONNECTIONS)
    with httpx.Client(limits=limits, timeout=LONG_S) as client:

        def get(nonce: str) -> str:
            return client.get(url, params={"s": "0", "nonce": nonce}).text

        assert_answered(get, 1)  # on threads it loses some of so many


def test_transfers_by_an_executor_as_boto3_makes_them(url: str) -> None:
    """s3transfer's way: threads do the parts, and whoever asked waits for their futures."""
    with ThreadPoolExecutor(CONNECTIONS) as pool, urllib3.PoolManager(maxsize=CONNECTIONS) as http:

        def part(nonce: str) -> str:
            return http.request("GET", url, fields={"s": "0", "nonce": nonce}).data.decode()

        assert_answered(lambda nonce: pool.submit(part, nonce).result(LONG_S), 2)


# ---- Redis ---------------------------------------------------------------------------------------


def own_connections(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, max_connections=N)  # redis-py 8 makes 100, and then raises


def blocking_pool(url: str) -> redis.Redis:
    return redis.Redis(
        connection_pool=redis.BlockingConnectionPool.from_url(
            url, max_connections=CONNECTIONS, timeout=LONG_S
        )
    )


@pytest.mark.parametrize("make", [own_connections, blocking_pool])
@pytest.mark.parametrize("protocol", [2, 3])
def test_redis(redis_url: str, make: Callable[[str], redis.Redis], protocol: int) -> None:
    with make(f"{redis_url}?protocol={protocol}") as client:

        def ask(nonce: str) -> str:
            with client.pipeline() as pipe:
                pipe.set(f"monkey:{nonce}", nonce, ex=60)
                pipe.get(f"monkey:{nonce}")
                first = pipe.execute()[1].decode()
            assert client.echo(first).decode() == nonce
            return client.getdel(f"monkey:{nonce}").decode()

        assert_answered(ask)


# ---- SQL -----------------------------------------------------------------------------------------


def query(connection: Any, nonce: str) -> str:
    with connection.cursor() as cursor:
        cursor.execute("select %s, pg_sleep(0.001)", (nonce,))
        return cursor.fetchone()[0]


def test_psycopg_pool(postgres_url: str) -> None:
    with psycopg_pool.ConnectionPool(postgres_url, min_size=2, max_size=CONNECTIONS) as pool:

        def ask(nonce: str) -> str:
            with pool.connection(LONG_S) as connection:
                return query(connection, nonce)

        assert_answered(ask)


@pytest.mark.parametrize("driver", [psycopg, psycopg2], ids=["psycopg", "psycopg2"])
def test_a_connection_each_time(driver: Any, postgres_url: str) -> None:
    places = threading.Semaphore(CONNECTIONS)

    def ask(nonce: str) -> str:
        with places:
            connection = driver.connect(postgres_url)
            try:
                return query(connection, nonce)
            finally:
                connection.close()

    assert_answered(ask, 1)


def test_psycopg2_pool(postgres_url: str) -> None:
    pool = psycopg2.pool.ThreadedConnectionPool(CONNECTIONS, CONNECTIONS, postgres_url)
    places = threading.Semaphore(CONNECTIONS)  # the pool raises where it should wait

    def ask(nonce: str) -> str:
        with places:
            connection = pool.getconn()
            try:
                return query(connection, nonce)
            finally:
                pool.putconn(connection)

    assert_answered(ask)
    pool.closeall()


def test_pymysql(tmp_path: Path) -> None:
    pymysql = pytest.importorskip("pymysql")
    idle: queue.Queue[Any] = queue.Queue()
    with mariadb(tmp_path) as database:
        for _ in range(CONNECTIONS):
            idle.put(pymysql.connect(unix_socket=database.socket, user="root"))

        def ask(nonce: str) -> str:
            connection = idle.get(timeout=LONG_S)
            try:
                with connection.cursor() as cursor:
                    cursor.execute("select %s, sleep(0.001)", (nonce,))
                    return cursor.fetchone()[0]
            finally:
                idle.put(connection)

        assert_answered(ask)
        while not idle.empty():
            idle.get().close()
