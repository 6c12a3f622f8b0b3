/* sock.c - the life of an operation on a socket. See sock.h.
 *
 *   new --send()--> attempt -+--> done                 ready: in the first step, without a Future
 *                     ^      +--> parked on a Future   would block: yields it to the Task
 *                     +-------------+  set by on_ready(), or cancelled
 *
 * The system call is made in the task's own step and never by the loop, so an operation that is
 * cancelled after its socket became ready has taken nothing from it.
 *
 * A socket is registered at its first wait. Later waits make no system call as long as the number
 * is the same socket object's, which socks[fd] remembers by a weak reference: an object has one
 * file until it is closed, and -1 after.
 */
#include "sock.h"

#include <errno.h>
#include <string.h>

#include "coroutine.h"
#include "freelist.h"

PyTypeObject *puff_sock_type;

static PyObject *check_ssl_fn, *check_transport_fn, *future_type, *set_result_fn, *no_args, *zero;
static PyObject *str_blocking, *str_done, *str_fileno, *str_gettimeout, *str_remove_reader,
    *str_remove_writer;

/* ---- which socket a number is ---------------------------------------------------------------- */

typedef struct sock_slot {
    PyObject *ref;     /* owned: a weak reference to who waited last, or NULL */
    uint32_t last_len; /* see puff_sock_last_len() */
} sock_slot;

typedef struct sock_table {
    PyObject_HEAD
    int n;
    sock_slot *slots;       /* owned; by descriptor */
    PyObject *future_kargs; /* owned: {"loop": loop}; a dict of each Future's own costs 80 ns */
} sock_table;

static int table_traverse(PyObject *self, visitproc visit, void *arg) {
    Py_VISIT(((sock_table *)self)->future_kargs);
    return 0;
}

static int table_clear(PyObject *self) {
    Py_CLEAR(((sock_table *)self)->future_kargs);
    return 0;
}

static void table_dealloc(PyObject *self) {
    sock_table *t = (sock_table *)self;
    PyObject_GC_UnTrack(self);
    for (int i = 0; i < t->n; i++) Py_XDECREF(t->slots[i].ref);
    PyMem_Free(t->slots);
    table_clear(self);
    PyObject_GC_Del(self);
}

static PyTypeObject table_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.sock.Sockets",
    .tp_basicsize = sizeof(sock_table),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_traverse = table_traverse,
    .tp_clear = table_clear,
    .tp_dealloc = table_dealloc,
};

static sock_slot *peek_slot(puff_loop_object *loop, int fd) {
    if (loop->socks == Py_None) return NULL;
    sock_table *t = (sock_table *)loop->socks;
    return fd >= 0 && fd < t->n ? &t->slots[fd] : NULL;
}

static sock_table *table_of(puff_loop_object *loop) {
    if (loop->socks != Py_None) return (sock_table *)loop->socks;
    sock_table *t = PyObject_GC_New(sock_table, &table_type);
    if (!t) return NULL;
    t->n = 0;
    t->slots = NULL;
    t->future_kargs = Py_BuildValue("{sO}", "loop", loop);
    PyObject_GC_Track(t);
    if (!t->future_kargs) {
        Py_DECREF(t);
        return NULL;
    }
    Py_SETREF(loop->socks, (PyObject *)t);
    return t;
}

static sock_slot *slot_of(puff_loop_object *loop, int fd) {
    sock_table *t = table_of(loop);
    if (!t || fd < t->n) return t ? &t->slots[fd] : NULL;
    int n = t->n ? t->n : 64;
    while (n <= fd) n *= 2;
    sock_slot *slots = PyMem_Resize(t->slots, sock_slot, (size_t)n);
    if (!slots) {
        PyErr_NoMemory();
        return NULL;
    }
    memset(slots + t->n, 0, (size_t)(n - t->n) * sizeof *slots);
    t->slots = slots;
    t->n = n;
    return &slots[fd];
}

uint32_t *puff_sock_last_len(puff_loop_object *loop, int fd) {
    sock_slot *s = peek_slot(loop, fd);
    return s && s->ref ? &s->last_len : NULL;
}

bool puff_sock_is_known(PyObject *loop, PyObject *sock, int fd) {
    sock_slot *s = peek_slot((puff_loop_object *)loop, fd);
    return s && s->ref && puff_weakref_is(s->ref, sock);
}

/* Something that takes no weak references is registered anew for each wait. */
int puff_sock_remember(PyObject *loop, PyObject *sock, int fd) {
    sock_slot *s = slot_of((puff_loop_object *)loop, fd);
    if (!s) return -1;
    Py_XSETREF(s->ref, PyWeakref_NewRef(sock, NULL));
    s->last_len = 0;
    if (!s->ref) PyErr_Clear();
    return 0;
}

void puff_sock_forget(PyObject *self, int fd) {
    puff_loop_object *loop = (puff_loop_object *)self;
    sock_slot *s = peek_slot(loop, fd);
    if (!s || !s->ref) return;
    Py_CLEAR(s->ref);
    if (loop->core) puff_ready_forget(loop->core, fd);
}

/* ---- parking --------------------------------------------------------------------------------- */

enum op_state { OP_NEW, OP_STARTED, OP_PARKED, OP_DONE };

static puff_freelist op_freelist;
static PyTypeObject op_type;

static int fd_of(PyObject *sock) {
    puff_socket *s = puff_sock_native(sock);
    if (s) return s->fd;
    PyObject *number = PyObject_CallMethodNoArgs(sock, str_fileno);
    int fd = number ? (int)PyLong_AsLong(number) : -1;
    Py_XDECREF(number);
    return fd;
}

/* As asyncio's add_reader() would: not where a transport is, and in the place of a reader. */
static int claim(puff_sock_op *op, int fd) {
    PyObject *loop = (PyObject *)op->loop, *number = PyLong_FromLong(fd), *res = NULL;
    if (number) res = PyObject_CallFunctionObjArgs(check_transport_fn, loop, number, NULL);
    if (res) {
        PyObject *name = op->kind->events & PUFF_READABLE ? str_remove_reader : str_remove_writer;
        Py_SETREF(res, PyObject_CallMethodOneArg(loop, name, number));
    }
    Py_XDECREF(number);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static int raise_code(int rc) {
    if (rc == PUFF_ENOMEM) {
        PyErr_NoMemory();
        return -1;
    }
    errno = -rc;
    PyErr_SetFromErrno(PyExc_OSError);
    return -1;
}

static int wait_ready(puff_sock_op *op) {
    int fd = fd_of(op->sock), flags = op->flags, events = op->kind->events;
    if (fd < 0) {
        if (!PyErr_Occurred()) PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %d", fd);
        return -1;
    }
    bool known = puff_sock_is_known((PyObject *)op->loop, op->sock, fd);
    if (!known) {
        flags &= ~PUFF_READY_TRIED;
        if (claim(op, fd) < 0) return -1;
    }
    if (!op->loop->core) {
        PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
        return -1;
    }
    puff_ready_drop(op->loop->core, fd, events);
    int rc = puff_ready_wait(op->loop->core, &op->ready, fd, events, flags);
    if (rc < 0) return raise_code(rc);
    return known ? 0 : puff_sock_remember((PyObject *)op->loop, op->sock, fd);
}

/* What `await future` yields: the Task then knows that it is meant. */
static PyObject *make_future(puff_loop_object *loop) {
    sock_table *t = table_of(loop);
    PyObject *future = t ? PyObject_Call(future_type, no_args, t->future_kargs) : NULL;
    if (future && PyObject_SetAttr(future, str_blocking, Py_True) < 0) Py_CLEAR(future);
    return future;
}

static int park(puff_sock_op *op) {
    op->future = make_future(op->loop);
    if (!op->future || wait_ready(op) < 0) {
        puff_ready_cancel(&op->ready);
        Py_CLEAR(op->future);
        return -1;
    }
    op->state = OP_PARKED;
    puff_hold((PyObject *)op->loop, &op->held, (PyObject *)op);
    PyObject_GC_Track(op);
    return 0;
}

static void unpark(puff_sock_op *op) {
    if (op->state != OP_PARKED) return;
    PyObject_GC_UnTrack(op);
    puff_ready_cancel(&op->ready);
    op->state = OP_STARTED;
    Py_CLEAR(op->future);
    puff_let_go(&op->held);
}

/* Somebody else has come for this direction: it waits in vain, and only its task keeps it. */
static void on_drop(puff_ready *r) {
    puff_let_go(&PUFF_CONTAINER_OF(r, puff_sock_op, ready)->held);
}

static void finish(puff_sock_op *op) {
    unpark(op);
    op->state = OP_DONE;
    if (op->view.obj) PyBuffer_Release(&op->view);
}

static bool is_done(PyObject *future) {
    PyObject *done = PyObject_CallMethodNoArgs(future, str_done);
    Py_XDECREF(done);
    if (!done) PyErr_Clear();
    return done == Py_True;
}

/* A future that is done already is one whose task has been cancelled. */
static void on_ready(puff_ready *r) {
    puff_sock_op *op = PUFF_CONTAINER_OF(r, puff_sock_op, ready);
    PyObject *args[] = {op->future, Py_None};
    PyObject *res = PyObject_Vectorcall(set_result_fn, args, 2, NULL);
    Py_XDECREF(res);
    if (res) return;
    PyObject *exc = puff_take_exception();
    if (is_done(op->future)) {
        Py_DECREF(exc);
        return;
    }
    puff_raise_exception(exc);
    PyErr_WriteUnraisable(op->future);
}

/* ---- steps ----------------------------------------------------------------------------------- */

/* What asyncio looks at before it tries. */
static int begin(puff_sock_op *op) {
    op->state = OP_STARTED;
    if (!puff_sock_native(op->sock)) {
        PyObject *res = PyObject_CallOneArg(check_ssl_fn, op->sock);
        if (!res) return -1;
        Py_DECREF(res);
    }
    if (!op->loop->d.debug) return 0;
    PyObject *timeout = PyObject_CallMethodNoArgs(op->sock, str_gettimeout);
    int blocks = timeout ? PyObject_RichCompareBool(timeout, zero, Py_NE) : -1;
    Py_XDECREF(timeout);
    if (blocks > 0) PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    return blocks ? -1 : 0;
}

/* One attempt, or parking, which yields the future. */
static PySendResult step(puff_sock_op *op, PyObject **result) {
    if (op->state == OP_NEW && begin(op) < 0) return PYGEN_ERROR;
    if (op->state == OP_PARKED) {
        unpark(op);
        op->woken = true;
    }
    op->flags = PUFF_READY_TRIED;
    enum puff_sock_outcome outcome = op->kind->attempt(op, result);
    if (outcome == PUFF_SOCK_DONE) return PYGEN_RETURN;
    if (outcome == PUFF_SOCK_FAILED || park(op) < 0) return PYGEN_ERROR;
    *result = Py_NewRef(op->future);
    return PYGEN_NEXT;
}

/* A second task awaits it while the first one's future is open. */
static bool is_awaited(puff_sock_op *op) {
    return op->state == OP_PARKED && puff_ready_waits(&op->ready) && !is_done(op->future);
}

static PySendResult op_send(PyObject *self, PyObject *arg, PyObject **result) {
    puff_sock_op *op = (puff_sock_op *)self;
    *result = NULL;
    if (op->state == OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError, "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    if (is_awaited(op)) {
        PyErr_SetString(PyExc_RuntimeError, "coroutine is being awaited already");
        return PYGEN_ERROR;
    }
    PySendResult r = step(op, result);
    if (r != PYGEN_NEXT) finish(op);
    return r;
}

/* ---- the coroutine's methods ----------------------------------------------------------------- */

static PyObject *op_throw(PyObject *self, PyObject *args) {
    finish((puff_sock_op *)self);
    return puff_coroutine_raise(args);
}

static PyObject *op_close(PyObject *self, PyObject *ignored) {
    finish((puff_sock_op *)self);
    Py_RETURN_NONE;
}

static PyObject *op_name(PyObject *self, void *ignored) {
    return PyUnicode_FromFormat("Loop.%s", ((puff_sock_op *)self)->kind->name);
}

static int op_traverse(PyObject *self, visitproc visit, void *arg) {
    puff_sock_op *op = (puff_sock_op *)self;
    Py_VISIT(op->loop);
    Py_VISIT(op->sock);
    Py_VISIT(op->args[0]);
    Py_VISIT(op->args[1]);
    Py_VISIT(op->view.obj);
    Py_VISIT(op->future);
    return 0;
}

/* Breaks the cycle of a task that nobody can wake any more. */
static int op_clear(PyObject *self) {
    puff_sock_op *op = (puff_sock_op *)self;
    puff_ready_cancel(&op->ready); /* it would set the future */
    Py_CLEAR(op->future);
    return 0;
}

static void warn_never_awaited(puff_sock_op *op) {
    PyObject *pending = puff_take_exception();
    puff_coroutine_warn(op_name((PyObject *)op, NULL), pending);
}

static void op_dealloc(PyObject *self) {
    puff_sock_op *op = (puff_sock_op *)self;
    if (op->state == OP_NEW) warn_never_awaited(op);
    finish(op);
    Py_CLEAR(op->loop);
    Py_CLEAR(op->sock);
    Py_CLEAR(op->args[0]);
    Py_CLEAR(op->args[1]);
    puff_freelist_free(&op_freelist, self);
}

static PyMethodDef op_methods[] = {
    {"send", puff_coroutine_send, METH_O, NULL},
    {"throw", op_throw, METH_VARARGS, NULL},
    {"close", op_close, METH_NOARGS, NULL},
    {0},
};
static PyGetSetDef op_getset[] = {
    {"__name__", op_name, NULL, NULL, NULL},
    {"__qualname__", op_name, NULL, NULL, NULL},
    {0},
};
static PyAsyncMethods op_async = {.am_await = PyObject_SelfIter, .am_send = op_send};
static PyTypeObject op_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.sock.Operation",
    .tp_basicsize = sizeof(puff_sock_op),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_as_async = &op_async,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = puff_coroutine_next,
    .tp_traverse = op_traverse,
    .tp_clear = op_clear,
    .tp_dealloc = op_dealloc,
    .tp_methods = op_methods,
    .tp_getset = op_getset,
};

static puff_sock_op *op_new(const puff_sock_kind *kind, PyObject *loop, PyObject *sock) {
    puff_sock_op *op = puff_freelist_new(&op_freelist, &op_type);
    if (!op) return NULL;
    puff_ready_init(&op->ready, on_ready);
    op->ready.on_drop = on_drop;
    op->held.object = NULL;
    op->kind = kind;
    op->loop = (puff_loop_object *)Py_NewRef(loop);
    op->sock = Py_NewRef(sock);
    op->args[0] = op->args[1] = op->view.obj = op->future = NULL;
    op->n_sent = 0;
    op->state = OP_NEW;
    op->woken = false;
    return op;
}

/* ---- waiting alone --------------------------------------------------------------------------- */

static enum puff_sock_outcome attempt_wait(puff_sock_op *op, PyObject **result) {
    op->flags = (int)op->n_sent;
    if (!op->woken) return PUFF_SOCK_BLOCKS;
    *result = Py_NewRef(Py_None);
    return PUFF_SOCK_DONE;
}

static const puff_sock_kind wait_readable = {"wait", PUFF_READABLE, 0, 0, {0}, attempt_wait};
static const puff_sock_kind wait_writable = {"wait", PUFF_WRITABLE, 0, 0, {0}, attempt_wait};

PyObject *puff_sock_wait(PyObject *loop, PyObject *sock, int events, int flags) {
    const puff_sock_kind *kind = events & PUFF_READABLE ? &wait_readable : &wait_writable;
    puff_sock_op *op = op_new(kind, loop, sock);
    if (op) op->n_sent = flags;
    return (PyObject *)op;
}

/* ---- the loop's methods ---------------------------------------------------------------------- */

static int take_keyword(const puff_sock_kind *k, PyObject **seen, PyObject *name, PyObject *value) {
    for (int i = 0; i <= k->n_opt; i++) {
        if (!PyUnicode_CompareWithASCIIString(name, i ? k->args[i - 1] : "sock")) {
            if (!seen[i]) {
                seen[i] = value;
                return 0;
            }
            PyErr_Format(PyExc_TypeError, "%s() got multiple values for argument '%U'", k->name,
                         name);
            return -1;
        }
    }
    PyErr_Format(PyExc_TypeError, "%s() got an unexpected keyword argument '%U'", k->name, name);
    return -1;
}

static PyObject *begin_call(const puff_sock_kind *k, PyObject *self, PyObject *const *args,
                            Py_ssize_t n, PyObject *kwnames) {
    PyObject *seen[3] = {NULL, NULL, NULL}; /* borrowed */
    Py_ssize_t n_keys = kwnames ? PyTuple_GET_SIZE(kwnames) : 0;
    if (n > k->n_opt + 1) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d arguments (%zd given)", k->name,
                     k->n_opt + 1, n);
        return NULL;
    }
    for (Py_ssize_t i = 0; i < n; i++) seen[i] = args[i];
    for (Py_ssize_t i = 0; i < n_keys; i++) {
        if (take_keyword(k, seen, PyTuple_GET_ITEM(kwnames, i), args[n + i]) < 0) return NULL;
    }
    for (int i = 0; i <= k->n_args; i++) {
        if (seen[i]) continue;
        PyErr_Format(PyExc_TypeError, "%s() missing 1 required positional argument: '%s'", k->name,
                     i ? k->args[i - 1] : "sock");
        return NULL;
    }
    puff_sock_op *op = op_new(k, self, seen[0]);
    for (int i = 0; op && i < 2; i++) op->args[i] = Py_XNewRef(seen[i + 1]);
    return (PyObject *)op;
}

/* A C function for each kind: METH_FASTCALL has no closure. */
#define METHOD(i)                                                                    \
    static PyObject *method_##i(PyObject *self, PyObject *const *args, Py_ssize_t n, \
                                PyObject *kwnames) {                                 \
        return begin_call(&puff_sock_kinds[i], self, args, n, kwnames);              \
    }
METHOD(0)
METHOD(1)
METHOD(2)
METHOD(3)
METHOD(4)
METHOD(5)
METHOD(6)

#define FAST(f) ((PyCFunction)(void (*)(void))(f)), METH_FASTCALL | METH_KEYWORDS
static PyMethodDef loop_methods[] = {
    {"sock_recv", FAST(method_0),
     "sock_recv(sock, n)\n--\n\nReceives up to n bytes, of a stream at most 64 KiB at once."},
    {"sock_recv_into", FAST(method_1),
     "sock_recv_into(sock, buf)\n--\n\nReceives into a buffer; returns how many bytes."},
    {"sock_recvfrom", FAST(method_2),
     "sock_recvfrom(sock, bufsize)\n--\n\nReceives a datagram: (bytes, address)."},
    {"sock_recvfrom_into", FAST(method_3),
     "sock_recvfrom_into(sock, buf, nbytes=0)\n--\n\nReceives a datagram into a buffer: "
     "(number "
     "of bytes, address)."},
    {"sock_sendall", FAST(method_4), "sock_sendall(sock, data)\n--\n\nSends all of data."},
    {"sock_sendto", FAST(method_5),
     "sock_sendto(sock, data, address)\n--\n\nSends a datagram; returns how many bytes."},
    {"sock_accept", FAST(method_6),
     "sock_accept(sock)\n--\n\nAccepts a connection: (socket, address)."},
    {0},
};

static int intern_names(void) {
    return (str_done = PyUnicode_InternFromString("done")) &&
                   (str_blocking = PyUnicode_InternFromString("_asyncio_future_blocking")) &&
                   (str_fileno = PyUnicode_InternFromString("fileno")) &&
                   (str_gettimeout = PyUnicode_InternFromString("gettimeout")) &&
                   (str_remove_reader = PyUnicode_InternFromString("_remove_reader")) &&
                   (str_remove_writer = PyUnicode_InternFromString("_remove_writer")) &&
                   (no_args = PyTuple_New(0)) && (zero = PyLong_FromLong(0))
               ? 0
               : -1;
}

int puff_sock_init(PyObject *loop_base, PyObject *socket_type, PyObject *check_ssl,
                   PyObject *check_transport) {
    PyObject *futures = PyImport_ImportModule("asyncio");
    future_type = futures ? PyObject_GetAttrString(futures, "Future") : NULL;
    Py_XDECREF(futures);
    if (future_type) set_result_fn = PyObject_GetAttrString(future_type, "set_result");
    check_ssl_fn = Py_NewRef(check_ssl);
    check_transport_fn = Py_NewRef(check_transport);
    if (socket_type != Py_None) puff_sock_type = (PyTypeObject *)Py_NewRef(socket_type);
    if (!set_result_fn || intern_names() < 0) return -1;
    if (PyType_Ready(&table_type) < 0 || PyType_Ready(&op_type) < 0) return -1;
    return puff_add_methods((PyTypeObject *)loop_base, loop_methods);
}
