# cython: language_level=3
"""puff.spawn, what it returns and who waits for that; sleep_ms. All wait by Waiters, so they work
in every world.
"""

import asyncio
import contextvars
from collections import deque

cimport puff._bind.green as green
from puff._bind.bridge cimport kill_parked
from puff._bind.loop cimport LoopBase, of_thread, primary, running
from puff._bind.timed cimport TimedWaiter
from puff._bind.waiter cimport Waiter, call, foreign_loop

import greenlet as _greenlet

GreenletExit = _greenlet.GreenletExit


cdef class _Sleep(TimedWaiter):
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


cdef class _Join(TimedWaiter):
    """Waits for one greenlet (its value is the answer) or for several (a list is)."""

    cdef list greenlets
    cdef bint single
    cdef int n_alive
    cdef object timeout  # seconds, or None

    cdef int start(self) except -1:
        cdef Greenlet greenlet
        for greenlet in self.greenlets:
            if _elsewhere(greenlet, self.loop):
                self.leave()
                raise _another_loop()
            if greenlet.state == DEAD:
                if self.ended(greenlet):
                    return 0
            else:
                self.n_alive += 1
                greenlet.joiners.append(self)
        if self.n_alive == 0:
            self.answer()
        elif self.timeout is not None:
            self.arm_seconds(self.timeout)
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


cdef bint _elsewhere(Greenlet greenlet, LoopBase loop) noexcept:
    return greenlet.loop is not loop and greenlet.state != DEAD


cdef object _another_loop():
    return RuntimeError("the greenlet runs on another loop: join it there")


cdef int _refuse_itself(list greenlets) except -1:
    cdef green.Worker worker = green.current()
    cdef Greenlet greenlet
    if worker is not None:
        for greenlet in greenlets:
            if greenlet.worker is worker:
                raise RuntimeError("a greenlet cannot join itself")
    return 0


cdef object _join(list greenlets, bint single, object timeout):
    cdef _Join waiter
    _refuse_itself(greenlets)
    waiter = _Join()
    waiter.greenlets = greenlets
    waiter.single = single
    waiter.timeout = timeout
    return call(waiter)


def join_all(list greenlets, timeout=None):
    return _join(greenlets, False, timeout)


cdef class _Arrival(Waiter):
    """Waits for the next one of a join_iter() to end."""

    cdef JoinIter source
    cdef Greenlet greenlet  # that has ended, for us

    cdef int start(self) except -1:
        self.source.watch(self.loop)
        self.source.waiting.append(self)
        self.source.match()
        return 0

    cdef void take(self, Greenlet greenlet) noexcept:
        self.greenlet = greenlet
        greenlet.retrieved = True
        if greenlet.error is None:
            self.resolve(greenlet.result)
        else:
            self.reject(greenlet.error)

    cdef void abandon(self) noexcept:
        self.source.n_asked -= 1
        self.source.waiting.remove(self)

    cdef void untaken(self) noexcept:
        self.source.n_asked -= 1
        self.source.arrived.appendleft(self.greenlet)
        self.source.match()


cdef class JoinIter:
    """What join_iter() returns: an iterator, and an asynchronous one."""

    cdef list greenlets
    cdef object arrived     # deque of those that have ended and were not asked for
    cdef object waiting     # deque of _Arrival; one of the two is empty
    cdef Py_ssize_t n_asked
    cdef bint watching

    cdef int watch(self, LoopBase loop) except -1:
        """On the loop's thread, before the first wait: from here on each end is told to us."""
        cdef Greenlet greenlet
        if self.watching:
            return 0
        _refuse_itself(self.greenlets)
        for greenlet in self.greenlets:
            if _elsewhere(greenlet, loop):
                raise _another_loop()
        self.watching = True
        dead = [each for each in self.greenlets if (<Greenlet>each).state == DEAD]
        self.arrived.extend(sorted(dead, key=_order))
        for greenlet in self.greenlets:
            if greenlet.state != DEAD:
                greenlet.joiners.append(self)
        return 0

    cdef void deliver(self, Greenlet greenlet) noexcept:
        self.arrived.append(greenlet)
        self.match()

    cdef void match(self) noexcept:
        cdef _Arrival waiter
        while self.arrived and self.waiting:
            waiter = self.waiting.popleft()
            waiter.take(self.arrived.popleft())

    cdef object ask(self):
        """None: everything has been asked for."""
        cdef _Arrival waiter
        if self.n_asked >= len(self.greenlets):
            return None
        self.n_asked += 1
        waiter = _Arrival()
        waiter.source = self
        return waiter

    def __iter__(self):
        return self

    def __next__(self):
        waiter = self.ask()
        if waiter is None:
            raise StopIteration
        return call(<Waiter>waiter)

    def __aiter__(self):
        return self

    def __anext__(self):
        waiter = self.ask()
        if waiter is None:
            raise StopAsyncIteration
        return call(<Waiter>waiter)


def _order(Greenlet greenlet):
    return greenlet.order


def join_iter(list greenlets):
    cdef JoinIter self = JoinIter()
    for each in greenlets:
        if not isinstance(each, Greenlet):
            raise TypeError(f"join_iter() takes greenlets, not {type(each).__name__}")
    self.greenlets = greenlets
    self.arrived, self.waiting = deque(), deque()
    return self


# ---- spawn() -------------------------------------------------------------------------------------

cdef unsigned long long _n_ended = 0


cdef class Greenlet(green.Job):
    """A function that runs on a greenlet of a Puff loop; made by `puff.spawn`.

    `dead` is True once it has ended, `value` is what it returned (None before, or when it raised).
    """

    def __init__(self, *args, **kwargs):
        raise TypeError("puff.Greenlet() makes none: use puff.spawn()")

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

        Where that is `await_()`, what it awaits is cancelled, and GreenletExit comes when that has
        ended. Once: a second kill does nothing, but for cancelling again what has not ended yet. A
        greenlet that has not begun never does; one that has ended stays as it is. `join` of a
        killed greenlet returns the GreenletExit instance, as greenlet itself does.
        """
        if self.state == DEAD:
            return
        if self.state == WAITING:
            self.doomed = True  # its turn comes before that of _kill()
        try:
            self.loop.call_soon_threadsafe(self._kill)
        except RuntimeError:
            if not self.loop.is_closed():
                raise

    def _kill(self):
        again, self.killed = self.killed, True  # its own clean-up is not interrupted
        if self.state == WAITING:
            self._end(GreenletExit(), None)
        elif self.state == ALIVE and self.worker is not None:
            kill_parked(self.worker, again)

    cdef int run(self, green.Worker worker) except -1:
        self.worker = worker
        try:
            result, error = self.fn(*self.args, **self.kwargs), None
        except GreenletExit as exc:
            result, error = exc, None
        except (SystemExit, KeyboardInterrupt) as exc:
            self._end(None, exc)
            raise
        except BaseException as exc:
            result, error = None, exc
        return self._end(result, error)

    cdef int _end(self, object result, object error) except -1:
        global _n_ended
        cdef list joiners = self.joiners
        _n_ended += 1
        self.order = _n_ended
        self.state = DEAD
        self.result = result
        self.error = error
        self.worker = None
        self.fn = self.args = self.kwargs = self.context = None
        self.joiners = []
        for joiner in joiners:
            if isinstance(joiner, _Join):
                (<_Join>joiner).deliver(self)
            else:
                (<JoinIter>joiner).deliver(self)
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
    if greenlet.doomed:
        greenlet._kill()
    elif greenlet.state == WAITING:
        greenlet.state = ALIVE
        try:
            green.run_job(greenlet.loop, greenlet, greenlet.context)
        except Exception as exc:
            greenlet._end(None, exc)  # it could not even begin


cdef LoopBase loop_here():
    cdef LoopBase loop = running()
    if loop is not None:
        return loop
    if asyncio._get_running_loop() is not None:
        raise foreign_loop()
    loop = primary()
    return of_thread() if loop is None else loop


def spawn(fn, *args, **kwargs):
    """Run `fn(*args, **kwargs)` on a greenlet of the loop, from the loop's next turn on; return its
    `Greenlet`.

    Inside, every puff call parks the greenlet and lets the loop run. It has a copy of the caller's
    contextvars. From
    another thread it runs on the process's loop; in a plain script when the script waits for
    something, for example
    in `join`. TypeError when `fn` is not callable; RuntimeError on a loop that is not Puff's.

        g = puff.spawn(pg.fetchval, "select 1")
        assert g.join() == 1            # in a coroutine: await g.join()
    """
    cdef Greenlet greenlet
    cdef LoopBase loop
    if not callable(fn):
        raise TypeError(f"spawn() takes a callable, not {type(fn).__name__}")
    greenlet = Greenlet.__new__(Greenlet)
    greenlet.fn, greenlet.args, greenlet.kwargs = fn, args, kwargs
    greenlet.context = contextvars.copy_context()
    greenlet.joiners = []
    loop = greenlet.loop = loop_here()
    if running() is loop:
        loop.schedule(_run, greenlet)
    else:
        loop.call_soon_threadsafe(_run, greenlet)
    return greenlet


def is_greenlet():
    """True on a greenlet of a Puff loop: calls park it."""
    return running() is not None and green.current() is not None


def is_asyncio():
    """True where a coroutine may await: an asyncio loop runs here and we are not on one of Puff's
    greenlets.
    """
    return asyncio._get_running_loop() is not None
