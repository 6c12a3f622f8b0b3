"""Greenlets on the oldest greenlet package that pyproject.toml allows here."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import hooked
import pytest
from packaging.requirements import Requirement

HERE = Path(__file__).parent
# Those that switch in every way there is.
FILES = [
    "test_bridge.py", "test_condition.py", "test_crowds.py", "test_greenlet.py",
    "test_hidden_loop.py", "test_sync.py", "test_worlds.py", "test_wsgi.py",
]  # fmt: skip


def floor() -> str:
    """Of this Python."""
    text = (HERE.parents[1] / "pyproject.toml").read_text()
    for line in re.findall(r'^ +"(greenlet .*;.*)",$', text, re.MULTILINE):
        requirement = Requirement(line)
        if requirement.marker and requirement.marker.evaluate():
            return next(iter(requirement.specifier)).version
    raise AssertionError("pyproject.toml does not say which greenlet is needed here")


@pytest.mark.timeout(200)
@pytest.mark.parametrize("file", FILES)
def test_holds_on_the_oldest(file: str) -> None:
    version = floor()
    path = [str(hooked.old("greenlet", version)), *(p for p in sys.path if p)]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(path)}
    check = f"import greenlet; assert greenlet.__version__ == {version!r}"
    subprocess.run([sys.executable, "-c", check], env=env, check=True, timeout=30)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(HERE / file)]
    done = subprocess.run(
        command, env=env, capture_output=True, text=True, timeout=190, check=False
    )
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
