"""wsgi.file_wrapper: regular files by sendfile(2), everything else block by block."""

from __future__ import annotations

import gzip
import io
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rawhttp import on_puff, serving_wsgi, until

import puff

BIG = 3_000_000  # more than one sendfile() takes, and more than a socket's buffers
both = pytest.mark.parametrize("threads", [0, 2], ids=["greenlet", "thread"])


class Site:
    """Sends a file, and says what became of it."""

    def __init__(self, make: Callable[[], Any], *fields: tuple[str, str]) -> None:
        self.make, self.fields, self.n_closed = make, list(fields), 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        file = self.make()
        start_response("200 OK", [("Content-Type", "text/plain"), *self.fields])
        wrapped = environ["wsgi.file_wrapper"](file, 4096)
        close = file.close

        def count() -> None:
            self.n_closed += 1
            close()

        file.close = count
        return wrapped


class Unread(io.FileIO):
    """Its type is not known, so it is read."""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(BIG))
    return path


def log_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


@pytest.fixture
def no_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    def pread(*args: object) -> bytes:
        raise AssertionError("the client is not slow")

    monkeypatch.setattr(os, "pread", pread)


@both
@pytest.mark.parametrize("offset", [0, 10, BIG - 1])
@pytest.mark.parametrize("fields", [0, 1], ids=["no length", "length"])
@on_puff
async def test_a_file_leaves_from_where_it_stands(
    threads: int, offset: int, fields: int, path: Path
) -> None:
    def make() -> Any:
        file = path.open("rb")
        file.seek(offset)
        file.read(0)
        return file

    length = [("Content-Length", str(BIG - offset))] * fields
    site = Site(make, *length)
    async with serving_wsgi(site, threads=threads) as s:
        c = await s.connect()
        for n in (1, 2):  # the connection stays
            reply = await c.get()
            assert reply.body == path.read_bytes()[offset:]
            if not threads or fields:
                assert reply.header("content-length") == str(BIG - offset)
            await until(lambda n=n: site.n_closed == n)


@on_puff
async def test_what_was_read_ahead_is_not_lost(path: Path) -> None:
    def make() -> Any:
        file = path.open("rb")
        file.readline()
        assert file.tell() < BIG
        return file

    async with serving_wsgi(Site(make)) as s:
        content = path.read_bytes()
        assert (await s.get()).body == content[content.index(b"\n") + 1 :]


@on_puff
async def test_no_more_leaves_than_content_length_says(path: Path) -> None:
    site = Site(lambda: path.open("rb"), ("Content-Length", "100"))
    async with serving_wsgi(site) as s:
        c = await s.connect()
        for _ in range(2):
            assert (await c.get()).body == path.read_bytes()[:100]


@on_puff
async def test_a_file_shorter_than_its_content_length_breaks_off(path: Path) -> None:
    site = Site(lambda: path.open("rb"), ("Content-Length", str(BIG + 1)))
    async with serving_wsgi(site) as s:
        c = await s.connect()
        with pytest.raises(EOFError):
            await c.get()
        await until(lambda: site.n_closed == 1)


@on_puff
async def test_a_file_that_shrinks_breaks_off(path: Path) -> None:
    site = Site(lambda: path.open("rb"))
    async with serving_wsgi(site) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await c.reader.readexactly(1000)
        os.truncate(path, 100_000)
        await c.closed()
        await until(lambda: site.n_closed == 1)


@on_puff
async def test_head_sends_the_length_only(path: Path, no_reads: None) -> None:
    site = Site(lambda: path.open("rb"))
    async with serving_wsgi(site) as s:
        c = await s.connect()
        c.send("HEAD / HTTP/1.1\r\nhost: x\r\n\r\n")
        reply = await c.response(head_only=True)
        assert reply.header("content-length") == str(BIG)
        assert (await c.get()).header("content-length") == str(BIG)


@on_puff
async def test_http_10_and_pipelining(path: Path) -> None:
    path.write_bytes(b"x" * 1000)
    async with serving_wsgi(Site(lambda: path.open("rb"))) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 5 + "GET / HTTP/1.0\r\n\r\n")
        for _ in range(6):
            reply = await c.response()
            assert (reply.body, reply.header("content-length")) == (b"x" * 1000, "1000")
        await c.closed()


@both
@on_puff
async def test_a_slow_client_gets_all_of_it_and_holds_up_nobody(threads: int, path: Path) -> None:
    path.write_bytes(os.urandom(12_000_000))  # more than loopback's buffers take
    site = Site(lambda: path.open("rb"))
    async with serving_wsgi(site, threads=threads) as s:
        slow = await s.connect()
        slow.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await puff.sleep_ms(50)
        assert (await s.get()).body == path.read_bytes()
        assert (await slow.response()).body == path.read_bytes()
        await until(lambda: site.n_closed == 2)


@both
@on_puff
async def test_a_client_that_leaves_closes_the_file(
    threads: int, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path.write_bytes(os.urandom(12_000_000))
    site = Site(lambda: path.open("rb"))
    async with serving_wsgi(site, threads=threads) as s:
        c = await s.connect()
        c.send("GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await c.reader.readexactly(100)
        c.reset()
        await until(lambda: site.n_closed == 1)
        await until(lambda: s.server.statistics()["in_flight"] == 0)
    assert log_of(caplog) == []


@pytest.mark.parametrize("kind", ["bytes", "gzip", "subclass", "pipe", "empty"])
@on_puff
async def test_what_is_no_plain_file_is_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = b"" if kind == "empty" else b"content" * 5000
    with (gzip.open if kind == "gzip" else open)(path, "wb") as file:
        file.write(content)

    def pipe() -> Any:
        r, w = os.pipe()
        os.write(w, content)
        os.close(w)
        return os.fdopen(r, "rb")

    make: dict[str, Callable[[], Any]] = {
        "bytes": lambda: io.BytesIO(content),
        "gzip": lambda: gzip.GzipFile(path),
        "subclass": lambda: Unread(path),
        "pipe": pipe,
        "empty": lambda: path.open("rb"),
    }

    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])
        return environ["wsgi.file_wrapper"](make[kind]())

    async with serving_wsgi(app) as s:
        assert (await s.get()).body == content


@on_puff
async def test_a_file_after_write_is_part_of_the_chunks(path: Path) -> None:
    def app(environ: Any, start_response: Any) -> Any:
        start_response("200 OK", [])(b"first ")
        return environ["wsgi.file_wrapper"](path.open("rb"))

    async with serving_wsgi(app) as s:
        assert (await s.get()).body == b"first " + path.read_bytes()


@on_puff
async def test_a_file_without_start_response_is_a_500(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = path.open("rb")
    async with serving_wsgi(lambda environ, start: environ["wsgi.file_wrapper"](file)) as s:
        assert (await s.get()).status == 500
    assert file.closed
