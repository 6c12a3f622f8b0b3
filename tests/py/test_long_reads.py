"""What is read in long pieces: how long they are, who waits meanwhile, and what is kept of them.

What asyncio's loop promises too is tried on both.
"""

from __future__ import annotations

import asyncio
import itertools
import socket
import threading
import tracemalloc

import pytest

KIB = 1024
LONGEST = 124 * KIB  # one read of ours; asyncio's is of 256 KiB
LONG = b"x" * 16 * KIB  # the next read after it may be of the longest


class Pieces(asyncio.Protocol):
    """Keeps the length of each piece that came."""

    def __init__(self) -> None:
        self.lengths: list[int] = []
        self.data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.lengths.append(len(data))
        self.data += data

    async def until(self, n_bytes: int) -> None:
        while sum(self.lengths) < n_bytes:
            await asyncio.sleep(0.001)


async def connected(protocol: asyncio.Protocol) -> socket.socket:
    """The peer of a new transport with this protocol; its buffer holds a whole long piece."""
    ours, theirs = socket.socketpair()
    theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 20)
    theirs.setblocking(False)
    await asyncio.get_running_loop().create_connection(lambda: protocol, sock=ours)
    return theirs


def run(loop: asyncio.AbstractEventLoop, main) -> None:
    loop.run_until_complete(asyncio.wait_for(main(loop), 30))


@pytest.mark.parametrize("size", [9 * KIB, 64 * KIB, 100 * KIB, LONGEST])
def test_what_is_there_comes_in_one_piece(loop, size) -> None:
    async def main(loop) -> None:
        protocol = Pieces()
        peer = await connected(protocol)
        peer.send(LONG)
        await protocol.until(len(LONG))
        assert peer.send(bytes(size)) == size
        await protocol.until(len(LONG) + size)
        assert protocol.lengths == [len(LONG), size]
        protocol.transport.close()
        peer.close()

    run(loop, main)


def test_short_and_long_reads_take_turns_without_losing_a_byte(loop) -> None:
    async def main(loop) -> None:
        protocol = Pieces()
        peer = await connected(protocol)
        sizes = [1, LONGEST, LONGEST + 1, 3, 8 * KIB, 200 * KIB, 8 * KIB - 1, LONGEST, 2]
        sent = bytearray()
        for i, size in enumerate(sizes):
            piece = bytes([i + 1]) * size
            sent += piece
            await loop.sock_sendall(peer, piece)
            await protocol.until(len(sent))
        assert protocol.data == sent
        protocol.transport.close()
        peer.close()

    run(loop, main)


def test_pausing_between_two_long_reads_holds_the_rest_back(loop) -> None:
    async def main(loop) -> None:
        class PausesItself(Pieces):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()

        protocol = PausesItself()
        peer = await connected(protocol)
        size = 512 * KIB  # several of the longest reads
        sending = asyncio.ensure_future(loop.sock_sendall(peer, bytes(range(256)) * (size // 256)))
        for n_pieces in itertools.count(1):
            while len(protocol.lengths) < n_pieces:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.002)  # time for a piece too many
            assert len(protocol.lengths) == n_pieces
            if len(protocol.data) == size:
                break
            protocol.transport.resume_reading()
        await sending
        assert protocol.data == bytes(range(256)) * (size // 256)
        protocol.transport.close()
        peer.close()

    run(loop, main)


def test_closing_between_two_long_reads_ends_them(loop) -> None:
    async def main(loop) -> None:
        lost = loop.create_future()

        class Closes(Pieces):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.close()

            def connection_lost(self, exc: Exception | None) -> None:
                lost.set_result(exc)

        protocol = Closes()
        peer = await connected(protocol)
        assert peer.send(bytes(400 * KIB)) == 400 * KIB
        assert await lost is None
        assert len(protocol.lengths) == 1
        peer.close()

    run(loop, main)


def test_a_peer_that_never_stops_sending_starves_nobody(loop) -> None:
    flood, piece = 64 * KIB * KIB, bytes(256 * KIB)

    async def main(loop) -> None:
        pong = loop.create_future()

        class Answered(Pieces):
            def data_received(self, data: bytes) -> None:
                pong.set_result(sum(flooded.lengths))

        class Flooded(Pieces):
            def data_received(self, data: bytes) -> None:
                if not self.lengths:
                    quiet.send(b"ping")  # from now on it is there to be read
                self.lengths.append(len(data))

        answered, flooded = Answered(), Flooded()
        quiet = await connected(answered)
        loud = await connected(flooded)
        loud.setblocking(True)
        thread = threading.Thread(
            target=lambda: [loud.sendall(piece) for _ in range(flood // len(piece))]
        )
        thread.start()
        await flooded.until(flood)
        thread.join()
        assert await pong < flood // 4
        for protocol in (answered, flooded):
            protocol.transport.close()
        quiet.close()
        loud.close()

    run(loop, main)


def test_a_connection_that_waits_owns_no_memory_for_its_next_read(puff_loop) -> None:
    class Counts(Pieces):
        def data_received(self, data: bytes) -> None:
            self.lengths.append(len(data))

    async def main(loop) -> None:
        protocols = [Counts() for _ in range(20)]
        peers = [await connected(protocol) for protocol in protocols]
        for peer, protocol in zip(peers, protocols, strict=True):
            peer.send(LONG)
            await protocol.until(len(LONG))
        tracemalloc.start()
        try:
            for peer, protocol in zip(peers, protocols, strict=True):
                peer.send(bytes(LONGEST))  # it fills the read, so there is a second that finds none
                await protocol.until(len(LONG) + LONGEST)
            await asyncio.sleep(0)
            assert tracemalloc.get_traced_memory()[0] < LONGEST
        finally:
            tracemalloc.stop()
        for peer, protocol in zip(peers, protocols, strict=True):
            protocol.transport.close()
            peer.close()

    run(puff_loop, main)
