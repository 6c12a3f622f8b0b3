"""Unchanged client libraries on greenlets, each against its real server."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Iterator
from typing import Any

import psycopg
import psycopg2
import pytest
import redis
import requests
import urllib3
from monkeys import CROWD, DELAY_S, TOGETHER_S, crowd, killed, on_greenlet, patched, slow_http

import puff
from puff.greenlet import GreenletExit

LONG_S = 20


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with slow_http() as url:
        yield url


def assert_together(answers: list[Any], expected: list[Any], seconds: float) -> None:
    assert answers == expected
    assert DELAY_S <= seconds < TOGETHER_S


def nonces() -> list[str]:
    return [secrets.token_hex(8) for _ in range(CROWD)]


# ---- requests and urllib3 ------------------------------------------------------------------------


def test_requests_wait_together(url: str) -> None:
    sent = nonces()

    def get(i: int) -> str:
        params = {"s": str(DELAY_S), "nonce": sent[i]}
        return requests.get(url, params=params, timeout=LONG_S).text

    answers, seconds = crowd(get)
    assert_together(answers, sent, seconds)


def test_requests_session_keeps_its_connections(url: str) -> None:
    with requests.Session() as session:

        def get(i: int) -> str:
            answers = [
                session.get(url, params={"s": "0.05", "nonce": f"{i}-{n}"}, timeout=LONG_S).text
                for n in range(3)
            ]
            return " ".join(answers)

        assert crowd(get, 10)[0] == [f"{i}-0 {i}-1 {i}-2" for i in range(10)]


def test_requests_timeout(url: str) -> None:
    def get() -> None:
        requests.get(url, params={"s": "5", "nonce": "x"}, timeout=0.2)

    with pytest.raises(requests.ReadTimeout):
        on_greenlet(get)


def test_requests_uploads_and_downloads_megabytes(url: str) -> None:
    body = secrets.token_bytes(3_000_000)
    answers, _ = crowd(lambda i: requests.post(url, data=body, timeout=LONG_S).content == body, 8)
    assert answers == [True] * 8


def test_requests_killed_while_waiting(url: str) -> None:
    ended = killed(lambda: requests.get(url, params={"s": str(LONG_S), "nonce": "x"}), after_s=0.3)
    assert isinstance(ended, GreenletExit)


def test_urllib3_pool_waits_together(url: str) -> None:
    sent = nonces()
    pool = urllib3.PoolManager(maxsize=CROWD)

    def get(i: int) -> str:
        answer = pool.request("GET", url, fields={"s": str(DELAY_S), "nonce": sent[i]})
        return answer.data.decode()

    answers, seconds = crowd(get)
    assert_together(answers, sent, seconds)
    pool.clear()


# ---- redis-py ------------------------------------------------------------------------------------


def test_redis_blpop_waits_together(redis_url: str) -> None:
    key = f"monkey:{secrets.token_hex(8)}:"
    sent = nonces()
    client = redis.Redis.from_url(redis_url, max_connections=CROWD + 1)

    def pop(i: int) -> bytes:
        return client.blpop([f"{key}{i}"], timeout=LONG_S)[1]

    def push_all() -> None:
        puff.sleep_ms(int(DELAY_S * 1000))
        for i, nonce in enumerate(sent):
            client.rpush(f"{key}{i}", nonce)

    def each(i: int) -> Any:
        return push_all() if i == CROWD else pop(i)

    answers, seconds = crowd(each, CROWD + 1)
    assert_together(answers[:-1], [nonce.encode() for nonce in sent], seconds)
    client.close()


def test_redis_timeout_and_kill(redis_url: str) -> None:
    client = redis.Redis.from_url(redis_url, socket_timeout=0.2)
    with pytest.raises(redis.TimeoutError):
        on_greenlet(lambda: client.blpop(["monkey:never"], timeout=5))
    patient = redis.Redis.from_url(redis_url)
    ended = killed(lambda: patient.blpop(["monkey:never"], timeout=LONG_S), after_s=0.2)
    assert isinstance(ended, GreenletExit)
    assert on_greenlet(patient.ping)
    client.close()
    patient.close()


def test_redis_pubsub(redis_url: str) -> None:
    channel = f"monkey:{secrets.token_hex(8)}"
    client = redis.Redis.from_url(redis_url)

    heard: list[bytes] = []

    def listen() -> None:
        with client.pubsub() as pubsub:
            pubsub.subscribe(channel)
            heard.append(next(m["data"] for m in pubsub.listen() if m["type"] == "message"))

    def publish() -> None:
        while len(heard) < 5:
            client.publish(channel, "word")
            puff.sleep_ms(10)

    crowd(lambda i: listen() if i < 5 else publish(), 6)
    assert heard == [b"word"] * 5
    client.close()


# ---- psycopg2 and psycopg 3 ----------------------------------------------------------------------

SLEEPERS = 20  # connections


@pytest.mark.parametrize("driver", [psycopg2, psycopg], ids=["psycopg2", "psycopg"])
class TestPostgres:
    def test_queries_wait_together(self, driver: Any, postgres_url: str) -> None:
        sent = nonces()[:SLEEPERS]

        def query(i: int) -> str:
            connection = driver.connect(postgres_url)
            try:
                cursor = connection.cursor()
                cursor.execute("select %s::text, pg_sleep(%s)", (sent[i], DELAY_S))
                return cursor.fetchone()[0]
            finally:
                connection.close()

        answers, seconds = crowd(query, SLEEPERS)
        assert_together(answers, sent, seconds)

    def test_error_and_next_query(self, driver: Any, postgres_url: str) -> None:
        def work() -> Any:
            connection = driver.connect(postgres_url)
            cursor = connection.cursor()
            with pytest.raises(driver.Error):
                cursor.execute("select 1/0")
            connection.rollback()
            cursor.execute("select generate_series(1, 10000)")
            n = len(cursor.fetchall())
            connection.close()
            return n

        assert on_greenlet(work) == 10000

    def test_killed_while_waiting(self, driver: Any, postgres_url: str) -> None:
        connection = driver.connect(postgres_url)

        def work() -> None:
            connection.cursor().execute("select pg_sleep(20)")

        assert isinstance(killed(work, after_s=0.2), GreenletExit)
        connection.close()

    def test_statement_timeout(self, driver: Any, postgres_url: str) -> None:
        def work() -> None:
            connection = driver.connect(postgres_url)
            try:
                cursor = connection.cursor()
                cursor.execute("set statement_timeout = 100")
                cursor.execute("select pg_sleep(20)")
            finally:
                connection.close()

        with pytest.raises(driver.Error, match="statement timeout"):
            on_greenlet(work)

    def test_threads_and_scripts_block_as_ever(self, driver: Any, postgres_url: str) -> None:
        found = []

        def work() -> None:
            connection = driver.connect(postgres_url)
            cursor = connection.cursor()
            cursor.execute("select 42, pg_sleep(0.05)")
            found.append(cursor.fetchone()[0])
            connection.close()

        thread = threading.Thread(target=work)
        thread.start()
        thread.join(10)
        work()
        assert found == [42, 42]
