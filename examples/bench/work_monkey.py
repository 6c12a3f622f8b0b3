"""work_monkey.py CONTENDER CASE - code written for threads, patched by puff.monkey or by gevent."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

contender, case = sys.argv[1], sys.argv[2]
if contender == "gevent":
    from gevent import monkey

    monkey.patch_all()
else:
    import puff.monkey

    puff.monkey.patch_all()

import queue  # noqa: E402
import socket  # noqa: E402
import threading  # noqa: E402
import time  # noqa: E402

from timing import report  # noqa: E402

N = 6_400


def echo(connection: socket.socket) -> None:
    with connection:
        while data := connection.recv(65_536):
            connection.sendall(data)


def serve(listener: socket.socket, handle: Callable[[socket.socket], None]) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        spawn(handle, connection)


def ask(port: int, n: int) -> None:
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for _ in range(n):
            sock.sendall(b"x" * 1024)
            got = 0
            while got < 1024:
                got += len(sock.recv(65_536))


def with_server(
    handle: Callable[[socket.socket], None], client: Callable[..., None], n: int
) -> int:
    with socket.create_server(("127.0.0.1", 0), backlog=n) as listener:
        server = spawn(serve, listener, handle)
        port = listener.getsockname()[1]
        join([spawn(client, port, N // n) for _ in range(n)])
    join([server])
    return N


def echo_1() -> int:
    return with_server(echo, ask, 1)


def echo_64() -> int:
    return with_server(echo, ask, 64)


ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def answer(connection: socket.socket) -> None:
    with connection:
        while connection.recv(65_536):
            connection.sendall(ANSWER)


def get(port: int, n: int) -> None:
    import requests

    with requests.Session() as session:
        for _ in range(n // 16):
            assert session.get(f"http://127.0.0.1:{port}/").text == "hello"


def requests_16() -> int:
    return with_server(answer, get, 16) // 16


def lock() -> int:
    """Two that want it all the time, and let the other in while they hold it."""
    wanted = threading.Lock()

    def use() -> None:
        for _ in range(N // 2):
            with wanted:
                time.sleep(0)

    join([spawn(use), spawn(use)])
    return N


def free_lock() -> int:
    wanted = threading.Lock()

    def use() -> None:
        for _ in range(N):
            with wanted:
                pass

    join([spawn(use)])
    return N


def event() -> int:
    here, there = threading.Event(), threading.Event()

    def turn(mine: threading.Event, other: threading.Event) -> None:
        for _ in range(N // 2):
            mine.wait()
            mine.clear()
            other.set()

    here.set()
    join([spawn(turn, here, there), spawn(turn, there, here)])
    return N


def queues() -> int:
    there: queue.Queue[int] = queue.Queue(1)
    join([spawn(lambda: [there.put(i) for i in range(N)]),
          spawn(lambda: [there.get() for _ in range(N)])])  # fmt: skip
    return N


def simple_queues() -> int:
    there: queue.SimpleQueue[int] = queue.SimpleQueue()
    back: queue.SimpleQueue[int] = queue.SimpleQueue()

    def move(get: Callable[[], Any], put: Callable[[Any], None]) -> None:
        for _ in range(N // 2):
            put(get())

    there.put(1)
    join([spawn(move, there.get, back.put), spawn(move, back.get, there.put)])
    return N


def sleep_0() -> int:
    def yields() -> None:
        for _ in range(N // 64):
            time.sleep(0)

    join([spawn(yields) for _ in range(64)])
    return N


CASES = {each.__name__: each for each in (echo_1, echo_64, requests_16, lock, free_lock, event,
                                          queues, simple_queues, sleep_0)}  # fmt: skip

if contender == "gevent":
    import gevent

    spawn, join = gevent.spawn, gevent.joinall
    report(CASES[case])
else:
    import puff

    spawn, join = puff.spawn, puff.join_all

    async def main() -> None:
        await puff.spawn(report, CASES[case]).join()

    puff.run(main())
