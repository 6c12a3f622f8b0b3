"""Postgres: queries from coroutines, greenlets, threads and scripts on shared, pipelined
connections.

    from puff.postgres import global_postgres as pg

    rows = await pg.fetch("select id, title from posts where author = $1", author_id)

Queries of unrelated callers travel on the same few connections, each in a transaction of its own.
What needs a session
(transactions, LISTEN, COPY, SET) does not work here yet.
"""

from __future__ import annotations

from typing import Any

from puff._bind.postgres import Client, Record
from puff._types import Reply

__all__ = ["Postgres", "Record", "global_postgres", "named_client"]


class Postgres:
    """A named pool of Postgres connections.

    Its settings come from `[[postgres]]` in puff.toml, `--NAME-postgres-url` or
    `PUFF_NAME_POSTGRES_URL`; with none of
    them a private server is started (docs/embedded.md). Nothing is read or connected before the
    first query.

    Every method does the right thing where it is called: in a coroutine it returns an awaitable, in
    a greenlet it parks
    it, elsewhere it blocks the calling thread. Parameters are `$1`, `$2` ...; they are encoded as
    the server describes
    them: int, float, Decimal, bool, str, bytes, UUID, date, time, datetime, timedelta, lists of
    these, anything that
    `puff.json` encodes for json and jsonb. A str is accepted for every type.

    Raises `PostgresError` (with `.sqlstate`) for what the server refuses, `PostgresConnectionError`
    when it cannot be
    reached or is lost (`.maybe_executed` says whether the statement may have run),
    `PostgresTimeoutError` when
    `timeout_ms` or a limit of the pool passes, TypeError, ValueError or OverflowError for a
    parameter that does not fit.
    """

    __slots__ = ("_client",)

    def __init__(self, name: str = "default") -> None:
        self._client = Client(name)

    @property
    def name(self) -> str:
        """The name of the pool in the configuration."""
        return self._client.name

    def fetch(self, sql: str, *args: Any, timeout_ms: int | None = None) -> Reply[list[Record]]:
        """Run one statement; return all its rows.

        rows = await pg.fetch("select n from generate_series(1, $1) n", 3)
        assert [row["n"] for row in rows] == [1, 2, 3]
        """
        return self._client.fetch(sql, *args, timeout_ms=timeout_ms)

    def fetchrow(self, sql: str, *args: Any, timeout_ms: int | None = None) -> Reply[Record | None]:
        """Run one statement; return its first row, or None where there is none.

        row = await pg.fetchrow("select 1 as one, 'x' as two")
        assert row["one"] == 1 and row[1] == "x"
        """
        return self._client.fetchrow(sql, *args, timeout_ms=timeout_ms)

    def fetchval(self, sql: str, *args: Any, timeout_ms: int | None = None) -> Reply[Any]:
        """Run one statement; return the first value of its first row, or None where there is none.

        assert await pg.fetchval("select $1::int + 1", 41) == 42
        """
        return self._client.fetchval(sql, *args, timeout_ms=timeout_ms)

    def execute(self, sql: str, *args: Any, timeout_ms: int | None = None) -> Reply[str]:
        """Run one statement; return its command tag.

        assert await pg.execute("update posts set seen = true where id = $1", 7) == "UPDATE 1"
        """
        return self._client.execute(sql, *args, timeout_ms=timeout_ms)

    def stats(self) -> dict[str, int] | None:
        """What the pool of the running loop has counted: connections, queries, errors; None before
        its first query.
        """
        return self._client.stats()

    def __repr__(self) -> str:
        return f"<puff.Postgres {self.name!r}>"


global_postgres = Postgres("default")
_named: dict[str, Postgres] = {"default": global_postgres}


def named_client(name: str) -> Postgres:
    """Return the client of the pool `name`; the same object each time. An unknown name is a
    ConfigError at its first query.

    audit = puff.postgres.named_client("audit")
    """
    client = _named.get(name)
    if client is None:
        client = _named[name] = Postgres(name)
    return client
