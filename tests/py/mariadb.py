"""A MariaDB (or MySQL) of a test's own: a folder, a Unix socket and a port that is free."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

READY_S = 30.0


@dataclass
class Database:
    socket: str
    port: int


def _program(name: str) -> str:
    path = os.pathsep.join([os.environ.get("PATH", ""), "/usr/sbin", "/usr/local/sbin"])
    found = shutil.which(name, path=path)
    if found is None:
        pytest.skip(f"no {name}: Debian has it in mariadb-server-core (tools/system-packages)")
    return found


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


@contextmanager
def server(folder: Path) -> Iterator[Database]:
    """Runs one in this folder, open to every user. Skips the test where there is none."""
    daemon = _program("mariadbd")
    user = pwd.getpwuid(os.getuid()).pw_name
    (folder / "data").mkdir()
    where = Database(f"{folder}/s", _free_port())
    # Without grants it needs no system tables, and so no mariadb-install-db with its helpers.
    argv = [
        daemon, "--no-defaults", f"--user={user}", f"--datadir={folder}/data",
        "--skip-grant-tables", "--skip-name-resolve", f"--socket={where.socket}",
        f"--port={where.port}", "--bind-address=127.0.0.1", f"--pid-file={folder}/pid",
        "--innodb-buffer-pool-size=8M",
    ]  # fmt: skip
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
    try:
        _wait_for(where, process, folder / "log")
        yield where
    finally:
        process.kill()  # there is nothing to keep
        process.wait(READY_S)


def _wait_for(where: Database, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            socket.create_connection(("127.0.0.1", where.port), 1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"mariadbd does not listen:\n{log.read_text('utf-8', 'replace')}")
