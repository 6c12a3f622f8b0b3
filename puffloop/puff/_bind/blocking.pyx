# cython: language_level=3
"""Python that blocks, on threads of ours: puff.blocking, puff.spawn_blocking.

    submit() --> jobs (SimpleQueue) --> a thread: fn(*args) in a copy of the caller's context
                                            |
    resolve(), Greenlet._end() <---post-----+   in the loop's thread; a closed loop takes nothing

Threads are made when all are busy, up to a maximum, and then stay: more jobs wait in the queue.
They are daemons, for the process must be able to end while a job blocks forever. A puff call on one
of them blocks that thread only, as in any thread.
"""

import asyncio
import contextvars
import functools
import inspect
import os
import queue
import threading

from puff._bind.greenlet cimport ALIVE, DEAD, Greenlet, loop_here
from puff._bind.loop cimport LoopBase, running
from puff._bind.waiter cimport Waiter, call, foreign_loop

import greenlet as _greenlet

cdef object GreenletExit = _greenlet.GreenletExit
cdef object _get_running_loop = asyncio._get_running_loop


cdef class Job:
    cdef void run(self) noexcept:
        """On a thread. A job that was taken back has no function."""
        result = error = None
        fn, args, kwargs, context = self.fn, self.args, self.kwargs, self.context
        on_end = self.on_end
        self.take_back()
        if fn is not None:
            try:
                result = context.run(fn, *args, **kwargs)
            except BaseException as exc:
                error = exc
        fn = args = kwargs = context = None
        self.threads.n_pending -= 1  # before the end is told: the next job need not make a thread
        if on_end is None:
            return
        try:
            on_end(result, error)
        except BaseException:
            pass  # the loop is closed, and whoever waited on it is gone

    cdef void take_back(self) noexcept:
        self.fn = self.args = self.kwargs = self.context = self.on_end = None


cdef class Threads:
    def __init__(self, str name, Py_ssize_t max_threads):
        self.name = name
        self.max_threads = max_threads
        self.jobs = queue.SimpleQueue()

    cdef Job submit(self, object fn, tuple args, dict kwargs, object on_end):
        cdef Job job = Job()
        job.threads = self
        job.fn, job.args, job.kwargs, job.on_end = fn, args, kwargs, on_end
        job.context = contextvars.copy_context()
        if self.n_pending >= self.n_threads and self.n_threads < self.max_threads:
            self.begin_thread()
        self.n_pending += 1
        self.jobs.put(job)
        return job

    def begin_thread(self):
        self.n_threads += 1
        name = f"{self.name}-{self.n_threads}"
        try:
            threading.Thread(target=_work, args=(self,), name=name, daemon=True).start()
        except BaseException:
            self.n_threads -= 1
            if self.n_threads == 0:
                raise  # nobody would ever take the job

    def forget(self):
        """In a forked child, where no thread but the forking one lives."""
        self.n_threads = self.n_pending = 0
        self.jobs = queue.SimpleQueue()


def _work(Threads threads):
    cdef Job job
    jobs = threads.jobs
    while True:
        job = jobs.get()
        job.run()
        job = None  # what came of it is not ours to keep until the next one


# ---- a call that waits for its job ---------------------------------------------------------------

cdef class ThreadCall(Waiter):
    cdef int start(self) except -1:
        self.job = self.threads.submit(self.fn, self.args, self.kwargs, self.ended)
        self.fn = self.args = self.kwargs = None
        return 0

    cdef void abandon(self) noexcept:
        self.job.take_back()

    cdef void untaken(self) noexcept:
        self.lost(self.value)

    cdef void lost(self, result) noexcept:
        pass

    def ended(self, result, error):
        self.loop.call_soon_threadsafe(_deliver, self, result, error)


def _deliver(ThreadCall waiter, result, error):
    if not waiter.wanted():
        waiter.lost(result)
    elif error is None:
        waiter.resolve(result)
    else:
        waiter.reject(error)


cdef object call_in(Threads threads, object fn, tuple args, dict kwargs):
    cdef ThreadCall waiter = ThreadCall()
    waiter.threads = threads
    waiter.fn, waiter.args, waiter.kwargs = fn, args, kwargs
    return call(waiter)


cdef object call_aside(Threads threads, object fn, tuple args, dict kwargs):
    if running() is not None:
        return call_in(threads, fn, args, kwargs)
    if _get_running_loop() is not None:
        raise foreign_loop()
    return fn(*args, **kwargs)


# ---- puff.spawn_blocking and puff.blocking -------------------------------------------------------

cdef int _max_threads() except -1:
    """As many as concurrent.futures has: most of them wait for something."""
    from puff import config

    given = config.current().blocking_threads()
    return min(32, (os.cpu_count() or 1) + 4) if given is None else given


cdef Threads _threads = None


cdef Threads _blocking_threads():
    global _threads
    if _threads is None:
        _threads = Threads("puff-blocking", _max_threads())
        os.register_at_fork(after_in_child=_threads.forget)
    return _threads


cdef tuple _key = ("blocking", None)


cdef class _Unfinished:
    """The BlockingGreenlets of one loop; lives in loop.clients."""

    cdef set greenlets

    def __cinit__(self):
        self.greenlets = set()

    def _loop_closing(self, loop):
        for greenlet in list(self.greenlets):
            greenlet._kill()

    def _loop_forked(self, loop):
        """The thread that would end them is the parent's."""
        self.greenlets.clear()


cdef class BlockingGreenlet(Greenlet):
    """What spawn_blocking() returns: a Greenlet in all but where it runs."""

    cdef Job job
    cdef _Unfinished unfinished

    def ended(self, result, error):
        """On the thread."""
        self.loop.call_soon_threadsafe(_end, self, result, error)

    def _kill(self):
        if self.job is not None:
            self.job.take_back()
        _end(self, GreenletExit(), None)


def _end(BlockingGreenlet greenlet, result, error):
    if greenlet.state != DEAD:
        greenlet.unfinished.greenlets.discard(greenlet)
        greenlet.job = None
        greenlet._end(result, error)


cdef int _begin(BlockingGreenlet greenlet, object fn, tuple args, dict kwargs) except -1:
    cdef LoopBase loop = greenlet.loop
    unfinished = loop.clients.get(_key)
    if unfinished is None:
        unfinished = loop.clients[_key] = _Unfinished()
    greenlet.unfinished = unfinished
    greenlet.unfinished.greenlets.add(greenlet)
    try:
        greenlet.job = _blocking_threads().submit(fn, args, kwargs, greenlet.ended)
    except BaseException:
        greenlet.unfinished.greenlets.discard(greenlet)
        raise
    return 0


def spawn_blocking(fn, *args, **kwargs):
    """Run `fn(*args, **kwargs)`, which blocks, on a thread; return a `Greenlet` for it.

    It has a copy of the caller's contextvars, and puff calls inside block its thread only. `kill`
    takes it back if it has not begun; otherwise those who joined get the GreenletExit, and the
    thread goes on to its end unheard. There are `blocking_threads` of puff.toml, as a rule four
    more than CPUs, at most 32; what is more waits its turn. TypeError when `fn` is not callable.

        digest = puff.spawn_blocking(hashlib.scrypt, pw, salt=salt, n=2**14, r=8, p=1).join()
    """
    cdef BlockingGreenlet greenlet
    cdef LoopBase loop
    if not callable(fn):
        raise TypeError(f"spawn_blocking() takes a callable, not {type(fn).__name__}")
    loop = loop_here()
    greenlet = BlockingGreenlet.__new__(BlockingGreenlet)
    greenlet.joiners = []
    greenlet.loop = loop
    greenlet.state = ALIVE
    _begin(greenlet, fn, args, kwargs)
    return greenlet


def blocking(fn):
    """Decorator: a function that blocks becomes a puff call.

    In a coroutine it returns an awaitable, and in a greenlet it parks, while the function runs on
    one of the threads of `spawn_blocking`. In another thread or a script, which may block, it just
    runs. Which one is decided by each call. TypeError for a coroutine function.

        @puff.blocking
        def thumbnail(path):
            return PIL.Image.open(path).resize((64, 64))
    """
    if not callable(fn) or inspect.iscoroutinefunction(fn):
        raise TypeError(f"blocking() takes a function that blocks, not {fn!r}")

    @functools.wraps(fn)
    def call_blocking(*args, **kwargs):
        return call_aside(_blocking_threads(), fn, args, kwargs)

    return call_blocking
