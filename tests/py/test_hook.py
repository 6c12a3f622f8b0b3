"""`uvicorn --loop puff`: the start-up hook, and uvicorn itself, old and new."""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import re
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import hooked
import pytest
from conftest import Serve

pytest.importorskip("uvicorn")

Environment = dict[str, str]


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return hooked.make(tmp_path_factory.mktemp("hooked"))


@pytest.fixture
def say(python: Path, tmp_path: Path) -> Callable[..., str]:
    """`say(code, *flags, **environment)`: what the code prints; anything on stderr fails."""

    def run(code: str, *flags: str, **environment: str) -> str:
        done = subprocess.run(
            [python, *flags, "-c", code],
            env=os.environ | environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


# ---- the hook alone ------------------------------------------------------------------------------

WAITS = "import sys; print([f.__name__ for f in sys.meta_path if f.__module__ == '_puff_hook'])"


def test_hook_waits_in_every_interpreter(say: Callable[..., str]) -> None:
    assert say(WAITS) == "['Finder']"
    assert say(WAITS, "-I") == "['Finder']"


def test_hook_is_off_where_it_must_be(say: Callable[..., str]) -> None:
    guarded = "import sys; print([f for f in sys.meta_path if 'puff' in repr(f)])"
    assert say(guarded, PUFF_NO_HOOK="1") == "[]"
    assert say(guarded, PUFF_NO_HOOK="0") != "[]"
    assert say(guarded, "-S") == "[]"


def test_hook_imports_nothing_but_itself(say: Callable[..., str]) -> None:
    modules = "import sys; print(*sorted(sys.modules))"
    there = say(modules).split()
    assert "puff" not in there
    assert there == say(modules, PUFF_NO_HOOK="1").split()
    assert set(there) - set(say(modules, "-S").split()) >= {"_puff_hook"}


def test_start_file_names_what_the_pth_file_calls() -> None:
    """CPython 3.15 calls the entry points of puff.start instead (PEP 829)."""
    (entry,) = (hooked.PACKAGES / "puff.start").read_text().split()
    module, name = entry.split(":")
    assert callable(pkgutil.resolve_name(entry))
    assert f"import {module}; {module}.{name}()\n" == (hooked.PACKAGES / "puff.pth").read_text()


def test_hook_goes_away_and_uvicorn_is_as_it_was(say: Callable[..., str]) -> None:
    code = """if True:
        import sys, uvicorn.config as config
        print(any(f.__module__ == "_puff_hook" for f in sys.meta_path), "puff" in sys.modules)
        loader = config.__spec__.loader
        print(type(loader).__name__, config.__loader__ is loader, vars(loader).keys())
        print(config.LOOP_FACTORIES["puff"], config.LOOP_FACTORIES["asyncio"])
        config.Config("x:y", loop="puff").get_loop_factory()().close()
    """
    assert say(code).splitlines() == [
        "False False",
        "SourceFileLoader True dict_keys(['name', 'path'])",
        "puff._uvicorn:factory uvicorn.loops.asyncio:asyncio_loop_factory",
    ]


def fake_uvicorn(folder: Path, config: str | None) -> str:
    (folder / "uvicorn").mkdir(parents=True)
    (folder / "uvicorn" / "__init__.py").write_text("")
    if config is not None:
        (folder / "uvicorn" / "config.py").write_text(config)
    return str(folder)


@pytest.mark.parametrize(
    "config", ["", "LOOP_SETUPS = 1", "LOOP_FACTORIES = ()", "def __getattr__(name): raise OSError"]
)
def test_unknown_uvicorn_is_left_alone(
    config: str, say: Callable[..., str], tmp_path: Path
) -> None:
    path = fake_uvicorn(tmp_path / "fake", config)
    assert say("import uvicorn.config as c; print(c.__file__)", PYTHONPATH=path).startswith(path)


def test_errors_of_uvicorn_are_its_own(say: Callable[..., str], tmp_path: Path) -> None:
    path = fake_uvicorn(tmp_path / "fails", "1 / 0\n")
    code = """if True:
        import traceback
        for attempt in range(2):
            try: import uvicorn.config
            except ZeroDivisionError: traceback.print_exc(file=__import__("sys").stdout)
    """
    assert say(code, PYTHONPATH=path).count("ZeroDivisionError: division by zero") == 2
    path = fake_uvicorn(tmp_path / "lacks", None)
    code = """if True:
        try: import uvicorn.config
        except ModuleNotFoundError as exc: print(exc)
    """
    assert say(code, PYTHONPATH=path) == "No module named 'uvicorn.config'"


def test_finders_that_raise_are_not_ours_to_judge(say: Callable[..., str]) -> None:
    code = """if True:
        import sys
        class Bad:
            def find_spec(name, path=None, target=None):
                if name == "uvicorn.config": raise OSError("bad finder")
        sys.meta_path.append(Bad); sys.meta_path.insert(1, Bad)
        try: import uvicorn.config
        except OSError as exc: print(exc)
        while Bad in sys.meta_path: sys.meta_path.remove(Bad)
        import uvicorn.config
        print("puff" in uvicorn.config.LOOP_FACTORIES)
    """
    assert say(code).splitlines() == ["bad finder", "True"]


# ---- uvicorn -------------------------------------------------------------------------------------

APP = """
import asyncio, json, os

started = False

async def app(scope, receive, send):
    global started
    if scope["type"] == "lifespan":
        while True:
            kind = (await receive())["type"]
            started = kind == "lifespan.startup"
            await send({"type": kind + ".complete"})
            if not started:
                return
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            await send({"type": "websocket.send", "text": message["text"].upper()})
        return
    length = 0
    while (message := await receive()).get("more_body"):
        length += len(message["body"])
    length += len(message["body"])
    loop = asyncio.get_running_loop()
    told = {"loop": type(loop).__module__, "pid": os.getpid(), "started": started, "got": length}
    body = json.dumps(told | {"edition": 1}).encode()
    headers = [(b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
"""

RUNNING = re.compile(r"running on (http://127\.0\.0\.1:\d+)")
Uvicorn = Callable[..., Serve]


@pytest.fixture
def uvicorn(python: Path, tmp_path: Path) -> Iterator[Uvicorn]:
    """`uvicorn(*flags, version=None)`: a server with --loop puff on any port, stopped after us."""
    (tmp_path / "choosing_app.py").write_text(APP)
    with contextlib.ExitStack() as stack:

        def start(*flags: str, version: str | None = None) -> Serve:
            path = {"PYTHONPATH": str(hooked.old("uvicorn", version))} if version else {}
            argv = [str(python), "-m", "uvicorn", "--loop", "puff", "--port", "0", *flags]
            environment = os.environ | {"PYTHONPATH": ""} | path
            server = Serve([*argv, "choosing_app:app"], tmp_path, environment)
            stack.callback(server.stop)
            return server

        yield start


def get(server: Serve, data: bytes | None = None) -> dict[str, object]:
    url = server.wait_for(RUNNING).group(1)
    with urllib.request.urlopen(url, data, timeout=20) as answer:
        told: dict[str, object] = json.loads(answer.read())
        return told


def get_edition(server: Serve, edition: int, timeout: float = 20) -> dict[str, object]:
    """For servers of several processes: the address is said before anybody listens there."""
    deadline = time.monotonic() + timeout
    told: dict[str, object] = {}
    while told.get("edition") != edition and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            told = get(server)
        time.sleep(0.02)
    return told


VERSIONS = [None, "0.22.0", "0.35.0", "0.36.0"]


@pytest.mark.parametrize("version", VERSIONS)
def test_uvicorn_serves_on_puffs_loop(version: str | None, uvicorn: Uvicorn) -> None:
    server = uvicorn(version=version)
    told = get(server)
    assert told["loop"] == "puff.policy" and told["started"]
    server.stop()
    assert "Application shutdown complete" in server.output
    assert "Traceback" not in server.output


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_uvicorns_protocols_work(http: str, uvicorn: Uvicorn) -> None:
    pytest.importorskip(http)
    server = uvicorn("--http", http)
    for size in (0, 1, 1_000_000):
        assert get(server, b"x" * size)["got"] == size
    assert get(server)["loop"] == "puff.policy"


def test_uvicorns_websockets_work(uvicorn: Uvicorn) -> None:
    client = pytest.importorskip("websockets.sync.client")
    server = uvicorn("--ws", "websockets")
    url = server.wait_for(RUNNING).group(1).replace("http", "ws")
    with client.connect(url, open_timeout=10) as ws:
        for word in ("hello", "x" * 70_000):
            ws.send(word)
            assert ws.recv(timeout=10) == word.upper()


@pytest.mark.parametrize("version", [None, "0.22.0"])
def test_hook_is_in_spawned_workers(version: str | None, uvicorn: Uvicorn) -> None:
    server = uvicorn("--workers", "2", version=version)
    told = get_edition(server, 1)
    assert told["loop"] == "puff.policy" and told["pid"] != server.process.pid


@pytest.mark.parametrize("version", [None, "0.22.0"])
def test_hook_is_in_reloaded_servers(version: str | None, uvicorn: Uvicorn, tmp_path: Path) -> None:
    server = uvicorn("--reload", version=version)
    assert get_edition(server, 1)["loop"] == "puff.policy"
    told: dict[str, object] = {}
    for _ in range(8):  # what changes before the reloader has looked once is not seen to change
        (tmp_path / "choosing_app.py").write_text(APP.replace('"edition": 1', '"edition": 22'))
        if (told := get_edition(server, 22, timeout=4))["edition"] == 22:
            break
    assert told["edition"] == 22 and told["loop"] == "puff.policy"


def test_without_the_hook_uvicorn_says_what_it_knows(python: Path, tmp_path: Path) -> None:
    (tmp_path / "choosing_app.py").write_text(APP)
    environment = os.environ | {"PUFF_NO_HOOK": "1"}
    argv = [str(python), "-m", "uvicorn", "--loop", "puff", "choosing_app:app"]
    done = subprocess.run(
        argv, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode != 0
