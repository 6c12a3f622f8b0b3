# cython: language_level=3
"""wrap_async(): any callback API as a puff call.

    wrap_async(f) --f(ret)--> somebody's library ... its thread: ret(value, exc) --post--> resolve()

The answer may come at any time and from any thread: before f has returned, before the waiter has
been started, after nobody waits any more. So ret() leaves it in the waiter first, and only then
looks whether the waiter has started; start() does the same two steps in the other order, and one of
them sees both.
"""

import asyncio

from puff._bind.loop cimport LoopBase, running
from puff._bind.waiter cimport W_ABANDONED, W_STARTED, Waiter, call

from puff._bind.greenlet import spawn

cdef object _get_running_loop = asyncio._get_running_loop


cdef class _Completion(Waiter):
    cdef object f
    cdef object wrap_return
    cdef object answer   # what ret() was given
    cdef object failure  # an exception, or None
    cdef bint begun      # f has been called
    cdef bint answered

    cdef int begin(self) except -1:
        cdef Return ret = Return()
        f, self.f = self.f, None
        ret.waiter = self
        self.begun = True
        f(ret)
        return 0

    cdef int start(self) except -1:
        if not self.begun:
            self.begin()
        if self.answered:
            self.settle()
        return 0

    cdef int answer_with(self, object value, object exc) except -1:
        """In any thread, once."""
        self.answer, self.failure = value, exc
        self.answered = True
        cdef LoopBase loop = self.loop
        if self.state != W_STARTED or loop is None:
            return 0  # start() will see it; or nobody waits
        if running() is loop:
            self.settle()
            return 0
        try:
            loop.call_soon_threadsafe(_settle, self)
        except RuntimeError:
            pass  # the loop is closed, and whoever waited on it is gone
        return 0

    cdef void settle(self) noexcept:
        answer, self.answer = self.answer, None
        failure, self.failure = self.failure, None
        if failure is None:
            self.resolve(answer)
        else:
            self.reject(failure)


def _settle(_Completion waiter):
    waiter.settle()


cdef class Return:
    """What f gets: `ret(value, exc)`."""

    cdef _Completion waiter  # None once called

    def __call__(self, value=None, exc=None):
        """Hands over the value, or the exception. In any thread; a second call is an error."""
        cdef _Completion waiter = self.waiter
        if waiter is None:
            raise RuntimeError("ret() of wrap_async() has been called already")
        self.waiter = None
        if waiter.state == W_ABANDONED:
            return
        if exc is None:
            value, exc = _wrapped(waiter.wrap_return, value)
        elif isinstance(exc, type) and issubclass(exc, BaseException):
            exc = exc()
        elif not isinstance(exc, BaseException):
            exc = TypeError(f"ret() takes an exception, not {type(exc).__name__}")
        waiter.answer_with(value, exc)

    def __del__(self):
        if self.waiter is not None:
            self(None, RuntimeError("f of wrap_async() has dropped ret() without calling it"))


cdef tuple _wrapped(object wrap_return, object value):
    if wrap_return is None:
        return value, None
    try:
        return wrap_return(value), None
    except BaseException as exc:
        return None, exc


def wrap_async(f, join=True, wrap_return=None):
    """Call `f(ret)` and wait until somebody, in any thread, calls `ret(value, exc)`.

    Returns the value, or raises `exc` when that is not None: in sync code by waiting as every puff
    call does, in a coroutine as an awaitable (there f is called when that is awaited). With
    `join=False` sync code gets a `Greenlet` instead, and goes on. `wrap_return(value)` makes the
    result, where ret() is called; what it raises, and what f raises, is raised here. RuntimeError
    here when ret() was dropped uncalled, and in ret() when it is called twice.

        def lookup(host):
            return puff.wrap_async(lambda ret: resolver.query(host, on_done=ret))
    """
    cdef _Completion waiter
    if not callable(f):
        raise TypeError(f"wrap_async() takes a callable, not {type(f).__name__}")
    sync = _get_running_loop() is None
    if sync and not join:
        return spawn(wrap_async, f, True, wrap_return)
    waiter = _Completion()
    waiter.f, waiter.wrap_return = f, wrap_return
    if sync:
        try:
            waiter.begin()
        except BaseException:
            waiter.state = W_ABANDONED
            raise
    return call(waiter)
