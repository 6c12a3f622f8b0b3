"""What Puff raises. Every class here derives from `PuffError`, and says one sentence for people."""

from __future__ import annotations

from typing import Any

__all__ = [
    "AppImportError",
    "AppStartError",
    "ClientDisconnected",
    "ConfigError",
    "EmbeddedError",
    "ForeignKeyViolation",
    "IntegrityConstraintViolation",
    "NotNullViolation",
    "PostgresConnectionError",
    "PostgresError",
    "PostgresTimeoutError",
    "PostgresUsageError",
    "PuffError",
    "QueryCanceled",
    "RedisAuthError",
    "RedisConnectionError",
    "RedisError",
    "RedisReplyError",
    "RedisTimeoutError",
    "RedisUsageError",
    "SerializationFailure",
    "UndefinedColumn",
    "UndefinedTable",
    "UniqueViolation",
    "postgres_error",
]


class PuffError(Exception):
    """The root of Puff's own errors: ``except puff.PuffError`` catches each of them."""


class ConfigError(PuffError):
    """A setting is wrong: the message names the file, the key and what was expected."""


class AppImportError(PuffError):
    """`module:attr` could not be imported; when the module itself raised, that is the cause."""


class AppStartError(PuffError):
    """The app's lifespan said that it cannot start, or raised: the message is what it said."""


class ClientDisconnected(PuffError, ConnectionError):
    """What an ASGI app's `send()` raises once the client is gone. An app need not catch it."""


class EmbeddedError(PuffError):
    """A private Postgres or Redis could not be started: the message says what to install or do."""


# ---- Postgres ----


class PostgresError(PuffError):
    """What the server refused; `str(error)` is its message.

    `sqlstate` is the five characters of PostgreSQL's appendix A; the other attributes are what the
    server added, else
    None. Common codes have classes of their own below, so that `except UniqueViolation` reads well.
    """

    sqlstate: str | None = None
    severity: str | None = None
    detail: str | None = None
    hint: str | None = None
    position: str | None = None
    context: str | None = None
    schema_name: str | None = None
    table_name: str | None = None
    column_name: str | None = None
    datatype_name: str | None = None
    constraint_name: str | None = None


class PostgresConnectionError(PostgresError, ConnectionError):
    """No connection could be made, or it was lost while the query was on its way.

    `maybe_executed`: the statement was written and its fate is not known.
    """

    maybe_executed: bool = False


class PostgresTimeoutError(PostgresError, TimeoutError):
    """`timeout_ms`, or a limit of the pool, passed before the answer came."""


class PostgresUsageError(PostgresError):
    """The call cannot work as made: a wrong number of parameters, SQL that needs a session."""


class IntegrityConstraintViolation(PostgresError):
    """Class 23."""


class NotNullViolation(IntegrityConstraintViolation):
    """23502."""


class ForeignKeyViolation(IntegrityConstraintViolation):
    """23503."""


class UniqueViolation(IntegrityConstraintViolation):
    """23505."""


class SerializationFailure(PostgresError):
    """40001: run the transaction again."""


class QueryCanceled(PostgresError):
    """57014: cancelled by the server, its statement_timeout or an administrator."""


class UndefinedColumn(PostgresError):
    """42703."""


class UndefinedTable(PostgresError):
    """42P01."""


_BY_SQLSTATE: dict[str, type[PostgresError]] = {
    "23502": NotNullViolation,
    "23503": ForeignKeyViolation,
    "23505": UniqueViolation,
    "40001": SerializationFailure,
    "42703": UndefinedColumn,
    "42P01": UndefinedTable,
    "57014": QueryCanceled,
}


def postgres_error(sqlstate: str, message: str, **fields: Any) -> PostgresError:
    """Return the exception for what the server said; `fields` are attributes of PostgresError."""
    kind = _BY_SQLSTATE.get(sqlstate)
    if kind is None:
        kind = IntegrityConstraintViolation if sqlstate.startswith("23") else PostgresError
    error = kind(message)
    error.sqlstate = sqlstate
    for name, value in fields.items():
        setattr(error, name, value)
    return error


# ---- Redis ----


class RedisError(PuffError):
    """What can go wrong with a Redis command."""


class RedisReplyError(RedisError):
    """The server answered with an error; `code` is its first word, such as "WRONGTYPE" or "ERR".

    One inside an array is not raised: it stands there as a value.
    """

    code: str

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.code = message.split(" ", 1)[0]


class RedisConnectionError(RedisError, ConnectionError):
    """No connection could be made, or it was lost while the command was on its way.

    `maybe_executed`: the command was sent and its fate is not known.
    """

    maybe_executed: bool = False


class RedisAuthError(RedisConnectionError):
    """The server refused the user or the password, or wants one."""


class RedisTimeoutError(RedisError, TimeoutError):
    """`timeout_ms` passed before the reply came; `maybe_executed` as in RedisConnectionError."""

    maybe_executed: bool = False


class RedisUsageError(RedisError):
    """The call cannot work as it was made: a command that needs a session, too many that wait."""
