/* dispatch.c - call_soon() and its kin, and the run of the ready ring. See dispatch.h.
 *
 * Everything here runs under the GIL, so a push from another thread is an ordinary push; what
 * another thread must add is a wake-up, and only while the loop waits. While it waits the core
 * belongs to the loop's thread: other threads then leave timers alone (a cancelled one fires later
 * and does nothing).
 */
#include "dispatch.h"

#include <math.h>
#include <unistd.h>

_Thread_local PyObject *puff_running_loop;

static puff_loop_object *loop_of(PyObject *o) { return (puff_loop_object *)o; }

static PyTypeObject *loop_base_type;

/* What a handle's _loop has: programs may put anything there. */
static bool is_loop(PyObject *o) {
    static PyTypeObject *seen; /* owned: another type may come to lie where one has been freed */
    if (!o) return false;
    if (Py_TYPE(o) == seen) return true;
    if (!PyObject_TypeCheck(o, loop_base_type)) return false;
    Py_XSETREF(seen, (PyTypeObject *)Py_NewRef(Py_TYPE(o)));
    return true;
}

bool puff_loop_in_debug(PyObject *loop) { return is_loop(loop) && loop_of(loop)->d.debug; }

/* ---- the GIL around the poll ----------------------------------------------------------------- */

static void on_before_wait(void *ctx) {
    puff_loop_object *loop = ctx;
    puff_handle_trim(SIZE_MAX);
    loop->d.waiting = true;
    loop->d.woken = puff_ring_len(&loop->d.ring) > 0; /* pushed since the turn began */
    if (loop->d.woken) puff_loop_wake(loop->core);
    loop->d.saved = PyEval_SaveThread();
}

static void on_after_wait(void *ctx) {
    puff_loop_object *loop = ctx;
    PyEval_RestoreThread(loop->d.saved);
    loop->d.ticks = puff_ticks();
    __atomic_store_n(&loop->d.waiting, false, __ATOMIC_RELEASE); /* after ticks: see watchdog.c */
}

void puff_dispatch_init(PyObject *self) {
    puff_loop_object *loop = loop_of(self);
    puff_queue_init(&loop->d.held);
    puff_loop_set_hooks(loop->core, &(puff_loop_hooks){on_before_wait, on_after_wait, loop});
}

/* ---- the ring ------------------------------------------------------------------------------ */

int puff_dispatch_push(PyObject *self, PyObject *fn, PyObject *arg) {
    puff_loop_object *loop = loop_of(self);
    if (puff_ring_push(&loop->d.ring, fn, arg) < 0) return -1;
    if (loop->d.waiting && !loop->d.woken) {
        loop->d.woken = true; /* one wake-up per burst */
        puff_loop_wake(loop->core);
    }
    return 0;
}

/* asyncio's _run_once() logs callbacks that take long; the Python side does that, with its clock.
 */
static int run_debug(puff_loop_object *loop, PyObject *handle) {
    PyObject *res = PyObject_CallMethod((PyObject *)loop, "_run_handle_debug", "O", handle);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

/* A plain asyncio.Handle: stdlib code may queue one through _add_callback(). */
static int run_foreign(PyObject *handle) {
    PyObject *cancelled = PyObject_GetAttrString(handle, "_cancelled");
    if (!cancelled) return -1;
    int skip = PyObject_IsTrue(cancelled);
    Py_DECREF(cancelled);
    if (skip) return skip < 0 ? -1 : 0;
    PyObject *res = PyObject_CallMethod(handle, "_run", NULL);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static int schedule_timer(puff_loop_object *loop, puff_timer_handle *t);

/* ---- the garbage collector ------------------------------------------------------------------- */

/* A handle that is queued is not tracked yet if it will run or be looked at again soon: when the
 * next one is queued, it is seen whether the caller has kept it. */
enum { FEW = 64 };

static void settle(puff_loop_object *loop) {
    PyObject *handle = loop->d.loose;
    loop->d.loose = NULL;
    if (handle && Py_REFCNT(handle) > 1) puff_handle_track(handle);
}

/* Called with a new handle that has just been queued. A loop that does not run may be dropped as it
 * is, and what it knows of with it: then only bursts are left untracked. */
static void queued(puff_loop_object *loop, PyObject *handle) {
    settle(loop);
    if (loop->d.running || ++loop->d.n_queued > FEW)
        loop->d.loose = handle;
    else
        puff_handle_track(handle);
}

static int run_native(PyObject *handle) {
    int rc = puff_handle_run(handle);
    if (Py_REFCNT(handle) > 1) puff_handle_track(handle);
    return rc;
}

static int run_entry(puff_loop_object *loop, puff_entry e) {
    if (!e.arg) {
        if (loop->d.debug) return run_debug(loop, e.fn);
        return puff_handle_is_native(e.fn) ? run_native(e.fn) : run_foreign(e.fn);
    }
    if (Py_IS_TYPE(e.fn, puff_timer_handle_type)) /* see call_at() */
        return puff_handle_is_cancelled(e.fn) ? 0 : schedule_timer(loop, (puff_timer_handle *)e.fn);
    PyObject *res = PyObject_CallOneArg(e.fn, e.arg);
    Py_XDECREF(res);
    return res ? 0 : puff_handle_report((PyObject *)loop, e.fn);
}

/* The time since the last of these, or since the poll, is this callback's. */
static int took(puff_loop_object *loop, PyObject *queued) {
    uint64_t now = puff_ticks(), ticks = now - loop->d.ticks;
    loop->d.ticks = now;
    if (__builtin_expect(ticks <= loop->d.slowest.ticks, 1) || !loop->core) return 0;
    int rc = puff_slowest_note(&loop->d.slowest, loop->core, ticks, queued);
    loop->d.ticks = puff_ticks();
    return rc;
}

static int run_first(puff_loop_object *loop, size_t n) {
    int rc = 0;
    settle(loop);
    loop->d.n_queued = 0;
    for (; n > 0 && rc == 0; n--) {
        if (puff_ring_len(&loop->d.ring) == 0) break; /* a callback ran a nested loop */
        puff_entry e = puff_ring_pop(&loop->d.ring);
        puff_ring_prefetch(&loop->d.ring);
        rc = run_entry(loop, e);
        if (took(loop, e.fn) < 0) rc = -1;
        Py_DECREF(e.fn);
        Py_XDECREF(e.arg);
    }
    return rc;
}

/* ---- turns ---------------------------------------------------------------------------------- */

static int raise_fatal(puff_loop_object *loop) {
    PyObject *exc = loop->fatal;
    loop->fatal = Py_NewRef(Py_None);
    puff_raise_exception(exc);
    return -1;
}

static int refuse_to_look(void) {
    PyErr_SetString(PyExc_RuntimeError,
                    "the loop cannot run inside a protocol's method, where it is polling: do it in "
                    "a task, or through call_soon()");
    return -1;
}

static int look(puff_loop_object *loop) {
    if (loop->d.looking) return refuse_to_look(); /* libuv cannot either */
    puff_loop_flush(loop->core); /* first: it may answer somebody who is on the ring then */
    loop->d.looking = true;
    puff_loop_turn(loop->core, puff_ring_len(&loop->d.ring) == 0 && !loop->d.stopping);
    loop->d.looking = false;
    loop->d.ticks = puff_ticks();
    return loop->fatal == Py_None ? 0 : raise_fatal(loop);
}

enum { TRIM = 8 }; /* handles' memory given back in a turn: 100 ns */

static int turn(puff_loop_object *loop, bool may_skip) {
    if (!loop->core) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    may_skip = may_skip && puff_ring_len(&loop->d.ring) > 0 &&
               puff_loop_skip_turn(loop->core, loop->d.ticks);
    if (!may_skip && look(loop) < 0) return -1;
    if (PyErr_CheckSignals() < 0) return -1;
    loop->d.n_turns++;
    puff_handle_trim(TRIM);
    return run_first(loop, puff_ring_len(&loop->d.ring));
}

/* What is queued when a run begins runs before what its first look finds: asyncio looks first, but
 * runs its events last. (A protocol that somebody has just been told to wait for may be called.) */
static int run_queued(puff_loop_object *loop) {
    size_t n = loop->core ? puff_ring_len(&loop->d.ring) : 0;
    if (n == 0) return 0;
    loop->d.ticks = puff_ticks();
    return PyErr_CheckSignals() < 0 ? -1 : run_first(loop, n);
}

/* It has stopped the loop at once: the events of this turn still run, and what the callbacks have
 * queued stays for the next run. */
static int run_events_alone(puff_loop_object *loop) {
    puff_ring *r = &loop->d.ring;
    size_t later = puff_ring_len(r);
    loop->d.n_turns++;
    if (look(loop) < 0 || PyErr_CheckSignals() < 0) return -1;
    size_t n = puff_ring_len(r) - later;
    puff_ring_rotate(r, later);
    return run_first(loop, n);
}

int puff_dispatch_turn(PyObject *self) { return turn(loop_of(self), false); }

int puff_dispatch_turns(PyObject *self) {
    puff_loop_object *loop = loop_of(self);
    bool outer = loop->d.running;
    loop->d.running = true;
    int rc = run_queued(loop);
    if (rc == 0) rc = loop->d.stopping && loop->core ? run_events_alone(loop) : turn(loop, false);
    while (rc == 0 && !loop->d.stopping) rc = turn(loop, true);
    loop->d.running = outer;
    settle(loop);
    return rc;
}

/* ---- timers -------------------------------------------------------------------------------- */

/* The loop that the timer is on, unless the handle's _loop has been replaced: then NULL. */
static puff_loop_object *loop_of_timer(puff_timer_handle *t) {
    return is_loop(t->loop) && loop_of(t->loop)->core == t->timer.loop ? loop_of(t->loop) : NULL;
}

static void on_fire(puff_timer *timer) {
    puff_timer_handle *t = PUFF_CONTAINER_OF(timer, puff_timer_handle, timer);
    puff_loop_object *loop = loop_of_timer(t);
    if (!loop) loop = loop_of(puff_running_loop); /* whose turn it is */
    Py_SETREF(t->scheduled, Py_NewRef(Py_False));
    if (loop && puff_ring_push(&loop->d.ring, (PyObject *)t, NULL) < 0)
        PyErr_WriteUnraisable((PyObject *)t);
    Py_DECREF(t); /* the heap's reference */
}

/* The heap is the list of our timers, with a few of the core's among them. */
static PyObject *handle_of(puff_timer *t) {
    return t->on_fire == on_fire ? (PyObject *)PUFF_CONTAINER_OF(t, puff_timer_handle, timer)
                                 : NULL;
}

static void stop_timer(puff_timer_handle *t) {
    puff_timer_stop(&t->timer);
    Py_SETREF(t->scheduled, Py_NewRef(Py_False));
    Py_DECREF(t);
}

void puff_timer_handle_unschedule(puff_timer_handle *t) {
    if (!puff_timer_active(&t->timer)) return;
    puff_loop_object *loop = loop_of_timer(t);
    if (!loop || loop->d.waiting) return; /* it stays, and does nothing when its time has come */
    if (loop->d.loose == (PyObject *)t) loop->d.loose = NULL;
    stop_timer(t);
}

/* The first ns at which time() is not less than when: rounding must not make a timer early. */
static uint64_t deadline_of(double when) {
    const double far = 9e18 / 1e9; /* 285 years; NaN and infinity wait as long */
    if (!(when < far)) return (uint64_t)9e18;
    if (when <= 0) return 0;
    uint64_t ns = (uint64_t)ceil(when * 1e9);
    while ((double)ns / 1e9 < when) ns++;
    return ns;
}

static int schedule_timer(puff_loop_object *loop, puff_timer_handle *t) {
    puff_timer_init(&t->timer, loop->core, on_fire);
    if (puff_timer_start_at(&t->timer, deadline_of(PyFloat_AsDouble(t->when))) < 0) {
        PyErr_NoMemory();
        return -1;
    }
    Py_INCREF(t);
    Py_SETREF(t->scheduled, Py_NewRef(Py_True));
    return 0;
}

PyObject *puff_dispatch_scheduled(PyObject *self) {
    puff_loop_object *loop = loop_of(self);
    PyObject *list = PyList_New(0);
    puff_timer *timer;
    for (size_t i = 0; list && (timer = puff_loop_timer(loop->core, i)); i++) {
        PyObject *t = handle_of(timer);
        if (!t) continue;
        puff_handle_track(t);
        if (PyList_Append(list, t) < 0) Py_CLEAR(list);
    }
    return list;
}

static PyObject *first_timer(puff_loop_object *loop) {
    puff_timer *timer;
    for (size_t i = 0; (timer = puff_loop_timer(loop->core, i)); i++)
        if (handle_of(timer)) return handle_of(timer);
    return NULL;
}

void puff_dispatch_clear(PyObject *self) {
    puff_loop_object *loop = loop_of(self);
    settle(loop);
    puff_slowest_reset(&loop->d.slowest);
    puff_ring_clear(&loop->d.ring);
    PyObject *t;
    while (loop->core && (t = first_timer(loop))) stop_timer((puff_timer_handle *)t);
}

void puff_dispatch_let_go(PyObject *self) {
    puff_loop_object *loop = loop_of(self);
    while (!puff_queue_empty(&loop->d.held))
        puff_let_go(PUFF_CONTAINER_OF(loop->d.held.next, puff_held, node));
}

/* ---- arguments ----------------------------------------------------------------------------- */

enum { MAX_NAMED = 2 };

/* One call of call_soon() and kin: named parameters first, then what goes to the callback. */
typedef struct call {
    PyObject *const *args; /* borrowed */
    Py_ssize_t n;
    PyObject *context;          /* borrowed or NULL */
    PyObject *named[MAX_NAMED]; /* args points here when names were used */
} call;

static PyObject *context_name;  /* "context", interned */
static PyObject *context_names; /* owned; the tuple ("context",) of the last caller that had one */

static bool is_name(PyObject *key, const char *name) {
    return PyUnicode_CompareWithASCIIString(key, name) == 0;
}

static int take_keyword(call *c, const char *method, const char *const *names, int n_names,
                        PyObject *key, PyObject *value) {
    if (is_name(key, "context")) {
        c->context = value;
        return 0;
    }
    for (int i = 0; i < n_names; i++) {
        if (!is_name(key, names[i])) continue;
        if (c->named[i]) {
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", method,
                         key);
            return -1;
        }
        c->named[i] = value;
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", method, key);
    return -1;
}

/* asyncio's Task uses one tuple for all its calls, and its word is not always the interned one. */
static bool is_context_alone(PyObject *kwnames) {
    if (PyTuple_GET_SIZE(kwnames) != 1) return false;
    PyObject *key = PyTuple_GET_ITEM(kwnames, 0);
    if (key != context_name && !is_name(key, "context")) return false;
    Py_XSETREF(context_names, Py_NewRef(kwnames));
    return true;
}

static int take_keywords(call *c, const char *method, const char *const *names, int n_names,
                         PyObject *kwnames) {
    PyObject *const *values = c->args + c->n;
    Py_ssize_t n_keys = PyTuple_GET_SIZE(kwnames);
    if (kwnames == context_names || is_context_alone(kwnames)) {
        c->context = values[0];
        return 0;
    }
    bool by_name = c->n < n_names;
    for (Py_ssize_t i = 0; i < n_names && i < c->n; i++) c->named[i] = c->args[i];
    for (Py_ssize_t i = 0; i < n_keys; i++) {
        if (take_keyword(c, method, names, n_names, PyTuple_GET_ITEM(kwnames, i), values[i]) < 0)
            return -1;
    }
    if (!by_name) return 0;
    c->args = c->named;
    for (c->n = 0; c->n < n_names && c->named[c->n]; c->n++) continue;
    return 0;
}

static int take_call(call *c, const char *method, const char *const *names, int n_names,
                     PyObject *kwnames) {
    if (kwnames && take_keywords(c, method, names, n_names, kwnames) < 0) return -1;
    if (c->n >= n_names) return 0;
    PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", method,
                 names[c->n]);
    return -1;
}

/* ---- methods ------------------------------------------------------------------------------- */

static int check_open(puff_loop_object *loop) {
    if (!loop->d.closed && loop->core) return 0;
    PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return -1;
}

/* What debug mode checks: the thread (where it matters) and that callback is no coroutine. */
static int check_debug(puff_loop_object *loop, const char *method, PyObject *callback,
                       bool thread) {
    if (!loop->d.debug) return 0;
    PyObject *res = Py_NewRef(Py_None);
    if (thread) Py_SETREF(res, PyObject_CallMethod((PyObject *)loop, "_check_thread", NULL));
    if (res)
        Py_SETREF(res,
                  PyObject_CallMethod((PyObject *)loop, "_check_callback", "Os", callback, method));
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static const char *const soon_names[] = {"callback"};

static int take_soon(puff_loop_object *loop, call *c, PyObject *kwnames, const char *method,
                     bool thread) {
    if (take_call(c, method, soon_names, 1, kwnames) < 0 || check_open(loop) < 0) return -1;
    return check_debug(loop, method, c->args[0], thread);
}

static PyObject *call_soon(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) {
    puff_loop_object *loop = loop_of(self);
    if (__builtin_expect(loop->capturing, 0) && n > 0) { /* a Task: it drops what we return */
        loop->capturing = 0;
        Py_XSETREF(loop->captured, Py_NewRef(args[0]));
        Py_RETURN_NONE;
    }
    call c = {.args = args, .n = n};
    if (take_soon(loop, &c, kwnames, "call_soon", true) < 0) return NULL;
    PyObject *handle =
        puff_handle_new(self, c.args[0], c.args + 1, c.n - 1, c.context, loop->d.debug);
    if (!handle) return NULL;
    if (puff_ring_push(&loop->d.ring, handle, NULL) < 0) Py_CLEAR(handle);
    if (handle) queued(loop, handle);
    return handle;
}

/* Threads that post faster than the loop runs would keep the GIL from it, and fill memory: while
 * much is queued they give it up now and then, as asyncio's do with each byte for its self-pipe. */
enum { CROWD = 4096, CROWD_STEP = 64, CROWD_NAP_US = 100 };

static void let_loop_catch_up(puff_loop_object *loop) {
    const puff_ring *r = &loop->d.ring;
    if (puff_ring_len(r) < CROWD || r->tail % CROWD_STEP != 0) return;
    if (!loop->d.running || puff_running_loop == (PyObject *)loop) return;
    Py_BEGIN_ALLOW_THREADS;
    usleep(CROWD_NAP_US);
    Py_END_ALLOW_THREADS;
}

static PyObject *call_soon_threadsafe(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                      PyObject *kwnames) {
    puff_loop_object *loop = loop_of(self);
    call c = {.args = args, .n = n};
    if (take_soon(loop, &c, kwnames, "call_soon_threadsafe", false) < 0) return NULL;
    PyObject *handle =
        puff_safe_handle_new(self, c.args[0], c.args + 1, c.n - 1, c.context, loop->d.debug);
    if (handle && puff_dispatch_push(self, handle, NULL) < 0) Py_CLEAR(handle);
    if (!handle) return NULL;
    queued(loop, handle);
    let_loop_catch_up(loop);
    return handle;
}

/* In another thread while the loop waits, the ring carries the timer over (with any second value).
 */
static PyObject *start_timer(PyObject *self, call *c, PyObject *when, const char *method) {
    puff_loop_object *loop = loop_of(self);
    if (check_open(loop) < 0 || check_debug(loop, method, c->args[1], true) < 0) return NULL;
    PyObject *t = puff_timer_handle_new(self, when, c->args[1], c->args + 2, c->n - 2, c->context,
                                        loop->d.debug);
    if (!t) return NULL;
    int rc = loop->d.waiting ? puff_dispatch_push(self, t, Py_None)
                             : schedule_timer(loop, (puff_timer_handle *)t);
    if (rc < 0) Py_CLEAR(t);
    if (t) queued(loop, t);
    return t;
}

static const char *const later_names[] = {"delay", "callback"}, *const at_names[] = {"when",
                                                                                     "callback"};

static PyObject *call_later(PyObject *self, PyObject *const *args, Py_ssize_t n,
                            PyObject *kwnames) {
    call c = {.args = args, .n = n};
    if (take_call(&c, "call_later", later_names, 2, kwnames) < 0) return NULL;
    if (c.args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "delay must not be None");
        return NULL;
    }
    double delay = PyFloat_AsDouble(c.args[0]);
    if (delay == -1.0 && PyErr_Occurred()) return NULL;
    PyObject *when = PyFloat_FromDouble((double)puff_now_ns() / 1e9 + delay);
    PyObject *t = when ? start_timer(self, &c, when, "call_later") : NULL;
    Py_XDECREF(when);
    return t;
}

static PyObject *call_at(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *kwnames) {
    call c = {.args = args, .n = n};
    if (take_call(&c, "call_at", at_names, 2, kwnames) < 0) return NULL;
    if (c.args[0] == Py_None) {
        PyErr_SetString(PyExc_TypeError, "when cannot be None");
        return NULL;
    }
    double when = PyFloat_AsDouble(c.args[0]);
    if (when == -1.0 && PyErr_Occurred()) return NULL;
    return start_timer(self, &c, c.args[0], "call_at");
}

static PyObject *loop_time(PyObject *self, PyObject *unused) {
    return PyFloat_FromDouble((double)puff_now_ns() / 1e9);
}

static PyObject *get_debug(PyObject *self, PyObject *unused) {
    return PyBool_FromLong(loop_of(self)->d.debug);
}

#define FAST(f) ((PyCFunction)(void (*)(void))(f))
static PyMethodDef methods[] = {
    {"call_soon", FAST(call_soon), METH_FASTCALL | METH_KEYWORDS,
     "call_soon(callback, *args, context=None)\n--\n\nRuns callback(*args) in the next turn."},
    {"call_soon_threadsafe", FAST(call_soon_threadsafe), METH_FASTCALL | METH_KEYWORDS,
     "call_soon_threadsafe(callback, *args, context=None)\n--\n\ncall_soon() for other threads."},
    {"call_later", FAST(call_later), METH_FASTCALL | METH_KEYWORDS,
     "call_later(delay, callback, *args, context=None)\n--\n\nRuns callback(*args) in delay "
     "seconds."},
    {"call_at", FAST(call_at), METH_FASTCALL | METH_KEYWORDS,
     "call_at(when, callback, *args, context=None)\n--\n\nRuns callback(*args) when time() is "
     "when."},
    {"get_debug", get_debug, METH_NOARGS, "get_debug()\n--\n\nTrue in asyncio's debug mode."},
    {"time", loop_time, METH_NOARGS, "time()\n--\n\nSeconds of the monotonic clock, as a float."},
    {0}};

/* ---- garbage collection --------------------------------------------------------------------- */

static traverseproc cython_traverse;
static inquiry cython_clear;
static void (*close_collected)(PyObject *loop);

static int loop_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_loop_object *loop = loop_of(self);
    int rc = puff_ring_traverse(&loop->d.ring, visit, arg);
    if (rc) return rc;
    puff_timer *timer;
    for (size_t i = 0; loop->core && (timer = puff_loop_timer(loop->core, i)); i++) {
        PyObject *t = handle_of(timer);
        rc = t ? puff_handle_visit(t, visit, arg) : 0;
        if (rc) return rc;
    }
    puff_queue *q, *head = &loop->d.held;
    for (q = head->next; q && q != head; q = q->next)
        Py_VISIT(PUFF_CONTAINER_OF(q, puff_held, node)->object);
    return cython_traverse(self, visit, arg);
}

/* Its finalizer, which closes a loop, has not done so. What the core calls back on closing is whole:
 * its type has no tp_clear. */
static int loop_clear(PyObject *self) {
    close_collected(self);
    return cython_clear(self);
}

PyObject *puff_call_base(PyObject *base, PyObject *self, PyObject *const *args, size_t n,
                         PyObject *kwnames) {
    PyObject *method = PyMethod_New(base, self);
    PyObject *res = method ? PyObject_Vectorcall(method, args, n, kwnames) : NULL;
    Py_XDECREF(method);
    return res;
}

int puff_dispatch_install(PyObject *type, void (*close)(PyObject *loop)) {
    PyTypeObject *loop_base = (PyTypeObject *)type;
    loop_base_type = loop_base;
    context_name = PyUnicode_InternFromString("context");
    if (!context_name || puff_add_methods(loop_base, methods) < 0) return -1;
    cython_traverse = loop_base->tp_traverse;
    cython_clear = loop_base->tp_clear;
    close_collected = close;
    loop_base->tp_traverse = loop_traverse;
    loop_base->tp_clear = loop_clear;
    return 0;
}
