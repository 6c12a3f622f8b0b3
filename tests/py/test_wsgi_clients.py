"""A WSGI app and what clients do to it: HTTP/1.0, HEAD, pipelines, leaving, crowds."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from rawhttp import on_puff, serving_wsgi, until

import puff

TEXT = [("Content-Type", "text/plain")]
both = pytest.mark.parametrize("threads", [0, 3], ids=["greenlet", "thread"])


def errors_of(caplog: Any) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


def shapes(environ: Any, start_response: Any) -> Any:
    """The same ten bytes in each way that PEP 3333 knows."""
    shape = environ["PATH_INFO"][1:]
    headers = [*TEXT, ("Content-Length", "10")] if shape.endswith("length") else TEXT
    write = start_response("200 OK", headers)
    if shape == "write":
        write(b"01234")
        return [b"56789"]
    if shape.startswith("generator"):
        return (piece for piece in (b"01234", b"", b"56789"))
    return (b"01234", b"56789") if shape == "tuple" else [b"0123456789"]


SHAPES = ["list", "list_length", "tuple", "generator", "generator_length", "write"]


@both
@pytest.mark.parametrize("shape", SHAPES)
@on_puff
async def test_head_has_the_fields_of_get_and_no_body(threads: int, shape: str) -> None:
    async with serving_wsgi(shapes, threads=threads) as s:
        c = await s.connect()
        get = await c.get(f"/{shape}")
        assert get.body == b"0123456789"
        c.send(f"HEAD /{shape} HTTP/1.1\r\nhost: x\r\n\r\n")
        head = await c.response(head_only=True)
        fields = ("content-length", "content-type")
        assert [head.header(f) for f in fields] == [get.header(f) for f in fields]
        assert (await c.get("/list")).body == b"0123456789"  # nothing stood in between


@both
@pytest.mark.parametrize("shape", SHAPES)
@on_puff
async def test_http_10_gets_a_body_until_the_end(threads: int, shape: str) -> None:
    async with serving_wsgi(shapes, threads=threads) as s:
        c = await s.connect()
        c.send(f"GET /{shape} HTTP/1.0\r\n\r\n")
        head, _, body = (await c.closed()).partition(b"\r\n\r\n")
        assert body == b"0123456789"
        assert b"chunked" not in head


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
@on_puff
async def test_statuses_without_a_body(status: str) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response(status, [])
        return [b""] if environ["PATH_INFO"] == "/" else []

    async with serving_wsgi(app) as s:
        c = await s.connect()
        for path in ("/", "/none"):
            assert (await c.get(path)).status == int(status[:3])


@both
@on_puff
async def test_pipelined_requests_are_answered_in_order(threads: int) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        n = int(environ["PATH_INFO"][1:])
        puff.sleep_ms(5 * (n % 3))
        start_response("200 OK", TEXT)
        return [b"%d:%s" % (n, environ["wsgi.input"].read())]

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        for n in range(20):
            c.send(f"POST /{n} HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{n:02}")
        assert [(await c.response()).body for _ in range(20)] == [
            b"%d:%02d" % (n, n) for n in range(20)
        ]


@on_puff
async def test_one_who_pipelines_without_end_keeps_nobody_waiting() -> None:
    begun = []

    def app(environ: Any, start_response: Any) -> Any:
        begun.append(environ["PATH_INFO"])
        until_ns = time.perf_counter_ns() + 100_000
        while time.perf_counter_ns() < until_ns:
            pass
        start_response("200 OK", TEXT)
        return [environ["PATH_INFO"].encode()]

    async with serving_wsgi(app, http={"max_pipelined": 100_000}) as s:
        greedy, other = await s.connect(), await s.connect()
        greedy.send("GET /greedy HTTP/1.1\r\nhost: x\r\n\r\n" * 2000)
        await until(lambda: len(begun) > 3)
        assert (await other.get("/other")).body == b"/other"
        assert len(begun) < 1000
        for _ in range(2000):
            assert (await greedy.response()).body == b"/greedy"
        assert (await greedy.get("/last")).body == b"/last"
    assert len(begun) == 2002


@on_puff
async def test_pipelined_requests_of_which_some_wait_and_some_fail(caplog: Any) -> None:
    """Begun in the same turn, one behind the other, on whichever greenlet is free."""

    def app(environ: Any, start_response: Any) -> Any:
        n = int(environ["PATH_INFO"][1:])
        start_response("200 OK", TEXT)
        if n % 5 == 3:
            puff.sleep_ms(1)
        if n % 7 == 2:
            raise LookupError(n)
        return [b"%d" % n] if n % 2 else iter([b"%d" % n])

    async with serving_wsgi(app, greenlets=2) as s:
        connections = [await s.connect() for _ in range(5)]
        for c in connections:
            c.send("".join(f"GET /{n} HTTP/1.1\r\nhost: x\r\n\r\n" for n in range(40)))
        for n in range(40):
            for c in connections:
                r = await c.response()
                expected = (500, b"Internal Server Error") if n % 7 == 2 else (200, b"%d" % n)
                assert (r.status, r.body) == expected
    assert len(errors_of(caplog)) == 5 * 6


@both
@on_puff
async def test_continue_is_said_while_the_head_is_held_back(threads: int) -> None:
    """start_response() before the body is read: the head leaves with the first bytes only."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read()]

    async with serving_wsgi(app, threads=threads, http={"max_body": 5}) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await c.response()).status == 100
        c.send("ok")
        assert (await c.response()).body == b"ok"
        c.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n1\r\n1\r\n")
        await until(lambda: s.server.statistics()["in_flight"] == 1)
        c.send("9\r\n123456789\r\n")
        assert (await c.response()).status == 413


@both
@on_puff
async def test_fields_that_come_and_go_on_one_connection(threads: int) -> None:
    """The connection keeps the last request's names: none may show in the next environ."""

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        fields = {k: v for k, v in environ.items() if k.startswith(("HTTP_", "CONTENT_"))}
        return [repr(sorted(fields.items())).encode()]

    long = "v" * 3000
    requests: list[list[tuple[str, str]]] = [
        [("a-b", "1"), ("x", "2")], [("a-b", "1"), ("x", "2")], [("a-b", "1"), ("x", "3")],
        [("x", "3"), ("a-b", "1")], [("x", "3")], [], [("a-b", long)], [("a-b", "s")],
        [("a-b", long)], [("a-b", "s")], [("a-b", "")], [("a.b", "1")], [("a-b", "1")],
        [("content-type", "t")], [("nt-type", "u")], [("content-type", "t")], [("accept", "u")],
        [("x", "1"), ("x", "2")], [("x", "1"), ("x", "2")], [("x", "1"), ("y", "2")],
        [("a_b", "1"), ("y", "2")], [("a_b", "1"), ("y", "2")], [("proxy", "1")], [("proxx", "1")],
        *[[(f"n{n}", str(n)) for n in range(40)]] * 3, *[[("a-b", str(n))] for n in range(5)],
    ]  # fmt: skip
    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        for fields in requests * 2:
            got = await c.get("/", *(f"{name}: {value}" for name, value in fields))
            assert got.body.decode() == repr(environ_of([("host", "test"), *fields]))


def environ_of(fields: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Every name once, values of the same name joined."""
    environ: dict[str, str] = {}
    for name, value in fields:
        if "_" in name or name == "proxy":
            continue
        key = name.upper().replace("-", "_")
        key = key if key.startswith("CONTENT_") else "HTTP_" + key
        environ[key] = f"{environ[key]},{value}" if key in environ else value
    return sorted(environ.items())


@both
@on_puff
async def test_huge_bodies_pass_both_ways(threads: int) -> None:
    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        while piece := environ["wsgi.input"].read(100_000):
            yield piece.upper()

    body = b"abcdefghij" * 1_500_000
    async with serving_wsgi(app, threads=threads, http={"max_body": 20_000_000}) as s:
        c = await s.connect()
        assert (await c.post(body)).body == body.upper()


@both
@pytest.mark.parametrize("moment", ["reading", "waiting", "writing"])
@on_puff
async def test_a_client_that_leaves_ends_the_app_and_closes_its_iterable(
    threads: int, moment: str, caplog: Any
) -> None:
    events: list[str] = []

    class Body:
        def __iter__(self) -> Iterator[bytes]:
            while True:
                events.append("piece")
                puff.sleep_ms(1)
                yield b"x" * (1 if moment == "waiting" else 100_000)

        def close(self) -> None:
            events.append("closed")

    def app(environ: Any, start_response: Any) -> Any:
        events.append("begun")
        start_response("200 OK", TEXT)
        if moment == "reading":
            try:
                environ["wsgi.input"].read()
            finally:
                events.append("closed")
        return Body()

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 1000000\r\n\r\nsome")
        await until(lambda: len(events) > (moment != "reading"))
        c.reset()
        await until(lambda: "closed" in events)
        assert events.count("closed") == 1
        await until(lambda: s.server.statistics()["in_flight"] == 0)
    assert errors_of(caplog) == []


@pytest.mark.parametrize("point", range(5))
@on_puff
async def test_an_app_may_raise_at_each_switch(point: int, caplog: Any) -> None:
    """After each wait in turn: the greenlet goes back to its pool, the next request is well."""

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        def switch(n: int) -> None:
            puff.sleep_ms(1)
            if environ["PATH_INFO"] == "/raise" and n == point:
                raise LookupError(f"point {n}")

        class Body:
            def __iter__(self) -> Iterator[bytes]:
                switch(1)
                yield b"a" * 70_000
                switch(2)
                yield b"b"
                switch(3)

            def close(self) -> None:
                switch(4)

        switch(0)
        environ["wsgi.input"].read()
        start_response("200 OK", TEXT)
        return Body()  # type: ignore[return-value]

    async with serving_wsgi(app) as s:
        for _ in range(3):
            c = await s.connect()
            c.send("GET /raise HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
            got = await c.closed()
            expected = b"HTTP/1.1 500" if point < 2 else b"HTTP/1.1 200"
            assert got.startswith(expected)
            assert got.endswith(b"0\r\n\r\n") == (point == 4)
            assert (await s.get("/well")).body == b"a" * 70_000 + b"b"
    assert len(errors_of(caplog)) == 3


@on_puff
async def test_many_parked_requests_and_idle_connections() -> None:
    """300 requests wait at once, 700 connections say nothing; then all are served."""
    gate: list[puff.Greenlet] = []

    def app(environ: Any, start_response: Any) -> Any:
        if environ["PATH_INFO"] == "/parked":
            gate[0].join()
        start_response("200 OK", TEXT)
        return [environ["QUERY_STRING"].encode()]

    gate.append(puff.spawn(puff.sleep_ms, 60_000))
    async with serving_wsgi(app) as s:
        idle = [await s.connect() for _ in range(700)]
        parked = [await s.connect() for _ in range(300)]
        for n, c in enumerate(parked):
            c.send(f"GET /parked?{n} HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: s.server.statistics()["in_flight"] == 300)
        replies = await asyncio.gather(*(c.get(f"/?{n}") for n, c in enumerate(idle)))
        assert [r.body for r in replies] == [b"%d" % n for n in range(700)]
        gate[0].kill()
        replies = await asyncio.gather(*(c.response() for c in parked))
        assert [r.body for r in replies] == [b"%d" % n for n in range(300)]


@on_puff
async def test_a_thread_that_blocks_does_not_hold_up_the_loop() -> None:
    import time

    def app(environ: Any, start_response: Any) -> Any:
        time.sleep(0.2)
        start_response("200 OK", TEXT)
        return [b"slept"]

    async with serving_wsgi(app, threads=4) as s:
        requests = [asyncio.ensure_future(s.get()) for _ in range(4)]
        turns = 0
        while not all(r.done() for r in requests):
            await asyncio.sleep(0.01)
            turns += 1
        assert [r.result().body for r in requests] == [b"slept"] * 4
        assert turns >= 5
