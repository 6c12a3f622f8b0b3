"""Postgres values in text format to Python: for rows with a type that has no binary decoder yet.

The bytes of an unknown type mean nothing to us in binary, so such a row is asked for as text, and
all its columns come that
way: known types are read here, unknown ones stay the `str` that the server prints.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from decimal import Decimal
from typing import Any

from puff import json

__all__ = ["value"]

_Decode = Callable[[str], Any]


def _bytea(text: str) -> bytes:
    return bytes.fromhex(text[2:])  # bytea_output = hex, the default since 9.0


_DATETIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)(?: (\d\d):(\d\d):(\d\d)(?:\.(\d{1,6}))?)?(.*)")

# Seconds too: local mean times of the years before zones, "+00:19:32".
_ZONE = re.compile(r"[+-](\d\d)(?::(\d\d))?(?::(\d\d))?")


def _zone(text: str) -> dt.timezone | None:
    if not text:
        return None
    match = _ZONE.fullmatch(text)
    if match is None:
        raise ValueError(f"a date that Python cannot hold: it ends in {text!r}")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    offset = dt.timedelta(hours=hours, minutes=minutes, seconds=seconds)
    return dt.timezone(-offset if text[0] == "-" else offset)


def _parts(text: str) -> tuple[list[int], dt.timezone | None]:
    match = _DATETIME.fullmatch(text)
    if match is None:
        raise ValueError(f"a date that Python cannot hold: {text}")
    numbers = [int(part or 0) for part in match.groups()[:6]]
    micro = (match.group(7) or "").ljust(6, "0")
    return [*numbers, int(micro)], _zone(match.group(8))


def _date(text: str) -> dt.date:
    if text in ("infinity", "-infinity"):
        return dt.date.max if text == "infinity" else dt.date.min
    numbers, _ = _parts(text)
    return dt.date(*numbers[:3])


def _timestamp(text: str) -> dt.datetime:
    if text in ("infinity", "-infinity"):
        return dt.datetime.max if text == "infinity" else dt.datetime.min
    numbers, zone = _parts(text)
    year, month, day, hour, minute, second, micro = numbers
    return dt.datetime(year, month, day, hour, minute, second, micro, tzinfo=zone)


def _timestamptz(text: str) -> dt.datetime:
    moment = _timestamp(text)
    return (
        moment.replace(tzinfo=dt.timezone.utc)
        if moment.tzinfo is None
        else moment.astimezone(dt.timezone.utc)
    )


def _time(text: str) -> dt.time:
    clock = _timestamp("2000-01-01 " + text.replace("24:00:00", "00:00:00"))
    return clock.timetz()


_DECODERS: dict[int, _Decode] = {
    16: lambda text: text == "t",
    17: _bytea,
    **dict.fromkeys((20, 21, 23, 26, 28, 29, 5069), int),
    **dict.fromkeys((22, 30), lambda text: [int(number) for number in text.split()]),
    **dict.fromkeys((700, 701), float),
    1700: Decimal,
    2950: uuid.UUID,
    1082: _date,
    **dict.fromkeys((1083, 1266), _time),
    1114: _timestamp,
    1184: _timestamptz,
    **dict.fromkeys((114, 3802), json.loads),
}

# The array type of each type above that is common in rows; others stay text.
_ARRAYS = {
    1000: 16, 1001: 17, 1016: 20, 1005: 21, 1007: 23, 1028: 26, 1021: 700, 1022: 701,
    1231: 1700, 2951: 2950, 1182: 1082, 1183: 1083, 1270: 1266, 1115: 1114, 1185: 1184,
    199: 114, 3807: 3802, 1009: 25, 1015: 1043,
}  # fmt: skip

_TOKEN = re.compile(r'"((?:[^"\\]|\\.)*)"|([^,{}"\\]+)|([{},])')


def _array(text: str, decode: _Decode) -> list[Any]:
    if text.startswith("["):  # lower bounds, "[2:3]={1,2}"
        text = text[text.index("=") + 1 :]
    root: list[Any] = []
    stack = [root]
    for quoted, bare, mark in _TOKEN.findall(text):
        if mark == "{":
            inner: list[Any] = []
            stack[-1].append(inner)
            stack.append(inner)
        elif mark == "}":
            stack.pop()
        elif mark == "":
            stack[-1].append(
                None if bare == "NULL" else decode(bare or re.sub(r"\\(.)", r"\1", quoted))
            )
    return root[0]  # type: ignore[no-any-return]


def value(oid: int, text: str) -> Any:
    """Return the Python value of `text`, a value of the built-in type `oid`; `text` itself for any
    other type.
    """
    decode = _DECODERS.get(oid)
    if decode is not None:
        return decode(text)
    if oid in _ARRAYS:
        return _array(text, _DECODERS.get(_ARRAYS[oid], str))
    return text
