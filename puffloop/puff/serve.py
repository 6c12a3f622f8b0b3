"""`puff serve`: one process, or one that watches over several, until a signal says stop.

    serve(config) --workers 1--> _Worker.run()                              exit status
                  --workers N--> Supervisor (puff.supervisor): binds, forks N times, watches
                                    +- child: _Worker.run() on sockets of its own

Exit status: 0 stopped as asked; 1 cannot listen; 3 the app cannot be imported or started.
"""

from __future__ import annotations

import asyncio
import errno
import gc
import logging
import signal
import socket
import sys
import warnings
from importlib import import_module
from typing import Any, cast

import puff
import puff.asgi
import puff.wsgi
from puff.config import ServerConfig
from puff.errors import AppImportError, AppStartError
from puff.imports import import_path, traceback_of
from puff.server import AppServer, parse_bind
from puff.supervisor import Supervisor, report_ready

__all__ = ["serve"]

_log = logging.getLogger("puff.error")

OK, CANNOT_LISTEN, CANNOT_START = 0, 1, 3


def serve(config: ServerConfig) -> int:
    """Serves until SIGINT or SIGTERM; returns the process's exit status.

    A first signal lets requests in flight finish, at most `stop_timeout_ms`; a second one does not.
    """
    _set_up_logging(config.log_level)
    for bind in config.bind.split(","):
        parse_bind(bind)
    if config.workers == 1:
        return _Worker(config, config.bind.split(",")).run()
    supervisor = Supervisor(
        config.workers,
        lambda sockets, ready_fd, parent_fd: _Worker(config, sockets, ready_fd, parent_fd).run(),
        stop_timeout_s=config.stop_timeout_ms / 1000,
    )
    for bind in config.bind.split(","):
        try:
            address = supervisor.bind(bind, reuse_port=config.reuse_port, backlog=config.backlog)
        except OSError as e:
            return _cannot_listen(bind, e)
        supervisor.addresses.append(address)
    return supervisor.run(on_ready=lambda: _say_listening(supervisor.addresses))


def _set_up_logging(level: str) -> None:
    """The handler of "puff", on stderr; what the app configures for itself stays its own."""
    logger = logging.getLogger("puff")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False


def _say(sentence: str, file: Any = None) -> None:
    print(f"puff: {sentence}", file=file or sys.stderr, flush=True)


def _say_listening(addresses: list[str]) -> None:
    for address in addresses:
        _say(f"listening on {address}", sys.stdout)


def _cannot_listen(bind: str, error: OSError) -> int:
    _say(f"cannot listen on {bind}: {_reason(error)}")
    return CANNOT_LISTEN


def _reason(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "the address is in use"
    return (error.strerror or str(error)).lower()


# ---- one process that serves ---------------------------------------------------------------------


class _Worker:
    """Imports the app, serves it on a loop of its own, and ends with an exit status.

    `ready_fd` and `parent_fd`: pipes of a supervisor, which hears that we listen, and whose end we
    hear.
    """

    def __init__(
        self,
        config: ServerConfig,
        binds: list[str] | list[socket.socket],
        ready_fd: int = -1,
        parent_fd: int = -1,
    ) -> None:
        self._config = config
        self._binds = binds
        self._ready_fd = ready_fd
        self._parent_fd = parent_fd
        self._server: AppServer | None = None
        self._stop: asyncio.Event | None = None

    def run(self) -> int:
        loop = puff.new_event_loop()
        asyncio.set_event_loop(loop)
        try:
            if self._config.monkey:
                with warnings.catch_warnings():  # of ours only click has been imported by now
                    warnings.filterwarnings("ignore", "imported before puff.monkey")
                    import_module("puff.monkey").patch_all()
            app = import_path(self._config.app)
            if not callable(app):
                raise AppImportError(
                    f"{self._config.app} is {type(app).__name__}, which cannot be called"
                )
            return loop.run_until_complete(self._serve(app))
        except AppImportError as e:
            sys.stderr.write(traceback_of(e))
            _say(str(e))
            return CANNOT_START
        except KeyboardInterrupt:
            return 128 + signal.SIGINT
        finally:
            _close(loop)

    async def _serve(self, app: Any) -> int:
        loop = asyncio.get_running_loop()
        self._stop = asyncio.Event()
        self._listen_to_signals(loop)
        self._server = server = self._make_server(app)
        starting = asyncio.ensure_future(self._start(server))
        stopping = asyncio.ensure_future(self._stop.wait())
        await asyncio.wait([starting, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not starting.done():
            starting.cancel()  # _close() ends what it began
            return OK
        if starting.result() != OK:
            return starting.result()
        await stopping
        return await self._end(server)

    def _make_server(self, app: Any) -> AppServer:
        config = self._config
        common: dict[str, Any] = {
            "bind": self._binds,
            "root_path": config.root_path,
            "access_log": config.access_log,
            "reuse_port": config.reuse_port,
            "backlog": config.backlog,
            "stop_timeout_ms": config.stop_timeout_ms,
            "http": config.http,
        }
        if config.interface == "asgi":
            return puff.asgi.Server(app, **common)
        several = config.workers > 1
        return puff.wsgi.Server(
            app,
            threads=config.wsgi_threads,
            greenlets=config.wsgi_greenlets,
            multiprocess=several,
            **common,
        )

    async def _start(self, server: AppServer) -> int:
        try:
            await server.start()
        except AppStartError as e:
            _say(str(e))
            return CANNOT_START
        except OSError as e:
            return _cannot_listen(self._config.bind, e)
        gc.collect()
        gc.freeze()  # what the imports made lives as long as we do: no collection need look at it
        loop = cast(puff.Loop, asyncio.get_running_loop())
        loop.set_watchdog(self._config.watchdog_ms)  # so far nobody has waited for an answer
        if self._ready_fd >= 0:
            report_ready(self._ready_fd)
        else:
            _say_listening(server.addresses)
        return OK

    async def _end(self, server: AppServer) -> int:
        try:
            await server.stop()
        except AppStartError as e:
            _say(str(e))
            return CANNOT_START
        return OK

    def _listen_to_signals(self, loop: asyncio.AbstractEventLoop) -> None:
        """A process manager may send SIGTERM to a supervisor and to its workers: a worker hears it
        twice, and must not take that for impatience. SIGQUIT always says: now."""
        assert self._stop is not None
        loop.add_signal_handler(signal.SIGQUIT, self._on_quit)
        if self._parent_fd >= 0:
            loop.add_signal_handler(signal.SIGTERM, self._stop.set)
            loop.add_reader(self._parent_fd, self._on_parent_gone)
            return
        loop.add_signal_handler(signal.SIGHUP, self._on_hangup)
        for signum in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(signum, self._on_signal)

    def _on_signal(self) -> None:
        assert self._stop is not None
        if self._stop.is_set():
            self._on_quit()
        self._stop.set()

    def _on_hangup(self) -> None:
        _log.warning("SIGHUP reloads the app only with several workers (--workers 2)")

    def _on_quit(self) -> None:
        assert self._stop is not None
        self._stop.set()
        if self._server is not None:
            self._server.hurry()

    def _on_parent_gone(self) -> None:
        assert self._stop is not None
        asyncio.get_running_loop().remove_reader(self._parent_fd)
        self._stop.set()


def _close(loop: asyncio.AbstractEventLoop) -> None:
    """What asyncio.run() does at its end."""
    try:
        tasks = asyncio.all_tasks(loop)
        for task in tasks:
            task.cancel()
        if tasks:
            loop.run_until_complete(asyncio.wait(tasks, timeout=5))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
