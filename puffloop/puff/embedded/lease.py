"""A user's side: connect to the project's supervisor, or start one; the connection is the lease.

    connect -- ok ----------------------------------------> read one line: "ready", or "error ..."
        | refused, or no socket
    take KIND.start (flock, for milliseconds), connect again -- ok: another was faster --> as above
        | refused
    bind, listen, connect to ourselves, start the supervisor with the listening socket, let go

A line that never comes (the supervisor left at that moment) means: again, until the time is up.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable

from puff.embedded import supervisor
from puff.embedded.place import Place
from puff.embedded.servers import Spec
from puff.errors import EmbeddedError

__all__ = ["Lease", "acquire"]

TIMEOUT_S = 2 * supervisor.START_TIMEOUT_S  # a predecessor that stops, then a start with recovery
MAX_ATTEMPTS = 10  # one or two meet a supervisor that leaves; more, and it cannot even run


class Lease:
    """Holds the server up until `release`, or until the last process that inherited it is gone."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._connection = connection

    @property
    def alive(self) -> bool:
        """False when the supervisor is gone, maybe with a last word that nobody waited for."""
        try:
            while self._connection.recv(4096):
                pass
        except BlockingIOError:
            return True
        except OSError:
            pass
        return False

    def release(self) -> None:
        self._connection.close()


def acquire(where: Place, make_spec: Callable[[], Spec]) -> Lease:
    """Returns when the server answers. Raises EmbeddedError with the server's own words."""
    try:
        return _acquire(where, make_spec)
    except OSError as e:
        reason = f"{e.filename or where.state}: {e.strerror}"
        raise EmbeddedError(f"cannot use the private {where.kind}: {reason}") from None


def _acquire(where: Place, make_spec: Callable[[], Spec]) -> Lease:
    deadline = time.monotonic() + TIMEOUT_S
    for _ in range(MAX_ATTEMPTS):
        connection = _connect(where) or _start(where, make_spec)
        line = _read_line(connection, deadline)
        if line == "ready":
            return Lease(connection)
        connection.close()
        if line.startswith("error "):
            raise EmbeddedError(f"the private {where.kind} did not start: {line[6:]}")
        if time.monotonic() > deadline:
            break
    raise EmbeddedError(f"the private {where.kind} did not answer (log: {where.log})")


def _connect(where: Place) -> socket.socket | None:
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        s.connect(str(where.lease))
    except (FileNotFoundError, ConnectionRefusedError):
        s.close()
        return None
    except BaseException:
        s.close()
        raise
    return s


def _start(where: Place, make_spec: Callable[[], Spec]) -> socket.socket:
    where.make_folders()
    with open(where.start_lock, "w") as gate:
        fcntl.flock(gate, fcntl.LOCK_EX)
        other = _connect(where)
        if other:
            return other
        with contextlib.suppress(FileNotFoundError):
            where.lease.unlink()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
            listener.bind(str(where.lease))
            listener.listen(128)
            connection = _connect(where)
            assert connection is not None
            try:
                _run_supervisor(where, make_spec(), listener)
            except BaseException:
                connection.close()
                raise
            return connection


def _run_supervisor(where: Place, spec: Spec, listener: socket.socket) -> None:
    """Returns when it has gone into the background."""
    log = supervisor.open_log(spec["log"])
    argv = [_python(), "-I", "-S", supervisor.__file__, json.dumps(spec), str(listener.fileno())]
    try:
        subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=[listener.fileno()],
            cwd="/",
            timeout=30,
            check=True,
        )
    except (OSError, subprocess.SubprocessError) as e:
        raise EmbeddedError(
            f"cannot start the private {where.kind}: {e} (log: {where.log})"
        ) from None
    finally:
        os.close(log)


def _python() -> str:
    """sys.executable is empty or another program where Python is embedded in one."""
    name = os.path.basename(sys.executable or "")
    found = sys.executable if "python" in name else shutil.which("python3")
    if not found:
        raise EmbeddedError("no python3 on PATH to run the supervisor of a private server with")
    return found


def _read_line(connection: socket.socket, deadline: float) -> str:
    """Empty if the supervisor went away or the time is up."""
    got = b""
    with contextlib.suppress(OSError):
        while not got.endswith(b"\n"):
            connection.settimeout(max(deadline - time.monotonic(), 0.001))
            part = connection.recv(4096)
            if not part:
                break
            got += part
    return got.decode(errors="replace").strip()


def wait_until_stopped(where: Place, timeout_s: float) -> bool:
    """Whether no server runs on this data any more; for those who released the last lease."""
    deadline = time.monotonic() + timeout_s
    delay = 0.005
    with contextlib.suppress(FileNotFoundError), open(where.lock, "r+") as lock:
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except BlockingIOError:
                if time.monotonic() > deadline:
                    return False
            time.sleep(delay)
            delay = min(delay * 1.5, 0.1)
    return True
