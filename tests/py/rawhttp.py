"""A small HTTP client that shows what is on the wire, and a server around an app, for tests."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import puff
import puff.wsgi
from puff.asgi import Server
from puff.server import AppServer

WAIT_S = 10.0


@dataclass
class Response:
    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""
    trailers: list[tuple[str, str]] = field(default_factory=list)

    def header(self, name: str) -> str | None:
        return next((v for n, v in self.headers if n == name), None)


class Connection:
    """One connection; every wait has a bound."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, data: bytes | str) -> None:
        self.writer.write(data.encode("latin-1") if isinstance(data, str) else data)

    async def get(self, path: str = "/", *headers: str) -> Response:
        lines = [f"GET {path} HTTP/1.1", "host: test", *headers]
        self.send("\r\n".join(lines) + "\r\n\r\n")
        return await self.response()

    async def post(self, body: bytes, path: str = "/", *headers: str) -> Response:
        lines = [f"POST {path} HTTP/1.1", "host: test", f"content-length: {len(body)}", *headers]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode() + body)
        return await self.response()

    async def response(self, *, head_only: bool = False) -> Response:
        return await asyncio.wait_for(self._response(head_only), WAIT_S)

    async def _response(self, head_only: bool) -> Response:
        status, headers = await self._head()
        response = Response(status, headers)
        if head_only or status in (204, 304) or status < 200:
            return response
        if response.header("transfer-encoding") == "chunked":
            await self._chunks(response)
        elif (length := response.header("content-length")) is not None:
            response.body = await self.reader.readexactly(int(length))
        else:
            response.body = await self.reader.read()
        return response

    async def _head(self) -> tuple[int, list[tuple[str, str]]]:
        lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
        return int(lines[0].split(" ")[1]), _fields(lines[1:])

    async def _chunks(self, response: Response) -> None:
        pieces = []
        while size := int(await self.reader.readline(), 16):
            pieces.append(await self.reader.readexactly(size))
            assert await self.reader.readexactly(2) == b"\r\n"
        response.body = b"".join(pieces)
        lines = []
        while (line := await self.reader.readline()) != b"\r\n":
            lines.append(line.decode("latin-1").rstrip("\r\n"))
        response.trailers = _fields(lines)

    async def closed(self) -> bytes:
        """What still comes before the server closes or resets; fails if it does neither."""
        data = b""
        with contextlib.suppress(ConnectionResetError):
            while piece := await asyncio.wait_for(self.reader.read(65536), WAIT_S):
                data += piece
        return data

    def close(self) -> None:
        self.writer.close()

    def reset(self) -> None:
        self.writer.transport.abort()


def _fields(lines: list[str]) -> list[tuple[str, str]]:
    return [(n.lower(), v.strip()) for n, _, v in (line.partition(":") for line in lines) if n]


@dataclass
class Serving:
    server: AppServer
    connections: list[Connection] = field(default_factory=list)

    async def connect(self) -> Connection:
        address = self.server.addresses[0]
        if address.startswith("unix:"):
            reader, writer = await asyncio.open_unix_connection(address[len("unix:") :])
        else:
            host, port = address.removeprefix("http://").rsplit(":", 1)
            reader, writer = await asyncio.open_connection(host.strip("[]"), int(port))
        connection = Connection(reader, writer)
        self.connections.append(connection)
        return connection

    async def get(self, path: str = "/", *headers: str) -> Response:
        connection = await self.connect()
        return await connection.get(path, *headers)


@contextlib.asynccontextmanager
async def serving_wsgi(app: Any, **options: Any) -> AsyncIterator[Serving]:
    options = {"bind": "127.0.0.1:0", "stop_timeout_ms": 5000} | options
    async with puff.wsgi.Server(app, **options) as server:
        it = Serving(server)
        try:
            yield it
        finally:
            for connection in it.connections:
                connection.close()


@contextlib.asynccontextmanager
async def serving(app: Any, **options: Any) -> AsyncIterator[Serving]:
    options = {"bind": "127.0.0.1:0", "lifespan": "off", "stop_timeout_ms": 5000} | options
    async with Server(app, **options) as server:
        it = Serving(server)
        try:
            yield it
        finally:
            for connection in it.connections:
                connection.close()


def on_puff(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Decorates a test that is a coroutine function: it runs on a Puff loop of its own."""
    import functools
    import inspect

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        puff.run(test(*args, **kwargs))  # type: ignore[arg-type]

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    return run


async def reply(send: Any, body: bytes = b"ok", status: int = 200, headers: Any = ()) -> None:
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def read_body(receive: Any) -> bytes:
    body = b""
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        body += message["body"]
        if not message["more_body"]:
            return body


async def until(condition: Callable[[], object]) -> None:
    async def wait() -> None:
        while not condition():
            await asyncio.sleep(0.002)

    await asyncio.wait_for(wait(), WAIT_S)
