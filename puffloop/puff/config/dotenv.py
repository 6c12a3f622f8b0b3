r"""`.env` files: NAME=value lines, for what should not stand in puff.toml.

    # a comment
    export NAME=plain text      # a comment after a space
    QUOTED="two\nlines"         # \n \t \r are understood; \ before another keeps it
    RAW='as it is'

No interpolation: a value is what is written.
"""

from __future__ import annotations

import re
from pathlib import Path

from puff.errors import ConfigError

__all__ = ["find", "read"]

LINE = re.compile(
    r"""\s*(?:export\s+)?(?P<name>[A-Za-z_][A-Za-z0-9_.]*)\s*=\s*
    (?: "(?P<quoted>(?:[^"\\]|\\.)*)" | '(?P<raw>[^']*)' | (?P<plain>[^\s#'"](?:[^#]|(?<!\s)\#)*)? )
    \s*(?:\#.*)?$""",
    re.VERBOSE,
)
ESCAPES = {"n": "\n", "t": "\t", "r": "\r"}


def find(folder: Path) -> Path | None:
    r"""`.env` in the folder or the nearest one above it."""
    for place in (folder, *folder.parents):
        if (place / ".env").is_file():
            return place / ".env"
    return None


def read(path: Path) -> dict[str, str]:
    """Raises ConfigError, which never shows a value."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 (byte {e.start})") from None
    found = {}
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        m = LINE.match(line)
        if not m:
            raise ConfigError(f"{path}:{number}: expected NAME=value (quotes must be closed)")
        found[m["name"]] = _value(m)
    return found


def _value(m: re.Match[str]) -> str:
    if m["quoted"] is not None:
        return re.sub(r"\\(.)", lambda e: ESCAPES.get(e[1], e[1]), m["quoted"])
    return m["raw"] if m["raw"] is not None else (m["plain"] or "").strip()
