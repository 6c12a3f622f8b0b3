"""PyMySQL, unchanged, on greenlets against a real MariaDB."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest
from mariadb import Database, server
from monkeys import DELAY_S, TOGETHER_S, crowd, killed, on_greenlet, patched

from puff.greenlet import GreenletExit

pymysql = pytest.importorskip("pymysql")
N = 20  # connections


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    with server(tmp_path_factory.mktemp("mariadb")) as database:
        yield database


@pytest.fixture(params=["tcp", "unix"])
def connect(request: pytest.FixtureRequest, database: Database) -> Any:
    where = {"host": "localhost", "port": database.port}
    if request.param == "unix":
        where = {"unix_socket": database.socket}
    return lambda **more: pymysql.connect(**where | {"user": "root"} | more)


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


def test_queries_wait_together(connect: Any) -> None:
    sent = [secrets.token_hex(8) for _ in range(N)]

    def query(i: int) -> str:
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("select %s, sleep(%s)", (sent[i], DELAY_S))
            return cursor.fetchone()[0]

    answers, seconds = crowd(query, N)
    assert answers == sent
    assert DELAY_S <= seconds < TOGETHER_S


def test_transactions_rows_and_errors(connect: Any) -> None:
    def work() -> None:
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("create database if not exists shop")
            cursor.execute("create or replace table shop.t (n int, b longblob)")
            cursor.execute("insert into shop.t values (1, %s)", (b"x" * 3_000_000,))
            connection.rollback()
            blob = secrets.token_bytes(3_000_000)
            cursor.execute("insert into shop.t values (2, %s)", (blob,))
            connection.commit()
            with pytest.raises(pymysql.err.MySQLError):
                cursor.execute("select nothing from shop.t")
            cursor.execute("select n, b from shop.t")
            assert cursor.fetchall() == ((2, blob),)

    on_greenlet(work)


def test_an_unbuffered_cursor_shares_the_loop(connect: Any) -> None:
    def count(i: int) -> int:
        with connect() as connection, connection.cursor(pymysql.cursors.SSCursor) as cursor:
            cursor.execute("create database if not exists shop")
            cursor.execute("select seq from shop.seq_1_to_20000")
            return sum(1 for _ in cursor)

    assert crowd(count, 5)[0] == [20000] * 5


def test_read_timeout(connect: Any) -> None:
    def work() -> None:
        with connect(read_timeout=1) as connection, connection.cursor() as cursor:
            cursor.execute("select sleep(20)")

    begun = time.monotonic()
    with pytest.raises(pymysql.err.OperationalError, match="timed out"):
        on_greenlet(work)
    assert time.monotonic() - begun < 10


def test_killed_while_waiting(connect: Any) -> None:
    def work() -> None:
        connect().cursor().execute("select sleep(20)")

    assert isinstance(killed(work, after_s=0.3), GreenletExit)


def test_threads_and_scripts_block_as_ever(connect: Any) -> None:
    found = []

    def work() -> None:
        with connect() as connection, connection.cursor() as cursor:
            cursor.execute("select 42, sleep(0.05)")
            found.append(cursor.fetchone()[0])

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(20)
    work()
    assert found == [42, 42]
