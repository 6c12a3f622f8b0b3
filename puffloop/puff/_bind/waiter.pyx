# cython: language_level=3
"""One outstanding operation and whoever waits for it: a task, a greenlet, another thread or a
script.

    call(waiter) --start()--> core ... core's callback --> resolve() / reject() --> wake
         |                                                                           |
         +-- task: yields a Future -----------------------------------------------  set_result
         +-- greenlet: parks -----------------------------------------------------  a ready-ring
         entry that resumes it
         +-- thread: blocks on a lock, without the GIL ---------------------------  release
         +-- script: runs its own loop with the waiter as a task -----------------  as a task

There is no other completion path: a client subclasses Waiter once per operation.
"""

import asyncio
import threading
import warnings

cimport puff._bind.green as green
from puff._bind.loop cimport LoopBase, of_thread, primary, running

cdef extern from "awaits.h":
    void puff_await_install(object type, object (*step)(object self, int *returned))

cdef object _get_running_loop = asyncio._get_running_loop
# How often a thread that waits looks whether the loop that should answer still runs.
cdef double _LOOK_S = 0.5


cdef class Waiter:
    cdef int start(self) except -1:
        raise NotImplementedError

    cdef void abandon(self) noexcept:
        pass

    cdef void untaken(self) noexcept:
        pass

    cdef bint wanted(self) noexcept:
        return self.state == W_STARTED

    cdef void resolve(self, object value) noexcept:
        if self.state != W_STARTED:
            return
        self.value = value
        self._finish()

    cdef void reject(self, object error) noexcept:
        if self.state != W_STARTED:
            return
        self.error = error
        self._finish()

    cdef void _finish(self) noexcept:
        """Wakes whoever waits. An exception here would be lost with the waiter: it goes to the
        loop.
        """
        self.state = W_DONE
        parked = self.parked
        if parked is None:
            return  # done before anybody parked
        self.parked = None
        try:
            if self.world == IN_GREENLET:
                self.loop.schedule(_resume, (parked, self))
            elif self.world == IN_THREAD:
                parked.release()
            elif not parked.done():
                parked.set_result(None)
        except BaseException as exc:
            self.loop.call_exception_handler({"message": "cannot wake a waiter", "exception": exc})

    cdef int _begin(self, LoopBase loop) except -1:
        self.loop = loop
        self.state = W_STARTED
        try:
            return self.start()
        except BaseException:
            self.state = W_ABANDONED
            raise

    cdef void _give_up(self) noexcept:
        self.parked = None
        if self.state == W_STARTED:
            self.state = W_ABANDONED
            self.abandon()
        elif self.state == W_DONE:
            self.state = W_ABANDONED
            self.untaken()

    cdef object _outcome(self):
        error = self.error
        if error is None:
            value = self.value
            self.value = None
            return value
        self.error = None
        raise error

    # ---- the coroutine protocol: what `await`, create_task() and gather() use ----

    def __await__(self):
        return self

    def __iter__(self):
        return self

    cdef object _step(self, int *returned):
        if self.state == W_NEW:
            loop = running()
            if loop is None:
                raise foreign_loop()
            self.world = IN_TASK
            self._begin(loop)
        if self.state == W_DONE:
            self.state = W_ABANDONED
            returned[0] = 1
            if self.error is not None:
                self.error = not_stop(self.error)
            return self._outcome()
        if self.state == W_ABANDONED:
            raise RuntimeError("a puff call can be awaited once")
        if self.parked is not None:
            raise RuntimeError("this call is being awaited by another task already")
        future = self.parked = self.loop.create_future()
        future._asyncio_future_blocking = True
        return future

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef int returned = 0
        value = self._step(&returned)
        if returned:
            raise StopIteration(value)
        return value

    def throw(self, typ, val=None, tb=None):
        self._give_up()
        if self.state == W_NEW:
            self.state = W_ABANDONED
        if val is None:
            val = typ() if isinstance(typ, type) else typ
        if tb is not None:
            val = val.with_traceback(tb)
        raise val

    def close(self):
        self._give_up()
        if self.state == W_NEW:
            self.state = W_ABANDONED

    def __dealloc__(self):
        if self.state == W_NEW and self.world == IN_NONE:
            warn_never_awaited(type(self).__qualname__)


cdef object _step(object self, int *returned):
    return (<Waiter>self)._step(returned)


puff_await_install(Waiter, _step)


cdef object not_stop(error):
    """What a coroutine raises instead of StopIteration, which would be its end with a value."""
    if not isinstance(error, StopIteration):
        return error
    instead = RuntimeError("what was awaited raised StopIteration")
    instead.__cause__ = error
    return instead


cdef void warn_never_awaited(str name) noexcept:
    try:
        warnings.warn(f"a puff call ({name}) was never awaited", RuntimeWarning, stacklevel=2)
    except BaseException:
        pass  # warnings as errors: an exception cannot leave a destructor


def _resume(tuple parked):
    green.resume(<green.Worker>parked[0], parked[1])


def _start_for_thread(Waiter waiter, LoopBase loop):
    """On the loop's thread: begins what another thread waits for."""
    if waiter.state != W_NEW:
        return  # given up before the loop came to it
    try:
        waiter._begin(loop)
    except BaseException as exc:
        waiter.state = W_STARTED
        waiter.reject(exc)


def _give_up_for_thread(Waiter waiter):
    waiter._give_up()
    if waiter.state == W_NEW:
        waiter.state = W_ABANDONED


cdef object foreign_loop():
    return RuntimeError(
        "this coroutine runs on a loop that is not Puff's: start the program with "
        "puff.run(main()), asyncio.Runner(loop_factory=puff.new_event_loop), or "
        "`uvicorn --loop puff`"
    )


cdef object _call_in_greenlet(Waiter waiter, green.Worker worker, LoopBase loop):
    waiter.world = IN_GREENLET
    waiter._begin(loop)
    try:
        if worker.bridge is not None:
            _wait_in_task(waiter, worker, loop)
        elif waiter.state == W_STARTED:
            waiter.parked = worker
            green.park(worker, waiter)
    except BaseException:
        waiter._give_up()
        raise
    return waiter._outcome()


cdef int _wait_in_task(Waiter waiter, green.Worker worker, LoopBase loop) except -1:
    """The greenlet runs in a Task's step: that Task waits for a Future, and is woken by it."""
    waiter.world = IN_TASK
    while waiter.state == W_STARTED:
        if waiter.parked is None:
            waiter.parked = loop.create_future()
        green.yield_to_task(worker, waiter.parked)
    return 0


cdef object _call_in_thread(Waiter waiter, LoopBase loop):
    lock = threading.Lock()
    lock.acquire()
    waiter.world = IN_THREAD
    waiter.parked = lock
    loop.call_soon_threadsafe(_start_for_thread, waiter, loop)
    try:
        while not lock.acquire(timeout=_LOOK_S):
            if not loop.is_running():
                raise RuntimeError("the loop that runs this call has stopped")
    except BaseException:
        if not loop.is_closed():
            loop.call_soon_threadsafe(_give_up_for_thread, waiter)
        raise
    return waiter._outcome()


cdef object _call_in_script(Waiter waiter):
    loop = of_thread()
    try:
        return loop.run_until_complete(waiter)
    except BaseException:
        waiter.close()
        raise


cdef object call(Waiter waiter):
    cdef LoopBase loop = running()
    if loop is not None:
        worker = green.current()
        if worker is None:
            return waiter
        return _call_in_greenlet(waiter, worker, loop)
    waiter.world = IN_TASK  # not "never awaited" if we raise below
    if _get_running_loop() is not None:
        raise foreign_loop()
    loop = primary()
    if loop is not None:
        return _call_in_thread(waiter, loop)
    waiter.world = IN_NONE
    return _call_in_script(waiter)
