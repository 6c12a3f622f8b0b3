"""A real Postgres and a real Redis with no set-up: what a pool without a URL connects to.

The first use starts a private server on a Unix socket below `.puff/` of the project; later users,
in this process or another, share it; it stops with the last of them, and keeps its data.

    >>> url = puff.embedded.postgres_url()
    >>> url
    'postgresql://postgres@/postgres?host=/srv/app/.puff/postgres.run/s'

docs/embedded.md tells the rest. Nothing here needs the native core.
"""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator

from puff.embedded import lease, place, servers

__all__ = ["postgres_url", "redis_url", "release", "stop", "temporary"]

_held: dict[tuple[str, str], lease.Lease] = {}
_temporary: set[str] = set()
_mutex = threading.Lock()


def postgres_url(project: str | os.PathLike[str] | None = None, *, durable: bool = True) -> str:
    """The libpq URI of the project's private Postgres, which is started if it does not run.

    Blocks until it answers: 1 ms for a running one, 0.2 s for a start, 1 s for the first (initdb).
    `project` is the folder that holds `.puff/`: by default that of puff.toml. `durable=False` (of
    the one who starts it) turns fsync off, for tests. Raises EmbeddedError: what to install or do.
    """
    return _url("postgres", project, durable)


def redis_url(project: str | os.PathLike[str] | None = None, *, durable: bool = True) -> str:
    """The `unix://` URL of the project's private Valkey or Redis; otherwise as `postgres_url`."""
    return _url("redis", project, durable)


def release(project: str | os.PathLike[str] | None = None) -> None:
    """Gives up the project's servers as far as this process holds them up; else its end does."""
    state = str(place.project_folder(project).resolve() / ".puff")
    with _mutex:
        for key in [k for k in _held if k[1] == state]:
            _held.pop(key).release()


def stop(project: str | os.PathLike[str] | None = None, *, timeout_s: float = 40) -> bool:
    """Releases, and waits until the servers are gone; False if somebody else uses them."""
    release(project)
    folder = place.project_folder(project)
    places = [place.locate(kind, folder) for kind in ("postgres", "redis")]
    return all(lease.wait_until_stopped(where, timeout_s) for where in places)


@contextlib.contextmanager
def temporary() -> Iterator[str]:
    """A project folder whose servers and data go at the end, also after kill -9 of this process."""
    folder = tempfile.mkdtemp(prefix="puff-")
    os.chmod(folder, 0o711)  # as root the server's user must get through
    _temporary.add(folder)
    try:
        yield folder
    finally:
        stop(folder)
        _temporary.discard(folder)
        shutil.rmtree(folder, ignore_errors=True)


def _url(kind: str, project: str | os.PathLike[str] | None, durable: bool) -> str:
    folder = place.project_folder(project)
    where = place.locate(kind, folder)
    remove = [where.data, where.run] if str(folder) in _temporary else []
    key = (kind, str(where.state))
    with _mutex:
        held = _held.get(key)
        if held is None or not held.alive:
            make_spec = functools.partial(servers.spec, where, durable=durable, remove=remove)
            _held[key] = lease.acquire(where, make_spec)
    return servers.url(where)
