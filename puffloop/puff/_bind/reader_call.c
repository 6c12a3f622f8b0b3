/* reader_call.c - the coroutine object of one read: see reader.h.
 *
 *   NEW --send()--> look --+--> result: DONE in the first step, no Future, no frame
 *                     ^    +--> WAITING on reader._waiter --set or cancelled--> look again, or DONE
 *                     +---------+
 *                          +--> ASYNCIO: its own coroutine takes every further step
 */
#include "reader.h"

#include "coroutine.h"
#include "freelist.h"

enum state { NEW, LOOKING, WOKEN, WAITING, ASYNCIO, DONE };

static puff_freelist freelist;
static PyTypeObject call_type;
static PyObject *str_throw, *str_close;

bool puff_call_is_woken(const puff_call *c) { return c->state == WOKEN; }

static void finish(puff_call *c) {
    c->state = DONE;
    Py_CLEAR(c->waiting);
    Py_CLEAR(c->arg);
    Py_CLEAR(c->attrs);
    Py_CLEAR(c->self);
}

/* ---- waiting --------------------------------------------------------------------------------- */

int puff_call_wait(puff_call *c, PyObject *future) {
    PyAsyncMethods *async = Py_TYPE(future)->tp_as_async;
    if (!async || !async->am_await) {
        PyErr_SetString(PyExc_TypeError, "loop.create_future() has not made a Future");
        return -1;
    }
    c->waiting = async->am_await(future);
    if (!c->waiting) return -1;
    c->state = WAITING;
    return 0;
}

/* What asyncio's _wait_for_data() does in its `finally`. */
static int end_wait(puff_call *c) {
    Py_CLEAR(c->waiting);
    c->state = WOKEN;
    if (puff_reader_waiter(c->attrs) == Py_None) return 0; /* feed_data() has */
    PyObject *exc = puff_take_exception();
    int rc = PyDict_SetItem(c->attrs, puff_str_waiter, Py_None);
    if (exc) puff_raise_exception(exc);
    return rc;
}

/* ---- asyncio's own --------------------------------------------------------------------------- */

/* Looked up now: it may have been replaced. */
static PyObject *asyncio_coroutine(puff_call *c) {
    PyObject *method = PyObject_GetAttrString(*c->kind->asyncio_class, c->kind->name);
    if (!method) return NULL;
    PyObject *args[2] = {c->self, c->arg};
    PyObject *coro = PyObject_Vectorcall(method, args, c->arg ? 2 : 1, NULL);
    Py_DECREF(method);
    return coro;
}

/* asyncio's method begins anew. Where ours has waited it must not look at an exception that came
 * since: asyncio's would not have looked again either. */
static PySendResult begin_asyncio(puff_call *c, PyObject **result) {
    bool woken = c->state == WOKEN;
    PyObject *exc = woken ? PyDict_GetItemWithError(c->attrs, puff_str_exception) : NULL;
    c->waiting = asyncio_coroutine(c);
    c->state = ASYNCIO;
    if (!c->waiting) return PYGEN_ERROR;
    if (!exc || exc == Py_None) return PyIter_Send(c->waiting, Py_None, result);
    PyObject *attrs = Py_NewRef(c->attrs);
    Py_INCREF(exc);
    PySendResult r = PYGEN_ERROR;
    if (PyDict_SetItem(attrs, puff_str_exception, Py_None) == 0)
        r = PyIter_Send(c->waiting, Py_None, result);
    PyObject *raised = puff_take_exception();
    if (PyDict_SetItem(attrs, puff_str_exception, exc) < 0) PyErr_Clear();
    if (raised) puff_raise_exception(raised);
    Py_DECREF(exc);
    Py_DECREF(attrs);
    return r;
}

/* ---- a step ---------------------------------------------------------------------------------- */

static PySendResult look(puff_call *c, PyObject **result) {
    for (;;) {
        switch (c->kind->look(c, result)) {
        case PUFF_LOOK_DONE: return PYGEN_RETURN;
        case PUFF_LOOK_ASYNCIO: return begin_asyncio(c, result);
        case PUFF_LOOK_FAILED: return PYGEN_ERROR;
        case PUFF_LOOK_WAIT: break;
        }
        PySendResult r = PyIter_Send(c->waiting, Py_None, result);
        if (r == PYGEN_NEXT) return r;
        if (end_wait(c) < 0 || r == PYGEN_ERROR) return PYGEN_ERROR; /* a Future that was done */
        Py_CLEAR(*result);
    }
}

static PySendResult step(puff_call *c, PyObject *arg, PyObject **result) {
    PySendResult r;
    if (c->state == ASYNCIO) return PyIter_Send(c->waiting, arg, result);
    if (c->state == WAITING) {
        r = PyIter_Send(c->waiting, arg, result);
        if (r == PYGEN_NEXT) return r;
        if (end_wait(c) < 0 || r == PYGEN_ERROR) return PYGEN_ERROR;
        Py_CLEAR(*result);
    } else {
        c->state = LOOKING;
    }
    return look(c, result);
}

static PySendResult call_send(PyObject *self, PyObject *arg, PyObject **result) {
    puff_call *c = (puff_call *)self;
    *result = NULL;
    if (c->state == DONE || c->state == LOOKING) {
        PyErr_SetString(PyExc_RuntimeError, c->state == DONE
                                                ? "cannot reuse already awaited coroutine"
                                                : "coroutine already executing");
        return PYGEN_ERROR;
    }
    Py_INCREF(self);
    PySendResult r = step(c, arg, result);
    if (r != PYGEN_NEXT) finish(c);
    Py_DECREF(self);
    return r;
}

/* ---- the coroutine's methods ----------------------------------------------------------------- */

/* Passes throw() or close() on to what we wait for, and is done when that is. */
static PyObject *pass_on(puff_call *c, PyObject *method, PyObject *args) {
    PyObject *bound = PyObject_GetAttr(c->waiting, method);
    PyObject *res = bound ? PyObject_CallObject(bound, args) : NULL;
    Py_XDECREF(bound);
    return res;
}

static PyObject *call_throw(PyObject *self, PyObject *args) {
    puff_call *c = (puff_call *)self;
    PyObject *res = NULL;
    Py_INCREF(self);
    if (c->state == ASYNCIO || c->state == WAITING)
        res = pass_on(c, str_throw, args);
    else
        puff_coroutine_raise(args);
    if (!res) {
        if (c->state == WAITING) end_wait(c);
        finish(c);
    }
    Py_DECREF(self);
    return res;
}

static PyObject *call_close(PyObject *self, PyObject *ignored) {
    puff_call *c = (puff_call *)self;
    PyObject *res = Py_NewRef(Py_None);
    Py_INCREF(self);
    if (c->state == ASYNCIO) Py_SETREF(res, pass_on(c, str_close, NULL));
    if (c->state == WAITING && end_wait(c) < 0) Py_CLEAR(res);
    finish(c);
    Py_DECREF(self);
    return res;
}

static PyObject *get_name(PyObject *self, void *unused) {
    return PyUnicode_FromString(((puff_call *)self)->kind->name);
}

static PyObject *get_qualname(PyObject *self, void *unused) {
    const puff_call_kind *kind = ((puff_call *)self)->kind;
    const char *class_name = ((PyTypeObject *)*kind->asyncio_class)->tp_name;
    return PyUnicode_FromFormat("%s.%s", class_name, kind->name);
}

static PyObject *get_running(PyObject *self, void *unused) {
    return PyBool_FromLong(((puff_call *)self)->state == LOOKING);
}

/* What it waits for: asyncio's call graphs and stack traces look. */
static PyObject *get_await(PyObject *self, void *unused) {
    PyObject *waiting = ((puff_call *)self)->waiting;
    return Py_NewRef(waiting ? waiting : Py_None);
}

static PyObject *call_repr(PyObject *self) {
    PyObject *name = get_qualname(self, NULL);
    PyObject *repr = name ? PyUnicode_FromFormat("<coroutine object %U at %p>", name, self) : NULL;
    Py_XDECREF(name);
    return repr;
}

/* ---- life ------------------------------------------------------------------------------------ */

static int call_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_call *c = (puff_call *)self;
    Py_VISIT(c->self);
    Py_VISIT(c->attrs);
    Py_VISIT(c->arg);
    Py_VISIT(c->waiting);
    return 0;
}

static int call_clear(PyObject *self) {
    finish((puff_call *)self);
    return 0;
}

static void warn_never_awaited(puff_call *c) {
    PyObject *pending = puff_take_exception();
    puff_coroutine_warn(get_qualname((PyObject *)c, NULL), pending);
}

static void call_dealloc(PyObject *self) {
    puff_call *c = (puff_call *)self;
    PyObject_GC_UnTrack(self);
    if (c->state == NEW) warn_never_awaited(c);
    finish(c);
    puff_freelist_free(&freelist, self);
}

static PyMethodDef call_methods[] = {
    {"send", puff_coroutine_send, METH_O, NULL},
    {"throw", call_throw, METH_VARARGS, NULL},
    {"close", call_close, METH_NOARGS, NULL},
    {0},
};
static PyGetSetDef call_attributes[] = {
    {"__name__", get_name, NULL, NULL, NULL},
    {"__qualname__", get_qualname, NULL, NULL, NULL},
    {"cr_running", get_running, NULL, NULL, NULL},
    {"cr_await", get_await, NULL, NULL, NULL},
    {0},
};
static PyAsyncMethods call_async = {.am_await = PyObject_SelfIter, .am_send = call_send};
static PyTypeObject call_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.streams.Call",
    .tp_basicsize = sizeof(puff_call),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_as_async = &call_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = puff_coroutine_next,
    .tp_repr = call_repr,
    .tp_traverse = call_traverse,
    .tp_clear = call_clear,
    .tp_dealloc = call_dealloc,
    .tp_methods = call_methods,
    .tp_getset = call_attributes,
};

PyObject *puff_call_new(const puff_call_kind *kind, PyObject *self, PyObject *arg, Py_ssize_t n) {
    PyObject *attrs = PyObject_GenericGetDict(self, NULL);
    if (!attrs) return NULL;
    puff_call *c = puff_freelist_new(&freelist, &call_type);
    if (!c) {
        Py_DECREF(attrs);
        return NULL;
    }
    c->kind = kind;
    c->self = Py_NewRef(self);
    c->attrs = attrs;
    c->arg = Py_XNewRef(arg);
    c->waiting = NULL;
    c->n = n;
    c->offset = 0;
    c->state = NEW;
    PyObject_GC_Track(c);
    return (PyObject *)c;
}

int puff_call_init(void) {
    if (!(str_throw = PyUnicode_InternFromString("throw")) ||
        !(str_close = PyUnicode_InternFromString("close")))
        return -1;
    return PyType_Ready(&call_type);
}
