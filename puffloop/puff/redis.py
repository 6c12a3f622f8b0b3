"""Redis and Valkey: commands from coroutines, greenlets, threads and scripts on shared connections.

    from puff.redis import global_redis as redis

    await redis.set("greeting", "hello", ex=60)
    assert await redis.get("greeting") == b"hello"

What one turn of the loop sends leaves in one write, whoever sent it. A command that blocks on the
server (BLPOP, XREAD BLOCK ...) has a connection of its own while it does. What needs a session
(MULTI, WATCH, SUBSCRIBE ...) does not work here yet, and says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeAlias, cast, overload

from puff._bind.redis import (
    SHAPE_AS_IS as AS_IS,
    SHAPE_FLAG as FLAG,
    SHAPE_FLOAT as FLOAT,
    SHAPE_MAPPING as MAPPING,
    SHAPE_NOTHING as NOTHING,
    SHAPE_TEXT as TEXT,
    SHAPE_TIME as TIME,
    Client,
)
from puff._types import Reply

__all__ = ["Redis", "Value", "global_redis", "named_client"]

# What a key, a field or a value may be: str travels as UTF-8, numbers as their shortest text.
Value: TypeAlias = str | bytes | int | float
No: TypeAlias = Literal[False]
Yes: TypeAlias = Literal[True]


def _expiry(
    ex: int | None, px: int | None, exat: int | None, pxat: int | None, keep: str, kept: bool
) -> tuple[Value, ...]:
    """The words of at most one of these."""
    given = (("EX", ex), ("PX", px), ("EXAT", exat), ("PXAT", pxat))
    words: list[tuple[Value, ...]] = [(word, n) for word, n in given if n is not None]
    if kept:
        words.append((keep,))
    if len(words) > 1:
        raise ValueError(f"only one of ex, px, exat, pxat and {keep.lower()} can be given")
    return words[0] if words else ()


def _condition(**flags: bool) -> tuple[Value, ...]:
    """The word of at most one of these."""
    words = [name.upper() for name, given in flags.items() if given]
    if len(words) > 1:
        raise ValueError(f"only one of {', '.join(flags)} can be given")
    return tuple(words)


def _flat(pairs: Mapping[Any, Value] | Iterable[tuple[Any, Value]]) -> list[Value]:
    items = pairs.items() if isinstance(pairs, Mapping) else pairs
    return [word for pair in cast("Iterable[tuple[Any, Value]]", items) for word in pair]


def _many(first: Value | Iterable[Value], rest: tuple[Value, ...]) -> tuple[Value, ...]:
    """`mget(a, b)` and `mget([a, b])` are the same."""
    if isinstance(first, (str, bytes, int, float)) or not isinstance(first, Iterable):
        return (first, *rest)
    return (*first, *rest)


class Redis:
    """A named pool of Redis connections.

    Its settings come from `[[redis]]` in puff.toml, `--NAME-redis-url` or `PUFF_NAME_REDIS_URL`;
    with none of them a private server is started (docs/embedded.md). Nothing is read or connected
    before the first command.

    Every method does the right thing where it is called: in a coroutine it returns an awaitable, in
    a greenlet it parks it, elsewhere it blocks the calling thread. Keys, fields and values are str,
    bytes, int or float; anything else is a TypeError that names the argument. Replies are bytes,
    with `decode=True` str. What a command means is in the server's own reference, under the
    command's name.

    Raises `RedisReplyError` (`.code` is the first word, "WRONGTYPE") for what the server refuses,
    `RedisConnectionError` when it cannot be reached or is lost, `RedisAuthError` when it refuses
    the password, `RedisTimeoutError` when the pool's `timeout_ms` passes; the latter three say in
    `.maybe_executed` whether the command may have run.
    """

    __slots__ = ("_client",)

    def __init__(self, name: str = "default") -> None:
        self._client = Client(name)

    @property
    def name(self) -> str:
        """The name of the pool in the configuration."""
        return self._client.name

    def stats(self) -> dict[str, int] | None:
        """What the pool of the running loop has counted; None before its first command."""
        return self._client.stats()

    def __repr__(self) -> str:
        return f"<puff.Redis {self.name!r}>"

    def command(
        self, *args: Value, decode: bool = False, timeout_ms: int | None = None
    ) -> Reply[Any]:
        """Send any command; return its reply as the server gives it.

        Strings and statuses are bytes (str with `decode`), integers int, nil None, arrays lists; an
        error inside an array is a `RedisReplyError` object there. `timeout_ms` 0 waits for ever; a
        blocking command, whose arguments say how long it may wait, has no other limit by default.

            assert await redis.command("LPUSH", "jobs", "a") == 1
            assert await redis.command("BLPOP", "jobs", 5, decode=True) == ["jobs", "a"]
        """
        return self._client.run_within(timeout_ms, decode, *args)

    # ---- strings ---------------------------------------------------------------------------------

    @overload
    def get(self, key: Value, *, decode: No = False) -> Reply[bytes | None]: ...
    @overload
    def get(self, key: Value, *, decode: Yes) -> Reply[str | None]: ...
    def get(self, key: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the value of `key`, or None where there is none.

        assert await redis.get("no such key") is None
        """
        return self._client.run(AS_IS, decode, b"GET", key)

    @overload
    def set(
        self,
        key: Value,
        value: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
        nx: bool = False,
        xx: bool = False,
        get: No = False,
    ) -> Reply[bool]: ...
    @overload
    def set(
        self,
        key: Value,
        value: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
        nx: bool = False,
        xx: bool = False,
        get: Yes,
        decode: No = False,
    ) -> Reply[bytes | None]: ...
    @overload
    def set(
        self,
        key: Value,
        value: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
        nx: bool = False,
        xx: bool = False,
        get: Yes,
        decode: Yes,
    ) -> Reply[str | None]: ...
    def set(
        self,
        key: Value,
        value: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        keepttl: bool = False,
        nx: bool = False,
        xx: bool = False,
        get: bool = False,
        decode: bool = False,
    ) -> Reply[Any]:
        """Set `key`; return whether it was set, or with `get` the value that it had before.

        It expires after `ex` seconds or `px` milliseconds, or at the Unix time `exat` (s) or `pxat`
        (ms); `keepttl` leaves its expiry as it was. `nx` sets it only where it does not exist, `xx`
        only where it does. ValueError for two expiries, or for `nx` with `xx`.

            assert await redis.set("lock", "mine", nx=True, ex=10)
            assert not await redis.set("lock", "yours", nx=True)
        """
        if not (nx or xx or get or keepttl) and ex is px is exat is pxat is None:
            return self._client.run(FLAG, False, b"SET", key, value)
        words = (
            *_expiry(ex, px, exat, pxat, "KEEPTTL", keepttl),
            *_condition(nx=nx, xx=xx),
            *_condition(get=get),
        )
        return self._client.run(AS_IS if get else FLAG, decode, b"SET", key, value, *words)

    def setnx(self, key: Value, value: Value) -> Reply[bool]:
        """Set `key` unless it exists; return whether it was set."""
        return self._client.run(FLAG, False, b"SETNX", key, value)

    @overload
    def mget(
        self, first: Value | Iterable[Value], *rest: Value, decode: No = False
    ) -> Reply[list[bytes | None]]: ...
    @overload
    def mget(
        self, first: Value | Iterable[Value], *rest: Value, decode: Yes
    ) -> Reply[list[str | None]]: ...
    def mget(
        self, first: Value | Iterable[Value], *rest: Value, decode: bool = False
    ) -> Reply[Any]:
        """Return the values of these keys (each an argument, or one list), None for a missing one.

        assert await redis.mget("a", "b") == await redis.mget(["a", "b"])
        """
        return self._client.run(AS_IS, decode, b"MGET", *_many(first, rest))

    def mset(self, values: Mapping[Any, Value] | Iterable[tuple[Value, Value]]) -> Reply[None]:
        """Set all these keys at once.

        await redis.mset({"a": 1, "b": 2})
        """
        return self._client.run(NOTHING, False, b"MSET", *_flat(values))

    def msetnx(self, values: Mapping[Any, Value] | Iterable[tuple[Value, Value]]) -> Reply[bool]:
        """Set all these keys unless one of them exists; return whether they were set."""
        return self._client.run(FLAG, False, b"MSETNX", *_flat(values))

    @overload
    def getdel(self, key: Value, *, decode: No = False) -> Reply[bytes | None]: ...
    @overload
    def getdel(self, key: Value, *, decode: Yes) -> Reply[str | None]: ...
    def getdel(self, key: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the value of `key`, or None, and delete the key."""
        return self._client.run(AS_IS, decode, b"GETDEL", key)

    @overload
    def getex(
        self,
        key: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        persist: bool = False,
        decode: No = False,
    ) -> Reply[bytes | None]: ...
    @overload
    def getex(
        self,
        key: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        persist: bool = False,
        decode: Yes,
    ) -> Reply[str | None]: ...
    def getex(
        self,
        key: Value,
        *,
        ex: int | None = None,
        px: int | None = None,
        exat: int | None = None,
        pxat: int | None = None,
        persist: bool = False,
        decode: bool = False,
    ) -> Reply[Any]:
        """Return the value of `key`, or None, and set its expiry as `set` does, or `persist` it."""
        words = _expiry(ex, px, exat, pxat, "PERSIST", persist)
        return self._client.run(AS_IS, decode, b"GETEX", key, *words)

    @overload
    def getset(self, key: Value, value: Value, *, decode: No = False) -> Reply[bytes | None]: ...
    @overload
    def getset(self, key: Value, value: Value, *, decode: Yes) -> Reply[str | None]: ...
    def getset(self, key: Value, value: Value, *, decode: bool = False) -> Reply[Any]:
        """Set `key`; return the value that it had before, or None."""
        return self._client.run(AS_IS, decode, b"GETSET", key, value)

    @overload
    def getrange(self, key: Value, start: int, end: int, *, decode: No = False) -> Reply[bytes]: ...
    @overload
    def getrange(self, key: Value, start: int, end: int, *, decode: Yes) -> Reply[str]: ...
    def getrange(self, key: Value, start: int, end: int, *, decode: bool = False) -> Reply[Any]:
        """Return the bytes `start` to `end`, both included; negative ones count from the end."""
        return self._client.run(AS_IS, decode, b"GETRANGE", key, start, end)

    def setrange(self, key: Value, offset: int, value: Value) -> Reply[int]:
        """Overwrite the value from byte `offset` on; return its length after that."""
        return self._client.run(AS_IS, False, b"SETRANGE", key, offset, value)

    def append(self, key: Value, value: Value) -> Reply[int]:
        """Append to the value; return its length after that."""
        return self._client.run(AS_IS, False, b"APPEND", key, value)

    def strlen(self, key: Value) -> Reply[int]:
        """Return the length of the value in bytes, 0 where there is none."""
        return self._client.run(AS_IS, False, b"STRLEN", key)

    def incr(self, key: Value, delta: int = 1) -> Reply[int]:
        """Add `delta` to the integer at `key`, which begins at 0; return the sum.

        n = await redis.incr("visits")
        """
        return self._client.run(AS_IS, False, b"INCRBY", key, delta)

    def incrby(self, key: Value, delta: int) -> Reply[int]:
        """`incr` by its own name."""
        return self._client.run(AS_IS, False, b"INCRBY", key, delta)

    def incrbyfloat(self, key: Value, delta: float) -> Reply[float]:
        """Add `delta` to the number at `key`, which begins at 0; return the sum."""
        return self._client.run(FLOAT, False, b"INCRBYFLOAT", key, delta)

    def decr(self, key: Value, delta: int = 1) -> Reply[int]:
        """Subtract `delta` from the integer at `key`, which begins at 0; return the difference."""
        return self._client.run(AS_IS, False, b"DECRBY", key, delta)

    def decrby(self, key: Value, delta: int) -> Reply[int]:
        """`decr` by its own name."""
        return self._client.run(AS_IS, False, b"DECRBY", key, delta)

    # ---- hashes ----------------------------------------------------------------------------------

    @overload
    def hget(self, key: Value, field: Value, *, decode: No = False) -> Reply[bytes | None]: ...
    @overload
    def hget(self, key: Value, field: Value, *, decode: Yes) -> Reply[str | None]: ...
    def hget(self, key: Value, field: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the value of a field, or None where there is none."""
        return self._client.run(AS_IS, decode, b"HGET", key, field)

    @overload
    def hset(self, key: Value, field: Value, value: Value) -> Reply[int]: ...
    @overload
    def hset(
        self, key: Value, *, mapping: Mapping[Any, Value] | Iterable[tuple[Value, Value]]
    ) -> Reply[int]: ...
    def hset(
        self,
        key: Value,
        field: Value | None = None,
        value: Value | None = None,
        *,
        mapping: Mapping[Any, Value] | Iterable[tuple[Value, Value]] = (),
    ) -> Reply[int]:
        """Set a field, or all of a mapping; return how many of them are new.

        await redis.hset("user:1", "name", "Ann")
        await redis.hset("user:1", mapping={"age": 33, "city": "Oslo"})
        """
        first = () if field is None else (field, value)
        return self._client.run(AS_IS, False, b"HSET", key, *first, *_flat(mapping))

    def hsetnx(self, key: Value, field: Value, value: Value) -> Reply[bool]:
        """Set a field unless it exists; return whether it was set."""
        return self._client.run(FLAG, False, b"HSETNX", key, field, value)

    @overload
    def hmget(
        self, key: Value, first: Value | Iterable[Value], *rest: Value, decode: No = False
    ) -> Reply[list[bytes | None]]: ...
    @overload
    def hmget(
        self, key: Value, first: Value | Iterable[Value], *rest: Value, decode: Yes
    ) -> Reply[list[str | None]]: ...
    def hmget(
        self, key: Value, first: Value | Iterable[Value], *rest: Value, decode: bool = False
    ) -> Reply[Any]:
        """Return the values of these fields, None for a missing one."""
        return self._client.run(AS_IS, decode, b"HMGET", key, *_many(first, rest))

    @overload
    def hgetall(self, key: Value, *, decode: No = False) -> Reply[dict[bytes, bytes]]: ...
    @overload
    def hgetall(self, key: Value, *, decode: Yes) -> Reply[dict[str, str]]: ...
    def hgetall(self, key: Value, *, decode: bool = False) -> Reply[Any]:
        """Return all fields and values; an empty dict where there is no such key.

        assert await redis.hgetall("user:1", decode=True) == {"name": "Ann", "age": "33"}
        """
        return self._client.run(MAPPING, decode, b"HGETALL", key)

    def hdel(self, key: Value, first: Value | Iterable[Value], *rest: Value) -> Reply[int]:
        """Delete fields; return how many of them there were."""
        return self._client.run(AS_IS, False, b"HDEL", key, *_many(first, rest))

    def hexists(self, key: Value, field: Value) -> Reply[bool]:
        """Return whether the hash has this field."""
        return self._client.run(FLAG, False, b"HEXISTS", key, field)

    def hincrby(self, key: Value, field: Value, delta: int = 1) -> Reply[int]:
        """Add `delta` to the integer in a field, which begins at 0; return the sum."""
        return self._client.run(AS_IS, False, b"HINCRBY", key, field, delta)

    def hincrbyfloat(self, key: Value, field: Value, delta: float) -> Reply[float]:
        """Add `delta` to the number in a field, which begins at 0; return the sum."""
        return self._client.run(FLOAT, False, b"HINCRBYFLOAT", key, field, delta)

    @overload
    def hkeys(self, key: Value, *, decode: No = False) -> Reply[list[bytes]]: ...
    @overload
    def hkeys(self, key: Value, *, decode: Yes) -> Reply[list[str]]: ...
    def hkeys(self, key: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the names of all fields."""
        return self._client.run(AS_IS, decode, b"HKEYS", key)

    @overload
    def hvals(self, key: Value, *, decode: No = False) -> Reply[list[bytes]]: ...
    @overload
    def hvals(self, key: Value, *, decode: Yes) -> Reply[list[str]]: ...
    def hvals(self, key: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the values of all fields."""
        return self._client.run(AS_IS, decode, b"HVALS", key)

    def hlen(self, key: Value) -> Reply[int]:
        """Return the number of fields."""
        return self._client.run(AS_IS, False, b"HLEN", key)

    def hstrlen(self, key: Value, field: Value) -> Reply[int]:
        """Return the length of a field's value in bytes, 0 where there is none."""
        return self._client.run(AS_IS, False, b"HSTRLEN", key, field)

    # ---- keys ------------------------------------------------------------------------------------

    def delete(self, first: Value | Iterable[Value], *rest: Value) -> Reply[int]:
        """Delete keys; return how many of them there were.

        assert await redis.delete("a", "b") in (0, 1, 2)
        """
        return self._client.run(AS_IS, False, b"DEL", *_many(first, rest))

    def unlink(self, first: Value | Iterable[Value], *rest: Value) -> Reply[int]:
        """`delete`, but the server frees the memory in the background."""
        return self._client.run(AS_IS, False, b"UNLINK", *_many(first, rest))

    def exists(self, first: Value | Iterable[Value], *rest: Value) -> Reply[int]:
        """Return how many of these keys exist; one that is named twice counts twice."""
        return self._client.run(AS_IS, False, b"EXISTS", *_many(first, rest))

    def touch(self, first: Value | Iterable[Value], *rest: Value) -> Reply[int]:
        """Mark keys as used now; return how many of them exist."""
        return self._client.run(AS_IS, False, b"TOUCH", *_many(first, rest))

    def expire(
        self,
        key: Value,
        seconds: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Reply[bool]:
        """Let `key` expire after so many seconds; return whether that was set.

        Only where it has no expiry (`nx`), has one (`xx`), would live longer (`gt`) or shorter
        (`lt`); these need a server of version 7.
        """
        words = _condition(nx=nx, xx=xx, gt=gt, lt=lt)
        return self._client.run(FLAG, False, b"EXPIRE", key, seconds, *words)

    def pexpire(
        self,
        key: Value,
        milliseconds: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Reply[bool]:
        """`expire` in milliseconds."""
        words = _condition(nx=nx, xx=xx, gt=gt, lt=lt)
        return self._client.run(FLAG, False, b"PEXPIRE", key, milliseconds, *words)

    def expireat(
        self,
        key: Value,
        unix_s: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Reply[bool]:
        """`expire` at a Unix time in seconds."""
        words = _condition(nx=nx, xx=xx, gt=gt, lt=lt)
        return self._client.run(FLAG, False, b"EXPIREAT", key, unix_s, *words)

    def pexpireat(
        self,
        key: Value,
        unix_ms: int,
        *,
        nx: bool = False,
        xx: bool = False,
        gt: bool = False,
        lt: bool = False,
    ) -> Reply[bool]:
        """`expire` at a Unix time in milliseconds."""
        words = _condition(nx=nx, xx=xx, gt=gt, lt=lt)
        return self._client.run(FLAG, False, b"PEXPIREAT", key, unix_ms, *words)

    def persist(self, key: Value) -> Reply[bool]:
        """Take the expiry away; return whether there was one."""
        return self._client.run(FLAG, False, b"PERSIST", key)

    def ttl(self, key: Value) -> Reply[int]:
        """Return the seconds until `key` expires; -1: it does not, -2: there is no such key."""
        return self._client.run(AS_IS, False, b"TTL", key)

    def pttl(self, key: Value) -> Reply[int]:
        """`ttl` in milliseconds."""
        return self._client.run(AS_IS, False, b"PTTL", key)

    def rename(self, key: Value, new: Value) -> Reply[None]:
        """Rename a key, over one that has the new name. RedisReplyError where there is no `key`."""
        return self._client.run(NOTHING, False, b"RENAME", key, new)

    def renamenx(self, key: Value, new: Value) -> Reply[bool]:
        """Rename a key unless the new name is taken; return whether it was renamed."""
        return self._client.run(FLAG, False, b"RENAMENX", key, new)

    def copy(
        self, source: Value, destination: Value, *, db: int | None = None, replace: bool = False
    ) -> Reply[bool]:
        """Copy a value to another key, of database `db` if given; return whether it was copied."""
        words: tuple[Value, ...] = () if db is None else ("DB", db)
        words += _condition(replace=replace)
        return self._client.run(FLAG, False, b"COPY", source, destination, *words)

    def type(self, key: Value) -> Reply[str]:
        """Return "string", "list", "set", "zset", "hash", "stream" or "none"."""
        return self._client.run(TEXT, False, b"TYPE", key)

    @overload
    def keys(self, pattern: Value = "*", *, decode: No = False) -> Reply[list[bytes]]: ...
    @overload
    def keys(self, pattern: Value = "*", *, decode: Yes) -> Reply[list[str]]: ...
    def keys(self, pattern: Value = "*", *, decode: bool = False) -> Reply[Any]:
        """Return all keys that match a glob pattern. The server does nothing else meanwhile."""
        return self._client.run(AS_IS, decode, b"KEYS", pattern)

    @overload
    def randomkey(self, *, decode: No = False) -> Reply[bytes | None]: ...
    @overload
    def randomkey(self, *, decode: Yes) -> Reply[str | None]: ...
    def randomkey(self, *, decode: bool = False) -> Reply[Any]:
        """Return some key, or None where the database is empty."""
        return self._client.run(AS_IS, decode, b"RANDOMKEY")

    # ---- the server ------------------------------------------------------------------------------

    def dbsize(self) -> Reply[int]:
        """Return the number of keys."""
        return self._client.run(AS_IS, False, b"DBSIZE")

    def flushdb(self, *, asynchronous: bool = False) -> Reply[None]:
        """Delete every key of the database; `asynchronous` frees the memory in the background."""
        words = ("ASYNC",) if asynchronous else ()
        return self._client.run(NOTHING, False, b"FLUSHDB", *words)

    def ping(self) -> Reply[bool]:
        """Return True once the server has answered."""
        return self._client.run(FLAG, False, b"PING")

    @overload
    def echo(self, message: Value, *, decode: No = False) -> Reply[bytes]: ...
    @overload
    def echo(self, message: Value, *, decode: Yes) -> Reply[str]: ...
    def echo(self, message: Value, *, decode: bool = False) -> Reply[Any]:
        """Return the message."""
        return self._client.run(AS_IS, decode, b"ECHO", message)

    def time(self) -> Reply[float]:
        """Return the server's clock: seconds since 1970, to the microsecond."""
        return self._client.run(TIME, False, b"TIME")


global_redis = Redis("default")
_named: dict[str, Redis] = {"default": global_redis}


def named_client(name: str = "default") -> Redis:
    """Return the client of the pool `name`; the same object each time.

    An unknown name is a ConfigError at its first command.

        sessions = puff.redis.named_client("sessions")
    """
    client = _named.get(name)
    if client is None:
        client = _named[name] = Redis(name)
    return client
