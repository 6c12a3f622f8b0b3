"""A WSGI app on Puff's server, in process: PEP 3333 point by point, on greenlets and threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
import time
import weakref
from typing import Any
from wsgiref.validate import validator

import pytest
from rawhttp import WAIT_S, on_puff, serving_wsgi, until

import puff
import puff.wsgi
from puff._bind.bridge import flow_locals

TEXT = [("Content-Type", "text/plain")]
both = pytest.mark.parametrize("threads", [0, 3], ids=["greenlet", "thread"])


def hello(environ, start_response):
    start_response("200 OK", TEXT)
    return [b"hello"]


class Environs:
    def __init__(self):
        self.all = []

    def __call__(self, environ, start_response):
        self.all.append(dict(environ))
        return hello(environ, start_response)


class Body:
    """An iterable that says what becomes of it."""

    def __init__(self, pieces, fails_with=None):
        self.pieces, self.fails_with = iter(pieces), fails_with
        self.closed = 0

    def __iter__(self):
        return self

    def __next__(self):
        for piece in self.pieces:
            return piece
        if self.fails_with is not None:
            raise self.fails_with
        raise StopIteration

    def close(self):
        self.closed += 1


def errors_of(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.ERROR]


# ---- environ -------------------------------------------------------------------------------------


@on_puff
async def test_environ_has_what_the_specification_asks_for() -> None:
    app = Environs()
    async with serving_wsgi(app) as s:
        c = await s.connect()
        await c.get(
            "/a/b?x=1&y=?", "X-Two: 1", "accept: */*", "x-two:  2 ", "Cookie: a=1", "cookie: b=2"
        )
        addr, port = c.writer.get_extra_info("sockname")
        host, server_port = c.writer.get_extra_info("peername")
    (env,) = app.all
    assert hasattr(env.pop("wsgi.input"), "readline")
    assert env.pop("wsgi.errors") is sys.stderr
    assert callable(env.pop("wsgi.file_wrapper"))
    assert env == {
        "REQUEST_METHOD": "GET",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/a/b",
        "QUERY_STRING": "x=1&y=?",
        "REQUEST_URI": "/a/b?x=1&y=?",
        "RAW_URI": "/a/b?x=1&y=?",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": host,
        "SERVER_PORT": str(server_port),
        "SERVER_SOFTWARE": "puff",
        "REMOTE_ADDR": addr,
        "REMOTE_PORT": str(port),
        "HTTP_HOST": "test",
        "HTTP_ACCEPT": "*/*",
        "HTTP_X_TWO": "1,2",
        "HTTP_COOKIE": "a=1; b=2",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,
    }
    assert all(type(v) is str for k, v in env.items() if "." not in k)


@on_puff
async def test_environ_of_every_request_on_a_connection_is_its_own() -> None:
    app = Environs()
    async with serving_wsgi(app) as s:
        c = await s.connect()
        await c.get("/one?a", "x-a: 1")
        app.all[0].clear()
        await c.post(b"12345", "/one?a", "content-type: x/y", "x-a: 2")
        await c.get("/two", "x-b: 1")
    one, two = app.all[1:]
    assert (one["CONTENT_LENGTH"], one["CONTENT_TYPE"], one["HTTP_X_A"]) == ("5", "x/y", "2")
    assert "HTTP_CONTENT_LENGTH" not in one
    assert (two["PATH_INFO"], two["QUERY_STRING"], two["HTTP_X_B"]) == ("/two", "", "1")
    assert "HTTP_X_A" not in two and "CONTENT_LENGTH" not in two


@pytest.mark.parametrize(
    ("target", "root", "script", "path"),
    [
        ("/caf%C3%A9", "", "", "/caf\xc3\xa9"),
        ("/a%2Fb%20c%zz", "", "", "/a/b c%zz"),
        ("/app/x", "/app", "/app", "/x"),
        ("/app", "/app/", "/app", ""),
        ("/apple", "/app", "/app", "/apple"),
        ("/x", "/app", "/app", "/x"),
        ("http://test/abs?q", "", "", "/abs"),
    ],
)
@on_puff
async def test_path_is_bytes_in_disguise_and_below_the_script_name(
    target, root, script, path
) -> None:
    app = Environs()
    async with serving_wsgi(app, root_path=root) as s:
        await s.get(target)
    assert (app.all[0]["SCRIPT_NAME"], app.all[0]["PATH_INFO"]) == (script, path)


@on_puff
async def test_fields_that_could_pass_for_others_are_left_out() -> None:
    app = Environs()
    async with serving_wsgi(app) as s:
        await s.get("/", "X_Real_IP: 6.6.6.6", "Proxy: http://evil", "X-Ok: \xe9")
    keys = {k for k in app.all[0] if k.startswith("HTTP_")}
    assert keys == {"HTTP_HOST", "HTTP_X_OK"}
    assert app.all[0]["HTTP_X_OK"] == "\xe9"


# ---- the request's body --------------------------------------------------------------------------


def reads(read):
    """An app that answers with repr() of what `read` makes of wsgi.input."""

    def app(environ, start_response):
        value = repr(read(environ["wsgi.input"])).encode()
        start_response("200 OK", [*TEXT, ("Content-Length", str(len(value)))])
        return [value]

    return app


LINES = b"one\ntwo\r\n\nlast"


@both
@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda i: i.read(), LINES),
        (lambda i: i.read(-1), LINES),
        (lambda i: i.read(None), LINES),
        (lambda i: i.read(5), LINES[:5]),
        (lambda i: [i.read(0), i.read(2), i.read(100), i.read(1)], [b"", b"on", LINES[2:], b""]),
        (lambda i: [i.readline() for _ in range(5)], [b"one\n", b"two\r\n", b"\n", b"last", b""]),
        (lambda i: [i.readline(2), i.readline(9), i.readline(0)], [b"on", b"e\n", b""]),
        (lambda i: i.readlines(), LINES.splitlines(True)),
        (lambda i: i.readlines(4), [b"one\n"]),
        (list, LINES.splitlines(True)),
        (lambda i: [i.read(4), next(i), i.read()], [b"one\n", b"two\r\n", b"\nlast"]),
    ],
)
@on_puff
async def test_input_reads_like_a_file(threads, read, expected) -> None:
    async with serving_wsgi(reads(read), threads=threads) as s:
        c = await s.connect()
        assert (await c.post(LINES)).body == repr(expected).encode()
        # Byte by byte, in chunks: every read waits.
        c.send("POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n")
        for byte in LINES:
            c.send(b"1\r\n%c\r\n" % byte)
            await asyncio.sleep(0)
        c.send("0\r\n\r\n")
        assert (await c.response()).body == repr(expected).encode()


@both
@on_puff
async def test_a_body_is_read_while_it_arrives(threads) -> None:
    seen = []

    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        while data := environ["wsgi.input"].read(4):
            seen.append(data)
            write(b"got " + data)
        return []

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nabcd")
        head = await asyncio.wait_for(c.reader.readuntil(b"got abcd\r\n"), WAIT_S)
        assert head.startswith(b"HTTP/1.1 200 OK\r\n")
        c.send("efgh")
        assert b"got efgh" in await asyncio.wait_for(c.reader.readuntil(b"0\r\n\r\n"), WAIT_S)
    assert seen == [b"abcd", b"efgh"]


@on_puff
async def test_expect_continue_is_answered_when_the_app_reads() -> None:
    async with serving_wsgi(reads(lambda i: i.read())) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await c.response()).status == 100
        c.send("ok")
        assert (await c.response()).body == b"b'ok'"


@both
@on_puff
async def test_a_client_that_goes_away_ends_a_read(threads, caplog) -> None:
    ended = threading.Event()

    def app(environ, start_response):
        try:
            environ["wsgi.input"].read()
        except puff.errors.ClientDisconnected:
            ended.set()
            raise

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\nabc")
        await until(lambda: s.server.statistics()["in_flight"])
        c.reset()
        await until(ended.is_set)
    assert errors_of(caplog) == []


@on_puff
async def test_a_body_that_is_not_read_does_not_disturb_the_next_request() -> None:
    async with serving_wsgi(hello) as s:
        c = await s.connect()
        assert (await c.post(b"x" * 1000)).body == b"hello"
        assert (await c.get()).body == b"hello"


# ---- the response --------------------------------------------------------------------------------


@both
@on_puff
async def test_a_list_goes_out_with_its_length(threads) -> None:
    def app(environ, start_response):
        start_response("404 Nothing Here", [*TEXT, ("X-A", "1"), ("X-A", "2")])
        return {"/0": [], "/1": [b"one"], "/2": [b"one", b"", b"two"]}[environ["PATH_INFO"]]

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        for path, body in (("/0", b""), ("/1", b"one"), ("/2", b"onetwo")):
            r = await c.get(path)
            assert (r.status, r.body, r.header("content-length")) == (404, body, str(len(body)))
            assert [v for n, v in r.headers if n == "x-a"] == ["1", "2"]
        c.send("GET /1 HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await c.reader.readline()) == b"HTTP/1.1 404 Nothing Here\r\n"


@both
@on_puff
async def test_each_piece_leaves_before_the_next_is_asked_for(threads) -> None:
    go_on = threading.Event()

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b""
        yield b"first"
        for _ in range(2000):
            if go_on.is_set():
                break
            puff.sleep_ms(5)
        yield b"second" if go_on.is_set() else b"too late"

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(c.reader.readuntil(b"first\r\n"), WAIT_S)
        go_on.set()
        assert b"second" in await asyncio.wait_for(c.reader.readuntil(b"0\r\n\r\n"), WAIT_S)


@both
@on_puff
async def test_start_response_may_come_with_the_first_bytes(threads) -> None:
    def app(environ, start_response):
        yield b""
        start_response("202 Accepted", TEXT)
        yield b"late"

    async with serving_wsgi(app, threads=threads) as s:
        r = await s.get()
        assert (r.status, r.body) == (202, b"late")


@both
@on_puff
async def test_write_sends_at_once(threads) -> None:
    def app(environ, start_response):
        write = start_response("200 OK", TEXT)
        write(b"a")
        write(b"")
        write(b"b")
        return [b"c"]

    async with serving_wsgi(app, threads=threads) as s:
        assert (await s.get()).body == b"abc"


@on_puff
async def test_head_has_no_body_but_its_length() -> None:
    async with serving_wsgi(hello) as s:
        c = await s.connect()
        c.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        r = await c.response(head_only=True)
        assert r.header("content-length") == "5"
        assert (await c.get()).body == b"hello"


@both
@pytest.mark.parametrize("how", ["end", "fail", "disconnect", "not bytes"])
@on_puff
async def test_close_is_called_once_whatever_happens(threads, how, caplog) -> None:
    bodies = []

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        pieces = {"end": [b"a"], "fail": [b"a"], "disconnect": endless(), "not bytes": ["a"]}[how]
        bodies.append(Body(pieces, ValueError("later") if how == "fail" else None))
        return bodies[-1]

    def endless():
        while True:
            yield b"x" * 10000

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await asyncio.wait_for(c.reader.read(5), WAIT_S)
        if how == "disconnect":
            c.reset()
        await until(lambda: bodies[0].closed)
        await until(lambda: not s.server._http.tasks())
    assert [b.closed for b in bodies] == [1]


@both
@on_puff
async def test_a_slow_client_parks_the_app_and_bounds_memory(threads) -> None:
    sent = []

    def app(environ, start_response):
        start_response("200 OK", TEXT)
        for _ in range(200):
            sent.append(1)
            yield b"x" * 100_000

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        c.writer.transport.pause_reading()
        last = -1
        while last != len(sent):  # until it stands still
            last = len(sent)
            await asyncio.sleep(0.1)
        assert 0 < last < 150
        c.writer.transport.resume_reading()
        assert len((await c.response()).body) == 20_000_000


@on_puff
async def test_file_wrapper_sends_a_file_and_closes_it(tmp_path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 10_000)
    files = []

    def app(environ, start_response):
        start_response("200 OK", [*TEXT, ("Content-Length", "99990")])
        files.append(path.open("rb"))
        files[-1].seek(10)
        return environ["wsgi.file_wrapper"](files[-1], 4096)

    async with serving_wsgi(app) as s:
        assert (await s.get()).body == path.read_bytes()[10:]
        await until(lambda: files[0].closed)


# ---- errors --------------------------------------------------------------------------------------


def raises(environ, start_response):
    raise LookupError("before")


def raises_after_start(environ, start_response):
    start_response("200 OK", TEXT)
    raise LookupError("after start_response")


def no_start(environ, start_response):
    return [b"x"]


def returns_none(environ, start_response):
    start_response("200 OK", TEXT)


def returns_str(environ, start_response):
    start_response("200 OK", TEXT)
    return ["text"]


def starts_twice(environ, start_response):
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return []


def bad(status: Any = "200 OK", headers: Any = TEXT):
    def app(environ, start_response):
        start_response(status, headers)
        return [b"x"]

    return app


@both
@pytest.mark.parametrize(
    "app",
    [
        raises, raises_after_start, no_start, returns_none, returns_str, starts_twice,
        bad(status=200), bad(status="200"), bad(status="2000 OK"), bad(status="abc OK"),
        bad(status="099 Low"), bad(status="700 High"), bad(status="200 O\r\nK: v"),
        bad(status="200 \u0100"), bad(headers=tuple(TEXT)), bad(headers=[["a", "b"]]),
        bad(headers=[("a", 1)]), bad(headers=[("a", b"b")]), bad(headers=[("a", "\u0100")]),
        bad(headers=[("a", "x\r\ny: z")]), bad(headers=[("a b", "x")]), bad(headers=[("", "x")]),
        bad(headers=[("a",)]), bad(headers=None), bad(headers=[("content-length", "x")]),
    ],
)  # fmt: skip
@on_puff
async def test_what_breaks_the_rules_is_a_500_and_a_line_in_the_log(threads, app, caplog) -> None:
    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        r = await c.get()
        assert (r.status, r.body) == (500, b"Internal Server Error")
        await until(lambda: len(errors_of(caplog)) == 1)
        assert "WSGI app raised" in errors_of(caplog)[0]


@both
@on_puff
async def test_an_error_after_the_first_bytes_breaks_the_connection(threads, caplog) -> None:
    def app(environ, start_response):
        start_response("200 OK", TEXT)
        yield b"begun"
        raise LookupError("in the middle")

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert not (await c.closed()).endswith(b"0\r\n\r\n")
    assert len(errors_of(caplog)) == 1


@on_puff
async def test_exc_info_replaces_a_head_that_has_not_left() -> None:
    def app(environ, start_response):
        start_response("200 OK", [("X-Old", "1")])
        try:
            raise LookupError
        except LookupError:
            start_response("503 Sorry", TEXT, sys.exc_info())
        return [b"sorry"]

    async with serving_wsgi(app) as s:
        r = await s.get()
        assert (r.status, r.header("x-old"), r.body) == (503, None, b"sorry")


@on_puff
async def test_exc_info_is_raised_again_once_the_head_has_left(caplog) -> None:
    caught = []

    def app(environ, start_response):
        start_response("200 OK", TEXT)(b"begun")
        try:
            raise LookupError("mine")
        except LookupError:
            try:
                start_response("503 Sorry", TEXT, sys.exc_info())
            except LookupError as again:
                caught.append(again)
                raise
        return []

    async with serving_wsgi(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await c.closed()
    assert str(caught[0]) == "mine"


@on_puff
async def test_content_length_is_kept_to(caplog) -> None:
    def app(environ, start_response):
        start_response("200 OK", [*TEXT, ("Content-Length", "3")])
        return [b"four"] if environ["PATH_INFO"] == "/more" else [b"2!"]

    async with serving_wsgi(app) as s:
        c = await s.connect()
        assert (await c.get("/more")).status == 500  # nothing had left
        c.send("GET /less HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await c.closed()).endswith(b"2!")


@on_puff
async def test_fields_of_the_servers_business_are_dropped() -> None:
    def app(environ, start_response):
        start_response("200 OK", [*TEXT, ("Transfer-Encoding", "chunked"), ("Connection", "close")])
        return [b"x"]

    async with serving_wsgi(app) as s:
        c = await s.connect()
        r = await c.get()
        assert (r.header("transfer-encoding"), r.header("connection")) == (None, "close")
        await c.closed()


# ---- concurrency ---------------------------------------------------------------------------------


@both
@on_puff
async def test_requests_that_wait_run_side_by_side(threads) -> None:
    def app(environ, start_response):
        puff.sleep_ms(100)
        start_response("200 OK", TEXT)
        return [environ["PATH_INFO"].encode()]

    async with serving_wsgi(app, threads=threads and 20) as s:
        began = time.monotonic()
        paths = [f"/{n}" for n in range(20)]
        replies = await asyncio.gather(*(s.get(path) for path in paths))
        assert [r.body.decode() for r in replies] == paths
        assert time.monotonic() - began < 1.5


@on_puff
async def test_an_app_on_a_greenlet_can_await_and_is_no_coroutine() -> None:
    def app(environ, start_response):
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        assert puff.is_greenlet()
        start_response("200 OK", TEXT)
        return [puff.await_(asyncio.sleep(0.001, b"awaited"))]

    async with serving_wsgi(app) as s:
        assert (await s.get()).body == b"awaited"


@both
@on_puff
async def test_each_request_has_contextvars_of_its_own(threads) -> None:
    var: contextvars.ContextVar[str] = contextvars.ContextVar("var")
    var.set("server")

    def app(environ, start_response):
        before = var.get()
        var.set("request")
        puff.sleep_ms(1)
        start_response("200 OK", TEXT)
        return [f"{before} {var.get()}".encode()]

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        for _ in range(3):
            assert (await c.get()).body == b"server request"


@on_puff
async def test_stopping_lets_requests_finish() -> None:
    started = asyncio.Event()
    loop = asyncio.get_running_loop()

    def app(environ, start_response):
        loop.call_soon(started.set)
        puff.sleep_ms(100)
        return hello(environ, start_response)

    async with serving_wsgi(app) as s:
        c = await s.connect()
        task = asyncio.ensure_future(c.get())
        await asyncio.wait_for(started.wait(), WAIT_S)
        await s.server.stop()
        assert (await task).body == b"hello"


@on_puff
async def test_what_does_not_end_in_time_is_killed(caplog) -> None:
    ended = []

    def app(environ, start_response):
        try:
            puff.sleep_ms(60_000)
        except puff.GreenletExit:
            ended.append("killed")
            raise

    async with serving_wsgi(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: s.server.statistics()["in_flight"])
        await s.server.stop(50)
        assert ended == ["killed"]
        await c.closed()


def test_exits_of_the_app_end_the_loop() -> None:
    def app(environ, start_response):
        puff.sleep_ms(1)
        raise SystemExit(7)

    async def main():
        async with serving_wsgi(app) as s:
            c = await s.connect()
            c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await c.closed()

    with pytest.raises(SystemExit):
        puff.run(main())


# ---- so many at once -----------------------------------------------------------------------------


class Gate:
    """An app whose requests wait in here until they are let go."""

    def __init__(self):
        self.inside, self.most, self.began, self.event = 0, 0, [], puff.Event()

    def __call__(self, environ, start_response):
        self.began.append(environ["PATH_INFO"])
        self.inside += 1
        self.most = max(self.most, self.inside)
        try:
            self.event.wait()
        finally:
            self.inside -= 1
        return hello(environ, start_response)


@on_puff
async def test_more_requests_than_greenlets_wait_in_order() -> None:
    gate = Gate()
    async with serving_wsgi(gate, greenlets=3) as s:
        connections = [await s.connect() for _ in range(10)]
        replies = []
        for n, c in enumerate(connections):
            replies.append(asyncio.ensure_future(c.get(f"/{n}")))
            await until(lambda: s.server.statistics()["in_flight"] == len(replies))
        assert gate.began == ["/0", "/1", "/2"]
        gate.event.set()
        assert {r.body for r in await asyncio.gather(*replies)} == {b"hello"}
    assert (gate.most, gate.began) == (3, [f"/{n}" for n in range(10)])


@on_puff
async def test_a_client_that_leaves_the_line_is_not_served(caplog) -> None:
    gate = Gate()
    async with serving_wsgi(gate, greenlets=1) as s:
        first, second, third = [await s.connect() for _ in range(3)]
        reply = asyncio.ensure_future(first.get("/1"))
        await until(lambda: gate.inside)
        second.send("GET /2 HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: s.server.statistics()["in_flight"] == 2)
        second.reset()
        await until(lambda: s.server.statistics()["in_flight"] == 1)
        last = asyncio.ensure_future(third.get("/3"))
        gate.event.set()
        assert ((await reply).status, (await last).status) == (200, 200)
    assert gate.began == ["/1", "/3"]
    assert errors_of(caplog) == []


@on_puff
async def test_stopping_ends_those_in_line() -> None:
    gate = Gate()
    async with serving_wsgi(gate, greenlets=1) as s:
        connections = [await s.connect() for _ in range(3)]
        for c in connections:
            c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: s.server.statistics()["in_flight"] == 3)
        await s.server.stop(20)
        for c in connections:
            await c.closed()
    assert len(gate.began) == 1


@on_puff
async def test_what_is_local_to_a_thread_stays_with_one_of_so_many_greenlets() -> None:
    """As on a pool of threads: Django keeps its connections there."""

    def app(environ, start_response):
        local = flow_locals()
        local.n = getattr(local, "n", 0) + 1
        puff.sleep_ms(1)
        start_response("200 OK", TEXT)
        return [b"%d" % local.n]

    async with serving_wsgi(app, greenlets=1) as s:
        assert [(await s.get()).body for _ in range(3)] == [b"1", b"2", b"3"]
    async with serving_wsgi(app) as s:
        assert [(await s.get()).body for _ in range(3)] == [b"1"] * 3


@on_puff
async def test_an_app_that_raises_gives_its_greenlet_back(caplog) -> None:
    async with serving_wsgi(raises, greenlets=1) as s:
        replies = await asyncio.gather(*(s.get() for _ in range(5)))
        assert [r.status for r in replies] == [500] * 5


def test_an_app_runs_on_threads_or_on_greenlets() -> None:
    with pytest.raises(ValueError, match="one of both"):
        puff.wsgi.Server(hello, threads=1, greenlets=1)


@both
@on_puff
async def test_a_request_leaves_nothing_behind(threads) -> None:
    class Thing:
        pass

    refs = []

    def app(environ, start_response):
        environ["thing"] = thing = Thing()
        refs.append(weakref.ref(thing))
        return hello(environ, start_response)

    gc.disable()
    try:
        async with serving_wsgi(app, threads=threads) as s:
            c = await s.connect()
            for _ in range(5):
                await c.get()
            await until(lambda: [r() for r in refs] == [None] * 5)
    finally:
        gc.enable()


# ---- validator -----------------------------------------------------------------------------------


@both
@on_puff
async def test_wsgirefs_validator_is_content(threads, caplog) -> None:
    @validator
    def app(environ, start_response):
        body = environ["wsgi.input"].read(10)
        environ["wsgi.errors"].flush()
        write = start_response("200 OK", TEXT)
        if environ["PATH_INFO"] == "/write":
            write(b"written ")
        return [body or b"none"]

    async with serving_wsgi(app, threads=threads) as s:
        c = await s.connect()
        assert (await c.get("/")).body == b"none"
        assert (await c.get("/a%20b?c=d")).body == b"none"
        assert (
            await c.post(b"0123456789ab", "/", "content-type: text/plain")
        ).body == b"0123456789"
        assert (await c.get("/write")).body == b"written none"
    assert errors_of(caplog) == []
