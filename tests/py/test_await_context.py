"""await_() below Context.run(): in a context that nobody else can enter meanwhile."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from worlds import on_loop

import puff
import puff.wsgi

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")

WORLDS: dict[str, Callable[[Callable[[], Any]], Any]] = {
    "spawn": lambda f: puff.spawn(f).join(),
    "to_greenlet": puff.to_greenlet,
    "sync_to_async": lambda f: sync_to_async(f)(),
    "thread": asyncio.to_thread,
    "blocking": lambda f: puff.spawn_blocking(f).join(),
}
each_world = pytest.mark.parametrize("world", list(WORLDS.values()), ids=list(WORLDS))
flat = pytest.mark.parametrize("world", [WORLDS["spawn"], puff.to_greenlet], ids=["spawn", "task"])
WAYS: dict[str, Callable[[Any], Any]] = {
    "await_": lambda f: puff.await_(f()),
    "async_to_sync": lambda f: async_to_sync(f)(),
}
each_way = pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))


def in_copy(f: Callable[[], Any]) -> Any:
    return contextvars.copy_context().run(f)


async def seen() -> str:
    await asyncio.sleep(0)
    before = var.get()
    await asyncio.sleep(0.001)
    return before


def outcome(world: Callable[[Callable[[], Any]], Any], job: Callable[[], Any]) -> Any:
    async def main() -> Any:
        return await world(job)

    return on_loop(main())


@each_world
@each_way
def test_it_returns(world: Any, way: Any) -> None:
    def job() -> tuple[str, str]:
        def below() -> tuple[str, str]:
            var.set("below")
            return way(seen), var.get()

        return in_copy(below)

    assert outcome(world, job) == ("below", "below")


@flat
@each_way
def test_each_sees_what_the_other_sets(world: Any, way: Any) -> None:
    async def sets() -> None:
        assert var.get() == "below"
        await asyncio.sleep(0)
        var.set("coroutine")
        await asyncio.sleep(0)
        assert var.get() == "coroutine"

    def below() -> str:
        var.set("below")
        way(sets)
        return var.get()

    def job() -> tuple[str, str]:
        var.set("job")
        return in_copy(below), var.get()

    assert outcome(world, job) == ("coroutine", "job")


@flat
def test_nested_to_any_depth(world: Any) -> None:
    def down(n: int) -> list[str]:
        var.set(f"{n}")
        inner = in_copy(lambda: down(n - 1)) if n else []
        return [*inner, puff.await_(seen()), var.get()]

    assert outcome(world, lambda: down(3)) == [f"{n}" for n in range(4) for _ in range(2)]


@flat
def test_between_the_worlds_and_back(world: Any) -> None:
    async def up(n: int) -> list[str]:
        var.set(f"up {n}")
        below = await puff.to_greenlet(in_copy, lambda: down(n - 1)) if n else []
        return [*below, var.get()]

    def down(n: int) -> list[str]:
        var.set(f"down {n}")
        below = in_copy(lambda: puff.await_(up(n)))
        return [*below, var.get()]

    expected = ["up 0", "down 0", "up 1", "down 1", "up 2", "down 2"]
    assert outcome(world, lambda: down(2)) == expected


@flat
def test_exceptions_pass_and_the_context_is_left(world: Any) -> None:
    async def fails() -> None:
        await asyncio.sleep(0)
        var.set("failed")
        raise LookupError("here")

    def below() -> str:
        with pytest.raises(LookupError, match="here"):
            puff.await_(fails())
        with pytest.raises(TypeError, match="await"):
            puff.await_(17)
        return var.get()

    def job() -> tuple[str, str]:
        return in_copy(below), var.get()

    assert outcome(world, job) == ("failed", "unset")


@flat
def test_a_token_of_the_caller_resets_in_the_coroutine(world: Any) -> None:
    def below() -> str:
        token = var.set("below")

        async def resets() -> None:
            await asyncio.sleep(0)
            var.reset(token)

        puff.await_(resets())
        return var.get()

    assert outcome(world, lambda: in_copy(below)) == "unset"


@flat
def test_in_a_generator(world: Any) -> None:
    def values() -> Iterator[str]:
        for _ in range(2):
            yield puff.await_(seen())

    def job() -> list[str]:
        var.set("outside")
        generator = values()

        def below() -> str:
            var.set("below")
            return next(generator)

        return [in_copy(below), next(generator)]

    assert outcome(world, job) == ["below", "outside"]


def test_tasks_that_the_coroutine_makes_have_copies() -> None:
    async def sets(value: str) -> str:
        before = var.get()
        var.set(value)
        await asyncio.sleep(0)
        return f"{before} {var.get()}"

    async def gathers() -> list[str]:
        return await asyncio.gather(sets("a"), sets("b"))

    def below() -> tuple[list[str], str]:
        var.set("below")
        return puff.await_(gathers()), var.get()

    assert outcome(WORLDS["spawn"], lambda: in_copy(below)) == (["below a", "below b"], "below")


def test_what_runs_meanwhile_is_in_contexts_of_its_own() -> None:
    async def waits(event: asyncio.Event) -> None:
        var.set("waits")
        await event.wait()

    async def main() -> None:
        event = asyncio.Event()
        job = puff.spawn(in_copy, lambda: puff.await_(waits(event)))
        for _ in range(5):
            await asyncio.sleep(0)
            assert var.get() == "unset"
            assert await puff.spawn(var.get).join() == "unset"
        event.set()
        await job.join()

    on_loop(main())


def test_killed_there_it_ends() -> None:
    log = []

    async def waits() -> None:
        try:
            await asyncio.sleep(60)
        finally:
            log.append(var.get())

    def below() -> None:
        var.set("below")
        puff.await_(waits())

    async def main() -> Any:
        job = puff.spawn(in_copy, below)
        await asyncio.sleep(0.002)
        job.kill()
        return await job.join(timeout=5)

    assert isinstance(on_loop(main()), puff.GreenletExit)
    assert log == ["below"]


@pytest.mark.parametrize("threads", [0, 1])
@each_way
def test_in_a_wsgi_request(threads: int, way: Any) -> None:
    async def body() -> bytes:
        await asyncio.sleep(0.001)
        return b"awaited"

    def app(environ: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [])
        return [in_copy(lambda: way(body))]

    async def main() -> bytes:
        async with puff.wsgi.Server(app, bind="127.0.0.1:0", threads=threads) as server:
            port = int(server.addresses[0].rsplit(":", 1)[1])
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await asyncio.wait_for(reader.read(), 5)
            writer.close()
            await writer.wait_closed()
            return answer

    assert on_loop(main()).endswith(b"awaited")
