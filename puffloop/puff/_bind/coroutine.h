/* coroutine.h - what every coroutine object in C has in common: send(), throw(), __next__().
 *
 * Such a type has one step, its am_send slot: asyncio's Task and `await` (up to 3.11, and for a
 * static type ever after) call that. What is below says the same to those who call methods.
 */
#ifndef PUFF_BIND_COROUTINE_H
#define PUFF_BIND_COROUTINE_H

#include "compat.h"

/* What a step has given, as an iterator says it. Takes result. */
static inline PyObject *puff_coroutine_as_iterator(PySendResult r, PyObject *result) {
    if (r != PYGEN_RETURN) return result;
    if (result == Py_None) {
        PyErr_SetNone(PyExc_StopIteration);
    } else { /* PyErr_SetObject() would take a tuple for the arguments of the exception */
        PyObject *stop = PyObject_CallOneArg(PyExc_StopIteration, result);
        if (stop) PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
    }
    Py_DECREF(result);
    return NULL;
}

/* METH_O */
static inline PyObject *puff_coroutine_send(PyObject *self, PyObject *arg) {
    PyObject *result;
    PySendResult r = Py_TYPE(self)->tp_as_async->am_send(self, arg, &result);
    return puff_coroutine_as_iterator(r, result);
}

/* tp_iternext */
static inline PyObject *puff_coroutine_next(PyObject *self) {
    PyObject *result;
    PySendResult r = Py_TYPE(self)->tp_as_async->am_send(self, Py_None, &result);
    if (r != PYGEN_RETURN || result != Py_None) return puff_coroutine_as_iterator(r, result);
    Py_DECREF(result); /* the end without a value needs no exception */
    return NULL;
}

/* The arguments of throw(exception), or of the older throw(type, value, traceback): raises it. NULL */
static inline PyObject *puff_coroutine_raise(PyObject *args) {
    PyObject *type = NULL, *value = NULL, *tb = NULL; /* borrowed */
    if (!PyArg_UnpackTuple(args, "throw", 1, 3, &type, &value, &tb)) return NULL;
    if (PyExceptionInstance_Check(type))
        PyErr_SetObject((PyObject *)Py_TYPE(type), type);
    else if (PyExceptionClass_Check(type))
        PyErr_SetObject(type, value);
    else
        PyErr_SetString(PyExc_TypeError, "throw() takes an exception");
    return NULL;
}

/* For tp_dealloc of one that has not begun. Takes qualname, which may be NULL with an exception. */
static inline void puff_coroutine_warn(PyObject *qualname, PyObject *pending) {
    if (!qualname ||
        PyErr_WarnFormat(PyExc_RuntimeWarning, 1, "coroutine '%U' was never awaited", qualname))
        PyErr_WriteUnraisable(qualname);
    Py_XDECREF(qualname);
    if (pending) puff_raise_exception(pending);
}

#endif
