"""loop.sock_recv() and its kin do what asyncio's do: each behaviour is tried on both loops."""

from __future__ import annotations

import array
import asyncio
import collections.abc
import contextlib
import errno
import gc
import inspect
import io
import os
import socket
import ssl
import struct
import sys
import tempfile
import threading
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from typing import Any

import pytest

import puff
from puff._bind import sock as native

PATIENCE_S = 20.0
has_datagrams = pytest.mark.skipif(sys.version_info < (3, 11), reason="from 3.11 on")


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    a, b = make_pair()
    yield a, b
    a.close()
    b.close()


def make_pair(kind: int = socket.SOCK_STREAM) -> tuple[socket.socket, socket.socket]:
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    a.setblocking(False)
    b.setblocking(False)
    return a, b


def make_tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        a = socket.create_connection(listener.getsockname())
        b, _ = listener.accept()
    a.setblocking(False)
    b.setblocking(False)
    return a, b


def run(loop: Any, main: Awaitable[Any]) -> Any:
    async def bounded() -> Any:
        return await asyncio.wait_for(main, PATIENCE_S)

    return loop.run_until_complete(bounded())


async def parked(coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
    """A task that has come to its first wait."""
    task = asyncio.ensure_future(coro)
    for _ in range(3):
        await asyncio.sleep(0)
    assert not task.done()
    return task


def fill(sock: socket.socket) -> int:
    """Sends until the kernel takes no more: how much."""
    n = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            n += sock.send(bytes(65536))
    return n


# ---- what each method gives ----------------------------------------------------------------------


def test_recv_gives_what_is_there_and_waits_for_what_is_not(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        b.send(b"one")
        assert await loop.sock_recv(a, 100) == b"one"
        task = await parked(loop.sock_recv(a, 2))
        b.send(b"two")
        assert await task == b"tw"
        assert await loop.sock_recv(a, 100) == b"o"
        b.close()
        assert await loop.sock_recv(a, 100) == b""
        assert await loop.sock_recv(a, 100) == b""

    run(loop, main())


@pytest.mark.parametrize("n", [1, 100, 65536, 65537, 1 << 20, 1 << 30])
def test_recv_takes_any_limit(loop: Any, pair: Any, n: int) -> None:
    a, b = pair
    message = os.urandom(100_000)

    async def main() -> None:
        got = bytearray()
        sending = asyncio.ensure_future(loop.sock_sendall(b, message))
        while len(got) < (len(message) if n > 1 else 1000):
            part = await loop.sock_recv(a, n)
            assert type(part) is bytes
            assert 0 < len(part) <= n
            got += part
        assert message.startswith(got)
        sending.cancel()

    run(loop, main())


def test_a_huge_limit_does_not_take_memory_up_front(puff_loop: Any, pair: Any) -> None:
    import tracemalloc

    async def main() -> int:
        tracemalloc.start()
        try:
            task = await parked(puff_loop.sock_recv(pair[0], 1 << 30))
            pair[1].send(b"x")
            assert await task == b"x"
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert run(puff_loop, main()) < 1 << 20


@pytest.mark.parametrize("make", [bytearray, lambda n: memoryview(bytearray(n))])
def test_recv_into_fills_the_buffer(loop: Any, pair: Any, make: Callable[[int], Any]) -> None:
    a, b = pair

    async def main() -> None:
        buf = make(5)
        b.send(b"hello world")
        assert await loop.sock_recv_into(a, buf) == 5
        assert bytes(buf) == b"hello"
        assert await loop.sock_recv_into(a, memoryview(buf)[1:3]) == 2
        assert bytes(buf) == b"h wlo"
        assert await loop.sock_recv_into(a, make(0)) == 0
        assert await loop.sock_recv(a, 100) == b"orld"
        task = await parked(loop.sock_recv_into(a, buf))
        b.send(b"ab")
        assert await task == 2

    run(loop, main())


def test_recv_into_takes_arrays(loop: Any, pair: Any) -> None:
    async def main() -> None:
        numbers = array.array("i", [0, 0])
        pair[1].send(struct.pack("ii", 7, 8))
        assert await loop.sock_recv_into(pair[0], numbers) == 8
        assert list(numbers) == [7, 8]

    run(loop, main())


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview, lambda d: array.array("B", d)])
def test_sendall_sends_any_bytes(loop: Any, pair: Any, wrap: Callable[[bytes], Any]) -> None:
    a, b = pair
    message = os.urandom(3_000_000)

    async def main() -> None:
        assert await loop.sock_sendall(b, wrap(b"")) is None
        task = await parked(loop.sock_sendall(b, wrap(message)))
        got = bytearray()
        while len(got) < len(message):
            got += await loop.sock_recv(a, 1 << 20)
        assert got == message
        assert await task is None

    run(loop, main())


def test_a_buffer_stays_exported_while_it_is_sent(loop: Any, pair: Any) -> None:
    async def main() -> None:
        data = bytearray(3_000_000)
        task = await parked(loop.sock_sendall(pair[1], data))
        with pytest.raises(BufferError):
            data.clear()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        del task
        gc.collect()
        data.clear()

    run(loop, main())


@has_datagrams
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_datagrams_come_with_their_sender(loop: Any, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socks = [socket.socket(family, socket.SOCK_DGRAM) for _ in range(2)]
        for s in socks:
            s.bind((host, 0))
            s.setblocking(False)
    except OSError:
        pytest.skip(f"no {host} here")
    a, b = socks

    async def main() -> None:
        assert await loop.sock_sendto(b, b"one", a.getsockname()) == 3
        assert await loop.sock_recvfrom(a, 100) == (b"one", b.getsockname())
        task = await parked(loop.sock_recvfrom(a, 2))
        await loop.sock_sendto(b, b"two", a.getsockname())
        assert await task == (b"tw", b.getsockname())
        buf = bytearray(10)
        task = await parked(loop.sock_recvfrom_into(a, buf))
        await loop.sock_sendto(b, b"three", a.getsockname())
        assert await task == (5, b.getsockname())
        assert buf == b"three\0\0\0\0\0"
        await loop.sock_sendto(b, b"four", a.getsockname())
        assert await loop.sock_recvfrom_into(a, buf, nbytes=2) == (2, b.getsockname())
        await loop.sock_sendto(b, b"", a.getsockname())
        assert await loop.sock_recv(a, 10) == b""
        with pytest.raises(ValueError):
            await loop.sock_recvfrom_into(a, buf, 11)
        with pytest.raises(OSError):
            await loop.sock_sendto(b, bytes(70_000), a.getsockname())

    try:
        run(loop, main())
    finally:
        a.close()
        b.close()


@has_datagrams
@pytest.mark.parametrize("name", ["", "file", "\0abstract"])
def test_unix_datagrams_come_with_their_sender(loop: Any, name: str, tmp_path: Any) -> None:
    a = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    b = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    with a, b:
        a.bind(str(tmp_path / "a"))
        a.setblocking(False)
        if name:
            b.bind(str(tmp_path / name) if name == "file" else f"{name}{id(loop)}")
        b.sendto(b"x" * 100_000, str(tmp_path / "a"))
        b.sendto(b"y", str(tmp_path / "a"))

        async def main() -> None:
            data, sender = await loop.sock_recvfrom(a, 200_000)
            assert len(data) == 100_000
            assert sender == (b.getsockname() or None)
            b.sendto(b"z" * 100_000, str(tmp_path / "a"))
            assert await loop.sock_recv(a, 100) == b"y"
            assert len(await loop.sock_recv(a, 200_000)) == 100_000

        run(loop, main())


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6, socket.AF_UNIX])
def test_accept_and_connect(loop: Any, family: int, tmp_path: Any) -> None:
    hosts = {socket.AF_INET: ("127.0.0.1", 0), socket.AF_INET6: ("::1", 0)}
    listener = socket.socket(family)
    try:
        listener.bind(hosts.get(family, str(tmp_path / "s")))
    except OSError:
        pytest.skip("no such addresses here")
    listener.listen()
    listener.setblocking(False)

    async def main() -> None:
        for _ in range(3):
            task = await parked(loop.sock_accept(listener))
            client = socket.socket(family)
            client.setblocking(False)
            assert await loop.sock_connect(client, listener.getsockname()) is None
            conn, address = await task
            assert type(conn) is socket.socket
            assert (conn.family, conn.type, conn.proto) == (
                listener.family, socket.SOCK_STREAM, listener.proto,
            )  # fmt: skip
            assert address == client.getsockname()
            assert conn.gettimeout() == 0
            assert not os.get_blocking(conn.fileno())
            assert not conn.get_inheritable()
            await loop.sock_sendall(client, b"hello")
            assert await loop.sock_recv(conn, 10) == b"hello"
            client.close()
            conn.close()

    run(loop, main())
    listener.close()


def test_connect_resolves_names(loop: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:

        async def main() -> None:
            with socket.socket() as s:
                s.setblocking(False)
                await loop.sock_connect(s, ("localhost", listener.getsockname()[1]))
                assert s.getpeername() == listener.getsockname()

        run(loop, main())


def test_connect_says_why_not(loop: Any) -> None:
    with socket.socket() as s, socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        address = bound.getsockname()
        s.setblocking(False)
        with pytest.raises(ConnectionRefusedError) as caught:
            run(loop, loop.sock_connect(s, address))
        assert str(caught.value) == (f"[Errno {errno.ECONNREFUSED}] Connect call failed {address}")


def test_sendfile(loop: Any) -> None:
    content = os.urandom(2_000_000)
    a, b = make_tcp_pair()
    with a, b, tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()

        async def main(offset: int, count: int | None, expected: bytes) -> None:
            async def receive() -> bytes:
                got = b""
                while len(got) < len(expected):
                    got += await loop.sock_recv(a, 1 << 20)
                return got

            receiving = asyncio.ensure_future(receive())
            assert await loop.sock_sendfile(b, file, offset, count) == len(expected)
            assert await receiving == expected
            if expected:
                assert file.tell() == offset + len(expected)

        run(loop, main(0, None, content))
        run(loop, main(1000, None, content[1000:]))
        run(loop, main(1000, 1_500_000, content[1000:][:1_500_000]))
        run(loop, main(1_999_000, 5000, content[1_999_000:]))
        run(loop, main(3_000_000, None, b""))
        with pytest.raises(asyncio.SendfileNotAvailableError):
            run(loop, loop.sock_sendfile(b, io.BytesIO(b"x"), fallback=False))
        assert run(loop, loop.sock_sendfile(b, io.BytesIO(b"xyz"))) == 3


def test_a_sendfile_of_nothing_moves_the_file_where_this_python_does(loop: Any) -> None:
    a, b = make_tcp_pair()
    with a, b, tempfile.TemporaryFile() as file:
        file.write(b"abcdef")
        file.seek(2)
        assert run(loop, loop.sock_sendfile(b, file, 6)) == 0
        sends = asyncio.SelectorEventLoop._sock_sendfile_update_filepos
        assert file.tell() == (2 if "total_sent" in sends.__code__.co_varnames else 6)


def test_cancelled_sendfile_leaves_the_file_where_it_stopped(puff_loop: Any) -> None:
    """As documented; asyncio's leaves it where it began."""
    loop = puff_loop
    a, b = make_tcp_pair()
    with a, b, tempfile.TemporaryFile() as file:
        file.truncate(50_000_000)

        async def main() -> None:
            task = asyncio.ensure_future(loop.sock_sendfile(b, file))
            await asyncio.sleep(0.05)  # long enough to fill what the kernel takes
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert 0 < file.tell() < 50_000_000

        run(loop, main())


# ---- errors --------------------------------------------------------------------------------------


def calls(loop: Any, sock: socket.socket) -> dict[str, Callable[[], Coroutine[Any, Any, Any]]]:
    found = {
        "recv": lambda: loop.sock_recv(sock, 10),
        "recv_into": lambda: loop.sock_recv_into(sock, bytearray(10)),
        "sendall": lambda: loop.sock_sendall(sock, b"x"),
        "accept": lambda: loop.sock_accept(sock),
        "connect": lambda: loop.sock_connect(sock, ("127.0.0.1", 1)),
    }
    if sys.version_info >= (3, 11):
        found["recvfrom"] = lambda: loop.sock_recvfrom(sock, 10)
        found["recvfrom_into"] = lambda: loop.sock_recvfrom_into(sock, bytearray(10))
        found["sendto"] = lambda: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1))
    return found


def test_a_closed_socket_is_a_bad_descriptor(loop: Any) -> None:
    s = socket.socket()
    s.setblocking(False)
    s.close()
    for name, call in calls(loop, s).items():
        with pytest.raises(OSError) as caught:
            run(loop, call())
        assert caught.value.errno == errno.EBADF, name
        assert str(caught.value) == "[Errno 9] Bad file descriptor"


def test_an_unconnected_socket_is_not_connected(loop: Any) -> None:
    with socket.socket() as s:
        s.setblocking(False)
        for name in ("recv", "recv_into"):
            with pytest.raises(OSError) as caught:
                run(loop, calls(loop, s)[name]())
            assert caught.value.errno == errno.ENOTCONN


def test_debug_mode_refuses_blocking_sockets(loop: Any, pair: Any) -> None:
    loop.set_debug(True)
    for timeout in (None, 1.0):
        pair[0].settimeout(timeout)
        for call in calls(loop, pair[0]).values():
            with pytest.raises(ValueError, match="the socket must be non-blocking"):
                run(loop, call())
    pair[0].setblocking(False)
    pair[1].send(b"x")
    assert run(loop, loop.sock_recv(pair[0], 10)) == b"x"


def test_tls_sockets_are_refused(loop: Any) -> None:
    with socket.socket() as raw:
        context = ssl.create_default_context()
        with context.wrap_socket(raw, do_handshake_on_connect=False, server_hostname="x") as s:
            s.setblocking(False)
            for call in calls(loop, s).values():
                with pytest.raises(TypeError, match="Socket cannot be of type SSLSocket"):
                    run(loop, call())


@pytest.mark.parametrize("arg", ["x", 1.5, None, -1, 1 << 70])
def test_recv_refuses_what_the_socket_refuses(loop: Any, pair: Any, arg: Any) -> None:
    with pytest.raises((TypeError, ValueError, OverflowError)) as expected:
        pair[0].recv(arg)
    with pytest.raises(expected.type) as caught:
        run(loop, loop.sock_recv(pair[0], arg))
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("arg", ["x", 5, None, b"readonly"])
def test_recv_into_refuses_what_the_socket_refuses(loop: Any, pair: Any, arg: Any) -> None:
    with pytest.raises((TypeError, BufferError)) as expected:
        pair[0].recv_into(arg)
    with pytest.raises(expected.type) as caught:
        run(loop, loop.sock_recv_into(pair[0], arg))
    assert str(caught.value) == str(expected.value)


@pytest.mark.parametrize("arg", ["x", 5, None, [b"x"], memoryview(b"abcdef")[::2]])
def test_sendall_refuses_what_the_socket_refuses(loop: Any, pair: Any, arg: Any) -> None:
    with pytest.raises((TypeError, BufferError)) as expected:
        pair[0].send(arg)
    with pytest.raises(expected.type) as caught:
        run(loop, loop.sock_sendall(pair[0], arg))
    assert str(caught.value) == str(expected.value)


def test_wrong_numbers_of_arguments_are_type_errors(loop: Any, pair: Any) -> None:
    a = pair[0]
    for wrong in (
        lambda: loop.sock_recv(a),
        lambda: loop.sock_recv(),
        lambda: loop.sock_recv(a, 1, 2),
        lambda: loop.sock_recv(a, 1, n=1),
        lambda: loop.sock_recv(a, m=1),
        lambda: loop.sock_accept(),
        lambda: loop.sock_accept(a, 1),
    ):
        with pytest.raises(TypeError):
            wrong()


def test_arguments_may_be_given_by_name(loop: Any, pair: Any) -> None:
    a, b = pair
    run(loop, loop.sock_sendall(sock=b, data=b"hello"))
    assert run(loop, loop.sock_recv(sock=a, n=2)) == b"he"
    assert run(loop, loop.sock_recv_into(a, buf=bytearray(1))) == 1


def test_a_reset_ends_a_wait(loop: Any) -> None:
    a, b = make_tcp_pair()
    with a:

        async def main() -> None:
            reading = await parked(loop.sock_recv(a, 10))
            b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            b.close()
            with pytest.raises(ConnectionResetError):
                await reading
            with pytest.raises((BrokenPipeError, ConnectionResetError)):
                await loop.sock_sendall(a, b"x")

        run(loop, main())


def test_a_half_closed_socket_still_sends(loop: Any) -> None:
    a, b = make_tcp_pair()
    with a, b:

        async def main() -> None:
            reading = await parked(loop.sock_recv(a, 10))
            b.shutdown(socket.SHUT_WR)
            assert await reading == b""
            await loop.sock_sendall(a, b"still here")
            assert await loop.sock_recv(b, 100) == b"still here"

        run(loop, main())


def test_a_transports_socket_is_not_for_this(loop: Any) -> None:
    a, b = make_tcp_pair()

    async def main() -> None:
        assert await loop.sock_recv_into(a, bytearray(0)) == 0
        task = await parked(loop.sock_recv(a, 10))
        task.cancel()
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=a)
        with pytest.raises(RuntimeError, match="is used by transport"):
            await loop.sock_recv(transport.get_extra_info("socket")._sock, 10)
        transport.close()
        await asyncio.sleep(0)

    run(loop, main())
    b.close()


# ---- the coroutine -------------------------------------------------------------------------------


def test_nothing_happens_before_the_first_step(loop: Any, pair: Any) -> None:
    a, b = pair
    b.send(b"x")
    coro = loop.sock_recv(a, 10)
    assert isinstance(coro, collections.abc.Coroutine)
    assert asyncio.iscoroutine(coro)
    assert inspect.isawaitable(coro)
    assert "sock_recv" in coro.__qualname__
    assert a.recv(10) == b"x"
    coro.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited coroutine"):
        run(loop, coro)


def test_one_that_is_never_awaited_is_reported(loop: Any, pair: Any) -> None:
    with pytest.warns(RuntimeWarning, match=r"sock_recv' was never awaited"):
        loop.sock_recv(pair[0], 10)
        gc.collect()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.sock_recv(pair[0], 10).close()


def test_a_ready_one_ends_in_its_first_step(puff_loop: Any, pair: Any) -> None:
    a, b = pair
    b.send(b"x")
    with pytest.raises(StopIteration) as caught:
        puff_loop.sock_recv(a, 10).send(None)
    assert caught.value.value == b"x"


def test_tasks_gather_and_wait_for_take_it(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        task = loop.create_task(loop.sock_recv(a, 10))
        await asyncio.sleep(0)
        assert "sock_recv" in repr(task)
        got = await asyncio.gather(task, loop.sock_sendall(b, b"x"))
        assert got == [b"x", None]
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(loop.sock_recv(a, 10), 0.01)

    run(loop, main())


def test_throwing_into_it_ends_it(loop: Any, pair: Any) -> None:
    coro = loop.sock_recv(pair[0], 10)
    with pytest.raises(KeyError):
        coro.throw(KeyError("x"))
    coro = loop.sock_recv(pair[0], 10)
    with pytest.raises(LookupError):
        coro.throw(LookupError)


def test_awaiting_it_in_two_tasks_is_an_error(loop: Any, pair: Any) -> None:
    async def main() -> None:
        coro = loop.sock_recv(pair[0], 10)
        task = await parked(coro)
        with pytest.raises(RuntimeError):
            await coro
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, RuntimeError):
            await task

    run(loop, main())


# ---- cancelling ----------------------------------------------------------------------------------


def test_cancelling_at_the_wait_leaves_no_waiter(loop: Any, pair: Any) -> None:
    _, b = pair
    fill(b)

    async def main() -> None:
        for coro in (
            loop.sock_recv(b, 10),
            loop.sock_recv_into(b, bytearray(10)),
            loop.sock_sendall(b, b"x"),
        ):
            task = await parked(coro)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.sleep(0)
            assert not loop.remove_reader(b.fileno())
            assert not loop.remove_writer(b.fileno())

    run(loop, main())


def test_cancelling_one_that_became_ready_takes_nothing(puff_loop: Any, pair: Any) -> None:
    """asyncio's has read by then, and the bytes are gone."""
    a, b = pair

    async def main() -> None:
        task = await parked(puff_loop.sock_recv(a, 10))
        b.send(b"x")
        puff_loop.call_soon(task.cancel)
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await puff_loop.sock_recv(a, 10) == b"x"

    run(puff_loop, main())


def test_a_timeout_then_another_try(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        for _ in range(20):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(loop.sock_recv(a, 10), 0.001)
        b.send(b"x")
        assert await asyncio.wait_for(loop.sock_recv(a, 10), PATIENCE_S) == b"x"

    run(loop, main())


def test_cancelling_connect_and_accept(loop: Any) -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1) as listener:
        listener.setblocking(False)

        async def main() -> None:
            task = await parked(loop.sock_accept(listener))
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            with socket.socket() as client:
                client.setblocking(False)
                await loop.sock_connect(client, listener.getsockname())
                conn, _ = await loop.sock_accept(listener)
                conn.close()

        run(loop, main())


# ---- several at once -----------------------------------------------------------------------------


def test_the_later_of_two_readers_is_served(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        first = await parked(loop.sock_recv(a, 10))
        second = await parked(loop.sock_recv(a, 10))
        b.send(b"x")
        assert await second == b"x"
        b.send(b"y")
        for _ in range(5):
            await asyncio.sleep(0)
        assert not first.done()
        first.cancel()
        assert await loop.sock_recv(a, 10) == b"y"

    run(loop, main())


def test_a_reader_and_a_writer_of_one_socket(loop: Any, pair: Any) -> None:
    a, b = pair
    n = fill(a)

    async def main() -> None:
        writing = await parked(loop.sock_sendall(a, b"end"))
        reading = await parked(loop.sock_recv(a, 10))
        b.send(b"x")
        assert await reading == b"x"
        got = 0
        while got < n + 3:
            got += len(await loop.sock_recv(b, 1 << 20))
        await writing

    run(loop, main())


def test_add_reader_takes_the_place_of_a_wait(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        task = await parked(loop.sock_recv(a, 10))
        called = loop.create_future()
        loop.add_reader(a, lambda: called.done() or called.set_result(a.recv(10)))
        b.send(b"x")
        assert await called == b"x"
        assert loop.remove_reader(a)
        assert not task.done()
        task.cancel()

    run(loop, main())


def test_a_wait_takes_the_place_of_a_reader(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        calls: list[int] = []
        loop.add_reader(a, calls.append, 1)
        task = await parked(loop.sock_recv(a, 10))
        b.send(b"x")
        assert await task == b"x"
        assert calls == []
        await asyncio.sleep(0)
        assert not loop.remove_reader(a)

    run(loop, main())


def test_remove_reader_takes_a_wait_away(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        task = await parked(loop.sock_recv(a, 10))
        assert loop.remove_reader(a)
        b.send(b"x")
        await asyncio.sleep(0.01)
        assert not task.done()
        task.cancel()

    run(loop, main())


def test_a_used_socket_may_become_a_transport(loop: Any) -> None:
    a, b = make_tcp_pair()

    class Keep(asyncio.Protocol):
        def __init__(self) -> None:
            self.got = loop.create_future()

        def data_received(self, data: bytes) -> None:
            self.got.set_result(data)

    async def main() -> None:
        task = await parked(loop.sock_recv(a, 10))
        b.send(b"x")
        assert await task == b"x"
        transport, protocol = await loop.create_connection(Keep, sock=a)
        b.send(b"y")
        assert await protocol.got == b"y"
        transport.close()
        await asyncio.sleep(0)

    run(loop, main())
    b.close()


def test_many_sockets(loop: Any) -> None:
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    n = min(5000, soft - 200) // 2
    if isinstance(loop, asyncio.SelectorEventLoop) and not isinstance(loop, puff.Loop):
        n = min(n, 500)
    pairs = [make_pair() for _ in range(n)]

    async def main() -> None:
        tasks = [asyncio.ensure_future(loop.sock_recv(a, 10)) for a, _ in pairs]
        await asyncio.sleep(0)
        for i, (_, b) in enumerate(pairs):
            b.send(b"%d" % i)
        assert await asyncio.gather(*tasks) == [b"%d" % i for i in range(n)]

    try:
        run(loop, main())
    finally:
        for a, b in pairs:
            a.close()
            b.close()


# ---- sockets that come and go --------------------------------------------------------------------


def test_a_new_socket_with_an_old_number(puff_loop: Any) -> None:
    """asyncio's loop, too, unless the old one was being waited for when it was closed."""

    async def main() -> None:
        a, b = make_pair()
        number = a.fileno()
        for i in range(1000):
            task = await parked(puff_loop.sock_recv(a, 10))
            if i % 2:
                b.send(b"x")
                assert await task == b"x"
            else:
                task.cancel()
            a.close()
            b.close()
            a, b = make_pair()
            assert a.fileno() == number
        a.close()
        b.close()

    run(puff_loop, main())


def test_a_socket_that_is_closed_under_a_wait(puff_loop: Any) -> None:
    """The wait is in vain, as asyncio's; the next socket with its number does not mind."""

    async def main() -> None:
        a, b = make_pair()
        vain = await parked(puff_loop.sock_recv(a, 10))
        number = a.fileno()
        a.close()
        c, d = make_pair()
        assert c.fileno() == number
        task = await parked(puff_loop.sock_recv(c, 10))
        d.send(b"x")
        assert await task == b"x"
        assert not vain.done()
        vain.cancel()
        for s in (b, c, d):
            s.close()

    run(puff_loop, main())


def test_a_number_that_changes_its_object_but_not_its_file(loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        task = await parked(loop.sock_recv(a, 10))
        b.send(b"x")
        assert await task == b"x"
        with socket.socket(fileno=a.detach()) as again:
            again.setblocking(False)
            task = await parked(loop.sock_recv(again, 10))
            b.send(b"y")
            assert await task == b"y"

    run(loop, main())


def test_a_closed_socket_that_lives_on_does_not_wake_the_loop(puff_loop: Any) -> None:
    a, b = make_pair()

    async def turns(n: int, data: bytes) -> int:
        before: int = puff_loop.stats().iterations
        for _ in range(n):
            await asyncio.sleep(0.001)
            if data:
                b.send(data)
            await asyncio.sleep(0.001)
        return puff_loop.stats().iterations - before

    async def main() -> None:
        task = await parked(puff_loop.sock_recv(a, 10))
        b.send(b"x")
        await task
        keeper = os.dup(a.fileno())
        a.close()
        b.send(b"y")
        await turns(5, b"z")
        assert await turns(50, b"z") <= await turns(50, b"") + 25
        os.close(keeper)
        b.close()

    run(puff_loop, main())


def test_a_file_is_refused(loop: Any) -> None:
    class FileLike(socket.socket):
        def recv(self, n: int, flags: int = 0) -> bytes:
            raise BlockingIOError

        def fileno(self) -> int:
            return number

    with tempfile.TemporaryFile() as file, FileLike() as s:
        number = file.fileno()
        s.setblocking(False)
        with pytest.raises(PermissionError):
            run(loop, loop.sock_recv(s, 10))


def test_a_subclass_keeps_its_methods(loop: Any, pair: Any) -> None:
    class Loud(socket.socket):
        def recv(self, n: int, flags: int = 0) -> bytes:
            return super().recv(n, flags).upper()

        def send(self, data: Any, flags: int = 0) -> int:
            return super().send(bytes(data[:3]), flags)

    with Loud(fileno=pair[0].detach()) as s:
        s.setblocking(False)

        async def main() -> None:
            task = await parked(loop.sock_recv(s, 10))
            pair[1].send(b"hello")
            assert await task == b"HELLO"
            await loop.sock_sendall(s, b"hello world")
            assert await loop.sock_recv(pair[1], 100) == b"hello world"

        run(loop, main())


def test_what_has_only_methods_will_do(loop: Any, pair: Any) -> None:
    class Thing:
        __slots__ = ()

        def recv(self, n: int) -> bytes:
            return pair[0].recv(n)

        def fileno(self) -> int:
            return pair[0].fileno()

        def gettimeout(self) -> float:  # debug mode asks
            return 0.0

    async def main() -> None:
        for _ in range(3):
            task = await parked(loop.sock_recv(Thing(), 10))
            pair[1].send(b"x")
            assert await task == b"x"

    run(loop, main())


# ---- loops, threads, processes -------------------------------------------------------------------


def test_a_loop_is_closed_while_somebody_waits(loop: Any, pair: Any) -> None:
    async def main() -> asyncio.Task[Any]:
        return await parked(loop.sock_recv(pair[0], 10))

    task = run(loop, main())
    loop.close()
    task._log_destroy_pending = False
    del task
    gc.collect()
    with pytest.raises(RuntimeError, match="closed"):
        loop.sock_recv(pair[0], 10).send(None)


def test_two_loops_in_two_threads() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        async def main() -> None:
            loop = asyncio.get_running_loop()
            a, b = make_pair()
            with a, b:
                for i in range(500):
                    task = asyncio.ensure_future(loop.sock_recv(a, 10))
                    await asyncio.sleep(0)
                    await loop.sock_sendall(b, b"%d" % i)
                    assert await task == b"%d" % i

        try:
            puff.run(main())
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=work) for _ in range(2)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert failures == []


def test_a_forked_child_waits_on_its_own(puff_loop: Any, pair: Any) -> None:
    a, b = pair

    async def echo() -> None:
        task = await parked(puff_loop.sock_recv(a, 10))
        b.send(b"x")
        assert await task == b"x"

    run(puff_loop, echo())
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            run(puff_loop, echo())
            run(puff_loop, echo())
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert status == 0
    run(puff_loop, echo())


# ---- the wait alone ------------------------------------------------------------------------------


def test_tasks_may_wait_for_readiness(puff_loop: Any, pair: Any) -> None:
    a, b = pair

    async def main() -> None:
        for what in (a, a.fileno()):
            await native.wait_writable(what)
            task = asyncio.ensure_future(native.wait_readable(what))
            other = await parked(native.wait_readable(what))
            b.send(b"x")
            await asyncio.gather(task, other)
            assert a.recv(10) == b"x"
        cancelled = await parked(native.wait_readable(a))
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        closed = native.wait_readable(-1)
        with pytest.raises(OSError):
            await closed

    run(puff_loop, main())


def test_greenlets_may_wait_for_readiness(puff_loop: Any, pair: Any) -> None:
    a, b = pair

    def work() -> bytes:
        native.wait_readable(a)
        return a.recv(10)

    async def main() -> None:
        greenlet = puff.spawn(work)
        for _ in range(3):
            await asyncio.sleep(0)
        b.send(b"x")
        assert await greenlet.join() == b"x"

    run(puff_loop, main())
