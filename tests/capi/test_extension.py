"""A stranger's extension module, compiled against what the installed package ships, on its loop."""

from __future__ import annotations

import asyncio
import importlib.util
import re
import shutil
import socket
import subprocess
import sysconfig
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

puff: Any = pytest.importorskip("puff")
PACKAGE = Path(puff.__file__).parent
SOURCE = Path(__file__).with_name("extension.c")
DOCUMENT = Path(__file__).parents[2] / "docs" / "c-api.md"


def compile_module(source: Path, folder: Path) -> ModuleType:
    if not shutil.which("cc"):
        pytest.skip("no cc here")
    built = folder / f"{source.stem}.so"
    include = [f"-I{PACKAGE / 'include'}", f"-isystem{sysconfig.get_paths()['include']}"]
    flags = ["-std=gnu11", "-Wall", "-Werror", "-shared", "-fPIC", "-pthread"]
    done = subprocess.run(
        ["cc", *flags, *include, source, "-o", built], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    spec = importlib.util.spec_from_file_location(source.stem, built)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    return compile_module(SOURCE, tmp_path_factory.mktemp("stranger"))


def test_the_documents_example_works(tmp_path, capfd) -> None:
    source = tmp_path / "example.c"
    source.write_text(re.findall(r"^```c\n(.*?)^```", DOCUMENT.read_text(), re.M | re.S)[0])
    example = compile_module(source, tmp_path)

    async def main() -> None:
        example.hello()
        await asyncio.sleep(0)

    puff.run(main())
    assert capfd.readouterr().out == "soon\n"


@pytest.mark.skipif(not shutil.which("c++"), reason="no c++ here")
def test_the_header_is_cpp_too() -> None:
    include = [f"-I{PACKAGE / 'include'}", f"-isystem{sysconfig.get_paths()['include']}"]
    command = ["c++", "-x", "c++", "-std=c++17", "-Wall", "-Werror", "-fsyntax-only", *include, "-"]
    source = "#include <puff/python.h>\nint main() { return puff_python_import() == nullptr; }\n"
    done = subprocess.run(command, input=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_call_soon_runs_a_c_function_in_order(stranger) -> None:
    async def main() -> list[int]:
        loop, seen = asyncio.get_running_loop(), list[int]()
        loop.call_soon(seen.append, 1)
        stranger.soon(loop, lambda: seen.append(2))
        loop.call_soon(seen.append, 3)
        assert seen == []
        await asyncio.sleep(0)
        return seen

    assert puff.run(main()) == [1, 2, 3]


def test_what_a_c_function_raises_goes_to_the_exception_handler(stranger) -> None:
    async def main() -> None:
        loop, reported = asyncio.get_running_loop(), list[Any]()
        loop.set_exception_handler(lambda _, context: reported.append(context["exception"]))
        stranger.soon(loop, lambda: 1 / 0)
        await asyncio.sleep(0)
        assert isinstance(reported[0], ZeroDivisionError)

    puff.run(main())


def test_a_thread_without_the_gil_posts(stranger) -> None:
    async def main() -> None:
        arrived = asyncio.Event()
        stranger.post(arrived.set)
        await asyncio.wait_for(arrived.wait(), 10)

    puff.run(main())


def test_a_descriptor_is_watched_until_unwatch(stranger) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        left, right = socket.socketpair()
        with left, right:
            for _ in range(2):
                ready = loop.create_future()
                stranger.watch(loop, left.fileno(), lambda *a, f=ready: f.set_result(a))
                right.send(b"x")
                assert await asyncio.wait_for(ready, 10) == (0, 1)

    puff.run(main())


def test_errors_are_exceptions(stranger, tmp_path) -> None:
    loop = puff.new_event_loop()
    with pytest.raises(TypeError, match=r"a puff\.Loop was expected, not 'object'"):
        stranger.soon(object(), print)
    with pytest.raises(OSError), open(tmp_path / "file", "w") as file:
        stranger.watch(loop, file.fileno(), print)
    with pytest.raises(OSError):
        stranger.watch(loop, -1, print)
    for events in (0, 4, -1, 0x101):
        with pytest.raises(ValueError, match="PUFF_READABLE, PUFF_WRITABLE or both"):
            stranger.watch(loop, 0, print, events)
    with pytest.raises(RuntimeError):
        stranger.running()
    loop.close()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        stranger.soon(loop, print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        stranger.watch(loop, 0, print)


def test_another_loop_is_not_ours(stranger) -> None:
    async def main() -> None:
        with pytest.raises(RuntimeError, match="no puff loop"):
            stranger.running()

    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(main())
    loop.close()
