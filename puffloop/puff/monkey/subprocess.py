"""Waits for children: Popen.wait() and communicate(), and os.waitpid() for one child."""

from __future__ import annotations

import functools
import os
import subprocess
from typing import Any

from puff.monkey._patches import Patches
from puff.monkey._wait import READABLE, Deadline, parks, pause, wait

__all__ = ["patch"]

_FIRST_LOOK_S, _MAX_LOOK_S = 0.001, 0.05  # where the kernel has no pidfd
_FOREVER_S = 2_000_000  # poll() knows no longer one; 23 days
_original_wait = subprocess.Popen._wait  # type: ignore[attr-defined]
_original_communicate = subprocess.Popen.communicate
_original_waitpid = os.waitpid


def _has_ended(pid: int) -> bool:
    """Also when it is no child of ours, or was waited for already: the original call will say."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
    except OSError:
        return True


def _until_ended(pid: int, timeout: float | None) -> bool:
    """Parks until the child can be waited for. False: the time is over."""
    deadline = Deadline(timeout)
    try:
        fd = os.pidfd_open(pid)
    except (AttributeError, OSError):
        delay = _FIRST_LOOK_S
        while not _has_ended(pid) and not deadline.passed():
            pause(delay)
            delay = min(delay * 2, _MAX_LOOK_S)
        return _has_ended(pid)
    try:
        while not _has_ended(pid):
            if not wait(fd, READABLE, deadline.left()):
                return _has_ended(pid)
        return True
    finally:
        os.close(fd)


def _wait(self: subprocess.Popen[Any], timeout: float | None) -> int:
    if parks() and self.returncode is None and not _until_ended(self.pid, timeout):
        raise subprocess.TimeoutExpired(self.args, timeout or 0.0)
    status: int = _original_wait(self, timeout=timeout)
    return status


@functools.wraps(_original_communicate)
def _communicate(
    self: subprocess.Popen[Any], input: Any = None, timeout: float | None = None
) -> tuple[Any, Any]:
    if timeout is None and parks():
        # Without a timeout one pipe is read to its end, which blocks; with one, by a selector.
        timeout = _FOREVER_S
    return _original_communicate(self, input, timeout)


@functools.wraps(_original_waitpid)
def _waitpid(pid: int, options: int, /) -> tuple[int, int]:
    if options == 0 and pid > 0 and parks():
        _until_ended(pid, None)
    return _original_waitpid(pid, options)


def patch(patches: Patches) -> None:
    patches.replace(subprocess.Popen, "_wait", _wait)
    patches.replace(subprocess.Popen, "communicate", _communicate)
    patches.replace(os, "waitpid", _waitpid)
