/* value.c - Python objects to Postgres parameters.
 *
 * The server has said which type each parameter has, so the type decides how a Python value is
 * read: numbers, bool, text and bytea go in binary, everything else as the text that the server's
 * own input function reads (put_text below), arrays as array literals. A str is accepted for every
 * type: it is what the user would have written between quotes in SQL.
 */
#include "value.h"

#include <datetime.h>
#include <string.h>

#include "import_attr.h"

static PyObject *Decimal, *UUID, *json_encode, *isoformat; /* owned */

static int put_text(puff_buf *out, const puff_pg_type *type, PyObject *v);

/* ---- errors ---- */

static int wrong_type(const puff_pg_type *type, const char *wants, PyObject *v) {
    PyErr_Format(PyExc_TypeError, "%s takes %s, not %s", type->name, wants, Py_TYPE(v)->tp_name);
    return -1;
}

static int from_core(int rc, const puff_pg_type *type) {
    if (rc == 0) return 0;
    if (rc == PUFF_ENOMEM)
        PyErr_NoMemory();
    else if (rc == PUFF_ELIMIT)
        PyErr_Format(PyExc_OverflowError, "the value is out of range for %s", type->name);
    else
        PyErr_Format(PyExc_ValueError, "cannot encode the value: %s", puff_err_text(rc));
    return -1;
}

static int put(puff_buf *out, const char *data, size_t len) {
    int rc = puff_buf_append(out, data, len);
    if (rc == PUFF_ELIMIT) PyErr_SetString(PyExc_ValueError, "the value is longer than 1 GiB");
    if (rc == PUFF_ENOMEM) PyErr_NoMemory();
    return rc ? -1 : 0;
}

/* Takes s (new reference or NULL) and appends its UTF-8. */
static int put_str(puff_buf *out, PyObject *s) {
    Py_ssize_t len;
    const char *utf8 = s ? PyUnicode_AsUTF8AndSize(s, &len) : NULL;
    int rc = utf8 ? put(out, utf8, (size_t)len) : -1;
    Py_XDECREF(s);
    return rc;
}

/* ---- one value as text ---- */

static int text_bool(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (!PyBool_Check(v)) return wrong_type(type, "a bool", v);
    return put(out, v == Py_True ? "t" : "f", 1);
}

static int text_int(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (!PyIndex_Check(v)) return wrong_type(type, "an int", v);
    PyObject *n = PyNumber_Index(v); /* new */
    PyObject *s = n ? PyObject_Str(n) : NULL;
    Py_XDECREF(n);
    return put_str(out, s);
}

/* -1 with an exception: the value's own where its __float__ raised, ours where it has none. */
static int read_float(const puff_pg_type *type, PyObject *v, double *d) {
    *d = PyFloat_AsDouble(v);
    if (*d != -1 || !PyErr_Occurred()) return 0;
    if (PyErr_ExceptionMatches(PyExc_TypeError)) {
        PyErr_Clear();
        return wrong_type(type, "a float", v);
    }
    return -1;
}

static int text_float(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    double d;
    if (read_float(type, v, &d) < 0) return -1;
    char *s = PyOS_double_to_string(d, 'r', 0, 0, NULL);
    if (!s) return -1;
    int rc = put(out, s, strlen(s));
    PyMem_Free(s);
    return rc;
}

static int text_numeric(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    int is_decimal = PyObject_IsInstance(v, Decimal);
    if (is_decimal < 0) return -1;
    if (PyIndex_Check(v)) return text_int(out, type, v); /* str() of an enum's member is its name */
    if (!is_decimal && !PyFloat_Check(v))
        return wrong_type(type, "a Decimal, an int or a float", v);
    return put_str(out, PyObject_Str(v));
}

static int get_bytes(const puff_pg_type *type, PyObject *v, Py_buffer *view) {
    if (!PyObject_CheckBuffer(v)) return wrong_type(type, "bytes", v);
    return PyObject_GetBuffer(v, view, PyBUF_SIMPLE); /* says itself that it is not contiguous */
}

static int text_bytea(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    static const char hex[] = "0123456789abcdef";
    Py_buffer view;
    if (get_bytes(type, v, &view) < 0) return -1;
    int rc = put(out, "\\x", 2);
    for (Py_ssize_t i = 0; rc == 0 && i < view.len; i++) {
        unsigned char c = ((unsigned char *)view.buf)[i];
        rc = put(out, (char[]){hex[c >> 4], hex[c & 15]}, 2);
    }
    PyBuffer_Release(&view);
    return rc;
}

static int text_uuid(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    int is_uuid = PyObject_IsInstance(v, UUID);
    if (is_uuid < 0) return -1;
    if (!is_uuid) return wrong_type(type, "a uuid.UUID or a str", v);
    return put_str(out, PyObject_Str(v));
}

static int put_iso(puff_buf *out, PyObject *v) {
    return put_str(out, PyObject_CallMethodNoArgs(v, isoformat));
}

static int text_date(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (PyDateTime_Check(v) || !PyDate_Check(v)) return wrong_type(type, "a datetime.date", v);
    return put_iso(out, v);
}

/* An aware value in a type without a zone, or the other way round, would silently shift. */
static int check_zone(const puff_pg_type *type, PyObject *tzinfo, int wants) {
    if ((tzinfo != Py_None) == wants) return 0;
    PyErr_Format(PyExc_ValueError,
                 wants
                     ? "%s takes a value with tzinfo: say which zone it is in"
                     : "%s has no time zone: take tzinfo away from the value, or use its -tz type",
                 type->name);
    return -1;
}

static int put_zoned(puff_buf *out, const puff_pg_type *type, PyObject *v, int wants) {
    PyObject *tzinfo = PyObject_GetAttrString(v, "tzinfo"); /* new */
    int rc = tzinfo ? check_zone(type, tzinfo, wants) : -1;
    Py_XDECREF(tzinfo);
    return rc == 0 ? put_iso(out, v) : -1;
}

static int text_time(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (!PyTime_Check(v)) return wrong_type(type, "a datetime.time", v);
    return put_zoned(out, type, v, type->kind == PUFF_PG_TIMETZ);
}

static int text_timestamp(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (!PyDateTime_Check(v)) return wrong_type(type, "a datetime.datetime", v);
    return put_zoned(out, type, v, type->kind == PUFF_PG_TIMESTAMPTZ);
}

static int text_interval(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (!PyDelta_Check(v)) return wrong_type(type, "a datetime.timedelta", v);
    return put_str(out, PyUnicode_FromFormat(
                            "%d days %d seconds %d microseconds", PyDateTime_DELTA_GET_DAYS(v),
                            PyDateTime_DELTA_GET_SECONDS(v), PyDateTime_DELTA_GET_MICROSECONDS(v)));
}

/* bytes are JSON already, anything else is encoded: what fetch gives back can be sent again. */
static int text_json(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    PyObject *json =
        PyBytes_Check(v) ? Py_NewRef(v) : PyObject_CallOneArg(json_encode, v); /* new */
    if (!json) return -1;
    int rc = put(out, PyBytes_AS_STRING(json), (size_t)PyBytes_GET_SIZE(json));
    Py_DECREF(json);
    return rc;
}

static int text_other(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    return wrong_type(type, "a str", v);
}

/* Within an array literal every element is quoted: then only '"' and '\' mean something. */
static int put_quoted(puff_buf *out, const char *s, size_t len) {
    if (put(out, "\"", 1) < 0) return -1;
    for (size_t i = 0, run; i < len; i += run) {
        for (run = 0; i + run < len && s[i + run] != '"' && s[i + run] != '\\'; run++) continue;
        if (run == 0) {
            run = 1;
            if (put(out, "\\", 1) < 0) return -1;
        }
        if (put(out, s + i, run) < 0) return -1;
    }
    return put(out, "\"", 1);
}

static int put_element(puff_buf *out, const puff_pg_type *elem, PyObject *v) {
    puff_buf text;
    puff_buf_init(&text, out->alloc, out->max);
    int rc = put_text(&text, elem, v);
    if (rc == 0) rc = put_quoted(out, text.data, text.len);
    puff_buf_deinit(&text);
    return rc;
}

static int put_list(puff_buf *out, const puff_pg_type *elem, PyObject *v) {
    if (Py_EnterRecursiveCall(" in an array parameter")) return -1;
    int rc = put(out, "{", 1);
    /* By index and size afresh: encoding an element may run Python that changes the list. */
    for (Py_ssize_t i = 0; rc == 0 && i < PySequence_Fast_GET_SIZE(v); i++) {
        PyObject *item = Py_NewRef(PySequence_Fast_GET_ITEM(v, i));
        if (i > 0) rc = put(out, ",", 1);
        if (rc == 0 && item == Py_None)
            rc = put(out, "NULL", 4);
        else if (rc == 0 && (PyList_Check(item) || PyTuple_Check(item)))
            rc = put_list(out, elem, item);
        else if (rc == 0 && PyLong_CheckExact(item) && elem->kind >= PUFF_PG_INT2 &&
                 elem->kind <= PUFF_PG_INT8)
            rc = text_int(out, elem, item); /* the common case needs no quotes */
        else if (rc == 0)
            rc = put_element(out, elem, item);
        Py_DECREF(item);
    }
    Py_LeaveRecursiveCall();
    return rc == 0 ? put(out, "}", 1) : -1;
}

static int text_array(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    const puff_pg_type *elem = puff_pg_type_by_oid(type->elem_oid);
    if (!elem || !(PyList_Check(v) || PyTuple_Check(v)))
        return wrong_type(type, "a list or a tuple", v);
    return put_list(out, elem, v);
}

/* A str is what stands between quotes in SQL; but JSON encodes it, as it encodes every value. */
static int put_text(puff_buf *out, const puff_pg_type *type, PyObject *v) {
    if (PyUnicode_Check(v) && type->kind != PUFF_PG_JSON && type->kind != PUFF_PG_JSONB)
        return put_str(out, Py_NewRef(v));
    switch (type->kind) {
    case PUFF_PG_BOOL: return text_bool(out, type, v);
    case PUFF_PG_INT2:
    case PUFF_PG_INT4:
    case PUFF_PG_INT8:
    case PUFF_PG_UINT4:
    case PUFF_PG_UINT8: return text_int(out, type, v);
    case PUFF_PG_FLOAT4:
    case PUFF_PG_FLOAT8: return text_float(out, type, v);
    case PUFF_PG_NUMERIC:
    case PUFF_PG_MONEY: return text_numeric(out, type, v);
    case PUFF_PG_CHAR:
    case PUFF_PG_BYTEA: return text_bytea(out, type, v);
    case PUFF_PG_UUID: return text_uuid(out, type, v);
    case PUFF_PG_DATE: return text_date(out, type, v);
    case PUFF_PG_TIME:
    case PUFF_PG_TIMETZ: return text_time(out, type, v);
    case PUFF_PG_TIMESTAMP:
    case PUFF_PG_TIMESTAMPTZ: return text_timestamp(out, type, v);
    case PUFF_PG_INTERVAL: return text_interval(out, type, v);
    case PUFF_PG_JSON:
    case PUFF_PG_JSONB: return text_json(out, type, v);
    case PUFF_PG_ARRAY: return text_array(out, type, v);
    default: return text_other(out, type, v);
    }
}

/* ---- parameters ---- */

/* libpq takes text as a C string: what follows a NUL would be lost without a word. */
static int check_no_nul(const char *text, size_t len) {
    if (len == 0 || !memchr(text, '\0', len)) return 0;
    PyErr_SetString(PyExc_ValueError, "Postgres has no NUL character in text");
    return -1;
}

static int param_text(puff_pg_params *params, int i, const puff_pg_type *type, PyObject *v) {
    puff_buf out;
    puff_buf_init(&out, &puff_alloc_system, (size_t)1 << 30);
    int rc = put_text(&out, type, v);
    if (rc == 0) rc = check_no_nul(out.data, out.len);
    if (rc == 0)
        rc = from_core(puff_pg_params_copy(params, i, out.data ? out.data : "", out.len, 0), type);
    puff_buf_deinit(&out);
    return rc;
}

static int param_str(puff_pg_params *params, int i, const puff_pg_type *type, PyObject *v) {
    Py_ssize_t len;
    const char *utf8 = PyUnicode_AsUTF8AndSize(v, &len); /* kept by v */
    if (!utf8 || check_no_nul(utf8, (size_t)len) < 0) return -1;
    return from_core(puff_pg_params_ref(params, i, utf8, (size_t)len, 0), type);
}

static int param_int(puff_pg_params *params, int i, const puff_pg_type *type, PyObject *v) {
    if (!PyIndex_Check(v)) return wrong_type(type, "an int", v);
    PyObject *n = PyNumber_Index(v); /* new */
    if (!n) return -1;
    int overflow;
    long long value = PyLong_AsLongLongAndOverflow(n, &overflow);
    Py_DECREF(n);
    if (overflow) return from_core(PUFF_ELIMIT, type);
    if (value == -1 && PyErr_Occurred()) return -1;
    return from_core(puff_pg_params_integer(params, i, value), type);
}

static int param_float(puff_pg_params *params, int i, const puff_pg_type *type, PyObject *v) {
    double d;
    if (read_float(type, v, &d) < 0) return -1;
    return from_core(type->kind == PUFF_PG_FLOAT4 ? puff_pg_params_float4(params, i, (float)d)
                                                  : puff_pg_params_float8(params, i, d),
                     type);
}

static int param_bytea(puff_pg_params *params, int i, const puff_pg_type *type, PyObject *v) {
    if (PyBytes_Check(v))
        return from_core(
            puff_pg_params_ref(params, i, PyBytes_AS_STRING(v), (size_t)PyBytes_GET_SIZE(v), 1),
            type);
    Py_buffer view; /* anything else may change before it is sent */
    if (get_bytes(type, v, &view) < 0) return -1;
    int rc = puff_pg_params_copy(params, i, view.buf, (size_t)view.len, 1);
    PyBuffer_Release(&view);
    return from_core(rc, type);
}

int puff_value_encode(puff_pg_params *params, int i, uint32_t oid, PyObject *v) {
    static const puff_pg_type users = {.kind = PUFF_PG_UNKNOWN, .name = "a user-defined type"};
    const puff_pg_type *type = puff_pg_type_by_oid(oid);
    if (!type) type = &users;
    if (v == Py_None) return from_core(puff_pg_params_null(params, i), type);
    if (PyUnicode_Check(v) && type->kind != PUFF_PG_JSON && type->kind != PUFF_PG_JSONB)
        return param_str(params, i, type, v);
    switch (type->kind) {
    case PUFF_PG_BOOL:
        if (!PyBool_Check(v)) return wrong_type(type, "a bool", v);
        return from_core(puff_pg_params_bool(params, i, v == Py_True), type);
    case PUFF_PG_INT2:
    case PUFF_PG_INT4:
    case PUFF_PG_INT8:
    case PUFF_PG_UINT4: return param_int(params, i, type, v);
    case PUFF_PG_FLOAT4:
    case PUFF_PG_FLOAT8: return param_float(params, i, type, v);
    case PUFF_PG_BYTEA: return param_bytea(params, i, type, v);
    default: return param_text(params, i, type, v);
    }
}

/* ---- set-up ---- */

int puff_value_setup(void) {
    PyDateTime_IMPORT;
    Decimal = puff_import_attr("decimal", "Decimal");
    UUID = puff_import_attr("uuid", "UUID");
    json_encode = puff_import_attr("puff.json", "dumps");
    isoformat = PyUnicode_InternFromString("isoformat");
    return PyDateTimeAPI && Decimal && UUID && json_encode && isoformat ? 0 : -1;
}
