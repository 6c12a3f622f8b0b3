"""puff.postgres against a real Postgres, from every world."""

from __future__ import annotations

import asyncio
import datetime as dt
import enum
import socket
import struct
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from decimal import Decimal
from typing import Any

import pytest
from conftest import PrivateServer, RunPython

import puff
from puff import config, errors
from puff.postgres import Postgres, Record, named_client

UTC = dt.timezone.utc


@pytest.fixture
def pg(postgres_url: str) -> Iterator[Postgres]:
    config.use(config.load(overrides={"default-postgres-url": postgres_url}))
    yield Postgres("default")
    config.use(None)


def run(main: Callable[[], Awaitable[Any]]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(main(), 30)

    return puff.run(bounded())


def use_url(url: str, **options: Any) -> Postgres:
    settings = config.load(overrides={"default-postgres-url": url})
    settings.file.postgres = [config.schema.Postgres(name="default", **options)]
    config.use(settings)
    return Postgres("default")


# ---- worlds --------------------------------------------------------------------------------------


def test_every_world_gets_the_same_answer(pg: Postgres) -> None:
    async def main() -> None:
        assert await pg.fetchval("select 41 + 1") == 42
        assert await puff.spawn(lambda: pg.fetchval("select 41 + 1")).join() == 42
        assert await asyncio.to_thread(pg.fetchval, "select 41 + 1") == 42

    run(main)
    assert pg.fetchval("select 41 + 1") == 42


def test_the_time_a_script_does_other_things_is_not_waited(postgres_url: str) -> None:
    pg = use_url(postgres_url, queue_timeout_ms=1000, query_timeout_ms=1000)
    assert pg.fetchval("select 1") == 1
    time.sleep(1.1)  # longer than a call may wait
    assert pg.fetchval("select 1") == 1


def test_a_coroutine_that_blocked_is_given_its_time(postgres_url: str) -> None:
    pg = use_url(postgres_url, queue_timeout_ms=1000, query_timeout_ms=1000)

    async def main() -> None:
        time.sleep(1.1)
        assert await pg.fetchval("select 1") == 1

    run(main)


def test_gather_of_many_callers_keeps_answers_apart(pg: Postgres) -> None:
    async def main() -> None:
        calls = [pg.fetchval("select $1::int from pg_sleep(0)", n) for n in range(500)]
        assert await asyncio.gather(*calls) == list(range(500))
        stats = pg.stats()
        assert stats is not None and stats["n_lanes"] <= 4
        assert stats["n_flushes"] < 400  # many queries to a flush

    run(main)


def test_greenlets_run_queries_side_by_side(pg: Postgres) -> None:
    def job(n: int) -> int:
        total = 0
        for i in range(5):
            total += puff.value_of(pg.fetchval("select $1::int * $2::int", n, i))
        return total

    async def main() -> None:
        results = await puff.join_all([puff.spawn(job, n) for n in range(50)])
        assert results == [n * 10 for n in range(50)]

    run(main)


def test_named_client_is_one_object_and_unknown_names_are_told(pg: Postgres) -> None:
    assert named_client("nowhere") is named_client("nowhere")
    with pytest.raises(errors.ConfigError, match="nowhere"):
        named_client("nowhere").fetchval("select 1")


# ---- rows ----------------------------------------------------------------------------------------


def test_record_is_a_tuple_with_names(pg: Postgres) -> None:
    row = puff.value_of(pg.fetchrow("select 1 as one, 'x' as two, null as three"))
    assert isinstance(row, Record)
    assert (row[0], row["two"], row[-1], row[0:2], len(row)) == (1, "x", None, (1, "x"), 3)
    assert (
        list(row) == [1, "x", None] and row == (1, "x", None) and hash(row) == hash((1, "x", None))
    )
    assert row.keys() == ("one", "two", "three") and dict(row) == {
        "one": 1,
        "two": "x",
        "three": None,
    }
    assert row.items() == [("one", 1), ("two", "x"), ("three", None)]
    assert "one" in row and "four" not in row and row.get("four", 4) == 4
    assert repr(row) == "<Record {'one': 1, 'two': 'x', 'three': None}>"
    with pytest.raises(KeyError):
        row["four"]
    with pytest.raises(IndexError):
        row[3]


def test_no_rows_and_no_columns(pg: Postgres) -> None:
    assert pg.fetch("select 1 where false") == []
    assert pg.fetchrow("select 1 where false") is None
    assert pg.fetchval("select 1 where false") is None
    assert pg.fetch("select from generate_series(1, 2)") == [(), ()]
    assert pg.execute("create temp table if not exists t_none (a int)") == "CREATE TABLE"


def test_fetching_many_rows(pg: Postgres) -> None:
    rows = puff.value_of(pg.fetch("select n, n::text as t from generate_series(1, 10000) n"))
    assert len(rows) == 10000 and rows[-1]["t"] == "10000"


# ---- types ---------------------------------------------------------------------------------------

# (SQL type, its text in SQL, the Python value of it)
VALUES: list[tuple[str, str, Any]] = [
    ("bool", "true", True),
    ("int2", "-32768", -(2**15)),
    ("int4", "2147483647", 2**31 - 1),
    ("int8", "-9223372036854775808", -(2**63)),
    ("oid", "4294967295", 2**32 - 1),
    ("float4", "0.5", 0.5),
    ("float8", "1e300", 1e300),
    ("float8", "-Infinity", float("-inf")),
    ("numeric", "0", Decimal("0")),
    (
        "numeric",
        "-123456789012345678901234567890.00001000",
        Decimal("-123456789012345678901234567890.00001000"),
    ),
    ("numeric", "0.000000000000000000001", Decimal("1e-21")),
    ("numeric", "10000", Decimal("10000")),
    ("numeric", "1e40", Decimal("1" + "0" * 40)),
    ("text", "grüße ✓", "grüße ✓"),
    ("text", "", ""),
    ("varchar", "x", "x"),
    ("bytea", "\\x00ff10", b"\x00\xff\x10"),
    (
        "uuid",
        "6ba7b810-9dad-11d1-80b4-00c04fd430c8",
        uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8"),
    ),
    ("date", "2024-02-29", dt.date(2024, 2, 29)),
    ("date", "0001-01-01", dt.date(1, 1, 1)),
    ("date", "9999-12-31", dt.date(9999, 12, 31)),
    ("time", "23:59:59.999999", dt.time(23, 59, 59, 999999)),
    (
        "timetz",
        "12:30:00+05:30",
        dt.time(12, 30, tzinfo=dt.timezone(dt.timedelta(hours=5, minutes=30))),
    ),
    ("timestamp", "1999-12-31 23:59:59.5", dt.datetime(1999, 12, 31, 23, 59, 59, 500000)),
    ("timestamptz", "2024-07-01 12:00:00+02", dt.datetime(2024, 7, 1, 10, tzinfo=UTC)),
    ("interval", "-1 day 02:03:04.5", dt.timedelta(days=-1, hours=2, minutes=3, seconds=4.5)),
    ("json", '{"a": [1, null, "x"]}', {"a": [1, None, "x"]}),
    ("jsonb", '"text"', "text"),
    ("jsonb", "123456789012345678901234567890", 123456789012345678901234567890),
    ("int4[]", "{1,NULL,3}", [1, None, 3]),
    ("int4[]", "{}", []),
    ("int4[]", "{{1,2},{3,4}}", [[1, 2], [3, 4]]),
    ("text[]", '{a,"b,\\"c\\\\",NULL,"NULL","{}"}', ["a", 'b,"c\\', None, "NULL", "{}"]),
    (
        "uuid[]",
        "{6ba7b810-9dad-11d1-80b4-00c04fd430c8}",
        [uuid.UUID("6ba7b810-9dad-11d1-80b4-00c04fd430c8")],
    ),
    ("numeric[]", "{1.50,NULL}", [Decimal("1.50"), None]),
    ("timestamptz[]", '{"2024-07-01 12:00:00+02"}', [dt.datetime(2024, 7, 1, 10, tzinfo=UTC)]),
    ("date[]", "{2024-02-29}", [dt.date(2024, 2, 29)]),
    ("bytea[]", '{"\\\\x00ff"}', [b"\x00\xff"]),
    ("bool[]", "{t,f}", [True, False]),
    ("float8[]", "{1.5,-2}", [1.5, -2.0]),
    ("jsonb[]", '{"{\\"a\\": 1}"}', [{"a": 1}]),
]


@pytest.mark.parametrize(
    ("kind", "text", "value"), VALUES, ids=[f"{k}-{t[:12]}" for k, t, _ in VALUES]
)
def test_value_both_ways(pg: Postgres, kind: str, text: str, value: Any) -> None:
    literal = text.replace("'", "''")
    got = pg.fetchval(f"select '{literal}'::{kind}")
    assert got == value and type(got) is type(value)
    assert pg.fetchval(f"select $1::{kind}", value) == value
    if kind != "json":  # which has no equality
        assert (
            pg.fetchval(f"select $1::{kind} is not distinct from '{literal}'::{kind}", value)
            is True
        )
    if kind not in ("json", "jsonb"):  # a str is a value there
        assert pg.fetchval(f"select $1::{kind}", text) == value  # as it would stand in SQL


@pytest.mark.parametrize(
    ("kind", "text", "value"), VALUES, ids=[f"{k}-{t[:12]}" for k, t, _ in VALUES]
)
def test_value_beside_a_type_that_comes_as_text(
    pg: Postgres, kind: str, text: str, value: Any
) -> None:
    literal = text.replace("'", "''")
    row = puff.value_of(pg.fetchrow(f"select '{literal}'::{kind} as v, '(1,2)'::point as p"))
    assert row is not None and row["p"] == "(1,2)"
    if kind in ("interval",):
        assert isinstance(row["v"], str)  # not read from text yet
    else:
        assert row["v"] == value


class _Level(int, enum.Enum):
    HIGH = 7


class _Index:
    def __index__(self) -> int:
        return 5


@pytest.mark.parametrize("kind", ["int4", "xid8", "numeric"])
@pytest.mark.parametrize("array", [False, True])
def test_what_is_an_int_to_python_is_one(pg: Postgres, kind: str, array: bool) -> None:
    for arg, number in ((_Level.HIGH, 7), (_Index(), 5), (10**4, 10**4)):
        got = (
            pg.fetchval(f"select $1::{kind}[]", [arg])
            if array
            else [pg.fetchval(f"select $1::{kind}", arg)]
        )
        assert got == [number]


@pytest.mark.parametrize(
    "kind", ["int4", "text", "uuid", "jsonb", "int4[]", "timestamptz", "bytea", "numeric"]
)
def test_null_both_ways(pg: Postgres, kind: str) -> None:
    assert pg.fetchval(f"select $1::{kind}", None) is None


@pytest.mark.parametrize(("text", "numbers"), [("", []), ("1 2", [1, 2])])
@pytest.mark.parametrize("kind", ["oidvector", "int2vector"])
def test_vector_of_the_catalogs(pg: Postgres, kind: str, text: str, numbers: list[int]) -> None:
    assert pg.fetchval(f"select '{text}'::{kind}") == numbers
    assert pg.fetchval(f"select $1::{kind}", text) == numbers
    row = puff.value_of(pg.fetchrow(f"select '{text}'::{kind}, '(1,2)'::point"))
    assert row == (numbers, "(1,2)")


def test_zone_with_seconds_beside_a_type_that_comes_as_text(pg: Postgres) -> None:
    row = puff.value_of(pg.fetchrow("select '00:00:00+00:19:32'::timetz, '(1,2)'::point"))
    assert row is not None
    assert row[0].utcoffset() == dt.timedelta(minutes=19, seconds=32)


def test_date_beside_a_type_that_comes_as_text_says_what_is_wrong(pg: Postgres) -> None:
    with pytest.raises(ValueError, match="Python cannot hold"):
        pg.fetchrow("select '0044-03-15 BC'::date, '(1,2)'::point")


def test_error_of_bad_json_keeps_no_view_of_the_result(pg: Postgres) -> None:
    with pytest.raises(ValueError) as caught:
        pg.fetchval("""select '"\\ud800"'::json""")
    for entry in caught.traceback:  # the bytes are the server's answer, gone by now
        assert not any(isinstance(v, memoryview) for v in entry.locals.values())


def test_infinite_dates_are_the_ends_of_pythons(pg: Postgres) -> None:
    assert pg.fetchval("select 'infinity'::date") == dt.date.max
    assert pg.fetchval("select '-infinity'::timestamptz") == dt.datetime.min.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    "sql", ["select '0044-03-15 BC'::date", "select '294276-12-31'::timestamp"]
)
def test_what_python_cannot_hold_is_an_error(pg: Postgres, sql: str) -> None:
    with pytest.raises(ValueError, match="cast it to text"):
        pg.fetchval(sql)
    assert pg.fetchval("select 1") == 1


def test_user_types_arrive_as_text(pg: Postgres) -> None:
    pg.execute("drop type if exists puff_mood")
    pg.execute("create type puff_mood as enum ('sad', 'happy')")
    try:
        assert pg.fetchrow("select 'happy'::puff_mood, 7") == ("happy", 7)
        assert pg.fetchval("select $1::puff_mood", "sad") == "sad"
        assert pg.fetchval("select row(1, 'x')") == "(1,x)"
    finally:
        pg.execute("drop type puff_mood")


@pytest.mark.parametrize(
    ("sql", "arg", "error", "says"),
    [
        ("select $1::int4", 2**31, OverflowError, r"parameter \$1.*int4"),
        ("select $1::int2", 2**70, OverflowError, "int2"),
        ("select $1::int4", 1.5, TypeError, r"\$1: int4 takes an int, not float"),
        ("select $1::bool", 1, TypeError, "bool takes a bool"),
        ("select $1::text", 5, TypeError, "text takes a str, not int"),
        ("select $1::int4[]", 5, TypeError, "takes a list"),
        ("select $1::uuid", 5, TypeError, "UUID"),
        ("select $1::timestamptz", dt.datetime(2024, 1, 1), ValueError, "tzinfo"),
        ("select $1::timestamp", dt.datetime(2024, 1, 1, tzinfo=UTC), ValueError, "no time zone"),
        ("select $1::date", dt.datetime(2024, 1, 1), TypeError, "date"),
        ("select $1::text", "a\0b", ValueError, "NUL"),
        ("select $1::jsonb", object(), TypeError, "object"),
        ("select $1::text[]", ["a", "b\0c"], ValueError, "NUL"),
        ("select $1::jsonb", b'{"a": "\0"}', ValueError, "NUL"),
        ("select $1::text", "\ud800", ValueError, "surrogates"),
        ("select $1::int4[]", [[1, [2, "x"]], 3], errors.PostgresError, "array"),
        ("select $1::point", 5, TypeError, "takes a str"),
        ("select $1::float8", "x", errors.PostgresError, "float|double"),
        ("select $1::float8", object(), TypeError, "takes a float, not object"),
        ("select $1::float8", 10**400, OverflowError, r"\$1: int too large"),
        ("select $1::float8[]", [10**400], OverflowError, r"\$1: int too large"),
        ("select $1::bytea", memoryview(b"abcd")[::2], BufferError, "contiguous"),
        ("select $1::bytea", 5, TypeError, "takes bytes, not int"),
    ],
)
def test_parameter_that_does_not_fit(
    pg: Postgres, sql: str, arg: Any, error: type[Exception], says: str
) -> None:
    with pytest.raises(error, match=says):
        pg.fetchval(sql, arg)
    assert pg.fetchval("select 1") == 1


# ---- a peer that lies ----------------------------------------------------------------------------


class LyingServer(threading.Thread):
    """Says that every query has one row of one column, of this type and with these bytes."""

    def __init__(self, oid: int, cell: bytes) -> None:
        super().__init__(daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(20)
        column = struct.pack("!IhIhih", 0, 0, oid, -1, -1, 1)
        none, done = struct.pack("!h", 0), b"SELECT 1\0"
        row = struct.pack("!hi", 1, len(cell)) + cell
        described = self._message(b"T", struct.pack("!h", 1) + b"v\0" + column)
        self._answers = {
            b"P": self._message(b"1"),
            b"S": self._message(b"Z", b"I"),
            b"B": self._message(b"2"),
            b"DS": self._message(b"t", none) + described,
            b"DP": described,
            b"E": self._message(b"D", row) + self._message(b"C", done),
            b"Q": self._message(b"C", done) + self._message(b"Z", b"I"),
        }
        port = self._listener.getsockname()[1]
        self.url = f"postgres://u@127.0.0.1:{port}/d?sslmode=disable&gssencmode=disable"

    @staticmethod
    def _message(kind: bytes, body: bytes = b"") -> bytes:
        return kind + struct.pack("!i", len(body) + 4) + body

    def run(self) -> None:
        with self._listener, self._listener.accept()[0] as peer, peer.makefile("rb") as stream:
            peer.settimeout(20)
            stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
            peer.sendall(self._message(b"R", bytes(4)) + self._message(b"Z", b"I"))
            while (kind := stream.read(1)) not in (b"", b"X"):
                body = stream.read(struct.unpack("!i", stream.read(4))[0] - 4)
                peer.sendall(self._answers.get(kind + body[:1] if kind == b"D" else kind, b""))


def _array(dims: list[int], elements: bytes) -> bytes:
    head = struct.pack("!iiI", len(dims), 0, 23)
    return head + b"".join(struct.pack("!ii", n, 1) for n in dims) + elements


@pytest.mark.timeout(20)
@pytest.mark.parametrize(
    ("oid", "cell"),
    [
        (23, b"\0\0"),
        (1007, _array([100] * 5 + [0], bytes(400))),  # 460 bytes that say 10 ** 10 lists
        (1007, _array([2**31 - 1], b"")),
        (1007, _array([1], struct.pack("!ii", 4, 1) + b"more")),
        (1266, struct.pack("!qi", 0, -(2**31))),
        (1700, struct.pack("!hhHh", 0, 0, 0x1234, 0)),
    ],
    ids=["short", "lists-without-end", "count", "trailing", "zone", "sign"],
)
def test_malformed_value_is_told(oid: int, cell: bytes) -> None:
    server = LyingServer(oid, cell)
    server.start()
    liar = use_url(server.url)

    async def main() -> None:
        with pytest.raises(ValueError, match="the server sent a malformed"):
            await liar.fetchval("select v", timeout_ms=10000)

    try:
        run(main)  # on a loop, and so a pool, of its own
    finally:
        config.use(None)
        server.join(10)


# ---- errors --------------------------------------------------------------------------------------


def test_server_errors_carry_their_fields(pg: Postgres) -> None:
    pg.execute("drop table if exists puff_unique")
    pg.execute("create table puff_unique (id int primary key)")
    pg.execute("insert into puff_unique values (1)")
    with pytest.raises(errors.UniqueViolation) as caught:
        pg.execute("insert into puff_unique values ($1)", 1)
    pg.execute("drop table puff_unique")
    error = caught.value
    assert (error.sqlstate, error.table_name, error.constraint_name) == (
        "23505",
        "puff_unique",
        "puff_unique_pkey",
    )
    assert error.detail == "Key (id)=(1) already exists." and "duplicate key" in str(error)


@pytest.mark.parametrize(
    ("sql", "sqlstate"),
    [
        ("selec 1", "42601"),
        ("select 1/0", "22012"),
        ("select * from no_such", "42P01"),
        ("select nope", "42703"),
    ],
)
def test_an_error_is_its_callers_alone(pg: Postgres, sql: str, sqlstate: str) -> None:
    async def main() -> None:
        calls = [pg.fetchval("select 1"), pg.fetchval(sql), pg.fetchval("select 2")]
        one, error, two = await asyncio.gather(*calls, return_exceptions=True)
        assert (one, two) == (1, 2)
        assert isinstance(error, errors.PostgresError) and error.sqlstate == sqlstate

    run(main)


@pytest.mark.parametrize("args", [(), (1, 2)])
def test_wrong_number_of_parameters(pg: Postgres, args: tuple[int, ...]) -> None:
    with pytest.raises(errors.PostgresUsageError, match="takes 1 parameter"):
        pg.fetchval("select $1::int", *args)


@pytest.mark.parametrize("sql", ["begin", "copy (select 1) to stdout", "select 1; select 2", ""])
def test_sql_that_cannot_share_a_connection(pg: Postgres, sql: str) -> None:
    async def main() -> None:
        with pytest.raises(errors.PostgresError):
            await pg.execute(sql)
            raise errors.PostgresUsageError("an empty statement has no answer")  # "" is allowed
        assert await asyncio.gather(*[pg.fetchval("select $1::int", n) for n in range(20)]) == list(
            range(20)
        )

    run(main)


@pytest.mark.parametrize("sql", [5, b"select 1", None])
def test_sql_must_be_text(pg: Postgres, sql: Any) -> None:
    with pytest.raises(TypeError, match="sql must be a str"):
        pg.fetch(sql)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _: "postgresql://u@127.0.0.1:1/db", "refused"),
        (lambda _: "postgresql://u@no-such-host.invalid/db", "no-such-host.invalid"),
        (lambda url: url.replace("/postgres?", "/no_such_db?"), "no_such_db"),
        (lambda url: url.replace("//postgres@", "//nobody_here@"), "nobody_here"),
    ],
    ids=["refused port", "unknown host", "no such database", "no such role"],
)
def test_no_connection_is_told_at_once(
    postgres_url: str, change: Callable[[str], str], says: str
) -> None:
    pg = use_url(change(postgres_url))

    async def main() -> None:
        calls = await asyncio.gather(
            *[pg.fetchval("select 1") for _ in range(3)], return_exceptions=True
        )
        for error in calls:
            assert isinstance(error, errors.PostgresConnectionError) and says in str(error)
            assert not error.maybe_executed

    try:
        run(main)
    finally:
        config.use(None)


@pytest.mark.parametrize(
    "url", ["postgresql://u:secret word@[::1/db", "postgresql://u:secret@h/db?nosuch=1"]
)
def test_bad_url_is_told_without_its_password(url: str) -> None:
    pg = use_url(url)

    async def main() -> None:
        with pytest.raises(errors.PuffError) as caught:
            await pg.fetchval("select 1")
        assert "secret" not in str(caught.value)

    try:
        run(main)
    finally:
        config.use(None)


# ---- cancelling, timeouts, restarts
# ---------------------------------------------------------------


def test_cancelled_query_leaves_the_connection_right(pg: Postgres) -> None:
    async def main() -> None:
        for _ in range(5):
            task = asyncio.create_task(pg.fetchval("select 'stale' from pg_sleep(0.3)"))
            await asyncio.sleep(0.01)
            task.cancel()
            answers = await asyncio.gather(*[pg.fetchval("select $1::int", n) for n in range(20)])
            assert answers == list(range(20))
            with pytest.raises(asyncio.CancelledError):
                await task
        await asyncio.sleep(0)
        while (stats := pg.stats()) and stats["n_in_flight"]:
            await asyncio.sleep(0.01)

    run(main)


def test_killed_greenlet_leaves_the_connection_right(pg: Postgres) -> None:
    async def main() -> None:
        greenlet = puff.spawn(lambda: pg.fetchval("select pg_sleep(0.1)"))
        await asyncio.sleep(0.02)
        greenlet.kill()
        assert isinstance(await greenlet.join(), puff.GreenletExit)
        assert await asyncio.gather(*[pg.fetchval("select $1::int", n) for n in range(20)]) == list(
            range(20)
        )

    run(main)


def test_call_while_a_parameter_is_encoded_does_not_park(pg: Postgres) -> None:
    sql, inner = "select $1::text, $2::int4, $3::text", "select 7 + $1::int4"

    class Lazy:
        def __index__(self) -> int:
            return pg.fetchval(inner, 1)  # type: ignore[return-value]

    def job() -> None:
        pg.fetchrow(sql, "a", 1, "b")  # from now on parameters are encoded at once
        pg.fetchval(inner, 1)
        with pytest.raises(TypeError, match=r"parameter \$2: .*non-int"):
            pg.fetchrow(sql, "a" * 1000, Lazy(), "b")
        assert pg.fetchrow(sql, "a", 2, "b") == ("a", 2, "b")  # and it can park again

    async def main() -> None:
        await puff.spawn(job).join()

    with pytest.warns(RuntimeWarning, match="never awaited"):
        run(main)


def test_query_timeout_cancels_on_the_server(pg: Postgres) -> None:
    async def main() -> None:
        with pytest.raises(errors.PostgresTimeoutError):
            await pg.fetchval("select pg_sleep(30) /* puff timeout */", timeout_ms=50)
        while await pg.fetchval(
            "select count(*) from pg_stat_activity where query like '%puff timeout%' "
            "and state = 'active' and pid <> pg_backend_pid()"
        ):
            await asyncio.sleep(0.01)

    run(main)


def test_restart_of_the_server_is_survived(postgres_server: PrivateServer) -> None:
    pg = use_url(postgres_server.url)

    async def main() -> None:
        assert await pg.fetchval("select 1") == 1
        running = asyncio.create_task(pg.fetchval("select pg_sleep(30)"))
        await asyncio.sleep(0.1)
        await asyncio.to_thread(postgres_server.kill)
        with pytest.raises(errors.PostgresError) as caught:
            await running
        assert (
            isinstance(caught.value, errors.PostgresConnectionError) and caught.value.maybe_executed
        )
        with pytest.raises(errors.PostgresConnectionError):
            await pg.fetchval("select 1")
        await asyncio.to_thread(postgres_server.start)
        for _ in range(200):
            try:
                assert await pg.fetchval("select 2") == 2
                return
            except errors.PostgresError:
                await asyncio.sleep(0.05)
        pytest.fail("never reconnected")

    try:
        run(main)
    finally:
        config.use(None)


def test_ddl_under_a_prepared_statement(pg: Postgres) -> None:
    pg.execute("drop table if exists puff_ddl")
    pg.execute("create table puff_ddl (a int)")

    async def main() -> None:
        await pg.execute("insert into puff_ddl values (1)")
        assert await pg.fetch("select * from puff_ddl") == [(1,)]
        await pg.execute("alter table puff_ddl add column b text default 'new'")
        assert await pg.fetch("select * from puff_ddl") == [(1, "new")]
        await pg.execute("drop table puff_ddl")

    run(main)


def test_pool_closes_with_its_loop_and_a_new_one_opens(pg: Postgres) -> None:
    async def main() -> int:
        return await pg.fetchval("select pg_backend_pid()")

    assert run(main) != run(main)


def test_loop_closed_with_queries_on_their_way(pg: Postgres) -> None:
    async def main() -> None:
        for _ in range(10):
            puff.spawn(lambda: pg.fetchval("select pg_sleep(10)"))
        await asyncio.sleep(0.05)

    run(main)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
def test_forked_child_has_connections_of_its_own(
    run_python: RunPython, puff_env: dict[str, str], leave: str
) -> None:
    code = f"""
import os, sys
from puff.postgres import global_postgres as pg

def check(who):
    pids = set()
    for n in range(100):
        pid, word = pg.fetchrow("select pg_backend_pid(), $1::text", f"{{who}} {{n}}")
        assert word == f"{{who}} {{n}}"
        pids.add(pid)
    return pids

before = check("before")
child = os.fork()
pids = check("child" if child == 0 else "parent")
if child == 0:
    assert not pids & before
    {leave}
assert os.waitpid(child, 0)[1] == 0
assert check("after") == before
print("well")
"""
    assert run_python(code, env=puff_env).stdout == "well\n"


def test_no_leak_of_objects_over_many_queries(
    run_python: RunPython, puff_env: dict[str, str]
) -> None:
    code = """
import asyncio, gc, puff, resource
from puff.postgres import global_postgres as pg

SQL = "select n, n::text, '{1}'::int[] from generate_series(1, 5) n"

async def burst():
    await asyncio.gather(*[pg.fetch(SQL) for _ in range(200)])

def size():
    gc.collect()
    return len(gc.get_objects()), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

async def main():
    for _ in range(10): await burst()
    objects, rss = size()
    for _ in range(100): await burst()
    print(size()[0] - objects, size()[1] - rss)

puff.run(main())
"""
    objects, kib = map(int, run_python(code, env=puff_env, timeout=50).stdout.split())
    assert objects < 100 and kib < 4096
