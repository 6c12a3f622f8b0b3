"""Each place where users choose a loop, with the real tool. What docs/loop.md shows is run."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import hooked
import pytest
from conftest import RunPython, Serve

import puff

PAGE = Path(__file__).parents[2] / "docs" / "loop.md"
OURS = "puff.policy"
WHERE = "type(asyncio.get_running_loop()).__module__"
policies = pytest.mark.skipif(sys.version_info >= (3, 16), reason="no policies")


def shown(title: str) -> str:
    """The code block of docs/loop.md that begins with this comment."""
    blocks = re.findall(r"```\w+\n(.*?)```", PAGE.read_text(), re.DOTALL)
    (block,) = [b for b in blocks if b.split("\n")[0].lstrip("# ").startswith(title)]
    assert isinstance(block, str)
    return block


async def where() -> str:
    return type(asyncio.get_running_loop()).__module__


# ---- asyncio itself ------------------------------------------------------------------------------


@pytest.mark.skipif(sys.version_info < (3, 12), reason="loop_factory came with 3.12")
def test_asyncio_run_takes_the_factory() -> None:
    assert asyncio.run(where(), loop_factory=puff.new_event_loop) == OURS


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Runner came with 3.11")
def test_runner_takes_the_factory_or_the_class() -> None:
    for factory in (puff.new_event_loop, puff.Loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(where()) == OURS


@policies
def test_policy_makes_every_loop(run_python: RunPython) -> None:
    code = f"""if True:
        import asyncio, warnings, puff
        warnings.simplefilter("error")
        puff.install()
        async def main(): return {WHERE}
        print(asyncio.run(main()), asyncio.run(main()))
        loop = asyncio.new_event_loop(); print(loop.run_until_complete(main())); loop.close()
    """
    assert set(run_python(code).stdout.split()) == {OURS}


@policies
@pytest.mark.parametrize("how", ["policy", "loop_factory"])
def test_isolated_asyncio_test_case(how: str, run_python: RunPython) -> None:
    if how == "loop_factory" and sys.version_info < (3, 13):
        pytest.skip("loop_factory came with 3.13")
    chosen = "loop_factory = puff.Loop" if how == "loop_factory" else "puff.install()"
    code = f"""if True:
        import asyncio, unittest, puff
        class Tests(unittest.IsolatedAsyncioTestCase):
            {chosen}
            async def asyncSetUp(self): self.at = {WHERE}
            async def test_loop(self): self.assertEqual((self.at, {WHERE}), ({OURS!r}, {OURS!r}))
        unittest.main()
    """
    assert "OK" in run_python(code).stderr


# ---- anyio and the plugins of pytest -------------------------------------------------------------


def test_anyio_takes_the_factory() -> None:
    anyio = pytest.importorskip("anyio")

    async def main() -> str:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.sleep, 0)
        return await where()

    assert anyio.run(main, backend_options={"loop_factory": puff.new_event_loop}) == OURS


Pytest = Callable[..., str]


@pytest.fixture
def inner_pytest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pytest:
    """`inner_pytest(conftest, tests, *paths)`: what a pytest of its own prints."""

    def run(conftest: str, tests: str, *paths: Path) -> str:
        (tmp_path / "conftest.py").write_text(conftest)
        (tmp_path / "test_inner.py").write_text(tests)
        (tmp_path / "pytest.ini").write_text("[pytest]\n")
        where = os.pathsep.join([*map(str, paths), *filter(None, sys.path)])
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", str(tmp_path)],
            env=os.environ | {"PYTHONPATH": where},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


ASYNCIO_TESTS = f"""
import asyncio, pytest, pytest_asyncio

@pytest_asyncio.fixture
async def place():
    yield {WHERE}

@pytest.mark.asyncio
async def test_loop(place):
    assert place == {WHERE} == {OURS!r}
    await asyncio.sleep(0)
"""


def test_pytest_asyncio_by_loop_factories(inner_pytest: Pytest) -> None:
    if not hasattr(pytest.importorskip("pytest_asyncio.plugin"), "_asyncio_loop_factory"):
        pytest.skip("pytest-asyncio before 1.4")
    out = inner_pytest(shown("conftest.py, pytest-asyncio 1.4"), ASYNCIO_TESTS)
    assert "1 passed" in out and "warning" not in out


@policies
@pytest.mark.parametrize("old", [False, True])
def test_pytest_asyncio_by_policy(old: bool, inner_pytest: Pytest) -> None:
    wanted = [("pytest-asyncio", "0.23.8"), ("pytest", "8.3.5")] if old else []
    paths = [hooked.old(*package) for package in wanted]
    out = inner_pytest(shown("conftest.py, pytest-asyncio 0.23"), ASYNCIO_TESTS, *paths)
    assert "1 passed" in out and ("asyncio-0.23.8" in out) == old


def test_anyios_plugin_takes_the_factory(inner_pytest: Pytest) -> None:
    pytest.importorskip("anyio")
    tests = f"""
import anyio, asyncio, pytest

@pytest.mark.anyio
async def test_loop():
    await anyio.sleep(0)
    assert {WHERE} == {OURS!r}
"""
    assert "1 passed" in inner_pytest(shown("conftest.py, anyio"), tests)


# ---- servers -------------------------------------------------------------------------------------

ASGI = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] == "lifespan":
        while (message := await receive())["type"] != "lifespan.shutdown":
            await send({"type": message["type"] + ".complete"})
        return await send({"type": "lifespan.shutdown.complete"})
    while (await receive()).get("more_body"):
        pass
    body = type(asyncio.get_running_loop()).__module__.encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""
AIOHTTP = """
import asyncio
import aiohttp
from aiohttp import web

async def index(request):
    return web.Response(text=type(asyncio.get_running_loop()).__module__)

async def make():
    app = web.Application()
    app.router.add_get("/", index)
    return app
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., Serve]]:
    """`program(*argv)`: a running server, in a folder with both apps; stopped at the end."""
    (tmp_path / "asgi_app.py").write_text(ASGI)
    (tmp_path / "aiohttp_app.py").write_text(AIOHTTP)
    path = os.pathsep.join([str(tmp_path), *sys.path])
    with contextlib.ExitStack() as stack:

        def start(*argv: str) -> Serve:
            server = Serve([sys.executable, *argv], tmp_path, os.environ | {"PYTHONPATH": path})
            stack.callback(server.stop)
            return server

        yield start


def get(server: Serve, says: str) -> str:
    address = server.wait_for(says + r".*(http://127\.0\.0\.1:\d+)").group(1)
    with urllib.request.urlopen(address, timeout=20) as answer:
        return str(answer.read(), "ascii")


Program = Callable[..., Serve]


def test_gunicorn_with_our_worker(program: Program) -> None:
    pytest.importorskip("gunicorn")
    argv = ["-m", "gunicorn", "-w", "2", "-k", "puff.workers.PuffWorker", "-b", "127.0.0.1:0"]
    server = program(*argv, "asgi_app:app")
    assert [get(server, "Listening at") for _ in range(5)] == [OURS] * 5
    server.stop()
    assert "Traceback" not in server.output


@pytest.mark.parametrize("version", ["0.22.0", "0.35.0", "0.36.0"])
def test_our_worker_with_old_uvicorns(version: str, program: Program, tmp_path: Path) -> None:
    pytest.importorskip("gunicorn")
    folder = str(hooked.old("uvicorn", version))
    start = f"import sys; sys.path.insert(0, {folder!r}); import gunicorn.app.wsgiapp as g; g.run()"
    argv = ["-c", start, "-k", "puff.workers.PuffWorker", "-b", "127.0.0.1:0", "asgi_app:app"]
    assert get(program(*argv), "Listening at") == OURS


@pytest.mark.parametrize(
    ("missing", "named"),
    [("gunicorn", "gunicorn"), ("uvicorn", "uvicorn"), ("uvicorn_worker", "uvicorn-worker")],
)
def test_our_worker_names_the_package_that_lacks(
    missing: str, named: str, run_python: RunPython
) -> None:
    if missing != "gunicorn":
        pytest.importorskip("gunicorn")
    hidden = [missing, "uvicorn.workers"] if missing == "uvicorn_worker" else [missing]
    code = f"""if True:
        import sys
        for name in {hidden!r}: sys.modules[name] = None
        try: import puff.workers
        except ImportError as exc: print(exc)
    """
    assert f"puff.workers needs {named}: pip install" in run_python(code).stdout


@policies
@pytest.mark.parametrize(
    ("worker", "flags"),
    [
        ("aiohttp.GunicornWebWorker", ["aiohttp_app:make"]),
        ("asgi", ["--asgi-loop", "asyncio", "asgi_app:app"]),
    ],
)
def test_gunicorns_other_workers_by_policy(
    worker: str, flags: list[str], program: Program, tmp_path: Path
) -> None:
    pytest.importorskip("gunicorn")
    if worker.startswith("aiohttp"):
        pytest.importorskip("aiohttp")
    elif not hasattr(pytest.importorskip("gunicorn.config"), "ASGILoop"):
        pytest.skip("gunicorn before 24")
    (tmp_path / "gunicorn.conf.py").write_text(shown("gunicorn.conf.py"))
    server = program("-m", "gunicorn", "-k", worker, "-b", "127.0.0.1:0", *flags)
    assert get(server, "Listening at") == OURS


def test_hypercorn_served_by_puff_run(program: Program, tmp_path: Path) -> None:
    pytest.importorskip("hypercorn")
    (tmp_path / "main.py").write_text(shown("hypercorn").replace("from app", "from asgi_app"))
    assert get(program("main.py"), "Running on") == OURS


@policies
def test_hypercorns_own_worker_by_policy(program: Program) -> None:
    pytest.importorskip("hypercorn")
    start = (
        "import sys, puff; puff.install(); from hypercorn.__main__ import main; sys.exit(main())"
    )
    argv = ["-c", start, "--workers", "0", "--bind", "127.0.0.1:0", "asgi_app:app"]
    assert get(program(*argv), "Running on") == OURS


def test_aiohttp_takes_a_loop(program: Program) -> None:
    pytest.importorskip("aiohttp")
    start = """if True:
        import aiohttp_app, puff
        from aiohttp import web
        said = lambda text: print(text, flush=True)
        web.run_app(aiohttp_app.make(), host="127.0.0.1", port=0, loop=puff.Loop(), print=said)
    """
    assert get(program("-c", start), "Running on") == OURS


def test_aiohttps_client_works(program: Program, run_python: RunPython) -> None:
    pytest.importorskip("aiohttp")
    pytest.importorskip("gunicorn")
    argv = ["-m", "gunicorn", "-k", "puff.workers.PuffWorker", "-b", "127.0.0.1:0"]
    server = program(*argv, "asgi_app:app")
    assert get(server, "Listening at") == OURS
    url = server.wait_for(r"Listening at: (\S+)").group(1)
    code = f"""if True:
        import asyncio, aiohttp, puff
        async def main():
            async with aiohttp.ClientSession() as session:
                async def ask():
                    async with session.get({url!r}) as answer: return await answer.text()
                return await asyncio.gather(*[ask() for _ in range(20)])
        print(*puff.run(main()))
    """
    assert run_python(code).stdout.split() == [OURS] * 20


# ---- notebooks -----------------------------------------------------------------------------------


@policies
def test_ipython_awaits_on_our_loop(run_python: RunPython, tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    cell = f"import asyncio; await asyncio.sleep(0.01); print('at', {WHERE})"
    start = f"""if True:
        import puff; puff.install(nested=True)
        import IPython
        IPython.start_ipython(["--no-banner", "--colors=NoColor", "-c", {cell!r}])
    """
    done = run_python(start, env=os.environ | {"IPYTHONDIR": str(tmp_path / "ipython")})
    assert f"at {OURS}" in done.stdout, done.stdout + done.stderr


CELLS = [
    ("import asyncio, puff\nloop = asyncio.get_running_loop()\ntype(loop).__module__", f"'{OURS}'"),
    ("async def later(x):\n    await asyncio.sleep(0.01)\n    return x\nawait later(1)", "1"),
    ("task = asyncio.create_task(later(2))\nloop.run_until_complete(later(3))", "3"),
    ("await task", "2"),
    ("puff.run(later(4))", "4"),
    (
        "async def twice(x):\n    return puff.run(later(x)) + puff.run(later(x))\nawait twice(4)",
        "8",
    ),
    ("loop.run_until_complete(asyncio.gather(later(5), twice(6)))", "[5, 12]"),
    ("import nest_asyncio\nnest_asyncio.apply()\nasyncio.run(later(9))", "9"),
    ("await later(10)", "10"),
]


@pytest.mark.leaves("zmq keeps its context")
@policies
def test_jupyter_kernel_runs_cells_inside_cells(tmp_path: Path) -> None:
    pytest.importorskip("ipykernel")
    client = pytest.importorskip("jupyter_client")
    pytest.importorskip("nest_asyncio")
    spec = json.loads(shown("{"))
    (tmp_path / "kernels" / "puff").mkdir(parents=True)
    (tmp_path / "kernels" / "puff" / "kernel.json").write_text(json.dumps(spec))
    specs = client.kernelspec.KernelSpecManager(kernel_dirs=[str(tmp_path / "kernels")])
    manager = client.KernelManager(kernel_name="puff", kernel_spec_manager=specs)
    environment = {
        "PYTHONPATH": os.pathsep.join(sys.path),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
    }
    manager.start_kernel(env=os.environ | environment, cwd=str(tmp_path))
    channel = manager.client()
    try:
        channel.start_channels()
        channel.wait_for_ready(timeout=30)
        for cell, expected in CELLS:
            assert answer_of(channel, cell) == expected, cell
    finally:
        channel.stop_channels()
        manager.shutdown_kernel(now=True)


def answer_of(channel: object, cell: str) -> str | None:
    """The value that the kernel shows for a cell; its traceback if it failed."""
    said: list[str] = []

    def listen(message: dict[str, dict[str, object]]) -> None:
        content = message["content"]
        if message["header"]["msg_type"] == "execute_result":
            data = content["data"]
            assert isinstance(data, dict)
            said.append(data["text/plain"])
        elif message["header"]["msg_type"] == "error":
            traceback = content["traceback"]
            assert isinstance(traceback, list)
            said.append("\n".join(traceback))

    channel.execute_interactive(cell, timeout=20, output_hook=listen)  # type: ignore[attr-defined]
    return said[-1] if said else None
