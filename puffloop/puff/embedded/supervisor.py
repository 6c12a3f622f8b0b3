"""One private server process and its users: started once, stopped with the last of them.

Run as a program (`python -I -S supervisor.py SPEC`), never imported by a user of Puff, so it needs
nothing but the standard library and starts in a few milliseconds:

    user A ----lease (a Unix socket held open)----+
    user B ----lease------------------------------+--> supervisor --> postgres | valkey-server
    worker of B (fork: inherits the lease) -------+

- A lease is a connection. The kernel closes it however its user ends, kill -9 included; when none
  is left the server is stopped. Nobody polls.
- The listening socket was made by the first user and is inherited, with that user's own lease
  already in its backlog: there is no moment at which a living supervisor cannot be reached.
- `lock` is held (flock) by the supervisor AND by the server, which inherits the descriptor: whoever
  gets it knows that no server runs on this data, even if a supervisor was killed.
- A server that dies is started again, at most RESTARTS times within RESTART_WINDOW_S: its data is
  durable and clients reconnect. After that the supervisor gives up and the leases close.

The class `Server` also serves the test suite, which stops, kills and restarts servers of its own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from typing import Any

START_TIMEOUT_S = 60.0  # initdb on a slow disk takes some seconds; recovery after a crash too
RESTARTS = 3
RESTART_WINDOW_S = 60.0
LOG_MAX_BYTES = 8 * 1024 * 1024  # a log that has grown past this is started anew
PR_SET_PDEATHSIG = 1

# Loaded before any fork: the server's user may not be able to read our standard library.
libc = None
if sys.platform == "linux":
    with contextlib.suppress(ImportError):
        import ctypes

        libc = ctypes.CDLL(None)


class ServerError(Exception):
    """The server did not come up; the message ends with what it said itself."""


class Server:
    """A server process described by `spec` (made by `puff.embedded.servers`):

    argv          what to run
    init          None, or {argv, fresh, data}: argv fills the folder `fresh`, which becomes `data`
    probe         ["postmaster", path of postmaster.pid] or ["ping", path of the socket]
    stop          [[signal name, seconds to wait], ...]; SIGKILL follows by itself
    user          None, or [uid, gid] to run as
    log, lock     paths; remove: paths deleted at the end
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self.spec = spec
        self.process: subprocess.Popen[bytes] | None = None
        self._lock_fd = -1
        self._log_start = 0

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def lock(self) -> None:
        """Waits until no other server runs on this data, then keeps others off."""
        if self._lock_fd < 0:
            self._lock_fd = os.open(self.spec["lock"], os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._lock_fd, fcntl.LOCK_EX)

    def unlock(self) -> None:
        if self._lock_fd >= 0:
            os.close(self._lock_fd)
            self._lock_fd = -1

    def init(self) -> None:
        """Makes the data if there is none. Cut short, it leaves nothing that looks like data."""
        init = self.spec["init"]
        if init is None or os.listdir(init["data"]):
            return
        fresh = init["fresh"]
        shutil.rmtree(fresh, ignore_errors=True)
        os.mkdir(fresh, 0o700)
        if self.spec["user"]:
            os.chown(fresh, *self.spec["user"])
        code = self._spawn(init["argv"]).wait(START_TIMEOUT_S)
        if code != 0:
            raise ServerError(f"{init['argv'][0]} failed with status {code}: {self._last_words()}")
        os.rename(fresh, os.path.realpath(init["data"]))  # over the empty folder, in one step

    def start(self) -> None:
        """Starts the process and returns when it answers. Raises ServerError."""
        self.process = self._spawn(self.spec["argv"])
        deadline = time.monotonic() + START_TIMEOUT_S
        delay = 0.005
        while not self._answers():
            if self._ended_within(delay):
                code = self.process.returncode
                raise ServerError(f"it ended with status {code}: {self._last_words()}")
            if time.monotonic() > deadline:
                self.kill()
                raise ServerError(f"no answer in {START_TIMEOUT_S:.0f} s: {self._last_words()}")
            delay = min(delay * 1.5, 0.1)

    def start_after_crash(self) -> None:
        """What the dead server left (its children, its shared memory) goes within moments."""
        for delay in (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4):
            try:
                return self.start()
            except ServerError:
                time.sleep(delay)
        return self.start()

    def stop(self) -> None:
        """Asks in the order of `stop`, then insists."""
        for name, seconds in self.spec["stop"]:
            if not self.running():
                return
            assert self.process is not None
            self.process.send_signal(getattr(signal, name))
            if self._ended_within(seconds):
                return
        self.kill()

    def kill(self) -> None:
        """kill -9, as a crash would."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def running(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def _ended_within(self, seconds: float) -> bool:
        assert self.process is not None
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def _spawn(self, argv: list[str]) -> subprocess.Popen[bytes]:
        uid, gid = self.spec["user"] or (None, None)
        log = open_log(self.spec["log"])
        try:
            self._log_start = os.fstat(log).st_size
            return subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",  # never the checkout: the server's user may not be able to enter it
                env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
                pass_fds=[self._lock_fd] if self._lock_fd >= 0 else [],
                preexec_fn=die_with_parent,
                user=uid,
                group=gid,
                extra_groups=None if uid is None else [],
            )
        except (OSError, subprocess.SubprocessError) as e:
            raise ServerError(f"cannot run {argv[0]}: {e}") from None
        finally:
            os.close(log)

    def _answers(self) -> bool:
        kind, path = self.spec["probe"]
        return postmaster_is_ready(path, self.pid) if kind == "postmaster" else answers_ping(path)

    def _last_words(self) -> str:
        with open(self.spec["log"], "rb") as f:
            f.seek(self._log_start)
            lines = f.read(65536).decode(errors="replace").strip().splitlines()
        loud = [ln for ln in lines if any(w in ln for w in ("FATAL", "PANIC", "rror", "Bad file"))]
        said = " / ".join(loud[-2:] or lines[-3:]) or "it said nothing"
        return f"{said} (log: {self.spec['log']})"


def open_log(path: str) -> int:
    fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    if os.fstat(fd).st_size > LOG_MAX_BYTES:
        os.ftruncate(fd, 0)
    return fd


def die_with_parent() -> None:
    """In the child, after it has become its final user (a change of user clears the setting).

    SIGINT is Postgres's fast shutdown, and Redis saves and leaves. Where there is no prctl the lock
    still tells the next supervisor that the server lives.
    """
    if libc is not None:
        libc.prctl(PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)


def postmaster_is_ready(path: str, pid: int) -> bool:
    """What pg_ctl -w looks at: line 1 is the process, line 8 its state."""
    try:
        with open(path) as f:
            lines = f.read().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"


def answers_ping(path: str) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as s:
        s.settimeout(1.0)
        try:
            s.connect(path)
            s.sendall(b"PING\r\n")
            return s.recv(64).startswith(b"+PONG")  # -LOADING until its data is read
        except OSError:
            return False


class Supervisor:
    """Owns the server, counts its users."""

    def __init__(self, server: Server, listener: socket.socket) -> None:
        self.server = server
        self.listener = listener
        self.leases: dict[int, socket.socket] = {}
        self.crashes: list[float] = []
        self.asked_to_stop = False
        self.ready = False  # a new user is told at once; the first ones when the server has started
        self.listener.setblocking(False)
        self.poll = select.poll()
        self.poll.register(listener, select.POLLIN)

    def run(self) -> int:
        self._listen_to_signals()
        try:
            self.server.lock()
            if self._has_users():
                self.server.init()
                self.server.start()
                self.ready = True
                self._tell_all(b"ready\n")
                self._serve()
        except (ServerError, OSError, subprocess.TimeoutExpired) as e:
            self.ready = False
            self._accept_waiting()
            self._tell_all(f"error {e}\n".encode())
            return 1
        finally:
            self.listener.close()
            self.server.stop()
            for path in self.server.spec["remove"]:
                shutil.rmtree(path, ignore_errors=True)
        return 0

    def _serve(self) -> None:
        while self._has_users() and not self.asked_to_stop:
            for fd, _ in self.poll.poll():
                if fd == self.listener.fileno():
                    self._accept_waiting()
                elif fd == self.woken.fileno():
                    self.woken.recv(64)
                else:
                    self._drop(fd)
            if not self.server.running() and not self.asked_to_stop:
                self._revive()

    def _has_users(self) -> bool:
        """Looks at the backlog before it says no; who comes later finds it closed and retries."""
        if not self.leases:
            self._accept_waiting()
        return bool(self.leases)

    def _accept_waiting(self) -> None:
        while True:
            try:
                lease, _ = self.listener.accept()
            except OSError:  # nobody else
                return
            lease.setblocking(False)
            if is_closed(lease):
                lease.close()
                continue
            self.leases[lease.fileno()] = lease
            self.poll.register(lease, select.POLLIN)
            if self.ready:
                tell(lease, b"ready\n")

    def _drop(self, fd: int) -> None:
        """A user never sends: readable means gone."""
        self.poll.unregister(fd)
        self.leases.pop(fd).close()

    def _tell_all(self, line: bytes) -> None:
        for lease in self.leases.values():
            tell(lease, line)

    def _revive(self) -> None:
        assert self.server.process is not None
        status = self.server.process.returncode
        print(f"puff: the server ended with status {status}; starting it again", file=sys.stderr)
        now = time.monotonic()
        self.crashes = [t for t in self.crashes if now - t < RESTART_WINDOW_S] + [now]
        if len(self.crashes) > RESTARTS:
            raise ServerError(f"it died {len(self.crashes)} times within a minute")
        self.server.start_after_crash()

    def _listen_to_signals(self) -> None:
        self.woken, wake = socket.socketpair()
        self.woken.setblocking(False)
        wake.setblocking(False)
        self._wake = wake
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, self._on_sigterm)
        self.poll.register(self.woken, select.POLLIN)

    def _on_sigterm(self, *_: object) -> None:
        self.asked_to_stop = True


def tell(lease: socket.socket, line: bytes) -> None:
    with contextlib.suppress(OSError):  # gone; the poll says so too
        lease.send(line)


def is_closed(lease: socket.socket) -> bool:
    """The lease does not block."""
    try:
        return lease.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def main(argv: list[str]) -> int:
    spec = json.loads(argv[1])
    if os.fork() > 0:
        # The starter waits for this process only: it never has a child that it did not ask for.
        os._exit(0)
    os.umask(0o077)
    os.setsid()  # a terminal's Ctrl-C is for the user, not for the server
    listener = socket.socket(fileno=int(argv[2]))
    return Supervisor(Server(spec), listener).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv))
