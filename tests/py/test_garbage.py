"""What the garbage collector may take: a loop that nobody has closed, with all that is open on it,
and not a task that waits for something, although nobody but the loop knows of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import sys
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from functools import partial
from typing import Any

import pytest
from oracle import MAKERS

import puff
from puff._bind.sock import wait_readable

Loop = Any
# What else must stay alive while the loop waits; closed at the end.
Kept = contextlib.ExitStack


def pair(kept: Kept) -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
        kept.enter_context(end)
    return ends


def pipe(kept: Kept) -> tuple[Any, Any]:
    r, w = os.pipe()
    return os.fdopen(r, "rb", 0), kept.enter_context(os.fdopen(w, "wb", 0))


# ---- a task that waits ---------------------------------------------------------------------------


Wait = tuple[Awaitable[Any], Callable[[], object]]  # what the task awaits, and what ends that


async def recv(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)
    return loop.sock_recv(mine, 9), partial(peer.send, b"x")


async def recv_into(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)
    return loop.sock_recv_into(mine, bytearray(9)), partial(peer.send, b"x")


async def sendall(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)

    def read() -> None:
        with contextlib.suppress(BlockingIOError):
            while peer.recv(1 << 20):
                pass
        loop.call_later(0.001, read)

    return loop.sock_sendall(mine, bytes(4 << 20)), read


async def accept(loop: Loop, kept: Kept) -> Wait:
    listening = kept.enter_context(socket.create_server(("127.0.0.1", 0)))
    listening.setblocking(False)

    async def wait() -> None:
        (await loop.sock_accept(listening))[0].close()

    def connect() -> None:
        kept.enter_context(socket.create_connection(listening.getsockname()))

    return wait(), connect


async def readable(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)

    async def wait() -> None:
        done = loop.create_future()
        loop.add_reader(mine, done.set_result, None)
        await done
        loop.remove_reader(mine)

    return wait(), partial(peer.send, b"x")


class Told(asyncio.Protocol):
    def __init__(self, told: asyncio.Future[bytes]) -> None:
        self.told = told

    def data_received(self, data: bytes) -> None:
        self.told.set_result(data)


async def stream_data(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)

    async def wait() -> None:
        told = loop.create_future()
        transport, _ = await loop.create_connection(lambda: Told(told), sock=mine)
        await told
        transport.close()

    return wait(), partial(peer.send, b"x")


async def pipe_data(loop: Loop, kept: Kept) -> Wait:
    r, w = pipe(kept)

    async def wait() -> None:
        told = loop.create_future()
        transport, _ = await loop.connect_read_pipe(lambda: Told(told), r)
        await told
        transport.close()

    return wait(), partial(w.write, b"x")


async def stream_reader(loop: Loop, kept: Kept) -> Wait:
    """asyncio's protocol has a weak reference to its reader, so this task is garbage."""
    mine, peer = pair(kept)

    async def wait() -> None:
        reader, _ = await asyncio.open_connection(sock=mine)
        await reader.read(9)

    return wait(), partial(peer.send, b"x")


async def child(loop: Loop, kept: Kept) -> Wait:
    r, w = pipe(kept)
    kept.enter_context(r)

    async def wait() -> None:
        process = await asyncio.create_subprocess_exec("cat", stdin=r)
        await process.wait()

    return wait(), w.close


async def sleep(loop: Loop, kept: Kept) -> Wait:
    return asyncio.sleep(0.02), lambda: None


async def name(loop: Loop, kept: Kept) -> Wait:
    loop.set_debug(False)  # else asyncio's own method asks, and its thread has the loop
    return loop.getaddrinfo("localhost", 80), lambda: None


async def thread(loop: Loop, kept: Kept) -> Wait:
    mine, peer = socket.socketpair()
    kept.enter_context(mine)
    kept.enter_context(peer)
    return loop.run_in_executor(None, mine.recv, 1), partial(peer.send, b"x")


ANY_LOOP = [recv, recv_into, sendall, accept, readable, stream_data, pipe_data, child, sleep, name]
ANY_LOOP += [thread]


async def our_readable(loop: Loop, kept: Kept) -> Wait:
    mine, peer = pair(kept)
    return wait_readable(mine), partial(peer.send, b"x")


async def in_the_background(awaitable: Awaitable[Any], ended: asyncio.Future[str]) -> None:
    outcome = "destroyed"
    try:
        await awaitable
        outcome = "went on"
    finally:
        if not ended.done():
            ended.set_result(outcome)


async def start_and_collect(loop: Loop, make: Callable[[Loop, Kept], Coroutine[Any, Any, Wait]]):
    with contextlib.ExitStack() as kept:
        ended = loop.create_future()
        awaitable, end = await make(loop, kept)
        loop.create_task(in_the_background(awaitable, ended))
        del awaitable
        for _ in range(5):
            await asyncio.sleep(0.001)
            gc.collect()
        end()
        return await asyncio.wait_for(ended, 10)


@pytest.mark.parametrize("make", ANY_LOOP, ids=lambda make: make.__name__)
@pytest.mark.parametrize("kind", MAKERS)
def test_a_waiting_task_that_only_the_loop_knows_goes_on(kind, make) -> None:
    with contextlib.closing(MAKERS[kind]()) as loop:
        assert loop.run_until_complete(start_and_collect(loop, make)) == "went on"
        loop.run_until_complete(loop.shutdown_default_executor())


def test_a_task_that_waits_for_our_own_readiness_goes_on() -> None:
    with contextlib.closing(puff.Loop()) as loop:
        assert loop.run_until_complete(start_and_collect(loop, our_readable)) == "went on"


@pytest.mark.parametrize("kind", MAKERS)
def test_a_task_that_waits_in_vain_is_garbage(kind) -> None:
    """Another one has taken its socket and direction."""

    async def main(loop: Loop) -> bool:
        with contextlib.ExitStack() as kept:
            mine, _ = pair(kept)
            ended = loop.create_future()
            first = loop.create_task(in_the_background(loop.sock_recv(mine, 1), ended))
            first._log_destroy_pending = False
            await asyncio.sleep(0)
            second = loop.create_task(loop.sock_recv(mine, 1))
            alive = weakref.ref(first)
            del first
            for _ in range(3):
                await asyncio.sleep(0.001)
                gc.collect()
            second.cancel()
            return alive() is None

    with contextlib.closing(MAKERS[kind]()) as loop:
        assert loop.run_until_complete(main(loop))


# ---- a loop that nobody has closed ---------------------------------------------------------------


class Unfinalized(puff.Loop):
    """Its finalizer does not close it: the collector must."""

    def __del__(self) -> None:
        pass


def waits(make: Callable[[Loop, Kept], Coroutine[Any, Any, Wait]]) -> Callable[..., Any]:
    async def leave(loop: Loop, kept: Kept) -> Any:
        ended = loop.create_future()
        awaitable, _ = await make(loop, kept)
        task = loop.create_task(in_the_background(awaitable, ended))
        task._log_destroy_pending = False
        for _ in range(3):
            await asyncio.sleep(0.001)
        return task

    leave.__name__ = f"{make.__name__}_wait"
    return leave


async def server(loop: Loop, kept: Kept) -> Any:
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    ours, _ = await loop.create_connection(asyncio.Protocol, *server.sockets[0].getsockname())
    await asyncio.sleep(0.002)  # also the accepted one is open
    return server, ours


async def unix_server(loop: Loop, kept: Kept) -> Any:
    return await loop.create_unix_server(asyncio.Protocol, f"\0{os.getpid()} garbage")


async def datagrams(loop: Loop, kept: Kept) -> Any:
    return await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )


async def pipes(loop: Loop, kept: Kept) -> Any:
    r, w = pipe(kept)
    return (
        await loop.connect_read_pipe(asyncio.Protocol, r),
        await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(os.dup(w.fileno()), "wb", 0)),
    )


async def stuck_writes(loop: Loop, kept: Kept) -> Any:
    mine, _ = pair(kept)
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=mine)
    transport.write(bytes(8 << 20))
    await asyncio.sleep(0)
    return transport


async def registered(loop: Loop, kept: Kept) -> Any:
    mine, peer = pair(kept)
    loop.add_reader(mine, print, loop)
    loop.add_writer(peer, print, loop)
    loop.add_signal_handler(signal.SIGUSR1, print, loop)


async def scheduled(loop: Loop, kept: Kept) -> Any:
    loop.call_later(100, print, loop)
    loop.call_soon(print, loop, *range(9))
    future = loop.create_future()
    future.add_done_callback(partial(print, loop))
    future.set_result(loop)
    return future


OPEN = [server, unix_server, datagrams, pipes, stuck_writes, registered, scheduled]
OPEN += [waits(make) for make in (*ANY_LOOP, stream_reader, our_readable) if make is not thread]


@pytest.fixture
def no_children() -> Iterator[None]:
    yield
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("leave", OPEN, ids=lambda leave: leave.__name__)
@pytest.mark.parametrize("make", [puff.Loop, Unfinalized], ids=["finalized", "not finalized"])
def test_a_dropped_loop_is_collected_with_what_is_open(
    make, leave, no_children, monkeypatch
) -> None:
    # What is logged of a transport in debug mode would keep it, and with it the loop.
    monkeypatch.setattr(logging.getLogger("asyncio"), "disabled", True)
    gc.collect()
    before = sorted(os.listdir("/proc/self/fd"))
    loop = make()
    with contextlib.ExitStack() as kept:
        left = loop.run_until_complete(leave(loop, kept))
        alive = weakref.ref(loop)
        del loop, left
        gc.collect()
        gc.collect()  # finalizers that ran in the first
        still = alive()
        if still is not None:
            still.close()
    assert still is None
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    assert sorted(os.listdir("/proc/self/fd")) == before


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("make", [puff.Loop, Unfinalized], ids=["finalized", "not finalized"])
def test_a_forked_child_may_collect_its_parents_loop(make) -> None:
    """Its epoll set is the parent's as well: nothing may be taken out of it."""
    loop = make()
    with contextlib.ExitStack() as kept:
        mine, peer = pair(kept)
        reader = asyncio.StreamReader(loop=loop)
        transport, protocol = loop.run_until_complete(
            loop.create_connection(
                lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=mine
            )
        )
        loop.run_until_complete(asyncio.sleep(0.001))
        pid = os.fork()
        if pid == 0:
            alive = weakref.ref(loop)
            del loop, transport, protocol, reader
            gc.collect()
            os._exit(0 if alive() is None else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        peer.send(b"x")
        assert loop.run_until_complete(asyncio.wait_for(reader.read(1), 5)) == b"x"
        transport.close()
        loop.run_until_complete(asyncio.sleep(0))
        loop.close()


# ---- Puff's clients ------------------------------------------------------------------------------


CLIENTS = """
import asyncio, gc, os, weakref, puff
from puff.postgres import Postgres
from puff.redis import Redis


class Unfinalized(puff.Loop):
    def __del__(self):
        pass


async def postgres():
    await Postgres().fetchval("select pg_sleep(20)")


async def redis():
    await Redis().command("BLPOP", "nobody pushes to this", 20)


async def leave(waits):
    await Postgres().fetchval("select 1")
    tasks = [asyncio.create_task(wait()) for wait in waits]
    await asyncio.sleep(0.1)
    for task in tasks:
        task._log_destroy_pending = False


before = None
for make in (puff.Loop, puff.Loop, Unfinalized):
    for waits in (), (postgres,), (redis,):
        loop = make()
        loop.run_until_complete(leave(waits))
        alive = weakref.ref(loop)
        del loop
        gc.collect()
        gc.collect()
        assert alive() is None, (make, waits)
        now = len(os.listdir("/proc/self/fd"))
        before = before or now
        assert now == before, (now, before, make, waits)
"""


def test_a_dropped_loop_is_collected_with_pools_and_queries_under_way(run_python, puff_env) -> None:
    run_python(CLIENTS, env=puff_env)


# ---- and what is not -----------------------------------------------------------------------------


@pytest.mark.skipif(sys.implementation.name != "cpython", reason="greenlets of CPython")
def test_a_parked_greenlet_keeps_its_loop_until_that_is_closed() -> None:
    """Its stack is not seen by the garbage collector: docs/loop.md says so."""
    loop = puff.Loop()

    async def main() -> None:
        puff.spawn(puff.sleep_ms, 100_000)
        await asyncio.sleep(0.001)

    loop.run_until_complete(main())
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    loop = alive()
    assert loop is not None
    loop.close()
