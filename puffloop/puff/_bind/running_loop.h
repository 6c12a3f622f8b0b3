/* running_loop.h - asyncio's running loop of this thread, hidden and shown on every switch of a greenlet.
 *
 * asyncio._set_running_loop() makes an object for each call and puts it into the thread's dict (up to
 * 3.13): 470 instructions. The loop is a pointer in that object. Its place is looked for and tried at
 * import; where it is not found, the function is called.
 */
#ifndef PUFF_BIND_RUNNING_LOOP_H
#define PUFF_BIND_RUNNING_LOOP_H

#include <Python.h>

static struct {
    PyObject *key;     /* of the thread's dict */
    PyObject *set;     /* asyncio._set_running_loop */
    Py_ssize_t offset; /* of the pointer; 0: not known */
} puff_running_loop_is;

static PyObject **puff_running_loop_place(void) {
    PyObject *dict = PyThreadState_GetDict(); /* borrowed, as is the holder */
    PyObject *holder = dict ? PyDict_GetItemWithError(dict, puff_running_loop_is.key) : NULL;
    if (!holder) return NULL;
    return (PyObject **)((char *)holder + puff_running_loop_is.offset);
}

/* loop: None hides. */
static int puff_set_running_loop(PyObject *loop) {
    if (puff_running_loop_is.offset) {
        PyObject **place = puff_running_loop_place();
        if (place && *place) {
            Py_SETREF(*place, Py_NewRef(loop));
            return 0;
        }
        if (PyErr_Occurred()) return -1;
    }
    PyObject *none = PyObject_CallOneArg(puff_running_loop_is.set, loop);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static Py_ssize_t puff_running_loop_offset(PyObject *marker) {
    PyObject *dict = PyThreadState_GetDict();
    PyObject *holder = dict ? PyDict_GetItem(dict, puff_running_loop_is.key) : NULL;
    if (!holder) return 0;
    Py_ssize_t at = (Py_ssize_t)sizeof(PyObject), end = Py_TYPE(holder)->tp_basicsize;
    for (; at + (Py_ssize_t)sizeof(PyObject *) <= end; at += (Py_ssize_t)sizeof(PyObject *)) {
        if (*(PyObject **)((char *)holder + at) == marker) return at;
    }
    return 0;
}

/* Once per module: `set` and `get` are asyncio's functions. -1: an exception. */
static int puff_running_loop_learn(PyObject *set, PyObject *get) {
    PyObject *marker = NULL, *seen = NULL, *hidden = NULL, *before = PyObject_CallNoArgs(get);
    if (!before) return -1;
    puff_running_loop_is.key = PyUnicode_InternFromString("__asyncio_running_event_loop__");
    puff_running_loop_is.set = Py_NewRef(set);
    marker = PyList_New(0); /* no object that a holder could have for another reason */
    if (!marker || puff_set_running_loop(marker) < 0) goto fail;
    puff_running_loop_is.offset = puff_running_loop_offset(marker);
    if (puff_set_running_loop(Py_None) < 0 || !(hidden = PyObject_CallNoArgs(get))) goto fail;
    if (puff_set_running_loop(marker) < 0 || !(seen = PyObject_CallNoArgs(get))) goto fail;
    if (hidden != Py_None || seen != marker) puff_running_loop_is.offset = 0;
    if (puff_set_running_loop(before) < 0) goto fail;
fail:
    Py_XDECREF(marker);
    Py_XDECREF(hidden);
    Py_XDECREF(seen);
    Py_DECREF(before);
    return PyErr_Occurred() ? -1 : 0;
}

#endif
