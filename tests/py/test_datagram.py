"""Datagram transports do what asyncio's do: each behaviour is tried on both loops, side by side."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import puff

LOCAL = ("127.0.0.1", 0)


class Recorder(asyncio.DatagramProtocol):
    """Remembers what it is told; `lost` is done with connection_lost's argument."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.got: list[tuple[bytes, Any]] = []
        self.errors: list[Exception] = []
        self.raises: BaseException | None = None
        self.then: Callable[[], object] | None = None
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def told(self, event: str) -> None:
        self.events.append(event)
        if self.then:
            self.then()
        if self.raises:
            raise self.raises

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.told("made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        assert type(data) is bytes
        self.got.append((data, addr))
        self.told("datagram")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self.told("error")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self) -> None:
        self.told("pause")

    def resume_writing(self) -> None:
        self.told("resume")


async def endpoint(loop: asyncio.AbstractEventLoop, **how: Any) -> tuple[Any, Recorder]:
    return await loop.create_datagram_endpoint(Recorder, **how)


async def bound(loop: asyncio.AbstractEventLoop) -> tuple[Any, Recorder, Any]:
    transport, recorder = await endpoint(loop, local_addr=LOCAL)
    return transport, recorder, transport.get_extra_info("sockname")


async def until(condition: Callable[[], object]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0.002)


async def end(*transports: Any) -> None:
    for transport in transports:
        transport.close()
    await settle()


def run(loop: asyncio.AbstractEventLoop, main) -> None:
    loop.run_until_complete(asyncio.wait_for(main(loop), 30))


def full_unix_peer(tmp_path: Path) -> tuple[socket.socket, str]:
    """A Unix socket that nobody reads: its queue is full after a few datagrams."""
    path = str(tmp_path / "full")
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(path)
    peer.setblocking(False)
    return peer, path


async def filled(loop, tmp_path: Path) -> tuple[Any, Recorder, socket.socket, int]:
    """A transport whose queue is above the high-water mark, and how many were sent to it."""
    peer, path = full_unix_peer(tmp_path)
    transport, recorder = await endpoint(loop, family=socket.AF_UNIX, remote_addr=path)
    transport.set_write_buffer_limits(high=100, low=20)
    n = 0
    while "pause" not in recorder.events:
        transport.sendto(b"%10d" % n)
        n += 1
        assert n < 100_000
    return transport, recorder, peer, n


async def drain(peer: socket.socket, n: int) -> list[bytes]:
    got: list[bytes] = []

    def read() -> bool:
        try:
            while True:
                got.append(peer.recv(1 << 18))
        except BlockingIOError:
            return len(got) >= n

    await until(read)
    return got


# ---- exchange ------------------------------------------------------------------------------------


def test_datagrams_come_with_their_senders_address(loop) -> None:
    async def main(loop) -> None:
        a, seen_a, addr_a = await bound(loop)
        b, seen_b, addr_b = await bound(loop)
        assert seen_a.transport is a and a.get_protocol() is seen_a
        assert isinstance(a, asyncio.Transport)
        for n in range(3):
            a.sendto(b"ping%d" % n, addr_b)
            await until(lambda: seen_b.got)
            data, addr = seen_b.got.pop()
            assert (data, addr) == (b"ping%d" % n, addr_a)
            b.sendto(b"pong", addr)
            await until(lambda: seen_a.got)
            assert seen_a.got.pop() == (b"pong", addr_b)
        await end(a, b)
        assert seen_a.events == ["made"] + ["datagram"] * 3 + ["lost"]
        assert seen_a.lost.result() is None

    run(loop, main)


def test_puffs_transport_is_a_datagram_transport(puff_loop) -> None:
    async def main(loop) -> None:
        transport, _, _ = await bound(loop)
        assert isinstance(transport, asyncio.DatagramTransport)
        await end(transport)

    run(puff_loop, main)


def test_many_datagrams_come_in_order_from_many_peers(loop) -> None:
    async def main(loop) -> None:
        transport, seen, addr = await bound(loop)
        socks = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(20)]
        for sock in socks:
            sock.bind(LOCAL)
        for n in range(8):
            for sock in socks:
                sock.sendto(b"%d" % n, addr)
        await until(lambda: len(seen.got) == 160)
        for sock in socks:
            mine = [data for data, peer in seen.got if peer == sock.getsockname()]
            assert mine == [b"%d" % n for n in range(8)]
            transport.sendto(b"to you", ("127.0.0.1", sock.getsockname()[1]))
            sock.settimeout(5)
            assert sock.recv(100) == b"to you"
            sock.close()
        await end(transport)

    run(loop, main)


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: memoryview(b"x" + b)[1:]])
def test_what_can_be_sent(loop, make) -> None:
    async def main(loop) -> None:
        a, _, addr = await bound(loop)
        b, seen, _ = await bound(loop)
        a.sendto(make(b"data"), b.get_extra_info("sockname"))
        await until(lambda: seen.got)
        assert seen.got == [(b"data", addr)]
        await end(a, b)

    run(loop, main)


def test_a_connected_socket(loop) -> None:
    async def main(loop) -> None:
        a, seen_a, addr_a = await bound(loop)
        b, seen_b = await endpoint(loop, remote_addr=addr_a)
        assert b.get_extra_info("peername") == addr_a
        assert a.get_extra_info("peername") is None
        b.sendto(b"one")
        b.sendto(b"two", None)
        b.sendto(b"three", addr_a)
        await until(lambda: len(seen_a.got) == 3)
        with pytest.raises(ValueError, match="Invalid address: must be None or"):
            b.sendto(b"four", ("127.0.0.1", 1))
        a.sendto(b"back", b.get_extra_info("sockname"))
        await until(lambda: seen_b.got)
        assert seen_b.got == [(b"back", addr_a)]
        await end(a, b)

    run(loop, main)


def test_a_remote_address_without_a_connection(loop) -> None:
    async def main(loop) -> None:
        a, seen, addr = await bound(loop)
        b, _ = await endpoint(loop, remote_addr=addr, allow_broadcast=True)
        assert b.get_extra_info("peername") is None
        b.sendto(b"one")
        b.sendto(b"two", addr)
        await until(lambda: len(seen.got) == 2)
        with pytest.raises(ValueError, match="Invalid address"):
            b.sendto(b"three", ("127.0.0.1", 1))
        await end(a, b)

    run(loop, main)


def test_a_socket_of_ones_own(loop) -> None:
    async def main(loop) -> None:
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind(LOCAL)
        addr = sock.getsockname()
        transport, seen = await endpoint(loop, sock=sock)
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        transport.sendto(b"to myself", addr)
        await until(lambda: seen.got)
        await end(transport)
        assert sock.fileno() == -1
        with socket.socket() as stream, pytest.raises(ValueError, match="was expected"):
            await endpoint(loop, sock=stream)

    run(loop, main)


def test_empty_datagrams(loop) -> None:
    async def main(loop) -> None:
        a, _, addr = await bound(loop)
        b, seen, addr_b = await bound(loop)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"", addr_b)
            await until(lambda: seen.got)
            assert seen.got.pop()[0] == b""
        a.sendto(b"", addr_b)
        a.sendto(b"after", addr_b)
        await until(lambda: (b"after", addr) in seen.got)
        assert len(seen.got) == (2 if sys.version_info >= (3, 13) else 1)
        await end(a, b)

    run(loop, main)


def test_long_datagrams_and_too_long_ones(loop) -> None:
    async def main(loop) -> None:
        a, seen_a, _ = await bound(loop)
        b, seen_b, addr = await bound(loop)
        data = os.urandom(65507)
        a.sendto(data, addr)
        await until(lambda: seen_b.got)
        assert seen_b.got[0][0] == data
        a.sendto(data + b"x", addr)
        assert isinstance(seen_a.errors[0], OSError) and seen_a.errors[0].errno == 90  # EMSGSIZE
        a.sendto(b"goes on", addr)
        await until(lambda: len(seen_b.got) == 2)
        await end(a, b)

    run(loop, main)


def ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6(), reason="no IPv6 here")
def test_ipv6_addresses_have_four_parts(loop) -> None:
    async def main(loop) -> None:
        a, seen_a = await endpoint(loop, local_addr=("::1", 0))
        b, seen_b = await endpoint(loop, local_addr=("::1", 0))
        addr_a, addr_b = a.get_extra_info("sockname"), b.get_extra_info("sockname")
        for addr in (
            addr_b,
            addr_b[:2],
            addr_b[:3],
            ("::1%1", *addr_b[1:2]),
            ("0:0::1", addr_b[1]),
        ):
            a.sendto(b"x", addr)
            await until(lambda: seen_b.got)
            assert seen_b.got.pop() == (b"x", addr_a)
        b.sendto(b"y", (*addr_a[:2], 0x12345, 0))
        await until(lambda: seen_a.got)
        assert seen_a.got[0][1] == addr_b
        assert not seen_a.errors + seen_b.errors
        await end(a, b)

    run(loop, main)


def test_unix_sockets_have_paths(loop, tmp_path) -> None:
    async def main(loop) -> None:
        path_a, path_b = str(tmp_path / "a"), str(tmp_path / "b\udc80")
        a, seen_a = await endpoint(loop, family=socket.AF_UNIX, local_addr=path_a)
        b, seen_b = await endpoint(loop, family=socket.AF_UNIX, local_addr=path_b)
        assert a.get_extra_info("sockname") == path_a
        a.sendto(b"x" * 100_000, path_b)
        await until(lambda: seen_b.got)
        assert seen_b.got == [(b"x" * 100_000, path_a)]
        b.sendto(b"bytes", os.fsencode(path_a))
        await until(lambda: seen_a.got)
        assert seen_a.got == [(b"bytes", path_b)]
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as nameless:
            nameless.sendto(b"who", path_a)
        await until(lambda: len(seen_a.got) == 2)
        assert seen_a.got[1] == (b"who", None)
        a.sendto(b"nobody", str(tmp_path / "nobody"))
        assert isinstance(seen_a.errors[0], FileNotFoundError)
        a.sendto(b"too long", "x" * 200)
        assert "AF_UNIX path too long" in str(seen_a.errors[1])
        await end(a, b)

    run(loop, main)


def test_abstract_unix_names_are_bytes(loop) -> None:
    async def main(loop) -> None:
        name = f"\0puff-{os.getpid()}"
        a, seen_a = await endpoint(loop, family=socket.AF_UNIX, local_addr=name)
        b, _ = await endpoint(loop, family=socket.AF_UNIX, local_addr=name + "b")
        b.sendto(b"x", name)
        b.sendto(b"y", name.encode())
        await until(lambda: len(seen_a.got) == 2)
        assert seen_a.got[0] == (b"x", name.encode() + b"b")
        await end(a, b)

    run(loop, main)


def test_a_name_is_looked_up(loop) -> None:
    async def main(loop) -> None:
        a, seen_a, _ = await bound(loop)
        b, seen_b, addr = await bound(loop)
        a.sendto(b"x", ("localhost", addr[1]))
        await until(lambda: seen_b.got)
        a.sendto(b"x", ("no such host.invalid", addr[1]))
        assert isinstance(seen_a.errors[0], (socket.gaierror, UnicodeError))
        await end(a, b)

    run(loop, main)


def test_the_same_tuple_may_mean_other_things_on_other_sockets(puff_loop) -> None:
    async def main(loop) -> None:
        a, seen, addr = await bound(loop)
        a.sendto(b"x", addr)
        await until(lambda: seen.got)
        if ipv6():
            six, seen_six = await endpoint(loop, local_addr=("::1", 0))
            six.sendto(b"x", addr)  # an IPv4 address
            assert isinstance(seen_six.errors[0], OSError)
            await end(six)
        await end(a)

    run(puff_loop, main)


# ---- wrong arguments -----------------------------------------------------------------------------


@pytest.mark.parametrize("data", ["text", None, 1, [b"x"], object()])
def test_only_bytes_can_be_sent(loop, data) -> None:
    async def main(loop) -> None:
        transport, _, addr = await bound(loop)
        with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
            transport.sendto(data, addr)
        assert not transport.is_closing()
        await end(transport)

    run(loop, main)


@pytest.mark.parametrize("addr", [
    None, "127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "80"), ("127.0.0.1", 65536),
    ("127.0.0.1", -1), ("127.0.0.1", 1 << 70), (None, 80), (1, 80), ("127.0.0.1", 80, 0), 5,
    ["127.0.0.1", 80],
])  # fmt: skip
def test_a_wrong_address_ends_the_transport(loop, errors, addr) -> None:
    async def main(loop) -> None:
        transport, recorder, _ = await bound(loop)
        transport.sendto(b"x", addr)
        exc = await recorder.lost
        assert isinstance(exc, (TypeError, OverflowError))
        assert [e["message"] for e in errors] == ["Fatal write error on datagram transport"]
        assert errors[0]["exception"] is exc and errors[0]["transport"] is transport

    run(loop, main)


def test_a_view_of_pieces_ends_the_transport(loop, errors) -> None:
    async def main(loop) -> None:
        transport, recorder, addr = await bound(loop)
        transport.sendto(memoryview(b"abcdef")[::2], addr)
        assert isinstance(await recorder.lost, BufferError)
        assert errors[0]["message"] == "Fatal write error on datagram transport"

    run(loop, main)


# ---- errors --------------------------------------------------------------------------------------


def test_a_refused_datagram_is_told_and_the_transport_goes_on(loop) -> None:
    async def main(loop) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL)
            nobody = sock.getsockname()
        transport, recorder = await endpoint(loop, remote_addr=nobody)
        for n in (1, 2, 3):
            transport.sendto(b"x")
            await until(lambda n=n: len(recorder.errors) == n)
        assert all(isinstance(e, ConnectionRefusedError) for e in recorder.errors)
        assert not transport.is_closing()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(nobody)
            sock.settimeout(5)
            transport.sendto(b"now")
            addr = sock.recvfrom(10)[1]
            sock.sendto(b"yes", addr)
            await until(lambda: recorder.got)
        await end(transport)

    run(loop, main)


@pytest.mark.parametrize("event", ["datagram", "error"])
def test_a_protocol_that_raises_is_told_to_the_handler_and_goes_on(loop, errors, event) -> None:
    async def main(loop) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(LOCAL)
            transport, recorder = await endpoint(loop, remote_addr=sock.getsockname())
            recorder.raises = ZeroDivisionError("mine")
            if event == "datagram":
                for _ in range(3):
                    sock.sendto(b"x", transport.get_extra_info("sockname"))
            else:
                sock.close()
                transport.sendto(b"x")
        await until(lambda: len(errors) == (3 if event == "datagram" else 1))
        assert all(e["exception"] is recorder.raises for e in errors)
        assert all(e["message"].startswith("Exception in callback ") for e in errors)
        recorder.raises = None
        assert not transport.is_closing()
        await end(transport)

    run(loop, main)


def test_an_exception_of_error_received_leaves_sendto(loop) -> None:
    async def main(loop) -> None:
        transport, recorder, addr = await bound(loop)
        recorder.raises = ZeroDivisionError("mine")
        with pytest.raises(ZeroDivisionError):
            transport.sendto(b"x" * 70000, addr)
        recorder.raises = None
        await end(transport)

    run(loop, main)


def test_a_protocol_that_raises_in_connection_made_and_lost(loop, errors) -> None:
    class Raising(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            raise ZeroDivisionError("made")

        def connection_lost(self, exc: Exception | None) -> None:
            raise ZeroDivisionError("lost")

    async def main(loop) -> None:
        transport, _ = await loop.create_datagram_endpoint(Raising, local_addr=LOCAL)
        fd = transport.get_extra_info("socket").fileno()
        await end(transport)
        assert [str(e["exception"]) for e in errors] == ["made", "lost"]
        with pytest.raises(OSError):
            os.fstat(fd)

    run(loop, main)


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt])
def test_system_exit_leaves_the_run_and_the_rest_comes_in_the_next(loop, kind) -> None:
    transport, recorder, addr = loop.run_until_complete(bound(loop))
    recorder.raises = kind()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        for n in range(40):
            sock.sendto(b"%d" % n, addr)
    for n in range(1, 4):
        with pytest.raises(kind):
            loop.run_forever()
        assert len(recorder.got) == n
    recorder.raises = None
    loop.run_until_complete(asyncio.wait_for(until(lambda: len(recorder.got) == 40), 10))
    assert [data for data, _ in recorder.got] == [b"%d" % n for n in range(40)]
    loop.run_until_complete(end(transport))


# ---- flow control --------------------------------------------------------------------------------


def test_what_the_kernel_does_not_take_waits_and_the_protocol_is_paused(loop, tmp_path) -> None:
    async def main(loop) -> None:
        transport, recorder, peer, n = await filled(loop, tmp_path)
        assert transport.get_write_buffer_size() > 100
        assert "write=<polling, bufsize=" in repr(transport)
        transport.sendto(bytearray(b"%10d" % n))
        assert await drain(peer, n + 1) == [b"%10d" % i for i in range(n + 1)]
        await until(lambda: "resume" in recorder.events)
        assert recorder.events == ["made", "pause", "resume"]
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert not recorder.errors
        await end(transport)
        peer.close()

    if (3, 13, 0) <= sys.version_info < (3, 13, 1) and not isinstance(loop, puff.Loop):
        pytest.skip("3.13.0 forgets to count the headers down again")
    run(loop, main)


def test_the_size_of_what_waits_counts_headers_from_3_13_on(loop, tmp_path) -> None:
    async def main(loop) -> None:
        transport, _, peer, _ = await filled(loop, tmp_path)
        before = transport.get_write_buffer_size()
        transport.sendto(b"12345")
        header = 8 if sys.version_info >= (3, 13) else 0
        assert transport.get_write_buffer_size() - before == 5 + header
        transport.abort()
        await settle()
        peer.close()

    run(loop, main)


def test_what_waits_is_sent_before_the_close(loop, tmp_path) -> None:
    async def main(loop) -> None:
        transport, recorder, peer, n = await filled(loop, tmp_path)
        transport.close()
        await settle()
        assert transport.is_closing() and not recorder.lost.done()
        assert len(await drain(peer, n)) == n
        assert await recorder.lost is None
        peer.close()

    run(loop, main)


def test_abort_throws_away_what_waits(loop, tmp_path) -> None:
    async def main(loop) -> None:
        transport, recorder, peer, n = await filled(loop, tmp_path)
        transport.close()
        transport.abort()
        assert await recorder.lost is None
        assert len(await drain(peer, 1)) < n
        peer.close()

    run(loop, main)


def test_an_exception_of_pause_writing_is_told_and_harmless(loop, errors, tmp_path) -> None:
    async def main(loop) -> None:
        peer, path = full_unix_peer(tmp_path)
        transport, recorder = await endpoint(loop, family=socket.AF_UNIX, remote_addr=path)
        transport.set_write_buffer_limits(0)
        recorder.raises = ZeroDivisionError("mine")
        while not errors:
            transport.sendto(b"x")
        await drain(peer, 1)
        await until(lambda: len(errors) == 2)
        messages = [e["message"] for e in errors]
        assert messages == ["protocol.pause_writing() failed", "protocol.resume_writing() failed"]
        recorder.raises = None
        await end(transport)
        peer.close()

    if (3, 13, 0) <= sys.version_info < (3, 13, 1) and not isinstance(loop, puff.Loop):
        pytest.skip("3.13.0 forgets to count the headers down again")
    run(loop, main)


def test_write_buffer_limits(loop) -> None:
    async def main(loop) -> None:
        transport, _, _ = await bound(loop)
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        with pytest.raises(ValueError):
            transport.set_write_buffer_limits(high=1, low=2)
        await end(transport)

    run(loop, main)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio cannot pause datagrams before 3.12")
def test_pausing_loses_nothing(loop) -> None:
    async def main(loop) -> None:
        transport, seen, addr = await bound(loop)
        seen.then = lambda: len(seen.got) % 7 == 0 and transport.pause_reading()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for n in range(100):
                sock.sendto(b"%d" % n, addr)
            for n in range(7, 100, 7):
                await until(lambda n=n: len(seen.got) == n)
                await settle()
                assert len(seen.got) == n and not transport.is_reading()
                transport.resume_reading()
            await until(lambda: len(seen.got) == 100)
        assert [data for data, _ in seen.got] == [b"%d" % n for n in range(100)]
        await end(transport)
        transport.resume_reading()
        transport.pause_reading()

    run(loop, main)


# ---- life ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["close", "abort"])
def test_nothing_is_received_after_the_close(loop, how) -> None:
    async def main(loop) -> None:
        transport, seen, addr = await bound(loop)
        seen.then = lambda: seen.got and getattr(transport, how)()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            for _ in range(50):
                sock.sendto(b"x", addr)
        await seen.lost
        assert seen.events == ["made", "datagram", "lost"]
        transport.close()
        transport.abort()
        await settle()
        assert seen.events == ["made", "datagram", "lost"]
        assert transport.get_protocol() is None and transport.is_closing()

    run(loop, main)


def test_sending_on_a_closed_connection_warns_from_the_fifth_time_on(loop, caplog) -> None:
    async def main(loop) -> None:
        a, _, addr = await bound(loop)
        b, recorder = await endpoint(loop, remote_addr=addr)
        b.close()
        await recorder.lost
        with caplog.at_level(logging.WARNING, "asyncio"):
            for _ in range(4):
                b.sendto(b"x")
            assert not caplog.records
            b.sendto(b"x")
        assert [r.getMessage() for r in caplog.records] == ["socket.send() raised exception."]
        await end(a)

    run(loop, main)


def test_sending_on_a_closed_socket_is_silent(puff_loop) -> None:
    async def main(loop) -> None:
        transport, recorder, addr = await bound(loop)
        await end(transport)
        transport.sendto(b"x", addr)
        assert not recorder.errors and transport.get_write_buffer_size() == 0

    run(puff_loop, main)


def test_the_protocol_can_be_changed(loop) -> None:
    async def main(loop) -> None:
        transport, first, addr = await bound(loop)
        second = Recorder()
        transport.set_protocol(second)
        transport.sendto(b"x", addr)
        await until(lambda: second.got)
        assert not first.got and transport.get_protocol() is second
        await end(transport)
        assert second.events == ["datagram", "lost"] and first.events == ["made"]

    run(loop, main)


def test_datagrams_come_in_the_makers_context(loop) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="none")
    seen_values = []

    async def main(loop) -> None:
        var.set("maker")
        transport, seen, addr = await bound(loop)
        seen.then = lambda: seen_values.append(var.get())
        var.set("later")
        transport.sendto(b"x", addr)
        await until(lambda: seen.got)
        await end(transport)

    run(loop, main)
    assert seen_values == ["maker"]


def test_repr_tells_the_state(loop) -> None:
    async def main(loop) -> None:
        transport, _, _ = await bound(loop)
        fd = transport.get_extra_info("socket").fileno()
        await settle()
        text = repr(transport)
        assert text.endswith(f"DatagramTransport fd={fd} read=polling write=<idle, bufsize=0>>")
        transport.close()
        assert f"closing fd={fd} read=idle" in repr(transport)
        await settle()
        assert f"closed fd={fd}" in repr(transport)

    run(loop, main)


def test_extra_info(loop) -> None:
    async def main(loop) -> None:
        transport, _, addr = await bound(loop)
        sock = transport.get_extra_info("socket")
        assert type(sock) is asyncio.trsock.TransportSocket and sock.getsockname() == addr
        assert transport.get_extra_info("nothing", "else") == "else"
        await end(transport)

    run(loop, main)


def test_no_descriptor_is_left(loop) -> None:
    async def main(loop) -> None:
        for _ in range(2):
            before = len(os.listdir("/proc/self/fd"))
            for _ in range(30):
                a, _, addr = await bound(loop)
                b, _ = await endpoint(loop, remote_addr=addr)
                b.sendto(b"x")
                await end(a, b)
            assert len(os.listdir("/proc/self/fd")) == before

    run(loop, main)


def test_a_loop_closed_with_an_open_endpoint_warns(loop) -> None:
    fds = len(os.listdir("/proc/self/fd"))

    async def main(loop) -> None:
        transport, recorder, addr = await bound(loop)
        recorder.transport = None
        transport.sendto(b"x", addr)

    run(loop, main)
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        loop.close()
        gc.collect()
    assert len(os.listdir("/proc/self/fd")) < fds


def test_transports_and_protocols_are_freed(loop) -> None:
    import weakref

    async def main(loop) -> None:
        transport, recorder, _ = await bound(loop)
        refs = [weakref.ref(transport), weakref.ref(recorder)]
        await end(transport)
        del transport, recorder
        gc.collect()
        assert [ref() for ref in refs] == [None, None]

    run(loop, main)


def test_a_child_may_run_the_loop_and_close_it(puff_loop) -> None:
    transport, seen, addr = puff_loop.run_until_complete(bound(puff_loop))
    child = os.fork()
    if child == 0:
        try:
            puff_loop.run_until_complete(asyncio.sleep(0.001))
            transport.abort()
            puff_loop.run_until_complete(asyncio.sleep(0.001))
            puff_loop.close()
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    transport.sendto(b"still here", addr)
    puff_loop.run_until_complete(asyncio.wait_for(until(lambda: seen.got), 10))
    puff_loop.run_until_complete(end(transport))


def test_families_that_puff_does_not_know_get_asyncios_transport(puff_loop) -> None:
    async def main(loop) -> None:
        sock = socket.socket(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
        transport, _ = await endpoint(loop, sock=sock)
        assert type(transport).__module__ == "asyncio.selector_events"
        await end(transport)

    run(puff_loop, main)


def test_what_only_behaves_like_a_socket_keeps_its_methods(puff_loop) -> None:
    class Like:
        def __init__(self, sock: socket.socket) -> None:
            self.sock = sock
            self.sent: list[bytes] = []

        def sendto(self, data: bytes, addr: Any) -> None:
            self.sent.append(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self.sock, name)

    async def main(loop) -> None:
        like = Like(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        transport, _ = await endpoint(loop, sock=like)
        transport.sendto(b"x", ("127.0.0.1", 9))
        assert like.sent == [b"x"]
        await end(transport)

    run(puff_loop, main)


def test_a_transport_cannot_be_misused(puff_loop) -> None:
    async def main(loop) -> None:
        transport, _, _ = await bound(loop)
        cls = type(transport)
        with pytest.raises(TypeError):
            cls.sendto(object(), b"x", None)
        with pytest.raises(RuntimeError):
            cls.__new__(cls).sendto(b"x", None)
        with pytest.raises(RuntimeError, match="is used by transport"):
            loop.add_reader(transport.get_extra_info("socket").fileno(), print)
        await end(transport)

    run(puff_loop, main)
