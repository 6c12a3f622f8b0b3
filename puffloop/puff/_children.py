"""Child processes on CPython 3.10 and 3.11, whose asyncio starts a thread to wait for each child.

From 3.12 on asyncio waits on a pidfd, as this does; then nothing here is used. A child watcher of another
kind, which the program must have set itself, is left in charge.
"""

from __future__ import annotations

import asyncio
import logging
import os
from asyncio import unix_events
from typing import Any

_logger = logging.getLogger("asyncio")


def wanted() -> bool:
    """Whether this interpreter lacks a pidfd watcher by default, and the system has pidfds."""
    if hasattr(unix_events, "can_use_pidfd") or not hasattr(os, "pidfd_open"):
        return False
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError:  # an old kernel, or a sandbox
        return False
    return True


class PidfdChildren(asyncio.SelectorEventLoop):
    """Overrides how a loop learns that a child has ended."""

    async def _make_subprocess_transport(
        self, protocol: Any, args: Any, shell: bool, stdin: Any, stdout: Any, stderr: Any, bufsize: int,
        extra: Any = None, **kwargs: Any,
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
