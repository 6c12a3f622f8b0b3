/* handle.c - the two handle types. See handle.h.
 *
 * Handles are made and dropped once per callback, so both types keep a free list: a parked object
 * is untracked, has no reference count and holds no reference, not even to its type. Its slot
 * callback is the way to the next.
 * The lists take whatever a burst leaves: with 100 000 callbacks at once, giving memory back and
 * taking it again is a third of all CPU time (page faults). Whoever sleeps or has small turns does
 * not need so many: see puff_handle_trim().
 */
#include "handle.h"

#include <stddef.h>
#include <string.h>

#include "handle_context.h"

PyTypeObject *puff_handle_type, *puff_timer_handle_type;

static PyObject *extract_stack_fn, *report_fn;
static PyObject *safe_handle_class; /* asyncio.events._ThreadSafeHandle, or NULL */

static PyObject *free_handles, *free_timers;
size_t puff_n_free_handles;

static puff_handle_own *own_of(PyObject *self) {
    return Py_IS_TYPE(self, puff_timer_handle_type) ? &((puff_timer_handle *)self)->own
                                                    : &((puff_handle *)self)->own;
}

/* ---- life ---------------------------------------------------------------------------------- */

static PyObject *unpark(PyObject **spare) {
    PyObject *self = *spare;
    *spare = ((puff_handle *)self)->callback;
    ((puff_handle *)self)->callback = NULL;
    puff_n_free_handles--;
    return self;
}

static PyObject *alloc_handle(PyObject **spare, PyTypeObject *type) {
    if (*spare) return PyObject_Init(unpark(spare), type);
    PyObject *self = (PyObject *)PyObject_GC_New(puff_handle, type);
    if (self)
        memset((char *)self + sizeof(PyObject), 0, (size_t)type->tp_basicsize - sizeof(PyObject));
    return self;
}

static void free_handle(PyObject **spare, PyObject *self) {
    ((puff_handle *)self)->callback = *spare;
    *spare = self;
    puff_n_free_handles++;
    Py_DECREF(Py_TYPE(self)); /* instances of a heap type own a reference to it */
}

void puff__handle_trim(size_t n) {
    for (; n > 0 && puff_n_free_handles > PUFF_FREE_HANDLES; n--)
        PyObject_GC_Del(unpark(free_timers ? &free_timers : &free_handles));
}

static void clear_args(puff_handle_own *a) {
    int n = a->n;
    a->n = 0;
    for (int i = 0; i < n; i++) Py_CLEAR(a->items[i]);
}

void puff_handle_track(PyObject *handle) {
    if (!PyObject_GC_IsTracked(handle)) PyObject_GC_Track(handle);
}

static int handle_clear(PyObject *self) {
    puff_handle *h = (puff_handle *)self;
    Py_CLEAR(h->args);
    Py_CLEAR(h->callback);
    Py_CLEAR(h->context);
    Py_CLEAR(h->loop);
    Py_CLEAR(h->repr);
    Py_CLEAR(h->source_traceback);
    Py_CLEAR(own_of(self)->vars);
    clear_args(own_of(self));
    return 0;
}

/* Untracked and without another owner: the collector sees what it holds as held by its owner. With
 * another owner it would be wrong to do so; what it holds then stays alive for the time being. */
static bool is_ours_alone(PyObject *o) { return Py_REFCNT(o) == 1 && !PyObject_GC_IsTracked(o); }

static int handle_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_handle *h = (puff_handle *)self;
    puff_handle_own *a = own_of(self);
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(h->args);
    Py_VISIT(h->callback);
    Py_VISIT(h->context);
    Py_VISIT(a->vars);
    Py_VISIT(h->loop);
    Py_VISIT(h->source_traceback);
    for (int i = 0; i < a->n; i++) Py_VISIT(a->items[i]);
    return 0;
}

int puff_handle_visit(PyObject *handle, visitproc visit, void *arg) {
    if (puff_handle_is_native(handle) && is_ours_alone(handle))
        return handle_traverse(handle, visit, arg);
    Py_VISIT(handle);
    return 0;
}

static void handle_dealloc(PyObject *self) {
    puff_handle *h = (puff_handle *)self;
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    handle_clear(self);
    Py_CLEAR(h->cancelled);
    free_handle(&free_handles, self);
}

static void timer_handle_dealloc(PyObject *self) {
    puff_timer_handle *t = (puff_timer_handle *)self;
    PyObject_GC_UnTrack(self);
    PyObject_ClearWeakRefs(self);
    handle_clear(self);
    Py_CLEAR(t->cancelled);
    Py_CLEAR(t->scheduled);
    Py_CLEAR(t->when);
    free_handle(&free_timers, self);
}

/* The stack of whoever called the loop's method: C functions have no frame of their own. */
static PyObject *creation_traceback(void) {
    PyObject *getframe = PySys_GetObject("_getframe"); /* borrowed */
    PyObject *frame = getframe ? PyObject_CallNoArgs(getframe) : NULL;
    if (!frame && PyErr_ExceptionMatches(PyExc_ValueError)) { /* C code alone, on a greenlet */
        PyErr_Clear();
        return PyList_New(0);
    }
    PyObject *stack = frame ? PyObject_CallOneArg(extract_stack_fn, frame) : NULL;
    Py_XDECREF(frame);
    return stack;
}

static int init_args(puff_handle *h, puff_handle_own *a, PyObject *const *args, Py_ssize_t n) {
    if (n > PUFF_INLINE_ARGS) {
        a->n = -1;
        h->args = PyTuple_New(n);
        if (!h->args) return -1;
        for (Py_ssize_t i = 0; i < n; i++) PyTuple_SET_ITEM(h->args, i, Py_NewRef(args[i]));
        return 0;
    }
    a->n = (int)n;
    for (Py_ssize_t i = 0; i < n; i++) a->items[i] = Py_NewRef(args[i]);
    return 0;
}

static int init_context(puff_handle *h, PyObject *context) {
    if (context && context != Py_None) {
        h->context = Py_NewRef(context);
        return 0;
    }
    own_of((PyObject *)h)->vars = puff_handle_context_vars();
    if (own_of((PyObject *)h)->vars) return 0;
    h->context = PyContext_CopyCurrent();
    return h->context ? 0 : -1;
}

static PyObject *init_handle(PyObject *self, PyObject *loop, PyObject *callback,
                             PyObject *const *args, Py_ssize_t n, PyObject *context, bool debug) {
    puff_handle *h = (puff_handle *)self;
    h->loop = Py_NewRef(loop);
    h->callback = Py_NewRef(callback);
    h->cancelled = Py_NewRef(Py_False);
    h->repr = Py_NewRef(Py_None);
    h->source_traceback = debug ? creation_traceback() : Py_NewRef(Py_None);
    int rc = init_args(h, own_of(self), args, n);
    if (rc < 0 || init_context(h, context) < 0 || !h->source_traceback) Py_CLEAR(self);
    return self;
}

PyObject *puff_handle_new(PyObject *loop, PyObject *callback, PyObject *const *args, Py_ssize_t n,
                          PyObject *context, bool debug) {
    PyObject *self = alloc_handle(&free_handles, puff_handle_type);
    return self ? init_handle(self, loop, callback, args, n, context, debug) : NULL;
}

/* Its __init__() is the last of the stack that it keeps in debug mode. */
static int drop_own_frame(PyObject *handle) {
    PyObject *stack = PyObject_GetAttrString(handle, "_source_traceback");
    Py_ssize_t n = stack && PyList_Check(stack) ? PyList_GET_SIZE(stack) : 0;
    int rc = !stack ? -1 : n > 0 ? PyList_SetSlice(stack, n - 1, n, NULL) : 0;
    Py_XDECREF(stack);
    return rc;
}

PyObject *puff_safe_handle_new(PyObject *loop, PyObject *callback, PyObject *const *args,
                               Py_ssize_t n, PyObject *context, bool debug) {
    if (!safe_handle_class) return puff_handle_new(loop, callback, args, n, context, debug);
    PyObject *tuple = PyTuple_New(n), *handle = NULL;
    for (Py_ssize_t i = 0; tuple && i < n; i++) PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    if (tuple)
        handle = PyObject_CallFunctionObjArgs(safe_handle_class, callback, tuple, loop,
                                              context ? context : Py_None, NULL);
    Py_XDECREF(tuple);
    if (handle && debug && drop_own_frame(handle) < 0) Py_CLEAR(handle);
    return handle;
}

PyObject *puff_timer_handle_new(PyObject *loop, PyObject *when, PyObject *callback,
                                PyObject *const *args, Py_ssize_t n, PyObject *context,
                                bool debug) {
    PyObject *self = alloc_handle(&free_timers, puff_timer_handle_type);
    if (!self) return NULL;
    puff_timer_handle *t = (puff_timer_handle *)self;
    t->when = Py_NewRef(when);
    t->scheduled = Py_NewRef(Py_False);
    t->timer.index = SIZE_MAX;
    return init_handle(self, loop, callback, args, n, context, debug);
}

/* ---- running ------------------------------------------------------------------------------- */

/* The callee may cancel the handle, which drops the arguments: they are held here meanwhile. */
static PyObject *call_inline(PyObject *callback, const puff_handle_own *a) {
    PyObject *stack[1 + PUFF_INLINE_ARGS];
    int n = a->n;
    for (int i = 0; i < n; i++) stack[1 + i] = Py_NewRef(a->items[i]);
    PyObject *res =
        PyObject_Vectorcall(callback, stack + 1, (size_t)n | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
    for (int i = 0; i < n; i++) Py_DECREF(stack[1 + i]);
    return res;
}

static PyObject *call_tuple(PyObject *callback, PyObject *args) {
    Py_INCREF(args);
    PyObject *res = PyObject_Call(callback, args, NULL);
    Py_DECREF(args);
    return res;
}

static PyObject *call_entered(PyObject *self, PyObject *context) {
    puff_handle *h = (puff_handle *)self;
    puff_handle_own *a = own_of(self);
    PyObject *callback = Py_NewRef(h->callback), *res = NULL;
    if (PyContext_Enter(context) == 0) {
        res = a->n >= 0 ? call_inline(callback, a) : call_tuple(callback, h->args);
        if (PyContext_Exit(context) < 0) Py_CLEAR(res);
    }
    Py_DECREF(callback);
    return res;
}

/* The context goes into its slot when somebody may look at it after the call. */
static PyObject *make_context(PyObject *self) {
    puff_handle *h = (puff_handle *)self;
    puff_handle_own *a = own_of(self);
    if (!h->context && a->vars) h->context = puff_handle_context_new(a->vars);
    if (h->context) Py_CLEAR(a->vars);
    return h->context;
}

static PyObject *call_in_context(PyObject *self) {
    puff_handle *h = (puff_handle *)self;
    bool lend = !h->context && Py_REFCNT(self) == 1;
    PyObject *context =
        lend ? puff_handle_context_borrow(own_of(self)->vars) : Py_XNewRef(make_context(self));
    if (!context) return NULL;
    PyObject *res = call_entered(self, context);
    if (!lend) {
        Py_DECREF(context);
    } else if (res) {
        puff_handle_context_return(context);
    } else { /* the exception handler runs in it */
        h->context = context;
        Py_CLEAR(own_of(self)->vars);
    }
    return res;
}

int puff_handle_report(PyObject *loop, PyObject *handle) {
    if (PyErr_ExceptionMatches(PyExc_SystemExit) || PyErr_ExceptionMatches(PyExc_KeyboardInterrupt))
        return -1;
    PyObject *exc = puff_take_exception();
    PyObject *res = PyObject_CallFunctionObjArgs(report_fn, loop, handle, exc, NULL);
    Py_DECREF(exc);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

int puff_handle_run(PyObject *handle) {
    if (puff_handle_is_cancelled(handle) || !((puff_handle *)handle)->callback) return 0;
    PyObject *res = call_in_context(handle);
    int rc = res ? 0 : puff_handle_report(((puff_handle *)handle)->loop, handle);
    Py_XDECREF(res);
    return rc;
}

/* ---- methods ------------------------------------------------------------------------------- */

static PyObject *handle_run_method(PyObject *self, PyObject *unused) {
    if (puff_handle_run(self) < 0) return NULL;
    Py_RETURN_NONE;
}

/* In debug mode the text stays, for a message such as "Executing <Handle ...> took 2.5 seconds". */
static int keep_repr(puff_handle *h) {
    if (!puff_loop_in_debug(h->loop)) return 0;
    PyObject *text = PyObject_Repr((PyObject *)h);
    if (!text) return -1;
    Py_SETREF(h->repr, text);
    return 0;
}

static PyObject *handle_cancel(PyObject *self, PyObject *unused) {
    puff_handle *h = (puff_handle *)self;
    if (puff_handle_is_cancelled(self)) Py_RETURN_NONE;
    Py_SETREF(h->cancelled, Py_NewRef(Py_True));
    if (keep_repr(h) < 0) return NULL;
    Py_SETREF(h->callback, Py_NewRef(Py_None));
    Py_XSETREF(h->args, Py_NewRef(Py_None));
    clear_args(own_of(self));
    own_of(self)->n = -1;
    Py_RETURN_NONE;
}

static PyObject *timer_handle_cancel(PyObject *self, PyObject *unused) {
    Py_INCREF(self); /* the loop's timers may hold the only other reference */
    puff_timer_handle_unschedule((puff_timer_handle *)self);
    PyObject *res = handle_cancel(self, NULL);
    puff_handle_track(self);
    Py_DECREF(self);
    return res;
}

static PyObject *get_args(PyObject *self, void *unused) {
    puff_handle *h = (puff_handle *)self;
    puff_handle_own *a = own_of(self);
    if (!h->args) {
        h->args = PyTuple_New(a->n);
        for (int i = 0; h->args && i < a->n; i++)
            PyTuple_SET_ITEM(h->args, i, Py_NewRef(a->items[i]));
    }
    return Py_XNewRef(h->args);
}

static PyObject *get_context(PyObject *self, void *unused) {
    PyObject *context = make_context(self);
    if (!context && !PyErr_Occurred()) PyErr_SetString(PyExc_AttributeError, "_context");
    return Py_XNewRef(context);
}

static int set_context(PyObject *self, PyObject *value, void *unused) {
    Py_XSETREF(((puff_handle *)self)->context, Py_XNewRef(value));
    Py_CLEAR(own_of(self)->vars);
    return 0;
}

static int set_args(PyObject *self, PyObject *value, void *unused) {
    puff_handle_own *a = own_of(self);
    if (!value || (value != Py_None && !PyTuple_Check(value))) {
        PyErr_SetString(PyExc_TypeError, "_args is a tuple or None");
        return -1;
    }
    Py_XSETREF(((puff_handle *)self)->args, Py_NewRef(value));
    clear_args(a);
    a->n = -1;
    return 0;
}

static PyGetSetDef handle_getset[] = {{"_args", get_args, set_args, NULL, NULL},
                                      {"_context", get_context, set_context, NULL, NULL},
                                      {0}};

static PyMethodDef handle_methods[] = {{"_run", handle_run_method, METH_NOARGS, NULL},
                                       {"cancel", handle_cancel, METH_NOARGS, NULL},
                                       {0}};
static PyMethodDef timer_handle_methods[] = {{"_run", handle_run_method, METH_NOARGS, NULL},
                                             {"cancel", timer_handle_cancel, METH_NOARGS, NULL},
                                             {0}};

static PyType_Slot handle_slots[] = {
    {Py_tp_dealloc, handle_dealloc}, {Py_tp_traverse, handle_traverse}, {Py_tp_clear, handle_clear},
    {Py_tp_methods, handle_methods}, {Py_tp_getset, handle_getset},     {0}};
static PyType_Slot timer_handle_slots[] = {
    {Py_tp_dealloc, timer_handle_dealloc}, {Py_tp_traverse, handle_traverse},
    {Py_tp_clear, handle_clear},           {Py_tp_methods, timer_handle_methods},
    {Py_tp_getset, handle_getset},         {0}};

enum { FLAGS = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION };
static PyType_Spec handle_spec = {"puff._bind.loop.Handle", sizeof(puff_handle), 0, FLAGS,
                                  handle_slots};
static PyType_Spec timer_handle_spec = {"puff._bind.loop.TimerHandle", sizeof(puff_timer_handle), 0,
                                        FLAGS, timer_handle_slots};

/* ---- types --------------------------------------------------------------------------------- */

typedef struct slot_place {
    const char *name;
    size_t offset;
} slot_place;

static const slot_place handle_places[] = {
    {"_args", offsetof(puff_handle, args)},
    {"_callback", offsetof(puff_handle, callback)},
    {"_cancelled", offsetof(puff_handle, cancelled)},
    {"_context", offsetof(puff_handle, context)},
    {"_loop", offsetof(puff_handle, loop)},
    {"_repr", offsetof(puff_handle, repr)},
    {"_source_traceback", offsetof(puff_handle, source_traceback)},
};
static const slot_place timer_handle_places[] = {
    {"_scheduled", offsetof(puff_timer_handle, scheduled)},
    {"_when", offsetof(puff_timer_handle, when)},
};

static int check_places(PyTypeObject *base, const slot_place *places, size_t n, size_t basicsize) {
    bool same = (size_t)base->tp_basicsize == basicsize;
    for (size_t i = 0; same && i < n; i++) {
        PyObject *member = PyObject_GetAttrString((PyObject *)base, places[i].name);
        if (!member) return -1;
        same = Py_IS_TYPE(member, &PyMemberDescr_Type) &&
               ((PyMemberDescrObject *)member)->d_member->offset == (Py_ssize_t)places[i].offset;
        Py_DECREF(member);
    }
    if (same) return 0;
    PyErr_Format(PyExc_ImportError, "puff does not know the layout of this Python's asyncio.%s",
                 base->tp_name);
    return -1;
}

static PyTypeObject *make_type(PyType_Spec *spec, PyObject *events, const char *base_name,
                               const slot_place *places, size_t n, size_t base_size) {
    PyTypeObject *type = NULL;
    PyObject *base = PyObject_GetAttrString(events, base_name), *bases = NULL;
    if (base && check_places((PyTypeObject *)base, places, n, base_size) == 0)
        bases = PyTuple_Pack(1, base);
    if (bases) type = (PyTypeObject *)PyType_FromSpecWithBases(spec, bases);
    Py_XDECREF(bases);
    Py_XDECREF(base);
    return type;
}

#define COUNT(a) (sizeof(a) / sizeof *(a))

int puff_handle_types_init(PyObject *asyncio_events, PyObject *extract_stack,
                           PyObject *report_callable) {
    if (puff_handle_context_init() < 0) return -1;
    extract_stack_fn = Py_NewRef(extract_stack);
    report_fn = Py_NewRef(report_callable);
    safe_handle_class = PyObject_GetAttrString(asyncio_events, "_ThreadSafeHandle");
    if (!safe_handle_class) PyErr_Clear(); /* before 3.14 */
    puff_handle_type = make_type(&handle_spec, asyncio_events, "Handle", handle_places,
                                 COUNT(handle_places), offsetof(puff_handle, own));
    if (!puff_handle_type) return -1;
    puff_timer_handle_type =
        make_type(&timer_handle_spec, asyncio_events, "TimerHandle", timer_handle_places,
                  COUNT(timer_handle_places), offsetof(puff_timer_handle, own));
    return puff_timer_handle_type ? 0 : -1;
}
