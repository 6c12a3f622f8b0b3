"""asgiref on Puff's loop: sync_to_async() without threads, async_to_sync() without blocking.

    coroutine --sync_to_async(f)()--> f on a greenlet of this thread       puff.to_greenlet
    greenlet  --async_to_sync(g)()--> the loop runs g, the greenlet waits  puff.await_

The methods of asgiref's classes are replaced, so whoever has imported, decorated or subclassed
already is served too. Which way to go is decided in each call: away from Puff's loop and its
greenlets asgiref does what it always did. So it does

- for an explicit executor, sync_to_async's own or ThreadSensitiveContext's;
- for thread-sensitive code with sync code above it in another thread: that is its thread.

asgiref.local.Local is a thread's in sync code, and all greenlets are one thread. One that is
thread_critical (Django's connections) belongs to a flow of sync code instead, which never does two
things at once: all that one Task runs, or one spawned greenlet with what it awaits. The others are
context variables from 3.8 on; before, they are kept with the Task or thread that the code came
from.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import itertools
import sys
import warnings
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from types import ModuleType
from typing import Any, cast

from puff._bind.asgiref import Insides, call_of
from puff._bind.bridge import await_, flow_locals, flow_task
from puff._bind.greenlet import is_greenlet

__all__ = ["patch_local", "patch_sync"]

_OURS = "_of_puff"  # an attribute of our functions, and the prefix of those we add to a Local

# A thread waits in asgiref's own AsyncToSync for what runs here, and runs its sensitive code.
_thread_above: ContextVar[bool] = ContextVar("puff.asgiref.thread_above", default=False)


def patch_local(module: ModuleType) -> None:
    """Called with asgiref.local when that is imported."""
    patched = (
        _replace(getattr(module, "_ThreadCriticalLocal", None), "_get_storage", _storage_3_13)
        or _replace(module.Local, "_lock_storage", _storage_3_8)
        or _replace(module.Local, "_get_context_id", _context_id_3_5)
    )
    if not patched:
        _leave_alone(module)


def patch_sync(module: ModuleType) -> None:
    """Called with asgiref.sync when that is imported, and so after patch_local()."""
    if not _is_patched(sys.modules["asgiref.local"]):
        return  # greenlets would share Locals; it has been told
    if not _has_known_shape(module):
        _leave_alone(module)
        return
    _replace(module.SyncToAsync, "thread_handler", _thread_handler)
    _replace(module.SyncToAsync, "__call__", functools.partial(_sync_to_async, module))
    _replace(module.AsyncToSync, "__call__", functools.partial(_async_to_sync, module))


def _replace(cls: Any, name: str, make: Callable[[Any], Any]) -> bool:
    """False: the class has no such method. `make` gets it and returns ours."""
    original = cls.__dict__.get(name) if cls is not None else None
    if original is None:
        return False
    if not hasattr(original, _OURS):
        ours = functools.wraps(original)(make(original))
        setattr(ours, _OURS, True)
        setattr(cls, name, ours)
    return True


def _is_patched(local: ModuleType) -> bool:
    classes = (getattr(local, "_ThreadCriticalLocal", None), local.Local)
    return any(hasattr(f, _OURS) for cls in classes if cls for f in vars(cls).values())


def _has_known_shape(module: ModuleType) -> bool:
    """All that we use of asgiref's insides is there."""
    try:
        sync, back = module.SyncToAsync, module.AsyncToSync
        named = {*sync.__init__.__code__.co_names, *back.__init__.__code__.co_names}
        takes = _before_func(sync.thread_handler)
        called = asyncio.iscoroutinefunction(sync.__call__) and callable(back.__call__)
    except (AttributeError, ValueError):
        return False
    return (
        called
        and {"func", "_thread_sensitive", "_executor", "awaitable"} <= named
        and {"loop", "exc_info"} <= {*takes} <= {"loop", "exc_info", "source_task", "task_context"}
    )


def _leave_alone(module: ModuleType) -> None:
    version = getattr(sys.modules.get("asgiref"), "__version__", "(version unknown)")
    warnings.warn(
        f"Puff does not know the insides of asgiref {version} ({module.__name__}) and leaves it as "
        "it is: sync_to_async() uses threads, async_to_sync() in a greenlet blocks the loop",
        RuntimeWarning,
        stacklevel=2,
    )


# ---- sync_to_async -------------------------------------------------------------------------------


def _sync_to_async(module: ModuleType, original: Any) -> Any:
    """Which way a call goes is decided in _bind/asgiref.pyx."""
    base = module.SyncToAsync
    insides = Insides()
    insides.original, insides.handler = original, base.__dict__["thread_handler"]
    insides.handler_takes = _before_func(base.thread_handler)
    # From 3.5.1 on.
    insides.threads_of_loops = getattr(module.AsyncToSync, "loop_thread_executors", {})
    insides.sensitive_context = base.thread_sensitive_context
    insides.thread_above, insides.handling = _thread_above, _handling
    insides.before = _arguments_before_func
    call = call_of(insides)
    if sys.version_info >= (3, 12):
        return inspect.markcoroutinefunction(call)
    marked: Any = call if sys.version_info >= (3, 11) else _in_python(call)
    marked._is_coroutine = cast(Any, asyncio.coroutines)._is_coroutine
    return marked


def _in_python(native: Any) -> Any:
    """A method that takes attributes: on 3.10 Cython's have an _is_coroutine of their own."""

    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        return native(self, *args, **kwargs)

    return __call__


def _arguments_before_func(names: tuple[str, ...], exc: BaseException | None) -> list[Any]:
    """What a thread_handler is given before the function."""
    exc_info = (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)
    given: dict[str, Any] = {
        "loop": asyncio._get_running_loop(),
        "exc_info": exc_info,
        "source_task": asyncio.current_task(),
        "task_context": [],
    }
    return [given[name] for name in names]


def _handling(
    exc: BaseException,
    func: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:
    """Calls the function where sys.exc_info() is that of whoever called sync_to_async."""
    __traceback_hide__ = True
    try:
        raise exc
    except BaseException:
        return func(*args, **kwargs)


def _before_func(handler: Any) -> tuple[str, ...]:
    """What SyncToAsync.thread_handler takes between self and func; it is not the same in all
    versions.
    """
    code = inspect.unwrap(handler).__code__
    names: tuple[str, ...] = code.co_varnames[1 : code.co_argcount]
    return names[: names.index("func")]


def _thread_handler(original: Any) -> Any:
    """What subclasses reach by super(): on a greenlet no thread has to be told of the loop."""
    takes = _before_func(original)
    n_before, nth = len(takes), takes.index("exc_info")

    def thread_handler(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True
        if not is_greenlet():
            return original(self, *args, **kwargs)
        exc, func, args = args[nth][1], args[n_before], args[n_before + 1 :]
        return func(*args, **kwargs) if exc is None else _handling(exc, func, args, kwargs)

    return thread_handler


# ---- async_to_sync -------------------------------------------------------------------------------


def _async_to_sync(module: ModuleType, original: Any) -> Any:
    tasks_of_flows = getattr(module.AsyncToSync, "launch_map", None)  # to 3.7, for Local

    def __call__(self: Any, /, *args: Any, **kwargs: Any) -> Any:
        __traceback_hide__ = True
        here = is_greenlet()
        token = None
        if _thread_above.get() is here:
            token = _thread_above.set(not here)
        try:
            if not here:
                return original(self, *args, **kwargs)
            awaitable = self.awaitable(*args, **kwargs)
            exc = sys.exc_info()[1]
            if exc is not None:
                awaitable = _await_handling(exc, awaitable)
            if tasks_of_flows is not None and flow_task() is None:
                awaitable = _await_launched(tasks_of_flows, flow_locals(), awaitable)
            return await_(awaitable)
        finally:
            if token is not None:
                _thread_above.reset(token)

    return __call__


async def _await_handling(exc: BaseException, awaitable: Awaitable[Any]) -> Any:
    __traceback_hide__ = True
    try:
        raise exc
    except BaseException:
        return await awaitable


async def _await_launched(launch_map: dict[Any, Any], flow: Any, awaitable: Awaitable[Any]) -> Any:
    """asgiref finds the Locals of this Task's parent in its launch_map."""
    __traceback_hide__ = True
    task = asyncio.current_task()
    launch_map[task] = flow
    try:
        return await awaitable
    finally:
        del launch_map[task]


# ---- Local ---------------------------------------------------------------------------------------

_names = (f"{_OURS}_{n}" for n in itertools.count())


def _storage_of_flow(local: Any) -> Any:
    """Where a thread-critical Local keeps its attributes in this flow; None outside of one."""
    flow = flow_locals()
    if flow is None:
        return None
    attributes = object.__getattribute__(local, "__dict__")
    name = attributes.get(_OURS)
    if name is None:
        name = attributes[_OURS] = next(_names)
    storage = flow.__dict__.get(name)
    if storage is None:
        storage = flow.__dict__[name] = _Storage()
    return storage


class _Storage:
    """The attributes of one Local in one flow."""


def _storage_3_13(original: Any) -> Any:
    def _get_storage(self: Any) -> Any:
        storage = _storage_of_flow(self)
        return original(self) if storage is None else storage

    return _get_storage


def _storage_3_8(original: Any) -> Any:
    def _lock_storage(self: Any) -> Any:
        storage = _storage_of_flow(self) if self._thread_critical else None
        return original(self) if storage is None else contextlib.nullcontext(storage)

    return _lock_storage


def _context_id_3_5(original: Any) -> Any:
    """The object that keeps a Local's attributes: a Task or a thread, or a greenlet's flow."""

    def _get_context_id(self: Any) -> Any:
        flow = flow_locals()
        if flow is None:
            return original(self)
        task = flow_task()
        return flow if self._thread_critical or task is None else _launched_by(task)

    return _get_context_id


def _launched_by(task: Any) -> Any:
    """The Task, thread or flow from which all of this began."""
    sync: Any = sys.modules["asgiref.sync"]
    while True:
        parent = sync.AsyncToSync.launch_map.get(task)
        if parent is None:
            return task
        task = sync.SyncToAsync.launch_map.get(parent)
        if task is None:
            return parent
