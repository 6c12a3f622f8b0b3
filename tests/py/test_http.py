"""Frameworks and clients that people use, on Puff's HTTP server."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import anyio
import httpx
import pytest
from fastapi import (
    BackgroundTasks,
    Depends,
    FastAPI,
    File,
    Form,
    HTTPException,
    Request,
    UploadFile,
)
from rawhttp import WAIT_S, on_puff, serving
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.routing import Route

from puff._bind.asgi import AsgiServer

user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")
log: list[str] = []


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    log.append("startup")
    yield {"db": {"hits": 0}}
    log.append("shutdown")


app = FastAPI(lifespan=lifespan)


@app.middleware("http")
async def stamp(request: Request, call_next: Any) -> Any:
    response = await call_next(request)
    response.headers["x-stamp"] = "1"
    return response


async def current_user(request: Request) -> AsyncIterator[str]:
    user.set(request.headers.get("x-user", "nobody"))
    yield user.get()
    log.append(f"closed for {user.get()}")


@app.get("/items/{item_id}")
async def item(item_id: int, request: Request, name: Annotated[str, Depends(current_user)]) -> Any:
    request.state.db["hits"] += 1
    return {"item": item_id, "user": name, "context": user.get(), "hits": request.state.db["hits"]}


@app.get("/sync")
def in_a_thread() -> Any:
    return {"thread": True}


@app.post("/upload")
async def upload(file: Annotated[UploadFile, File()], note: Annotated[str, Form()]) -> Any:
    return {"name": file.filename, "size": len(await file.read()), "note": note}


@app.get("/background")
async def background(tasks: BackgroundTasks) -> Any:
    async def later() -> None:
        await asyncio.sleep(0.02)
        log.append("background")

    tasks.add_task(later)
    return {}


@app.get("/stream")
async def stream(n: int = 5) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        for i in range(n):
            yield f"data: {i}\n\n"
            await asyncio.sleep(0)

    return StreamingResponse(lines(), media_type="text/event-stream")


@app.get("/endless")
async def endless() -> StreamingResponse:
    async def ticks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 10_000
                await asyncio.sleep(0)
        finally:
            log.append("endless ended")

    return StreamingResponse(ticks())


@app.get("/fail")
async def fail() -> Any:
    raise ValueError("a mistake in a route")


@app.get("/teapot")
async def teapot() -> Any:
    raise HTTPException(418)


@app.get("/timeout")
async def timeout() -> Any:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(60)
    return {"timed_out": scope.cancelled_caught}


@asynccontextmanager
async def client(application: Any = app) -> AsyncIterator[httpx.AsyncClient]:
    log.clear()
    async with (
        serving(application, lifespan="auto") as s,
        httpx.AsyncClient(base_url=s.server.addresses[0], timeout=WAIT_S) as c,
    ):
        yield c


async def until(line: str) -> None:
    async def look() -> None:
        while line not in log:
            await asyncio.sleep(0.01)

    await asyncio.wait_for(look(), WAIT_S)


@on_puff
async def test_fastapi_routes_dependencies_and_state() -> None:
    async with client() as c:
        assert log == ["startup"]
        for i in range(1, 4):
            response = await c.get(f"/items/{i}", headers={"x-user": f"u{i}"})
            assert response.json() == {"item": i, "user": f"u{i}", "context": f"u{i}", "hits": i}
            assert response.headers["x-stamp"] == "1"
            assert f"closed for u{i}" in log
        assert (await c.get("/items/5")).json()["context"] == "nobody"
        assert (await c.get("/items/x")).status_code == 422
        assert (await c.get("/sync")).json() == {"thread": True}
        assert (await c.get("/teapot")).status_code == 418
        assert (await c.get("/nowhere")).status_code == 404
        assert (await c.get("/timeout")).json() == {"timed_out": True}
        assert (await c.head("/items/1")).status_code == 405
        assert (await c.get("/openapi.json")).json()["info"]["title"] == "FastAPI"
    assert log[-1] == "shutdown"


@on_puff
async def test_fastapi_uploads() -> None:
    async with client() as c:
        for size in (0, 10, 3_000_000):
            response = await c.post(
                "/upload", files={"file": ("a.bin", bytes(size))}, data={"note": "n"}
            )
            assert response.json() == {"name": "a.bin", "size": size, "note": "n"}


@on_puff
async def test_fastapi_streams() -> None:
    async with client() as c:
        response = await c.get("/stream", params={"n": 200})
        assert response.text == "".join(f"data: {i}\n\n" for i in range(200))
        async with c.stream("GET", "/stream") as streamed:
            lines = [line async for line in streamed.aiter_lines() if line]
        assert lines == [f"data: {i}" for i in range(5)]


@on_puff
async def test_background_tasks_run_after_the_response_and_before_the_end() -> None:
    async with client() as c:
        assert (await c.get("/background")).status_code == 200
        assert "background" not in log
    assert log[-2:] == ["background", "shutdown"]


@on_puff
async def test_a_stream_ends_when_its_client_leaves(caplog: pytest.LogCaptureFixture) -> None:
    async with client() as c:
        async with c.stream("GET", "/endless") as response:
            async for _ in response.aiter_raw():
                break
        await until("endless ended")
    assert [r for r in caplog.records if r.name.startswith("puff")] == []


@on_puff
async def test_starlette_sees_that_its_client_has_left(caplog: pytest.LogCaptureFixture) -> None:
    async def page(request: Any) -> Any:
        assert not await request.is_disconnected()
        while not await request.is_disconnected():
            await asyncio.sleep(0.01)
        log.append("saw the disconnect")
        return PlainTextResponse("to nobody")

    async with client(Starlette(routes=[Route("/", page)])) as c:
        with pytest.raises(httpx.ReadTimeout):
            await c.get("/", timeout=0.1)
        await until("saw the disconnect")
    assert [r for r in caplog.records if r.name.startswith("puff")] == []


@on_puff
async def test_a_mistake_in_a_route_is_a_500_and_one_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with client() as c:
        assert (await c.get("/fail")).status_code == 500
        assert (await c.get("/teapot")).status_code == 418
    assert [r.levelno for r in caplog.records if r.name == "puff.error"] == [logging.ERROR]
    assert "a mistake in a route" in caplog.text


@on_puff
async def test_requests_at_once_keep_their_contexts() -> None:
    async with client() as c:
        names = [f"user{i}" for i in range(100)]
        answers = await asyncio.gather(*(c.get("/items/1", headers={"x-user": n}) for n in names))
    assert [a.json()["context"] for a in answers] == names


@on_puff
async def test_starlette_with_middleware() -> None:
    class Outer(BaseHTTPMiddleware):
        async def dispatch(self, request: Any, call_next: Any) -> Any:
            response = await call_next(request)
            response.headers["x-outer"] = request.url.path
            return response

    async def page(request: Any) -> Any:
        body = await request.body()
        return PlainTextResponse(body or request.url.path)

    starlette = Starlette(
        routes=[Route("/{rest:path}", page, methods=["GET", "POST"])],
        middleware=[Middleware(Outer)],
    )
    async with client(starlette) as c:
        for i in range(20):
            response = await c.get(f"/p{i}")
            assert (response.text, response.headers["x-outer"]) == (f"/p{i}", f"/p{i}")
        assert (await c.post("/x", content=b"b" * 200_000)).content == b"b" * 200_000


@on_puff
async def test_django_hello() -> None:
    pytest.importorskip("django")
    from django.conf import settings

    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], SECRET_KEY="x", DEBUG=False)
    import django
    from django.core.handlers.asgi import ASGIHandler

    django.setup(set_prefix=False)
    async with client(ASGIHandler()) as c:
        for i in range(3):
            assert (await c.get(f"/hello/{i}/?q=1")).text == f"/hello/{i}/ 1"
            assert (await c.get("/async/")).text == "async"
        assert (await c.get("/nope")).status_code == 404


try:
    from django.http import HttpResponse
    from django.urls import path

    async def _async_view(request: Any) -> Any:
        await asyncio.sleep(0)
        return HttpResponse("async")

    urlpatterns = [
        path(
            "hello/<int:n>/", lambda request, n: HttpResponse(f"{request.path} {request.GET['q']}")
        ),
        path("async/", _async_view),
    ]
except ImportError:
    pass


# ---- the binding -----------------------------------------------------------------------------


def nothing(*args: Any) -> None:
    pass


@on_puff
async def test_listen_raises_oserror_with_the_reason() -> None:
    loop = asyncio.get_running_loop()
    server = AsgiServer(loop, nothing, on_error=nothing)
    port = server.listen(host="127.0.0.1")
    with pytest.raises(OSError) as e:
        server.listen(host="127.0.0.1", port=port)
    assert e.value.errno
    with pytest.raises(OSError):
        server.listen(unix_path="/nowhere/at/all")
    with pytest.raises(OSError):
        server.listen(host="name.that.is.not.there.invalid")
    stopped = asyncio.Event()
    server.stop(0, stopped.set)
    await asyncio.wait_for(stopped.wait(), WAIT_S)
    assert not server.is_open
    with pytest.raises(RuntimeError):
        server.listen(host="127.0.0.1")
    with pytest.raises(RuntimeError):
        server.stop(0)


@on_puff
async def test_options_are_checked() -> None:
    loop = asyncio.get_running_loop()
    with pytest.raises(TypeError, match="no_such"):
        AsgiServer(loop, nothing, on_error=nothing, options={"no_such": 1})
    with pytest.raises((OverflowError, TypeError)):
        AsgiServer(loop, nothing, on_error=nothing, options={"max_fields": -1})
    with pytest.raises(TypeError):
        AsgiServer(asyncio.SelectorEventLoop, nothing, on_error=nothing)


@on_puff
async def test_statistics_count() -> None:
    async def hello(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body"})

    async with serving(hello) as s:
        c = await s.connect()
        await c.get()
        await c.get()
        c.send("nonsense\r\n\r\n")
        assert (await c.response()).status == 400
        stats = s.server.statistics()
        assert (stats["accepted"], stats["requests"], stats["refused"]) == (1, 2, 1)


@on_puff
async def test_debug_mode_serves_too() -> None:
    asyncio.get_running_loop().set_debug(True)
    async with client() as c:
        assert (await c.get("/items/1")).status_code == 200
        assert (await c.get("/stream")).status_code == 200
