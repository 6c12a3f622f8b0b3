"""Flask on Puff's WSGI server: what its users rely on, on greenlets and in threads."""

from __future__ import annotations

import asyncio
import io
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from rawhttp import WAIT_S, on_puff, serving_wsgi

import puff

flask = pytest.importorskip("flask")

both = pytest.mark.parametrize("threads", [0, 3], ids=["greenlet", "thread"])


class Site:
    """A Flask app, and what it has noted."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.app = flask.Flask("site")
        self.app.secret_key = "not secret"
        self.app.teardown_request(lambda error: self.note("teardown", type(error).__name__))

    def note(self, *words: str) -> None:
        self.notes.append(" ".join(words))

    @asynccontextmanager
    async def served(self, threads: int = 0) -> AsyncIterator[httpx.AsyncClient]:
        async with (
            serving_wsgi(self.app, threads=threads) as s,
            httpx.AsyncClient(base_url=s.server.addresses[0], timeout=WAIT_S) as client,
        ):
            yield client

    async def noted(self, note: str) -> None:
        async def look() -> None:
            while note not in self.notes:
                await asyncio.sleep(0.005)

        await asyncio.wait_for(look(), WAIT_S)


@both
@on_puff
async def test_sessions_cookies_and_redirects(threads: int) -> None:
    site = Site()

    @site.app.route("/login/<name>")
    def login(name: str) -> Any:
        flask.session["user"] = name
        return flask.redirect(flask.url_for("me"))

    @site.app.route("/me")
    def me() -> Any:
        response = flask.make_response(flask.session.get("user", "nobody"))
        response.set_cookie("seen", "1")
        return response

    async with site.served(threads) as c:
        assert (await c.get("/me")).text == "nobody"
        assert (await c.get("/login/J%C3%BCrgen", follow_redirects=True)).text == "Jürgen"
        assert (await c.get("/me")).text == "Jürgen"
        assert c.cookies["seen"] == "1"


@both
@on_puff
async def test_forms_files_and_json(threads: int) -> None:
    site = Site()

    @site.app.route("/form", methods=["POST"])
    def form() -> Any:
        upload = flask.request.files["file"]
        data = upload.read()
        return {
            "name": upload.filename,
            "size": len(data),
            "ok": data == b"x" * len(data),
            "field": flask.request.form["field"],
        }

    @site.app.route("/json", methods=["PUT"])
    def echo() -> Any:
        return flask.jsonify(flask.request.get_json())

    async with site.served(threads) as c:
        for size in (10, 3_000_000):  # the second lies in a file of werkzeug's
            files = {"file": ("a.bin", io.BytesIO(b"x" * size))}
            reply = (await c.post("/form", files=files, data={"field": "é"})).json()
            assert reply == {"name": "a.bin", "size": size, "ok": True, "field": "é"}
        assert (await c.put("/json", json={"a": [1, None]})).json() == {"a": [1, None]}
        bad = await c.put("/json", content=b"{", headers={"content-type": "application/json"})
        assert bad.status_code == 400


@both
@on_puff
async def test_chunked_uploads_have_no_length_and_an_end(threads: int) -> None:
    site = Site()

    @site.app.route("/", methods=["POST"])
    def size() -> str:
        assert flask.request.content_length is None
        return str(len(flask.request.get_data()))

    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(10):
            yield b"p" * 1000
            await asyncio.sleep(0)

    async with site.served(threads) as c:
        assert (await c.post("/", content=pieces())).text == "10000"


@both
@on_puff
async def test_streams_with_the_requests_context(threads: int) -> None:
    site = Site()

    @site.app.route("/stream")
    def stream() -> Any:
        @flask.stream_with_context
        def generate() -> Any:
            for n in range(5):
                puff.sleep_ms(1)
                yield f"{n}{flask.request.args['x']} "

        return flask.Response(generate(), mimetype="text/plain")

    async with site.served(threads) as c:
        replies = await asyncio.gather(*(c.get(f"/stream?x={x}") for x in "abcdef"))
        expected = [" ".join(f"{n}{x}" for n in range(5)) + " " for x in "abcdef"]
        assert [r.text for r in replies] == expected
        await site.noted("teardown NoneType")


@both
@on_puff
async def test_a_stream_ends_when_its_client_goes_away(threads: int) -> None:
    site = Site()

    @site.app.route("/forever")
    def forever() -> Any:
        def generate() -> Any:
            try:
                while True:
                    yield b"more"
                    puff.sleep_ms(1)
            finally:
                site.note("generator closed")

        return flask.Response(generate())

    async with site.served(threads) as c:
        async with c.stream("GET", "/forever") as reply:
            async for _ in reply.aiter_raw():
                break
        await site.noted("generator closed")


@both
@on_puff
async def test_files_with_ranges_and_validators(threads: int, tmp_path: Path) -> None:
    content = bytes(range(256)) * 1000
    (tmp_path / "f.bin").write_bytes(content)
    site = Site()

    @site.app.route("/file")
    def file() -> Any:
        return flask.send_file(tmp_path / "f.bin", conditional=True)

    async with site.served(threads) as c:
        whole = await c.get("/file")
        assert (whole.content, whole.headers["content-length"]) == (content, "256000")
        part = await c.get("/file", headers={"range": "bytes=1000-300000"})
        assert (part.status_code, part.content) == (206, content[1000:])
        same = await c.get("/file", headers={"if-none-match": whole.headers["etag"]})
        assert (same.status_code, same.content) == (304, b"")
        head = await c.head("/file")
        assert (head.headers["content-length"], head.content) == ("256000", b"")


@both
@on_puff
async def test_errors_have_handlers_and_a_500(threads: int, caplog: Any) -> None:
    site = Site()

    @site.app.errorhandler(KeyError)
    def handled(error: KeyError) -> Any:
        return f"handled {error}", 418

    @site.app.route("/<what>")
    def fail(what: str) -> Any:
        puff.sleep_ms(1)
        if what == "key":
            raise KeyError("k")
        flask.abort(403) if what == "abort" else 1 / 0

    async with site.served(threads) as c:
        assert [(r := await c.get(f"/{w}")).status_code for w in ("key", "abort", "zero")] == [
            418,
            403,
            500,
        ]
        assert "Internal Server Error" in r.text  # Flask's page, not ours
        assert (await c.get("/a/b")).status_code == 404
        assert (await c.post("/key")).status_code == 405
        await site.noted("teardown ZeroDivisionError")
    assert [r.name for r in caplog.records if r.levelno >= logging.ERROR] == ["site"]


@on_puff
async def test_requests_that_wait_keep_their_own_globals() -> None:
    site = Site()

    @site.app.before_request
    def before() -> None:
        flask.g.nonce = flask.request.args["nonce"]

    @site.app.after_request
    def after(response: Any) -> Any:
        response.headers["x-nonce"] = flask.g.nonce
        return response

    @site.app.route("/")
    def view() -> str:
        puff.sleep_ms(int(flask.g.nonce) % 7)
        return f"{flask.g.nonce} {flask.request.args['nonce']}"

    async with site.served() as c:
        replies = await asyncio.gather(*(c.get(f"/?nonce={n}") for n in range(60)))
        assert [r.text for r in replies] == [f"{n} {n}" for n in range(60)]
        assert [r.headers["x-nonce"] for r in replies] == [str(n) for n in range(60)]


@both
@on_puff
async def test_async_views(threads: int) -> None:
    pytest.importorskip("asgiref")
    site = Site()

    @site.app.route("/<name>")
    async def view(name: str) -> str:
        await asyncio.sleep(0.001)
        return f"{name} {flask.request.path}"

    async with site.served(threads) as c:
        replies = await asyncio.gather(*(c.get(f"/{n}") for n in range(5)))
        assert [r.text for r in replies] == [f"{n} /{n}" for n in range(5)]
