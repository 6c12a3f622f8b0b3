"""Between the worlds: to_greenlet() leads a coroutine into sync code, await_() leads back.

    Task --step--> Bridge --switch--> worker runs f(*args)
      ^               |   <--yield---   a puff call in f waits: its Future goes up to the Task
      |               |   <--inner---   f calls await_(aw): the bridge drives aw, on the hub
      +--- Future ----+   <--end-----   f has ended: the value of `await to_greenlet(f)`

No Task is made: whatever f does happens in a step of the Task that awaits the bridge. So
current_task(), cancellation and timeouts are those of that Task, and its contextvars context is the
worker's too (the same object: each sees what the other sets). What f awaits is driven where the
running loop is visible, and a bridge in there switches from the hub as this one does: nesting of
any depth stays flat.

A greenlet of spawn() has no Task: there await_() makes one, whose steps are in the greenlet's
context. Kills reach the greenlet by way of that Task, as cancellation reaches f above:

    kill() --> task.cancel() --> what is awaited ends --> GreenletExit in f
"""

import asyncio
import threading
import weakref

cimport puff._bind.green as green
from puff._bind.in_context cimport drive, exception_of, in_context_here, iterator_of
from puff._bind.loop cimport LoopBase, of_thread, primary, running
from puff._bind.waiter cimport Waiter, call, foreign_loop, not_stop, warn_never_awaited

import greenlet as _greenlet

cdef extern from "awaits.h":
    void puff_await_install(object type, object (*step)(object self, int *returned))

cdef extern from "compat.h":
    object puff_get_context()

cdef object GreenletExit = _greenlet.GreenletExit
cdef object _get_running_loop = asyncio._get_running_loop
cdef object _current_task = asyncio.current_task
cdef object _Future = asyncio.Future


cdef class Bridge(green.Job):
    """What `await to_greenlet(f)` awaits; a coroutine as far as asyncio is concerned."""

    # ---- on the worker ---------------------------------------------------------------------------

    cdef int run(self, green.Worker worker) except -1:
        self.worker = worker
        worker.bridge = self
        try:
            self.answer = self.fn(*self.args, **self.kwargs)
        except BaseException as exc:
            self.error = exc
        worker.bridge = self.worker = None
        self.fn = self.args = self.kwargs = None
        self.state = DONE
        return 0

    cdef object wait(self, object aw):
        """await_() of a bridged worker."""
        _refuse_future_of_another(self.loop, aw)
        if puff_get_context() is not self.context:
            aw = in_context_here(aw)  # the function is in a Context.run(); the hub is not
        self.inner = iterator_of(aw)
        green.park(self.worker, self)
        answer, self.answer = self.answer, None
        return answer

    # ---- on the hub ------------------------------------------------------------------------------

    cdef int begin(self) except -1:
        self.loop = running()
        if self.loop is None:
            self.state = DONE
            raise foreign_loop()
        self.state = RUNNING
        self.context = puff_get_context()
        return green.run_job(self.loop, self, self.context)

    cdef object advance(self, object exc, int *returned):
        """One step: until something has to be waited for, or the function has ended."""
        cdef int ended = 0
        while True:
            if self.inner is not None:
                try:
                    value = drive(self.inner, exc, &ended)
                    if not ended:
                        return value
                    self.answer, exc = value, None
                except BaseException as raised:
                    exc = raised
                self.inner = None
            if self.state == NEW:
                self.begin()
            elif self.worker is None:
                return self.inner_ended(exc, returned)
            elif exc is None:
                green.resume(self.worker, self)
            else:
                green.throw_into(self.worker, self, exc)
                exc = None
            if self.state == DONE:
                return self.outcome(returned)
            if self.inner is None:
                future, self.worker.yielded = self.worker.yielded, None
                return future

    cdef object inner_ended(self, object exc, int *returned):
        """begin() has left everything to somebody else's coroutine."""
        self.state = DONE
        self.error = exc
        return self.outcome(returned)

    cdef object outcome(self, int *returned):
        error, self.error = self.error, None
        if error is not None:
            raise not_stop(error)
        answer, self.answer = self.answer, None
        returned[0] = 1
        return answer

    cdef object step(self, object exc, int *returned):
        if self.state == DONE:
            raise RuntimeError("cannot reuse already awaited to_greenlet()")
        if self.busy:
            raise ValueError("to_greenlet() is already being awaited")
        self.busy = True
        try:
            return self.advance(exc, returned)
        finally:
            self.busy = False

    # ---- the coroutine protocol ------------------------------------------------------------------

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef int returned = 0
        value = self.step(None, &returned)
        if returned:
            raise StopIteration(value)
        return value

    def throw(self, typ, val=None, tb=None):
        cdef int returned = 0
        exc = exception_of(typ, val, tb)
        if self.state == NEW:
            self.state = DONE
            raise exc
        value = self.step(exc, &returned)
        if returned:
            raise StopIteration(value)
        return value

    def close(self):
        """Ends the function where it waits, with GreenletExit."""
        if self.state != RUNNING or self.busy:
            self.state = DONE
            return
        if self.worker is None:
            self.state = DONE
            self.inner.close()
            return
        if running() is not self.loop or green.current() is not None:
            # The collector may be here, in any greenlet and any thread: only the loop may switch.
            if not self.loop.is_closed():
                self.loop.call_soon_threadsafe(self.close)
            return
        try:
            self.throw(GreenletExit())
        except (GreenletExit, StopIteration):
            return
        raise RuntimeError("the function of to_greenlet() ignored GreenletExit")

    cdef str name(self):
        return "to_greenlet"

    def __repr__(self):
        name = getattr(self.fn, "__qualname__", "")
        return f"<puff.to_greenlet {name} {('new', 'running', 'done')[self.state]}>"

    def __dealloc__(self):
        if self.state == NEW:
            warn_never_awaited(self.name())


cdef object _step(object self, int *returned):
    return (<Bridge>self).step(None, returned)


puff_await_install(Bridge, _step)


def to_greenlet(fn, /, *args, **kwargs):
    """Run the sync function `fn` on a greenlet of this thread; `await` its value.

    Inside, every puff call parks the greenlet and lets the loop run, and `puff.await_()` awaits
    anything. Task, contextvars and cancellation are those of the coroutine that awaits: cancelling
    it raises CancelledError in `fn` where that waits. Called from sync code, whose world is the
    right one already, it just calls `fn`.

        row = await puff.to_greenlet(load_user, 17)
    """
    cdef Bridge bridge
    if _get_running_loop() is None:
        return fn(*args, **kwargs)
    if not callable(fn):
        raise TypeError(f"to_greenlet() takes a callable, not {type(fn).__name__}")
    bridge = Bridge.__new__(Bridge)
    bridge.fn, bridge.args, bridge.kwargs = fn, args, kwargs
    return bridge


# ---- what is local to a flow of sync code --------------------------------------------------------

# Task -> Namespace: of a Task whose sync code runs under bridges, or that a greenlet awaits.
cdef object _locals_of_task = weakref.WeakKeyDictionary()


cdef green.Namespace _of_worker(green.Worker worker):
    if worker.locals is None:
        worker.locals = green.Namespace()
    return worker.locals


cdef object _task_of(green.Worker worker):
    """The Task in whose step the worker runs, while its loop is hidden."""
    if green.hides_task:
        return worker.task
    green.show_loop(worker.loop)
    try:
        return _current_task()
    finally:
        green.show_loop(None)


def flow_locals():
    """The namespace of the flow of sync code that runs here, as threading.local() is a thread's.

    None outside Puff's greenlets. All sync code that one Task runs by to_greenlet() is one flow;
    a greenlet of spawn() with what it awaits is one. One piece of it runs at a time, as in a
    thread.
    """
    cdef green.Worker worker = green.current()
    if worker is not None:
        return _flow_of(worker)
    worker = green.forked()
    if worker is None:
        return None
    loop = _get_running_loop()  # a loop of the child's own
    try:
        return _flow_of(worker)
    finally:
        green.show_loop(loop)


cdef object _flow_of(green.Worker worker):
    if worker.bridge is None:
        return _of_worker(worker)
    task = _task_of(worker)
    if task is None:  # somebody drives the bridge by hand
        return _of_worker(worker)
    return _of_task(task)


cdef object _of_thread = threading.local()


cdef object flow_here():
    if green.current() is not None and running() is not None:
        return flow_locals()
    task = _current_task() if _get_running_loop() is not None else None
    if task is not None:
        return _of_task(task)
    flow = getattr(_of_thread, "flow", None)
    if flow is None:
        flow = _of_thread.flow = green.Namespace()
    return flow


cdef object _of_task(task):
    found = _locals_of_task.get(task)
    if found is None:
        found = _locals_of_task[task] = green.Namespace()
    return found


def flow_task():
    """The Task in whose steps the sync code here runs; None where there is no such Task."""
    cdef green.Worker worker = green.current()
    if worker is None or worker.bridge is None:
        return None
    return _task_of(worker)


# ---- await_() ------------------------------------------------------------------------------------

async def _value_of(aw):
    return await aw


cdef int _refuse_future_of_another(LoopBase loop, object aw) except -1:
    """In sync code no loop is current: what asyncio makes there belongs to any other."""
    if isinstance(aw, _Future) and aw.get_loop() is not loop and not aw.done():
        raise RuntimeError(
            "await_() of a Future of another loop: make it in a coroutine, as in "
            "`async def both(): return await asyncio.gather(a(), b())` and `puff.await_(both())`"
        )
    return 0


cdef class _Awaiting(Waiter):
    """An awaitable that a greenlet without a Task waits for: in a Task of its own."""

    cdef object aw
    cdef object task  # None: not begun, or ended
    cdef object exit  # the GreenletExit that the greenlet gets when the Task has ended, or None

    cdef int start(self) except -1:
        _refuse_future_of_another(self.loop, self.aw)
        self.task = self.loop.create_task(_value_of(in_context_here(self.aw)))
        self.task.add_done_callback(self.ended)
        _locals_of_task[self.task] = _of_worker(green.current())
        return 0

    cdef int kill(self) except -1:
        self.exit = GreenletExit()
        self.task.cancel()
        return 0

    cdef void abandon(self) noexcept:
        if running() is self.loop:
            self.task.cancel()
            return
        # The loop closes, the Task takes no step any more: its coroutine ends here.
        self.task._log_destroy_pending = False
        try:
            self.task.get_coro().close()
        except BaseException as exc:
            self.loop.call_exception_handler(
                {"message": "what a greenlet awaits cannot be closed", "exception": exc}
            )

    def ended(self, task):
        self.task = None
        if task.cancelled():
            if asyncio.iscoroutine(self.aw):
                self.aw.close()  # or it warns, if the Task was cancelled before it began
            self.reject(asyncio.CancelledError() if self.exit is None else self.exit)
        elif task.exception() is not None:
            self.reject(task.exception())
        elif self.exit is not None:
            self.reject(self.exit)  # it has swallowed its cancellation
        else:
            self.resolve(task.result())


cdef int kill_parked(green.Worker worker, bint again) except -1:
    cdef _Awaiting waiter
    if isinstance(worker.token, _Awaiting):
        waiter = worker.token
        if waiter.task is not None:
            return waiter.kill() if not again or waiter.exit is not None else 0
    if not again and worker.token is not None:
        return green.throw_into(worker, worker.token, GreenletExit())
    return 0


def await_(aw):
    """Wait for any awaitable, from sync code, and return its value.

    On a greenlet it parks this greenlet and lets the loop run; in another thread while a Puff loop
    runs it blocks that thread and the loop does the work; in a plain script it runs this thread's
    own loop. In a coroutine: RuntimeError, there is `await` for it. What is awaited sees the
    contextvars of the caller, and the caller what it sets.

        def view(request):
            return puff.await_(client.get("https://example.org"))
    """
    cdef green.Worker worker = green.current()
    cdef LoopBase loop = running()
    cdef _Awaiting waiter
    if loop is not None and worker is not None:
        if worker.bridge is not None:
            return (<Bridge>worker.bridge).wait(aw)
        waiter = _Awaiting()
        waiter.aw = aw
        return call(waiter)
    if loop is not None or _get_running_loop() is not None:
        raise RuntimeError("await_() is for sync code: in a coroutine, write `await`")
    loop = primary()
    if loop is not None:
        return asyncio.run_coroutine_threadsafe(_value_of(aw), loop).result()
    return of_thread().run_until_complete(_value_of(aw))
