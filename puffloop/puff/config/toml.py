"""From the text of puff.toml to a `schema.File`, or one sentence that names file, line and key.

The parser gives values without their places, so the line of a key is looked up in the text
afterwards, only when there is something to say about it.
"""

from __future__ import annotations

import difflib
import re
import sys
from pathlib import Path
from typing import Any

import msgspec

from puff.config.schema import LATER, Command, File, Postgres, Redis, Server
from puff.errors import ConfigError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

__all__ = ["check_keys", "notes_on", "parse", "read", "sentence"]

TABLES = {"": File, "server": Server, "postgres": Postgres, "redis": Redis, "commands": Command}
# msgspec's words, longest first, and ours.
WORDS = {
    "`str` of length >= 1": "a string that is not empty",
    "`array`": "an array of tables ([[...]])",
    "`object`": "a table",
    "`float`": "a float",
    "`bool`": "true or false",
    "`int`": "an integer",
    "`str`": "a string",
    "Expected": "expected",
}
# What the original's examples and docs called a key.
OLD_NAMES = {"wsgi_app": "wsgi", "asgi_app": "asgi", "subscriptions_url": "subscription_url"}


def read(path: Path) -> tuple[File, list[str]]:
    """The file and what should be said about it. Raises ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as e:
        raise ConfigError(f"{path}: {e.strerror}") from None
    except UnicodeDecodeError as e:
        raise ConfigError(f"{path}: not UTF-8 (byte {e.start})") from None
    return parse(text, path)


def parse(text: str, path: Path) -> tuple[File, list[str]]:
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as e:
        raise ConfigError(f"{path}: not TOML: {_with_line_first(str(e))}") from None
    _check_tables(raw, text, path)
    try:
        return msgspec.convert(raw, File), notes_on(raw, text, path)
    except msgspec.ValidationError as e:
        message, keys = sentence(e)
        where = _place(text, path, keys)
        raise ConfigError(f"{where}: {_dotted(keys)}: {message}") from None


def sentence(e: msgspec.ValidationError) -> tuple[str, list[str | int]]:
    """What msgspec says, for people; and the path of the key."""
    message, _, at = str(e).partition(" - at `$")
    keys = [int(i) if i else k for k, i in re.findall(r"([A-Za-z_][\w-]*)|\[(\d+)\]", at)]
    missing = re.match(r"Object missing required field `(.+)`", message)
    if missing:
        return f"`{missing[1]}` is missing", keys
    choice = re.search(r"matching regex '\^\(([a-z|]+)\)\$'", message)
    if choice:
        return f"expected one of {choice[1].replace('|', ', ')}", keys
    message = re.sub(r"`str` matching regex '.*'", "a name of letters, digits, - and _", message)
    for word, plain in WORDS.items():
        message = message.replace(word, plain)
    return message, keys


def notes_on(raw: dict[str, Any], text: str, path: Path) -> list[str]:
    """Keys that are right, and do nothing in this version."""
    notes = [
        f"{_place(text, path, [key])}: {key}: this version of Puff does not have it yet; ignored"
        for key in raw
        if key in LATER and raw[key] is not False
    ]
    notes += [
        f"{_place(text, path, [key])}: {key} = false has no effect"
        for key in ("asyncio", "greenlets")
        if raw.get(key) is False
    ]
    return notes


def check_keys(given: Any, known: list[str]) -> str | None:
    """A sentence about the first key that is not known, or None."""
    for key in given:
        if key in known:
            continue
        near = OLD_NAMES.get(key) or next(iter(difflib.get_close_matches(key, known, 1, 0.6)), None)
        hint = f"did you mean `{near}`?" if near else f"known: {', '.join(sorted(known))}"
        return f"unknown key `{key}`; {hint}"
    return None


def _check_tables(raw: dict[str, Any], text: str, path: Path) -> None:
    """Before msgspec, which does not know the nearest key."""
    for table, struct in TABLES.items():
        known = list(struct.__struct_fields__)
        inside = raw.get(table) if table else raw
        entries = inside if isinstance(inside, list) else [inside]
        for i, entry in enumerate(entries):
            if not isinstance(entry, dict):
                continue  # msgspec says what was expected
            complaint = check_keys(entry, known)
            if complaint:
                keys: list[str | int] = [table] if table else []
                keys += [i] if isinstance(inside, list) else []
                bad = next(key for key in entry if key not in known)
                prefix = f"{_dotted(keys)}: " if keys else ""
                raise ConfigError(f"{_place(text, path, [*keys, bad])}: {prefix}{complaint}")


def _with_line_first(message: str) -> str:
    """tomllib: "Expected '=' after a key (at line 3, column 5)"."""
    at = re.search(r" \(at (line \d+), (column \d+)\)$", message)
    return f"{at[1]}, {at[2]}: {message[: at.start()]}" if at else message


def _dotted(keys: list[str | int]) -> str:
    """[postgres][1][url] is "postgres[1].url", counted from 1 as people do."""
    text = ""
    for key in keys:
        text += f"[{key + 1}]" if isinstance(key, int) else f".{key}" if text else key
    return text


def _place(text: str, path: Path, keys: list[str | int]) -> str:
    line = _line_of(text, keys)
    return f"{path}:{line}" if line else str(path)


def _line_of(text: str, keys: list[str | int]) -> int | None:
    """Where a key stands; else where its table begins; else None, for a spelling unknown here."""
    *tables, last = [k for k in keys if isinstance(k, str)] or [""]
    nth = next((k for k in keys if isinstance(k, int)), 0)
    wanted = ".".join(tables)
    inside, seen, best = wanted == "", 0, None
    for number, line in enumerate(text.splitlines(), 1):
        header = re.match(r"\s*\[{1,2}\s*([\w.\"' -]+?)\s*\]{1,2}", line)
        if header:
            name = re.sub(r"[\"' ]", "", header[1])
            if name == last and not tables:
                return number
            inside = name == wanted and seen == nth
            seen += name == wanted
            best = number if inside else best
        elif inside and re.match(rf"\s*[\"']?{re.escape(str(last))}[\"']?\s*[=.]", line):
            return number
    return best
