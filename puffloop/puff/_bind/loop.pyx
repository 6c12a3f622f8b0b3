"""The native half of puff.Loop. The other half is the interpreter's own
asyncio.SelectorEventLoop, which follows LoopBase in the MRO: what is not hot is inherited from
it.

A turn (docs/design.md) is `_run_once()`. What runs once per callback is C: dispatch.c.
"""

import asyncio
import atexit
import logging
import os
import selectors
import threading
from asyncio import base_events, events, format_helpers

cimport cython
from libc.limits cimport INT_MAX
from libc.stdint cimport uint64_t
from posix.unistd cimport getpid

from puff._bind.core cimport (
    PUFF_READABLE,
    PUFF_WRITABLE,
    puff_alloc,
    puff_err,
    puff_loop_alloc,
    puff_loop_flush,
    puff_loop_fork,
    puff_loop_free,
    puff_loop_get_stats,
    puff_loop_new,
    puff_loop_options,
    puff_loop_wake,
    puff_poll,
    puff_poll_data,
    puff_poll_free,
    puff_poll_new,
    puff_poll_set,
    puff_ready_drop,
)
from puff._bind.errors cimport os_error
from puff.stats import LoopStats


cdef extern from *:
    PyObject **PySequence_Fast_ITEMS(object o)


cdef extern from "dispatch.h":
    ctypedef struct puff_loop_object:
        puff_dispatch d
        puff_loop *core
        int capturing
        PyObject *captured
        PyObject *fatal
        PyObject *socks
        PyObject *task_factory
        PyObject *loop_keyword
    PyObject *puff_running_loop
    size_t puff_ring_len(const puff_ring *r)
    object puff_ring_handles(const puff_ring *r)
    int puff_dispatch_install(object loop_base, void (*close)(PyObject *loop) noexcept) except -1
    void puff_dispatch_init(object loop)
    void puff_dispatch_clear(object loop)
    void puff_dispatch_let_go(object loop)
    int puff_dispatch_push(object loop, PyObject *fn, PyObject *arg) except -1
    int puff_dispatch_turn(object loop) except -1
    int puff_dispatch_turns(object loop) except -1
    object puff_dispatch_scheduled(object loop)
    int puff_handle_types_init(object asyncio_events, object extract_stack, object report) except -1
    object puff_handle_new(object loop, object callback, PyObject **args, Py_ssize_t n,
                           PyObject *context, bint debug)
    void puff_handle_track(object handle)


cdef extern from "puff/loop.h":
    uint64_t puff_ticks()

cdef extern from "counted.h":
    void puff_counted_begin()
    const puff_alloc *puff_counted_new()
    void puff_counted_close(const puff_alloc *alloc)
    size_t puff_counted_left()

cdef extern from "watchdog.h":
    void puff_watchdog_enter(puff_watchdog *w)
    void puff_watchdog_leave(puff_watchdog *w)
    void puff_watchdog_stop(puff_watchdog *w)

cdef extern from "slowest.h":
    void puff_slowest_init(object describe)
    object puff_slowest_get(const puff_slowest *s, puff_loop *core)
    void puff_slowest_reset(puff_slowest *s)

cdef extern from "executor.h":
    int puff_executor_install(object loop_base, object base_run_in_executor) except -1

cdef extern from "tasks.h":
    int puff_tasks_install(object loop_base, object tasks_vars, object future_type,
                           object base_create_task) except -1


cdef object _logger = logging.getLogger("asyncio")
cdef object _format_source = format_helpers._format_callback_source
cdef bint _source_takes_debug = "debug" in _format_source.__code__.co_varnames


def _report(loop, handle, exc):
    """What asyncio's Handle._run() says of an exception."""
    if not isinstance(handle, events.Handle):
        message = f"Exception in callback {handle!r}"
        loop.call_exception_handler({"message": message, "exception": exc})
        return
    debug = {"debug": loop.get_debug()} if _source_takes_debug else {}
    source = _format_source(handle._callback, handle._args, **debug)
    context = {"message": f"Exception in callback {source}", "exception": exc, "handle": handle}
    if handle._source_traceback:
        context["source_traceback"] = handle._source_traceback
    loop.call_exception_handler(context)


def _describe(queued):
    """A handle as asyncio's slow-callback log has it, or whatever else was queued."""
    return base_events._format_handle(queued) if isinstance(queued, events.Handle) \
        else repr(queued)


@cython.no_gc_clear  # __dealloc__ needs the loop
cdef class Watcher:
    """A watched descriptor: the handles that its readiness queues, as asyncio's selector keys."""

    cdef LoopBase loop
    cdef puff_poll *poll
    cdef readonly int fd
    cdef readonly object reader
    cdef readonly object writer

    def __dealloc__(self):
        if self.poll is not NULL and self.loop.core is not NULL:
            puff_poll_free(self.poll)

    cdef int update(self) except -1:
        cdef int wanted = 0
        if self.reader is not None:
            wanted |= PUFF_READABLE
        if self.writer is not None:
            wanted |= PUFF_WRITABLE
        cdef int rc = puff_poll_set(self.poll, wanted)
        if rc < 0:
            raise os_error(rc)
        return 0

    cdef int queue(self, object handle) except -1:
        return puff_dispatch_push(self.loop, <PyObject *>handle, NULL)


cdef Watcher _watch(LoopBase loop, int fd):
    cdef Watcher w = Watcher.__new__(Watcher)
    w.loop = loop
    w.fd = fd
    # libuv makes what it polls non-blocking; asyncio leaves a descriptor as it is.
    blocking = os.get_blocking(fd)
    cdef int rc = puff_poll_new(&w.poll, loop.core, fd, _on_poll, <void *>w)
    if rc < 0:
        raise os_error(rc)
    if blocking:
        os.set_blocking(fd, True)
    loop.watchers[fd] = w
    return w


cdef void _on_poll(puff_poll *p, int status, int ready) noexcept:
    cdef Watcher w = <Watcher>puff_poll_data(p)
    # An error of the descriptor is for whoever uses it to find; libuv stops watching then.
    if status < 0:
        ready = PUFF_READABLE | PUFF_WRITABLE
    try:
        if ready & PUFF_READABLE and w.reader is not None:
            w.queue(w.reader)
        if ready & PUFF_WRITABLE and w.writer is not None:
            w.queue(w.writer)
        if status < 0:
            puff_dispatch_push(w.loop, <PyObject *>_rewatch, <PyObject *>w)
    except BaseException as exc:
        w.loop.interrupt(exc)


def _rewatch(Watcher w):
    """After the error has been handled: watch again, if there still is somebody."""
    if w.loop.core is not NULL and w.loop.watchers.get(w.fd) is w:
        try:
            w.update()
        except OSError:
            _logger.debug("cannot watch %d any more", w.fd, exc_info=True)


cdef Watcher _watcher(LoopBase loop, fd):
    if loop.d.closed or loop.core is NULL:
        raise RuntimeError("Event loop is closed")
    number = _fileno(fd)
    w = loop.watchers.get(number)
    return _watch(loop, number) if w is None else w


cdef Watcher _peek_watcher(LoopBase loop, fd):
    return None if loop.d.closed else loop.watchers.get(_fileno(fd))


cdef object _drop_wait(LoopBase loop, fd, int direction):
    """sock_recv() and its kin count as readers and writers, as asyncio's do."""
    if loop.core is NULL:
        return False
    number = _fileno(fd)
    # The kernel has no greater number: as unknown as any other that nobody watches.
    return number <= INT_MAX and puff_ready_drop(loop.core, number, direction)


cdef int _watch_or_forget(Watcher w) except -1:
    if w.reader is None and w.writer is None:
        del w.loop.watchers[w.fd]  # with the last reference the poll goes
        return 0
    try:
        return w.update()
    except OSError:
        w.loop.watchers.pop(w.fd, None)
        raise


cdef object _handle(LoopBase loop, object callback, tuple args):
    handle = puff_handle_new(
        loop, callback, PySequence_Fast_ITEMS(args), len(args), NULL, loop.d.debug
    )
    puff_handle_track(handle)
    return handle


cdef void _free_core(LoopBase loop) noexcept:
    puff_watchdog_stop(loop.d.watchdog)
    loop.d.watchdog = NULL
    if loop.core is NULL:
        return
    if loop.pid != getpid():
        puff_loop_fork(loop.core)  # or the parent's epoll set would lose its members
    puff_dispatch_clear(loop)
    if loop.watchers is not None:  # the collector may have been here first
        loop.watchers.clear()
    cdef const puff_alloc *alloc = puff_loop_alloc(loop.core)
    puff_loop_free(loop.core)
    puff_counted_close(alloc)
    loop.core = NULL
    puff_dispatch_let_go(loop)


cdef void _close_collected(PyObject *garbage) noexcept:
    """Its finalizer has not closed it: a subclass has another, or close() has failed."""
    cdef LoopBase loop = <LoopBase>garbage
    if loop.core is NULL:
        return
    try:
        loop._close_clients()
    except BaseException:
        pass  # nobody is left to be told
    _free_core(loop)


cdef int _renew_after_fork(LoopBase loop) except -1:
    cdef int rc = puff_loop_fork(loop.core)
    if rc < 0:
        raise os_error(rc)
    loop.pid = getpid()
    # Connections are the parent's too: a client drops its own without a word on them.
    for key, client in list(loop.clients.items()):
        if hasattr(client, "_loop_forked"):
            del loop.clients[key]
            client._loop_forked(loop)
    return 0


cdef class LoopBase:
    def __cinit__(self, *args, **kwargs):
        cdef puff_err err
        cdef puff_loop_options options
        self.clients = {}
        self.watchers = {}
        options.size = sizeof(options)
        options.alloc = puff_counted_new()
        if puff_loop_new(&self.core, &options, &err) < 0:
            puff_counted_close(options.alloc)
            raise OSError(-err.code, err.msg.decode())
        puff_dispatch_init(self)
        self.pid = getpid()

    def __dealloc__(self):
        _free_core(self)

    # ---- running ---------------------------------------------------------------------------------

    cdef int schedule(self, object fn, object arg) except -1:
        return puff_dispatch_push(self, <PyObject *>fn, <PyObject *>arg)

    cdef void interrupt(self, object exc) noexcept:
        if self.fatal is None:
            self.fatal = exc

    cdef int turn(self) except -1:
        return puff_dispatch_turn(self)

    def _run_once(self):
        """One turn: wait for events, run their callbacks, then what was ready."""
        puff_dispatch_turn(self)

    def _run_turns(self):
        """Turns until stop(), at least one."""
        puff_dispatch_turns(self)

    def _enter_run(self):
        """Makes this the thread's running loop; returns what _leave_run() needs."""
        if self.pid != getpid():
            _renew_after_fork(self)
        outer = running()
        global puff_running_loop
        puff_running_loop = <PyObject *>self
        if self.d.watchdog is not NULL:
            self.d.ticks = puff_ticks()
            puff_watchdog_enter(self.d.watchdog)
        if not self.private:
            _running_loops.append(self)
        return outer

    def _leave_run(self, outer):
        global puff_running_loop
        puff_running_loop = NULL if outer is None else <PyObject *>outer
        if self.d.watchdog is not NULL:
            puff_watchdog_leave(self.d.watchdog)
        if not self.private and self in _running_loops:  # a fork's child has forgotten them
            _running_loops.remove(self)
        if self.core is not NULL:
            puff_loop_flush(self.core)  # asyncio has sent by now what was written

    def _write_to_self(self):
        if self.core is not NULL:
            puff_loop_wake(self.core)

    def _add_callback(self, handle):
        """Queues a handle, also a plain asyncio.Handle."""
        if not handle._cancelled:
            puff_dispatch_push(self, <PyObject *>handle, NULL)

    def _run_handle_debug(self, handle):
        """Runs a handle as asyncio's _run_once() does in debug mode."""
        if handle._cancelled:
            return
        began = self.time()
        self._current_handle = handle
        try:
            handle._run()
        finally:
            self._current_handle = None
        took = self.time() - began
        if took >= self.slow_callback_duration:
            what = base_events._format_handle(handle)
            base_events.logger.warning("Executing %s took %.3f seconds", what, took)

    def _close_clients(self):
        """Tells whoever keeps something on this loop that it ends; turns can still run."""
        if self.pid != getpid():
            _renew_after_fork(self)
        while self.clients:
            _, client = self.clients.popitem()
            client._loop_closing(self)

    def _close_core(self):
        self.loop_keyword = None  # a cycle
        _free_core(self)

    def stats(self, *, reset=False):
        """What this loop has done, as a puff.LoopStats: counters since it was made.

        With reset=True the slowest callback is forgotten after it has been told, so that each call
        tells of the time since the one before. It costs nothing to have: no debug mode is needed.

            stats = loop.stats(reset=True)
            print(f"{stats.slowest_s * 1000:.1f} ms: {stats.slowest}")
        """
        if self.core is NULL:
            raise RuntimeError("Event loop is closed")
        core = puff_loop_get_stats(self.core)
        slowest_s, slowest = puff_slowest_get(&self.d.slowest, self.core)
        if reset:
            puff_slowest_reset(&self.d.slowest)
        return LoopStats(
            self.d.n_turns, core.n_waits, core.idle_ns / 1e9, puff_ring_len(&self.d.ring),
            len(self._scheduled), slowest_s, slowest,
        )

    # ---- what asyncio's own methods and white-box code read --------------------------------------

    @property
    def _ready(self):
        return puff_ring_handles(&self.d.ring)

    @_ready.setter
    def _ready(self, value):
        pass  # BaseEventLoop.__init__ makes its deque

    @property
    def _scheduled(self):
        return [] if self.core is NULL else puff_dispatch_scheduled(self)

    @_scheduled.setter
    def _scheduled(self, value):
        pass

    @property
    def _stopping(self):
        return self.d.stopping

    @_stopping.setter
    def _stopping(self, bint value):
        self.d.stopping = value

    @property
    def _closed(self):
        return self.d.closed

    @_closed.setter
    def _closed(self, bint value):
        self.d.closed = value

    @property
    def _debug(self):
        return self.d.debug

    @_debug.setter
    def _debug(self, value):
        self.d.debug = bool(value)

    @property
    def _task_factory(self):
        return self.task_factory

    @_task_factory.setter
    def _task_factory(self, value):
        self.task_factory = value

    # ---- descriptors -----------------------------------------------------------------------------

    def _add_reader(self, fd, callback, *args):
        cdef Watcher w = _watcher(self, fd)
        puff_ready_drop(self.core, w.fd, PUFF_READABLE)  # a sock_recv(), as asyncio would
        handle = _handle(self, callback, args)
        old, w.reader = w.reader, handle
        _watch_or_forget(w)
        if old is not None:
            old.cancel()
        return handle

    def _add_writer(self, fd, callback, *args):
        cdef Watcher w = _watcher(self, fd)
        puff_ready_drop(self.core, w.fd, PUFF_WRITABLE)
        handle = _handle(self, callback, args)
        old, w.writer = w.writer, handle
        _watch_or_forget(w)
        if old is not None:
            old.cancel()
        return handle

    def _remove_reader(self, fd):
        cdef Watcher w = _peek_watcher(self, fd)
        if w is None or w.reader is None:
            return _drop_wait(self, fd, PUFF_READABLE)
        old, w.reader = w.reader, None
        _watch_or_forget(w)
        old.cancel()
        return True

    def _remove_writer(self, fd):
        cdef Watcher w = _peek_watcher(self, fd)
        if w is None or w.writer is None:
            return _drop_wait(self, fd, PUFF_WRITABLE)
        old, w.writer = w.writer, None
        _watch_or_forget(w)
        old.cancel()
        return True

    def _watched(self):
        """{fd: selectors.SelectorKey}, as a selector's get_map() would show it."""
        keys = {}
        cdef Watcher w
        for fd, w in self.watchers.items():
            mask = (selectors.EVENT_READ if w.reader is not None else 0) \
                | (selectors.EVENT_WRITE if w.writer is not None else 0)
            keys[fd] = selectors.SelectorKey(fd, fd, mask, (w.reader, w.writer))
        return keys


cdef object _fileno(fd):
    """selectors' rules for a descriptor or an object that has one."""
    if isinstance(fd, int):
        number = fd
    else:
        try:
            number = int(fd.fileno())
        except (AttributeError, TypeError, ValueError):
            raise ValueError(f"Invalid file object: {fd!r}") from None
    if number < 0:
        raise ValueError(f"Invalid file descriptor: {number}")
    return number


# ---- which loop ----------------------------------------------------------------------------------

cdef list _running_loops = []
cdef object _of_thread = threading.local()


cdef LoopBase running():
    return None if puff_running_loop is NULL else <LoopBase>puff_running_loop


cdef LoopBase primary():
    return _running_loops[0] if _running_loops else None


class _OwnLoop:
    """Closes a thread's own loop when the thread ends."""

    def __init__(self):
        from puff.policy import Loop

        self.loop = Loop()

    def close(self):
        if not self.loop.is_closed() and not self.loop.is_running():
            self.loop.close()

    __del__ = close


cdef LoopBase of_thread():
    own = getattr(_of_thread, "own", None)
    if own is None or own.loop.is_closed():
        own = _of_thread.own = _OwnLoop()
        (<LoopBase>own.loop).private = True
    return own.loop


@atexit.register
def _close_own_loop():
    own = getattr(_of_thread, "own", None)
    if own is not None:
        own.close()


def _after_fork_in_child():
    """The parent's threads are gone, and with them whatever ran."""
    global puff_running_loop
    puff_running_loop = NULL
    _running_loops.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)


# ---- for tests -----------------------------------------------------------------------------------

def _count_memory():
    """Counts what each loop takes that is made from now on."""
    puff_counted_begin()


def _memory_left():
    """How many blocks are left of loops that are closed."""
    return puff_counted_left()


# ---- set-up --------------------------------------------------------------------------------------

cdef _check_layout():
    cdef LoopBase loop = LoopBase.__new__(LoopBase)
    cdef puff_loop_object *seen = <puff_loop_object *><void *>loop
    loop.captured, loop.fatal, loop.socks = range(3)
    loop.task_factory, loop.loop_keyword = range(3, 5)
    if &seen.d != &loop.d or &seen.core != &loop.core or &seen.capturing != <int *>&loop.capturing \
            or seen.captured != <PyObject *>loop.captured or seen.fatal != <PyObject *>loop.fatal \
            or seen.socks != <PyObject *>loop.socks \
            or seen.task_factory != <PyObject *>loop.task_factory \
            or seen.loop_keyword != <PyObject *>loop.loop_keyword:
        raise SystemError("dispatch.h and loop.pxd disagree about LoopBase")


_check_layout()
puff_slowest_init(_describe)
puff_handle_types_init(events, format_helpers.extract_stack, _report)
puff_dispatch_install(LoopBase, _close_collected)
puff_executor_install(LoopBase, base_events.BaseEventLoop.run_in_executor)
puff_tasks_install(
    LoopBase, asyncio.tasks.__dict__, asyncio.Future, base_events.BaseEventLoop.create_task
)
