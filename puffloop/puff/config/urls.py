"""URLs of pools: whether they can be one, and how to show them without their secrets."""

from __future__ import annotations

import re

from puff.errors import ConfigError

__all__ = ["check", "mask"]

SCHEMES = {
    "postgres": ("postgres://", "postgresql://"),
    "redis": ("redis://", "rediss://", "valkey://", "valkeys://", "unix://"),
}
SECRET = r"(?:ssl)?pass(?:word|file)?|sslkey|secret|token"


def check(kind: str, url: str, source: str) -> str:
    """The URL itself. Raises ConfigError, which names the source and shows no secret."""
    if url.startswith(SCHEMES[kind]):
        return url
    if kind == "postgres" and re.match(r"\s*\w+\s*=", url):
        return url  # libpq's keywords: host=... dbname=...
    if kind == "redis" and url.startswith("/"):
        return url
    forms = {
        "postgres": "postgresql://user:password@host/database or host=... dbname=...",
        "redis": "redis://[user:password@]host[:port][/db], unix:///path or /path",
    }
    raise ConfigError(f"{source}: {mask(url)!r} is no {kind} URL; expected {forms[kind]}")


def mask(url: str) -> str:
    """Passwords as ***, in any place where a URL or libpq's keywords may have one."""
    # Up to the last @ of the authority: a password that should have been percent-encoded hides too.
    url = re.sub(r"^([a-z+]+://[^/?#:@]*):.*@", r"\1:***@", url, flags=re.IGNORECASE)
    url = re.sub(rf"([?&](?:{SECRET})=)[^&#]*", r"\1***", url, flags=re.IGNORECASE)
    keyword = rf"(^|\s)((?:{SECRET})\s*=\s*)('(?:[^'\\]|\\.)*'?|\S+)"
    return re.sub(keyword, r"\1\2***", url, flags=re.IGNORECASE)
