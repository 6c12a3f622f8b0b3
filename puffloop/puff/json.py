"""Puff's JSON: UTF-8 bytes out, Python values in. Thin names over msgspec's C codec."""

from __future__ import annotations

from typing import Any

import msgspec

__all__ = ["dumps", "loads"]

_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder()

# For row.c, which lends it the bytes of a result for the call only. Not `loads`: a function written
# in Python has a frame, and a traceback keeps that and its view when the bytes are gone.
decode_lent = _decoder.decode


def dumps(value: Any) -> bytes:
    """Return `value` as JSON in UTF-8.

    Dataclasses, datetimes (RFC 3339), UUIDs, Decimals, enums and msgspec structs are understood.
    TypeError for what JSON
    cannot say.

        assert puff.json.dumps({"a": [1, None]}) == b'{"a":[1,null]}'
    """
    return _encoder.encode(value)


def loads(data: bytes | bytearray | memoryview | str) -> Any:
    """Return the Python value of one JSON text. `ValueError` (msgspec.DecodeError) where it is
    none.

    assert puff.json.loads(b'{"a": 1}') == {"a": 1}
    """
    return _decoder.decode(data)
