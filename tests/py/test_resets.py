"""What a protocol is told of a connection's end: all bytes that came before it, and whether the
peer has ended it or it was reset, as asyncio's transports tell.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from typing import Any

import pytest
from oracle import name_of, same


class Recorder(asyncio.Protocol):
    def __init__(self) -> None:
        self.received = b""
        self.events: list[str] = []
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.received += data

    def eof_received(self) -> None:
        self.events.append("eof")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(f"lost {name_of(exc)}")
        self.lost.set_result(None)


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        peer = socket.create_connection(server.getsockname())
        mine, _ = server.accept()
        return mine, peer


def reset(sock: socket.socket) -> None:
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def told_of(loop: Any, mine: socket.socket, end: Any) -> list[Any]:
    """What the protocol is told when all of it happens before the loop looks."""
    transport, protocol = await loop.create_connection(Recorder, sock=mine)
    await asyncio.sleep(0.001)
    elsewhere = threading.Thread(target=end, args=(transport,))
    elsewhere.start()
    elsewhere.join()
    await protocol.lost
    return [protocol.received, *protocol.events]


@pytest.mark.parametrize("size", [1, 5000, 65536, 200_000])
def test_a_reset_after_data_is_a_reset(size) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = tcp_pair()
        mine.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)

        def end(_: object) -> None:
            peer.sendall(bytes(size))
            reset(peer)

        received, *events = await told_of(loop, mine, end)
        notes += [received == b"" or len(received) <= size, *events]

    same(scenario)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_a_peer_that_has_not_read_all_resets(family) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = tcp_pair() if family == "tcp" else socket.socketpair()

        def end(transport: asyncio.Transport) -> None:
            mine.send(b"not read")
            peer.sendall(b"answer")
            peer.close()

        notes += await told_of(loop, mine, end)

    same(scenario)


@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_data_and_the_end_at_once_after_our_own_end(family) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = tcp_pair() if family == "tcp" else socket.socketpair()

        def end(transport: asyncio.Transport) -> None:
            mine.shutdown(socket.SHUT_WR)
            peer.sendall(b"last words")
            peer.close()

        notes += await told_of(loop, mine, end)

    same(scenario)


def test_bytes_behind_an_urgent_one_are_read() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = tcp_pair()

        def end(transport: asyncio.Transport) -> None:
            mine.shutdown(socket.SHUT_WR)
            peer.sendall(b"before")
            peer.send(b"!", socket.MSG_OOB)
            peer.sendall(b"after")
            peer.close()

        notes += await told_of(loop, mine, end)

    same(scenario)


def test_bytes_behind_a_descriptor_are_read() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()

        def end(transport: asyncio.Transport) -> None:
            peer.send(b"a")
            socket.send_fds(peer, [b"b"], [0])
            peer.send(b"c")
            peer.close()

        notes += await told_of(loop, mine, end)

    same(scenario)


def test_a_reader_is_told_of_a_reset() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = tcp_pair()
        reader, writer = await asyncio.open_connection(sock=mine)
        await asyncio.sleep(0.001)
        peer.sendall(b"half of it")
        reset(peer)
        try:
            notes.append(await reader.read())
        except ConnectionResetError:
            notes.append("reset")
        writer.close()

    same(scenario)


# ---- abort() -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["write", "writelines"])
def test_what_the_kernel_takes_at_once_leaves_before_an_abort(method) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        transport, protocol = await loop.create_connection(Recorder, sock=mine)
        getattr(transport, method)(b"bye" if method == "write" else [b"by", b"e"])
        transport.abort()
        await protocol.lost
        with peer:
            notes.append(peer.recv(10))

    same(scenario)


# ---- writelines() --------------------------------------------------------------------------------


@pytest.mark.parametrize("junk", [[5], b"ef", [b"ok", 7], [b"ok", "s"], range(3), [True], 5])
def test_writelines_writes_nothing_of_what_is_not_bytes(junk) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        transport, _ = await loop.create_connection(Recorder, sock=mine)
        with peer, pytest.raises(TypeError):
            transport.writelines(junk)
        transport.write(b"")
        notes.append(transport.get_write_buffer_size())
        transport.abort()

    same(scenario)
