# cython: language_level=3
"""Pooled greenlets of a loop.

    hub (runs the loop)  --resume()-->  worker          the loop's dispatch switches in
                         <---park()---                  the worker leaves until its answer is there

A fresh greenlet costs 8 us (its stack is mapped), a pooled one 0.45 us, so a worker takes job after
job.
What must hold: no libuv callback is on the stack when we switch (only the ready ring calls
resume()); no context is entered across a switch (each job's context is the greenlet's own,
`gr_context`); asyncio's running loop is hidden while a worker runs.
"""

import asyncio
import os
import sys

from puff._bind.loop cimport LoopBase, running

from puff._frame import in_frame

import greenlet as _greenlet
from cpython.object cimport PyObject

cdef extern from "compat.h":
    void puff_set_context(object context)

cdef extern from "running_loop.h":
    int puff_set_running_loop(object loop) except -1
    int puff_running_loop_learn(object set, object get) except -1

cdef extern from *:
    """
    #include <alloca.h>
    #include "greenlet/greenlet.h"

    static __thread PyObject *puff_current_worker; /* borrowed: the worker is on the stack */
    static __thread PyObject *puff_forked_worker;  /* the same, in a child that it has forked */

    static PyObject *puff_current_greenlet(void) { return (PyObject *)PyGreenlet_GetCurrent(); }
    static PyObject *puff_new_greenlet(PyObject *run) {
        return (PyObject *)PyGreenlet_New(run, NULL);
    }
    static PyObject *puff_switch(PyObject *g) {
        return PyGreenlet_Switch((PyGreenlet *)g, NULL, NULL);
    }
    /* A greenlet's stack begins where it is switched into first. Further down than the hub will be
     * when it switches again: then only the greenlet's has to be copied away and back. */
    static __attribute__((noinline)) PyObject *puff_begin(PyObject *g) {
        volatile char *room = alloca(8192);
        room[0] = 0;
        return puff_switch(g);
    }
    static PyObject *puff_throw(PyObject *g, PyObject *exc) {
        PyObject *tb = PyException_GetTraceback(exc); /* else greenlet clears it */
        PyObject *r = PyGreenlet_Throw((PyGreenlet *)g, (PyObject *)Py_TYPE(exc), exc, tb);
        Py_XDECREF(tb);
        return r;
    }
    """
    PyObject *puff_current_worker
    PyObject *puff_forked_worker
    void PyGreenlet_Import()
    object puff_current_greenlet()
    object puff_new_greenlet(object run)
    object puff_switch(object g)
    object puff_begin(object g)
    object puff_throw(object g, object exc)

PyGreenlet_Import()


cdef object _get_running_loop = asyncio._get_running_loop
puff_running_loop_learn(asyncio._set_running_loop, _get_running_loop)
cdef object GreenletExit = _greenlet.GreenletExit
hides_task = sys.version_info >= (3, 14)
cdef object _swap_current_task = getattr(asyncio.tasks, "_swap_current_task", None)  # from 3.12 on


cdef tuple _pool_key = ("green", None)
# Idle greenlets kept per loop: each holds a few KiB of saved stack.
cdef enum:
    MAX_IDLE = 256


cdef class Job:
    cdef int run(self, Worker worker) except -1:
        raise NotImplementedError


cdef class Pool:
    cdef void link(self, Worker worker) noexcept:
        worker.next = self.parked
        if worker.next is not None:
            worker.next.prev = worker
        self.parked = worker

    cdef void unlink(self, Worker worker) noexcept:
        if worker.prev is not None:
            worker.prev.next = worker.next
        elif self.parked is worker:
            self.parked = worker.next
        if worker.next is not None:
            worker.next.prev = worker.prev
        worker.prev = worker.next = None

    def _loop_closing(self, loop):
        """Ends every worker: parked ones get GreenletExit where they wait, once."""
        cdef Worker worker = self.parked
        parked = []
        while worker is not None:
            parked.append(worker)
            worker = worker.next
        for worker in parked:
            if worker.token is not None:
                throw_into(worker, worker.token, GreenletExit())
        while self.idle is not None:
            puff_throw(_take_idle(self).raw, GreenletExit())
        while self.parked is not None:  # one that waits again: what it waits for does not come
            self.unlink(self.parked)
        self.loop.greenlets = None


cdef Worker _take_idle(Pool pool):
    cdef Worker worker = pool.idle
    pool.idle, worker.next = worker.next, None
    pool.n_idle -= 1
    return worker


cdef class Namespace:
    pass


cdef Pool pool_of(LoopBase loop):
    cdef Pool pool
    if loop.greenlets is None:
        pool = loop.greenlets = loop.clients[_pool_key] = Pool()
        pool.loop = loop
    return <Pool>loop.greenlets


cpdef int _run(Worker worker) except -1:
    if isinstance(worker.job, Job):
        return (<Job>worker.job).run(worker)
    worker.job()
    return 0


cdef void _forget_fork(Worker worker) noexcept:
    global puff_forked_worker
    if puff_forked_worker is <PyObject *>worker:
        puff_forked_worker = NULL


cdef class Worker:
    def __call__(self):
        """The life of the greenlet: job after job, until GreenletExit finds it idle."""
        cdef Pool pool = self.pool
        while True:
            try:
                # By the greenlet itself, as greenlet does it: from outside, one without Python
                # frames looks as if it ran.
                puff_set_context(self.context)
                self.context = None
                if self.loop.d.debug:
                    in_frame(_run, self)
                else:
                    _run(self)
            except (SystemExit, KeyboardInterrupt) as exc:
                self.fatal = exc
            except GreenletExit:
                pass
            except BaseException as exc:
                self.loop.call_exception_handler(
                    {"message": "unhandled exception in a greenlet", "exception": exc}
                )
            _forget_fork(self)
            self.job = self.locals = None
            puff_set_context(None)  # an idle worker keeps no request's variables alive
            if pool.n_idle >= MAX_IDLE:
                return
            self.next, pool.idle = pool.idle, self
            pool.n_idle += 1
            puff_switch(self.hub)


cdef Worker current():
    if puff_current_worker is NULL:
        return None
    return <Worker>puff_current_worker


cdef Worker forked():
    if puff_forked_worker is NULL:
        return None
    return <Worker>puff_forked_worker


def _after_fork_in_child():
    """What goes on in the child is plain code: the loop that it would park on is the parent's."""
    global puff_current_worker, puff_forked_worker
    if puff_current_worker is not NULL:
        puff_forked_worker = puff_current_worker
        puff_current_worker = NULL


os.register_at_fork(after_in_child=_after_fork_in_child)


cdef PyObject *hide() noexcept:
    global puff_current_worker
    cdef PyObject *hidden = puff_current_worker
    puff_current_worker = NULL
    return hidden


cdef void show(PyObject *hidden) noexcept:
    global puff_current_worker
    puff_current_worker = hidden


cdef int _switch_in(Worker worker, object exc, bint begin) except -1:
    """Runs the worker until it parks or ends. Called on the hub."""
    global puff_current_worker
    cdef PyObject *outer = puff_current_worker
    worker.hub = puff_current_greenlet()
    puff_current_worker = <PyObject *>worker
    outer_loop = running()
    if outer_loop is None:  # we close, and maybe in a coroutine of another loop
        outer_loop = _get_running_loop()
    if hides_task and outer_loop is not None:
        worker.task = _swap_current_task(outer_loop, None)
    puff_set_running_loop(None)
    try:
        if exc is not None:
            puff_throw(worker.target, exc)
        elif begin:
            puff_begin(worker.target)
        else:
            puff_switch(worker.target)
    finally:
        puff_current_worker = outer
        puff_set_running_loop(outer_loop)
        if worker.task is not None:
            task, worker.task = worker.task, None
            _swap_current_task(outer_loop, task)
    if worker.fatal is not None:
        fatal = worker.fatal
        worker.fatal = None
        raise fatal
    return 0


cdef int park(Worker worker, object token) except -1:
    worker.target = puff_current_greenlet()
    worker.token = token
    worker.pool.link(worker)
    puff_switch(worker.hub)
    return 0


cdef int resume(Worker worker, object token) except -1:
    if worker.token is not token:
        return 0
    worker.token = None
    worker.pool.unlink(worker)
    return _switch_in(worker, None, False)


cdef int throw_into(Worker worker, object token, object exc) except -1:
    if worker.token is not token:
        return 0
    worker.token = None
    worker.pool.unlink(worker)
    return _switch_in(worker, exc, False)


cdef int yield_to_task(Worker worker, object future) except -1:
    future._asyncio_future_blocking = True
    worker.yielded = future
    return park(worker, worker.bridge)


cdef int show_loop(object loop) except -1:
    return puff_set_running_loop(loop)


cdef int run_job(LoopBase loop, object job, object context) except -1:
    return run_in(pool_of(loop), job, context)


cdef int run_in(Pool pool, object job, object context) except -1:
    cdef Worker worker
    cdef bint fresh = pool.idle is None
    if not fresh:
        worker = _take_idle(pool)
    else:
        worker = Worker.__new__(Worker)
        worker.pool = pool
        worker.loop = pool.loop
        worker.raw = puff_new_greenlet(worker)
    worker.job = job
    worker.target = worker.raw
    worker.context = context
    return _switch_in(worker, None, fresh)
