"""The plainest ASGI app: two bodies and an echo. Servers derive content-length themselves."""

from __future__ import annotations

from typing import Any

HEADERS = [(b"content-type", b"text/plain")]
BODIES = {"/1k": b"x" * 1024, "/10k": b"x" * 10240}


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    if scope["type"] != "http":
        raise RuntimeError("http only")
    if scope["path"] == "/echo":
        parts, more = [], True
        while more:
            message = await receive()
            parts.append(message["body"])
            more = message.get("more_body", False)
        body = b"".join(parts)
    else:
        body = BODIES[scope["path"]]
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": body})
