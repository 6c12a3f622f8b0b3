"""asyncio's streams over our transports do what they do over asyncio's: each behaviour is tried on
both loops.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import socket
import sys
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any
from unittest import mock

import pytest
from oracle import MAKERS


def run(loop: asyncio.AbstractEventLoop, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    loop.run_until_complete(asyncio.wait_for(main(), 30))


@asynccontextmanager
async def streams(
    limit: int = 2**16,
) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, socket.socket]]:
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    reader, writer = await asyncio.open_connection(sock=ours, limit=limit)
    try:
        yield reader, writer, theirs
    finally:
        writer.transport.abort()
        theirs.close()


def step(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    return asyncio.ensure_future(coro)


async def turns(n: int = 3) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def outcome(awaitable: Awaitable[Any]) -> Any:
    """What an awaitable gives or raises, in a form that can be compared."""
    try:
        return await awaitable
    except Exception as exc:
        return type(exc), exc.args, getattr(exc, "partial", None), getattr(exc, "consumed", None)


# What a program does with a reader, and what it gets, for a text that comes in pieces.
TEXT = b"first line\nsecond\n\nlonger than the others by far\nlast without an end"
CALLS: dict[str, Callable[[asyncio.StreamReader], Awaitable[Any]]] = {
    "read": lambda r: r.read(7),
    "read by name": lambda r: r.read(n=7),
    "read nothing": lambda r: r.read(0),
    "read to the end": lambda r: r.read(),
    "read to the end by number": lambda r: r.read(-1),
    "readexactly": lambda r: r.readexactly(9),
    "readexactly too much": lambda r: r.readexactly(1000),
    "readexactly nothing": lambda r: r.readexactly(0),
    "readexactly a negative number": lambda r: r.readexactly(-1),
    "readline": lambda r: r.readline(),
    "readuntil": lambda r: r.readuntil(),
    "readuntil a separator": lambda r: r.readuntil(b"ne"),
    "readuntil a long separator": lambda r: r.readuntil(separator=b"second\n\nlonger"),
    "readuntil a bytearray": lambda r: r.readuntil(bytearray(b"\n")),
    "readuntil nothing": lambda r: r.readuntil(b""),
    "readuntil what never comes": lambda r: r.readuntil(b"\0"),
    "the next line": lambda r: r.__anext__(),
    "a number that is none": lambda r: r.read("x"),  # type: ignore[arg-type]
    "a separator that is none": lambda r: r.readuntil(1),  # type: ignore[arg-type]
}
LIMITS = [8, 16, 2**16]


async def transcript(name: str, size: int, limit: int) -> list[Any]:
    """Calls again and again, while the text is fed in pieces of size, and then the end."""
    async with streams(limit) as (reader, _, _):
        seen: list[Any] = []
        pieces = [TEXT[i : i + size] for i in range(0, len(TEXT), size)]
        task = step(outcome(CALLS[name](reader)))
        for piece in [*pieces, b""]:
            await turns(2)
            reader.feed_data(piece) if piece else reader.feed_eof()
            await turns(2)
            for _ in range(3):  # an error may come again and again
                if task.done():
                    seen.append((task.result(), bytes(reader._buffer)))  # type: ignore[attr-defined]
                    task = step(outcome(CALLS[name](reader)))
                    await turns(2)
        seen.append((await task, bytes(reader._buffer)))  # type: ignore[attr-defined]
        return [*seen, reader.at_eof()]


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("name", [n for n in CALLS if "nothing" not in n and "none" not in n])
def test_each_method_at_each_chunking(name: str, limit: int) -> None:
    for size in [*range(1, 13), len(TEXT)]:
        made = {}
        for maker, make in MAKERS.items():
            loop = make()
            try:
                main = asyncio.wait_for(transcript(name, size, limit), 30)
                made[maker] = loop.run_until_complete(main)
            finally:
                loop.close()
        assert made["puff"] == made["asyncio"]


@pytest.mark.parametrize("name", CALLS)
def test_each_method_when_the_text_is_there(name: str) -> None:
    made = []
    for make in MAKERS.values():
        loop = make()

        async def main() -> None:
            async with streams() as (reader, _, _):
                reader.feed_data(TEXT)
                if "end" in name or "never" in name or "much" in name:
                    reader.feed_eof()
                made.append([await outcome(CALLS[name](reader)), bytes(reader._buffer)])

        run(loop, main)
        loop.close()
    assert made[0] == made[1]


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("when", ["before", "while waiting", "after data"])
def test_each_method_with_an_exception(name: str, when: str) -> None:
    made = []
    for make in MAKERS.values():
        loop = make()

        async def main() -> None:
            async with streams() as (reader, _, _):
                if when == "before":
                    reader.set_exception(ConnectionResetError(104, "reset"))
                task = step(outcome(CALLS[name](reader)))
                await turns(1)
                if when == "after data":
                    reader.feed_data(b"short")
                reader.set_exception(ConnectionResetError(104, "reset"))
                if when == "after data":
                    reader.feed_eof()
                made.append([await task, bytes(reader._buffer)])

        run(loop, main)
        loop.close()
    assert made[0] == made[1]


def test_an_echo_server_and_its_client(loop) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async for line in reader:
            writer.writelines([b"> ", line])
            await writer.drain()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for i in range(50):
            writer.write(b"line %d\n" % i)
            assert await reader.readline() == b"> line %d\n" % i
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()

    run(loop, main)


def test_reading_pauses_at_twice_the_limit_and_goes_on(loop) -> None:
    async def main() -> None:
        async with streams(limit=1000) as (reader, writer, peer):
            text = bytes(range(256)) * 1000
            sender = step(loop.sock_sendall(peer, text))
            while writer.transport.is_reading():
                await asyncio.sleep(0)
            assert len(reader._buffer) > 2000
            assert reader._paused
            assert await reader.readexactly(len(text)) == text
            assert writer.transport.is_reading()
            await sender
            assert reader._buffer == b"" and not reader._paused

    run(loop, main)


def test_taking_down_to_the_limit_resumes(loop) -> None:
    async def main() -> None:
        async with streams(limit=10) as (reader, writer, _):
            reader.feed_data(b"x" * 21)
            assert not writer.transport.is_reading()
            assert await reader.read(10) == b"x" * 10
            assert not writer.transport.is_reading()
            assert await reader.read(1) == b"x"
            assert writer.transport.is_reading()

    run(loop, main)


class Unpausable(asyncio.Transport):
    def pause_reading(self) -> None:
        raise NotImplementedError


def test_a_transport_that_cannot_pause_is_forgotten(loop) -> None:
    async def main() -> None:
        async with streams(limit=10) as (reader, _, _):
            reader._transport = Unpausable()
            reader.feed_data(b"x" * 100)
            assert reader._transport is None and not reader._paused
            assert await reader.read(100) == b"x" * 100

    run(loop, main)


@pytest.mark.parametrize("name", ["read", "readexactly", "readline", "readuntil"])
def test_two_readers_are_refused(loop, name) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            first = step(reader.read(5))
            await turns()
            function = "readuntil" if name == "readline" else name
            with pytest.raises(RuntimeError) as raised:
                await CALLS[name](reader)
            assert str(raised.value) == (
                f"{function}() called while another coroutine is already waiting for incoming data"
            )
            reader.feed_data(b"hello")
            assert await first == b"hello"

    run(loop, main)


@pytest.mark.parametrize("name", ["read", "readexactly", "readline", "readuntil"])
def test_a_cancelled_read_loses_nothing(loop, name) -> None:
    async def main() -> None:
        async with streams() as (reader, _, peer):
            reader.feed_data(b"ab")
            task = step(CALLS[name](reader) if name != "read" else reader.readexactly(3))
            await turns()
            assert reader._waiter is not None
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert reader._waiter is None
            await loop.sock_sendall(peer, b"cde\n")
            assert await reader.readline() == b"abcde\n"

    run(loop, main)


def test_data_that_comes_with_the_cancel_stays(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            task = step(reader.read(10))
            await turns()
            reader.feed_data(b"hello")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await reader.read(10) == b"hello"
            task = step(reader.read(10))
            await turns()
            task.cancel()
            reader.feed_data(b"again")
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await reader.read(10) == b"again"

    run(loop, main)


def test_reads_in_tasks_gathers_and_timeouts(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _), streams() as (other, _, _):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.read(1), 0.01)
            loop.call_soon(reader.feed_data, b"one\n")
            loop.call_soon(other.feed_data, b"two\n")
            assert await asyncio.gather(reader.readline(), other.readline()) == [b"one\n", b"two\n"]
            task = asyncio.create_task(reader.read(3), name="a read")
            assert "read" in repr(task)
            await turns()
            assert task.get_stack() is not None and "a read" in repr(task)
            reader.feed_data(b"abc")
            assert await asyncio.wait_for(task, 5) == b"abc"

    run(loop, main)


def test_a_call_is_a_coroutine_that_starts_when_awaited(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            call = reader.read(5)
            assert asyncio.iscoroutine(call) and inspect.isawaitable(call)
            assert call.__qualname__ == "StreamReader.read" and call.__name__ == "read"
            assert "StreamReader.read" in repr(call)
            reader.feed_data(b"hello")  # before it has begun
            assert await call == b"hello"
            with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
                await call
            closed = reader.read(5)
            closed.close()
            with pytest.raises(RuntimeError):
                await closed
            thrown = reader.readline()
            with pytest.raises(KeyError):
                thrown.throw(KeyError("x"))

    run(loop, main)


def test_a_closed_call_no_longer_waits(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            call = reader.read(5)
            call.send(None)
            assert reader._waiter is not None
            call.close()
            assert reader._waiter is None
            call = reader.readexactly(5)
            call.send(None)
            with pytest.raises(KeyError):
                call.throw(KeyError("x"))
            assert reader._waiter is None

    run(loop, main)


def test_a_call_that_is_never_awaited_warns(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                reader.read(5)
                gc.collect()
            texts = [str(w.message) for w in caught if w.category is RuntimeWarning]
            (text,) = texts  # and, in debug mode, where it was made
            assert text.splitlines()[0] == "coroutine 'StreamReader.read' was never awaited"

    run(loop, main)


@pytest.mark.parametrize(
    "call",
    [
        lambda r: r.read(1, 2),
        lambda r: r.read(m=1),
        lambda r: r.readexactly(),
        lambda r: r.readline(1),
        lambda r: r.readuntil(b"x", b"y"),
    ],
)
def test_wrong_arguments_are_type_errors_at_once(loop, call) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            with pytest.raises(TypeError):
                call(reader)

    run(loop, main)


@pytest.mark.skipif(sys.version_info < (3, 13), reason="from 3.13 on")
def test_several_separators(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, _):
            reader.feed_data(b"one;two,three")
            assert await reader.readuntil((b",", b";")) == b"one;"  # type: ignore[arg-type]

    run(loop, main)


def test_a_reader_looks_like_asyncios(loop) -> None:
    async def main() -> None:
        async with streams(limit=1000) as (reader, writer, _):
            assert isinstance(reader, asyncio.StreamReader)
            assert type(reader).__name__ == "StreamReader"
            assert type(reader).__module__ == "asyncio.streams"
            assert set(vars(reader)) >= {"_buffer", "_eof", "_waiter", "_limit", "_transport"}
            assert repr(reader).startswith("<StreamReader limit=1000 transport=<")
            protocol = writer.transport.get_protocol()
            assert isinstance(protocol, asyncio.StreamReaderProtocol)
            assert type(protocol).__name__ == "StreamReaderProtocol"
            assert str(inspect.signature(reader.read)) == "(n=-1)"

    run(loop, main)


class Shouting(asyncio.StreamReader):
    async def read(self, n: int = -1) -> bytes:
        return (await super().read(n)).upper()


def test_a_subclass_keeps_its_methods(loop) -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        reader = Shouting()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
        assert type(reader) is Shouting
        theirs.send(b"hello")
        assert await reader.read(5) == b"HELLO"
        theirs.send(b"line\n")
        assert await reader.readline() == b"line\n"
        transport.abort()
        theirs.close()

    run(loop, main)


def test_replaced_methods_are_called(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, _, peer):
            fed: list[bytes] = []
            reader.feed_data = fed.append  # type: ignore[method-assign,assignment]
            peer.send(b"one")
            while not fed:
                await asyncio.sleep(0)
            del reader.feed_data  # type: ignore[method-assign]
            assert fed == [b"one"]
            with mock.patch.object(
                asyncio.StreamReader, "feed_data", lambda self, d: fed.append(d)
            ):
                peer.send(b"two")
                while len(fed) < 2:
                    await asyncio.sleep(0)

            async def never(self: asyncio.StreamReader, name: str) -> None:
                raise LookupError(name)

            with (
                mock.patch.object(asyncio.StreamReader, "_wait_for_data", never),
                pytest.raises(LookupError, match="readexactly"),
            ):
                await reader.readexactly(3)
            peer.send(b"three")
            assert await reader.readexactly(5) == b"three"

    run(loop, main)


def test_drain_waits_while_the_transport_is_full(loop) -> None:
    async def main() -> None:
        async with streams() as (_, writer, peer):
            await writer.drain()
            writer.write(b"x" * (8 << 20))
            task = step(writer.drain())
            await turns()
            assert not task.done()
            got = 0
            while got < 8 << 20:
                got += len(await loop.sock_recv(peer, 1 << 20))
            await task
            peer.close()
            writer.write(b"x")
            with pytest.raises(ConnectionError):
                for _ in range(100):
                    writer.write(b"x" * 10_000)
                    await writer.drain()

    run(loop, main)


def test_a_reader_dies_with_its_connection(loop) -> None:
    async def main() -> None:
        async with streams() as (reader, writer, _):
            task = step(reader.read(1))
            await turns()
            writer.close()
            assert await task == b""
            assert reader.at_eof()

    run(loop, main)
    gc.collect()
