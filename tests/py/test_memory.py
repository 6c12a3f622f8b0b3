"""Memory that grows with what has been done: each operation is done many times, and afterwards
there are as many objects of Python's and as much of malloc's memory as before."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import gc
import math
import os
import signal
import socket
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, NamedTuple

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from rawhttp import reply, serving, serving_wsgi
from test_tls import Certs, certs, pytestmark  # noqa: F401  (a fixture; needs openssl)

import puff
from puff import config, errors
from puff.postgres import Postgres
from puff.redis import Redis

# A leak is there in each of them; noise is not, and a cache of addresses is full by then.
ROUNDS = 25
Once = Callable[[], Awaitable[Any]]


# ---- how much there is ---------------------------------------------------------------------------


class _Mallinfo(ctypes.Structure):
    _names = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"
    _fields_ = [(name, ctypes.c_size_t) for name in _names.split()]


try:
    _mallinfo = ctypes.CDLL(None).mallinfo2  # glibc 2.33 and later
    _mallinfo.restype = _Mallinfo
except AttributeError:
    _mallinfo = _Mallinfo


class Used(NamedTuple):
    blocks: float  # small objects of Python's
    n_bytes: float  # of malloc's: the core's, libraries', big objects of Python's


def used() -> Used:
    gc.collect()
    info = _mallinfo()
    return Used(sys.getallocatedblocks(), info.uordblks + info.hblkhd)


async def growth(once: Once, n: int) -> Used:
    """What each call has left in the best of the rounds."""
    for _ in range(n):
        await once()
    least = [math.inf, math.inf]
    for _ in range(ROUNDS):
        before = used()
        for _ in range(4 * n):
            await once()
        await asyncio.sleep(0.001)  # what is closed a turn later
        grown = [(b - a) / (4 * n) for a, b in zip(before, used(), strict=True)]
        least = list(map(min, least, grown))
        if is_nothing(Used(*least)):
            break
    return Used(*least)


def is_nothing(left: Used) -> bool:
    """The interpreter's own blocks come and go; malloc has nothing smaller than 24 bytes."""
    return left.blocks < 0.8 and left.n_bytes < 16


# ---- operations ----------------------------------------------------------------------------------
# Each is a context, for what there is once, around a coroutine function that is called many times.


class Servers(NamedTuple):
    postgres: str
    redis: str
    certs: Certs


Operation = Callable[[Any, Servers], contextlib.AbstractAsyncContextManager[Once]]
OPERATIONS: list[Any] = []


def operation(n: int) -> Callable[[Callable[..., AsyncIterator[Once]]], Operation]:
    """Done 4 * n times a round."""

    def register(make: Callable[..., AsyncIterator[Once]]) -> Operation:
        made = contextlib.asynccontextmanager(make)
        OPERATIONS.append(pytest.param(made, n, id=make.__name__))
        return made

    return register


@operation(200)
async def call_soon(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        loop.call_soon(bytes, 1, 2).cancel()
        loop.call_soon(max, *range(9))
        loop.call_soon_threadsafe(max, 1, 2)
        await asyncio.sleep(0)

    yield once


@operation(200)
async def timers(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        loop.call_later(60, print).cancel()
        loop.call_at(0, max, *range(9))
        await asyncio.sleep(0.00001)

    yield once


@operation(200)
async def tasks(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        slow = loop.create_task(asyncio.sleep(60))
        await asyncio.gather(asyncio.sleep(0), asyncio.wait_for(asyncio.sleep(0), 9))
        slow.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await slow
        future = loop.create_future()
        future.add_done_callback(str)
        future.set_exception(KeyError())
        with contextlib.suppress(KeyError):
            await future

    yield once


class Echo(asyncio.Protocol):
    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Ask(asyncio.Protocol):
    """Says what it hears, and when it is over."""

    def __init__(self, loop: Any) -> None:
        self.heard, self.lost = loop.create_future(), loop.create_future()

    def data_received(self, data: bytes) -> None:
        self.heard.set_result(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


async def ask(transport: Any, protocol: Ask) -> None:
    transport.write(b"x" * 5000)
    await protocol.heard
    transport.close()
    await protocol.lost


@operation(25)
async def tcp_echo(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async with await loop.create_server(Echo, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()

        async def once() -> None:
            await ask(*await loop.create_connection(lambda: Ask(loop), *address))

        yield once


@operation(25)
async def refused_connection(loop: Any, _: Servers) -> AsyncIterator[Once]:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))

        async def once() -> None:
            with contextlib.suppress(ConnectionRefusedError):
                await loop.create_connection(asyncio.Protocol, *s.getsockname())

        yield once


@operation(15)
async def tls_echo(loop: Any, servers: Servers) -> AsyncIterator[Once]:
    there = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    there.load_cert_chain(servers.certs.cert, servers.certs.key)
    here = ssl.create_default_context(cafile=str(servers.certs.cert))
    async with await loop.create_server(Echo, "127.0.0.1", 0, ssl=there) as server:
        address = server.sockets[0].getsockname()

        async def once() -> None:
            made = await loop.create_connection(
                lambda: Ask(loop), *address, ssl=here, server_hostname="localhost"
            )
            await ask(*made)

        yield once


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(await reader.readline())
    writer.close()


@operation(25)
async def streams(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async with await asyncio.start_server(_copy, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()

        async def once() -> None:
            reader, writer = await asyncio.open_connection(*address)
            writer.writelines([b"hello ", b"again\n"])
            await writer.drain()
            assert await reader.read() == b"hello again\n"
            writer.close()
            await writer.wait_closed()

        yield once


@operation(50)
async def datagrams(loop: Any, _: Servers) -> AsyncIterator[Once]:
    class Note(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.heard, self.lost = loop.create_future(), loop.create_future()

        def datagram_received(self, data: bytes, address: Any) -> None:
            self.heard.set_result(data)

        def connection_lost(self, exc: Exception | None) -> None:
            self.lost.set_result(exc)

    async def once() -> None:
        transport, note = await loop.create_datagram_endpoint(Note, ("127.0.0.1", 0))
        transport.sendto(b"x" * 100, transport.get_extra_info("sockname"))
        await note.heard
        transport.close()
        await note.lost

    yield once


@operation(50)
async def sock_methods(loop: Any, _: Servers) -> AsyncIterator[Once]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)

        async def once() -> None:
            waiting = loop.create_task(loop.sock_accept(listener))
            with socket.socket() as mine:
                mine.setblocking(False)
                await loop.sock_connect(mine, listener.getsockname())
                peer, _ = await waiting
                reading = loop.create_task(loop.sock_recv(peer, 10))
                await asyncio.sleep(0)
                await loop.sock_sendall(mine, b"x")
                assert await reading == b"x"
                peer.close()

        yield once


@operation(50)
async def readers(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        a, b = socket.socketpair()
        with a, b:
            told = loop.create_future()
            loop.add_reader(a, told.set_result, None)
            loop.add_writer(a, max, 1, 2)
            b.send(b"x")
            await told
            loop.remove_reader(a)
            loop.remove_writer(a)

    yield once


@operation(25)
async def pipes(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        r, w = os.pipe()
        _, protocol = await loop.connect_read_pipe(lambda: Ask(loop), os.fdopen(r, "rb", 0))
        writing, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(w, "wb", 0))
        writing.write(b"x")
        await protocol.heard
        writing.close()
        await protocol.lost

    yield once


@operation(3)
async def children(loop: Any, _: Servers) -> AsyncIterator[Once]:
    pipe = asyncio.subprocess.PIPE

    async def once() -> None:
        child = await asyncio.create_subprocess_exec("cat", stdin=pipe, stdout=pipe)
        assert await child.communicate(b"meow") == (b"meow", None)

    yield once


@operation(100)
async def executor(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        assert await loop.run_in_executor(None, max, 1, 2) == 2
        with contextlib.suppress(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)

    yield once
    await loop.shutdown_default_executor()


@operation(50)
async def names(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        await loop.getaddrinfo("localhost", 80)
        await loop.getaddrinfo("127.0.0.1", 80)
        with contextlib.suppress(socket.gaierror):
            await loop.getaddrinfo("nobody.invalid", 80, flags=socket.AI_NUMERICHOST)

    yield once


@operation(50)
async def signals(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def once() -> None:
        told = loop.create_future()
        loop.add_signal_handler(signal.SIGUSR1, told.set_result, None)
        os.kill(os.getpid(), signal.SIGUSR1)
        await told
        loop.remove_signal_handler(signal.SIGUSR1)

    yield once


@operation(100)
async def greenlets(loop: Any, _: Servers) -> AsyncIterator[Once]:
    def work() -> int:
        puff.sleep_ms(0)
        puff.await_(asyncio.sleep(0))
        return puff.spawn(max, 1, 2).join()

    async def once() -> None:
        assert await puff.spawn(work).join() == 2
        with contextlib.suppress(ZeroDivisionError):
            await puff.spawn(divmod, 1, 0).join()
        assert await puff.to_greenlet(work) == 2
        assert await puff.spawn_blocking(max, 1, 2).join() == 2

    yield once


@operation(50)
async def sync_primitives(loop: Any, _: Servers) -> AsyncIterator[Once]:
    queue, lock = puff.Queue(), puff.Lock()

    def take() -> Any:
        with lock:
            return queue.get()

    async def once() -> None:
        taken = [puff.spawn(take), puff.spawn(take)]
        await asyncio.sleep(0)
        queue.put_nowait(1)
        queue.put_nowait(2)
        for one in taken:
            await one.join()
        event, one_each = puff.Event(), puff.Semaphore(1)
        waiting = loop.create_task(event.wait())
        async with one_each:
            event.set()
        await waiting
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(queue.get(), 0.0001)

    yield once


@operation(50)
async def asgirefs_bridges(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def inside() -> int:
        await asyncio.sleep(0)
        return 3

    async def once() -> None:
        assert await sync_to_async(max)(1, 2) == 2
        assert await sync_to_async(async_to_sync(inside))() == 3
        with contextlib.suppress(ZeroDivisionError):
            await sync_to_async(divmod)(1, 0)

    yield once


@operation(40)
async def asgi_requests(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await reply(send, scope["path"].encode(), headers=[(b"x", b"y")])

    async with serving(app) as s:

        async def once() -> None:
            connection = await s.connect()
            for path in "/a", "/b":
                assert (await connection.post(b"x" * 5000, path)).body == path.encode()
            s.connections.clear()
            connection.close()
            await connection.writer.wait_closed()

        yield once


@operation(40)
async def wsgi_requests(loop: Any, _: Servers) -> AsyncIterator[Once]:
    def app(environ: Any, start_response: Any) -> list[bytes]:
        puff.sleep_ms(0)
        start_response("200 OK", [("X-Length", environ["CONTENT_LENGTH"])])
        return [environ["wsgi.input"].read(10), b"!"]

    async with serving_wsgi(app) as s:

        async def once() -> None:
            connection = await s.connect()
            for _ in range(2):
                assert (await connection.post(b"x" * 5000)).body == b"x" * 10 + b"!"
            s.connections.clear()
            connection.close()
            await connection.writer.wait_closed()

        yield once


@operation(40)
async def postgres_queries(loop: Any, servers: Servers) -> AsyncIterator[Once]:
    config.use(config.load(overrides={"default-postgres-url": servers.postgres}))
    pg = Postgres("default")

    async def once() -> None:
        rows = await pg.fetch("select g, g::text, $1::text from generate_series(1, 50) g", "x" * 99)
        assert len(rows) == 50
        with contextlib.suppress(errors.PostgresError):
            await pg.fetch("select 1 / 0")

    yield once


@operation(100)
async def redis_commands(loop: Any, servers: Servers) -> AsyncIterator[Once]:
    config.use(config.load(overrides={"default-redis-url": servers.redis}))
    redis = Redis("default")

    async def once() -> None:
        await redis.command("SET", "test_memory", "x" * 3000)
        assert len(await redis.command("GET", "test_memory")) == 3000
        assert await redis.command("MGET", "test_memory", "test_memory nobody")
        with contextlib.suppress(errors.RedisError):
            await redis.command("LPOP", "test_memory")

    yield once
    await redis.command("DEL", "test_memory")


@operation(40)
async def loops(loop: Any, _: Servers) -> AsyncIterator[Once]:
    async def work(inner: Any) -> None:
        inner.call_later(60, print, inner)
        server = await inner.create_server(Echo, "127.0.0.1", 0)
        await inner.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())

    def in_a_thread() -> None:
        with contextlib.closing(puff.new_event_loop()) as inner:
            inner.run_until_complete(work(inner))

    async def once() -> None:
        await asyncio.to_thread(in_a_thread)

    yield once
    await loop.shutdown_default_executor()


# ---- the tests -----------------------------------------------------------------------------------


@pytest.fixture
def servers(postgres_url: str, redis_url: str, certs: Certs) -> Iterator[Servers]:  # noqa: F811
    yield Servers(postgres_url, redis_url, certs)
    config.use(None)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize(("make", "n"), OPERATIONS)
def test_what_is_done_often_leaves_nothing(make: Operation, n: int, servers: Servers) -> None:
    async def main() -> Used:
        async with make(asyncio.get_running_loop(), servers) as once:
            return await growth(once, n)

    left = puff.run(asyncio.wait_for(main(), 55))
    assert is_nothing(left), left


def test_a_leak_is_seen() -> None:
    """Else the test above would prove nothing."""
    kept: list[Any] = []

    async def once() -> None:
        kept.append(bytearray(1000))
        await asyncio.sleep(0)

    left = puff.run(growth(once, 100))
    assert left.blocks >= 1
    if _mallinfo is not _Mallinfo:
        assert left.n_bytes >= 1000
