"""What test_django_flows.py runs, each function in an interpreter of its own: Django's ORM, signals
and handlers on a loop of ours, sqlite behind them.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import sqlite3
import sys
import threading
from collections.abc import Callable
from typing import Any

import django
from asgiref.sync import async_to_sync, sync_to_async
from django.conf import settings

settings.configure(
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": sys.argv[1]}},
    INSTALLED_APPS=[],
    ROOT_URLCONF=__name__,
    ALLOWED_HOSTS=["*"],
    MIDDLEWARE=[f"{__name__}.sync_middleware", f"{__name__}.AsyncMiddleware"],
    USE_TZ=True,
)
django.setup()

from django.core.exceptions import SynchronousOnlyOperation  # noqa: E402
from django.db import connection, connections, models, transaction  # noqa: E402
from django.db.models.signals import post_save  # noqa: E402
from django.dispatch import Signal  # noqa: E402
from django.http import HttpResponse, StreamingHttpResponse  # noqa: E402
from django.test import AsyncClient  # noqa: E402
from django.urls import path  # noqa: E402

import puff  # noqa: E402

BOUND_S = 20.0


class Row(models.Model):
    name = models.CharField(max_length=40)

    class Meta:
        app_label = "flows"


def make_table() -> None:
    with connection.schema_editor() as editor:
        editor.create_model(Row)
    with connection.cursor() as cursor:
        cursor.execute("pragma journal_mode=wal")
    connection.close()


def n_open() -> int:
    """Connections that are alive. (Descriptors sqlite closes when nobody locks the file.)"""
    gc.collect()
    return sum(isinstance(thing, sqlite3.Connection) for thing in gc.get_objects())


def wrapper() -> Any:
    """The flow's own DatabaseWrapper."""
    connection.ensure_connection()
    return connections["default"]


names = sync_to_async(lambda: sorted(Row.objects.values_list("name", flat=True)))


# ---- the ORM -------------------------------------------------------------------------------------


async def the_async_orm() -> None:
    thread = threading.get_ident()
    assert await Row.objects.acreate(name="a")
    await Row.objects.abulk_create([Row(name="b"), Row(name="c")])
    assert await Row.objects.acount() == 3
    assert [row.name async for row in Row.objects.order_by("name")] == ["a", "b", "c"]
    row = await Row.objects.aget(name="b")
    row.name = "B"
    await row.asave()
    await row.arefresh_from_db()
    await Row.objects.filter(name="c").adelete()
    assert await names() == ["B", "a"]
    assert await sync_to_async(threading.get_ident)() == thread


async def one_task_has_one_connection() -> None:
    first = await sync_to_async(wrapper)()

    def below() -> Any:
        assert wrapper() is first
        return async_to_sync(again)()

    async def again() -> Any:
        return await sync_to_async(wrapper)()

    assert await sync_to_async(below)() is first
    assert await puff.to_greenlet(wrapper) is first
    assert await sync_to_async(wrapper, thread_sensitive=False)() is first


async def each_task_and_each_greenlet_has_its_own() -> None:
    async def in_task() -> Any:
        one = await sync_to_async(wrapper)()
        await asyncio.sleep(0.01)
        assert await sync_to_async(wrapper)() is one
        return one

    def in_greenlet() -> Any:
        one = wrapper()
        puff.sleep_ms(10)
        assert wrapper() is one
        return one

    found = await asyncio.gather(*[in_task() for _ in range(5)])
    found += await puff.join_all([puff.spawn(in_greenlet) for _ in range(5)])
    assert len({id(each) for each in found}) == 10
    for each in found:
        each.connection.close()


async def connections_end_with_their_flow() -> None:
    before = n_open()

    async def in_task() -> None:
        await Row.objects.acount()

    def in_greenlet() -> None:
        Row.objects.count()

    await asyncio.gather(*[asyncio.create_task(in_task()) for _ in range(20)])
    await puff.join_all([puff.spawn(in_greenlet) for _ in range(20)])
    await asyncio.sleep(0)  # gather() keeps its Tasks until here
    assert n_open() <= before


async def sync_code_of_a_coroutine_is_refused_and_of_a_greenlet_is_not() -> None:
    try:
        Row.objects.count()
    except SynchronousOnlyOperation:
        pass
    else:
        raise AssertionError("Django has not seen that this is a coroutine")
    assert await puff.to_greenlet(Row.objects.count) == 0
    assert await puff.spawn(Row.objects.count).join() == 0
    try:
        Row.objects.count()
    except SynchronousOnlyOperation:
        return
    raise AssertionError("after the switches Django does not see it any more")


# ---- transactions --------------------------------------------------------------------------------


async def a_transaction_is_its_flows_own() -> None:
    inside = asyncio.Event()

    def writes() -> None:
        with transaction.atomic():
            Row.objects.create(name="mine")
            inside.set()
            puff.sleep_ms(30)
            assert [*Row.objects.values_list("name", flat=True)] == ["mine"]
            assert connection.in_atomic_block

    async def looks() -> None:
        await asyncio.wait_for(inside.wait(), BOUND_S)
        assert await names() == []
        assert not await sync_to_async(lambda: connection.in_atomic_block)()

    await asyncio.gather(sync_to_async(writes)(), looks())
    assert await names() == ["mine"]


async def an_exception_rolls_back() -> None:
    def fails() -> None:
        with transaction.atomic():
            Row.objects.create(name="outer")
            try:
                with transaction.atomic():
                    Row.objects.create(name="inner")
                    puff.sleep_ms(0)
                    raise KeyError
            except KeyError:
                pass
            puff.sleep_ms(0)
            Row.objects.create(name="after")
        with transaction.atomic():
            Row.objects.create(name="lost")
            puff.sleep_ms(0)
            raise ZeroDivisionError

    for run in (sync_to_async(fails), lambda: puff.spawn(fails).join()):
        try:
            await run()
        except ZeroDivisionError:
            assert await names() == ["after", "outer"]
            await Row.objects.all().adelete()
        else:
            raise AssertionError("it has not failed")


async def cancelled_or_killed_in_a_transaction_it_rolls_back() -> None:
    inside = asyncio.Event()

    def waits() -> None:
        with transaction.atomic():
            Row.objects.create(name="lost")
            inside.set()
            puff.sleep_ms(60_000)

    task = asyncio.create_task(sync_to_async(waits)())
    await asyncio.wait_for(inside.wait(), BOUND_S)
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    assert await names() == []
    inside.clear()
    g = puff.spawn(waits)
    await asyncio.wait_for(inside.wait(), BOUND_S)
    g.kill()
    assert isinstance(await g.join(), puff.GreenletExit)
    await Row.objects.acreate(name="next")  # nobody holds the write lock
    assert await names() == ["next"]


async def on_commit_runs_when_the_flow_commits() -> None:
    seen: list[str] = []

    def writes(name: str, ms: int) -> None:
        with transaction.atomic():
            transaction.on_commit(lambda: seen.append(name))
            puff.sleep_ms(ms)
            assert name not in seen

    await asyncio.gather(sync_to_async(writes)("slow", 30), sync_to_async(writes)("fast", 1))
    assert seen == ["fast", "slow"]


# ---- signals -------------------------------------------------------------------------------------

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


async def signals_reach_sync_and_async_receivers() -> None:
    thread, seen, signal = threading.get_ident(), [], Signal()

    def in_sync(sender: Any, **kwargs: Any) -> str:
        assert threading.get_ident() == thread
        puff.sleep_ms(1)
        Row.objects.create(name=f"sync {kwargs['n']} {who.get()}")
        return "sync"

    async def in_async(sender: Any, **kwargs: Any) -> str:
        await asyncio.sleep(0)
        await Row.objects.acreate(name=f"async {kwargs['n']} {who.get()}")
        return "async"

    def fails(sender: Any, **kwargs: Any) -> None:
        puff.sleep_ms(0)
        raise KeyError("receiver")

    who.set("caller")
    signal.connect(in_sync)
    signal.connect(in_async)
    answers = await signal.asend(None, n=1)
    assert sorted(answer for _, answer in answers) == ["async", "sync"]
    assert await names() == ["async 1 caller", "sync 1 caller"]
    # From sync code: the async receiver by async_to_sync.
    answers = await sync_to_async(signal.send)(None, n=2)
    assert sorted(answer for _, answer in answers) == ["async", "sync"]
    signal.connect(fails)
    answers = await signal.asend_robust(None, n=3)
    assert [type(a) for _, a in answers if isinstance(a, Exception)] == [KeyError]
    assert len(await names()) == 6

    def saved(sender: Any, instance: Row, **kwargs: Any) -> None:
        seen.append((instance.name, connections["default"], who.get()))

    post_save.connect(saved, sender=Row)
    await Row.objects.acreate(name="signalled")
    assert seen == [("signalled", await sync_to_async(wrapper)(), "caller")]


# ---- the ASGI handler ----------------------------------------------------------------------------


def sync_middleware(get_response: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def middleware(request: Any) -> Any:
        puff.sleep_ms(0)
        response = get_response(request)
        puff.sleep_ms(0)
        response["x-sync"] = "1"
        return response

    return middleware


class AsyncMiddleware:
    async_capable = True
    sync_capable = False

    def __init__(self, get_response: Callable[[Any], Any]) -> None:
        self.get_response = get_response
        from asgiref.sync import markcoroutinefunction

        markcoroutinefunction(self)

    async def __call__(self, request: Any) -> Any:
        await asyncio.sleep(0)
        response = await self.get_response(request)
        response["x-async"] = "1"
        return response


def sync_view(request: Any, name: str) -> HttpResponse:
    puff.sleep_ms(1)  # not in the transaction: a second writer of sqlite would block the thread
    with transaction.atomic():
        Row.objects.create(name=name)
        found = Row.objects.filter(name=name).count()
    return HttpResponse(f"{name} {found}")


async def async_view(request: Any, name: str) -> HttpResponse:
    await Row.objects.acreate(name=name)
    await asyncio.sleep(0.001)
    return HttpResponse(f"{name} {await Row.objects.filter(name=name).acount()}")


async def stream_view(request: Any, name: str) -> StreamingHttpResponse:
    async def parts() -> Any:
        for n in range(3):
            yield f"{name} {n} {await Row.objects.acount() >= 0};"

    return StreamingHttpResponse(parts())


def failing_view(request: Any, name: str) -> HttpResponse:
    puff.sleep_ms(0)
    raise ZeroDivisionError(name)


urlpatterns = [
    path("sync/<name>", sync_view),
    path("async/<name>", async_view),
    path("stream/<name>", stream_view),
    path("fail/<name>", failing_view),
]


async def requests_through_sync_and_async_middleware() -> None:
    client = AsyncClient(raise_request_exception=False)

    async def get(kind: str, n: int) -> None:
        response = await client.get(f"/{kind}/{kind}{n}")
        assert (response["x-sync"], response["x-async"]) == ("1", "1")
        assert response.content.decode() == f"{kind}{n} 1"

    await asyncio.gather(*[get(kind, n) for n in range(10) for kind in ("sync", "async")])
    response = await client.get("/stream/s")
    parts = [part.decode() async for part in response.streaming_content]
    assert "".join(parts) == "s 0 True;s 1 True;s 2 True;"
    assert (await client.get("/fail/x")).status_code == 500
    assert await Row.objects.acount() == 20
    await asyncio.sleep(0)  # gather() keeps its Tasks until here
    assert n_open() == 1  # our own


async def on_another_loop_it_is_asgirefs_own() -> None:
    """On asyncio's own loop, in this very process, asgiref's threads do the work."""

    async def on_asyncio() -> bool:
        assert await Row.objects.acount() == 0
        return await sync_to_async(threading.get_ident)() != threading.get_ident()

    def run() -> bool:
        loop = asyncio.SelectorEventLoop()
        try:
            return loop.run_until_complete(on_asyncio())
        finally:
            loop.close()

    assert await asyncio.to_thread(run)


async def within_bound(name: str) -> None:
    await asyncio.wait_for(globals()[name](), BOUND_S)


if __name__ == "__main__":
    make_table()
    puff.run(within_bound(sys.argv[2]))
    print("fine")
