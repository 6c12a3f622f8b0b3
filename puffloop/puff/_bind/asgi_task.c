/* asgi_task.c - see asgi_task.h.
 *
 * The app runs in a real asyncio.Task from its first instruction, so that current_task(), timeouts,
 * task groups, cancellation and contextvars are what they are anywhere. Making a Task costs more
 * than the rest of a request, so the Task of a request whose app never waits serves the next one
 * too; no request can tell.
 *
 *                    step()             send(None)               app(scope, receive, send)
 *   on_request ----> Task T ----------> driver D --------------> the app's awaitable
 *                      ^                  |
 *                      |                  +- app waits:  its Future goes to T. T is a Task as any,
 * and |                  |              ends with the app, in a later turn |                  +-
 * app ended:  T is as new?   no: D returns, T is done
 *                      +-- yield None ----+                            yes: D yields None
 *
 * - A Task runs when the loop calls the step that Task gave to loop.call_soon(). While
 * loop->capturing is set, call_soon() hands us the callable instead of scheduling it: when T is
 * made, and again when D yields None, upon which T asks for its next step and is where it was.
 * - As new means: no byte of the Task object differs from what it was at the start of the step, its
 *   reference count included. Whoever keeps T, names it, cancels it, adds a callback or a weak
 *   reference changes one; then T ends as any Task does.
 * - Contextvars: T's context is a copy of the server's. What the app set in it is undone by putting
 *   the old variables back (context_vars.h), unless somebody keeps the context itself.
 * - T is registered (asyncio.all_tasks()) when the app waits for the first time; an idle T is not.
 * - While a capture is awaited the cyclic collector is off: a destructor that calls call_soon()
 * must not be captured.
 */
#include "asgi_task.h"

#include "context_vars.h"
#include "coroutine.h"
#include "scope.h"

enum driver_state {
    DRIVER_IDLE,      /* waits for a request; its Task's step has been captured */
    DRIVER_RUNNING,   /* in the first step of its app */
    DRIVER_SUSPENDED, /* the app waits; we are in asgi->running */
    DRIVER_DONE
};

/* What a Task was like at the start of a step. In 3.12 the words at -4 and -3 hold its __dict__. */
enum { PRE_WORDS = 2, PRE_OFFSET = 4 * sizeof(void *) };

struct puff_driver {
    PyObject_HEAD
    puff_queue node;         /* in asgi->running while suspended */
    puff_asgi *asgi;         /* borrowed; NULL once disowned */
    PyObject *task;          /* borrowed: it owns us; asgi->running owns a reference */
    PyObject *context;       /* borrowed from the task */
    PyObject *vars;          /* owned: the context's variables as they were */
    puff_exchange *exchange; /* owned; NULL between requests */
    PyObject *coro; /* owned: what runs the app; NULL before it is called and after it ends */
    char *image;    /* owned: of the task; NULL before its first step */
    Py_ssize_t context_refs; /* of the context, when the image was taken */
    enum driver_state state;
    bool rearmed;     /* has yielded None: the next step is in loop->captured */
    bool gc_disabled; /* ... and the collector is off until it is taken */
};

static PyTypeObject *task_type;                   /* borrowed from _asyncio */
static PyObject *register_task, *unregister_task; /* owned; NULL: no Task is used twice */
static PyObject *loop_name;                       /* owned */
static PyObject *cancelled_error;                 /* owned */
static PyTypeObject driver_type;

/* ---- as new? --------------------------------------------------------------------------------- */

static void copy_image(char *to, PyObject *task) {
    Py_ssize_t size = Py_TYPE(task)->tp_basicsize;
    memcpy(to, task, (size_t)size);
#ifdef Py_TPFLAGS_MANAGED_DICT
    if (PyType_HasFeature(Py_TYPE(task), Py_TPFLAGS_MANAGED_DICT))
        memcpy(to + size, (char *)task - PRE_OFFSET, PRE_WORDS * sizeof(void *));
#endif
}

static bool same_image(const char *image, PyObject *task) {
    Py_ssize_t size = Py_TYPE(task)->tp_basicsize;
    if (memcmp(image, task, (size_t)size) != 0) return false;
#ifdef Py_TPFLAGS_MANAGED_DICT
    if (PyType_HasFeature(Py_TYPE(task), Py_TPFLAGS_MANAGED_DICT))
        return memcmp(image + size, (char *)task - PRE_OFFSET, PRE_WORDS * sizeof(void *)) == 0;
#endif
    return true;
}

/* At the start of the first step, when the stack holds as many references as it will at its end. */
static int take_image(puff_driver *d) {
    d->image = PyMem_Malloc((size_t)Py_TYPE(d->task)->tp_basicsize + PRE_WORDS * sizeof(void *));
    if (!d->image) {
        PyErr_NoMemory();
        return -1;
    }
    copy_image(d->image, d->task);
    d->context_refs = Py_REFCNT(d->context);
    d->vars = Py_NewRef(puff_context_vars(d->context));
    return 0;
}

/* Makes the context new, if that can be done, then looks. Putting variables back may run
 * destructors, so it comes first. */
static bool is_as_new(puff_driver *d) {
    if (puff_context_vars(d->context) != d->vars) {
        if (Py_REFCNT(d->context) != d->context_refs) return false;
        puff_context_vars_restore(d->context, d->vars);
    }
    return Py_REFCNT(d->context) == d->context_refs && puff_context_vars(d->context) == d->vars &&
           same_image(d->image, d->task);
}

/* ---- the app --------------------------------------------------------------------------------- */

/* What to send into for an awaitable; takes the reference. The rules of `await`. */
static PyObject *iterator_of(PyObject *awaitable) {
    if (PyCoro_CheckExact(awaitable)) return awaitable;
    PyAsyncMethods *methods = Py_TYPE(awaitable)->tp_as_async;
    PyObject *iter = NULL;
    if (methods && methods->am_await)
        iter = methods->am_await(awaitable);
    else
        PyErr_Format(PyExc_TypeError, "the app returned %.200s, which cannot be awaited",
                     Py_TYPE(awaitable)->tp_name);
    if (iter && !PyIter_Check(iter)) {
        PyErr_SetString(PyExc_TypeError, "__await__() of what the app returned gave no iterator");
        Py_CLEAR(iter);
    }
    Py_DECREF(awaitable);
    return iter;
}

static int call_app(puff_driver *d) {
    puff_exchange *ex = d->exchange;
    PyObject *args[3] = {puff_scope_new(d->asgi, ex->req), puff_exchange_receiver(ex),
                         puff_exchange_sender(ex)};
    PyObject *awaitable = NULL;
    if (args[0] && args[1] && args[2]) awaitable = PyObject_Vectorcall(d->asgi->app, args, 3, NULL);
    for (int i = 0; i < 3; i++) Py_XDECREF(args[i]);
    d->coro = awaitable ? iterator_of(awaitable) : NULL;
    return d->coro ? 0 : -1;
}

static int call_with_task(PyObject *fn, PyObject *task) {
    PyObject *res = PyObject_CallOneArg(fn, task);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* The app waits for the first time: from now on its Task is a Task among others. */
static void suspend(puff_driver *d) {
    d->state = DRIVER_SUSPENDED;
    puff_exchange_hold(d->exchange);
    puff_queue_push(&d->asgi->running, &d->node);
    Py_INCREF(d->task);
    if (register_task && call_with_task(register_task, d->task) < 0) PyErr_WriteUnraisable(d->task);
}

/* Nothing of the request stays. What it held may run destructors. */
static void drop_request(puff_driver *d) {
    Py_CLEAR(d->coro);
    Py_CLEAR(d->exchange);
}

static PySendResult retire(puff_driver *d, PyObject **result) {
    if (d->state == DRIVER_SUSPENDED && d->asgi) {
        puff_queue_remove(&d->node);
        Py_DECREF(d->task); /* whoever makes this step holds another */
    }
    d->state = DRIVER_DONE;
    *result = Py_NewRef(Py_None);
    return PYGEN_RETURN;
}

static PySendResult rearm(puff_driver *d, PyObject **result) {
    d->state = DRIVER_IDLE;
    d->rearmed = true;
    d->gc_disabled = PyGC_Disable();
    d->asgi->loop->capturing = 1;
    *result = Py_NewRef(Py_None);
    return PYGEN_NEXT;
}

static PySendResult app_returned(puff_driver *d, PyObject **result) {
    if (d->asgi) puff_exchange_app_ended(d->exchange, d->asgi, NULL);
    drop_request(d);
    bool again = d->state == DRIVER_RUNNING && d->asgi && !d->asgi->stopping && unregister_task;
    return again && is_as_new(d) ? rearm(d, result) : retire(d, result);
}

static bool is_for_the_task(PyObject *exc) {
    return PyErr_GivenExceptionMatches(exc, cancelled_error) ||
           PyErr_GivenExceptionMatches(exc, PyExc_SystemExit) ||
           PyErr_GivenExceptionMatches(exc, PyExc_KeyboardInterrupt);
}

static void end_exchange(puff_driver *d, PyObject *exc) {
    if (!d->asgi) return;
    if (d->asgi->stopping && PyErr_GivenExceptionMatches(exc, cancelled_error))
        puff_exchange_cut_off(d->exchange);
    else
        puff_exchange_app_ended(d->exchange, d->asgi, exc);
}

/* Ordinary exceptions end here, in the log; the three that mean something to a Task go on to it,
 * and so do those of a request that has outlived its server. */
static PySendResult app_raised(puff_driver *d, PyObject **result) {
    PyObject *exc = puff_take_exception();
    bool goes_on = !d->asgi || is_for_the_task(exc);
    end_exchange(d, exc);
    drop_request(d);
    PySendResult r = retire(d, result);
    if (!goes_on) {
        Py_DECREF(exc);
        return r;
    }
    Py_CLEAR(*result);
    puff_raise_exception(exc);
    return PYGEN_ERROR;
}

/* What a step of the app means for the Task. */
static PySendResult after_step(puff_driver *d, PySendResult r, PyObject **result) {
    if (r == PYGEN_NEXT) {
        if (d->state == DRIVER_RUNNING) suspend(d);
        return r;
    }
    if (r == PYGEN_ERROR) return app_raised(d, result);
    Py_CLEAR(*result);
    return app_returned(d, result);
}

/* ---- the driver as a coroutine --------------------------------------------------------------- */

static PySendResult begin(puff_driver *d, PyObject **result) {
    d->state = DRIVER_RUNNING;
    if (unregister_task && !d->image && take_image(d) < 0) return app_raised(d, result);
    if (call_app(d) < 0) return app_raised(d, result);
    return after_step(d, PyIter_Send(d->coro, Py_None, result), result);
}

static PySendResult driver_send(PyObject *self, PyObject *arg, PyObject **result) {
    puff_driver *d = (puff_driver *)self;
    *result = NULL;
    if (d->state == DRIVER_IDLE) return begin(d, result);
    if (d->coro) return after_step(d, PyIter_Send(d->coro, arg, result), result);
    PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
    return PYGEN_ERROR;
}

/* throw() of the app's coroutine, as the outcome of a step. */
static PySendResult throw_into_app(puff_driver *d, PyObject *args, PyObject **result) {
    PyObject *method = PyObject_GetAttrString(d->coro, "throw");
    *result = method ? PyObject_Call(method, args, NULL) : NULL;
    Py_XDECREF(method);
    if (*result) return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) return PYGEN_ERROR;
    PyErr_Clear(); /* the app returned; nobody wants its value */
    return PYGEN_RETURN;
}

static PyObject *driver_throw(PyObject *self, PyObject *args) {
    puff_driver *d = (puff_driver *)self;
    if (!d->coro) {
        PyErr_SetString(PyExc_RuntimeError, "cannot throw into a request that does not run");
        return NULL;
    }
    PyObject *result = NULL;
    PySendResult r = throw_into_app(d, args, &result);
    r = after_step(d, r, &result);
    return puff_coroutine_as_iterator(r, result);
}

static PyObject *driver_close(PyObject *self, PyObject *ignored) {
    puff_driver *d = (puff_driver *)self;
    PyObject *coro = d->coro;
    if (!coro) Py_RETURN_NONE;
    return PyObject_CallMethod(coro, "close", NULL);
}

/* cr_frame, cr_await, cr_code, __qualname__ and kin: what the app's own coroutine says.
 * Task.get_stack(), repr() of a Task and anyio look at them. */
static PyObject *driver_getattro(PyObject *self, PyObject *name) {
    PyObject *value = PyObject_GenericGetAttr(self, name);
    PyObject *coro = ((puff_driver *)self)->coro;
    if (value || !coro || !PyErr_ExceptionMatches(PyExc_AttributeError)) return value;
    PyErr_Clear();
    return PyObject_GetAttr(coro, name);
}

/* The reference of asgi->running is not shown: it keeps a request alive that waits for nothing but
 * its client, and that nobody else refers to. */
static int driver_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_driver *d = (puff_driver *)self;
    Py_VISIT(d->vars);
    Py_VISIT(d->exchange);
    Py_VISIT(d->coro);
    return 0;
}

static void driver_dealloc(PyObject *self) {
    puff_driver *d = (puff_driver *)self;
    PyObject_GC_UnTrack(self);
    drop_request(d);
    Py_CLEAR(d->vars);
    PyMem_Free(d->image);
    PyObject_GC_Del(self);
}

static PyMethodDef driver_methods[] = {
    {"send", puff_coroutine_send, METH_O, NULL},
    {"throw", driver_throw, METH_VARARGS, NULL},
    {"close", driver_close, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};
static PyAsyncMethods driver_async = {.am_await = PyObject_SelfIter, .am_send = driver_send};
static PyTypeObject driver_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.asgi.Request",
    .tp_basicsize = sizeof(puff_driver),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_as_async = &driver_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = puff_coroutine_next,
    .tp_getattro = driver_getattro,
    .tp_traverse = driver_traverse,
    .tp_dealloc = driver_dealloc,
    .tp_methods = driver_methods,
};

/* ---- the Task -------------------------------------------------------------------------------- */

static int pick_context(PyObject *o, void *arg) {
    if (PyContext_CheckExact(o)) *(PyObject **)arg = o;
    return 0;
}

/* The context that a Task runs its steps in, borrowed: it is among what the collector sees of it.
 */
static PyObject *context_of(PyObject *task) {
    PyObject *context = NULL;
    Py_TYPE(task)->tp_traverse(task, pick_context, &context);
    if (!context) PyErr_SetString(PyExc_SystemError, "an asyncio.Task without a context");
    return context;
}

/* Task(driver, loop=loop), made in a context of which it takes a copy. */
static PyObject *make_task(puff_asgi *asgi, PyObject *driver) {
    PyObject *args[2] = {driver, (PyObject *)asgi->loop};
    if (PyContext_Enter(asgi->context) < 0) return NULL;
    PyObject *task = PyObject_Vectorcall((PyObject *)task_type, args, 1, loop_name);
    if (PyContext_Exit(asgi->context) < 0) Py_CLEAR(task);
    return task;
}

static puff_driver *driver_new(puff_asgi *asgi) {
    puff_driver *d = PyObject_GC_New(puff_driver, &driver_type);
    if (!d) return NULL;
    puff_queue_init(&d->node);
    d->asgi = asgi;
    d->task = d->context = d->vars = d->coro = NULL;
    d->exchange = NULL;
    d->image = NULL;
    d->context_refs = 0;
    d->state = DRIVER_IDLE;
    d->rearmed = d->gc_disabled = false;
    PyObject_GC_Track(d);
    return d;
}

static PyObject *take_captured(puff_loop_object *loop) {
    PyObject *step = loop->captured;
    loop->captured = NULL;
    loop->capturing = 0;
    return step;
}

/* A new Task with its driver: its step, new; the driver is the Task's. */
static PyObject *new_step(puff_asgi *asgi, puff_driver **out) {
    puff_driver *d = driver_new(asgi);
    if (!d) return NULL;
    bool gc_was_on = PyGC_Disable();
    asgi->loop->capturing = 1;
    PyObject *task = make_task(asgi, (PyObject *)d);
    PyObject *step = take_captured(asgi->loop);
    if (gc_was_on) PyGC_Enable();
    Py_DECREF(d);
    if (!task || !step) goto fail;
    d->task = task;
    d->context = context_of(task);
    if (!d->context || (unregister_task && call_with_task(unregister_task, task) < 0)) goto fail;
    Py_DECREF(task); /* the step holds it */
    *out = d;
    return step;
fail:
    if (!PyErr_Occurred())
        PyErr_SetString(PyExc_SystemError, "a Task did not ask for its first step");
    Py_XDECREF(task);
    Py_XDECREF(step);
    return NULL;
}

/* Makes one step of the Task; takes the reference. Whatever comes of the Task, d may be gone after,
 * unless *again is true: it is idle again, with *step as its next. */
static int make_step(puff_asgi *asgi, puff_driver *d, PyObject **step, bool *again) {
    PyObject *context = Py_NewRef(d->context);
    Py_INCREF(d);
    PyObject *res = PyContext_Enter(context) < 0 ? NULL : PyObject_CallNoArgs(*step);
    Py_XDECREF(res);
    PyObject *exc = res ? NULL : puff_take_exception();
    if (PyContext_Exit(context) < 0) PyErr_Clear();
    Py_CLEAR(*step);
    if (d->rearmed) {
        *step = take_captured(asgi->loop);
        if (d->gc_disabled) PyGC_Enable();
        d->rearmed = false;
    }
    *again = *step != NULL;
    Py_DECREF(d);
    Py_DECREF(context);
    if (exc) puff_raise_exception(exc);
    return exc ? -1 : 0;
}

int puff_asgi_task_run(puff_asgi *asgi, puff_exchange *exchange) {
    puff_driver *d = asgi->idle;
    PyObject *step = asgi->idle_step;
    asgi->idle = NULL;
    asgi->idle_step = NULL;
    if (!step && !(step = new_step(asgi, &d))) return -1;
    d->exchange = (puff_exchange *)Py_NewRef((PyObject *)exchange);
    bool again;
    int rc = make_step(asgi, d, &step, &again);
    if (again) {
        asgi->idle = d;
        asgi->idle_step = step;
    }
    return rc;
}

/* It cannot be stepped to its end from here: the caller may be in a Task itself, or the loop
 * closed. */
void puff_asgi_task_end_idle(puff_asgi *asgi) {
    if (!asgi->idle_step) return;
    if (PyObject_SetAttrString(asgi->idle->task, "_log_destroy_pending", Py_False) < 0)
        PyErr_WriteUnraisable(asgi->idle->task);
    asgi->idle = NULL;
    Py_CLEAR(asgi->idle_step); /* and with it the Task and its driver */
}

PyObject *puff_asgi_task_list(puff_asgi *asgi) {
    PyObject *list = PyList_New(0);
    puff_queue *q;
    PUFF_QUEUE_FOREACH(q, &asgi->running) {
        puff_driver *d = PUFF_CONTAINER_OF(q, puff_driver, node);
        if (list && PyList_Append(list, d->task) < 0) Py_CLEAR(list);
    }
    return list;
}

void puff_asgi_task_disown(puff_asgi *asgi) {
    for (puff_queue *q; (q = puff_queue_pop(&asgi->running));) {
        puff_driver *d = PUFF_CONTAINER_OF(q, puff_driver, node);
        d->asgi = NULL;
        Py_DECREF(d->task); /* d may be gone */
    }
}

/* ---- init ------------------------------------------------------------------------------------ */

int puff_asgi_task_init(void) {
    PyObject *c = PyImport_ImportModule("_asyncio");
    PyObject *exceptions = PyImport_ImportModule("asyncio.exceptions");
    PyObject *type = c ? PyObject_GetAttrString(c, "Task") : NULL;
    cancelled_error = exceptions ? PyObject_GetAttrString(exceptions, "CancelledError") : NULL;
    loop_name = Py_BuildValue("(s)", "loop");
    Py_XDECREF(exceptions);
    if (!type || !PyType_Check(type) || !cancelled_error || !loop_name ||
        PyType_Ready(&driver_type) < 0) {
        Py_XDECREF(c);
        return -1;
    }
    task_type = (PyTypeObject *)type;
    register_task = PyObject_GetAttrString(c, "_register_task");
    unregister_task = PyObject_GetAttrString(c, "_unregister_task");
    Py_DECREF(c);
    if (!register_task || !unregister_task || !puff_context_vars_init()) {
        PyErr_Clear();
        Py_CLEAR(register_task);
        Py_CLEAR(unregister_task);
    }
    return 0;
}
