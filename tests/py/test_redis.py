"""puff.redis against real servers, from every world, also where a server does not behave."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import puff
from puff import config, errors
from puff.redis import Redis, global_redis, named_client

Connect = Callable[..., Redis]
_numbers = itertools.count()


def run(main: Callable[[], Any]) -> Any:
    """Runs the coroutine function within a bound."""

    async def bounded() -> Any:
        return await asyncio.wait_for(main(), 20)

    return puff.run(bounded())


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """`connect(url, **options)`: a client of a pool of its own, with these keys of [[redis]]."""
    text = ""

    def connect(url: str, **options: int | bool) -> Redis:
        nonlocal text
        name = f"t{next(_numbers)}"
        keys = "".join(f"{key} = {str(value).lower()}\n" for key, value in options.items())
        text += f'[[redis]]\nname = "{name}"\nurl = "{url}"\n{keys}'
        path = tmp_path / "puff.toml"
        path.write_text(text)
        config.use(config.load(path))
        return named_client(name)

    yield connect
    config.use(None)


@pytest.fixture
def redis(connect: Connect, redis_url: str) -> Redis:
    return connect(redis_url)


@pytest.fixture
def key() -> str:
    """A key that no other test uses."""
    return f"test-redis:{time.time_ns()}:{next(_numbers)}"


def with_user(url: str, user: str) -> str:
    assert url.startswith("unix:///")
    return url.replace("unix://", f"unix://{user}@")


# ---- values --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (b"", b""),
        (b"\x00\r\n$-1\xff", b"\x00\r\n$-1\xff"),
        ("", b""),
        ("käse", "käse".encode()),
        (0, b"0"),
        (-(10**30), b"-1000000000000000000000000000000"),
        (0.1, b"0.1"),
        (1e300, b"1e+300"),
        (float("inf"), b"inf"),
    ],
)
def test_a_value_is_kept_as_bytes(redis: Redis, key: str, value: Any, kept: bytes) -> None:
    async def main() -> Any:
        await redis.set(key, value)
        return await redis.getdel(key)

    assert run(main) == kept


@pytest.mark.parametrize("wrong", [None, True, [1], {"a": 1}, object(), bytearray(b"x")])
def test_other_types_are_refused_and_named(redis: Redis, key: str, wrong: Any) -> None:
    async def main() -> None:
        name = type(wrong).__name__
        with pytest.raises(TypeError, match=f"argument 2 of .*SET.* must be .* not {name}"):
            await redis.set(key, wrong)
        with pytest.raises(TypeError, match="argument 1"):
            await redis.command("GET", wrong)
        with pytest.raises(TypeError, match="name of a Redis command"):
            await redis.command(wrong)
        assert await redis.get(key) is None

    run(main)


def test_decode_gives_str_everywhere(redis: Redis, key: str) -> None:
    async def main() -> None:
        await redis.hset(key, mapping={"f": "käse", "n": 1})
        assert await redis.hgetall(key, decode=True) == {"f": "käse", "n": "1"}
        assert await redis.hgetall(key) == {b"f": "käse".encode(), b"n": b"1"}
        assert await redis.command("SET", key, "x", decode=True) == "OK"
        assert await redis.command("SET", key, "x") == b"OK"
        assert await redis.get(key, decode=True) == "x"
        await redis.delete(key)

    run(main)


def test_bytes_that_are_no_text_are_an_error_of_that_call_only(redis: Redis, key: str) -> None:
    async def main() -> None:
        await redis.set(key, b"\xff")
        await redis.command("RPUSH", key + "l", "a", b"\xfe", "b")
        for _ in range(2):
            with pytest.raises(UnicodeDecodeError):
                await redis.get(key, decode=True)
            with pytest.raises(UnicodeDecodeError):
                await redis.command("LRANGE", key + "l", 0, -1, decode=True)
        assert await redis.get(key) == b"\xff"
        stats = redis.stats()
        assert stats is not None and stats["n_lost"] == 0
        await redis.delete(key, key + "l")

    run(main)


def test_a_large_value(redis: Redis, key: str) -> None:
    async def main() -> None:
        value = bytes(range(256)) * 40_000
        await redis.set(key, value)
        assert await redis.getdel(key) == value

    run(main)


def test_many_arguments(redis: Redis, key: str) -> None:
    async def main() -> None:
        fields = {f"f{i}": i for i in range(5000)}
        assert await redis.hset(key, mapping=fields) == 5000
        assert await redis.hgetall(key, decode=True) == {k: str(v) for k, v in fields.items()}
        await redis.delete(key)

    run(main)


# ---- the typed methods ---------------------------------------------------------------------------


def test_strings(redis: Redis, key: str) -> None:
    async def main() -> None:
        a, b = key + ":a", key + ":b"
        assert await redis.get(a) is None
        assert await redis.set(a, "1") is True
        assert await redis.set(a, "2", nx=True) is False
        assert await redis.set(b, "2", xx=True) is False
        assert await redis.set(a, "3", xx=True, get=True) == b"1"
        assert await redis.set(b, "4", get=True, decode=True) is None
        assert await redis.setnx(a, "x") is False
        assert await redis.mget(a, b, key) == [b"3", b"4", None]
        assert await redis.mget([a, b], decode=True) == ["3", "4"]
        assert await redis.mget(a) == [b"3"]
        assert await redis.mset({a: "10", b: "20"}) is None
        assert await redis.msetnx([(a, 1), (key, 2)]) is False
        assert await redis.getset(a, "11") == b"10"
        assert await redis.incr(a) == 12
        assert await redis.incr(a, 8) == 20
        assert await redis.incrby(a, 5) == 25
        assert await redis.decr(a) == 24
        assert await redis.decrby(a, 4) == 20
        assert await redis.incrbyfloat(a, 0.5) == 20.5
        assert await redis.append(b, "abc") == 5
        assert await redis.strlen(b) == 5
        assert await redis.getrange(b, 1, -2) == b"0ab"
        assert await redis.setrange(b, 1, "X") == 5
        assert await redis.getdel(b) == b"2Xabc"
        assert await redis.getdel(b) is None
        await redis.delete(a)

    run(main)


def test_expiry_of_strings(redis: Redis, key: str) -> None:
    async def main() -> None:
        now = int(time.time())
        await redis.set(key, "v", ex=100)
        assert 98 <= await redis.ttl(key) <= 100
        await redis.set(key, "w", keepttl=True)
        assert 98 <= await redis.ttl(key) <= 100
        await redis.set(key, "v", px=200_000)
        assert 198_000 <= await redis.pttl(key) <= 200_000
        await redis.set(key, "v", exat=now + 300)
        assert 298 <= await redis.ttl(key) <= 300
        await redis.set(key, "v", pxat=(now + 400) * 1000, xx=True)
        assert 398 <= await redis.ttl(key) <= 400
        assert await redis.getex(key, persist=True) == b"v"
        assert await redis.ttl(key) == -1
        assert await redis.getex(key, ex=50, decode=True) == "v"
        assert 48 <= await redis.ttl(key) <= 50
        await redis.delete(key)

    run(main)


def test_options_that_exclude_each_other_are_refused(redis: Redis, key: str) -> None:
    with pytest.raises(ValueError, match="only one of ex, px"):
        redis.set(key, "v", ex=1, px=1)
    with pytest.raises(ValueError, match="keepttl"):
        redis.set(key, "v", ex=1, keepttl=True)
    with pytest.raises(ValueError, match="only one of nx, xx"):
        redis.set(key, "v", nx=True, xx=True)
    with pytest.raises(ValueError, match="persist"):
        redis.getex(key, ex=1, persist=True)


def test_hashes(redis: Redis, key: str) -> None:
    async def main() -> None:
        assert await redis.hgetall(key) == {}
        assert await redis.hset(key, "a", 1) == 1
        assert await redis.hset(key, mapping={"a": 1, "b": "x"}) == 1
        assert await redis.hsetnx(key, "a", 2) is False
        assert await redis.hget(key, "a") == b"1"
        assert await redis.hget(key, "zz") is None
        assert await redis.hmget(key, "a", "zz") == [b"1", None]
        assert await redis.hmget(key, ["a", "b"], decode=True) == ["1", "x"]
        assert await redis.hexists(key, "a") is True
        assert await redis.hexists(key, "zz") is False
        assert await redis.hincrby(key, "a") == 2
        assert await redis.hincrby(key, "a", 5) == 7
        assert await redis.hincrbyfloat(key, "a", 0.25) == 7.25
        assert sorted(await redis.hkeys(key)) == [b"a", b"b"]
        assert sorted(await redis.hvals(key, decode=True)) == ["7.25", "x"]
        assert await redis.hlen(key) == 2
        assert await redis.hstrlen(key, "b") == 1
        assert await redis.hdel(key, "a", "zz") == 1
        await redis.delete(key)

    run(main)


def test_keys(redis: Redis, key: str) -> None:
    async def main() -> None:
        a, b = key + ":a", key + ":b"
        await redis.mset({a: 1, b: 2})
        assert await redis.exists(a, b, key) == 2
        assert await redis.exists([a, a]) == 2
        assert await redis.touch(a, key) == 1
        assert await redis.type(a) == "string"
        assert await redis.type(key) == "none"
        assert sorted(await redis.keys(key + ":*")) == [a.encode(), b.encode()]
        assert await redis.ttl(key) == -2
        assert await redis.expire(a, 100) is True
        assert await redis.expire(key, 100) is False
        assert await redis.pexpire(a, 90_000) is True
        assert await redis.expireat(a, int(time.time()) + 80) is True
        assert await redis.pexpireat(a, int(time.time() * 1000) + 70_000) is True
        assert 68 <= await redis.ttl(a) <= 70
        assert await redis.expire(a, 10, gt=True) is False
        assert await redis.persist(a) is True
        assert await redis.persist(a) is False
        assert await redis.copy(a, key) is True
        assert await redis.copy(a, key) is False
        assert await redis.copy(b, key, replace=True) is True
        assert await redis.rename(key, a) is None
        assert await redis.renamenx(a, b) is False
        assert await redis.get(a) == b"2"
        assert await redis.unlink(a) == 1
        assert await redis.delete(a, b) == 1
        with pytest.raises(errors.RedisReplyError, match="no such key"):
            await redis.rename(a, b)

    run(main)


def test_the_server(connect: Connect, redis_server: Any) -> None:
    """On a server of the test's own, because of flushdb."""
    redis = connect(redis_server.url)

    async def main() -> None:
        await redis.flushdb()
        assert await redis.randomkey() is None
        await redis.set("k", 1)
        assert await redis.randomkey(decode=True) == "k"
        assert await redis.dbsize() == 1
        assert await redis.flushdb(asynchronous=True) is None
        assert await redis.ping() is True
        assert await redis.echo("hi") == b"hi"
        assert abs(await redis.time() - time.time()) < 5

    run(main)


def test_the_example_of_the_documentation(run_python: Any, redis_url: str) -> None:
    text = (Path(__file__).parents[2] / "docs" / "redis.md").read_text()
    code = text.split("```python\n", 1)[1].split("```", 1)[0]
    env = dict(os.environ, PUFF_DEFAULT_REDIS_URL=redis_url)
    assert run_python(code, env=env).stdout == "b'hello'\nFalse\n"


def test_every_method_says_what_it_returns() -> None:
    methods = [f for n, f in inspect.getmembers(Redis, inspect.isfunction) if n[0] != "_"]
    assert len(methods) > 50
    for method in methods:
        assert method.__doc__, method
        assert "return" in method.__annotations__, method


def test_resp3_gives_the_same_shapes(connect: Connect, redis_url: str, key: str) -> None:
    redis = connect(redis_url, resp3=True)

    async def main() -> None:
        try:
            await redis.hset(key, mapping={"a": 1, "b": 2})
        except errors.ConfigError as error:
            assert "this libhiredis cannot read RESP3" in str(error)
            return
        assert await redis.hgetall(key, decode=True) == {"a": "1", "b": "2"}
        assert await redis.command("HGETALL", key) == [b"a", b"1", b"b", b"2"]
        assert await redis.get(key + "x") is None
        assert await redis.delete(key) == 1
        await redis.command("SADD", key, 1)
        assert await redis.command("SMEMBERS", key) == [b"1"]
        await redis.delete(key)

    run(main)


# ---- errors of the server ------------------------------------------------------------------------


def test_an_error_reply_has_a_code_and_reaches_its_caller_only(redis: Redis, key: str) -> None:
    async def main() -> None:
        await redis.command("RPUSH", key, 1)
        good, bad, after = await asyncio.gather(
            redis.exists(key), redis.get(key), redis.type(key), return_exceptions=True
        )
        assert (good, after) == (1, "list")
        assert isinstance(bad, errors.RedisReplyError)
        assert bad.code == "WRONGTYPE"
        assert str(bad).startswith("WRONGTYPE Operation against")
        await redis.delete(key)
        with pytest.raises(errors.RedisReplyError) as unknown:
            await redis.command("NOSUCHCOMMAND")
        assert unknown.value.code == "ERR"

    run(main)


def test_an_error_inside_an_array_is_a_value(redis: Redis) -> None:
    async def main() -> Any:
        return await redis.command("EVAL", "return {1, {err='MINE inner'}, {{'x'}}, false}", 0)

    one, error, nested, nil = run(main)
    assert (one, nested, nil) == (1, [[b"x"]], None)
    assert isinstance(error, errors.RedisReplyError)
    assert "inner" in str(error)


def test_a_nesting_that_cannot_be_read_is_an_error_not_a_crash(redis: Redis) -> None:
    script = "local t = {'x'} for i = 1, 60 do t = {t} end return t"

    async def main() -> None:
        try:
            value = await redis.command("EVAL", script, 0)
        except errors.RedisConnectionError as error:
            assert "nested" in str(error)
        else:
            for _ in range(60):
                (value,) = value
        assert await redis.ping()

    run(main)


@pytest.mark.parametrize(
    ("words", "advice"),
    [
        (("MULTI",), "EVAL"),
        (("subscribe", "c"), "pub/sub"),
        (("SELECT", 1), "URL"),
        (("AUTH", "x"), "URL"),
        (("CLIENT", "REPLY", "OFF"), "share"),
    ],
)
def test_what_needs_a_session_is_refused_with_advice(
    redis: Redis, words: tuple[Any, ...], advice: str
) -> None:
    async def main() -> None:
        with pytest.raises(errors.RedisUsageError, match=advice):
            await redis.command(*words)

    run(main)


# ---- worlds --------------------------------------------------------------------------------------


def test_callers_of_one_turn_share_a_connection(redis: Redis, key: str) -> None:
    async def main() -> None:
        async def caller(n: int) -> None:
            for i in range(20):
                assert await redis.set(f"{key}:{n}", i)
                assert await redis.get(f"{key}:{n}") == str(i).encode()

        await asyncio.gather(*(caller(n) for n in range(64)))
        stats = redis.stats()
        assert stats is not None and stats["n_connects"] == 1
        await redis.delete([f"{key}:{n}" for n in range(64)])

    run(main)


def test_greenlets(redis: Redis, key: str) -> None:
    def job(n: int) -> int:
        total = 0
        for _ in range(10):
            total = puff.value_of(redis.incr(key, n))
        with pytest.raises(errors.RedisReplyError):
            redis.hget(key, "f")
        return total

    async def main() -> None:
        await puff.join_all([puff.spawn(job, n) for n in range(20)])
        assert await redis.getdel(key) == b"1900"

    run(main)


def test_threads_beside_a_loop(redis: Redis, key: str) -> None:
    def job() -> None:
        for _ in range(50):
            redis.incr(key)
        with pytest.raises(errors.RedisReplyError):
            redis.hget(key, "f")

    async def main() -> None:
        await asyncio.gather(*(asyncio.to_thread(job) for _ in range(8)))
        assert await redis.getdel(key) == b"400"

    run(main)


def test_a_script_without_a_loop(redis: Redis, key: str) -> None:
    assert redis.set(key, "v") is True
    assert redis.get(key, decode=True) == "v"
    assert redis.delete(key) == 1
    with pytest.raises(TypeError):
        redis.set(key, {})  # type: ignore[call-overload]


def test_a_foreign_loop_is_told_what_to_do(redis: Redis, key: str) -> None:
    async def main() -> None:
        await redis.get(key)

    runner = asyncio.new_event_loop()
    try:
        with pytest.raises(RuntimeError, match=r"puff\.run"):
            runner.run_until_complete(main())
    finally:
        runner.close()


def test_nothing_is_read_before_the_first_command(run_python: Any) -> None:
    code = """
import puff.redis
from puff.errors import ConfigError
client = puff.redis.named_client("elsewhere")
assert client is puff.redis.named_client("elsewhere") and repr(client) == "<puff.Redis 'elsewhere'>"
try:
    client.get("k")
except ConfigError as error:
    print(error)
"""
    assert "elsewhere" in run_python(code).stdout
    assert named_client() is global_redis


def test_a_bad_url_is_an_error_at_the_first_command(run_python: Any, tmp_path: Path) -> None:
    code = "import puff.redis; puff.redis.global_redis.get('k')"
    toml = tmp_path / "puff.toml"
    toml.write_text('[[redis]]\nurl = "redis://:hunter2@h:0"\n')
    done = run_python(code, cwd=tmp_path, check=False)
    assert done.returncode == 1
    assert "port" in done.stderr
    assert "hunter2" not in done.stderr


# ---- blocking, cancelling, time ------------------------------------------------------------------


def test_a_blocking_command_holds_nobody_up(redis: Redis, key: str) -> None:
    async def main() -> None:
        pops = [asyncio.create_task(redis.command("BLPOP", key, 10)) for _ in range(5)]
        await redis.ping()
        for n in range(5):
            await redis.command("RPUSH", key, n)
        popped = await asyncio.gather(*pops)
        assert sorted(value for _, value in popped) == [b"0", b"1", b"2", b"3", b"4"]
        assert await redis.command("BLPOP", key, 0.01) is None

    run(main)


def test_a_cancelled_pop_takes_nothing(redis: Redis, key: str) -> None:
    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(redis.command("BLPOP", key, 0), 0.05)
        while b"cmd=blpop" in await redis.command("CLIENT", "LIST"):
            await asyncio.sleep(0.005)
        await redis.command("RPUSH", key, "job")
        assert await redis.command("LPOP", key) == b"job"

    run(main)


def test_cancelled_commands_leave_the_replies_to_their_callers(redis: Redis, key: str) -> None:
    async def main() -> None:
        names = [f"{key}:{n}" for n in range(100)]
        await redis.mset({name: name for name in names})
        for _ in range(20):
            tasks = [asyncio.ensure_future(redis.get(name, decode=True)) for name in names]
            await asyncio.sleep(0)
            for task in tasks[::3]:
                task.cancel()
            got = await asyncio.gather(*tasks, return_exceptions=True)
            for n, value in enumerate(got):
                if n % 3:
                    assert value == names[n]
                else:
                    assert isinstance(value, asyncio.CancelledError)
        stats = redis.stats()
        assert stats is not None and stats["n_connects"] == 1 and stats["n_in_flight"] == 0
        await redis.delete(names)

    run(main)


def test_a_killed_greenlet_leaves_the_connection_in_step(redis: Redis, key: str) -> None:
    def job() -> None:
        redis.command("BLPOP", key, 0)

    async def main() -> None:
        greenlet = puff.spawn(job)
        await asyncio.sleep(0.02)
        greenlet.kill()
        assert await redis.echo("mine") == b"mine"
        while not greenlet.dead:
            await asyncio.sleep(0.001)

    run(main)


def test_a_command_that_takes_too_long(redis: Redis, key: str) -> None:
    async def main() -> None:
        with pytest.raises(errors.RedisTimeoutError) as late:
            await redis.command("BLPOP", key, 0, timeout_ms=30)
        assert isinstance(late.value, TimeoutError)
        assert late.value.maybe_executed
        assert await redis.ping()

    run(main)


# ---- servers that do not behave ------------------------------------------------------------------


def test_a_refused_connection(connect: Connect, free_port: int) -> None:
    redis = connect(f"redis://127.0.0.1:{free_port}")

    async def main() -> None:
        replies = await asyncio.gather(*(redis.get("k") for _ in range(10)), return_exceptions=True)
        for error in replies:
            assert isinstance(error, errors.RedisConnectionError)
            assert isinstance(error, ConnectionError)
            assert str(free_port) in str(error)
            assert not error.maybe_executed

    run(main)


def test_passwords(connect: Connect, redis_server: Any) -> None:
    admin = connect(redis_server.url)
    good = connect(with_user(redis_server.url, "ann:p%40ss"))
    bad = connect(with_user(redis_server.url, "ann:wrong"))

    async def main() -> None:
        await admin.command("ACL", "SETUSER", "ann", "on", ">p@ss", "~*", "+@all")
        assert await good.command("ACL", "WHOAMI") == b"ann"
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(errors.RedisAuthError, match="WRONGPASS") as refused:
                await bad.get("k")
            assert "wrong" not in str(refused.value).replace("WRONGPASS", "").split(":")[0]
        assert time.monotonic() - began < 1
        stats = bad.stats()
        assert stats is not None and stats["n_connect_failures"] < 3
        await admin.command("ACL", "DELUSER", "ann")

    run(main)


def test_the_database_of_the_url(connect: Connect, redis_server: Any) -> None:
    zero, three = connect(redis_server.url), connect(redis_server.url + "?db=3")
    beyond = connect(redis_server.url + "?db=12345")

    async def main() -> None:
        await three.set("here", 3)
        assert await zero.get("here") is None
        assert await three.getdel("here") == b"3"
        with pytest.raises(errors.RedisConnectionError, match="database"):
            await beyond.get("k")

    run(main)


def test_a_restart_loses_no_caller(connect: Connect, redis_server: Any) -> None:
    redis = connect(redis_server.url)

    async def main() -> None:
        done = asyncio.Event()
        n_ok = n_failed = 0

        async def caller() -> None:
            nonlocal n_ok, n_failed
            while not done.is_set():
                try:
                    await redis.set("k", "v")
                    n_ok += 1
                except errors.RedisConnectionError:
                    n_failed += 1
                    await asyncio.sleep(0.01)
                except errors.RedisReplyError as error:
                    assert error.code == "LOADING"

        callers = [asyncio.create_task(caller()) for _ in range(20)]
        await redis.ping()
        await asyncio.to_thread(redis_server.restart)
        while True:
            try:
                await redis.ping()
                break
            except errors.RedisConnectionError:
                await asyncio.sleep(0.01)
        before = n_ok
        while n_ok < before + 100:
            await asyncio.sleep(0.005)
        done.set()
        await asyncio.gather(*callers)
        assert n_failed > 0

    run(main)


def test_a_server_that_is_killed(connect: Connect, redis_server: Any) -> None:
    redis = connect(redis_server.url)

    async def main() -> None:
        await redis.ping()
        pop = asyncio.create_task(redis.command("BLPOP", "jobs", 0))
        while b"cmd=blpop" not in await redis.command("CLIENT", "LIST"):
            await asyncio.sleep(0.005)
        await asyncio.to_thread(redis_server.kill)
        with pytest.raises(errors.RedisConnectionError) as lost:
            await pop
        assert lost.value.maybe_executed
        with pytest.raises(errors.RedisConnectionError):
            await redis.ping()
            await redis.ping()  # the first may have found the old connection still open
        await asyncio.to_thread(redis_server.start)
        for _ in range(500):
            try:
                assert await redis.ping()
                return
            except errors.RedisConnectionError:
                await asyncio.sleep(0.01)
        raise AssertionError("the pool did not come back")

    run(main)


def test_a_peer_that_is_no_redis(connect: Connect, free_port: int) -> None:
    redis = connect(f"redis://127.0.0.1:{free_port}")

    async def main() -> None:
        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(100)
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
            await writer.drain()
            writer.close()

        server = await asyncio.start_server(talk, "127.0.0.1", free_port)
        with pytest.raises(errors.RedisConnectionError, match="Protocol error"):
            await redis.get("k")
        server.close()

    run(main)


def test_a_loop_that_ends_with_commands_under_way(redis: Redis, key: str) -> None:
    async def main() -> None:
        tasks = [asyncio.ensure_future(redis.command("BLPOP", key, 0)) for _ in range(3)]
        tasks.append(asyncio.ensure_future(redis.get(key)))
        await asyncio.sleep(0)
        assert not any(task.done() for task in tasks)

    for _ in range(3):
        run(main)


@pytest.mark.parametrize("leave", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_has_connections_of_its_own(
    run_python: Any, redis_url: str, key: str, leave: str
) -> None:
    code = f"""
import os, sys
from puff.redis import global_redis as redis

def check(who):
    for n in range(300):
        word = f"{{who}} {{n}}"
        assert redis.echo(word, decode=True) == word

check("before")
child = os.fork()
check("child" if child == 0 else "parent")
if child == 0:
    {leave}
assert os.waitpid(child, 0)[1] == 0
check("after")
child = os.fork()
if child == 0:
    {leave}
assert os.waitpid(child, 0)[1] == 0
check("last")
print("well")
"""
    env = dict(os.environ, PUFF_DEFAULT_REDIS_URL=redis_url)
    assert run_python(code, env=env).stdout == "well\n"


def test_a_thread_whose_loop_stops_is_told(redis: Redis, key: str) -> None:
    told: list[BaseException] = []

    def job() -> None:
        try:
            redis.command("BLPOP", key, 0)
        except BaseException as error:
            told.append(error)

    thread = threading.Thread(target=job)

    async def main() -> None:
        thread.start()
        while b"cmd=blpop" not in await redis.command("CLIENT", "LIST"):
            await asyncio.sleep(0.005)

    run(main)
    thread.join(10)
    assert len(told) == 1
    assert isinstance(told[0], (RuntimeError, errors.RedisConnectionError))
