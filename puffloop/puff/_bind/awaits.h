/* awaits.h - makes an extension type of Cython's cheap to await.
 *
 * `await x` calls x's am_send slot up to 3.11 and from asyncio's Task, and tp_iternext from 3.12 on. Cython
 * would fill neither without a StopIteration for each value that is returned. A module that includes this
 * has one awaitable type (and its subclasses, which inherit the slots).
 */
#ifndef PUFF_BIND_AWAITS_H
#define PUFF_BIND_AWAITS_H

#include "coroutine.h"

/* Goes on with the awaitable: a new reference to what it yields, or with *returned set to what it returns;
 * NULL with an exception. */
typedef PyObject *(*puff_await_step)(PyObject *self, int *returned);

static puff_await_step puff_await_step_of_type;

static PySendResult puff_await_send(PyObject *self, PyObject *value, PyObject **result) {
    int returned = 0;
    *result = puff_await_step_of_type(self, &returned);
    if (!*result) return PYGEN_ERROR;
    return returned ? PYGEN_RETURN : PYGEN_NEXT;
}

/* Before a subclass is made. type has __await__, __iter__ and __next__. */
static void puff_await_install(PyObject *type, puff_await_step step) {
    puff_await_step_of_type = step;
    ((PyTypeObject *)type)->tp_iternext = puff_coroutine_next;
    ((PyTypeObject *)type)->tp_as_async->am_send = puff_await_send;
    PyType_Modified((PyTypeObject *)type);
}

#endif
