"""Pipes, FIFOs and terminals do what they do on asyncio's loop: each behaviour is tried on both."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import pty
import socket
import tty
import warnings
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

import puff

MEGABYTE = 1 << 20
LIMIT_S = 30


def run(loop: asyncio.AbstractEventLoop, main: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(main, LIMIT_S))


class Recorder(asyncio.Protocol):
    """Remembers what it is told; `lost` is done with connection_lost's argument."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.longest = 0
        self.more = asyncio.Event()
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.longest = max(self.longest, len(data))
        self.more.set()

    def eof_received(self) -> None:
        self.events.append("eof")

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    async def has(self, n: int) -> bytes:
        while len(self.data) < n:
            self.more.clear()
            await self.more.wait()
        return self.data


async def reader(fd: int) -> tuple[Any, Recorder]:
    loop = asyncio.get_running_loop()
    return await loop.connect_read_pipe(Recorder, os.fdopen(fd, "rb", 0))


async def writer(fd: int) -> tuple[Any, Recorder]:
    loop = asyncio.get_running_loop()
    return await loop.connect_write_pipe(Recorder, os.fdopen(fd, "wb", 0))


# ---- pipes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 4096, 8191, 8192, 65536, 65537, 3 * MEGABYTE])
def test_what_is_written_is_read(loop: asyncio.AbstractEventLoop, size: int) -> None:
    data = os.urandom(size)

    async def main() -> tuple[bytes, list[str]]:
        read, write = os.pipe()
        _, received = await reader(read)
        transport, _ = await writer(write)
        transport.write(data)
        transport.close()
        assert await received.lost is None
        return received.data, received.events

    assert run(loop, main()) == (data, ["made", "eof", "lost"])


def test_long_and_short_reads_alternate(loop: asyncio.AbstractEventLoop) -> None:
    """A long read chooses where the next one goes."""
    sizes = [10, 20000, 5, 60000, 60000, 1, 9000, 8192, 8191, 3]

    async def main() -> None:
        read, write = os.pipe()
        _, received = await reader(read)
        sent = b""
        for i, size in enumerate(sizes):
            piece = bytes([i]) * size
            sent += piece
            assert os.write(write, piece) == size
            assert await received.has(len(sent)) == sent
        os.close(write)
        await received.lost

    run(loop, main())


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_a_write_takes_anything_like_bytes_and_copies_it(
    loop: asyncio.AbstractEventLoop, kind: type
) -> None:
    async def main() -> bytes:
        read, write = os.pipe()
        transport, _ = await writer(write)
        source = bytearray(b"x" * MEGABYTE)
        transport.write(kind(source))
        if kind is not memoryview:
            source[:] = b"y" * len(source)
        _, received = await reader(read)
        transport.close()
        await received.lost
        return received.data

    assert run(loop, main()) == b"x" * MEGABYTE


def test_a_full_pipe_pauses_the_writer_and_resumes_it(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> list[str]:
        read, write = os.pipe()
        transport, sender = await writer(write)
        while "pause" not in sender.events:
            transport.write(b"x" * 10000)
        assert transport.get_write_buffer_size() > 65536
        _, received = await reader(read)
        while "resume" not in sender.events:
            await asyncio.sleep(0)
        transport.close()
        await sender.lost
        await received.lost
        return sender.events

    assert run(loop, main()) == ["made", "pause", "resume", "lost"]


def test_a_reader_that_leaves_ends_the_writer(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> tuple[Exception | None, bool]:
        read, write = os.pipe()
        transport, sender = await writer(write)
        os.close(read)
        exc = await sender.lost
        return exc, transport.is_closing()

    assert run(loop, main()) == (None, True)


def test_a_reader_that_leaves_a_full_pipe_breaks_it(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> Exception | None:
        read, write = os.pipe()
        transport, sender = await writer(write)
        transport.write(b"x" * MEGABYTE)
        os.close(read)
        return await sender.lost

    assert isinstance(run(loop, main()), BrokenPipeError)


def test_writing_where_nobody_reads_is_broken_pipe(
    loop: asyncio.AbstractEventLoop, errors: list[dict]
) -> None:
    async def main() -> Exception | None:
        read, write = os.pipe()
        transport, sender = await writer(write)
        os.close(read)
        for _ in range(3):
            transport.write(b"x")  # the second and third are lost in silence
        return await sender.lost

    assert isinstance(run(loop, main()), BrokenPipeError)
    assert errors == []


def test_a_paused_reader_gets_nothing(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        read, write = os.pipe()
        transport, received = await reader(read)
        transport.pause_reading()
        os.write(write, b"data")
        for _ in range(5):
            await asyncio.sleep(0)
        assert received.data == b""
        transport.resume_reading()
        assert await received.has(4) == b"data"
        transport.close()
        await received.lost
        os.close(write)

    run(loop, main())


def test_a_protocol_that_raises_is_reported_and_goes_on(
    loop: asyncio.AbstractEventLoop, errors: list[dict]
) -> None:
    class Raises(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if data == b"bad":
                raise ValueError("bad")

    async def main() -> bytes:
        read, write = os.pipe()
        _, received = await loop.connect_read_pipe(Raises, os.fdopen(read, "rb", 0))
        os.write(write, b"bad")
        await received.has(3)
        os.write(write, b"good")
        os.close(write)
        await received.lost
        return received.data

    assert run(loop, main()) == b"badgood"
    assert [type(e["exception"]) for e in errors] == [ValueError]


def test_one_read_is_of_bounded_length(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> int:
        read, write = os.pipe()
        _, received = await reader(read)
        transport, _ = await writer(write)
        transport.write(b"x" * MEGABYTE)
        transport.close()
        await received.lost
        return received.longest

    assert run(loop, main()) <= 256 * 1024


# ---- FIFOs, sockets, terminals, files ------------------------------------------------------------


def test_a_fifo_can_be_opened_again(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "fifo"
    os.mkfifo(path)

    async def once(word: bytes) -> bytes:
        _, received = await reader(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        transport, _ = await writer(os.open(path, os.O_WRONLY))
        transport.write(word)
        transport.close()
        await received.lost
        return received.data

    async def main() -> list[bytes]:
        return [await once(b"first"), await once(b"second")]

    assert run(loop, main()) == [b"first", b"second"]


def test_a_socket_is_a_pipe_too(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> bytes:
        left, right = socket.socketpair()
        _, received = await reader(left.detach())
        transport, _ = await writer(right.detach())
        transport.write(b"socket")
        transport.close()
        await received.lost
        return received.data

    assert run(loop, main()) == b"socket"


def test_a_terminal_is_read_until_its_other_side_closes(
    loop: asyncio.AbstractEventLoop, errors: list[dict]
) -> None:
    """Linux says EIO then, which is an ending and no failure: it is not reported."""

    async def main() -> tuple[bytes, Exception | None]:
        master, slave = pty.openpty()
        tty.setraw(slave)
        _, received = await reader(master)
        os.write(slave, b"typed")
        await received.has(5)
        os.close(slave)
        return received.data, await received.lost

    data, exc = run(loop, main())
    assert data == b"typed"
    assert isinstance(exc, OSError)
    assert exc.errno == errno.EIO
    assert errors == []


def test_a_terminal_is_read_and_written_by_one_descriptor(
    loop: asyncio.AbstractEventLoop,
) -> None:
    async def main() -> bytes:
        master, slave = pty.openpty()
        tty.setraw(slave)
        both = os.fdopen(master, "r+b", 0)
        reading, received = await loop.connect_read_pipe(Recorder, both)
        writing, _ = await loop.connect_write_pipe(Recorder, both)
        writing.write(b"to the slave")
        assert os.read(slave, 100) == b"to the slave"
        os.write(slave, b"to the master")
        data = await received.has(13)
        reading.pause_reading()
        writing.write(b"still")
        assert os.read(slave, 100) == b"still"
        reading.close()
        await received.lost
        os.close(slave)
        writing.abort()
        return data

    assert run(loop, main()) == b"to the master"


def test_a_regular_file_is_refused(loop: asyncio.AbstractEventLoop, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"regular")

    async def main() -> None:
        with path.open("rb") as file, pytest.raises(ValueError, match="pipes"):
            await loop.connect_read_pipe(Recorder, file)
        with path.open("wb") as file, pytest.raises(ValueError, match="pipes"):
            await loop.connect_write_pipe(Recorder, file)

    run(loop, main())


# ---- what users look at --------------------------------------------------------------------------


def test_they_are_asyncios_transports(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        read, write = os.pipe()
        reading, received = await reader(read)
        writing, sender = await writer(write)
        assert isinstance(reading, asyncio.ReadTransport)
        assert isinstance(writing, asyncio.WriteTransport)
        assert reading.get_protocol() is received
        assert writing.get_protocol() is sender
        assert reading.get_extra_info("pipe").fileno() == read
        assert f"fd={read} polling" in repr(reading)
        assert f"fd={write} idle bufsize=0" in repr(writing)
        writing.close()
        await received.lost
        assert "closed" in repr(reading)

    run(loop, main())


def test_one_that_nobody_closed_warns() -> None:
    loop = puff.new_event_loop()
    read, write = os.pipe()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        run(loop, reader(read))
        loop.close()
        del loop
        gc.collect()
    assert any("unclosed transport <ReadPipeTransport" in str(w.message) for w in seen)
    os.close(write)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(read)
