/* stream_io.c - see stream_io.h.
 *
 *   core on_alloc --> the loop's buffer | a chunk of bytes | what get_buffer() gave
 *   core on_read  --> data_received() | buffer_updated() | a filter   in the transport's own context
 *                 --> flush: what the callback wrote leaves in one system call
 *
 * Nothing in here is cached about a protocol: its methods may be replaced at any time and are
 * looked up for each call.
 */
#include "stream_io.h"

#include "slot.h"

enum {
    /* The most of one read. Each read and write wakes somebody, so one of 100 KiB costs less than
     * two; but from 128 KiB on malloc may map and unmap memory for each. */
    CHUNK = 124 * 1024,
    /* A stream whose last read was at least this long reads the next straight into its bytes; a
     * shorter one costs less to copy out of the loop's buffer than to cut a chunk to size (by
     * instructions: 250 to 500). */
    LONG_READ = 8192,
    /* What is not bytes is copied, for its owner may change it: into the core's own chunks, as long
     * as one of them is enough. */
    SHORT_WRITE = 16000,
};

static const puff_stream_rare *rare;
static puff_slot native_slot;
static PyTypeObject *stream_type;
static PyObject *str_data_received, *str_get_buffer, *str_buffer_updated, *minus_one;

static puff_stream_object *stream_of(puff_stream *st) { return puff_stream_data(st); }

/* protocol.method(arg), in the transport's context. */
static PyObject *tell(puff_stream_object *s, PyObject *method, PyObject *arg) {
    PyObject *context = Py_NewRef(s->end.context);
    PyObject *stack[3] = {NULL, Py_NewRef(s->end.protocol),
                          arg}; /* [0]: the callee's, see VECTORCALL */
    PyObject *res = NULL;
    if (PyContext_Enter(context) == 0) {
        res =
            PyObject_VectorcallMethod(method, stack + 1, 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (PyContext_Exit(context) < 0) Py_CLEAR(res);
    }
    Py_DECREF(stack[1]);
    Py_DECREF(context);
    return res;
}

/* ---- where a read goes ----------------------------------------------------------------------- */

static int ask_target(puff_stream_object *s) {
    PyObject *memory = tell(s, str_get_buffer, minus_one);
    if (!memory) return -1;
    int rc = PyObject_GetBuffer(memory, &s->target, PyBUF_WRITABLE);
    Py_DECREF(memory);
    if (rc < 0 || s->target.len > 0) return rc;
    PyBuffer_Release(&s->target);
    PyErr_SetString(PyExc_RuntimeError, "get_buffer() returned an empty buffer");
    return -1;
}

static void alloc_target(puff_stream_object *s, char **buf, size_t *cap) {
    if (ask_target(s) < 0) { /* closes: nothing is read */
        rare->failed((PyObject *)s, "Fatal error: protocol.get_buffer() call failed.");
        return;
    }
    *buf = s->target.buf;
    *cap = (size_t)s->target.len;
}

void puff_stream_on_alloc(puff_stream *st, char **buf, size_t *cap) {
    puff_stream_object *s = stream_of(st);
    if (s->sink == PUFF_SINK_BUFFERED) {
        alloc_target(s, buf, cap);
        return;
    }
    if (s->sink == PUFF_SINK_FILTER || !s->long_reads) return; /* the loop's buffer */
    if (!s->chunk && !(s->chunk = PyBytes_FromStringAndSize(NULL, CHUNK))) {
        PyErr_Clear(); /* the loop's buffer will do */
        return;
    }
    *buf = PyBytes_AS_STRING(s->chunk);
    *cap = CHUNK;
}

/* ---- what has been read ---------------------------------------------------------------------- */

/* The bytes of a read: the chunk that was read into, cut to size, or a copy. */
static PyObject *take_read(puff_stream_object *s, const char *buf, Py_ssize_t n) {
    s->long_reads = n >= LONG_READ;
    if (!s->chunk || buf != PyBytes_AS_STRING(s->chunk)) return PyBytes_FromStringAndSize(buf, n);
    PyObject *data = s->chunk;
    s->chunk = NULL;
    _PyBytes_Resize(&data, n);
    return data;
}

static void feed_protocol(puff_stream_object *s, const char *buf, ssize_t n) {
    PyObject *data = take_read(s, buf, n);
    PyObject *res = data ? tell(s, str_data_received, data) : NULL;
    Py_XDECREF(data);
    Py_XDECREF(res);
    if (!res) rare->failed((PyObject *)s, "Fatal error: protocol.data_received() call failed.");
}

static void feed_buffered(puff_stream_object *s, ssize_t n) {
    PyObject *n_bytes = PyLong_FromSsize_t(n);
    PyObject *res = n_bytes ? tell(s, str_buffer_updated, n_bytes) : NULL;
    Py_XDECREF(n_bytes);
    Py_XDECREF(res);
    if (!res) rare->failed((PyObject *)s, "Fatal error: protocol.buffer_updated() call failed.");
}

static void feed_filter(puff_stream_object *s, const char *buf, ssize_t n) {
    PyObject *context = Py_NewRef(s->end.context);
    int rc = PyContext_Enter(context);
    if (rc == 0) {
        rc = rare->filter((PyObject *)s, buf, n);
        if (PyContext_Exit(context) < 0) rc = -1;
    }
    Py_DECREF(context);
    if (rc < 0) rare->failed((PyObject *)s, "Fatal error: protocol.buffer_updated() call failed.");
}

void puff_stream_on_read(puff_stream *st, char *buf, ssize_t n) {
    puff_stream_object *s = stream_of(st);
    bool in_target = s->target.obj != NULL;
    if (in_target) PyBuffer_Release(&s->target); /* the protocol may resize it again */
    if (n <= 0) Py_CLEAR(s->chunk);              /* a connection that waits owns none */
    if (n == 0 || s->end.conn_lost) return;
    if (n < 0)
        rare->ended((PyObject *)s, n);
    else if (in_target)
        feed_buffered(s, n);
    else if (s->sink == PUFF_SINK_FILTER)
        feed_filter(s, buf, n);
    else
        feed_protocol(s, buf, n);
    if (s->core && puff_stream_queued(s->core) > 0) puff_stream_flush(s->core);
}

/* ---- writing --------------------------------------------------------------------------------- */

static void release_bytes(void *arg) { Py_DECREF((PyObject *)arg); }

int puff_stream_queue(puff_stream_object *s, PyObject *bytes) {
    Py_INCREF(bytes);
    int rc = puff_stream_write_ref(s->core, PyBytes_AS_STRING(bytes),
                                   (size_t)PyBytes_GET_SIZE(bytes), release_bytes, bytes);
    if (rc == 0) return 0;
    Py_DECREF(bytes);
    if (rc != PUFF_ENOMEM) return 0; /* the stream is broken, and connection_lost() on its way */
    PyErr_NoMemory();
    return -1;
}

static puff_stream_object *native(PyObject *transport) {
    PyObject *stream = puff_slot_at(transport, &native_slot);
    if (stream && Py_IS_TYPE(stream, stream_type)) return (puff_stream_object *)stream;
    PyErr_SetString(PyExc_RuntimeError, "this Transport has not been initialised");
    return NULL;
}

/* Debug mode looks at the thread, and between two runs nothing leaves by itself: not plain either. */
static bool is_writable(const puff_stream_object *s) {
    const puff_dispatch *d = &((puff_loop_object *)s->end.loop)->d;
    return d->running && !d->debug && !s->eof_written && !s->end.conn_lost &&
           s->empty_waiter == Py_None;
}

/* A bytearray or a memoryview: 1; 0: not this way. */
static int queue_copy(puff_stream_object *s, PyObject *data) {
    Py_buffer view;
    if (!PyByteArray_CheckExact(data) && !PyMemoryView_Check(data)) return 0;
    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) { /* not contiguous, or released */
        PyErr_Clear();
        return 0;
    }
    bool is_short = view.len > 0 && view.len <= SHORT_WRITE;
    int rc = is_short ? puff_stream_write(s->core, view.buf, (size_t)view.len) : 0;
    PyBuffer_Release(&view);
    if (rc == PUFF_ENOMEM) PyErr_NoMemory();
    return rc == PUFF_ENOMEM ? -1 : is_short;
}

/* 1: it is queued; 0: not as plain as that. */
static int queue_plain(puff_stream_object *s, PyObject *data) {
    if (!is_writable(s)) return 0;
    if (!PyBytes_CheckExact(data)) return queue_copy(s, data);
    if (PyBytes_GET_SIZE(data) == 0) return 0;
    return puff_stream_queue(s, data) < 0 ? -1 : 1;
}

/* write(data): by position, or by name as asyncio's takes it too. */
static PyObject *transport_write(PyObject *self, PyObject *const *args, Py_ssize_t n,
                                 PyObject *names) {
    if (n + (names ? PyTuple_GET_SIZE(names) : 0) != 1 ||
        (n == 0 && PyUnicode_CompareWithASCIIString(PyTuple_GET_ITEM(names, 0), "data") != 0)) {
        PyErr_SetString(PyExc_TypeError, "write() takes exactly one argument: data");
        return NULL;
    }
    PyObject *data = args[0];
    puff_stream_object *s = native(self);
    if (!s) return NULL;
    int rc = queue_plain(s, data);
    if (rc == 0)
        rc = rare->write((PyObject *)s, data);
    else if (rc > 0 && puff_stream_queued(s->core) > s->high)
        rc = rare->over_high((PyObject *)s);
    if (rc < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef write_def = {
    "write", (PyCFunction)(void (*)(void))transport_write, METH_FASTCALL | METH_KEYWORDS,
    "write($self, /, data)\n--\n\nQueues bytes; they leave at the end of this callback or turn."};

int puff_stream_io_init(PyObject *transport_class, PyObject *stream_class,
                        const puff_stream_rare *table) {
    rare = table;
    stream_type = (PyTypeObject *)stream_class;
    if (puff_slot_find(transport_class, "_native", &native_slot) < 0 ||
        !(str_data_received = PyUnicode_InternFromString("data_received")) ||
        !(str_get_buffer = PyUnicode_InternFromString("get_buffer")) ||
        !(str_buffer_updated = PyUnicode_InternFromString("buffer_updated")) ||
        !(minus_one = PyLong_FromLong(-1)))
        return -1;
    PyObject *write = PyDescr_NewMethod((PyTypeObject *)transport_class, &write_def);
    int rc = write ? PyObject_SetAttrString(transport_class, "write", write) : -1;
    Py_XDECREF(write);
    return rc;
}
