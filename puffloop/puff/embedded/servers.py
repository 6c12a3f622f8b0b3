"""What to run for each kind of server: the `spec` of `supervisor.Server`, and its URL.

Defaults keep data as the servers' makers do (fsync on; Redis's append-only file, fsync each second,
no eviction). `durable=False` trades that for speed: for tests.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from puff.embedded import binaries, place
from puff.embedded.place import Place

__all__ = ["MAX_CONNECTIONS", "spec", "url"]

MAX_CONNECTIONS = 200  # a few workers with pools of their own; each idle one costs about 2 MB

Spec = dict[str, Any]


def url(where: Place) -> str:
    """Plain characters only: `place` sees to it."""
    if where.kind == "postgres":
        return f"postgresql://postgres@/postgres?host={where.sockets}"
    return f"unix://{where.sockets}/redis.sock"


def spec(where: Place, *, durable: bool, remove: list[Path]) -> Spec:
    """Finds the program too: EmbeddedError says what to install."""
    made = _postgres(where, durable) if where.kind == "postgres" else _redis(where, durable)
    made.update(
        user=[where.user.uid, where.user.gid] if where.user else None,
        log=str(where.log),
        lock=str(where.lock),
        remove=[str(p) for p in remove],
    )
    return made


def _postgres(where: Place, durable: bool) -> Spec:
    folder = _postgres_folder(where)
    data = str(where.data)
    fresh = data + ".new"
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": str(where.sockets),
        "unix_socket_permissions": "0700",
        "max_connections": str(MAX_CONNECTIONS),
    }
    if not durable:
        settings.update(fsync="off", synchronous_commit="off", full_page_writes="off")
    # Everybody who can enter the socket's folder (0700) is the owner: trust is what peer would say.
    init = [str(folder / "initdb"), "-D", fresh, "-U", "postgres", "-A", "trust"]
    init += ["-E", "UTF8", "--locale=C.UTF-8", "--no-instructions"] + ([] if durable else ["-N"])
    return {
        "argv": [str(folder / "postgres"), "-D", data, *_options(settings)],
        "init": {"argv": init, "fresh": fresh, "data": data},
        "probe": ["postmaster", f"{data}/postmaster.pid"],
        # fast shutdown, then immediate (which costs a recovery at the next start)
        "stop": [["SIGINT", 30], ["SIGQUIT", 5]],
    }


def _postgres_folder(where: Place) -> Path:
    made_by = where.data / "PG_VERSION"
    major = made_by.read_text().strip() if made_by.exists() else None
    folder = binaries.find_postgres(major)
    if where.user and not place.can_enter(folder.resolve(), where.user):
        return binaries.readable_copy(folder)
    return folder


def _options(settings: dict[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _redis(where: Place, durable: bool) -> Spec:
    socket = str(where.sockets / "redis.sock")
    options = {
        "port": "0",
        "unixsocket": socket,
        "unixsocketperm": "700",
        "dir": str(where.data),
        "daemonize": "no",
        "maxmemory-policy": "noeviction",
        "appendonly": "yes" if durable else "no",
        "save": "3600 1" if durable else "",
    }
    argv = [str(binaries.find_redis())]
    argv += [part for name, value in options.items() for part in (f"--{name}", value)]
    return {"argv": argv, "init": None, "probe": ["ping", socket], "stop": [["SIGTERM", 30]]}
