"""Descriptors that somebody closes between the wish to watch them and the poll: an error at most,
on our loop as on asyncio's, and never the end of the process.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from typing import Any

import pytest
from oracle import attempt, outcome, same

import puff

BIG = bytes(10_000_000)


class Recorder(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


def close_below(transport: asyncio.BaseTransport) -> None:
    """As a library does that thinks the descriptor is its own."""
    os.close(transport.get_extra_info("socket").fileno())


async def connected(loop: Any) -> tuple[Any, Recorder, socket.socket]:
    mine, peer = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=mine)
    await asyncio.sleep(0.001)  # it is being read
    return transport, protocol, peer


@pytest.mark.parametrize("direction", ["reader", "writer"])
@pytest.mark.parametrize("turns", [0, 1])
def test_a_watched_socket_is_closed(direction, turns) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        with peer:
            getattr(loop, f"add_{direction}")(mine, lambda: None)
            number = mine.fileno()
            for _ in range(turns):
                await asyncio.sleep(0)
            mine.close()
            await asyncio.sleep(0.001)
            notes.append(attempt(getattr(loop, f"remove_{direction}"), number))

    same(scenario)


def test_the_other_direction_of_a_closed_descriptor_cannot_be_watched() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        with peer:
            loop.add_reader(mine, print)
            await asyncio.sleep(0)
            number = mine.fileno()
            mine.close()
            notes.append(attempt(loop.add_writer, number, print))
            loop.remove_reader(number)
            loop.remove_writer(number)
            await asyncio.sleep(0)

    same(scenario)


def test_a_file_has_the_number_of_a_watched_socket() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        mine, peer = socket.socketpair()
        with peer, open(__file__, "rb") as file:
            loop.add_reader(mine, notes.append, "never")
            os.dup2(file.fileno(), mine.fileno())
            await asyncio.sleep(0.001)
            loop.remove_reader(mine)
            mine.close()

    same(scenario)


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.parametrize("what", ["resume", "write", "write and close"])
def test_the_descriptor_of_a_transport_is_closed(what) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        transport, protocol, peer = await connected(loop)
        with peer:
            if what == "resume":
                transport.pause_reading()
                await asyncio.sleep(0.001)
                transport.resume_reading()
            else:
                transport.write(BIG)
            if what == "write and close":
                transport.close()
            close_below(transport)
            await asyncio.sleep(0.001)
            notes.append(type(await protocol.lost))

    # asyncio may not notice, and closes the number once more, whosever it is by then.
    assert outcome(puff.new_event_loop, scenario) == ["ok", [OSError], []]


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_socket_is_given_to_a_second_transport_while_the_first_one_ends(end) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        loop.set_exception_handler(lambda *_: None)  # asyncio's way of saying so
        transport, protocol, peer = await connected(loop)
        sock = transport.get_extra_info("socket")._sock
        with peer:
            getattr(transport, end)()
            with contextlib.suppress(OSError, RuntimeError):
                second, other = await loop.create_connection(Recorder, sock=sock)
                await asyncio.sleep(0.001)
                second.abort()
                await other.lost
            notes.append(await protocol.lost)

    same(scenario)


@pytest.mark.parametrize("end", ["close", "abort"])
def test_a_datagram_socket_is_used_again_while_its_transport_ends(end) -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        loop.set_exception_handler(lambda *_: None)
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(("127.0.0.1", 0))
        transport, _ = await loop.create_datagram_endpoint(Recorder, sock=sock)
        await asyncio.sleep(0.001)
        getattr(transport, end)()
        with contextlib.suppress(OSError, RuntimeError):
            second, _ = await loop.create_datagram_endpoint(Recorder, sock=sock)
            await asyncio.sleep(0.001)
            second.abort()
        await asyncio.sleep(0.001)
        notes.append("alive")

    same(scenario)


def test_many_descriptors_at_once() -> None:
    async def scenario(loop: Any, notes: list[Any]) -> None:
        pairs = [socket.socketpair() for _ in range(100)]
        transports = [await loop.create_connection(Recorder, sock=mine) for mine, _ in pairs]
        await asyncio.sleep(0.001)
        for transport, _ in transports:
            transport.pause_reading()
        for transport, _ in transports:
            transport.resume_reading()
            close_below(transport)
        lost = await asyncio.gather(*(protocol.lost for _, protocol in transports))
        notes.append({type(exc).__name__ for exc in lost})
        for _, peer in pairs:
            peer.close()

    # asyncio registers at once, and so learns nothing of it and waits for ever.
    assert outcome(puff.new_event_loop, scenario) == ["ok", [{"OSError"}], []]
