"""Several processes that serve the same addresses: started, watched, replaced and stopped together.

Workers are forked before any loop or thread exists here, and the app is never imported here, so a
worker that is started late starts from the same state as the first. Exit status of a worker: 3
means that the app cannot start, and ends all; anything else, or a signal, and it is replaced.

    bind() x addresses      run()
        one socket per          fork x N ----- "ready" -----> on_ready()
        worker and TCP          |  a worker ends: replaced, later and later if it dies young
        address                 |  SIGTERM, SIGINT: SIGTERM to all; a second one: SIGQUIT
                                |  SIGHUP: one at a time is replaced, once the new one is ready
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import stat
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from puff.server import parse_bind

__all__ = ["Supervisor", "report_ready"]

CANNOT_START = 3
# A worker that dies young is not replaced at once: a crash in its start would burn a core for ever.
YOUNG_S, DELAY_MIN_S, DELAY_MAX_S = 5.0, 0.2, 10.0
KILL_GRACE_S = 10.0  # beyond the stop timeout, before a worker is killed
BACKLOG = 2048
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
SIGNALS = (*STOP_SIGNALS, signal.SIGHUP)

# run_worker(sockets, ready_fd, parent_fd) -> exit status
RunWorker = Callable[[list[socket.socket], int, int], int]

_log = logging.getLogger("puff.server")


def report_ready(ready_fd: int) -> None:
    """Called by a worker when it listens."""
    os.write(ready_fd, b"%d\n" % os.getpid())


@dataclass
class _Slot:
    """The place of one worker. Its sockets stay open here while it is replaced, so that connections
    which wait to be accepted wait for the next one."""

    sockets: list[socket.socket] = field(default_factory=list)
    pid: int = 0
    started: float = 0.0
    ready: bool = False
    delay_s: float = 0.0
    respawn_at: float | None = None


class Supervisor:
    """Arguments: n_workers; run_worker, a worker's life, in the child; stop_timeout_s, what workers
    give their requests when they are told to stop."""

    def __init__(self, n_workers: int, run_worker: RunWorker, *, stop_timeout_s: float) -> None:
        self.addresses: list[str] = []
        self._slots = [_Slot() for _ in range(n_workers)]
        self._run_worker = run_worker
        self._stop_timeout_s = stop_timeout_s
        self._unix_paths: list[str] = []
        self._status = 0
        self._n_signals = 0
        self._kill_at: float | None = None  # set: we are stopping
        self._announced = False
        self._to_renew: list[_Slot] = []  # since a SIGHUP
        self._newcomer: tuple[int, _Slot] | None = None  # starts beside the one that it replaces
        self._leaving: set[int] = set()  # those that were replaced and finish their requests
        self._ready_r, self._ready_w = os.pipe()
        self._alive_r, self._alive_w = os.pipe()  # workers see its end when we are gone

    # ---- addresses ----

    def bind(self, bind: str, *, reuse_port: bool = False, backlog: int = 0) -> str:
        """Binds and listens for all workers; returns the address. Raises OSError."""
        host, port = parse_bind(bind)
        if port is None:
            return self._bind_unix(host, backlog or BACKLOG)
        return self._bind_tcp(host, port, reuse_port, backlog or BACKLOG)

    def _bind_tcp(self, host: str, port: int, reuse_port: bool, backlog: int) -> str:
        """One socket for each worker, so that the kernel spreads connections evenly."""
        family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if not reuse_port:
            # SO_REUSEPORT would share the port with a stranger that runs as the same user.
            with _tcp_socket(family, reuse_port=False) as probe:
                probe.bind(where)
        for slot in self._slots:
            sock = _tcp_socket(family, reuse_port=True)
            slot.sockets.append(sock)
            sock.bind(where)
            sock.listen(backlog)
            where = sock.getsockname()  # of port 0: the same port for all
        shown = f"[{host}]" if ":" in host else host
        return f"http://{shown}:{where[1]!s}"

    def _bind_unix(self, path: str, backlog: int) -> str:
        _remove_stale(path)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        sock.bind(path)
        sock.listen(backlog)
        self._unix_paths.append(path)
        for slot in self._slots:
            slot.sockets.append(sock.dup())
        sock.close()
        return f"unix:{path}"

    # ---- running ----

    def run(self, on_ready: Callable[[], None]) -> int:
        """Until a signal says stop, or the app cannot start; returns the exit status."""
        with self._signals() as wakeup_fd:
            for slot in self._slots:
                self._spawn(slot)
            while any(slot.respawn_at for slot in self._slots) or self._pids():
                self._wait(wakeup_fd)
                self._obey()
                self._reap()
                self._renew()
                self._respawn()
                self._announce(on_ready)
        for path in self._unix_paths:
            with contextlib.suppress(OSError):
                os.unlink(path)
        return self._status

    @contextlib.contextmanager
    def _signals(self) -> Iterator[int]:
        """Signals are counted, and make the descriptor readable; all else happens in run()."""

        def on_stop(signum: int, frame: object) -> None:
            self._n_signals += 1

        def on_reload(signum: int, frame: object) -> None:
            self._to_renew = list(self._slots)

        r, w = os.pipe()
        os.set_blocking(r, False)
        os.set_blocking(w, False)
        signal.set_wakeup_fd(w, warn_on_full_buffer=False)
        for signum in STOP_SIGNALS:
            signal.signal(signum, on_stop)
        signal.signal(signal.SIGHUP, on_reload)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        try:
            yield r
        finally:
            signal.set_wakeup_fd(-1)

    def _wait(self, wakeup_fd: int) -> None:
        """For a signal, a worker that is ready, or the next thing that is due."""
        due = [slot.respawn_at for slot in self._slots if slot.respawn_at is not None]
        if self._kill_at is not None:
            due.append(self._kill_at)
        timeout = max(0.0, min(due) - time.monotonic()) if due else None
        readable, _, _ = select.select([wakeup_fd, self._ready_r], [], [], timeout)
        if wakeup_fd in readable:
            os.read(wakeup_fd, 4096)
        if self._ready_r in readable:
            pids = {int(pid) for pid in os.read(self._ready_r, 65536).split()}
            for slot in self._slots:
                slot.ready = slot.ready or slot.pid in pids
            if self._newcomer and self._newcomer[0] in pids:
                self._take_over(*self._newcomer)

    def _announce(self, on_ready: Callable[[], None]) -> None:
        if not self._announced and all(slot.ready for slot in self._slots):
            self._announced = True
            on_ready()

    # ---- workers ----

    def _spawn(self, slot: _Slot) -> None:
        slot.started, slot.ready, slot.respawn_at = time.monotonic(), False, None
        slot.pid = self._fork(slot)

    def _fork(self, slot: _Slot) -> int:
        """Signals wait meanwhile: in a child they must not meet our handlers, which only count."""
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        pid = os.fork()
        if pid == 0:
            os._exit(self._child(slot))
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        return pid

    def _child(self, slot: _Slot) -> int:
        """A worker's life. Of ours it keeps its sockets and the ends of two pipes."""
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGHUP, signal.SIG_IGN)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches it through us, as SIGTERM
            signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
            os.close(self._alive_w)
            os.close(self._ready_r)
            for other in self._slots:
                for sock in [] if other is slot else other.sockets:
                    sock.close()
            status = self._run_worker(slot.sockets, self._ready_w, self._alive_r)
        except BaseException:
            traceback.print_exc()
            status = 1
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        return status

    def _reap(self) -> None:
        for slot in self._slots:
            if slot.pid:
                pid, status = os.waitpid(slot.pid, os.WNOHANG)
                if pid:
                    self._ended(slot, os.waitstatus_to_exitcode(status))
        self._leaving = {pid for pid in self._leaving if os.waitpid(pid, os.WNOHANG)[0] == 0}
        if self._newcomer is None:
            return
        pid, status = os.waitpid(self._newcomer[0], os.WNOHANG)
        if pid:
            self._newcomer = None
            self._to_renew.clear()
            if self._kill_at is None:
                how = _how(os.waitstatus_to_exitcode(status))
                _log.error("a new worker did not start (%s); the old ones go on", how)

    # ---- new code, by SIGHUP ----

    def _renew(self) -> None:
        all_ready = all(slot.pid and slot.ready for slot in self._slots)
        if self._to_renew and all_ready and not self._newcomer and self._kill_at is None:
            slot = self._to_renew.pop(0)
            self._newcomer = self._fork(slot), slot

    def _take_over(self, pid: int, slot: _Slot) -> None:
        """Both accept from the same sockets until the old one has heard of it: no client waits."""
        self._newcomer = None
        if slot.pid:
            self._leaving.add(slot.pid)
            with contextlib.suppress(ProcessLookupError):
                os.kill(slot.pid, signal.SIGTERM)
        slot.pid, slot.ready, slot.started = pid, True, time.monotonic()
        slot.respawn_at = None

    def _respawn(self) -> None:
        for slot in self._slots:
            if slot.respawn_at is not None and slot.respawn_at <= time.monotonic():
                self._spawn(slot)

    def _ended(self, slot: _Slot, status: int) -> None:
        """`status` as in subprocess: negative for a signal."""
        pid, slot.pid = slot.pid, 0
        if self._kill_at is not None:
            return
        unable = not (slot.ready or self._announced) and status != -signal.SIGTERM
        if status == CANNOT_START or unable:
            self._stop(CANNOT_START)
            return
        age = time.monotonic() - slot.started
        slot.delay_s = (
            min(max(2 * slot.delay_s, DELAY_MIN_S), DELAY_MAX_S) if age < YOUNG_S else 0.0
        )
        slot.respawn_at = time.monotonic() + slot.delay_s
        _log.error("worker %d ended (%s); starting another", pid, _how(status))

    # ---- stopping ----

    def _obey(self) -> None:
        if self._n_signals and self._kill_at is None:
            self._n_signals = 0
            self._stop(0)
        elif self._n_signals:
            self._n_signals = 0
            self._signal_all(signal.SIGQUIT)  # they cut requests off
            assert self._kill_at is not None
            self._kill_at = min(self._kill_at, time.monotonic() + KILL_GRACE_S)
        if self._kill_at is not None and time.monotonic() >= self._kill_at:
            self._signal_all(signal.SIGKILL)
            self._kill_at = time.monotonic() + KILL_GRACE_S

    def _stop(self, status: int) -> None:
        self._status = status
        self._kill_at = time.monotonic() + self._stop_timeout_s + KILL_GRACE_S
        for slot in self._slots:
            slot.respawn_at = None
        self._signal_all(signal.SIGTERM)

    def _pids(self) -> set[int]:
        running = {slot.pid for slot in self._slots if slot.pid} | self._leaving
        return running | ({self._newcomer[0]} if self._newcomer else set())

    def _signal_all(self, signum: int) -> None:
        for pid in self._pids():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signum)


def _how(status: int) -> str:
    return f"exit status {status}" if status >= 0 else signal.Signals(-status).name


def _tcp_socket(family: int, *, reuse_port: bool) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    if family == socket.AF_INET6:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
    return sock


def _remove_stale(path: str) -> None:
    """A socket file that nobody listens on. Anything else stays, and bind() says so."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)
