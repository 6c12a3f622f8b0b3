"""Stream transports do what asyncio's do: each behaviour is tried on both loops, side by side."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import os
import socket
import ssl
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

import puff

BIG = 4 * 1024 * 1024


class Recorder(asyncio.Protocol):
    """Remembers what it is told; `lost` is done with connection_lost's argument."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.data = b""
        self.keep_open = False
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.events.append("made")

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        self.data += data
        self.events.append("data")

    def eof_received(self) -> bool:
        self.events.append("eof")
        return self.keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    async def until(self, n_bytes: int) -> bytes:
        while len(self.data) < n_bytes:
            await asyncio.sleep(0.001)
        return self.data


async def connected(protocol: asyncio.BaseProtocol, family: int = socket.AF_UNIX):
    """A transport with this protocol, and the blocking-free socket of its peer."""
    loop = asyncio.get_running_loop()
    if family == socket.AF_UNIX:
        ours, theirs = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            theirs = socket.create_connection(server.getsockname())
            ours, _ = server.accept()
    theirs.setblocking(False)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    return transport, theirs


async def read_all(loop: asyncio.AbstractEventLoop, sock: socket.socket) -> bytes:
    data = b""
    while piece := await loop.sock_recv(sock, 1 << 20):
        data += piece
    return data


def run(loop: asyncio.AbstractEventLoop, main) -> None:
    loop.run_until_complete(asyncio.wait_for(main(loop), 30))


@pytest.mark.parametrize("family", [socket.AF_UNIX, socket.AF_INET])
def test_a_connections_life(loop, family) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder, family)
        assert isinstance(transport, asyncio.Transport) and recorder.transport is transport
        await loop.sock_sendall(peer, b"hello")
        assert await recorder.until(5) == b"hello"
        transport.write(b"wor")
        transport.write(bytearray(b"ld"))
        assert await loop.sock_recv(peer, 100) in (b"world", b"wor")
        peer.close()
        await recorder.lost
        assert recorder.events[0] == "made" and recorder.events[-1] == "lost"
        assert "eof" in recorder.events or isinstance(recorder.lost.result(), ConnectionError)
        assert transport.is_closing()

    run(loop, main)


def test_small_writes_of_one_callback_leave_together(loop) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        transport.writelines([b"head", b"", memoryview(b"body")])
        await asyncio.sleep(0.01)
        assert peer.recv(100) == b"headbody"
        transport.close()
        peer.close()

    run(loop, main)


def test_what_was_written_is_sent_before_the_close(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.write(b"x" * BIG)
        transport.close()
        assert transport.is_closing() and transport.get_write_buffer_size() > 0
        assert not recorder.lost.done()
        assert await read_all(loop, peer) == b"x" * BIG
        assert await recorder.lost is None
        assert recorder.events.count("lost") == 1
        peer.close()

    run(loop, main)


def test_what_is_written_after_close_does_not_leave(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.write(b"reply")
        transport.close()
        transport.write(b"too late")
        if isinstance(loop, puff.Loop):  # asyncio's raises TypeError from 3.12 on
            transport.writelines([b"too", b"late"])
        assert await read_all(loop, peer) == b"reply"
        assert await recorder.lost is None
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("native", [None, object(), 3])
def test_a_transport_whose_native_half_is_replaced_raises(puff_loop, native) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        kept = transport._native
        transport._native = native
        for call in (repr, type(transport).get_write_buffer_size, lambda t: t.write(b"x")):
            with pytest.raises((RuntimeError, TypeError)):
                call(transport)
        transport._native = kept
        transport.abort()
        peer.close()

    run(puff_loop, main)


def test_abort_throws_away_what_was_written(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.write(b"x" * BIG)
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await recorder.lost is None
        assert len(await read_all(loop, peer)) < BIG
        transport.abort()
        transport.close()
        peer.close()

    run(loop, main)


def test_bytes_may_be_changed_after_write(loop) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        buffer = bytearray(b"a" * 10_000)
        transport.write(b"f" * BIG)  # so that the next ones wait
        if isinstance(loop, puff.Loop):  # asyncio's own keeps the bytearray itself: its bug
            transport.write(buffer)
            transport.write(memoryview(buffer)[::2])
            buffer[:] = b"b" * 10_000
            transport.close()
            assert (await read_all(loop, peer))[BIG:] == b"a" * 15_000
        transport.abort()
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("size", [1, 100, 15_999, 16_000, 16_001, 50_000])
@pytest.mark.parametrize("kind", [bytearray, lambda b: memoryview(bytearray(b)), memoryview])
def test_any_bytes_of_any_length_arrive_in_order(loop, size, kind) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        parts = [bytes([65 + n]) * size for n in range(5)]
        for part in parts:
            transport.write(kind(part))
            transport.write(kind(b""))
            transport.write(b"|")
        transport.close()
        assert await read_all(loop, peer) == b"".join(part + b"|" for part in parts)
        peer.close()

    run(loop, main)


def test_memory_that_was_written_is_not_held(puff_loop) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        for size in (100, 100_000):
            buffer = bytearray(size)
            transport.write(buffer)
            buffer.extend(b"more")  # a BufferError, if somebody held it
            view = memoryview(buffer)
            transport.write(view)
            view.release()
            buffer.clear()
        with pytest.raises(ValueError, match="released"):
            transport.write(view)
        transport.abort()
        peer.close()

    run(puff_loop, main)


def test_the_protocol_is_paused_above_high_and_resumed_at_low(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=100_000)
        assert transport.get_write_buffer_limits() == (25_000, 100_000)
        transport.write(b"x" * BIG)
        transport.write(b"y" * BIG)
        assert recorder.events == ["made", "pause"]
        assert transport.get_write_buffer_size() > BIG
        got = 0
        while "resume" not in recorder.events:
            got += len(await loop.sock_recv(peer, 1 << 20))
        assert transport.get_write_buffer_size() <= 25_000
        assert recorder.events == ["made", "pause", "resume"]
        transport.abort()
        peer.close()

    run(loop, main)


def test_what_the_kernel_takes_does_not_pause(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.set_write_buffer_limits(high=0)
        transport.write(b"x" * 1000)
        assert recorder.events == ["made"]
        transport.close()
        peer.close()

    run(loop, main)


def test_raising_the_limits_while_paused_does_not_lose_the_resume(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.write(b"x" * BIG)
        assert recorder.events[-1] == "pause"
        transport.set_write_buffer_limits(high=100 * BIG)
        while "resume" not in recorder.events:
            await loop.sock_recv(peer, 1 << 20)
        transport.abort()
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("high, low", [(1, 2), (-1, 0), (10, -1)])
def test_wrong_limits_are_refused(loop, high, low) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.abort()
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("high, low", [(10**30, None), (float("inf"), 0), (1e6, 10.0)])
def test_limits_may_be_any_number(loop, high, low) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.set_write_buffer_limits(high, low)
        transport.write(b"x" * 2 * BIG)
        assert ("pause" in recorder.events) is (high < BIG)
        transport.abort()
        peer.close()

    run(loop, main)


def test_what_is_written_between_two_runs_leaves_at_once(loop) -> None:
    async def main(loop) -> tuple[Any, socket.socket]:
        return await connected(Recorder())

    transport, peer = loop.run_until_complete(main(loop))
    transport.write(b"now")
    transport.writelines([b"and", b"here"])
    assert peer.recv(100) == b"nowandhere"
    transport.abort()
    peer.close()
    loop.run_until_complete(asyncio.sleep(0))


def test_what_another_thread_writes_leaves_while_the_loop_sleeps(loop) -> None:
    """It is not allowed, and programs do it."""

    async def main(loop) -> None:
        loop.set_debug(False)  # it would refuse
        transport, peer = await connected(Recorder())
        writer = threading.Timer(0.05, transport.write, (b"from a thread",))
        writer.start()
        assert await loop.sock_recv(peer, 100) == b"from a thread"
        writer.join()
        transport.abort()
        peer.close()

    run(loop, main)


def test_debug_mode_names_the_thread_that_may_not_write(puff_loop) -> None:
    async def main(loop) -> None:
        loop.set_debug(True)
        transport, peer = await connected(Recorder())
        for write, data in ((transport.write, b"x"), (transport.writelines, [b"x"])):
            with pytest.raises(RuntimeError, match="Non-thread-safe operation"):
                await loop.run_in_executor(None, write, data)
        transport.write(b"ours")
        assert await loop.sock_recv(peer, 100) == b"ours"
        transport.abort()
        peer.close()

    run(puff_loop, main)


def test_no_protocol_is_an_error_that_is_reported(loop, errors) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        transport.set_protocol(None)
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert "'NoneType' object has no attribute 'connection_lost'" in str(errors)
        peer.close()

    run(loop, main)


def test_writing_after_the_end_is_silent(loop, caplog) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.close()
        await recorder.lost
        for _ in range(10):
            transport.write(b"too late")
        if isinstance(loop, puff.Loop):  # asyncio's raises AttributeError from 3.12 on
            transport.writelines([b"too", b"late"])
        transport.write_eof()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.get_write_buffer_size() == 0
        repr(transport)
        peer.close()

    run(loop, main)
    assert "socket.send() raised exception" in caplog.text


def test_a_wrong_type_is_a_type_error(loop) -> None:
    async def main(loop) -> None:
        transport, peer = await connected(Recorder())
        for wrong in ("text", 1, None, [b"x"]):
            with pytest.raises(TypeError):
                transport.write(wrong)
        transport.abort()
        peer.close()

    run(loop, main)


def test_a_reset_is_reported_once(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder, socket.AF_INET)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        peer.close()
        assert isinstance(await recorder.lost, ConnectionResetError)
        transport.write(b"x")
        await asyncio.sleep(0.005)
        assert recorder.events == ["made", "lost"]

    run(loop, main)


def test_a_broken_pipe_is_reported_once(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        transport.pause_reading()
        peer.close()
        transport.write(b"x")
        transport.write(b"y")
        assert isinstance(await recorder.lost, BrokenPipeError)
        assert recorder.events.count("lost") == 1

    run(loop, main)


def test_eof_may_keep_the_connection_open(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        recorder.keep_open = True
        transport, peer = await connected(recorder)
        peer.shutdown(socket.SHUT_WR)
        while "eof" not in recorder.events:
            await asyncio.sleep(0.001)
        transport.write(b"still here")
        transport.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.write(b"x")
        assert transport.can_write_eof()
        assert await read_all(loop, peer) == b"still here"
        transport.close()
        assert await recorder.lost is None
        peer.close()

    run(loop, main)


def test_write_eof_sends_first(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        recorder.keep_open = True
        transport, peer = await connected(recorder)
        transport.write(b"x" * BIG)
        transport.write_eof()
        assert len(await read_all(loop, peer)) == BIG
        await loop.sock_sendall(peer, b"answer")
        assert await recorder.until(6) == b"answer"
        transport.close()
        peer.close()

    run(loop, main)


def test_a_paused_transport_reads_nothing(loop) -> None:
    async def main(loop) -> None:
        class PausesItself(Recorder):
            def data_received(self, data: bytes) -> None:
                super().data_received(data)
                self.transport.pause_reading()

        recorder = PausesItself()
        transport, peer = await connected(recorder)
        assert transport.is_reading()
        await loop.sock_sendall(peer, b"one")
        await recorder.until(3)
        await loop.sock_sendall(peer, b"two")
        await asyncio.sleep(0.01)
        assert recorder.data == b"one" and not transport.is_reading()
        transport.resume_reading()
        assert await recorder.until(6) == b"onetwo"
        transport.close()
        peer.close()

    run(loop, main)


def test_pausing_in_connection_made_holds(loop) -> None:
    async def main(loop) -> None:
        class PausesAtOnce(Recorder):
            def connection_made(self, transport: Any) -> None:
                super().connection_made(transport)
                transport.pause_reading()

        recorder = PausesAtOnce()
        if sys.version_info < (3, 12) and not isinstance(loop, puff.Loop):
            return  # a defect of older asyncio
        transport, peer = await connected(recorder)
        await loop.sock_sendall(peer, b"early")
        await asyncio.sleep(0.01)
        assert recorder.data == b""
        transport.resume_reading()
        assert await recorder.until(5) == b"early"
        transport.close()
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("method", ["data_received", "eof_received"])
def test_an_exception_of_the_protocol_closes_the_connection(loop, errors, method) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        setattr(recorder, method, lambda *_: 1 / 0)  # also: methods are looked up for each call
        await loop.sock_sendall(peer, b"x")
        peer.shutdown(socket.SHUT_WR)
        assert isinstance(await recorder.lost, ZeroDivisionError)
        assert errors[0]["transport"] is transport and errors[0]["protocol"] is recorder
        assert f"protocol.{method}() call failed" in errors[0]["message"]
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit])
def test_exit_in_a_protocol_leaves_the_loop(loop, exception) -> None:
    async def main(loop) -> None:
        class Leaves(Recorder):
            def data_received(self, data: bytes) -> None:
                raise exception

        main.transport, peer = await connected(Leaves())
        await loop.sock_sendall(peer, b"x")
        peer.close()
        await asyncio.sleep(20)

    task = loop.create_task(main(loop))
    with pytest.raises(exception):
        loop.run_until_complete(task)
    task.cancel()
    main.transport.abort()
    loop.run_until_complete(asyncio.sleep(0.001))


def test_a_protocol_runs_in_its_makers_context(loop) -> None:
    var = contextvars.ContextVar("var", default="none")

    async def main(loop) -> None:
        class Looks(Recorder):
            def data_received(self, data: bytes) -> None:
                seen.append(var.get())
                super().data_received(data)

        seen: list[str] = []
        var.set("maker")
        recorder = Looks()
        transport, peer = await connected(recorder)
        var.set("later")
        await loop.sock_sendall(peer, b"x")
        await recorder.until(1)
        assert seen == ["maker"]
        transport.close()
        peer.close()

    run(loop, main)


def test_the_protocol_may_change(loop) -> None:
    async def main(loop) -> None:
        first, second = Recorder(), Recorder()
        transport, peer = await connected(first)
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        await loop.sock_sendall(peer, b"x")
        await second.until(1)
        transport.close()
        assert await second.lost is None and first.events == ["made"]
        peer.close()

    run(loop, main)


class Buffered(asyncio.BufferedProtocol):
    def __init__(self, size: int) -> None:
        self.buffer = bytearray(size)
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self.buffer[:nbytes]

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.parametrize("size", [1, 1000, 1 << 20])
def test_a_buffered_protocol_gets_the_bytes_in_its_buffer(loop, size) -> None:
    async def main(loop) -> None:
        protocol = Buffered(size)
        _, peer = await connected(protocol)
        await loop.sock_sendall(peer, bytes(range(256)) * 20)
        peer.close()
        assert await protocol.lost is None
        assert protocol.data == bytes(range(256)) * 20
        protocol.buffer.extend(b"resizable again")

    run(loop, main)


def test_an_empty_buffer_is_an_error(loop, errors) -> None:
    async def main(loop) -> None:
        protocol = Buffered(0)
        _, peer = await connected(protocol)
        await loop.sock_sendall(peer, b"x")
        assert isinstance(await protocol.lost, RuntimeError)
        assert "get_buffer() call failed" in errors[0]["message"]
        peer.close()

    run(loop, main)


@pytest.mark.parametrize("method", ["close", "abort", "pause_reading"])
def test_get_buffer_may_stop_the_transport(loop, method) -> None:
    async def main(loop) -> None:
        class Stops(Buffered):
            def get_buffer(self, sizehint: int) -> bytearray:
                if not self.data:
                    transport.write(b"x" * BIG)
                    getattr(transport, method)()
                return super().get_buffer(sizehint)

        protocol = Stops(1000)
        transport, peer = await connected(protocol)
        await loop.sock_sendall(peer, b"x")
        await asyncio.sleep(0.01)
        assert not transport.is_reading()
        transport.abort()
        await protocol.lost
        peer.close()

    run(loop, main)


def test_extra_info(loop) -> None:
    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder, socket.AF_INET)
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        if isinstance(loop, puff.Loop):  # asyncio's needs the socket to know its protocol
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert transport.get_extra_info("sockname") == peer.getpeername()
        assert transport.get_extra_info("peername") == peer.getsockname()
        assert transport.get_extra_info("nothing", 7) == 7
        assert f"fd={sock.fileno()}" in repr(transport)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(sock.fileno(), print)
        transport.close()
        await recorder.lost
        await asyncio.sleep(0)
        assert sock.fileno() == -1
        assert transport.get_extra_info("peername") == peer.getsockname()
        peer.close()

    run(loop, main)


def test_the_descriptor_is_closed_once(loop) -> None:
    """A number that is closed twice would close somebody else's descriptor."""

    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder)
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await recorder.lost
        await asyncio.sleep(0.001)
        peer.close()
        r, w = os.pipe()
        others = [os.dup(r) for _ in range(8)]
        assert number in (r, w, *others)
        del transport, recorder
        gc.collect()
        await asyncio.sleep(0.001)
        for fd in (r, w, *others):
            os.close(fd)  # raises when somebody has closed it

    run(loop, main)


def test_an_unclosed_transport_warns(loop) -> None:
    async def main(loop) -> None:
        main.peer = (await connected(Recorder()))[1]

    run(loop, main)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        gc.collect()
    main.peer.close()


@pytest.mark.filterwarnings("ignore:unclosed transport")
@pytest.mark.parametrize("kind", ["stream", "datagram"])
def test_a_transport_outlives_its_loop(puff_loop, kind) -> None:
    async def main(loop) -> Any:
        if kind == "datagram":
            at = ("127.0.0.1", 0)
            return (await loop.create_datagram_endpoint(asyncio.DatagramProtocol, at))[0]
        transport, main.peer = await connected(asyncio.Protocol())
        return transport

    transport = puff_loop.run_until_complete(main(puff_loop))
    puff_loop.close()
    assert "closed" in repr(transport) and transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    transport.close()
    transport.abort()
    transport.pause_reading()
    if kind == "stream":
        transport.write(b"too late")
        main.peer.close()
    else:
        transport.sendto(b"too late", ("127.0.0.1", 1))


def test_a_server(loop) -> None:
    async def main(loop) -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        pairs = [await loop.create_connection(Recorder, *address) for _ in range(20)]
        for n, (transport, _) in enumerate(pairs):
            transport.write(b"%d" % n)
            transport.close()
        while len(made) < 20:
            await asyncio.sleep(0.001)
        for recorder in made:
            assert await recorder.lost is None
        assert sorted(int(recorder.data) for recorder in made) == list(range(20))
        server.close()
        await server.wait_closed()

    run(loop, main)


def test_streams_over_a_unix_socket(loop, tmp_path) -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
            await writer.drain()
        writer.close()

    async def main(loop) -> None:
        path = str(tmp_path / "socket")
        server = await asyncio.start_unix_server(echo, path, limit=1 << 20)
        reader, writer = await asyncio.open_unix_connection(path, limit=1 << 20)
        for size in (1, 1000, 500_000):
            writer.write(b"x" * size + b"\n")
            assert len(await reader.readline()) == size + 1
        writer.write_eof()
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()

    run(loop, main)


def test_sendfile(loop, tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(BIG))

    async def main(loop) -> None:
        recorder = Recorder()
        transport, peer = await connected(recorder, socket.AF_INET)
        transport.write(b"head")
        reading = asyncio.ensure_future(read_all(loop, peer))
        with open(path, "rb") as file:
            assert await loop.sendfile(transport, file) == BIG
        transport.write(b"tail")
        transport.close()
        assert await reading == b"head" + path.read_bytes() + b"tail"
        await recorder.lost
        peer.close()

    run(loop, main)


@pytest.fixture(scope="module")
def certificate() -> Path:
    folder = pytest.importorskip("test").__path__[0]
    for name in ("keycert3.pem", "certdata/keycert3.pem"):
        if (Path(folder) / name).exists():
            return Path(folder) / name
    pytest.skip("this Python is installed without its test package")


def test_tls(loop, certificate) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_mode = ssl.CERT_NONE

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readexactly(BIG))
        await writer.drain()
        writer.close()

    async def main(loop) -> None:
        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=server_side)
        port = server.sockets[0].getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=client_side)
        assert isinstance(writer.get_extra_info("ssl_object"), ssl.SSLObject)
        writer.write(b"s" * BIG)
        assert await reader.readexactly(BIG) == b"s" * BIG
        writer.close()
        server.close()

    run(loop, main)


@pytest.mark.skipif(sys.version_info < (3, 11), reason="StreamWriter.start_tls is from 3.11 on")
def test_start_tls(loop, certificate) -> None:
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(certificate)
    client_side = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client_side.check_hostname = False
    client_side.verify_mode = ssl.CERT_NONE

    async def upgrade(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert await reader.readline() == b"upgrade\n"
        writer.write(b"go\n")
        await writer.drain()
        await writer.start_tls(server_side)
        writer.write(b"secret\n")
        await writer.drain()
        writer.close()

    async def main(loop) -> None:
        server = await asyncio.start_server(upgrade, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"upgrade\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(client_side)
        assert await reader.readline() == b"secret\n"
        writer.close()
        server.close()

    run(loop, main)


class SocketLike:
    """What has a socket's methods and is none: a tunnel, a recorder, a mock."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sent = b""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sock, name)

    def send(self, data: Any) -> int:
        n = self.sock.send(data)
        self.sent += bytes(data[:n])
        return n


def test_a_socket_like_object_is_used_by_its_methods(loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> bytes:
        left, right = socket.socketpair()
        left.setblocking(False)
        like: Any = SocketLike(left)
        transport, protocol = await loop.create_connection(Recorder, sock=like)
        transport.write(b"ping")
        assert await loop.run_in_executor(None, right.recv, 4) == b"ping"
        right.close()
        await protocol.lost
        return like.sent

    assert loop.run_until_complete(main()) == b"ping"
