"""sync_to_async() and async_to_sync() on Puff's loop, in every asgiref from 3.5 on."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import inspect
import os
import subprocess
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import asgiref
import asgiref_versions
import greenlet
import pytest
from asgiref.local import Local
from asgiref.sync import (
    AsyncToSync,
    SyncToAsync,
    ThreadSensitiveContext,
    async_to_sync,
    sync_to_async,
)

import puff
from puff.policy import Loop

VERSION = tuple(int(part) for part in asgiref.__version__.split("."))
HERE = Path(__file__)

var: contextvars.ContextVar[str] = contextvars.ContextVar("var", default="unset")

each_kind = pytest.mark.parametrize("sensitive", [True, False], ids=["sensitive", "not"])


def since(*version):
    return pytest.mark.skipif(version > VERSION, reason=f"asgiref {version} has it")


def nap(value=None):
    """Sync code that waits: by a puff call, and by asgiref."""
    puff.sleep_ms(1)
    return async_to_sync(echo)(value)


async def echo(value):
    await asyncio.sleep(0)
    return value


# ---- every version -------------------------------------------------------------------------------


@pytest.mark.timeout(180)
@pytest.mark.parametrize("version", asgiref_versions.VERSIONS)
@pytest.mark.skipif("ASGIREF_VERSION" in os.environ, reason="this is that run")
def test_all_of_this_file_holds_in(version) -> None:
    path = [str(asgiref_versions.package(version)), *sys.path]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path), "ASGIREF_VERSION": version}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=170)
    assert done.returncode == 0, done.stdout[-5000:]


def test_it_is_the_version_that_was_asked_for() -> None:
    assert os.environ.get("ASGIREF_VERSION", asgiref.__version__) == asgiref.__version__


# ---- where it runs -------------------------------------------------------------------------------


@each_kind
def test_sync_code_runs_on_a_greenlet_of_this_thread(sensitive) -> None:
    def where():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return threading.get_ident(), puff.is_greenlet()

    async def main():
        return await sync_to_async(where, thread_sensitive=sensitive)()

    assert puff.run(main()) == (threading.get_ident(), True)


@each_kind
def test_sync_code_that_waits_lets_the_loop_run(sensitive) -> None:
    order = []

    def sync(n):
        order.append(("begins", n))
        nap()
        order.append(("ends", n))
        return n

    async def main():
        call = sync_to_async(sync, thread_sensitive=sensitive)
        return await asyncio.gather(*(call(n) for n in range(50)))

    assert puff.run(main()) == list(range(50))
    assert order[:50] == [("begins", n) for n in range(50)]


def test_async_code_runs_in_the_task_of_the_caller() -> None:
    async def task():
        return asyncio.current_task()

    async def main():
        return await sync_to_async(async_to_sync(task))() is asyncio.current_task()

    assert puff.run(main())


@pytest.mark.parametrize("options", [{}, {"force_new_loop": True}])
def test_async_to_sync_in_a_spawned_greenlet(options) -> None:
    def sync():
        return async_to_sync(loop_of, **options)()

    async def loop_of():
        await asyncio.sleep(0)
        return asyncio.get_running_loop()

    async def main():
        return await puff.spawn(sync).join() is asyncio.get_running_loop()

    assert puff.run(main())


@each_kind
def test_nesting_in_both_directions(sensitive) -> None:
    async def up(n):
        await asyncio.sleep(0)
        return await sync_to_async(down, thread_sensitive=sensitive)(n)

    def down(n):
        return async_to_sync(up)(n - 1) if n else nap(threading.get_ident())

    async def main():
        values = await asyncio.gather(up(50), up(7), puff.spawn(down, 50).join())
        assert values == [threading.get_ident()] * 3

    puff.run(main())


def test_a_coroutine_may_be_made_outside_of_the_loop() -> None:
    assert puff.run(sync_to_async(nap)(5)) == 5
    assert puff.spawn(lambda: async_to_sync(sync_to_async(nap))(6)).join() == 6


def test_in_a_coroutine_async_to_sync_refuses_as_ever() -> None:
    async def main():
        with pytest.raises(RuntimeError, match="same thread as an async event loop"):
            async_to_sync(echo)(1)

    puff.run(main())


def test_thread_sensitive_context_needs_no_thread() -> None:
    async def main():
        async with ThreadSensitiveContext():
            return await asyncio.gather(*(sync_to_async(threading.get_ident)() for _ in range(3)))

    assert puff.run(main()) == [threading.get_ident()] * 3


# ---- where asgiref's own code goes on ------------------------------------------------------------


def test_an_explicit_executor_is_used() -> None:
    async def main():
        with ThreadPoolExecutor(1) as executor:
            thread = await asyncio.get_running_loop().run_in_executor(executor, threading.get_ident)
            call = sync_to_async(threading.get_ident, thread_sensitive=False, executor=executor)
            assert await call() == thread != threading.get_ident()

    puff.run(main())


@since(3, 13)
def test_the_executor_of_a_thread_sensitive_context_is_used() -> None:
    async def main():
        with ThreadPoolExecutor(1) as executor:
            thread = await asyncio.get_running_loop().run_in_executor(executor, threading.get_ident)
            async with ThreadSensitiveContext(executor=executor):
                assert await sync_to_async(threading.get_ident)() == thread
            assert await sync_to_async(threading.get_ident)() == threading.get_ident()

    puff.run(main())


@pytest.mark.leaves("asgiref keeps its thread")
def test_on_another_loop_it_is_a_thread() -> None:
    async def main():
        return await sync_to_async(threading.get_ident)()

    loop = asyncio.SelectorEventLoop()
    try:
        assert loop.run_until_complete(main()) != threading.get_ident()
    finally:
        loop.close()
    assert puff.run(main()) == threading.get_ident()


def test_without_a_loop_async_to_sync_makes_one() -> None:
    async def inner():
        return type(asyncio.get_running_loop()), threading.get_ident()

    loop_type, thread = async_to_sync(inner)()
    assert loop_type is not Loop
    assert thread != threading.get_ident()


def test_thread_sensitive_code_below_a_thread_runs_in_that_thread() -> None:
    """asgiref's promise for code whose outermost program is sync: connections belong to threads."""

    async def main():
        loop_thread = threading.get_ident()

        def sync():
            return threading.get_ident(), async_to_sync(inner)()

        async def inner():
            await asyncio.sleep(0)
            sensitive = await sync_to_async(deeper)()
            other = await sync_to_async(deeper, thread_sensitive=False)()
            return threading.get_ident(), sensitive, other

        def deeper():
            return threading.get_ident(), async_to_sync(innermost)()

        async def innermost():
            return await sync_to_async(threading.get_ident)()

        with ThreadPoolExecutor(1) as executor:
            call = sync_to_async(sync, thread_sensitive=False, executor=executor)
            thread, (inner_thread, sensitive, other) = await call()
        assert inner_thread == loop_thread != thread
        assert sensitive == (thread, thread)
        assert other == (loop_thread, loop_thread)
        assert await sync_to_async(threading.get_ident)() == loop_thread

    puff.run(main())


def test_a_thread_above_is_forgotten_when_it_has_its_answer() -> None:
    def sync():
        before = async_to_sync(inner)()
        return before, contextvars.copy_context()

    async def inner():
        return await sync_to_async(threading.get_ident)()

    thread, context = threading.get_ident(), contextvars.copy_context()
    assert sync()[0] == thread
    assert puff.run(inner()) == thread
    del context


# ---- objects -------------------------------------------------------------------------------------


def test_classes_functions_and_markers_are_asgirefs() -> None:
    call = sync_to_async(nap)
    assert type(call) is SyncToAsync
    assert type(async_to_sync(echo)) is AsyncToSync
    assert call.__name__ == "nap"
    assert asyncio.iscoroutinefunction(call)
    assert asyncio.iscoroutinefunction(SyncToAsync.__call__)
    if sys.version_info >= (3, 12):  # before, it has no way to mark what is no `async def`
        assert inspect.iscoroutinefunction(SyncToAsync.__call__)
    coroutine = call()
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()
    if VERSION >= (3, 7):
        with pytest.raises(TypeError):
            sync_to_async(call)


def test_decorators_and_methods() -> None:
    class Thing:
        n = 3

        @sync_to_async
        def plain(self, m):
            return nap(self.n * m)

        @async_to_sync
        async def back(self, m):
            return await self.plain(m)

    class Made:
        n = 4

        @sync_to_async(thread_sensitive=False)
        def factory(self, m):
            return nap(self.n * m)

    async def main():
        assert await Thing().plain(2) == 6
        assert await Made().factory(2) == 8
        assert await sync_to_async(Thing().back)(3) == 9

    puff.run(main())


def test_arguments_named_as_those_of_the_machinery() -> None:
    def sync(**kwargs):
        return kwargs

    async def main():
        names = {"fn": 1, "func": 2, "loop": 3, "context": 4, "args": 5}
        assert await sync_to_async(sync)(**names) == names
        try:
            raise LookupError
        except LookupError:
            assert await sync_to_async(sync)(**names) == names

    puff.run(main())


def test_a_subclass_with_a_handler_around_the_function() -> None:
    """As channels.db.database_sync_to_async."""
    calls = []
    loop_before = getattr(SyncToAsync.threadlocal, "main_event_loop", None)

    class Database(SyncToAsync):
        def thread_handler(self, loop, *args, **kwargs):
            assert isinstance(loop, Loop)
            calls.append("before")
            try:
                return super().thread_handler(loop, *args, **kwargs)
            finally:
                calls.append("after")

    def sync(a, b=0):
        calls.append((nap(a), b, repr(sys.exc_info()[1]), threading.get_ident()))
        return a + b

    async def main():
        try:
            raise LookupError
        except LookupError:
            return await Database(sync)(1, b=2)

    assert puff.run(main()) == 3
    assert calls == ["before", (1, 2, "LookupError()", threading.get_ident()), "after"]
    assert getattr(SyncToAsync.threadlocal, "main_event_loop", None) is loop_before


def test_never_awaited_warns_as_a_coroutine_does() -> None:
    async def main():
        with pytest.warns(RuntimeWarning, match="never awaited"):
            sync_to_async(nap)()
            gc.collect()

    puff.run(main())


# ---- exceptions ----------------------------------------------------------------------------------


@each_kind
def test_exceptions_come_back_with_their_traceback(sensitive) -> None:
    def broken():
        nap()
        raise LookupError("here")

    async def middle():
        await sync_to_async(broken, thread_sensitive=sensitive)()

    async def main():
        await sync_to_async(async_to_sync(middle), thread_sensitive=sensitive)()

    with pytest.raises(LookupError, match="here") as caught:
        puff.run(main())
    names = [frame.name for frame in traceback.extract_tb(caught.tb)]
    assert names.index("main") < names.index("middle") < names.index("broken")


def test_both_see_the_exception_that_their_caller_handles() -> None:
    def sync():
        try:
            raise KeyError(2)
        except KeyError:
            return repr(sys.exc_info()[1]), async_to_sync(handled)(), repr(sys.exc_info()[1])

    def just_look():
        return repr(sys.exc_info()[1])

    async def handled():
        before = repr(sys.exc_info()[1])
        await asyncio.sleep(0)
        return before, repr(sys.exc_info()[1])

    async def main():
        assert await sync_to_async(just_look)() == "None"
        try:
            raise ValueError(1)
        except ValueError as exc:
            assert await sync_to_async(just_look)() == "ValueError(1)"
            inner = ("KeyError(2)", "KeyError(2)")
            assert await sync_to_async(sync)() == ("KeyError(2)", inner, "KeyError(2)")
            assert sys.exc_info()[1] is exc
        assert await puff.spawn(sync).join() == ("KeyError(2)", inner, "KeyError(2)")
        assert sys.exc_info()[1] is None

    puff.run(main())


# ---- cancellation --------------------------------------------------------------------------------


def test_cancelling_the_task_is_raised_in_the_sync_code_and_below() -> None:
    seen = []

    def sync():
        try:
            async_to_sync(wait)()
        except asyncio.CancelledError:
            seen.append("sync")
            raise

    async def wait():
        try:
            seen.append("waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("async")
            raise

    async def main():
        task = asyncio.create_task(sync_to_async(sync)())
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    puff.run(main())
    assert seen == ["waits", "async", "sync"]


def test_killing_a_greenlet_cancels_what_it_awaits() -> None:
    seen = []

    async def wait():
        try:
            seen.append("waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("async")
            raise

    async def main():
        killed = puff.spawn(async_to_sync(wait))
        while not seen:
            await asyncio.sleep(0)
        killed.kill()
        assert isinstance(await killed.join(), greenlet.GreenletExit)
        while len(seen) < 2:
            await asyncio.sleep(0)

    puff.run(main())
    assert seen == ["waits", "async"]


def test_a_timeout_around_it() -> None:
    async def main():
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(sync_to_async(puff.sleep_ms)(10_000), 0.01)

    puff.run(main())


# ---- contextvars ---------------------------------------------------------------------------------


@each_kind
def test_contextvars_both_ways(sensitive) -> None:
    async def inner():
        assert var.get() == "sync"
        await asyncio.sleep(0)
        var.set("inner")

    def sync():
        assert var.get() == "main"
        var.set("sync")
        async_to_sync(inner)()
        assert var.get() == "inner"
        var.set("back")

    async def main():
        var.set("main")
        await sync_to_async(sync, thread_sensitive=sensitive)()
        assert var.get() == "back"
        await puff.spawn(spawned).join()
        assert var.get() == "back"

    def spawned():
        assert var.get() == "back"
        var.set("main")
        sync_to_async_below()
        assert var.get() == "back"

    def sync_to_async_below():
        async_to_sync(sync_to_async(sync, thread_sensitive=sensitive))()

    puff.run(main())


@since(3, 11)
def test_a_context_of_its_own() -> None:
    context = contextvars.copy_context()
    context.run(var.set, "given")

    async def inner():
        assert var.get() == "sync"
        await asyncio.sleep(0)
        var.set("inner")
        return await sync_to_async(var.get)()

    def sync(expected):
        assert var.get() == expected
        var.set("sync")
        assert async_to_sync(inner)() == "inner"
        assert var.get() == "inner"
        puff.sleep_ms(1)
        assert var.get() == "inner"

    async def main():
        var.set("main")
        await sync_to_async(sync, context=context)("given")
        assert var.get() == "main"
        assert context[var] == "inner"
        try:
            raise LookupError
        except LookupError:
            await sync_to_async(sync, context=context)("inner")

    puff.run(main())


@since(3, 11)
def test_cancelling_what_is_awaited_in_a_context_of_its_own() -> None:
    seen = []

    async def wait():
        try:
            seen.append("waits")
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("async")
            raise

    async def main():
        context = contextvars.copy_context()
        task = asyncio.create_task(sync_to_async(async_to_sync(wait), context=context)())
        while not seen:
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    puff.run(main())
    assert seen == ["waits", "async"]


# ---- Local ---------------------------------------------------------------------------------------


def test_a_thread_critical_local_belongs_to_a_flow() -> None:
    local = Local(thread_critical=True)

    def enter(value):
        assert not hasattr(local, "x")
        local.x = value
        nap()
        assert local.x == value
        async_to_sync(further)(value)
        assert local.y == value
        del local.y
        with pytest.raises(AttributeError):
            local.y  # noqa: B018

    async def further(value):
        assert getattr(local, "x", "async") == "async"  # it does not go to async code
        await asyncio.sleep(0)
        await sync_to_async(leave)(value)

    def leave(value):
        assert local.x == value
        local.y = value

    async def request(value):
        await sync_to_async(enter)(value)
        assert await sync_to_async(getattr)(local, "x") == value

    async def main():
        local.x = "async"
        tasks = [asyncio.create_task(request(n)) for n in range(20)]
        greenlets = [puff.spawn(enter, n) for n in range(20)]
        await asyncio.gather(*tasks, *(each.join() for each in greenlets))
        assert local.x == "async"
        assert not await sync_to_async(hasattr)(local, "x")

    puff.run(main())
    assert not hasattr(local, "x") or VERSION >= (3, 8)


def test_two_thread_critical_locals_are_two() -> None:
    one, two = Local(thread_critical=True), Local(thread_critical=True)

    def sync():
        one.x, two.x = 1, 2
        nap()
        return one.x, two.x

    async def main():
        return await sync_to_async(sync)()

    assert puff.run(main()) == (1, 2)


def test_a_local_follows_its_task_both_ways() -> None:
    local = Local()

    def sync(value):
        assert local.x == value
        local.x = value + 1
        async_to_sync(inner)(value + 1)
        assert local.x == value + 2

    async def inner(value):
        assert local.x == value
        local.x = value + 1
        await asyncio.sleep(0)

    async def one(value):
        local.x = value
        await sync_to_async(sync)(value)
        assert local.x == value + 2

    async def main():
        await asyncio.gather(*(asyncio.create_task(one(n)) for n in range(0, 100, 10)))

    puff.run(main())


def test_a_local_follows_a_greenlet_into_what_it_awaits() -> None:
    local = Local()

    def sync(value):
        local.x = value
        nap()
        assert local.x == value
        async_to_sync(inner)(value)
        assert local.x == value + 2

    async def inner(value):
        assert local.x == value
        local.x = value + 1
        await sync_to_async(deeper)(value + 1)

    def deeper(value):
        assert local.x == value
        local.x = value + 1

    async def main():
        await asyncio.gather(*(puff.spawn(sync, n).join() for n in range(0, 100, 10)))

    puff.run(main())


def test_locals_of_threads_stay_as_they_were() -> None:
    critical, plain = Local(thread_critical=True), Local()

    def in_thread():
        critical.x = plain.x = 2
        return critical.x, plain.x

    async def main():
        with ThreadPoolExecutor(1) as executor:
            run = asyncio.get_running_loop().run_in_executor
            assert await run(executor, in_thread) == (2, 2)
            assert await sync_to_async(hasattr)(critical, "x") is False

    critical.x = 1
    puff.run(main())
    assert critical.x == 1


def test_a_local_that_has_gone_leaves_no_storage_to_another() -> None:
    def sync():
        for n in range(100):
            local = Local(thread_critical=True)
            assert not hasattr(local, "x")
            local.x = n

    async def main():
        await sync_to_async(sync)()

    puff.run(main())


# ---- import orders -------------------------------------------------------------------------------

CHECK = """
import threading, puff
from asgiref.sync import sync_to_async

assert puff.run(sync_to_async(threading.get_ident)()) == threading.get_ident()
"""


@pytest.mark.parametrize(
    "first",
    [
        "import puff",
        "import puff; puff.new_event_loop().close()",
        "import asgiref.sync",
        "import asgiref.local",
        "from asgiref.sync import sync_to_async",
        "import puff.policy; import asgiref.local; import asgiref.sync",
        "import asgiref.local; import puff.policy; import asgiref.sync",
    ],
)
def test_each_import_order(run_python, first) -> None:
    assert run_python(f"{first}\n{CHECK}", env=dict(os.environ)).stderr == ""


def test_importing_puff_imports_no_asgiref(run_python) -> None:
    run_python("import sys, puff.policy; assert not {m for m in sys.modules if 'asgiref' in m}")


def test_a_reloaded_asgiref_is_served_again(run_python) -> None:
    reload = "import puff.policy, importlib, asgiref.sync; importlib.reload(asgiref.sync)"
    run_python(f"{reload}\n{CHECK}", env=dict(os.environ))


def test_an_asgiref_of_unknown_shape_is_left_alone_with_one_warning(run_python, tmp_path) -> None:
    package = tmp_path / "asgiref"
    package.mkdir()
    (package / "__init__.py").write_text("__version__ = '9.9'\n")
    (package / "local.py").write_text("class Local: pass\n")
    (package / "sync.py").write_text(
        "from .local import Local\n"
        "class SyncToAsync:\n"
        "    async def __call__(self): pass\n"
        "class AsyncToSync: pass\n"
    )
    code = "import asgiref.sync as s; c = s.SyncToAsync.__call__\nimport puff.policy\n"
    code += "assert s.SyncToAsync.__call__ is c; s.SyncToAsync()\n"
    path = [str(tmp_path), *sys.path]
    done = run_python(code, env=os.environ | {"PYTHONPATH": os.pathsep.join(path)})
    assert done.stderr.count("RuntimeWarning: Puff does not know the insides of asgiref 9.9") == 1
