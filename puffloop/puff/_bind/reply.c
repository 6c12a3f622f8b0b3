/* reply.c - Redis replies as Python objects, made straight from hiredis' reader.
 *
 * Strings and statuses are bytes, or str where the call said decode=True. RESP3's maps and sets are
 * flat lists, as RESP2 has them: a reply has one shape, whatever the connection speaks.
 *
 * Bytes that are no UTF-8 are the caller's trouble, not the connection's: the exception is kept in
 * the target, the value stands in as bytes, and the caller gets the exception when the reply is
 * complete.
 */
#include "reply.h"

#include <string.h>

#include "compat.h"

static PyObject *make_fault, *ok_bytes, *ok_str; /* owned */

int puff_reply_setup(PyObject *fault) {
    make_fault = Py_NewRef(fault);
    ok_bytes = PyBytes_FromString("OK");
    ok_str = PyUnicode_InternFromString("OK");
    return ok_bytes && ok_str ? 0 : -1;
}

/* Takes the exception that is set; only the first is told. */
static void keep_exception(puff_reply_target *t) {
    PyObject *exc = puff_take_exception();
    if (t->error)
        Py_XDECREF(exc);
    else
        t->error = exc;
}

/* Hands value (a new reference) over. A list grows with what arrives: between two reads it must not
 * have holes that a garbage collector's visitor could fall into. */
static void *put(puff_reply_target *t, puff_redis_place at, PyObject *value) {
    if (value && at.parent) {
        int rc = PyList_Append(at.parent, value);
        Py_DECREF(value);
        if (rc < 0) value = NULL;
    }
    if (!value) keep_exception(t);
    return value;
}

static void *on_nil(void *ctx, puff_redis_place at) { return put(ctx, at, Py_NewRef(Py_None)); }

static void *on_integer(void *ctx, puff_redis_place at, puff_redis_kind kind, int64_t value) {
    if (kind == PUFF_REDIS_BOOL) return put(ctx, at, PyBool_FromLong((long)value));
    return put(ctx, at, PyLong_FromLongLong(value));
}

static void *on_real(void *ctx, puff_redis_place at, double value) {
    return put(ctx, at, PyFloat_FromDouble(value));
}

/* Arbitrarily long, but within the interpreter's limit for such conversions. */
static PyObject *bignum(const char *s, size_t len) {
    PyObject *digits = PyUnicode_DecodeASCII(s, (Py_ssize_t)len, NULL);
    PyObject *value = digits ? PyLong_FromUnicodeObject(digits, 10) : NULL;
    Py_XDECREF(digits);
    return value;
}

static PyObject *fault(const char *s, size_t len) {
    PyObject *text = PyUnicode_DecodeUTF8(s, (Py_ssize_t)len, "replace");
    PyObject *value = text ? PyObject_CallOneArg(make_fault, text) : NULL;
    Py_XDECREF(text);
    return value;
}

static PyObject *text_value(puff_reply_target *t, puff_redis_kind kind, const char *s, size_t len) {
    if (kind == PUFF_REDIS_STATUS && len == 2 && memcmp(s, "OK", 2) == 0)
        return Py_NewRef(t->decode ? ok_str : ok_bytes);
    if (kind == PUFF_REDIS_ERROR) return fault(s, len);
    if (kind == PUFF_REDIS_BIGNUM) return bignum(s, len);
    if (t->decode) return PyUnicode_DecodeUTF8(s, (Py_ssize_t)len, NULL);
    return PyBytes_FromStringAndSize(s, (Py_ssize_t)len);
}

static void *on_text(void *ctx, puff_redis_place at, puff_redis_kind kind, const char *s,
                     size_t len) {
    PyObject *value = text_value(ctx, kind, s, len);
    if (!value && !PyErr_ExceptionMatches(PyExc_MemoryError)) {
        keep_exception(ctx);
        value = PyBytes_FromStringAndSize(s, (Py_ssize_t)len);
    }
    return put(ctx, at, value);
}

static void *on_array(void *ctx, puff_redis_place at, puff_redis_kind kind, size_t n) {
    return put(ctx, at, PyList_New(0));
}

static void on_discard(void *reply) { Py_DECREF((PyObject *)reply); }

const puff_redis_builder puff_reply_builder = {
    .size = sizeof(puff_redis_builder),
    .nil = on_nil,
    .integer = on_integer,
    .real = on_real,
    .text = on_text,
    .array = on_array,
    .discard = on_discard,
};
