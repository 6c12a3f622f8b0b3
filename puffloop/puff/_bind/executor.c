/* executor.c - see executor.h.
 *
 *   run_in_executor() --- job ---> the pool's queue ---> a thread: job.run() calls the function
 *          ^                                                              |
 *          +--- the future's result <--- deliver() in the loop <--- the ring, one wake-up
 *
 * asyncio makes a concurrent Future with a lock and a condition for each call, chains a Future of
 * its own to it, and takes three locks of the pool: two thirds of a round trip. A job is what the
 * pool's threads and its shutdown() ask for in a work item, run() and future, and no more.
 *
 * The pool stays the interpreter's. What its submit() does under its locks is done here in one go,
 * under the GIL, and only when nobody holds one of them.
 */
#include "executor.h"

#include <stdbool.h>

#include "compat.h"
#include "dispatch.h"
#include "freelist.h"
#include "import_attr.h"

enum job_state { QUEUED, RUNNING, RETURNED, RAISED, CANCELLED };

typedef struct job {
    PyObject_HEAD
    PyObject *loop, *future; /* owned; the future is asyncio's */
    PyObject *func, *args;   /* owned; NULL once called */
    PyObject *outcome;       /* owned: the result or the exception */
    enum job_state state;
} job;

static puff_freelist freelist;
static PyTypeObject job_type;
static PyObject *deliver_fn;
static PyObject *asyncio_run_in_executor, *convert_exception;
/* Found when they are first needed; pool_vars: of concurrent.futures.thread. */
static PyObject *pool_type, *pool_vars, *queue_type, *semaphore_type, *lock_type;

static struct names {
    PyObject *submit, *run, *put, *locked, *cancelled, *cancel, *set_result, *set_exception;
    PyObject *create_future, *default_executor, *shutdown_called;
    PyObject *broken, *shutdown, *shutdown_lock, *global_shutdown_lock, *work_queue, *work_item;
    PyObject *idle_semaphore, *value, *cond, *lock, *threads, *max_workers;
} names;

/* ---- the job in its thread ------------------------------------------------------------------- */

/* As asyncio: a loop that has been closed meanwhile hears nothing. */
static int post(job *j) {
    puff_loop_object *loop = (puff_loop_object *)j->loop;
    if (loop->d.closed || !loop->core) return 0;
    return puff_dispatch_push(j->loop, deliver_fn, (PyObject *)j);
}

static int finish(job *j, enum job_state state, PyObject *outcome) {
    j->state = state;
    j->outcome = outcome;
    Py_CLEAR(j->func);
    Py_CLEAR(j->args);
    return post(j);
}

static bool is_cancelled(PyObject *future) {
    PyObject *res = PyObject_CallMethodNoArgs(future, names.cancelled);
    if (!res) PyErr_Clear();
    Py_XDECREF(res);
    return res == Py_True;
}

/* Newer pools hand over a context for the work, which a plain one does not need. */
static PyObject *job_run(PyObject *self, PyObject *context) {
    job *j = (job *)self;
    if (j->state != QUEUED || is_cancelled(j->future)) Py_RETURN_NONE;
    j->state = RUNNING;
    PyObject *res = PyObject_Call(j->func, j->args, NULL);
    int rc = res ? finish(j, RETURNED, res) : finish(j, RAISED, puff_take_exception());
    if (rc < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- what shutdown(cancel_futures=True) and a failed initializer do ---------------------------- */

static PyObject *get_future(PyObject *self, void *unused) { return Py_NewRef(self); }

static PyObject *job_cancel(PyObject *self, PyObject *unused) {
    job *j = (job *)self;
    if (j->state != QUEUED) Py_RETURN_FALSE;
    if (finish(j, CANCELLED, NULL) < 0) return NULL;
    Py_RETURN_TRUE;
}

static PyObject *job_set_exception(PyObject *self, PyObject *exc) {
    job *j = (job *)self;
    if (j->state == QUEUED && finish(j, RAISED, Py_NewRef(exc)) < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- the outcome in the loop ----------------------------------------------------------------- */

static PyObject *fail(job *j) {
    PyObject *exc = PyObject_CallOneArg(convert_exception, j->outcome);
    PyObject *res = exc ? PyObject_CallMethodOneArg(j->future, names.set_exception, exc) : NULL;
    Py_XDECREF(exc);
    return res;
}

static PyObject *deliver(PyObject *unused, PyObject *self) {
    job *j = (job *)self;
    if (is_cancelled(j->future)) Py_RETURN_NONE;
    if (j->state == CANCELLED) return PyObject_CallMethodNoArgs(j->future, names.cancel);
    if (j->state == RAISED) return fail(j);
    return PyObject_CallMethodOneArg(j->future, names.set_result, j->outcome);
}

/* ---- life ------------------------------------------------------------------------------------ */

static int job_traverse(PyObject *self, visitproc visit, void *arg) {
    job *j = (job *)self;
    Py_VISIT(j->loop);
    Py_VISIT(j->future);
    Py_VISIT(j->func);
    Py_VISIT(j->args);
    Py_VISIT(j->outcome);
    return 0;
}

static int job_clear(PyObject *self) {
    job *j = (job *)self;
    Py_CLEAR(j->func);
    Py_CLEAR(j->args);
    Py_CLEAR(j->outcome);
    return 0;
}

static void job_dealloc(PyObject *self) {
    job *j = (job *)self;
    PyObject_GC_UnTrack(self);
    job_clear(self);
    Py_CLEAR(j->future);
    Py_CLEAR(j->loop);
    puff_freelist_free(&freelist, self);
}

static PyMethodDef job_methods[] = {{"run", job_run, METH_VARARGS, NULL},
                                    {"cancel", job_cancel, METH_NOARGS, NULL},
                                    {"set_exception", job_set_exception, METH_O, NULL},
                                    {0}};
static PyGetSetDef job_attributes[] = {{"future", get_future, NULL, NULL, NULL}, {0}};
static PyTypeObject job_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.loop.ExecutorJob",
    .tp_basicsize = sizeof(job),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = job_traverse,
    .tp_clear = job_clear,
    .tp_dealloc = job_dealloc,
    .tp_methods = job_methods,
    .tp_getset = job_attributes,
};

static PyObject *args_of(PyObject *const *args, Py_ssize_t n) {
    PyObject *tuple = PyTuple_New(n);
    for (Py_ssize_t i = 0; tuple && i < n; i++) PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
    return tuple;
}

static job *job_new(PyObject *loop, PyObject *func, PyObject *const *args, Py_ssize_t n) {
    PyObject *future = PyObject_CallMethodNoArgs(loop, names.create_future);
    PyObject *tuple = future ? args_of(args, n) : NULL;
    job *j = tuple ? puff_freelist_new(&freelist, &job_type) : NULL;
    if (!j) {
        Py_XDECREF(future);
        Py_XDECREF(tuple);
        return NULL;
    }
    j->loop = Py_NewRef(loop);
    j->future = future;
    j->func = Py_NewRef(func);
    j->args = tuple;
    j->outcome = NULL;
    j->state = QUEUED;
    PyObject_GC_Track(j);
    return j;
}

/* ---- the pool -------------------------------------------------------------------------------- */

/* In all of this: false when it is not as we know it, or not now. Borrowed. */
static PyObject *var(PyObject *dict, PyObject *name) { return PyDict_GetItemWithError(dict, name); }

static bool is_exact(PyObject *o, PyObject *type) { return o && (PyObject *)Py_TYPE(o) == type; }

static bool is_free(PyObject *lock) {
    if (!is_exact(lock, lock_type)) return false;
    PyObject *locked = PyObject_CallMethodNoArgs(lock, names.locked);
    Py_XDECREF(locked);
    return locked == Py_False;
}

static bool is_pools_own(PyObject *function) {
    return function && PyFunction_Check(function) && PyFunction_GET_GLOBALS(function) == pool_vars;
}

/* Instrumentation wraps submit(), of the class or of one pool, or what a work item does. */
static bool is_plain(PyObject *pool) {
    if (!is_exact(pool, pool_type)) return false;
    PyObject *item = var(pool_vars, names.work_item);
    PyObject *run = item ? PyObject_GetAttr(item, names.run) : NULL;
    PyObject *method = PyObject_GetAttr(pool, names.submit);
    bool plain = is_pools_own(run) && method && PyMethod_Check(method) &&
                 is_pools_own(PyMethod_GET_FUNCTION(method));
    Py_XDECREF(method);
    Py_XDECREF(run);
    return plain;
}

static bool is_open(PyObject *attrs) {
    return var(attrs, names.broken) == Py_False && var(attrs, names.shutdown) == Py_False &&
           var(pool_vars, names.shutdown) == Py_False && is_free(var(attrs, names.shutdown_lock)) &&
           is_free(var(pool_vars, names.global_shutdown_lock));
}

static bool is_full(PyObject *attrs) {
    PyObject *threads = var(attrs, names.threads), *most = var(attrs, names.max_workers);
    return threads && PySet_CheckExact(threads) && most && PyLong_CheckExact(most) &&
           PySet_GET_SIZE(threads) >= PyLong_AsSsize_t(most);
}

/* Counts one thread less as idle, as _adjust_thread_count() does. With none, and less than all
 * running, it would start one: that is asyncio's way to do. */
static bool take_thread(PyObject *attrs) {
    PyObject *semaphore = var(attrs, names.idle_semaphore);
    if (!is_exact(semaphore, semaphore_type)) return false;
    PyObject *dict = PyObject_GenericGetDict(semaphore, NULL); /* new */
    PyObject *value = dict ? var(dict, names.value) : NULL;
    PyObject *cond = dict ? var(dict, names.cond) : NULL;
    PyObject *lock = cond ? PyObject_GetAttr(cond, names.lock) : NULL; /* new */
    Py_ssize_t idle = value && PyLong_CheckExact(value) ? PyLong_AsSsize_t(value) : -1;
    bool taken = idle == 0 && is_full(attrs);
    if (lock && idle > 0 && is_free(lock)) {
        PyObject *less = PyLong_FromSsize_t(idle - 1);
        taken = less && PyDict_SetItem(dict, names.value, less) == 0;
        Py_XDECREF(less);
    }
    Py_XDECREF(lock);
    Py_XDECREF(dict);
    return taken;
}

/* 1: the job is queued; 0: not by us. -1: an exception. */
static int submit(PyObject *pool, job *j) {
    PyObject *attrs = PyObject_GenericGetDict(pool, NULL); /* new */
    PyObject *queue = attrs ? var(attrs, names.work_queue) : NULL, *res = NULL;
    if (is_exact(queue, queue_type) && is_open(attrs) && take_thread(attrs))
        res = PyObject_CallMethodOneArg(queue, names.put, (PyObject *)j);
    Py_XDECREF(attrs);
    Py_XDECREF(res);
    return res ? 1 : PyErr_Occurred() ? -1 : 0;
}

static bool find_pool(void) {
    PyObject *module = PyImport_ImportModule("concurrent.futures.thread");
    if (!module) return false;
    if (!queue_type) queue_type = puff_import_attr("_queue", "SimpleQueue");
    if (!semaphore_type) semaphore_type = puff_import_attr("threading", "Semaphore");
    if (!lock_type) lock_type = puff_import_attr("_thread", "LockType");
    if (!pool_type) pool_type = PyObject_GetAttrString(module, "ThreadPoolExecutor");
    if (queue_type && semaphore_type && lock_type && pool_type)
        pool_vars = Py_NewRef(PyModule_GetDict(module));
    Py_DECREF(module);
    return pool_vars;
}

/* ---- the method ------------------------------------------------------------------------------ */

/* The loop's own pool, unless it has none or has been told to shut it down: new reference or NULL. */
static PyObject *default_pool(PyObject *loop) {
    PyObject *called = PyObject_GetAttr(loop, names.shutdown_called);
    Py_XDECREF(called);
    return called == Py_False ? PyObject_GetAttr(loop, names.default_executor) : NULL;
}

/* New reference to the future; NULL without an exception: not for us. */
static PyObject *run_in_pool(PyObject *loop, PyObject *const *args, Py_ssize_t n) {
    if (!pool_vars && !find_pool()) return NULL;
    PyObject *pool = args[0] == Py_None ? default_pool(loop) : Py_NewRef(args[0]);
    PyObject *future = NULL;
    if (pool && is_plain(pool)) {
        job *j = job_new(loop, args[1], args + 2, n - 2);
        if (j && submit(pool, j) > 0) future = Py_NewRef(j->future);
        Py_XDECREF(j);
    }
    Py_XDECREF(pool);
    return future;
}

static PyObject *run_in_executor(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                 PyObject *kwnames) {
    puff_loop_object *loop = (puff_loop_object *)self;
    if (n >= 2 && !kwnames && !loop->d.debug && !loop->d.closed) {
        PyObject *future = run_in_pool(self, args, n);
        if (future || PyErr_Occurred()) return future;
    }
    return puff_call_base(asyncio_run_in_executor, self, args, (size_t)n, kwnames);
}

static PyMethodDef methods[] = {
    {"run_in_executor", (PyCFunction)(void (*)(void))run_in_executor, METH_FASTCALL | METH_KEYWORDS,
     "run_in_executor(executor, func, *args)\n--\n\nRuns func(*args) on a thread: a Future. None "
     "is "
     "the loop's own pool."},
    {0}};

static PyMethodDef deliver_def = {"executor_job_ended", deliver, METH_O, NULL};

static int intern(void) {
    const struct {
        PyObject **to;
        const char *name;
    } words[] = {
        {&names.submit, "submit"},
        {&names.run, "run"},
        {&names.put, "put"},
        {&names.locked, "locked"},
        {&names.cancelled, "cancelled"},
        {&names.cancel, "cancel"},
        {&names.set_result, "set_result"},
        {&names.set_exception, "set_exception"},
        {&names.create_future, "create_future"},
        {&names.default_executor, "_default_executor"},
        {&names.shutdown_called, "_executor_shutdown_called"},
        {&names.broken, "_broken"},
        {&names.shutdown, "_shutdown"},
        {&names.shutdown_lock, "_shutdown_lock"},
        {&names.global_shutdown_lock, "_global_shutdown_lock"},
        {&names.work_queue, "_work_queue"},
        {&names.work_item, "_WorkItem"},
        {&names.idle_semaphore, "_idle_semaphore"},
        {&names.value, "_value"},
        {&names.cond, "_cond"},
        {&names.lock, "_lock"},
        {&names.threads, "_threads"},
        {&names.max_workers, "_max_workers"},
    };
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!(*words[i].to = PyUnicode_InternFromString(words[i].name))) return -1;
    return 0;
}

int puff_executor_install(PyObject *loop_base, PyObject *base) {
    if (intern() < 0 || PyType_Ready(&job_type) < 0) return -1;
    asyncio_run_in_executor = Py_NewRef(base);
    convert_exception = puff_import_attr("asyncio.futures", "_convert_future_exc");
    deliver_fn = PyCFunction_New(&deliver_def, NULL);
    if (!convert_exception || !deliver_fn) return -1;
    return puff_add_methods((PyTypeObject *)loop_base, methods);
}
