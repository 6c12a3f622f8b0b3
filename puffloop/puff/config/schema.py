"""What may stand in puff.toml: one struct per table, one field per key.

A field that is UNSET has its default elsewhere: for limits, timeouts and pools that is the C struct
of the same name (include/puff/{http,postgres,redis}.h), so that each default lives in one place.
docs/config.md has the whole table; a test compares the three.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

__all__ = ["HELP", "LATER", "Command", "File", "Pool", "Postgres", "Redis", "Server"]

Text = Annotated[str, Meta(min_length=1)]
Name = Annotated[str, Meta(pattern="^[A-Za-z][A-Za-z0-9_-]*$")]
Level = Annotated[str, Meta(pattern="^(debug|info|warning|error|critical)$")]
Count = Annotated[int, Meta(ge=1, le=2**31 - 1)]
Threads = Annotated[int, Meta(ge=1, le=10_000)]
Limit = Annotated[int, Meta(ge=0, le=2**32 - 1)]  # where 0 means none
Bytes = Annotated[int, Meta(ge=1, le=2**32 - 1)]
Huge = Annotated[int, Meta(ge=0, le=2**63 - 1)]
Millis = Annotated[int, Meta(ge=0, le=2**32 - 1)]
Statements = Annotated[int, Meta(ge=-1, le=2**31 - 1)]


class Server(Struct, forbid_unknown_fields=True):
    """[server]: each key is a flag of `puff serve` (--max-body) and a variable (PUFF_MAX_BODY)."""

    bind: Text = "127.0.0.1:7777"
    reuse_port: bool = False
    workers: Count = 1
    access_log: bool = False
    log_level: Level = "info"
    stop_timeout_ms: Millis = 30_000
    backlog: Count | UnsetType = UNSET
    root_path: str = ""
    wsgi_threads: Limit = 0
    wsgi_greenlets: Limit = 0
    monkey: bool = False
    watchdog_ms: Limit = 1000
    max_request_line: Bytes | UnsetType = UNSET
    max_head: Bytes | UnsetType = UNSET
    max_fields: Count | UnsetType = UNSET
    max_connections: Limit | UnsetType = UNSET
    max_pipelined: Count | UnsetType = UNSET
    max_body: Huge | UnsetType = UNSET
    max_drain: Limit | UnsetType = UNSET
    header_timeout_ms: Millis | UnsetType = UNSET
    keep_alive_timeout_ms: Millis | UnsetType = UNSET
    body_timeout_ms: Millis | UnsetType = UNSET
    write_timeout_ms: Millis | UnsetType = UNSET
    min_rate: Limit | UnsetType = UNSET
    server_header: bool | UnsetType = UNSET
    date_header: bool | UnsetType = UNSET
    server_name: Text | UnsetType = UNSET


# The help of `puff serve`; a default that C has is told in docs/config.md.
HELP = {
    "bind": "HOST:PORT, [IPV6]:PORT or unix:PATH, several with commas; port 0 takes a free one.",
    "reuse_port": "Share the port with other processes (SO_REUSEPORT).",
    "workers": "Processes that serve.",
    "access_log": "Write a line for each request.",
    "log_level": "debug, info, warning, error or critical.",
    "stop_timeout_ms": "How long requests may go on after SIGTERM or SIGINT.",
    "backlog": "Connections that may wait to be accepted.",
    "root_path": "Path under which a proxy shows the app (root_path, SCRIPT_NAME).",
    "wsgi_threads": "Threads that run a WSGI app that blocks; 0: greenlets run it.",
    "wsgi_greenlets": "Requests that run at once on greenlets; more wait in order; 0: no limit.",
    "monkey": "Make the standard library cooperative before the app is imported.",
    "watchdog_ms": "Tell in the log who blocks the loop for longer; 0: do not watch.",
    "max_request_line": "Bytes of a request line; more is answered with 414.",
    "max_head": "Bytes of field lines; more is answered with 431.",
    "max_fields": "Field lines; more are answered with 431.",
    "max_connections": "Connections of one worker; 0: no limit.",
    "max_pipelined": "Requests that one connection may have answered in one turn.",
    "max_body": "Bytes of a request's body; more is answered with 413; 0: no limit.",
    "max_drain": "Bytes of unread body that are dropped to keep a connection.",
    "header_timeout_ms": "For a whole head, however it drips, else 408; 0: none.",
    "keep_alive_timeout_ms": "For an idle connection; 0: none.",
    "body_timeout_ms": "Window in which a body must bring min-rate; 0: none.",
    "write_timeout_ms": "Window in which a client must take min-rate; 0: none.",
    "min_rate": "Bytes a second that a slow client must manage.",
    "server_header": "Send a Server field.",
    "date_header": "Send a Date field.",
    "server_name": "What the Server field says.",
}


class Pool(Struct, forbid_unknown_fields=True):
    """What every pool has. `pool_size` is the original's name for max_size and connections."""

    name: Name = "default"
    enable: bool = True
    url: Text | UnsetType = UNSET
    pool_size: Count | UnsetType = UNSET


class Postgres(Pool, forbid_unknown_fields=True):
    """[[postgres]]: puff_pg_pool_options; min_size and max_size are its lanes."""

    min_size: Count | UnsetType = UNSET
    max_size: Count | UnsetType = UNSET
    max_depth: Count | UnsetType = UNSET
    max_waiting: Count | UnsetType = UNSET
    statement_cache_size: Statements | UnsetType = UNSET
    connect_timeout_ms: Millis | UnsetType = UNSET
    queue_timeout_ms: Millis | UnsetType = UNSET
    query_timeout_ms: Millis | UnsetType = UNSET
    idle_timeout_ms: Millis | UnsetType = UNSET
    backoff_min_ms: Count | UnsetType = UNSET
    backoff_max_ms: Count | UnsetType = UNSET
    max_param_bytes: Bytes | UnsetType = UNSET


class Redis(Pool, forbid_unknown_fields=True):
    """[[redis]]: puff_redis_options."""

    client_name: str | UnsetType = UNSET
    connections: Count | UnsetType = UNSET
    connect_timeout_ms: Millis | UnsetType = UNSET
    timeout_ms: Millis | UnsetType = UNSET
    max_in_flight: Count | UnsetType = UNSET
    max_waiting: Count | UnsetType = UNSET
    max_exclusive: Count | UnsetType = UNSET
    backoff_min_ms: Count | UnsetType = UNSET
    backoff_max_ms: Count | UnsetType = UNSET
    max_reply_bytes: Bytes | UnsetType = UNSET
    resp3: bool | UnsetType = UNSET


class Command(Struct, forbid_unknown_fields=True):
    """[[commands]]: `puff COMMAND_NAME` calls the function, which may be a coroutine function."""

    function: Text
    command_name: Name


class File(Struct, forbid_unknown_fields=True):
    """The whole of puff.toml."""

    asgi: Text | UnsetType = UNSET
    wsgi: Text | UnsetType = UNSET
    add_cwd_to_path: bool = True
    dotenv: bool = True
    dotenv_path: Text | UnsetType = UNSET
    # The original's switches. Here both worlds are always there.
    asyncio: bool = True
    greenlets: bool = True
    blocking_threads: Threads | UnsetType = UNSET
    server: Server = msgspec.field(default_factory=Server)
    postgres: list[Postgres] = []
    redis: list[Redis] = []
    commands: list[Command] = []
    compression_middleware: bool = False
    cors: dict[str, Any] | UnsetType = UNSET
    django: bool = False
    graphql: list[dict[str, Any]] = []
    http_client: list[dict[str, Any]] = []
    pubsub: list[dict[str, Any]] = []
    pytest: bool = False
    pytest_path: Text | UnsetType = UNSET
    task_queue: list[dict[str, Any]] = []


# Keys whose feature this version does not have: a file with them is good, and is told so.
LATER = frozenset(
    {"compression_middleware", "cors", "django", "graphql", "http_client", "pubsub"}
    | {"pytest", "pytest_path", "task_queue"}
)
