"""puff.monkey: sockets, select and its kin, time.sleep. On greenlets they park."""

from __future__ import annotations

import asyncio
import errno
import select
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from monkeys import CROWD, TOGETHER_S, crowd, killed, on_greenlet, patched

import puff
import puff.monkey
from puff.greenlet import GreenletExit

Pair = tuple[socket.socket, socket.socket]


# Here pytest and others have been imported.
pytestmark = pytest.mark.filterwarnings("ignore:imported before puff.monkey")


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


@pytest.fixture
def pair() -> Iterator[Pair]:
    a, b = socket.socketpair()
    with a, b:
        yield a, b


def together(*fns: Callable[[], Any]) -> list[Any]:
    """Each on a greenlet of one loop."""
    return crowd(lambda i: fns[i](), len(fns))[0]


# ---- what is patched -----------------------------------------------------------------------------


def test_unpatch_leaves_nothing_behind() -> None:
    puff.monkey.unpatch_all()
    before = [dict(vars(each)) for each in (socket, socket.socket, time, select, selectors)]
    with patched():
        assert "socket" in puff.monkey.patched()
        assert vars(socket.socket) != before[1]
    assert puff.monkey.patched() == frozenset()
    assert [dict(vars(each)) for each in (socket, socket.socket, time, select, selectors)] == before


def test_parts_can_be_left_out() -> None:
    puff.monkey.unpatch_all()
    sleep = time.sleep
    puff.monkey.patch_all(time=False)
    assert time.sleep is sleep
    assert puff.monkey.patched() >= {"socket", "select"}
    puff.monkey.patch_all()
    assert time.sleep is not sleep


def test_the_class_stays_the_same() -> None:
    puff.monkey.unpatch_all()
    cls = socket.socket
    made_before = socket.socket()
    with patched(), made_before, socket.socket() as made_after:
        assert socket.socket is cls
        assert type(made_after) is type(made_before) is cls


# ---- time.sleep ----------------------------------------------------------------------------------


def test_sleeps_together() -> None:
    _, seconds = crowd(lambda i: time.sleep(0.2))
    assert 0.2 <= seconds < TOGETHER_S


def test_sleep_takes_what_it_always_took() -> None:
    def work() -> None:
        time.sleep(0)
        time.sleep(0.001)
        time.sleep(True * 0)
        for wrong in (-1, float("nan")):
            with pytest.raises(ValueError):
                time.sleep(wrong)
        with pytest.raises(TypeError):
            time.sleep("1")  # type: ignore[arg-type]

    on_greenlet(work)


def test_sleep_is_killed() -> None:
    assert isinstance(killed(lambda: time.sleep(20)), GreenletExit)


def test_coroutines_and_threads_block_as_ever(pair: Pair) -> None:
    a, b = pair

    async def main() -> list[str]:
        order: list[str] = []
        asyncio.get_running_loop().call_soon(order.append, "loop")
        time.sleep(0.02)  # nothing else runs
        order.append("slept")
        a.sendall(b"x")
        assert b.recv(1) == b"x"
        thread = threading.Thread(target=lambda: order.append(b.recv(5).decode()))
        thread.start()
        a.sendall(b"thread")
        thread.join(5)
        await asyncio.sleep(0)
        return order

    assert puff.run(main()) == ["slept", "threa", "loop"]


def test_select_sees_what_a_fileno_does_to_its_list(pair: Pair) -> None:
    class Last:
        def fileno(self) -> int:
            del lasts[-1]
            return pair[0].fileno()

    lasts = [Last() for _ in range(4)]
    assert on_greenlet(select.select, [], lasts, [], 5) == ([], lasts[:2], [])


# ---- receiving and sending -----------------------------------------------------------------------


def test_recv_parks_until_there_is_something(pair: Pair) -> None:
    a, b = pair
    got = together(lambda: a.recv(10), lambda: b.sendall(b"hello"))
    assert got[0] == b"hello"


@pytest.mark.parametrize(
    "receive",
    [
        lambda s: s.recv(5),
        lambda s: s.recvfrom(5)[0],
        lambda s: s.recvmsg(5)[0],
        lambda s: _into(s.recv_into),
        lambda s: _into(lambda buffer: s.recvfrom_into(buffer)[0]),
        lambda s: _into(lambda buffer: s.recvmsg_into([buffer])[0]),
        lambda s: s.makefile("rb").read(5),
        lambda s: s.recv(5, socket.MSG_WAITALL),
    ],
)
@pytest.mark.parametrize("timeout", [None, 5])
def test_each_way_to_receive(
    receive: Callable[[Any], bytes], timeout: float | None, pair: Pair
) -> None:
    a, b = pair
    a.settimeout(timeout)
    send: list[Callable[[], Any]] = [
        lambda: b.send(b"hello"),
        lambda: b.sendmsg([b"he", b"llo"]),
        lambda: b.sendall(b"hello"),
        lambda: b.makefile("wb", buffering=0).write(b"hello"),
    ]
    for each in send:
        assert together(lambda: receive(a), each)[0] == b"hello"
    assert a.gettimeout() == timeout


def test_buffers_of_a_generator_outlive_a_wait(pair: Pair) -> None:
    a, b = pair
    buffers = [bytearray(2), bytearray(3)]
    got = together(
        lambda: a.recvmsg_into(each for each in buffers)[0],
        lambda: b.sendmsg(each for each in (b"he", b"llo")),
    )
    assert got == [5, 5]
    assert buffers == [b"he", b"llo"]


def _into(receive: Callable[[bytearray], int]) -> bytes:
    buffer = bytearray(5)
    return bytes(buffer[: receive(buffer)])


def test_megabytes_flow_through_a_full_buffer(pair: Pair) -> None:
    a, b = pair
    data = bytes(range(256)) * 20_000

    def read_all() -> bytes:
        parts = []
        while part := b.recv(65_536):
            parts.append(part)
        return b"".join(parts)

    def write_all() -> None:
        a.sendall(memoryview(data).cast("H"))
        a.shutdown(socket.SHUT_WR)

    assert together(read_all, write_all)[0] == data


def test_sendfile_parks(pair: Pair, tmp_path: Path) -> None:
    a, b = pair
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)

    def read_all() -> int:
        n = 0
        while n < 999_990:
            n += len(b.recv(65_536))
        return n

    def send() -> int:
        with path.open("rb") as file:
            return a.sendfile(file, offset=10)

    assert together(read_all, send) == [999_990, 999_990]


def test_timeouts_and_what_they_raise(pair: Pair) -> None:
    a, _ = pair

    def work() -> None:
        a.settimeout(0.05)
        with pytest.raises(TimeoutError, match="timed out"):
            a.recv(1)
        with pytest.raises(socket.timeout):
            while True:
                a.sendall(b"x" * 100_000)
        assert a.gettimeout() == 0.05
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            a.recv(1)
        a.setblocking(True)
        assert a.gettimeout() is None

    on_greenlet(work)


def test_datagrams() -> None:
    with (
        socket.socket(type=socket.SOCK_DGRAM) as a,
        socket.socket(type=socket.SOCK_DGRAM) as b,
    ):
        a.bind(("127.0.0.1", 0))
        b.bind(("127.0.0.1", 0))
        to = ("localhost", a.getsockname()[1])
        got, n = together(lambda: a.recvfrom(100), lambda: b.sendto(b"datagram", to))
        assert got == (b"datagram", b.getsockname())
        assert n == 8


# ---- connecting, accepting, closing --------------------------------------------------------------


def test_a_crowd_connects_by_name_and_is_echoed() -> None:
    server = socket.create_server(("127.0.0.1", 0), backlog=CROWD)

    def serve() -> None:
        for _ in range(CROWD):
            connection, _ = server.accept()
            puff.spawn(echo, connection)

    def echo(connection: socket.socket) -> None:
        with connection:
            data = connection.recv(100)
            time.sleep(0.2)
            connection.sendall(data)

    def ask(i: int) -> bytes:
        with socket.create_connection(("localhost", server.getsockname()[1]), timeout=10) as c:
            c.sendall(b"%d" % i)
            return c.recv(100)

    with server:
        answers, seconds = crowd(lambda i: serve() if i == CROWD else ask(i), CROWD + 1)
    assert answers[:CROWD] == [b"%d" % i for i in range(CROWD)]
    assert seconds < TOGETHER_S


def test_refused_and_unknown(free_port: int) -> None:
    def work() -> None:
        for timeout in (None, 3.0):
            with pytest.raises(ConnectionRefusedError) as caught:
                socket.create_connection(("127.0.0.1", free_port), timeout)
            assert caught.value.errno == errno.ECONNREFUSED
        with socket.socket() as sock:
            assert sock.connect_ex(("127.0.0.1", free_port)) == errno.ECONNREFUSED
        with socket.socket() as sock, pytest.raises(socket.gaierror):
            sock.connect(("no-such-name.invalid", 80))
        with socket.socket() as sock, pytest.raises(TypeError):
            sock.connect("127.0.0.1")
        with socket.socket() as sock, pytest.raises(OverflowError):
            sock.connect(("127.0.0.1", 70_000))

    on_greenlet(work)


def test_unix_sockets_connect_when_the_backlog_has_room(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    server = socket.socket(socket.AF_UNIX)
    server.bind(path)
    server.listen(0)
    n = 6

    def connect() -> bool:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.connect(path)
            return sock.recv(1) == b"x"

    def serve() -> bool:
        for _ in range(n):
            time.sleep(0.01)
            with server.accept()[0] as connection:
                connection.sendall(b"x")
        return True

    with server:
        assert together(serve, *[connect] * n) == [True] * (n + 1)


def test_accept_times_out() -> None:
    def work() -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(0.05)
            with pytest.raises(TimeoutError):
                server.accept()

    on_greenlet(work)


def test_close_ends_the_wait_of_another_greenlet(pair: Pair) -> None:
    a, _ = pair

    def receive() -> int | None:
        try:
            a.recv(1)
        except OSError as exc:
            return exc.errno
        return None

    def close() -> None:
        time.sleep(0.02)
        a.close()

    assert together(receive, close)[0] == errno.EBADF


def test_a_reused_number_is_another_socket() -> None:
    def work() -> None:
        for _ in range(20):
            a, b = socket.socketpair()
            a.settimeout(0.005)
            with pytest.raises(TimeoutError):
                a.recv(1)
            a.settimeout(5)
            b.sendall(b"x")
            assert a.recv(1) == b"x"
            a.close()
            b.close()

    on_greenlet(work)


def test_kill_leaves_the_socket_usable(pair: Pair) -> None:
    a, b = pair
    assert isinstance(killed(lambda: a.recv(1)), GreenletExit)
    assert a.gettimeout() is None
    assert together(lambda: a.recv(3), lambda: b.sendall(b"yes"))[0] == b"yes"


def test_cancel_reaches_a_socket_under_to_greenlet(pair: Pair) -> None:
    a, _ = pair

    async def main() -> None:
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(puff.to_greenlet(a.recv, 1), 0.05)

    puff.run(main())


def test_one_socket_read_and_written_by_two_greenlets(pair: Pair) -> None:
    a, b = pair
    ping = together(
        lambda: [a.recv(1) for _ in range(100)],
        lambda: [a.sendall(b"p") for _ in range(100)],
        lambda: [b.sendall(b.recv(1)) for _ in range(100)],
    )
    assert b"".join(ping[0]) == b"p" * 100


def test_asyncio_goes_on_with_patched_sockets(pair: Pair) -> None:
    a, b = pair
    a.setblocking(False)
    b.setblocking(False)

    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(b, b"loop")
        got = await loop.sock_recv(a, 10)
        reader, writer = await asyncio.open_connection(sock=a)
        await loop.sock_sendall(b, b"stream\n")
        got += await reader.readline()
        writer.close()
        return got

    assert puff.run(main()) == b"loopstream\n"


# ---- select, poll, epoll, selectors --------------------------------------------------------------


def _select(sock: socket.socket, timeout: float | None) -> bool:
    return select.select([sock], [], [], timeout) == ([sock], [], [])


def _poll(sock: socket.socket, timeout: float | None) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    ms = None if timeout is None else timeout * 1000
    return poll.poll(ms) == [(sock.fileno(), select.POLLIN)]


def _epoll(sock: socket.socket, timeout: float | None) -> bool:
    with select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN)
        return epoll.poll(timeout) == [(sock.fileno(), select.EPOLLIN)]


def _selector(kind: str) -> Callable[[socket.socket, float | None], bool]:
    def wait(sock: socket.socket, timeout: float | None) -> bool:
        with getattr(selectors, kind)() as selector:
            selector.register(sock, selectors.EVENT_READ)
            return [key.fileobj for key, _ in selector.select(timeout)] == [sock]

    return wait


ways = pytest.mark.parametrize(
    "way",
    [
        _select,
        _poll,
        _epoll,
        *map(_selector, ("SelectSelector", "PollSelector", "EpollSelector", "DefaultSelector")),
    ],
)


@ways
@pytest.mark.parametrize("timeout", [None, 5.0])
def test_ready_while_others_run(way: Any, timeout: float | None, pair: Pair) -> None:
    a, b = pair

    def write() -> None:
        time.sleep(0.02)
        b.sendall(b"x")

    assert together(lambda: way(a, timeout), write)[0]


@ways
def test_nothing_ready(way: Any, pair: Pair) -> None:
    for timeout in (0.03, 0):
        assert crowd(lambda _, timeout=timeout: way(pair[0], timeout), 3)[0] == [False] * 3


@ways
def test_killed_in_it(way: Any, pair: Pair) -> None:
    assert isinstance(killed(lambda: way(pair[0], None)), GreenletExit)


def test_select_of_nothing_sleeps() -> None:
    _, seconds = crowd(lambda i: select.select([], [], [], 0.1))
    assert 0.1 <= seconds < TOGETHER_S


def test_select_of_wrong_things() -> None:
    def work() -> None:
        with pytest.raises(TypeError):
            select.select([object()], [], [])
        with pytest.raises(ValueError):
            select.select([-1], [], [])
        with pytest.raises(ValueError):
            select.select([], [], [], -1)
        sock = socket.socket()
        sock.close()
        with pytest.raises(ValueError):
            select.select([sock], [], [])

    on_greenlet(work)


TOO_LONG: dict[str, Callable[[], Any]] = {
    "poll": lambda: select.poll().poll(2**31),
    "epoll": lambda: select.epoll().poll(2**31 / 1000),
    "select": lambda: select.select([], [], [], 1e10),
    "PollSelector": lambda: selectors.PollSelector().select(2**31 / 1000),
    "EpollSelector": lambda: selectors.EpollSelector().select(2**31 / 1000),
    "SelectSelector": lambda: selectors.SelectSelector().select(1e10),
    "NaN": lambda: select.select([], [], [], float("nan")),
}


@pytest.mark.parametrize("call", TOO_LONG.values(), ids=TOO_LONG)
def test_a_timeout_that_is_too_long_is_refused_as_ever(call: Callable[[], Any]) -> None:
    def work() -> None:
        with pytest.raises((OverflowError, ValueError)):
            call()

    work()
    on_greenlet(work)


def test_a_poll_of_weeks_waits(pair: Pair) -> None:
    a, b = pair

    def work() -> list[tuple[int, int]]:
        poll = select.poll()
        poll.register(a, select.POLLIN)
        return poll.poll(2**31 - 1)

    def send() -> None:
        puff.sleep_ms(10)
        b.send(b"x")

    assert together(work, send)[0] == [(a.fileno(), select.POLLIN)]


def test_names_are_looked_up_as_ever() -> None:
    """By the loop's threads for names; the answer, its types and its errors are socket's own."""
    asked: list[tuple[Any, ...]] = [
        ("localhost", 80),
        ("localhost", "http", 0, socket.SOCK_STREAM),
        (b"localhost", None),
        (None, 80),
        ("127.0.0.1", 443, socket.AF_INET),
    ]
    puff.monkey.unpatch_all()
    expected = [socket.getaddrinfo(*args) for args in asked]
    puff.monkey.patch_all()

    def work() -> None:
        found = [socket.getaddrinfo(*args) for args in asked]
        assert found == expected
        assert type(found[0][0][0]) is socket.AddressFamily
        with pytest.raises(socket.gaierror):
            socket.getaddrinfo("no.such.name.invalid", 80)
        with pytest.raises(UnicodeError):
            socket.getaddrinfo("x" * 64 + ".org", 80)

    on_greenlet(work)
