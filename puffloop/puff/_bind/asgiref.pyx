# cython: language_level=3
"""What asgiref's SyncToAsync.__call__ is on Puff's loop: puff.contrib.asgiref puts it there.

    sync_to_async(f)(x) --> SyncCall, awaited: on a puff loop       f(x) on a greenlet: a Bridge
                                               elsewhere, in a thread  asgiref's own coroutine

Which of them is decided in the first step, as in the coroutine that asgiref has here.
"""

import functools

from cpython.object cimport PyObject, PyTypeObject
from cpython.ref cimport Py_XDECREF

from puff._bind.bridge cimport RUNNING, Bridge
from puff._bind.in_context cimport iterator_of
from puff._bind.loop cimport running

cdef extern from *:
    PyTypeObject *Py_TYPE(object o)
    PyObject *_PyType_Lookup(PyTypeObject *type, object name)  # borrowed, without an exception
    void PyErr_GetExcInfo(PyObject **type, PyObject **value, PyObject **traceback)
    int PyContextVar_Get(object var, object default, PyObject **value) except -1

cdef object _none = None


cdef class Insides:
    """What is used of one asgiref.sync."""

    cdef public object original           # SyncToAsync.__call__
    cdef public object handler            # SyncToAsync.thread_handler: ours, unless replaced
    cdef public tuple handler_takes       # its arguments between self and func
    cdef public dict threads_of_loops     # AsyncToSync.loop_thread_executors; empty before 3.5.1
    cdef public object sensitive_context  # a ContextVar
    cdef public object thread_above       # a ContextVar: true below a thread's async_to_sync
    cdef public object handling           # calls a function in an except block
    cdef public object before             # makes what the handler takes before func


cdef object _value_of(object var):
    cdef PyObject *value = NULL
    PyContextVar_Get(var, _none, &value)
    found = <object>value
    Py_XDECREF(value)
    return found


cdef object _handled():
    """What sys.exc_info()[1] is: the exception that the caller handles, or None."""
    cdef PyObject *parts[3]
    PyErr_GetExcInfo(&parts[0], &parts[1], &parts[2])
    handled = None if parts[1] is NULL else <object>parts[1]
    for part in parts:
        Py_XDECREF(part)
    return handled


def _call(func):
    return func()


cdef class SyncCall(Bridge):
    """What `await sync_to_async(f)(...)` awaits."""

    cdef Insides insides
    cdef object target  # the SyncToAsync

    cdef bint needs_thread(self) except -1:
        cdef Insides insides = self.insides
        loop = running()
        if loop is None:
            return True
        if not self.target._thread_sensitive:
            return self.target._executor is not None
        if _value_of(insides.thread_above) or loop in insides.threads_of_loops:
            return True
        sensitive = _value_of(insides.sensitive_context)
        return sensitive is not None and getattr(sensitive, "_executor", None) is not None

    cdef int begin(self) except -1:
        cdef Insides insides = self.insides
        if self.needs_thread():
            self.inner = iterator_of(insides.original(self.target, *self.args, **self.kwargs))
            self.state = RUNNING
            return 0
        self.fn = self.target.func
        context = getattr(self.target, "context", None)  # from 3.11 on
        if context is not None:
            self.fn = functools.partial(context.run, self.fn)
        handled = _handled()
        handler = _PyType_Lookup(Py_TYPE(self.target), "thread_handler")
        if handler is not <PyObject *>insides.handler:
            self.by_handler(handled)
        elif handled is not None:
            self.args = (handled, self.fn, self.args, self.kwargs)
            self.fn, self.kwargs = insides.handling, {}
        return Bridge.begin(self)

    cdef int by_handler(self, object handled) except -1:
        """A subclass has one of its own (channels'), or somebody has replaced asgiref's."""
        cdef Insides insides = self.insides
        child = functools.partial(self.fn, *self.args, **self.kwargs)
        self.args = (*insides.before(insides.handler_takes, handled), _call, child)
        self.fn, self.kwargs = self.target.thread_handler, {}
        return 0

    cdef str name(self):
        return "sync_to_async"


def call_of(Insides insides):
    """SyncToAsync.__call__."""

    def __call__(self, /, *args, **kwargs):
        cdef SyncCall call = SyncCall.__new__(SyncCall)
        call.insides, call.target = insides, self
        call.args, call.kwargs = args, kwargs
        return call

    return __call__
