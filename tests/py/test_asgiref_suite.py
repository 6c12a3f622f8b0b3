"""asgiref's own tests, on Puff's loop with the patch active.

`make setup` fetches them (tools/make-venv): asgiref's wheel leaves them out.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import asgiref
import pytest

SUITE = Path(sys.prefix) / "suites" / f"asgiref-{asgiref.__version__}"
# What they look at is what the patch is there to change. Each is named with what it wants.
BY_DESIGN = {
    "test_sync.py::test_thread_sensitive_outside_async": (
        "sync code of a coroutine in another thread: here it runs on a greenlet of this one"
    ),
    "test_sync.py::test_thread_sensitive_with_context_matches": "the same",
    "test_sync.py::test_thread_sensitive_nested_context": "the same",
    "test_sync.py::test_sync_to_async_within_create_task": "the same",
    "test_sync_contextvars.py::test_thread_sensitive_with_context_different": (
        "two ThreadSensitiveContexts in two threads: here both run in this one, on greenlets"
    ),
    "test_sync.py::test_sync_to_async_with_blocker_thread_sensitive": (
        "multiprocessing.Event.wait() in sync code, set by a task of the same loop: it blocks the "
        "thread, which is the loop's (docs/worlds.md: give such code an executor)"
    ),
    "test_sync.py::test_sync_to_async_with_blocker_non_thread_sensitive": "the same",
    "test_sync.py::test_two_nested_tasks_with_asyncio_run": (
        "the same, by threading.Event.wait(); with puff.monkey it would park"
    ),
    "test_sync_thread_sensitive_context.py::test_plain_context_allows_calls_after_exit": (
        "the thread of a ThreadSensitiveContext, which has none here"
    ),
}
VERSION = tuple(map(int, asgiref.__version__.split(".")[:2]))
LISTED_FROM = (3, 13)  # the newest; those of older Pythons lack some of them
# They call no sync code of ours, or want another plugin.
LEFT_OUT = {"test_benchmark_local.py"}


def modules() -> list[str]:
    found = sorted(path.name for path in (SUITE / "tests").glob("test_*.py"))
    return [name for name in found if name not in LEFT_OUT]


def run(cwd: Path, *args: str, timeout: float = 100) -> subprocess.CompletedProcess[str]:
    """pytest on asgiref's tests, with every loop that asyncio makes one of ours."""
    (cwd / "on_puff.py").write_text("import puff\n\npuff.install()\n")
    path = [str(cwd), *(p for p in sys.path if p)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    command = [sys.executable, "-X", "faulthandler", "-m", "pytest", "-q", "-p", "on_puff"]
    command += ["-p", "no:cacheprovider", "-c", str(SUITE / "setup.cfg"), "--rootdir", str(SUITE)]
    command += ["-W", "ignore", "-o", "faulthandler_timeout=60", *args]
    return subprocess.run(
        command, cwd=cwd, env=env, capture_output=True, text=True, timeout=timeout, check=False
    )


@pytest.mark.skipif(not SUITE.is_dir(), reason=f"`make setup` puts asgiref's tests into {SUITE}")
def test_the_suite_is_there() -> None:
    assert "test_sync.py" in modules()
    known = {path.name: path.read_text() for path in (SUITE / "tests").glob("test_*.py")}
    for test in BY_DESIGN if VERSION >= LISTED_FROM else ():
        module, _, name = test.partition("::")
        assert f"def {name}(" in known[module], f"{test} is gone: take it out of BY_DESIGN"


@pytest.mark.timeout(120)
@pytest.mark.parametrize("module", modules())
def test_it_passes(module: str, tmp_path: Path) -> None:
    source = (SUITE / "tests" / module).read_text()
    named = (test.partition("::") for test in BY_DESIGN)
    here = [name for of, _, name in named if of == module and f"def {name}(" in source]
    deselected = [f"--deselect=tests/{module}::{name}" for name in here]
    done = run(tmp_path, *deselected, str(SUITE / "tests" / module))
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    found = re.search(r"(\d+) deselected", done.stdout)
    n_left_out = int(found[1]) if found else 0
    if sys.version_info >= (3, 11):
        assert n_left_out == len(deselected)
    assert n_left_out <= len(deselected)  # 3.10 lacks what one of them needs
