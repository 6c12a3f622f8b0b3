/* reader.c - see reader.h.
 *
 * An attribute that is missing, or not of the type that asyncio gives it, is never our business:
 * PUFF_LOOK_ASYNCIO.
 */
#include "reader.h"

#include <string.h>

#include "compat.h"

#define PUFF_READER_NAME(name, text) PyObject *puff_str_##name;
PUFF_READER_NAMES(PUFF_READER_NAME)
#undef PUFF_READER_NAME

static PyObject *asyncio_reader, *asyncio_protocol; /* the classes; immortal */
static PyTypeObject *native_reader;
static PyObject *newline;

/* ---- has somebody replaced a method? --------------------------------------------------------- */

static const char *const reader_methods[] = {"read",           "readline",
                                             "readexactly",    "readuntil",
                                             "feed_data",      "_wait_for_data",
                                             "_wakeup_waiter", "_maybe_resume_transport",
                                             "__anext__",      NULL};
static const char *const protocol_methods[] = {"data_received", "_drain_helper", "_stream_reader",
                                               NULL};

enum { MAX_METHODS = 16 };
typedef struct watched {
    PyTypeObject *class;
    const char *const *names;
    PyObject *original[MAX_METHODS]; /* owned */
    unsigned long version;           /* of the class when all were the originals; 0: unknown */
} watched;
static watched watched_reader, watched_protocol;

static PyObject *attribute_of(PyTypeObject *class, const char *name) {
    return PyObject_GetAttrString((PyObject *)class, name);
}

static int watch(watched *w, PyObject *class, const char *const *names) {
    w->class = (PyTypeObject *)class;
    w->names = names;
    for (int i = 0; names[i]; i++)
        if (!(w->original[i] = attribute_of(w->class, names[i]))) return -1;
    return 0;
}

static bool has_originals(const watched *w) {
    bool same = true;
    for (int i = 0; w->names[i] && same; i++) {
        PyObject *now = attribute_of(w->class, w->names[i]);
        same = now == w->original[i];
        Py_XDECREF(now);
    }
    if (!same) PyErr_Clear();
    return same;
}

/* Changing a class changes its version tag, or takes it away: that is one comparison. */
static bool is_patched(watched *w) {
    if (w->version && w->class->tp_version_tag == w->version) return false;
    if (!has_originals(w)) return true;
    w->version = w->class->tp_version_tag;
    return false;
}

bool puff_reader_is_patched(void) {
    return is_patched(&watched_reader) || is_patched(&watched_protocol);
}

/* ---- attributes ------------------------------------------------------------------------------ */

/* Where StreamReader.__init__() puts its attributes: a dict keeps the order. A guess that is tried
 * (one comparison, where a look-up costs forty instructions more), never trusted. */
enum { AT_LIMIT, AT_LOOP, AT_BUFFER, AT_EOF, AT_WAITER, AT_EXCEPTION, AT_TRANSPORT, AT_PAUSED };

/* Borrowed, or NULL without an exception. */
static PyObject *get(PyObject *attrs, PyObject *name) {
    PyObject *value = PyDict_GetItemWithError(attrs, name);
    if (!value) PyErr_Clear();
    return value;
}

static PyObject *get_at(PyObject *attrs, Py_ssize_t at, PyObject *name) {
    PyObject *key, *value;
    return PyDict_Next(attrs, &at, &key, &value) && key == name ? value : get(attrs, name);
}

#define LIMIT(attrs) get_at(attrs, AT_LIMIT, puff_str_limit)
#define LOOP(attrs) get_at(attrs, AT_LOOP, puff_str_loop)
#define BUFFER(attrs) get_at(attrs, AT_BUFFER, puff_str_buffer)
#define EOF_SEEN(attrs) get_at(attrs, AT_EOF, puff_str_eof)
#define WAITER(attrs) get_at(attrs, AT_WAITER, puff_str_waiter)
#define EXCEPTION(attrs) get_at(attrs, AT_EXCEPTION, puff_str_exception)
#define TRANSPORT(attrs) get_at(attrs, AT_TRANSPORT, puff_str_transport)
#define PAUSED(attrs) get_at(attrs, AT_PAUSED, puff_str_paused)

PyObject *puff_reader_waiter(PyObject *attrs) { return WAITER(attrs); }

/* The reader's buffer, borrowed, or NULL. */
static PyObject *buffer_of(PyObject *attrs) {
    PyObject *buffer = BUFFER(attrs);
    return buffer && PyByteArray_CheckExact(buffer) ? buffer : NULL;
}

/* The reader's limit, or -1. */
static Py_ssize_t limit_of(PyObject *attrs) {
    PyObject *limit = LIMIT(attrs);
    if (!limit || !PyLong_CheckExact(limit)) return -1;
    Py_ssize_t n = PyLong_AsSsize_t(limit);
    if (n < 0) PyErr_Clear();
    return n <= PY_SSIZE_T_MAX / 2 ? n : -1;
}

/* ---- feeding --------------------------------------------------------------------------------- */

static int call_asyncio_feed(PyObject *reader, PyObject *data) {
    PyObject *method = PyObject_GetAttr(asyncio_reader, puff_str_feed_data);
    PyObject *args[2] = {reader, data};
    PyObject *res = method ? PyObject_Vectorcall(method, args, 2, NULL) : NULL;
    Py_XDECREF(method);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static int append(PyObject *buffer, PyObject *bytes) {
    Py_ssize_t old = PyByteArray_GET_SIZE(buffer), more = PyBytes_GET_SIZE(bytes);
    if (PyByteArray_Resize(buffer, old + more) < 0) return -1;
    memcpy(PyByteArray_AS_STRING(buffer) + old, PyBytes_AS_STRING(bytes), (size_t)more);
    return 0;
}

/* set_result(None), unless somebody has cancelled the Future. */
static int settle(PyObject *future) {
    PyObject *res = PyObject_CallMethodOneArg(future, puff_str_set_result, Py_None);
    if (!res) {
        PyObject *exc = puff_take_exception();
        res = PyObject_CallMethodNoArgs(future, puff_str_cancelled);
        if (res == Py_False) {
            puff_raise_exception(exc);
            Py_CLEAR(res);
        } else {
            Py_DECREF(exc);
        }
    }
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static int wake(PyObject *attrs) {
    PyObject *waiter = WAITER(attrs);
    if (!waiter || waiter == Py_None) return 0;
    Py_INCREF(waiter);
    int rc = PyDict_SetItem(attrs, puff_str_waiter, Py_None);
    if (rc == 0) rc = settle(waiter);
    Py_DECREF(waiter);
    return rc;
}

/* A transport that cannot be paused is forgotten. */
static int pause_transport(PyObject *attrs) {
    PyObject *transport = TRANSPORT(attrs);
    if (!transport || transport == Py_None || PAUSED(attrs) != Py_False) return 0;
    Py_INCREF(transport);
    PyObject *res = PyObject_CallMethodNoArgs(transport, puff_str_pause_reading);
    Py_DECREF(transport);
    if (res) {
        Py_DECREF(res);
        return PyDict_SetItem(attrs, puff_str_paused, Py_True);
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) return -1;
    PyErr_Clear();
    return PyDict_SetItem(attrs, puff_str_transport, Py_None);
}

static int feed(PyObject *reader, PyObject *attrs, PyObject *data) {
    PyObject *buffer = buffer_of(attrs);
    Py_ssize_t limit = limit_of(attrs);
    if (!buffer || !PyBytes_CheckExact(data) || EOF_SEEN(attrs) != Py_False || limit < 0 ||
        is_patched(&watched_reader))
        return call_asyncio_feed(reader, data);
    if (PyBytes_GET_SIZE(data) == 0) return 0;
    if (append(buffer, data) < 0) return -1;
    bool full = PyByteArray_GET_SIZE(buffer) > 2 * limit; /* asyncio's, too */
    if (wake(attrs) < 0) return -1;
    return full ? pause_transport(attrs) : 0;
}

static PyObject *reader_feed_data(PyObject *self, PyObject *data) {
    PyObject *attrs = PyObject_GenericGetDict(self, NULL);
    int rc = attrs ? feed(self, attrs, data) : -1;
    Py_XDECREF(attrs);
    if (rc < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- taking ---------------------------------------------------------------------------------- */

static int resume_transport(PyObject *attrs) {
    if (PyDict_SetItem(attrs, puff_str_paused, Py_False) < 0) return -1;
    PyObject *transport = TRANSPORT(attrs);
    if (!transport) return 0;
    Py_INCREF(transport);
    PyObject *res = PyObject_CallMethodNoArgs(transport, puff_str_resume_reading);
    Py_DECREF(transport);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static int drop_front(PyObject *buffer, Py_ssize_t n) {
    if (n == PyByteArray_GET_SIZE(buffer)) return PyByteArray_Resize(buffer, 0);
    return PySequence_DelSlice(buffer, 0, n);
}

/* The first n bytes of the buffer. */
static enum puff_look take(PyObject *attrs, PyObject *buffer, Py_ssize_t n, PyObject **result) {
    Py_INCREF(buffer);
    PyObject *bytes = PyBytes_FromStringAndSize(PyByteArray_AS_STRING(buffer), n);
    int rc = bytes ? drop_front(buffer, n) : -1;
    Py_ssize_t left = PyByteArray_GET_SIZE(buffer);
    Py_DECREF(buffer);
    if (rc == 0 && PAUSED(attrs) == Py_True && left <= limit_of(attrs))
        rc = resume_transport(attrs);
    if (rc < 0) {
        Py_XDECREF(bytes);
        return PUFF_LOOK_FAILED;
    }
    *result = bytes;
    return PUFF_LOOK_DONE;
}

/* asyncio's _wait_for_data(). */
static enum puff_look wait_for_data(puff_call *c) {
    PyObject *attrs = c->attrs, *loop = LOOP(attrs);
    if (WAITER(attrs) != Py_None || EOF_SEEN(attrs) != Py_False || !loop) return PUFF_LOOK_ASYNCIO;
    if (PAUSED(attrs) == Py_True && resume_transport(attrs) < 0) return PUFF_LOOK_FAILED;
    PyObject *future = PyObject_CallMethodNoArgs(loop, puff_str_create_future);
    if (!future) return PUFF_LOOK_FAILED;
    int rc = PyDict_SetItem(attrs, puff_str_waiter, future);
    if (rc == 0) rc = puff_call_wait(c, future);
    Py_DECREF(future);
    return rc < 0 ? PUFF_LOOK_FAILED : PUFF_LOOK_WAIT;
}

/* The buffer, if asyncio would get as far as to look at it. */
static PyObject *readable_buffer(puff_call *c) {
    if (!puff_call_is_woken(c) && (EXCEPTION(c->attrs) != Py_None || is_patched(&watched_reader)))
        return NULL;
    return buffer_of(c->attrs);
}

/* ---- reads ----------------------------------------------------------------------------------- */

static enum puff_look look_read(puff_call *c, PyObject **result) {
    PyObject *buffer = readable_buffer(c);
    if (!buffer || c->n <= 0) return PUFF_LOOK_ASYNCIO;
    Py_ssize_t len = PyByteArray_GET_SIZE(buffer);
    if (len == 0 && !puff_call_is_woken(c) && EOF_SEEN(c->attrs) == Py_False)
        return wait_for_data(c);
    return take(c->attrs, buffer, len < c->n ? len : c->n, result);
}

static enum puff_look look_exactly(puff_call *c, PyObject **result) {
    PyObject *buffer = readable_buffer(c);
    if (!buffer || c->n <= 0) return PUFF_LOOK_ASYNCIO;
    if (PyByteArray_GET_SIZE(buffer) < c->n) return wait_for_data(c); /* or asyncio, at the end */
    return take(c->attrs, buffer, c->n, result);
}

static Py_ssize_t find(PyObject *buffer, PyObject *separator, Py_ssize_t from) {
    const char *start = PyByteArray_AS_STRING(buffer);
    const char *at = memmem(start + from, (size_t)(PyByteArray_GET_SIZE(buffer) - from),
                            PyBytes_AS_STRING(separator), (size_t)PyBytes_GET_SIZE(separator));
    return at ? at - start : -1;
}

static enum puff_look look_until_separator(puff_call *c, PyObject *separator, PyObject **result) {
    PyObject *buffer = readable_buffer(c);
    Py_ssize_t limit = limit_of(c->attrs), sep_len = PyBytes_GET_SIZE(separator);
    if (!buffer || limit < 0 || sep_len == 0) return PUFF_LOOK_ASYNCIO;
    Py_ssize_t len = PyByteArray_GET_SIZE(buffer);
    if (len - c->offset >= sep_len) {
        Py_ssize_t at = find(buffer, separator, c->offset);
        if (at > limit) return PUFF_LOOK_ASYNCIO;
        if (at >= 0) return take(c->attrs, buffer, at + sep_len, result);
        c->offset = len + 1 - sep_len;
        if (c->offset > limit) return PUFF_LOOK_ASYNCIO;
    }
    return wait_for_data(c);
}

static enum puff_look look_until(puff_call *c, PyObject **result) {
    if (!c->arg) return look_until_separator(c, newline, result);
    if (!PyBytes_CheckExact(c->arg)) return PUFF_LOOK_ASYNCIO;
    return look_until_separator(c, c->arg, result);
}

static enum puff_look look_line(puff_call *c, PyObject **result) {
    return look_until_separator(c, newline, result);
}

/* asyncio's drain(), behind its own checks: nothing to wait for, mostly. */
static enum puff_look look_drain(puff_call *c, PyObject **result) {
    if (get(c->attrs, puff_str_connection_lost) != Py_False ||
        get(c->attrs, puff_str_paused) != Py_False || is_patched(&watched_protocol))
        return PUFF_LOOK_ASYNCIO;
    *result = Py_NewRef(Py_None);
    return PUFF_LOOK_DONE;
}

static const puff_call_kind read_kind = {"read", &asyncio_reader, look_read},
                            exactly_kind = {"readexactly", &asyncio_reader, look_exactly},
                            until_kind = {"readuntil", &asyncio_reader, look_until},
                            line_kind = {"readline", &asyncio_reader, look_line},
                            next_kind = {"__anext__", &asyncio_reader, look_line},
                            drain_kind = {"_drain_helper", &asyncio_protocol, look_drain};

/* ---- methods --------------------------------------------------------------------------------- */

/* Arguments that are not one, or none, under the right name: asyncio's function says what it
 * thinks of them. */
static PyObject *call_asyncio(const puff_call_kind *kind, PyObject *self, PyObject *const *args,
                              Py_ssize_t n, PyObject *names) {
    Py_ssize_t total = n + (names ? PyTuple_GET_SIZE(names) : 0);
    PyObject *method = PyObject_GetAttrString(*kind->asyncio_class, kind->name);
    PyObject **all = PyMem_Malloc(sizeof *all * (size_t)(total + 1));
    PyObject *res = NULL;
    if (!all) PyErr_NoMemory();
    if (method && all) {
        all[0] = self;
        if (total > 0) memcpy(all + 1, args, sizeof *all * (size_t)total);
        res = PyObject_Vectorcall(method, all, (size_t)n + 1, names);
    }
    PyMem_Free(all);
    Py_XDECREF(method);
    return res;
}

static bool takes_one(const char *parameter, Py_ssize_t n, PyObject *names) {
    if (!names) return n == 1;
    return n == 0 && PyTuple_GET_SIZE(names) == 1 &&
           PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), parameter) == 0;
}

/* n as a number; what is none, or too large, is asyncio's (0). */
static Py_ssize_t size_of(PyObject *n) {
    if (!PyLong_CheckExact(n)) return 0;
    Py_ssize_t size = PyLong_AsSsize_t(n);
    if (size == -1 && PyErr_Occurred()) PyErr_Clear();
    return size < 0 ? 0 : size;
}

static PyObject *sized(const puff_call_kind *kind, PyObject *self, PyObject *const *args,
                       Py_ssize_t n, PyObject *names) {
    if (!takes_one("n", n, names)) return call_asyncio(kind, self, args, n, names);
    return puff_call_new(kind, self, args[0], size_of(args[0]));
}

static PyObject *reader_read(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    if (n == 0 && !names) return puff_call_new(&read_kind, self, NULL, 0);
    return sized(&read_kind, self, args, n, names);
}

static PyObject *reader_readexactly(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                    PyObject *names) {
    return sized(&exactly_kind, self, args, n, names);
}

static PyObject *reader_readuntil(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                  PyObject *names) {
    if (n == 0 && !names) return puff_call_new(&until_kind, self, NULL, 0);
    if (!takes_one("separator", n, names)) return call_asyncio(&until_kind, self, args, n, names);
    return puff_call_new(&until_kind, self, args[0], 0);
}

static PyObject *reader_readline(PyObject *self, PyObject *ignored) {
    return puff_call_new(&line_kind, self, NULL, 0);
}

static PyObject *reader_anext(PyObject *self, PyObject *ignored) {
    return puff_call_new(&next_kind, self, NULL, 0);
}

static PyObject *protocol_drain_helper(PyObject *self, PyObject *ignored) {
    return puff_call_new(&drain_kind, self, NULL, 0);
}

/* ---- the protocol ---------------------------------------------------------------------------- */

/* The reader that asyncio's _stream_reader gives: a new reference, None, or NULL. */
static PyObject *reader_of(PyObject *attrs) {
    PyObject *ref = get(attrs, puff_str_reader_ref);
    if (!ref || !PyWeakref_CheckRef(ref)) return ref == Py_None ? Py_NewRef(ref) : NULL;
    return puff_weakref_get(ref);
}

static int pass_to_reader(PyObject *reader, PyObject *data) {
    PyObject *attrs =
        Py_IS_TYPE(reader, native_reader) ? PyObject_GenericGetDict(reader, NULL) : NULL;
    int rc;
    if (attrs && !get(attrs, puff_str_feed_data)) {
        rc = feed(reader, attrs, data);
    } else { /* another class, or a feed_data() of its own */
        PyErr_Clear();
        PyObject *res = PyObject_CallMethodOneArg(reader, puff_str_feed_data, data);
        Py_XDECREF(res);
        rc = res ? 0 : -1;
    }
    Py_XDECREF(attrs);
    return rc;
}

static PyObject *call_asyncio_data_received(PyObject *self, PyObject *data) {
    return PyObject_CallMethod(asyncio_protocol, "data_received", "OO", self, data);
}

static PyObject *protocol_data_received(PyObject *self, PyObject *data) {
    PyObject *attrs = PyObject_GenericGetDict(self, NULL);
    if (!attrs) return NULL;
    PyObject *reader = is_patched(&watched_protocol) ? NULL : reader_of(attrs);
    Py_DECREF(attrs);
    if (!reader) return call_asyncio_data_received(self, data);
    int rc = reader == Py_None ? 0 : pass_to_reader(reader, data);
    Py_DECREF(reader);
    if (rc < 0) return NULL;
    Py_RETURN_NONE;
}

/* ---- set-up ---------------------------------------------------------------------------------- */

#define FAST(f) (PyCFunction)(void (*)(void)) f, METH_FASTCALL | METH_KEYWORDS
static PyMethodDef reader_defs[] = {
    {"read", FAST(reader_read), "read($self, /, n=-1)\n--\n\nSee asyncio.StreamReader.read()."},
    {"readexactly", FAST(reader_readexactly),
     "readexactly($self, /, n)\n--\n\nSee asyncio.StreamReader.readexactly()."},
    {"readuntil", FAST(reader_readuntil),
     "readuntil($self, /, separator=b'\\n')\n--\n\nSee asyncio.StreamReader.readuntil()."},
    {"readline", reader_readline, METH_NOARGS,
     "readline($self, /)\n--\n\nSee asyncio.StreamReader.readline()."},
    {"__anext__", reader_anext, METH_NOARGS, NULL},
    {"feed_data", reader_feed_data, METH_O,
     "feed_data($self, data, /)\n--\n\nSee asyncio.StreamReader.feed_data()."},
    {0}};
static PyMethodDef protocol_defs[] = {
    {"data_received", protocol_data_received, METH_O,
     "data_received($self, data, /)\n--\n\nSee asyncio.StreamReaderProtocol.data_received()."},
    {"_drain_helper", protocol_drain_helper, METH_NOARGS, NULL},
    {0}};

static int install(PyObject *class, PyMethodDef *defs) {
    for (PyMethodDef *def = defs; def->ml_name; def++) {
        PyObject *method = PyDescr_NewMethod((PyTypeObject *)class, def);
        int rc = method ? PyObject_SetAttrString(class, def->ml_name, method) : -1;
        Py_XDECREF(method);
        if (rc < 0) return -1;
    }
    return 0;
}

int puff_reader_init(PyObject *asyncio_reader_class, PyObject *asyncio_protocol_class,
                     PyObject *reader, PyObject *protocol) {
    asyncio_reader = Py_NewRef(asyncio_reader_class);
    asyncio_protocol = Py_NewRef(asyncio_protocol_class);
    native_reader = (PyTypeObject *)Py_NewRef(reader);
    if (!(newline = PyBytes_FromStringAndSize("\n", 1))) return -1;
#define PUFF_READER_NAME(name, text) \
    if (!(puff_str_##name = PyUnicode_InternFromString(text))) return -1;
    PUFF_READER_NAMES(PUFF_READER_NAME)
#undef PUFF_READER_NAME
    if (watch(&watched_reader, asyncio_reader, reader_methods) < 0 ||
        watch(&watched_protocol, asyncio_protocol, protocol_methods) < 0)
        return -1;
    if (install(reader, reader_defs) < 0 || install(protocol, protocol_defs) < 0) return -1;
    return puff_call_init();
}
