"""An ASGI app on Puff's server, in process: what the app sees, and what becomes of what it does."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
from typing import Any

import anyio
import pytest
from rawhttp import WAIT_S, on_puff, read_body, reply, serving

import puff
from puff.asgi import Lifespan
from puff.errors import AppStartError, ClientDisconnected

# ---- scope -----------------------------------------------------------------------------------


class Scopes:
    """An app that keeps its scopes."""

    def __init__(self) -> None:
        self.all: list[dict[str, Any]] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.all.append(scope)
        await reply(send)


@on_puff
async def test_scope_has_the_types_of_the_specification() -> None:
    app = Scopes()
    async with serving(app) as s:
        c = await s.connect()
        await c.get("/a/b?x=1&y=?", "X-Two: 1", "accept: */*", "x-two:  2 ")
        host, port = c.writer.get_extra_info("sockname")
        server = c.writer.get_extra_info("peername")
    (scope,) = app.all
    assert scope == {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.5"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/a/b",
        "raw_path": b"/a/b",
        "query_string": b"x=1&y=?",
        "root_path": "",
        "headers": [(b"host", b"test"), (b"x-two", b"1"), (b"accept", b"*/*"), (b"x-two", b"2")],
        "client": (host, port),
        "server": server,
        "state": {},
        "extensions": {"http.response.early_hint": {}},
    }
    assert type(scope) is dict
    assert type(scope["client"][1]) is int


@on_puff
async def test_scope_of_every_request_on_a_connection_is_its_own() -> None:
    app = Scopes()
    async with serving(app) as s:
        c = await s.connect()
        await c.get("/one?a", "x-a: 1", "x-b: 2")
        app.all[0]["headers"].append((b"mine", b"1"))
        app.all[0]["path"] = "/changed"
        app.all[0]["mine"] = 1
        app.all[0]["state"]["mine"] = 1
        app.all[0]["extensions"]["mine"] = {}
        await c.get("/one?a", "x-a: 1", "x-b: 2")
        await c.get("/two", "x-b: 2", "x-a: 1")
        await c.post(b"", "/two?")
        c.send("PURGE /two HTTP/1.1\r\nhost: x\r\n\r\n")
        await c.response()
        c.send("GET /two HTTP/1.0\r\n\r\n")
        await c.response()
    seen = [
        (a["method"], a["path"], a["query_string"], a["http_version"], a["headers"])
        for a in app.all
    ]
    assert seen[1:] == [
        ("GET", "/one", b"a", "1.1", [(b"host", b"test"), (b"x-a", b"1"), (b"x-b", b"2")]),
        ("GET", "/two", b"", "1.1", [(b"host", b"test"), (b"x-b", b"2"), (b"x-a", b"1")]),
        ("POST", "/two", b"", "1.1", [(b"host", b"test"), (b"content-length", b"0")]),
        ("PURGE", "/two", b"", "1.1", [(b"host", b"x")]),
        ("GET", "/two", b"", "1.0", []),
    ]
    for scope in app.all[1:]:
        assert scope["state"] == {} and "mine" not in scope and "mine" not in scope["extensions"]


@pytest.mark.parametrize(
    ("target", "path", "raw_path"),
    [
        ("/caf%C3%A9", "/café", b"/caf%C3%A9"),
        ("/a%2Fb%20c", "/a/b c", b"/a%2Fb%20c"),
        ("/%ff", "/\ufffd", b"/%ff"),
        ("/100%", "/100%", b"/100%"),
        ("/%zz%4", "/%zz%4", b"/%zz%4"),
        ("/%2525", "/%25", b"/%2525"),
        ("http://test/abs?q", "/abs", b"/abs"),
        ("/" + "p" * 5000, "/" + "p" * 5000, b"/" + b"p" * 5000),
    ],
)
@on_puff
async def test_path_is_decoded_once_and_raw_path_is_not(
    target: str, path: str, raw_path: bytes
) -> None:
    app = Scopes()
    async with serving(app) as s:
        assert (await s.get(target)).status == 200
    assert (app.all[0]["path"], app.all[0]["raw_path"]) == (path, raw_path)


@pytest.mark.parametrize(
    ("target", "path"),
    [("/api/x", "/api/x"), ("/x", "/api/x"), ("/api", "/api"), ("/apix", "/api/apix")],
)
@on_puff
async def test_path_includes_the_root_path_once(target: str, path: str) -> None:
    app = Scopes()
    async with serving(app, root_path="/api/") as s:
        await s.get(target)
    assert (app.all[0]["root_path"], app.all[0]["path"]) == ("/api", path)


@on_puff
async def test_scope_of_a_unix_socket(tmp_path: Any) -> None:
    app = Scopes()
    async with serving(app, bind=f"unix:{tmp_path}/s") as s:
        await s.get()
    assert app.all[0]["client"] is None
    assert app.all[0]["server"] == (f"{tmp_path}/s", None)


@on_puff
async def test_state_of_the_lifespan_is_copied_for_each_request() -> None:
    states = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["db"] = ["shared"]
            await send({"type": "lifespan.startup.complete"})
            assert (await receive())["type"] == "lifespan.shutdown"
            await send({"type": "lifespan.shutdown.complete"})
            return
        states.append(scope["state"])
        scope["state"]["mine"] = 1
        await reply(send)

    async with serving(app, lifespan="on") as s:
        c = await s.connect()
        await c.get()
        await c.get()
    assert states[0] == {"db": ["shared"], "mine": 1} and states[0] is not states[1]
    assert states[0]["db"] is states[1]["db"]


# ---- receive ---------------------------------------------------------------------------------


@on_puff
async def test_first_receive_gives_the_end_of_an_empty_body() -> None:
    messages = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        messages.append(await receive())
        await reply(send)

    async with serving(app) as s:
        await s.get()
    assert messages == [{"type": "http.request", "body": b"", "more_body": False}]


@pytest.mark.parametrize("chunked", [False, True])
@pytest.mark.parametrize("size", [1, 1000, 65536, 65537, 3_000_000])
@on_puff
async def test_body_arrives_whole(size: int, chunked: bool) -> None:
    sent = bytes(range(256)) * (size // 256 + 1)
    sent = sent[:size]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, await read_body(receive))

    async with serving(app) as s:
        c = await s.connect()
        if not chunked:
            response = await c.post(sent)
        else:
            c.send("POST / HTTP/1.1\r\nhost: t\r\ntransfer-encoding: chunked\r\n\r\n")
            for i in range(0, size, 50_000):
                piece = sent[i : i + 50_000]
                c.send(b"%x\r\n%s\r\n" % (len(piece), piece))
            c.send("0\r\n\r\n")
            response = await c.response()
        assert response.body == sent
        assert (await c.get()).status == 200


@on_puff
async def test_body_that_trickles_is_seen_as_it_comes() -> None:
    pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        while (message := await receive())["more_body"]:
            pieces.put_nowait(message["body"])
        await reply(send, message["body"])

    async with serving(app) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 6\r\n\r\n")
        for piece in (b"ab", b"cd"):
            c.send(piece)
            assert await asyncio.wait_for(pieces.get(), WAIT_S) == piece
        c.send("ef")
        assert (await c.response()).body == b"ef"


@on_puff
async def test_receive_that_is_cancelled_loses_nothing() -> None:
    waiting = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        never_awaited = receive()
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(receive(), 0.01)
        del never_awaited
        waiting.set()
        await reply(send, await read_body(receive))

    async with serving(app) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 4\r\n\r\n")
        await asyncio.wait_for(waiting.wait(), WAIT_S)
        c.send("body")
        assert (await c.response()).body == b"body"


@on_puff
async def test_receive_after_the_body_waits_for_the_disconnect() -> None:
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        later = asyncio.ensure_future(receive())
        done, _ = await asyncio.wait([later], timeout=0.02)
        assert not done
        result.set_result([await later, await receive()])

    async with serving(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await asyncio.sleep(0.05)
        c.reset()
        assert await asyncio.wait_for(result, WAIT_S) == [{"type": "http.disconnect"}] * 2


@on_puff
async def test_disconnect_in_the_body_reaches_every_receiver() -> None:
    result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        result.set_result(await asyncio.gather(receive(), receive()))

    async with serving(app) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n")
        await asyncio.sleep(0.02)
        c.reset()
        assert await asyncio.wait_for(result, WAIT_S) == [{"type": "http.disconnect"}] * 2


@on_puff
async def test_expect_is_answered_by_the_first_receive() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/no":
            await reply(send, b"", 403)
        else:
            await reply(send, await read_body(receive))

    async with serving(app) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await c.response()).status == 100
        c.send("hi")
        assert (await c.response()).body == b"hi"
        c.send("POST /no HTTP/1.1\r\nhost: t\r\ncontent-length: 2\r\nexpect: 100-continue\r\n\r\n")
        assert (await c.response()).status == 403


# ---- send ------------------------------------------------------------------------------------

START = {"type": "http.response.start", "status": 200, "headers": [(b"x-a", b"1")]}
BODY = {"type": "http.response.body", "body": b"ok"}


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (None, TypeError),
        ([], TypeError),
        ({}, KeyError),
        ({"type": "http.response.nonsense"}, RuntimeError),
        ({"type": 7}, RuntimeError),
        (BODY, RuntimeError),
        ({"type": "http.response.trailers"}, RuntimeError),
        ({"type": "http.response.start"}, TypeError),
        (START | {"status": "200"}, TypeError),
        (START | {"status": 99}, ValueError),
        (START | {"status": 101}, ValueError),
        (START | {"status": 600}, ValueError),
        (START | {"status": 2**70}, ValueError),
        (START | {"headers": 7}, TypeError),
        (START | {"headers": [(b"x-bad", b"1"), b"x"]}, TypeError),
        (START | {"headers": [(b"x-bad", b"1"), (b"x",)]}, TypeError),
        (START | {"headers": [(b"x-bad", b"1"), ("x", b"1")]}, TypeError),
        (START | {"headers": [(b"x-bad", b"1"), (b"x", "1")]}, TypeError),
        (START | {"headers": [(b"x-bad", b"1"), (b"x y", b"1")]}, ValueError),
        (START | {"headers": [(b"x-bad", b"1"), (b"x", b"1\r\ny: 2")]}, ValueError),
        (START | {"headers": [(b"content-length", b"-1")]}, RuntimeError),
    ],
)
@on_puff
async def test_a_wrong_message_raises_and_changes_nothing(
    message: Any, error: type[Exception]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        with pytest.raises(error):
            await send(message)
        await send(START)
        await send(BODY)

    async with serving(app) as s:
        response = await s.get()
        assert (response.status, response.header("x-a"), response.body) == (200, "1", b"ok")
        assert response.header("x-bad") is None


@pytest.mark.parametrize(
    ("message", "error"),
    [
        (START, RuntimeError),
        (BODY | {"body": "text"}, TypeError),
        (BODY | {"body": 7}, TypeError),
        (BODY | {"body": None}, TypeError),
        (BODY | {"body": b"more than five"}, RuntimeError),
    ],
)
@on_puff
async def test_a_wrong_message_after_the_start_changes_nothing(
    message: Any, error: type[Exception]
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START | {"headers": [(b"content-length", b"5")]})
        with pytest.raises(error):
            await send(message)
        await send(BODY | {"body": b"12", "more_body": True})
        with pytest.raises(error):
            await send(message)
        await send(BODY | {"body": b"345"})

    async with serving(app) as s:
        assert (await s.get()).body == b"12345"


@pytest.mark.parametrize(
    "headers",
    [
        [(b"a", b"1"), (b"b", b"2")],
        ((b"a", b"1"), [b"b", b"2"]),
        [[bytearray(b"a"), memoryview(b"1")], (b"b", b"2")],
        {b"a": b"1", b"b": b"2"}.items(),
    ],
)
@on_puff
async def test_headers_may_be_any_iterable_of_pairs(headers: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        given = iter(headers) if scope["path"] == "/iter" else headers
        await reply(send, headers=given)

    async with serving(app) as s:
        for path in ("/", "/iter"):
            response = await s.get(path)
            assert (response.header("a"), response.header("b")) == ("1", "2")


@on_puff
async def test_many_headers_and_no_headers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, headers=[(b"x-%d" % i, b"v" * 100) for i in range(200)])

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 204})
        await send({"type": "http.response.body"})

    async with serving(app) as s:
        response = await s.get()
        assert [v for n, v in response.headers if n.startswith("x-")] == ["v" * 100] * 200
    async with serving(bare) as s:
        assert (await s.get()).status == 204


@pytest.mark.parametrize(
    "body", [bytearray(b"abc"), memoryview(b"abc"), type("B", (bytes,), {})(b"abc")]
)
@on_puff
async def test_body_may_be_anything_with_a_buffer(body: Any) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, body)

    async with serving(app) as s:
        assert (await s.get()).body == b"abc"


@on_puff
async def test_keys_and_types_may_be_computed_and_values_may_be_odd() -> None:
    class Odd:
        def __init__(self, message: dict[str, Any]) -> None:
            self.message = message

        def __bool__(self) -> bool:
            self.message.clear()
            return False

    def computed(message: dict[str, Any]) -> dict[str, Any]:
        message["type"] = message["type"][:5] + message["type"][5:]
        return {"".join(list(key)): value for key, value in message.items()}

    async def app(scope: Any, receive: Any, send: Any) -> None:
        start, body = computed(START | {"other": 1}), computed(BODY | {"body": b"o" + bytes(9)})
        start["trailers"], body["more_body"] = Odd(start), Odd(body)
        await send(start)
        await send(body)

    async with serving(app) as s:
        response = await s.get()
        assert (response.header("x-a"), response.body) == ("1", b"o" + bytes(9))


@on_puff
async def test_a_streamed_response_is_chunked_and_whole() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        for i in range(50):
            await send(BODY | {"body": b"%04d" % i * 1000, "more_body": True})
            if i % 10 == 0:
                await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async with serving(app) as s:
        c = await s.connect()
        response = await c.get()
        assert response.body == b"".join(b"%04d" % i * 1000 for i in range(50))
        assert response.header("transfer-encoding") == "chunked"
        assert (await c.get()).status == 200


@on_puff
async def test_head_has_no_body() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send, b"12345")

    async with serving(app) as s:
        c = await s.connect()
        c.send("HEAD / HTTP/1.1\r\nhost: t\r\n\r\n")
        response = await c.response(head_only=True)
        assert response.header("content-length") == "5"
        assert (await c.get()).body == b"12345"


@on_puff
async def test_send_and_receive_are_coroutines_for_asyncio() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert asyncio.iscoroutine(send({"type": "http.response.start", "status": 200}))
        message = await asyncio.create_task(receive())
        assert message["type"] == "http.request"
        await asyncio.gather(
            send(BODY | {"body": b"a", "more_body": True}),
            send(BODY | {"body": b"b", "more_body": True}),
        )
        await asyncio.wait_for(send(BODY | {"body": b"c"}), 1)

    async with serving(app) as s:
        assert (await s.get()).body == b"abc"


@on_puff
async def test_early_hints_and_trailers() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.early_hint", "links": [b"</a.css>; rel=preload"]})
        await send(START | {"trailers": True})
        await send(BODY)
        await send({"type": "http.response.trailers", "headers": [(b"x-sum", b"7")]})

    async with serving(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: t\r\nte: trailers\r\n\r\n")
        hint = await c.response()
        assert (hint.status, hint.header("link")) == (103, "</a.css>; rel=preload")
        response = await c.response()
        assert (response.body, response.trailers) == (b"ok", [("x-sum", "7")])


@on_puff
async def test_send_waits_while_the_client_reads_nothing() -> None:
    sent = 0
    wait = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal sent
        await send(START)
        for _ in range(400):
            await send(BODY | {"body": bytes(100_000), "more_body": True})
            sent += 1
        await send({"type": "http.response.body"})
        wait.set()

    async with serving(app) as s:
        c = await s.connect()
        c.writer.transport.pause_reading()
        c.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        before = -1
        while before != sent:
            before = sent
            await asyncio.sleep(0.1)
        assert 0 < sent < 200
        c.writer.transport.resume_reading()
        assert len((await c.response()).body) == 40_000_000
        await asyncio.wait_for(wait.wait(), WAIT_S)


# ---- late calls, disconnects -----------------------------------------------------------------


@on_puff
async def test_late_calls_never_reach_the_next_request() -> None:
    kept: list[Any] = []
    release = asyncio.Event()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/first":
            kept.extend((receive, send))
            await reply(send)
        else:
            await send(START)
            await send(BODY | {"body": b"a", "more_body": True})
            await release.wait()
            assert (await receive())["body"] == b"second"
            await send(BODY | {"body": b"b"})

    async with serving(app) as s:
        c = await s.connect()
        await c.get("/first")
        receive, send = kept
        second = asyncio.ensure_future(c.post(b"second", "/second"))
        await asyncio.sleep(0.05)
        for message in (START, BODY, BODY | {"more_body": True}):
            with pytest.raises(RuntimeError):
                await send(message)
        assert await receive() == {"type": "http.disconnect"}
        release.set()
        assert (await second).body == b"ab"


@on_puff
async def test_send_after_the_end_raises_at_once() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send)
        for message in (START, BODY):
            with pytest.raises(RuntimeError):
                await send(message)
        assert await receive() == {"type": "http.disconnect"}

    async with serving(app) as s:
        assert (await s.get()).body == b"ok"


@on_puff
async def test_send_raises_once_the_client_is_gone(caplog: pytest.LogCaptureFixture) -> None:
    error: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        try:
            while True:
                await send(BODY | {"body": bytes(100_000), "more_body": True})
        except OSError as e:
            error.set_result(e)
            raise

    async with serving(app) as s:
        c = await s.connect()
        c.writer.transport.pause_reading()
        c.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await asyncio.sleep(0.1)
        c.reset()
        assert type(await asyncio.wait_for(error, WAIT_S)) is ClientDisconnected
    assert caplog.text == ""


@on_puff
async def test_the_task_of_a_client_that_left_goes_on() -> None:
    ended: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        assert await receive() == {"type": "http.disconnect"}
        await asyncio.sleep(0.02)
        ended.set_result("ended by itself")

    async with serving(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        await asyncio.sleep(0.02)
        c.reset()
        assert await asyncio.wait_for(ended, WAIT_S) == "ended by itself"


# ---- apps that go wrong ----------------------------------------------------------------------


@on_puff
async def test_exception_before_the_response_is_a_500(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/later":
            await asyncio.sleep(0)
        if scope["path"] != "/fine":
            raise ValueError("the reason")
        await reply(send)

    async with serving(app) as s:
        c = await s.connect()
        for path in ("/now", "/later"):
            caplog.clear()
            assert (await c.get(path)).status == 500
            (record,) = caplog.records
            assert record.name == "puff.error" and record.levelno == logging.ERROR
            assert path in record.getMessage() and record.exc_info and record.exc_info[1]
            assert str(record.exc_info[1]) == "the reason"
            assert record.exc_info[2] and record.exc_info[2].tb_frame.f_code.co_name == "app"
            assert (await c.get("/fine")).status == 200


@on_puff
async def test_exception_after_the_start_closes_the_connection(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(START)
        await send(BODY | {"more_body": True})
        await asyncio.sleep(0.01)
        raise ValueError("too late")

    async with serving(app) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: t\r\n\r\n")
        assert not (await c.closed()).endswith(b"0\r\n\r\n")
    assert "too late" in caplog.text


@on_puff
async def test_exception_after_the_response_is_only_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send)
        raise ValueError("after all")

    async with serving(app) as s:
        c = await s.connect()
        assert (await c.get()).status == 200
        assert (await c.get()).status == 200
    assert caplog.text.count("ValueError: after all") == 2


@on_puff
async def test_exception_in_background_work_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send)
        await asyncio.sleep(0.05)
        raise ValueError("in the background")

    async with serving(app) as s:
        c = await s.connect()
        assert (await c.get("/first")).status == 200
        assert (await c.get("/second")).status == 200
        c.close()
    assert caplog.text.count("ValueError: in the background") == 2
    assert "GET /first: " in caplog.text and "GET /second: " in caplog.text


@on_puff
async def test_another_thread_may_not_send() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        loop = asyncio.get_running_loop()
        for call in (lambda: send(START), lambda: receive().send(None)):
            with pytest.raises(RuntimeError, match="thread"):
                await loop.run_in_executor(None, call)
        await reply(send)

    async with serving(app) as s:
        assert (await s.get()).status == 200


@on_puff
async def test_an_app_that_never_answers(caplog: pytest.LogCaptureFixture) -> None:
    async def silent(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/start":
            await send(START)
        if scope["path"] == "/half":
            await send(START)
            await send(BODY | {"more_body": True})

    async with serving(silent) as s:
        assert (await s.get()).status == 500
        assert "without a response" in caplog.text
        for path in ("/start", "/half"):
            c = await s.connect()
            c.send(f"GET {path} HTTP/1.1\r\nhost: t\r\n\r\n")
            assert not (await c.closed()).endswith(b"0\r\n\r\n")
            assert path in caplog.text


class Awaitable:
    def __init__(self, coroutine: Any) -> None:
        self.coroutine = coroutine

    def __await__(self) -> Any:
        return self.coroutine.__await__()


class Odd:
    def __await__(self) -> Any:
        yield 7


@pytest.mark.parametrize("result", [None, 7, "text", object()])
@on_puff
async def test_an_app_that_is_no_coroutine(result: Any, caplog: pytest.LogCaptureFixture) -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        return result

    async with serving(app) as s:
        assert (await s.get()).status == 500
    assert "cannot be awaited" in caplog.text


@on_puff
async def test_an_app_may_return_any_awaitable() -> None:
    def app(scope: Any, receive: Any, send: Any) -> Any:
        if scope["path"] == "/future":
            return asyncio.ensure_future(reply(send, b"future"))
        return Awaitable(reply(send, b"awaitable"))

    async with serving(app) as s:
        c = await s.connect()
        for name in ("future", "awaitable", "future", "awaitable"):
            assert (await c.get("/" + name)).body == name.encode()


@on_puff
async def test_an_app_that_yields_strange_things(caplog: pytest.LogCaptureFixture) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await Odd()

    async with serving(app) as s:
        c = await s.connect()
        assert (await c.get()).status == 500
        assert (await c.get()).status == 500
    assert "bad yield" in caplog.text


# ---- the task --------------------------------------------------------------------------------


@on_puff
async def test_current_task_is_right_from_the_first_instruction() -> None:
    seen: list[Any] = []

    class App:
        def __call__(self, scope: Any, receive: Any, send: Any) -> Any:
            seen.append(asyncio.current_task())  # before there is a coroutine
            return self.run(send)

        async def run(self, send: Any) -> None:
            task = asyncio.current_task()
            assert task is seen[0] and type(task) is asyncio.Task
            assert task.get_loop() is asyncio.get_running_loop()
            assert not task.done() and "run" in repr(task)
            await asyncio.sleep(0)
            assert asyncio.current_task() is task and task in asyncio.all_tasks()
            await reply(send)

    async with serving(App()) as s:
        await s.get()
    assert seen[0] is not None


@on_puff
async def test_the_task_of_a_request_that_never_waits_serves_the_next() -> None:
    seen: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        seen.append(id(asyncio.current_task()))
        await reply(send)

    async with serving(app) as s:
        c = await s.connect()
        others = asyncio.all_tasks()
        for _ in range(5):
            await c.get()
        assert len(set(seen)) == 1
        assert asyncio.all_tasks() == others


@pytest.mark.parametrize(
    "how", ["keep", "name", "callback", "weakref", "attribute", "waits", "context"]
)
@on_puff
async def test_a_task_that_somebody_has_touched_serves_no_other(how: str) -> None:
    import weakref

    kept: list[Any] = []
    called: list[Any] = []
    names = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task: Any = asyncio.current_task()
        names.append(task.get_name())
        if how == "keep":
            kept.append(task)
        elif how == "name":
            task.set_name("mine")
        elif how == "callback":
            task.add_done_callback(called.append)
        elif how == "weakref":
            kept.append(weakref.ref(task))
        elif how == "attribute":
            assert not hasattr(task, "mine")
            task.mine = 1
        elif how == "waits":
            await asyncio.sleep(0)
        elif how == "context" and sys.version_info >= (3, 12):
            kept.append(task.get_context())
            kept_var.set(len(kept))
        await reply(send)

    async with serving(app) as s:
        c = await s.connect()
        for _ in range(3):
            await c.get()
        if how == "keep":
            assert len(set(map(id, kept))) == 3
            await asyncio.wait(kept, timeout=WAIT_S)
            assert all(task.done() for task in kept)
        if how == "callback":
            await asyncio.sleep(0.01)
            assert len(called) == 3 and all(task.done() for task in called)
        if how == "context" and kept:
            assert [context[kept_var] for context in kept] == [1, 2, 3]
        assert "mine" not in names


kept_var: contextvars.ContextVar[int] = contextvars.ContextVar("kept_var")
var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")


@on_puff
async def test_contextvars_of_a_request_are_not_the_next_ones() -> None:
    seen = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((var.get(), outer.get()))
        var.set(scope["path"])
        if scope["path"].startswith("/wait"):
            await asyncio.sleep(0)
        assert var.get() == scope["path"]
        await reply(send)

    outer: contextvars.ContextVar[str] = contextvars.ContextVar("outer")
    outer.set("from the start")
    async with serving(app) as s:
        c = await s.connect()
        for path in ("/a", "/b", "/wait1", "/c", "/wait2", "/d", "/d"):
            await c.get(path)
    assert seen == [("unset", "from the start")] * 7


@on_puff
async def test_contextvars_reach_what_a_request_starts_and_stay_with_it() -> None:
    seen: dict[str, str] = {}
    tasks = []

    async def child(path: str) -> None:
        await asyncio.sleep(0.01)
        seen[path] = var.get()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        var.set(scope["path"])
        tasks.append(asyncio.create_task(child(scope["path"])))
        asyncio.get_running_loop().call_soon(lambda: seen.setdefault("soon" + var.get(), "called"))
        await reply(send)

    async with serving(app) as s:
        c = await s.connect()
        for path in ("/a", "/b", "/c"):
            await c.get(path)
        await asyncio.wait(tasks, timeout=WAIT_S)
    assert seen == {"/a": "/a", "/b": "/b", "/c": "/c"} | {f"soon/{x}": "called" for x in "abc"}


@on_puff
async def test_a_request_that_only_its_client_can_wake_is_not_garbage() -> None:
    ended: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        first, second = await asyncio.gather(receive(), receive())
        await receive()
        ended.set_result([first["type"], second["type"]])

    async with serving(app) as s:
        c = await s.connect()
        c.send("POST / HTTP/1.1\r\nhost: t\r\ncontent-length: 9\r\n\r\n")
        while not s.server._http or not s.server._http.tasks():
            await asyncio.sleep(0.01)
        gc.collect()
        gc.collect()
        c.reset()
        assert await asyncio.wait_for(ended, WAIT_S) == ["http.disconnect"] * 2


@on_puff
async def test_timeouts_and_cancel_scopes_work_in_the_first_step_and_later() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        outcome = "no"
        if scope["path"] == "/wait_for":
            try:
                await asyncio.wait_for(asyncio.sleep(60), 0.01)
            except asyncio.TimeoutError:
                outcome = "timeout"
        elif scope["path"] == "/anyio":
            with anyio.move_on_after(0.01) as cancelled:
                await anyio.sleep(60)
            outcome = "timeout" if cancelled.cancelled_caught else "no"
        elif scope["path"] == "/group":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 60)
                group.cancel_scope.cancel()
            outcome = "timeout"
        elif scope["path"] == "/receive":
            await receive()
            with anyio.move_on_after(0.01):
                await receive()
            outcome = "timeout"
        elif scope["path"] == "/send":
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 0)
            with anyio.move_on_after(5):
                await reply(send, b"timeout")
            return
        elif sys.version_info >= (3, 11):
            try:
                async with asyncio.timeout(0.01 if scope["path"] == "/timeout" else 0):
                    await asyncio.sleep(60)
            except TimeoutError:
                outcome = "timeout"
        else:
            outcome = "timeout"
        task: Any = asyncio.current_task()
        assert sys.version_info < (3, 11) or task.cancelling() == 0
        await reply(send, outcome.encode())

    async with serving(app) as s:
        c = await s.connect()
        for path in (
            "/wait_for",
            "/anyio",
            "/group",
            "/receive",
            "/send",
            "/timeout",
            "/timeout0",
        ) * 2:
            assert (path, (await c.get(path)).body) == (path, b"timeout")


@on_puff
async def test_a_request_can_be_cancelled(caplog: pytest.LogCaptureFixture) -> None:
    tasks: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        tasks.append(asyncio.current_task())
        if scope["path"] == "/self":
            tasks[-1].cancel()
        try:
            await asyncio.sleep(60)
        finally:
            if scope["path"] == "/answers":
                await reply(send, b"cancelled")

    async with serving(app) as s:
        c = await s.connect()
        assert (await c.get("/self")).status == 500
        waiting = asyncio.ensure_future(c.get("/answers"))
        await asyncio.sleep(0.02)
        tasks[-1].cancel()
        assert (await waiting).body == b"cancelled"
        await asyncio.sleep(0)
        assert all(task.cancelled() for task in tasks)


@on_puff
async def test_cancelling_a_request_that_never_waits_again() -> None:
    tasks: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        task: Any = asyncio.current_task()
        tasks.append(id(task))
        await reply(send)
        task.cancel()

    async with serving(app) as s:
        c = await s.connect()
        for _ in range(3):
            assert (await c.get()).status == 200


@on_puff
async def test_two_hundred_slow_requests_run_at_once() -> None:
    inside = most = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal inside, most
        inside += 1
        most = max(most, inside)
        await asyncio.sleep(0.2)
        inside -= 1
        await reply(send, scope["path"].encode())

    async with serving(app) as s:
        connections = [await s.connect() for _ in range(200)]
        answers = await asyncio.gather(*(c.get(f"/{i}") for i, c in enumerate(connections)))
        assert [a.body for a in answers] == [b"/%d" % i for i in range(200)]
    assert most == 200


@on_puff
async def test_pipelined_requests_are_answered_in_order() -> None:
    running = 0

    async def app(scope: Any, receive: Any, send: Any) -> None:
        nonlocal running
        running += 1
        assert running == 1
        if scope["path"].endswith("0"):
            await asyncio.sleep(0.01)
        body = await read_body(receive)
        running -= 1
        await reply(send, scope["path"].encode() + body)

    async with serving(app) as s:
        c = await s.connect()
        c.send(
            "".join(
                f"POST /{i} HTTP/1.1\r\nhost: t\r\ncontent-length: 3\r\n\r\nabc" for i in range(50)
            )
        )
        assert [(await c.response()).body for _ in range(50)] == [b"/%dabc" % i for i in range(50)]


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("wait", [False, True])
def test_interrupts_leave_the_loop(error: type[BaseException], wait: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if wait:
            await asyncio.sleep(0)
        raise error("stop")

    async def main() -> None:
        async with serving(app) as s:
            await s.get()

    with pytest.raises(error):
        puff.run(main())


# ---- stopping --------------------------------------------------------------------------------


@on_puff
async def test_stop_lets_requests_and_their_background_work_finish() -> None:
    ended = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            await asyncio.sleep(0.05)
        await reply(send)
        await asyncio.sleep(0.1)
        ended.append(scope["path"])

    async with serving(app) as s:
        slow, idle, quick = await s.connect(), await s.connect(), await s.connect()
        assert (await quick.get("/quick")).status == 200
        answer = asyncio.ensure_future(slow.get("/slow"))
        await asyncio.sleep(0.01)
        await s.server.stop()
        response = await answer
        assert response.status == 200 and response.header("connection") == "close"
        assert sorted(ended) == ["/quick", "/slow"]
        assert await idle.closed() == b""
        with pytest.raises(OSError):
            await s.connect()


@on_puff
async def test_stop_cuts_off_what_takes_too_long(caplog: pytest.LogCaptureFixture) -> None:
    cancelled = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            cancelled.append(scope["path"])
            raise

    async with serving(app) as s:
        c = await s.connect()
        c.send("GET /x HTTP/1.1\r\nhost: t\r\n\r\n")
        await asyncio.sleep(0.02)
        await asyncio.wait_for(s.server.stop(50), WAIT_S)
        assert cancelled == ["/x"]
        assert b"200" not in await c.closed()


def test_a_loop_that_closes_with_an_open_server() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await reply(send)

    async def main() -> None:
        from puff.asgi import Server

        server = Server(app, bind="127.0.0.1:0", lifespan="off")
        await server.start()

    puff.run(main())
    gc.collect()


# ---- lifespan --------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["auto", "on"])
@on_puff
async def test_lifespan_events_surround_the_requests(mode: Any) -> None:
    events = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for part in ("startup", "shutdown"):
                events.append((await receive())["type"])
                await send({"type": f"lifespan.{part}.complete"})
            return
        events.append(scope["path"])
        await reply(send)

    async with serving(app, lifespan=mode) as s:
        await s.get("/x")
    assert events == ["lifespan.startup", "/x", "lifespan.shutdown"]


@on_puff
async def test_an_app_without_lifespan_is_served_in_auto_mode() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        await reply(send)

    async with serving(app, lifespan="auto") as s:
        assert (await s.get()).status == 200
    with pytest.raises(puff.errors.AppStartError):
        async with serving(app, lifespan="on"):
            pass


@on_puff
async def test_a_failed_startup_is_an_error_with_the_apps_words() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise ValueError("and again")

    with pytest.raises(puff.errors.AppStartError, match="no database"):
        async with serving(app, lifespan="auto"):
            pass


@on_puff
async def test_a_failed_shutdown_is_an_error_too() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await receive()
            await send({"type": "lifespan.startup.complete"})
            await receive()
            await send({"type": "lifespan.shutdown.failed", "message": "could not flush"})

    with pytest.raises(puff.errors.AppStartError, match="could not flush"):
        async with serving(app, lifespan="auto"):
            pass


@pytest.mark.parametrize("turns", range(6))
@on_puff
async def test_a_startup_that_is_cut_short_leaves_no_error_unseen(turns: int) -> None:
    """As when another worker has failed: each of the app's errors would be logged by asyncio."""
    told: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: told.append(context))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})
        raise RuntimeError("and more")

    starting = asyncio.ensure_future(Lifespan(app).startup())
    for _ in range(turns):
        await asyncio.sleep(0)
    starting.cancel()
    await asyncio.wait([starting])
    if not starting.cancelled():
        assert isinstance(starting.exception(), AppStartError)
    del starting
    for _ in range(3):  # the app's own task goes on
        await asyncio.sleep(0)
    gc.collect()
    assert told == []


# ---- memory ----------------------------------------------------------------------------------


@pytest.mark.timeout(120)
@on_puff
async def test_requests_leave_nothing_behind() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        path = scope["path"]
        if path == "/raise":
            raise ValueError("again")
        if path == "/var":
            var.set(path + "x")
        if path == "/wait":
            await asyncio.sleep(0)
        body = await read_body(receive)
        await reply(send, body, headers=[(b"x-a", b"1")])

    async def burst(n: int) -> None:
        for path in ("/", "/raise", "/var", "/wait", "/?" + "q" * 50):
            c = await s.connect()
            for _ in range(n // 50):
                c.send(
                    f"POST {path} HTTP/1.1\r\nhost: t\r\nx-b: c\r\ncontent-length: 3\r\n\r\nabc"
                    * 50
                )
                for _ in range(50):
                    await c.response()
            c.close()
        s.connections.clear()
        await asyncio.sleep(0.05)

    logging.getLogger("puff.error").disabled = True
    try:
        async with serving(app) as s:
            await burst(500)
            gc.collect()
            objects, blocks = len(gc.get_objects()), sys.getallocatedblocks()
            await burst(4000)
            gc.collect()
            assert len(gc.get_objects()) - objects < 100
            assert sys.getallocatedblocks() - blocks < 500
    finally:
        logging.getLogger("puff.error").disabled = False
