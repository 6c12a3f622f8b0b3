"""asgiref in the versions that users still have, and its own tests."""

from __future__ import annotations

import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import hooked
import pytest

# Each in which something that Puff replaces is different.
VERSIONS = ["3.5.0", "3.5.2", "3.6.0", "3.7.2", "3.8.1", "3.9.1", "3.10.0", "3.11.0", "3.12.1"]


def package(version: str) -> Path:
    """A folder for PYTHONPATH that has this version."""
    return hooked.old("asgiref", version)


def suite(version: str) -> Path:
    """The folder with asgiref's own tests of this version, fetched once into build/."""
    target = Path(__file__).parents[2] / "build" / "peers" / f"asgiref-{version}"
    if not target.is_dir():
        target.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=target.parent) as folder:
            _download(version, Path(folder))
            (Path(folder) / "source").rename(target)
    return target / "tests"


def _download(version: str, folder: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download"]
    what = ["--no-deps", "--no-binary", "asgiref", "--dest", str(folder), f"asgiref=={version}"]
    done = subprocess.run([*pip, *what], capture_output=True, text=True, timeout=50, check=False)
    if done.returncode != 0:
        pytest.skip(f"asgiref's sources cannot be fetched: {done.stderr.strip()[-300:]}")
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            member.name = member.name.partition("/")[2]
            if member.isfile() and member.name.startswith("tests/"):
                tar.extract(member, folder / "source")
