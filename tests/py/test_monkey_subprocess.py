"""puff.monkey: waits for children."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from monkeys import TOGETHER_S, crowd, killed, on_greenlet, patched

from puff.greenlet import GreenletExit

N = 20


@pytest.fixture(autouse=True)
def _monkey() -> Iterator[None]:
    with patched():
        yield


def test_children_are_waited_for_together() -> None:
    statuses, seconds = crowd(lambda i: subprocess.call(["sh", "-c", f"sleep 0.25; exit {i}"]), N)
    assert statuses == list(range(N))
    assert 0.25 <= seconds < min(TOGETHER_S, N * 0.25)


def test_output_is_read_together() -> None:
    def work(i: int) -> str:
        return subprocess.check_output(["sh", "-c", f"sleep 0.25; echo {i}"], text=True)

    outputs, seconds = crowd(work, N)
    assert outputs == [f"{i}\n" for i in range(N)]
    assert seconds < N * 0.25


def test_input_and_output() -> None:
    data = b"x" * 1_000_000

    def work() -> bool:
        done = subprocess.run(["cat"], input=data, capture_output=True, check=True)
        return done.stdout == data and done.stderr == b""

    assert on_greenlet(work)


def test_timeouts() -> None:
    def work() -> None:
        with subprocess.Popen(["sleep", "20"]) as child:
            with pytest.raises(subprocess.TimeoutExpired) as caught:
                child.wait(0.05)
            assert caught.value.timeout == 0.05
            assert child.poll() is None
            child.kill()
        assert child.returncode == -9
        with pytest.raises(subprocess.TimeoutExpired):
            subprocess.run(["sleep", "20"], timeout=0.05, capture_output=True)

    on_greenlet(work)


def test_killed_while_waiting() -> None:
    with subprocess.Popen(["sleep", "20"]) as child:
        assert isinstance(killed(child.wait), GreenletExit)
        child.kill()


def test_waitpid() -> None:
    def work(i: int) -> int:
        pid = os.posix_spawn(
            sys.executable, [sys.executable, "-c", "import time; time.sleep(0.1)"], {}
        )
        assert os.waitpid(pid, os.WNOHANG) == (0, 0)
        found, status = os.waitpid(pid, 0)
        assert found == pid
        with pytest.raises(ChildProcessError):
            os.waitpid(pid, 0)
        return status

    begun = time.monotonic()
    assert crowd(work, 5)[0] == [0] * 5
    assert time.monotonic() - begun < TOGETHER_S
