"""An interpreter whose site-packages has Puff and its start-up hook, whatever way Puff is on our
own sys.path; and peers in the versions that users still have."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import puff

PACKAGES = Path(puff.__file__).parents[1]
OLD = Path(sys.prefix) / "old"  # filled by tools/make-venv from tests/requirements-old.txt


def make(folder: Path) -> Path:
    """A virtual environment that sees all we see; its interpreter."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    python = folder / "bin" / "python"
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True).stdout
    ours = [p for p in sys.path if Path(p).name == "site-packages"]
    lines = [f"import site; site.addsitedir({str(PACKAGES)!r})", *ours]
    (Path(site.strip()) / "all.pth").write_text("\n".join(lines) + "\n")
    return python


def old(package: str, version: str) -> Path:
    """The folder that has it: first on PYTHONPATH it comes before the newest."""
    folder = OLD / f"{package}-{version}"
    if not folder.is_dir():
        pytest.skip(f"{package} {version} is not in {OLD}: `make setup` puts it there")
    return folder
