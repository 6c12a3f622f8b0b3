"""Awaiting in a contextvars context that somebody else has entered.

    greenlet   context.run(f) ... await_(aw), parked        the context is f's for as long as f runs
                                   |
    a Task     step:  [ context | next step of aw | the Task's own ]   step:  [ context | ...

Context.run() refuses a context that is entered already, so a Task made with it could never step.
But f is parked meanwhile: nothing else is in its context. So the thread is put into it for each
step, as greenlet does when it switches. It is that very context and no copy: each sees at once what
the other sets, and may reset() by the other's tokens.
"""

import contextvars
import inspect

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF

cdef extern from "awaits.h":
    ctypedef enum PySendResult:
        PYGEN_RETURN
        PYGEN_NEXT
        PYGEN_ERROR
    void puff_await_install(object type, object (*step)(object self, int *returned))

cdef extern from "compat.h":
    object puff_get_context()
    void puff_set_context(object context)

cdef extern from *:
    PySendResult PyIter_Send(object iter, object value, PyObject **result) except PYGEN_ERROR


cdef object iterator_of(object aw):
    if inspect.isgenerator(aw) and inspect.isawaitable(aw):  # of @types.coroutine
        return aw
    method = getattr(type(aw), "__await__", None)
    if method is None:
        raise TypeError(f"object {type(aw).__name__} can't be used in 'await' expression")
    return method(aw)


cdef object drive(object inner, object exc, int *returned):
    cdef PyObject *result = NULL
    if exc is None:
        returned[0] = PyIter_Send(inner, None, &result) == PYGEN_RETURN
        value = <object>result
        Py_DECREF(value)
        return value
    throw = getattr(inner, "throw", None)
    if throw is None:
        raise exc
    try:
        return throw(exc)
    except StopIteration as stop:
        returned[0] = 1
        return stop.value


cdef object exception_of(typ, val, tb):
    if val is None:
        val = typ() if isinstance(typ, type) else typ
    elif not isinstance(val, BaseException):
        val = typ(val)
    return val if tb is None else val.with_traceback(tb)


cdef class InContext:
    """An awaitable that takes each step of another in a context."""

    cdef object inner    # the other's iterator
    cdef object context

    cdef object step(self, object exc, int *returned):
        outside = puff_get_context()
        puff_set_context(self.context)
        try:
            return drive(self.inner, exc, returned)
        finally:
            puff_set_context(outside)

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
        value = self.step(exception_of(typ, val, tb), &returned)
        if returned:
            raise StopIteration(value)
        return value

    def close(self):
        close = getattr(self.inner, "close", None)
        if close is None:
            return
        outside = puff_get_context()
        puff_set_context(self.context)
        try:
            close()
        finally:
            puff_set_context(outside)


cdef object _step(object self, int *returned):
    return (<InContext>self).step(None, returned)


puff_await_install(InContext, _step)


cdef object context_here():
    context = puff_get_context()
    if context is None:  # as in a greenlet that user code made: asked for, it is there
        contextvars.copy_context()
        context = puff_get_context()
    return context


cdef object in_context_here(object aw):
    cdef InContext self = InContext.__new__(InContext)
    self.context = context_here()
    self.inner = iterator_of(aw)
    return self
