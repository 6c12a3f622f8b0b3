"""threading on greenlets: locks park, and each flow of sync code has an identity and locals.

Conditions, events, semaphores, barriers and queues are Python over `Lock`, `RLock` and
`_allocate_lock` of the threading module: replacing those three makes all of them cooperative.
Threads stay threads, and whatever they share with greenlets works between both. A lock that was
made before the patch is a real one, which blocks the thread.
"""

from __future__ import annotations

import _thread
import _threading_local
import functools
import itertools
import os
import signal
import sys
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

from puff._bind.bridge import flow_locals
from puff._bind.thread_lock import Lock
from puff.monkey._patches import Patches
from puff.monkey._wait import Deadline, parks

__all__ = ["patch"]

_real_get_ident = threading.get_ident
_real_current_thread = threading.current_thread
_original_join = threading.Thread.join
_original_bootstrap = threading.Thread._bootstrap_inner  # type: ignore[attr-defined]
_numbers = itertools.count(1)
_forking = False  # threading's own hooks ask which thread lives on in the child


# ---- identity ------------------------------------------------------------------------------------


def _real_thread() -> threading.Thread:
    """The thread that runs this; threading's own function would ask for our get_ident()."""
    found: threading.Thread | None = threading._active.get(_real_get_ident())  # type: ignore[attr-defined]
    return found if found is not None else _real_current_thread()


class GreenletThread(threading.Thread):
    """What current_thread() is on a greenlet. No thread of its own, and in no list of threads."""

    def __init__(self, ident: int) -> None:
        daemon = _real_thread().daemon  # what threads made here inherit
        super().__init__(name=f"Greenlet-{next(_numbers)}", daemon=daemon)
        self._ident = ident
        self._native_id = threading.get_native_id()
        self._started.set()  # type: ignore[attr-defined]
        threading._dangling.discard(self)  # type: ignore[attr-defined]

    def is_alive(self) -> bool:
        return True

    def join(self, timeout: float | None = None) -> None:
        raise RuntimeError("cannot join a greenlet's thread: join the greenlet")


def get_ident() -> int:
    flow = None if _forking else flow_locals()
    return _real_get_ident() if flow is None else id(flow)


def current_thread() -> threading.Thread:
    flow = None if _forking else flow_locals()
    if flow is None:
        return _real_current_thread()
    found: threading.Thread | None = getattr(flow, "_puff_thread", None)
    if found is None:
        found = flow._puff_thread = GreenletThread(id(flow))
    return found


def _flow() -> Any:
    """What threading.local's values belong to."""
    flow = flow_locals()
    return _real_current_thread() if flow is None else flow


def _thread_of(ident: int) -> int:
    """The identity that C knows: a greenlet's is none. Signals have their handlers in the main
    thread whoever gets them."""
    if ident in sys._current_frames():
        return ident
    own = ident == get_ident()
    main: int = threading.main_thread().ident  # type: ignore[assignment]
    return _real_get_ident() if own else main


def _for_thread(original: Callable[..., Any]) -> Callable[..., Any]:
    """A call with a thread's identity in front, for which C takes whatever it gets."""

    @functools.wraps(original)
    def call(thread_id: int, /, *args: Any) -> Any:
        return original(_thread_of(thread_id), *args)

    return call


def _set_forking(value: bool) -> None:
    global _forking
    _forking = value


# Before threading's hooks in the parent, after them in the child: the first begin last.
os.register_at_fork(
    before=functools.partial(_set_forking, True),
    after_in_parent=functools.partial(_set_forking, False),
    after_in_child=functools.partial(_set_forking, False),
)


# ---- joining -------------------------------------------------------------------------------------

# A thread that began before the patch tells nobody when it ends: how often its joiner looks.
_LOOK_S = 0.05
_joiners: weakref.WeakKeyDictionary[threading.Thread, list[Lock]] = weakref.WeakKeyDictionary()


def _bootstrap_inner(self: threading.Thread) -> None:
    try:
        _original_bootstrap(self)
    finally:
        for lock in _joiners.pop(self, ()):
            lock.release()


@functools.wraps(_original_join)
def _join(self: threading.Thread, timeout: float | None = None) -> None:
    if parks() and self.ident is not None:
        deadline = Deadline(timeout)
        lock = Lock()
        lock.acquire()
        _joiners.setdefault(self, []).append(lock)
        while self.is_alive() and not deadline.passed():
            left = deadline.left()
            if lock.acquire(timeout=_LOOK_S if left is None else min(left, _LOOK_S)):
                break  # it has but to leave
        else:
            timeout = 0 if self.is_alive() else timeout
    _original_join(self, timeout)


def patch(patches: Patches) -> None:
    patches.replace(threading, "Lock", Lock)
    patches.replace(threading, "_allocate_lock", Lock)
    patches.replace(threading, "_CRLock", None)  # RLock() is then the one over _allocate_lock
    for module in (threading, _thread):
        patches.replace(module, "get_ident", get_ident)
    for module, name in ((signal, "pthread_kill"), (time, "pthread_getcpuclockid")):
        if hasattr(module, name):
            patches.replace(module, name, _for_thread(getattr(module, name)))
    patches.replace(threading, "current_thread", current_thread)
    patches.replace(_threading_local, "current_thread", _flow)
    patches.replace(threading, "local", _threading_local.local)
    patches.replace(threading.Thread, "_bootstrap_inner", _bootstrap_inner)
    patches.replace(threading.Thread, "join", _join)
