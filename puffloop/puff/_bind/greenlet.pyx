# cython: language_level=3
"""puff.spawn and what it returns; sleep_ms. Both are Waiters, so they work in every world."""

import asyncio
import contextvars

from puff._bind cimport green
from puff._bind.core cimport puff_timer, puff_timer_init, puff_timer_start, puff_timer_stop
from puff._bind.loop cimport LoopBase, of_thread, primary, running
from puff._bind.waiter cimport Waiter, call

import greenlet as _greenlet
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

GreenletExit = _greenlet.GreenletExit


cdef struct OwnedTimer:
    puff_timer timer  # first, so that the core's pointer to it is a pointer to this
    PyObject *owner   # borrowed; the running timer holds a reference


cdef class _TimedWaiter(Waiter):
    """A waiter that a timer can end."""

    cdef OwnedTimer timer
    cdef bint timing

    cdef int arm(self, unsigned long long timeout_ms) except -1:
        puff_timer_init(&self.timer.timer, self.loop.core, on_timer)
        self.timer.owner = <PyObject *>self
        if puff_timer_start(&self.timer.timer, timeout_ms) != 0:
            raise MemoryError
        self.timing = True
        Py_INCREF(self)
        return 0

    cdef void disarm(self) noexcept:
        if self.timing:
            self.timing = False
            puff_timer_stop(&self.timer.timer)
            Py_DECREF(self)

    cdef void fired(self) noexcept:
        pass


cdef void on_timer(puff_timer *t) noexcept:
    cdef _TimedWaiter waiter = <_TimedWaiter>(<OwnedTimer *>t).owner
    waiter.timing = False
    waiter.fired()
    Py_DECREF(waiter)


cdef class _Sleep(_TimedWaiter):
    cdef unsigned long long ms

    cdef int start(self) except -1:
        return self.arm(self.ms)

    cdef void fired(self) noexcept:
        self.resolve(None)

    cdef void abandon(self) noexcept:
        self.disarm()


def sleep_ms(ms):
    """Wait for `ms` milliseconds without blocking the loop.

    In a coroutine: `await puff.sleep_ms(50)`. In a greenlet, a thread or a script it returns when
    the time is over.
    Raises ValueError for a negative number.
    """
    cdef _Sleep waiter
    if ms < 0:
        raise ValueError("ms must not be negative")
    waiter = _Sleep()
    waiter.ms = ms
    return call(waiter)


cdef class _Join(_TimedWaiter):
    """Waits for one greenlet (its value is the answer) or for several (a list is)."""

    cdef list greenlets
    cdef bint single
    cdef int n_alive
    cdef object timeout  # seconds, or None

    cdef int start(self) except -1:
        cdef Greenlet greenlet
        for greenlet in self.greenlets:
            if greenlet.loop is not self.loop and greenlet.state != DEAD:
                self.leave()
                raise RuntimeError("the greenlet runs on another loop: join it there")
            if greenlet.state == DEAD:
                if self.ended(greenlet):
                    return 0
            else:
                self.n_alive += 1
                greenlet.joiners.append(self)
        if self.n_alive == 0:
            self.answer()
        elif self.timeout is not None:
            self.arm(<unsigned long long>max(0.0, self.timeout * 1000 + 0.999))
        return 0

    cdef bint ended(self, Greenlet greenlet) noexcept:
        """True: that was an exception, which ends the wait."""
        greenlet.retrieved = True
        if greenlet.error is None:
            return False
        self.leave()
        self.reject(greenlet.error)
        return True

    cdef void deliver(self, Greenlet greenlet) noexcept:
        """One that we wait for has ended, and has taken us off its list."""
        self.n_alive -= 1
        if not self.ended(greenlet) and self.n_alive == 0:
            self.leave()
            self.answer()

    cdef void answer(self) noexcept:
        cdef Greenlet greenlet
        if self.single:
            greenlet = self.greenlets[0]
            self.resolve(greenlet.result)
        else:
            self.resolve([(<Greenlet>each).result for each in self.greenlets])

    cdef void leave(self) noexcept:
        cdef Greenlet greenlet
        self.disarm()
        for greenlet in self.greenlets:
            if self in greenlet.joiners:
                greenlet.joiners.remove(self)

    cdef void fired(self) noexcept:
        self.leave()
        which = "the greenlet" if self.single else "one of the greenlets"
        self.reject(TimeoutError(f"{which} did not end in time"))

    cdef void abandon(self) noexcept:
        self.leave()


cdef object _join(list greenlets, bint single, object timeout):
    cdef _Join waiter
    cdef green.Worker worker = green.current()
    cdef Greenlet greenlet
    for greenlet in greenlets:
        if worker is not None and greenlet.worker is worker:
            raise RuntimeError("a greenlet cannot join itself")
    waiter = _Join()
    waiter.greenlets = greenlets
    waiter.single = single
    waiter.timeout = timeout
    return call(waiter)


def join_all(list greenlets, timeout=None):
    return _join(greenlets, False, timeout)


cdef enum State:
    WAITING  # on the ready ring
    ALIVE
    DEAD


cdef class Greenlet:
    """A function that runs on a greenlet of a Puff loop; made by `puff.spawn`.

    `dead` is True once it has ended, `value` is what it returned (None before, or when it raised).
    """

    cdef LoopBase loop
    cdef object fn, args, kwargs, context
    cdef object result, error
    cdef list joiners
    cdef green.Worker worker
    cdef State state
    cdef bint retrieved, killed
    cdef object __weakref__

    @property
    def dead(self):
        return self.state == DEAD

    @property
    def value(self):
        return self.result

    def join(self, timeout=None):
        """Wait until it ends; return what it returned, or raise what it raised.

        `timeout` is in seconds; TimeoutError when it passes (the greenlet goes on). RuntimeError
        when a greenlet joins
        itself. In a coroutine: `await g.join()`.
        """
        return _join([self], True, timeout)

    def kill(self):
        """Raise `greenlet.GreenletExit` in it where it waits; it ends at the next turn of the loop.

        Once: a second kill does nothing. A greenlet that has not begun never does; one that has
        ended stays as it is. `join` of a killed greenlet returns
        the GreenletExit instance, as greenlet itself does.
        """
        self.loop.call_soon_threadsafe(self._kill)

    def _kill(self):
        if self.killed:
            return  # its clean-up is not interrupted by a second kill
        self.killed = True
        if self.state == WAITING:
            self._end(GreenletExit(), None)
        elif self.state == ALIVE and self.worker is not None and self.worker.token is not None:
            green.throw_into(self.worker, self.worker.token, GreenletExit())

    def __call__(self):
        """The job of the worker."""
        self.worker = green.current()
        try:
            result, error = self.fn(*self.args, **self.kwargs), None
        except GreenletExit as exc:
            result, error = exc, None
        except (SystemExit, KeyboardInterrupt) as exc:
            self._end(None, exc)
            raise
        except BaseException as exc:
            result, error = None, exc
        self._end(result, error)

    cdef int _end(self, object result, object error) except -1:
        cdef list joiners = self.joiners
        cdef _Join joiner
        self.state = DEAD
        self.result = result
        self.error = error
        self.worker = None
        self.fn = self.args = self.kwargs = self.context = None
        self.joiners = []
        for joiner in joiners:
            joiner.deliver(self)
        return 0

    def __del__(self):
        if self.error is not None and not self.retrieved and isinstance(self.error, Exception):
            self.loop.call_exception_handler(
                {"message": "exception of a greenlet was never retrieved", "exception": self.error}
            )

    def __repr__(self):
        state = ("waiting", "alive", "dead")[self.state]
        return f"<puff.Greenlet {getattr(self.fn, '__qualname__', '')} {state}>"


def _run(Greenlet greenlet):
    if greenlet.state == WAITING:
        greenlet.state = ALIVE
        try:
            green.run_job(greenlet.loop, greenlet, greenlet.context)
        except Exception as exc:
            greenlet._end(None, exc)  # it could not even begin


def spawn(fn, *args, **kwargs):
    """Run `fn(*args, **kwargs)` on a greenlet of the loop, from the loop's next turn on; return its
    `Greenlet`.

    Inside, every puff call parks the greenlet and lets the loop run. It has a copy of the caller's
    contextvars. From
    another thread it runs on the process's loop; in a plain script when the script waits for
    something, for example
    in `join`. TypeError when `fn` is not callable.

        g = puff.spawn(pg.fetchval, "select 1")
        assert g.join() == 1            # in a coroutine: await g.join()
    """
    cdef Greenlet greenlet
    cdef LoopBase loop
    if not callable(fn):
        raise TypeError(f"spawn() takes a callable, not {type(fn).__name__}")
    loop = running()
    greenlet = Greenlet()
    greenlet.fn, greenlet.args, greenlet.kwargs = fn, args, kwargs
    greenlet.context = contextvars.copy_context()
    greenlet.joiners = []
    if loop is not None:
        greenlet.loop = loop
        loop.schedule(_run, greenlet)
        return greenlet
    loop = primary()
    greenlet.loop = loop if loop is not None else of_thread()
    greenlet.loop.call_soon_threadsafe(_run, greenlet)
    return greenlet


def is_greenlet():
    """True on a greenlet of a Puff loop: calls park it."""
    return running() is not None and green.current() is not None


def is_asyncio():
    """True where a coroutine may await: an asyncio loop runs here and we are not on one of Puff's
    greenlets.
    """
    return asyncio._get_running_loop() is not None
