"""What Puff raises. Every class here derives from `PuffError`, and says one sentence for people."""

from __future__ import annotations

__all__ = ["ConfigError", "EmbeddedError", "PuffError"]


class PuffError(Exception):
    """The root of Puff's own errors: ``except puff.PuffError`` catches each of them."""


class ConfigError(PuffError):
    """A setting is wrong: the message names the file, the key and what was expected."""


class EmbeddedError(PuffError):
    """A private Postgres or Redis could not be started: the message says what to install or do."""
