"""The interpreter's own asyncio loop, as puff.Loop inherits it: what older versions lack is added
here.

Up to 3.12, run_forever() is one piece: here are its parts around the run, as 3.13 has them.
"""
# All of it is the interpreter's private half, which typeshed does not know.
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import events

_real_get_ident = threading.get_ident


class _OnItsThread(asyncio.SelectorEventLoop):
    def _check_thread(self) -> None:
        """Debug mode's question. After puff.monkey's patch a greenlet has an identity of its own,
        but it is as near to the loop as the rest of its thread."""
        if self._thread_id != _real_get_ident():
            super()._check_thread()


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


def _bases() -> tuple[type, ...]:
    bases: list[type] = [_OnItsThread]
    if not hasattr(asyncio.SelectorEventLoop, "_run_forever_setup"):
        bases.append(_RunInParts)
    return tuple(bases)


StdlibLoop = type("StdlibLoop", _bases(), {"__module__": __name__, "__doc__": __doc__})
