"""The interpreter's own asyncio loop, as puff.Loop inherits it: what older versions lack is added
here.

- up to 3.12, run_forever() is one piece: its parts around the run, as 3.13 has them;
- up to 3.11, a thread waits for each child process: here a pidfd does, as in asyncio from 3.12 on.
"""
# All of it is the interpreter's private half, which typeshed does not know.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import logging
import os
import sys
import threading
from asyncio import events, unix_events
from typing import Any

_logger = logging.getLogger("asyncio")


class _RunInParts(asyncio.SelectorEventLoop):
    def _run_forever_setup(self) -> None:
        self._set_coroutine_origin_tracking(self._debug)
        self._old_agen_hooks = sys.get_asyncgen_hooks()
        self._thread_id = threading.get_ident()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook, finalizer=self._asyncgen_finalizer_hook
        )
        events._set_running_loop(self)

    def _run_forever_cleanup(self) -> None:
        self._stopping = False
        self._thread_id = None
        events._set_running_loop(None)
        self._set_coroutine_origin_tracking(False)
        sys.set_asyncgen_hooks(*self._old_agen_hooks)


class _PidfdChildren(asyncio.SelectorEventLoop):
    """A child watcher of another kind, which the program itself has set, is left in charge."""

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any,
        bufsize: int, extra: Any = None, **kwargs: Any,
    ) -> asyncio.SubprocessTransport:  # fmt: skip
        watcher = getattr(asyncio.get_event_loop_policy(), "_watcher", None)
        if watcher is not None and type(watcher) is not asyncio.ThreadedChildWatcher:
            return await super()._make_subprocess_transport(
                protocol, args, shell, stdin, stdout, stderr, bufsize, extra, **kwargs
            )
        waiter = self.create_future()
        transport = unix_events._UnixSubprocessTransport(
            self, protocol, args, shell, stdin, stdout, stderr, bufsize,
            waiter=waiter, extra=extra, **kwargs,
        )  # fmt: skip
        pid = transport.get_pid()
        pidfd = os.pidfd_open(pid)
        self._add_reader(pidfd, self._child_ended, pidfd, pid, transport)
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            transport.close()
            await transport._wait()
            raise
        return transport

    def _child_ended(self, pidfd: int, pid: int, transport: Any) -> None:
        self._remove_reader(pidfd)
        os.close(pidfd)
        try:
            _, status = os.waitpid(pid, 0)
            returncode = os.waitstatus_to_exitcode(status)
        except ChildProcessError:
            returncode = 255  # as asyncio's watchers say then
            _logger.warning(
                "child process pid %d exit status already read: will report returncode 255", pid
            )
        self._child_watcher_callback(pid, returncode, transport)


def _can_use_pidfd() -> bool:
    if not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a sandbox
        return False
    return True


def _bases() -> tuple[type, ...]:
    bases: list[type] = []
    if not hasattr(asyncio.SelectorEventLoop, "_run_forever_setup"):
        bases.append(_RunInParts)
    if not hasattr(unix_events, "can_use_pidfd") and _can_use_pidfd():
        bases.append(_PidfdChildren)
    return tuple(bases) or (asyncio.SelectorEventLoop,)


StdlibLoop = type("StdlibLoop", _bases(), {"__module__": __name__, "__doc__": __doc__})
