"""The plainest WSGI app: two bodies and an echo. Servers derive content-length themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

HEADERS = [("Content-Type", "text/plain")]
BODIES = {"/1k": [b"x" * 1024], "/10k": [b"x" * 10240]}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> list[bytes]:
    if environ["PATH_INFO"] == "/echo":
        body = [environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))]
    else:
        body = BODIES[environ["PATH_INFO"]]
    start_response("200 OK", HEADERS)
    return body
