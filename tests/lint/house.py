"""What the tests of the house share: the files of the checkout and how C includes are read."""

from __future__ import annotations

import re
import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CORE = ROOT / "puffloop" / "core"
PACKAGE = ROOT / "puffloop" / "puff"
INCLUDE = ROOT / "include"


@cache
def files(*suffixes: str) -> list[Path]:
    """Files that are tracked or would be: of a tarball without .git, all that no build makes."""
    git = ["git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard"]
    try:
        names = subprocess.run(git, capture_output=True, text=True, check=True).stdout.split("\n")
        found = [ROOT / name for name in names if name]
    except (OSError, subprocess.CalledProcessError):
        made = {"build", "dist", ".venv", ".git", ".puff", "__pycache__"}
        found = [p for p in ROOT.rglob("*") if not made.intersection(p.relative_to(ROOT).parts)]
    wanted = [p for p in found if p.is_file() and (not suffixes or p.suffix in suffixes)]
    return sorted(wanted)


def under(folder: Path, *suffixes: str) -> list[Path]:
    return [p for p in files(*suffixes) if p.is_relative_to(folder)]


def includes(path: Path) -> list[str]:
    """The names that a C file includes, as written."""
    return re.findall(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"]+)[>"]', path.read_text(), re.M)


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))
