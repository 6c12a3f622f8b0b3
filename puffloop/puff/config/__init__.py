"""Settings: a flag, else the environment, else `.env`, else puff.toml, else a default.

    >>> puff.config.pool_url("postgres", "default")
    'postgresql://postgres@/postgres?host=/srv/app/.puff/postgres.run/s'

puff.toml is that of the current folder, or PUFF_CONFIG names it. Nothing is read before the first
question, and reading changes nothing in the process; the command line calls `Config.activate`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from puff import embedded
from puff.config import dotenv, schema, toml, urls
from puff.config.urls import mask as mask_url
from puff.errors import ConfigError

__all__ = [  # noqa: RUF022 - the order of sorted(), for all modules
    "Config",
    "KINDS",
    "ServerConfig",
    "current",
    "load",
    "mask_url",
    "pool_options",
    "pool_url",
    "use",
]

KINDS = ("postgres", "redis")
NO_TIMEOUT = 2**64 - 1  # PUFF_PG_NEVER, PUFF_REDIS_NO_TIMEOUT; in puff.toml it is 0
POOL_SIZE = {"postgres": "max_size", "redis": "connections"}
# Of [server], what is not a field of puff_http_options.
NOT_HTTP = {
    "bind",
    "reuse_port",
    "workers",
    "access_log",
    "log_level",
    "stop_timeout_ms",
    "backlog",
    "root_path",
    "wsgi_threads",
    "wsgi_greenlets",
    "monkey",
    "watchdog_ms",
}


@dataclass(frozen=True)
class ServerConfig:
    """What `puff.serve.serve` is given. `http` has fields of puff_http_options that are set."""

    interface: str  # "asgi" or "wsgi"
    app: str
    bind: str
    reuse_port: bool
    workers: int
    access_log: bool
    log_level: str
    stop_timeout_ms: int
    backlog: int = 0
    root_path: str = ""
    wsgi_threads: int = 0
    wsgi_greenlets: int = 0
    monkey: bool = False
    watchdog_ms: int = 0
    http: dict[str, int | bool | str] = field(default_factory=dict)


@dataclass
class Config:
    """One puff.toml with everything that overrules it."""

    path: Path | None  # None: there is no file
    folder: Path
    file: schema.File
    notes: list[str] = field(default_factory=list)
    dotenv: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, Any] = field(default_factory=dict)  # "bind", "default-postgres-url"

    def variable(self, name: str) -> str | None:
        """Of the environment, else of .env. An empty one counts as not set."""
        return os.environ.get(name) or self.dotenv.get(name) or None

    def pools(self, kind: str) -> dict[str, schema.Pool]:
        """By name. "default" is always there: it needs no section."""
        entries: list[Any] = getattr(self.file, kind)
        return {"default": schema.Pool()} | {entry.name: entry for entry in entries}

    def given_url(self, kind: str, name: str) -> tuple[str, str] | None:
        """(url, where it was found); None leaves the embedded default."""
        pool = self._pool(kind, name)
        flag, variable = flag_of(kind, name), variable_of(kind, name)
        if self.overrides.get(flag):
            return str(self.overrides[flag]), f"--{flag}"
        found = self.variable(variable)
        if found:
            return found, variable
        if pool.url is not msgspec.UNSET:
            return str(pool.url), f"{self.path}: [[{kind}]] {name}: url"
        return None

    def pool_url(self, kind: str, name: str) -> str:
        """Starts the embedded server when no URL is given. Raises ConfigError, EmbeddedError."""
        given = self.given_url(kind, name)
        if given:
            return urls.check(kind, *given)
        if kind == "postgres":
            return embedded.postgres_url(self.folder)
        return embedded.redis_url(self.folder)

    def pool_options(self, kind: str, name: str) -> dict[str, Any]:
        """Those that are set, by their keys in puff.toml; a timeout of 0 is 2**64 - 1, never."""
        pool = self._pool(kind, name)
        given = {k: v for k, v in msgspec.structs.asdict(pool).items() if v is not msgspec.UNSET}
        for key in ("name", "enable", "url"):
            given.pop(key, None)
        if "pool_size" in given:
            given.setdefault(POOL_SIZE[kind], given.pop("pool_size"))
        never = {k: NO_TIMEOUT for k, v in given.items() if k.endswith("timeout_ms") and v == 0}
        return given | never

    def server(self) -> ServerConfig:
        """Raises ConfigError, which names the flag, the variable or the key."""
        values = msgspec.structs.asdict(self.file.server)
        for name in values:
            values[name] = self._server_value(name, values[name])
        http = {k: v for k, v in values.items() if k not in NOT_HTTP and v is not msgspec.UNSET}
        own = {k: v for k, v in values.items() if k in NOT_HTTP and v is not msgspec.UNSET}
        if own["wsgi_threads"] and own["wsgi_greenlets"]:
            raise ConfigError("wsgi_threads and wsgi_greenlets are both set: keep one")
        interface, app = self._needed_app()
        return ServerConfig(interface=interface, app=app, http=http, **own)

    def blocking_threads(self) -> int | None:
        """PUFF_BLOCKING_THREADS, else the key of puff.toml; None: a number for the machine."""
        text = self.variable("PUFF_BLOCKING_THREADS")
        if text is None:
            given = self.file.blocking_threads
            return None if isinstance(given, msgspec.UnsetType) else given
        if not text.isdecimal() or not 1 <= int(text) <= 10_000:
            raise ConfigError(
                f"PUFF_BLOCKING_THREADS must be a number from 1 to 10000, not {text!r}"
            )
        return int(text)

    def activate(self) -> None:
        """What one's own code expects: .env in the environment, the current folder on sys.path."""
        for name, value in self.dotenv.items():
            os.environ.setdefault(name, value)
        folder = str(Path.cwd())
        if self.file.add_cwd_to_path and folder not in sys.path:
            sys.path.insert(0, folder)

    def _pool(self, kind: str, name: str) -> schema.Pool:
        if kind not in KINDS:
            raise ConfigError(f"there are no pools of kind {kind!r}; known: {', '.join(KINDS)}")
        pools = self.pools(kind)
        if name not in pools:
            known = ", ".join(sorted(pools))
            raise ConfigError(
                f"no {kind} pool is called {name!r}; known: {known}. "
                f'Add [[{kind}]] name = "{name}" to {self.path or self.folder / "puff.toml"}'
            )
        if not pools[name].enable:
            raise ConfigError(f"the {kind} pool {name!r} is switched off (enable = false)")
        return pools[name]

    def _server_value(self, name: str, default: Any) -> Any:
        if self.overrides.get(name) is not None:
            return _convert(name, self.overrides[name], f"--{name.replace('_', '-')}")
        text = self.variable(f"PUFF_{name.upper()}")
        return default if text is None else _convert(name, text, f"PUFF_{name.upper()}")

    def app(self) -> tuple[str, str] | None:
        """("asgi" or "wsgi", import path) of the app, if one is named; a flag goes before a file.

        Raises ConfigError when both are named in one place.
        """
        places: list[tuple[str, Any]] = [
            ("--asgi and --wsgi", self.overrides.get),
            ("PUFF_ASGI and PUFF_WSGI", lambda name: self.variable(f"PUFF_{name.upper()}")),
            (f"asgi and wsgi in {self.path}", lambda name: getattr(self.file, name)),
        ]
        for place, look in places:
            named = [(i, look(i)) for i in ("asgi", "wsgi") if isinstance(look(i), str)]
            if len(named) == 2:
                raise ConfigError(f"{place} are both set; one app is served: keep one")
            if named:
                return named[0]
        return None

    def _needed_app(self) -> tuple[str, str]:
        app = self.app()
        if app:
            return app
        raise ConfigError(
            "nothing to serve: puff serve --asgi module:app, puff serve --wsgi module:app, or "
            'asgi = "module:app" in puff.toml'
        )


def flag_of(kind: str, name: str) -> str:
    """audit-postgres-url, which is also its name in `Config.overrides`."""
    return f"{name}-{kind}-url".lower().replace("_", "-")


def variable_of(kind: str, name: str) -> str:
    """PUFF_AUDIT_POSTGRES_URL"""
    return f"PUFF_{name}_{kind}_URL".upper().replace("-", "_")


def load(
    path: str | os.PathLike[str] | None = None, overrides: Mapping[str, Any] | None = None
) -> Config:
    """Reads `path`, else what PUFF_CONFIG names, else puff.toml of the current folder if it exists.

    `overrides` are flags: "bind", "max_body", "default-postgres-url". Raises ConfigError.
    """
    named = path or os.environ.get("PUFF_CONFIG")
    where = Path(named) if named else Path("puff.toml")
    where = where.absolute()
    if not named and not where.exists():
        config = Config(None, where.parent, schema.File())
    else:
        file, notes = toml.read(where)
        config = Config(where, where.parent, file, notes)
    config.overrides = dict(overrides or {})
    config.dotenv = _read_dotenv(config)
    _check_pools(config)
    return config


_current: Config | None = None
_mutex = threading.RLock()


def current() -> Config:
    """The process's settings: loaded at the first question, or what `use` has set."""
    global _current
    with _mutex:
        if _current is None:
            _current = load()
        return _current


def use(config: Config | None) -> None:
    """Sets the process's settings; None: load them anew. Pools that are open keep theirs."""
    global _current
    with _mutex:
        _current = config


def pool_url(kind: str, name: str = "default") -> str:
    """`Config.pool_url` of the process's settings."""
    return current().pool_url(kind, name)


def pool_options(kind: str, name: str = "default") -> dict[str, Any]:
    """`Config.pool_options` of the process's settings."""
    return current().pool_options(kind, name)


def _read_dotenv(config: Config) -> dict[str, str]:
    named = config.file.dotenv_path
    if isinstance(named, str):
        return dotenv.read(config.folder / named)
    found = dotenv.find(config.folder) if config.file.dotenv else None
    return dotenv.read(found) if found else {}


def _check_pools(config: Config) -> None:
    for kind in KINDS:
        seen: dict[str, str] = {}
        entries: list[Any] = getattr(config.file, kind)
        for entry in entries:
            where = f"{config.path}: [[{kind}]] {entry.name}"
            variable = variable_of(kind, entry.name)
            if variable in seen:
                raise ConfigError(f"{where}: {seen[variable]!r} has the same variable, {variable}")
            seen[variable] = entry.name
            if {"pool_size", POOL_SIZE[kind]} <= _set_keys(entry):
                raise ConfigError(
                    f"{where}: pool_size and {POOL_SIZE[kind]} are the same; keep one"
                )


def _set_keys(struct: msgspec.Struct) -> set[str]:
    return {k for k, v in msgspec.structs.asdict(struct).items() if v is not msgspec.UNSET}


def _convert(name: str, value: Any, source: str) -> Any:
    """A flag's or a variable's text as the type of the key."""
    try:
        parsed = msgspec.convert({name: value}, schema.Server, strict=False)
    except msgspec.ValidationError as e:
        raise ConfigError(f"{source}: {toml.sentence(e)[0]} ({value!r} was given)") from None
    return getattr(parsed, name)
