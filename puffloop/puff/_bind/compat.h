/* compat.h - what differs between CPython versions, and what we know about asyncio's own layouts.
 *
 * Nothing else in Puff asks which interpreter it runs on.
 */
#ifndef PUFF_BIND_COMPAT_H
#define PUFF_BIND_COMPAT_H

#include <Python.h>
#include <stdbool.h>
#include <structmember.h> /* PyMemberDef; Python.h itself has it from 3.12 on */

/* The exception that is set, taken; NULL: none. 3.12 has it as PyErr_GetRaisedException. */
static inline PyObject *puff_take_exception(void) {
#if PY_VERSION_HEX >= 0x030c0000
    return PyErr_GetRaisedException();
#else
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    if (!type) return NULL;
    PyErr_NormalizeException(&type, &value, &tb);
    if (tb) PyException_SetTraceback(value, tb);
    Py_DECREF(type);
    Py_XDECREF(tb);
    return value;
#endif
}

/* The other way round; steals exc. */
static inline void puff_raise_exception(PyObject *exc) {
#if PY_VERSION_HEX >= 0x030c0000
    PyErr_SetRaisedException(exc);
#else
    PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
    Py_DECREF(exc);
#endif
}

/* The context that this thread's contextvars are in; None: none. PyContext_Enter() is no way where
 * greenlets switch, for it must be left on the stack that entered it. greenlet does this itself. */
static inline void puff_set_context(PyObject *context) {
    PyThreadState *ts = PyThreadState_Get();
    PyObject *before = ts->context;
    ts->context = context == Py_None ? NULL : Py_NewRef(context);
    ts->context_ver++;
    Py_XDECREF(before);
}

/* That context: a new reference; None: there is none yet. */
static inline PyObject *puff_get_context(void) {
    PyObject *context = PyThreadState_Get()->context;
    return Py_NewRef(context ? context : Py_None);
}

/* DatagramTransport.sendto(b""): 3.13 sends it, and then each datagram in the write buffer counts for
 * a header too, lest empty ones cost nothing. Before, nothing is sent. */
#if PY_VERSION_HEX >= 0x030d0000
#define PUFF_DATAGRAM_HEADER 8
#else
#define PUFF_DATAGRAM_HEADER 0
#endif

/* Whether o is what the weak reference refers to. */
static inline bool puff_weakref_is(PyObject *ref, PyObject *o) {
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *seen;
    if (PyWeakref_GetRef(ref, &seen) <= 0) return false;
    Py_DECREF(seen);
    return seen == o;
#else
    return PyWeakref_GET_OBJECT(ref) == o;
#endif
}

/* How a socket.socket begins. sock.pyx compares at import, and calls the methods of another. */
typedef struct puff_socket {
    PyObject_HEAD
    int fd, family, type, proto;
    void *error_handler;
    int64_t timeout; /* ns; 0: non-blocking */
} puff_socket;

/* What a weak reference refers to: a new reference; None when it is gone. */
static inline PyObject *puff_weakref_get(PyObject *ref) {
#if PY_VERSION_HEX >= 0x030d0000
    PyObject *o = NULL;
    if (PyWeakref_GetRef(ref, &o) < 0) return NULL;
    return o ? o : Py_NewRef(Py_None);
#else
    return Py_NewRef(PyWeakref_GET_OBJECT(ref));
#endif
}

/* The slots of asyncio.Handle and asyncio.TimerHandle as type.__new__ lays them out: by name. The
 * list of weak references follows as a slot up to 3.11 and lies before the object from 3.12 on.
 * handle.c compares this with the types' descriptors at import: another layout is an ImportError
 * and not a crash. */
#if PY_VERSION_HEX >= 0x030c0000
#define PUFF_WEAKREFS_SLOT
#else
#define PUFF_WEAKREFS_SLOT PyObject *weakrefs;
#endif

#define PUFF_HANDLE_SLOTS                \
    PyObject_HEAD                        \
    PyObject *args; /* NULL: see argv */ \
    PyObject *callback;                  \
    PyObject *cancelled;                 \
    PyObject *context;                   \
    PyObject *loop;                      \
    PyObject *repr;                      \
    PyObject *source_traceback;          \
    PUFF_WEAKREFS_SLOT

#define PUFF_TIMER_HANDLE_SLOTS \
    PUFF_HANDLE_SLOTS           \
    PyObject *scheduled;        \
    PyObject *when;

/* How an _ssl._SSLSocket and an _ssl._SSLContext begin, 3.10 to 3.14. Nothing says so but the source
 * (bpo-43902 asks for a way): tls.pyx tries it before it trusts it. */
struct ssl_st;
struct ssl_ctx_st;

static inline struct ssl_st *puff_ssl_of(PyObject *sslsocket) {
    struct layout {
        PyObject_HEAD
        PyObject *socket; /* a weak reference; NULL above a MemoryBIO */
        struct ssl_st *ssl;
    };
    if (Py_TYPE(sslsocket)->tp_basicsize < (Py_ssize_t)sizeof(struct layout)) return NULL;
    return ((struct layout *)sslsocket)->ssl;
}

static inline struct ssl_ctx_st *puff_ssl_ctx_of(PyObject *sslcontext) {
    struct layout {
        PyObject_HEAD
        struct ssl_ctx_st *ctx;
    };
    if (Py_TYPE(sslcontext)->tp_basicsize < (Py_ssize_t)sizeof(struct layout)) return NULL;
    return ((struct layout *)sslcontext)->ctx;
}

#endif
