/* awaitable.c - see awaitable.h.
 *
 *   new --send()--> poll -+--> done                       a result: in the first step
 *                    ^    +--> parked on a Future         nothing yet: yields it to the Task
 *                    +------------+  the Future is set by puff_wait_wake(), or cancelled
 *
 * A wait takes nothing from the request before it is awaited, so one that is thrown away or
 * cancelled loses no bytes.
 */
#include "coroutine.h"
#include "exchange.h"
#include "freelist.h"

/* ---- ready ----------------------------------------------------------------------------------- */

PyObject *puff_sent;

static PySendResult ready_send(PyObject *self, PyObject *arg, PyObject **result) {
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PyObject *ready_throw(PyObject *self, PyObject *args) { return puff_coroutine_raise(args); }
static PyObject *ready_close(PyObject *self, PyObject *ignored) { Py_RETURN_NONE; }

static PyMethodDef ready_methods[] = {
    {"send", puff_coroutine_send, METH_O, NULL},
    {"throw", ready_throw, METH_VARARGS, NULL},
    {"close", ready_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyAsyncMethods ready_async = {.am_await = PyObject_SelfIter, .am_send = ready_send};
static PyTypeObject ready_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Sent",
    .tp_basicsize = sizeof(PyObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_as_async = &ready_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = puff_coroutine_next,
    .tp_methods = ready_methods,
};

/* ---- wait ------------------------------------------------------------------------------------ */

enum wait_state { WAIT_NEW, WAIT_PARKED, WAIT_DONE };

/* Seen by the garbage collector only while parked: before, it can be part of no cycle. */
typedef struct puff_wait {
    PyObject_HEAD
    puff_queue node;         /* in exchange->waits while parked */
    puff_exchange *exchange; /* owned */
    PyObject *future, *iter; /* owned while parked: the Future and its __await__() */
    enum puff_wait_kind kind;
    enum wait_state state;
} puff_wait;

static puff_freelist wait_freelist;
static PyTypeObject wait_type;
static PyObject *str_create_future, *str_done, *str_set_result;

static int wait_park(puff_wait *w) {
    PyObject *loop =
        (PyObject *)w->exchange->asgi->loop; /* a poll that waits is of a live request */
    PyObject *future = PyObject_CallMethodNoArgs(loop, str_create_future);
    if (!future) return -1;
    PyObject *iter = Py_TYPE(future)->tp_as_async->am_await(future);
    if (!iter) {
        Py_DECREF(future);
        return -1;
    }
    w->future = future;
    w->iter = iter;
    w->state = WAIT_PARKED;
    puff_queue_push(&w->exchange->waits, &w->node);
    PyObject_GC_Track(w);
    return 0;
}

static void wait_unpark(puff_wait *w, enum wait_state next) {
    if (w->state == WAIT_PARKED) {
        PyObject_GC_UnTrack(w);
        puff_queue_remove(&w->node);
    }
    w->state = next;
    Py_CLEAR(w->iter);
    Py_CLEAR(w->future);
}

static PySendResult wait_send(PyObject *self, PyObject *arg, PyObject **result) {
    puff_wait *w = (puff_wait *)self;
    *result = NULL;
    if (w->state == WAIT_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    for (;;) {
        if (w->state == WAIT_PARKED) {
            PySendResult r = PyIter_Send(w->iter, arg, result);
            if (r == PYGEN_NEXT) return r;
            wait_unpark(w, r == PYGEN_ERROR ? WAIT_DONE : WAIT_NEW);
            if (r == PYGEN_ERROR) return r;
            Py_CLEAR(*result);
        }
        *result = puff_exchange_poll(w->exchange, w->kind);
        if (*result || PyErr_Occurred()) {
            w->state = WAIT_DONE;
            return *result ? PYGEN_RETURN : PYGEN_ERROR;
        }
        if (wait_park(w) < 0) return PYGEN_ERROR;
        arg = Py_None;
    }
}

static PyObject *wait_throw(PyObject *self, PyObject *args) {
    wait_unpark((puff_wait *)self, WAIT_DONE);
    return puff_coroutine_raise(args);
}

static PyObject *wait_close(PyObject *self, PyObject *ignored) {
    wait_unpark((puff_wait *)self, WAIT_DONE);
    Py_RETURN_NONE;
}

static int wait_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_wait *w = (puff_wait *)self;
    Py_VISIT(w->exchange);
    Py_VISIT(w->future);
    Py_VISIT(w->iter);
    return 0;
}

/* Breaks the cycle of a task that nobody can wake any more. */
static int wait_clear(PyObject *self) {
    puff_wait *w = (puff_wait *)self;
    Py_CLEAR(w->iter);
    Py_CLEAR(w->future);
    return 0;
}

static void wait_dealloc(PyObject *self) {
    puff_wait *w = (puff_wait *)self;
    wait_unpark(w, WAIT_DONE);
    Py_CLEAR(w->exchange);
    puff_freelist_free(&wait_freelist, self);
}

static PyMethodDef wait_methods[] = {
    {"send", puff_coroutine_send, METH_O, NULL},
    {"throw", wait_throw, METH_VARARGS, NULL},
    {"close", wait_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyAsyncMethods wait_async = {.am_await = PyObject_SelfIter, .am_send = wait_send};
static PyTypeObject wait_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Waiting",
    .tp_basicsize = sizeof(puff_wait),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_as_async = &wait_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = puff_coroutine_next,
    .tp_traverse = wait_traverse,
    .tp_clear = wait_clear,
    .tp_dealloc = wait_dealloc,
    .tp_methods = wait_methods,
};

PyObject *puff_wait_new(puff_exchange *exchange, enum puff_wait_kind kind) {
    puff_wait *w = puff_freelist_new(&wait_freelist, &wait_type);
    if (!w) return NULL;
    puff_queue_init(&w->node);
    w->exchange = (puff_exchange *)Py_NewRef((PyObject *)exchange);
    w->future = w->iter = NULL;
    w->kind = kind;
    w->state = WAIT_NEW;
    return (PyObject *)w;
}

/* set_result(None), unless somebody has cancelled it. */
static int future_set(PyObject *future) {
    PyObject *done = PyObject_CallMethodNoArgs(future, str_done);
    if (!done) return -1;
    Py_DECREF(done);
    if (done == Py_True) return 0;
    PyObject *res = PyObject_CallMethodOneArg(future, str_set_result, Py_None);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* Setting a result only schedules callbacks; nobody leaves the list here. */
void puff_wait_wake(puff_queue *waits, int kinds) {
    puff_queue *q;
    PUFF_QUEUE_FOREACH(q, waits) {
        puff_wait *w = PUFF_CONTAINER_OF(q, puff_wait, node);
        if ((w->kind & kinds) && future_set(w->future) < 0) PyErr_WriteUnraisable(w->future);
    }
}

int puff_awaitable_init(void) {
    if (!(str_create_future = PyUnicode_InternFromString("create_future")) ||
        !(str_done = PyUnicode_InternFromString("done")) ||
        !(str_set_result = PyUnicode_InternFromString("set_result")))
        return -1;
    if (PyType_Ready(&ready_type) < 0 || PyType_Ready(&wait_type) < 0) return -1;
    puff_sent = _PyObject_New(&ready_type);
    return puff_sent ? 0 : -1;
}
