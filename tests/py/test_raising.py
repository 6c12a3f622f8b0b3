"""Protocols and handlers that raise, at every point where user code is called, leave the loop as
asyncio's would be left: what is reported, what leaves run_until_complete(), who is told of the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from typing import Any

import pytest
from oracle import MAKERS, name_of, outcome, same

EXCEPTIONS = [ZeroDivisionError, OSError, KeyboardInterrupt, SystemExit, asyncio.CancelledError]
BIG = b"x" * (8 << 20)


class Noting:
    """Notes each call, and raises in one of them."""

    def __init__(self, notes: list[Any], raises: str, exception: type[BaseException]) -> None:
        self.notes, self.raises, self.exception = notes, raises, exception
        self.lost = asyncio.get_running_loop().create_future()
        self.seen: set[str] = set()

    def called(self, method: str, note: object = None) -> None:
        if method not in self.seen:  # how often data comes is the kernel's choice
            self.seen.add(method)
            self.notes.append((method, note))
        if method == self.raises:
            raise self.exception

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.called("connection_made")

    def eof_received(self) -> None:
        self.called("eof_received")

    def pause_writing(self) -> None:
        self.called("pause_writing")

    def resume_writing(self) -> None:
        self.called("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(None)
        self.called("connection_lost", name_of(exc))


class Plain(Noting, asyncio.Protocol):
    def data_received(self, data: bytes) -> None:
        self.called("data_received")


class Buffered(Noting, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint: int) -> bytearray:
        self.called("get_buffer")
        self.buffer = bytearray(100)
        return self.buffer

    def buffer_updated(self, n: int) -> None:
        self.called("buffer_updated")


class Datagrams(Noting, asyncio.DatagramProtocol):
    def datagram_received(self, data: bytes, addr: object) -> None:
        self.called("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.called("error_received", name_of(exc))


class Pipes(Noting, asyncio.SubprocessProtocol):
    def pipe_data_received(self, fd: int, data: bytes) -> None:
        self.called("pipe_data_received", fd)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        self.called("pipe_connection_lost")

    def process_exited(self) -> None:
        self.called("process_exited")


STREAM = ["connection_made", "eof_received", "connection_lost", "pause_writing", "resume_writing"]
STREAM_CASES = [(Plain, m) for m in [*STREAM, "data_received"]]
STREAM_CASES += [(Buffered, m) for m in [*STREAM, "get_buffer", "buffer_updated"]]


async def drain(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    while await loop.sock_recv(sock, 1 << 20):
        pass


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize(("kind", "method"), STREAM_CASES)
def test_a_stream_protocol_that_raises(kind, method, exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        with peer:
            peer.setblocking(False)
            holder: list[Any] = []

            def factory() -> Any:
                holder.append(kind(notes, method, exception))
                return holder[0]

            try:
                transport, protocol = await loop.create_connection(factory, sock=mine)
                if "writing" in method:
                    transport.write(BIG)
                    transport.close()
                    await drain(peer)
                else:
                    await loop.sock_sendall(peer, b"x" * 150)
                    peer.shutdown(socket.SHUT_WR)
                await protocol.lost
                notes.append(transport.is_closing())
            finally:
                for protocol in holder:
                    with contextlib.suppress(AttributeError):  # asyncio's, when it is lost already
                        protocol.transport.abort()

    same(scenario)


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize(
    "method", ["connection_made", "datagram_received", "error_received", "connection_lost"]
)
def test_a_datagram_protocol_that_raises(method, exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        peer.bind(("127.0.0.1", 0))
        with peer:
            transport, protocol = await loop.create_datagram_endpoint(
                lambda: Datagrams(notes, method, exception), remote_addr=peer.getsockname()
            )
            try:
                if method == "error_received":
                    peer.close()
                    transport.sendto(b"x")  # answered by ICMP: nobody is there
                else:
                    peer.sendto(b"x", transport.get_extra_info("sockname"))
                while not protocol.seen & {"datagram_received", "error_received"}:
                    await asyncio.sleep(0.001)
                transport.close()
                await protocol.lost
            finally:
                transport.abort()

    same(scenario)


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize("kind", ["read", "write"])
@pytest.mark.parametrize(
    "method", ["connection_made", "data_received", "eof_received", "connection_lost"]
)
def test_a_pipe_protocol_that_raises(kind, method, exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        r, w = os.pipe()
        with os.fdopen(r, "rb", 0) as reader, os.fdopen(w, "wb", 0) as writer:
            holder: list[Any] = []

            def factory() -> Any:
                holder.append(Plain(notes, method, exception))
                return holder[0]

            try:
                if kind == "read":
                    await loop.connect_read_pipe(factory, reader)
                    os.write(w, b"x")
                    writer.close()
                else:
                    await loop.connect_write_pipe(factory, writer)
                    reader.close()
                await holder[0].lost
            finally:
                for protocol in holder:
                    getattr(protocol.transport, "abort", protocol.transport.close)()

    same(scenario)


@pytest.mark.leaves("asyncio's pidfd of a child that outlives its loop")
@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize(
    "method",
    ["pipe_data_received", "pipe_connection_lost", "process_exited", "connection_lost"],
)
def test_a_subprocess_protocol_that_raises(method, exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        transport, protocol = await loop.subprocess_exec(
            lambda: Pipes([], method, exception), "cat", stderr=None
        )
        try:
            stdin = transport.get_pipe_transport(0)
            stdin.write(b"x")
            stdin.close()  # not before: one that ends at once may end while we still wait for it
            await asyncio.wait_for(protocol.lost, 1.5)
        finally:
            transport.close()
            notes.append(method in protocol.seen)  # the order of the others is the kernel's

    same(scenario)


# ---- handlers ------------------------------------------------------------------------------------


def raiser(exception: type[BaseException]) -> Any:
    def raises(*_: object) -> None:
        raise exception

    return raises


def schedule(loop: Any, how: str, callback: Any, pair: tuple[socket.socket, socket.socket]) -> None:
    """Has the loop call it once, in one of the ways in which it calls anything."""
    if how == "reader":
        loop.add_reader(pair[0], lambda: (loop.remove_reader(pair[0]), callback()))
        pair[1].send(b"x")
    elif how == "writer":
        loop.add_writer(pair[0], lambda: (loop.remove_writer(pair[0]), callback()))
    elif how == "signal":
        loop.add_signal_handler(signal.SIGUSR1, callback)
        os.kill(os.getpid(), signal.SIGUSR1)
    elif how == "future":
        future = loop.create_future()
        future.add_done_callback(callback)
        future.set_result(None)
    elif how == "timer":
        loop.call_later(0.001, callback)
    else:
        getattr(loop, how)(callback)


WAYS = ["call_soon", "call_soon_threadsafe", "timer", "reader", "writer", "signal", "future"]


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize("how", WAYS)
def test_a_callback_that_raises(how, exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        left, right = socket.socketpair()
        with left, right:
            try:
                schedule(loop, how, raiser(exception), (left, right))
                await asyncio.sleep(0.02)
                notes.append("went on")
            finally:
                loop.remove_reader(left)
                loop.remove_writer(left)
                loop.remove_signal_handler(signal.SIGUSR1)

    same(scenario)


@pytest.mark.parametrize("exception", EXCEPTIONS)
@pytest.mark.parametrize("default_raises_too", [False, True])
@pytest.mark.parametrize("how", WAYS)
def test_an_exception_handler_that_raises(how, default_raises_too, exception, caplog) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        left, right = socket.socketpair()
        with left, right:
            loop.set_exception_handler(raiser(exception))
            if default_raises_too:
                loop.default_exception_handler = raiser(exception)
            try:
                schedule(loop, how, raiser(ZeroDivisionError), (left, right))
                await asyncio.sleep(0.02)
                notes.append("went on")
            finally:
                loop.set_exception_handler(None)
                loop.remove_reader(left)
                loop.remove_writer(left)
                loop.remove_signal_handler(signal.SIGUSR1)

    results = []
    for make in MAKERS.values():
        caplog.clear()
        result = outcome(make, scenario)
        results.append((result, [r.msg.partition(" ")[0] for r in caplog.records]))
    assert results[1] == results[0]


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_what_a_thread_of_the_executor_raises_is_the_callers(exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        try:
            await loop.run_in_executor(None, raiser(exception))
        except BaseException as exc:
            notes.append(name_of(exc))

    same(scenario)


@pytest.mark.parametrize("exception", EXCEPTIONS)
def test_a_protocol_factory_that_raises(exception) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        server = await loop.create_server(raiser(exception), "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        try:
            with socket.create_connection(address) as client:
                client.setblocking(False)
                notes.append(await asyncio.wait_for(loop.sock_recv(client, 1), 0.2))
        except (OSError, asyncio.TimeoutError) as exc:
            notes.append(isinstance(exc, OSError))
        finally:
            server.close()

    same(scenario)
