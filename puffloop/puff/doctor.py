"""`puff doctor`: what is configured, what is reachable, what is missing. No secret in it."""

from __future__ import annotations

import importlib.metadata
import platform
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec

from puff import config
from puff.embedded import binaries
from puff.errors import PuffError

__all__ = ["Check", "as_json", "as_text", "examine", "version"]


class Check(msgspec.Struct):
    """One line of the report."""

    what: str
    fine: bool
    detail: str


def examine(settings: config.Config) -> list[Check]:
    """Looks at everything; starts no embedded server, but connects to pools that have a URL."""
    return [
        _try("puff", _version),
        _try("native core", _core),
        Check("settings", True, str(settings.path or f"no puff.toml in {settings.folder}")),
        *(Check("settings", True, note) for note in settings.notes),
        _try("app", lambda: _app(settings)),
        *_pools(settings),
    ]


def as_text(report: list[Check]) -> str:
    """A line for each check."""
    width = max(len(check.what) for check in report)
    rows = (f"{'ok  ' if c.fine else 'FAIL'}  {c.what:<{width}}  {c.detail}" for c in report)
    return "\n".join(rows)


def as_json(report: list[Check]) -> str:
    """A list of objects with the fields of `Check`."""
    return msgspec.json.encode(report).decode()


def _try(what: str, look: Callable[[], str]) -> Check:
    try:
        return Check(what, True, look())
    except Exception as e:  # a report goes on
        return Check(what, False, config.mask_url(str(e) or type(e).__name__))


def version() -> str:
    """Of the installed distribution."""
    try:
        return importlib.metadata.version("puffloop")
    except importlib.metadata.PackageNotFoundError:
        return "(run from its sources, not installed)"


def _version() -> str:
    python = f"{platform.python_implementation()} {platform.python_version()}"
    return f"{version()} on {python}, {platform.platform(terse=True)}"


def _core() -> str:
    import puff

    puff.new_event_loop().close()
    return str(Path(puff.__file__ or "").parent)


def _app(settings: config.Config) -> str:
    if settings.app() is None:
        return "none; puff serve --asgi module:app"
    server = settings.server()
    return f"{server.app} on {server.bind}, {server.workers} worker(s)"


def _pools(settings: config.Config) -> Iterator[Check]:
    for kind in config.KINDS:
        for name, pool in settings.pools(kind).items():
            if pool.enable:
                yield _pool(settings, kind, name)
            else:
                yield Check(f"{kind} {name}", True, "switched off (enable = false)")


def _pool(settings: config.Config, kind: str, name: str) -> Check:
    given = settings.given_url(kind, name)
    if given is None:
        return _try(f"{kind} {name}", lambda: f"embedded, by {_program(kind)}")
    url, source = given
    check = _try(f"{kind} {name}", lambda: _ask(settings, kind, name))
    check.detail = f"{config.mask_url(url)} (from {source}): {check.detail}"
    return check


def _program(kind: str) -> Path:
    return binaries.find_postgres() if kind == "postgres" else binaries.find_redis()


def _ask(settings: config.Config, kind: str, name: str) -> str:
    settings.pool_url(kind, name)  # says what is wrong with the URL before anybody dials it
    if kind == "postgres":
        from puff import postgres

        answer: Any = postgres.named_client(name).fetchval("select version()")
    else:
        from puff import redis

        answer = redis.named_client(name).command("PING")
    if not answer:
        raise PuffError("no answer")
    return answer.decode() if isinstance(answer, bytes) else str(answer)
