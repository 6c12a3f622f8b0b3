"""Puff's event loop and the ways to choose it.

import puff
puff.run(main())                                    # or
asyncio.Runner(loop_factory=puff.new_event_loop)    # or
asyncio.set_event_loop_policy(puff.Policy())
"""

from __future__ import annotations

import asyncio
import signal
import socket
import sys
import threading
from asyncio import events, unix_events
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from puff._bind.accept import AcceptMethods
from puff._bind.datagram import DatagramMethods
from puff._bind.loop import LoopBase
from puff._bind.pipe import PipeMethods
from puff._bind.process import ProcessMethods
from puff._bind.resolve import ResolveMethods
from puff._bind.sock import SockMethods
from puff._bind.transport import Transport
from puff._bind.watchdog import WatchdogMethods
from puff._nested import NestedRuns
from puff._stdlib_loop import StdlibLoop
from puff._tls_loop import TlsMethods
from puff._when_imported import when_imported

if TYPE_CHECKING:
    from selectors import BaseSelector, SelectorKey

    from puff._nested import _Until

__all__ = ["Loop", "Policy", "install", "new_event_loop", "run"]

_T = TypeVar("_T")


class _Selector:
    """What stdlib code reads of a loop's selector: who is watched. The watching is native."""

    def __init__(self) -> None:
        self._loop: LoopBase | None = None

    def get_map(self) -> Mapping[int, SelectorKey]:
        return self._loop._watched() if self._loop is not None else {}

    def get_key(self, fileobj: Any) -> SelectorKey:
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        try:
            return self.get_map()[fd]
        except KeyError:
            raise KeyError(f"{fileobj!r} is not registered") from None

    def close(self) -> None:
        self._loop = None


class Loop(
    LoopBase,
    TlsMethods,
    AcceptMethods,
    DatagramMethods,
    SockMethods,
    PipeMethods,
    ProcessMethods,
    ResolveMethods,
    WatchdogMethods,
    NestedRuns,
    StdlibLoop,
):
    """An asyncio event loop on libuv.

    It is an `asyncio.SelectorEventLoop` of the running interpreter whose hot half (callbacks,
    timers, descriptors, stream and datagram transports) is native; everything else, and so every
    method and keyword that this Python version knows, is the interpreter's own.

    Arguments: nested, whether run_until_complete() and run_forever() may be called while the loop
    runs, by a callback or a coroutine of it (docs/loop.md, "Runs inside runs").
    """

    def __init__(self, *, nested: bool = False) -> None:
        selector = _Selector()
        selector._loop = self
        super().__init__(cast("BaseSelector", selector))
        self.nested = nested

    def run_forever(self) -> None:
        """Runs until stop() is called."""
        self._run(None)

    def _run(self, until: _Until | None) -> None:
        self._check_closed()
        if self.nested and self._runs_here():
            self._run_inside(until)
            return
        self._check_running()
        outer = self._enter_run()
        old_fd = self._claim_wakeup_fd()
        try:
            self._run_forever_setup()
            try:
                if until is None:
                    self._run_turns()
                else:
                    self._turn_until(self, until)
            finally:
                self._run_forever_cleanup()
        finally:
            self._leave_run(outer)
            self._restore_wakeup_fd(old_fd)

    def close(self) -> None:
        """Closes the loop and whatever Puff's clients keep on it. It must not be running."""
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        self._close_clients()
        if not cast(Any, unix_events).sys.is_finalizing():
            # asyncio does this after closing the self-pipe, to which a signal would be written.
            for sig in list(self._signal_handlers):
                self.remove_signal_handler(sig)
        super().close()
        self._close_core()

    def _make_socket_transport(
        self,
        sock: socket.socket,
        protocol: asyncio.BaseProtocol,
        waiter: asyncio.Future[None] | None = None,
        *,
        extra: dict[str, Any] | None = None,
        server: asyncio.AbstractServer | None = None,
    ) -> asyncio.Transport:
        self._ensure_fd_no_transport(sock)
        if not issubclass(type(sock), socket.socket):  # it only behaves like one: use its methods
            asyncios: asyncio.Transport = cast(Any, super())._make_socket_transport(
                sock, protocol, waiter, extra=extra, server=server
            )
            return asyncios
        return Transport(self, sock, protocol, waiter, extra, server)

    # The poll is native and is not interrupted by a signal: CPython's handler writes to the loop's
    # self-pipe instead, which ends the poll, and Python's handlers run at once.

    def _claim_wakeup_fd(self) -> int | None:
        if threading.current_thread() is not threading.main_thread():
            return None
        own_fd = self._csock.fileno()
        old_fd = signal.set_wakeup_fd(own_fd, warn_on_full_buffer=False)
        return -1 if old_fd == own_fd else old_fd  # kept from our last run: nobody's to restore

    def _restore_wakeup_fd(self, old_fd: int | None) -> None:
        if old_fd is None or self._signal_handlers:  # asyncio: signals between two runs are kept
            return
        try:
            signal.set_wakeup_fd(old_fd)
        except OSError:  # its owner has closed it while we ran
            signal.set_wakeup_fd(-1)

    def remove_signal_handler(self, sig: int) -> bool:
        """Removes the handler for a signal: True if there was one."""
        removed: bool = super().remove_signal_handler(sig)
        if self.is_running():
            self._claim_wakeup_fd()
        return removed


def new_event_loop(*, nested: bool = False) -> Loop:
    """A new loop, for `asyncio.Runner(loop_factory=puff.new_event_loop)` and `uvicorn --loop`."""
    return Loop(nested=nested)


def run(
    main: Coroutine[Any, Any, _T],
    *,
    debug: bool | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> _T:
    """Runs a coroutine on a fresh Puff loop and returns its result, as asyncio.run() does.

    Arguments: debug, asyncio's debug mode; loop_factory, another maker of loops.
    Inside a loop made with nested=True the coroutine runs on that one.
    Raises: what the coroutine raises; RuntimeError when another loop runs in this thread already.

        async def main() -> str:
            return "hello"
        assert puff.run(main()) == "hello"
    """
    outer = events._get_running_loop()
    if isinstance(outer, Loop) and outer.nested:
        return outer.run_until_complete(main)
    if outer is not None:
        raise RuntimeError("puff.run() cannot be called from a running event loop")
    factory = loop_factory or new_event_loop
    if sys.version_info < (3, 11):
        return _run_without_runner(main, debug, factory)
    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        return runner.run(main)


def _run_without_runner(
    main: Coroutine[Any, Any, _T],
    debug: bool | None,
    factory: Callable[[], asyncio.AbstractEventLoop],
) -> _T:
    """CPython 3.10's asyncio.run(), which takes no factory."""
    from asyncio import runners

    if not asyncio.iscoroutine(main):
        raise ValueError(f"a coroutine was expected, got {main!r}")
    loop = factory()
    try:
        asyncio.set_event_loop(loop)
        if debug is not None:
            loop.set_debug(debug)
        return loop.run_until_complete(main)
    finally:
        try:
            cast(Any, runners)._cancel_all_tasks(loop)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()


def install(*, nested: bool = False) -> None:
    """Makes Puff's loop the one that asyncio.run() and asyncio.new_event_loop() make.

    Arguments: nested, as for Loop.
    Raises: AttributeError from CPython 3.16 on, which has no policies.
    """
    policy = _policy_class()(nested=nested)
    # 3.14's public function says that policies are deprecated: to whoever calls it, which is us.
    set_policy = getattr(events, "_set_event_loop_policy", asyncio.set_event_loop_policy)
    set_policy(policy)


if TYPE_CHECKING:

    class Policy(asyncio.DefaultEventLoopPolicy):
        """asyncio's policy with Puff's loop."""

        def __init__(self, *, nested: bool = False) -> None: ...


def _policy_class() -> type[Any]:
    """The class Policy, made when first asked for: 3.14 deprecates policies, 3.16 has none."""
    if "Policy" not in globals():
        base = getattr(unix_events, "_UnixDefaultEventLoopPolicy", None)
        if base is None:
            raise AttributeError(
                "this Python has no event loop policies: use puff.run() or "
                "asyncio.Runner(loop_factory=puff.new_event_loop)"
            )
        globals()["Policy"] = _make_policy_class(base)
    policy: type[Any] = globals()["Policy"]
    return policy


def _make_policy_class(base: Any) -> type[Any]:
    def __init__(self: Any, *, nested: bool = False) -> None:
        base.__init__(self)
        self._loop_factory = partial(Loop, nested=nested)

    members = {
        "__doc__": "asyncio's policy with Puff's loop; nested=True as for Loop.",
        "__module__": "puff",
        "__init__": __init__,
        "_loop_factory": Loop,
    }
    return type("Policy", (base,), members)


def __getattr__(name: str) -> Any:
    if name == "Policy":
        return _policy_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


when_imported("asgiref.local", "puff.contrib.asgiref:patch_local")
when_imported("asgiref.sync", "puff.contrib.asgiref:patch_sync")
