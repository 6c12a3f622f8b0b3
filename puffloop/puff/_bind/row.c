/* row.c - Postgres values in binary format to Python objects.
 *
 * The layouts are those of the server's *_send functions (src/backend/utils/adt). Integers are in
 * network order; dates count from 2000-01-01, times in microseconds. A value that Python cannot
 * hold (a year beyond 9999) is a ValueError, not a wrong value; the infinities are the ends of
 * Python's range, as in asyncpg.
 */
#include "row.h"

#include <datetime.h>
#include <string.h>

#include "import_attr.h"

static PyObject *Decimal, *UUID, *safe_unknown, *json_decode;                           /* owned */
static PyObject *date_min, *date_max, *datetime_min, *datetime_max, *utc_min, *utc_max; /* owned */
static PyObject *str_int, *str_is_safe;                                                 /* owned */

typedef PyObject *(*decoder)(const char *p, int32_t len, uint32_t oid);

static PyObject *bad(const char *what) {
    PyErr_Format(PyExc_ValueError, "the server sent a malformed %s", what);
    return NULL;
}

#define NEED(n, what) \
    if (len != (n)) return bad(what)

/* ---- numbers ---- */

static PyObject *get_bool(const char *p, int32_t len, uint32_t oid) {
    NEED(1, "bool");
    return PyBool_FromLong(*p);
}

static PyObject *get_int2(const char *p, int32_t len, uint32_t oid) {
    NEED(2, "int2");
    return PyLong_FromLong(puff_pg_get_int2(p));
}

static PyObject *get_int4(const char *p, int32_t len, uint32_t oid) {
    NEED(4, "int4");
    return PyLong_FromLong(puff_pg_get_int4(p));
}

static PyObject *get_int8(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "int8");
    return PyLong_FromLongLong(puff_pg_get_int8(p));
}

static PyObject *get_uint4(const char *p, int32_t len, uint32_t oid) {
    NEED(4, "oid");
    return PyLong_FromUnsignedLong((uint32_t)puff_pg_get_int4(p));
}

static PyObject *get_uint8(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "xid8");
    return PyLong_FromUnsignedLongLong((uint64_t)puff_pg_get_int8(p));
}

static PyObject *get_float4(const char *p, int32_t len, uint32_t oid) {
    NEED(4, "float4");
    return PyFloat_FromDouble(puff_pg_get_float4(p));
}

static PyObject *get_float8(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "float8");
    return PyFloat_FromDouble(puff_pg_get_float8(p));
}

/* numeric: ndigits, weight, sign, dscale, then base-10000 digits; value = sum d[i] *
 * 10000^(weight-i). */
enum { NUM_NEG = 0x4000, NUM_NAN = 0xC000, NUM_PINF = 0xD000, NUM_NINF = 0xF000 };

static PyObject *decimal_of(const char *text) { return PyObject_CallFunction(Decimal, "s", text); }

static char *put_group(char *out, unsigned digit, int first) {
    char four[5];
    snprintf(four, sizeof four, "%04u", digit % 10000);
    const char *from = four;
    if (first)
        while (from[0] == '0' && from[1]) from++;
    while (*from) *out++ = *from++;
    return out;
}

static PyObject *get_numeric(const char *p, int32_t len, uint32_t oid) {
    if (len < 8) return bad("numeric");
    int n = puff_pg_get_int2(p), weight = puff_pg_get_int2(p + 2);
    unsigned sign = (uint16_t)puff_pg_get_int2(p + 4), dscale = (uint16_t)puff_pg_get_int2(p + 6);
    if (sign == NUM_NAN) return decimal_of("NaN");
    if (sign == NUM_PINF) return decimal_of("Infinity");
    if (sign == NUM_NINF) return decimal_of("-Infinity");
    if ((sign != 0 && sign != NUM_NEG) || n < 0 || len != 8 + 2 * n || dscale > 16383)
        return bad("numeric");
    size_t cap = 16 + 4 * ((size_t)(weight > 0 ? weight : 0) + 2) + dscale + 8;
    char *text = PyMem_Malloc(cap), *out = text;
    if (!text) return PyErr_NoMemory();
    if (sign == NUM_NEG) *out++ = '-';
    if (weight < 0) *out++ = '0';
    for (int i = 0; i <= weight; i++)
        out = put_group(out, i < n ? (uint16_t)puff_pg_get_int2(p + 8 + 2 * i) : 0, i == 0);
    if (dscale > 0) {
        *out++ = '.';
        char *end = out + dscale;
        for (int i = weight + 1; out < end; i++) /* groups before the first digit are zeros */
            out =
                put_group(out, i >= 0 && i < n ? (uint16_t)puff_pg_get_int2(p + 8 + 2 * i) : 0, 0);
        out = end; /* the last group may say more than the scale shows */
    }
    *out = '\0';
    PyObject *result = decimal_of(text);
    PyMem_Free(text);
    return result;
}

/* ---- text and bytes ---- */

static PyObject *get_text(const char *p, int32_t len, uint32_t oid) {
    return PyUnicode_DecodeUTF8(p, len, NULL);
}

static PyObject *get_bytea(const char *p, int32_t len, uint32_t oid) {
    return PyBytes_FromStringAndSize(p, len);
}

static PyObject *get_json(const char *p, int32_t len, uint32_t oid) {
    PyObject *view = PyMemoryView_FromMemory((char *)p, len, PyBUF_READ); /* new */
    PyObject *value = view ? PyObject_CallOneArg(json_decode, view) : NULL;
    Py_XDECREF(view);
    return value;
}

static PyObject *get_jsonb(const char *p, int32_t len, uint32_t oid) {
    if (len < 1 || *p != 1) return bad("jsonb");
    return get_json(p + 1, len - 1, oid);
}

static PyObject *get_versioned_text(const char *p, int32_t len, uint32_t oid) {
    if (len < 1 || *p != 1) return bad("jsonpath");
    return get_text(p + 1, len - 1, oid);
}

/* A UUID without its __init__, which takes 1.2 us to check what we know. */
static PyObject *get_uuid(const char *p, int32_t len, uint32_t oid) {
    NEED(16, "uuid");
    PyObject *no_args = PyTuple_New(0); /* new */
    PyObject *self = no_args ? PyBaseObject_Type.tp_new((PyTypeObject *)UUID, no_args, NULL) : NULL;
    PyObject *high = PyLong_FromUnsignedLongLong((uint64_t)puff_pg_get_int8(p));    /* new */
    PyObject *low = PyLong_FromUnsignedLongLong((uint64_t)puff_pg_get_int8(p + 8)); /* new */
    PyObject *by = PyLong_FromLong(64);                                             /* new */
    PyObject *shifted = high && by ? PyNumber_Lshift(high, by) : NULL;              /* new */
    PyObject *value = shifted && low ? PyNumber_Or(shifted, low) : NULL;            /* new */
    if (!self || !value || PyObject_GenericSetAttr(self, str_int, value) < 0 ||
        PyObject_GenericSetAttr(self, str_is_safe, safe_unknown) < 0)
        Py_CLEAR(self);
    Py_XDECREF(no_args);
    Py_XDECREF(high);
    Py_XDECREF(low);
    Py_XDECREF(by);
    Py_XDECREF(shifted);
    Py_XDECREF(value);
    return self;
}

/* ---- time ---- */

#define USECS_PER_SEC INT64_C(1000000)
#define USECS_PER_DAY (86400 * USECS_PER_SEC)
enum {
    EPOCH_DAYS = 730120 /* 2000-01-01 as a proleptic ordinal with 0001-01-01 = 1 */,
    MAX_DAYS = 3652059
};

/* Ordinal to civil date; the algorithm of Howard Hinnant's "chrono-compatible low-level date
 * algorithms". */
static int civil(int64_t ordinal, int *year, int *month, int *day) {
    if (ordinal < 1 || ordinal > MAX_DAYS) {
        PyErr_SetString(PyExc_ValueError, "a date outside the years 1 to 9999: cast it to text");
        return -1;
    }
    int64_t z = ordinal + 305; /* days since 0000-03-01 */
    int64_t era = z / 146097, doe = z - era * 146097;
    int64_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    int64_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100), mp = (5 * doy + 2) / 153;
    *day = (int)(doy - (153 * mp + 2) / 5 + 1);
    *month = (int)(mp < 10 ? mp + 3 : mp - 9);
    *year = (int)(yoe + era * 400 + (*month <= 2));
    return 0;
}

typedef struct clock_time {
    int hour, minute, second, usec;
} clock_time;

static clock_time split(int64_t usecs) {
    int64_t s = usecs / USECS_PER_SEC;
    return (clock_time){(int)(s / 3600), (int)(s / 60 % 60), (int)(s % 60),
                        (int)(usecs % USECS_PER_SEC)};
}

static PyObject *get_date(const char *p, int32_t len, uint32_t oid) {
    NEED(4, "date");
    int32_t days = puff_pg_get_int4(p);
    int year, month, day;
    if (days == INT32_MAX) return Py_NewRef(date_max);
    if (days == INT32_MIN) return Py_NewRef(date_min);
    if (civil((int64_t)days + EPOCH_DAYS, &year, &month, &day) < 0) return NULL;
    return PyDate_FromDate(year, month, day);
}

static PyObject *time_of(int64_t usecs, PyObject *tz) {
    if (usecs < 0 || usecs > USECS_PER_DAY) return bad("time");
    if (usecs == USECS_PER_DAY) usecs = 0; /* 24:00:00, which Python has not */
    clock_time t = split(usecs);
    return PyDateTimeAPI->Time_FromTime(t.hour, t.minute, t.second, t.usec, tz,
                                        PyDateTimeAPI->TimeType);
}

static PyObject *get_time(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "time");
    return time_of(puff_pg_get_int8(p), Py_None);
}

static PyObject *get_timetz(const char *p, int32_t len, uint32_t oid) {
    NEED(12, "timetz");
    int32_t west = puff_pg_get_int4(p + 8); /* seconds */
    if (west <= -86400 || west >= 86400) return bad("timetz");
    PyObject *offset = PyDelta_FromDSU(0, -west, 0);              /* new */
    PyObject *tz = offset ? PyTimeZone_FromOffset(offset) : NULL; /* new */
    PyObject *result = tz ? time_of(puff_pg_get_int8(p), tz) : NULL;
    Py_XDECREF(offset);
    Py_XDECREF(tz);
    return result;
}

static PyObject *datetime_of(const char *p, PyObject *tz, PyObject *least, PyObject *most) {
    int64_t usecs = puff_pg_get_int8(p);
    if (usecs == INT64_MAX) return Py_NewRef(most);
    if (usecs == INT64_MIN) return Py_NewRef(least);
    int64_t days = usecs / USECS_PER_DAY, rest = usecs % USECS_PER_DAY;
    if (rest < 0) {
        rest += USECS_PER_DAY;
        days--;
    }
    int year, month, day;
    if (civil(days + EPOCH_DAYS, &year, &month, &day) < 0) return NULL;
    clock_time t = split(rest);
    return PyDateTimeAPI->DateTime_FromDateAndTime(year, month, day, t.hour, t.minute, t.second,
                                                   t.usec, tz, PyDateTimeAPI->DateTimeType);
}

static PyObject *get_timestamp(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "timestamp");
    return datetime_of(p, Py_None, datetime_min, datetime_max);
}

static PyObject *get_timestamptz(const char *p, int32_t len, uint32_t oid) {
    NEED(8, "timestamptz");
    return datetime_of(p, PyDateTime_TimeZone_UTC, utc_min, utc_max);
}

/* Months have no length of their own: a year is 365 days and a month 30, as in asyncpg and psycopg.
 */
static PyObject *get_interval(const char *p, int32_t len, uint32_t oid) {
    NEED(16, "interval");
    int64_t usecs = puff_pg_get_int8(p), months = puff_pg_get_int4(p + 12);
    int64_t days = puff_pg_get_int4(p + 8) + months / 12 * 365 + months % 12 * 30;
    days += usecs / USECS_PER_DAY;
    usecs %= USECS_PER_DAY;
    if (days > 999999999 || days < -999999999) {
        PyErr_SetString(PyExc_ValueError,
                        "an interval that timedelta cannot hold: cast it to text");
        return NULL;
    }
    return PyDelta_FromDSU((int)days, (int)(usecs / USECS_PER_SEC), (int)(usecs % USECS_PER_SEC));
}

static PyObject *get_void(const char *p, int32_t len, uint32_t oid) { Py_RETURN_NONE; }

/* ---- arrays ---- */

/* int32 ndim, hasnull, element oid, then {dim, lower bound} each, then {len, bytes} in row-major
 * order. */
typedef struct array_reader {
    const char *p, *end;
    uint32_t elem_oid;
    decoder decode;
    int ndim;
    const char *dims;
} array_reader;

enum { MAX_DIMS = 6 }; /* the server's MAXDIM */

static PyObject *read_element(array_reader *r) {
    if (r->end - r->p < 4) return bad("array");
    int32_t len = puff_pg_get_int4(r->p);
    r->p += 4;
    if (len == -1) Py_RETURN_NONE;
    if (len < 0 || len > r->end - r->p) return bad("array");
    const char *at = r->p;
    r->p += len;
    return r->decode(at, len, r->elem_oid);
}

/* How many elements the dimensions promise, or -1. An element takes 4 bytes at least: more than that
 * is a lie, not a reason to allocate. An empty array has no dimensions, or (an oidvector) one of
 * length 0: around such a one others could make lists without end, so 0 ends the count. */
static int64_t count_elements(const array_reader *r) {
    int64_t count = r->ndim > 0, most = (r->end - r->p) / 4;
    for (int dim = 0; dim < r->ndim && count > 0; dim++) {
        int32_t n = puff_pg_get_int4(r->dims + 8 * dim);
        if (n < 0 || n > most / count) return -1;
        count *= n;
    }
    return count;
}

static PyObject *read_dim(array_reader *r, int dim) {
    int32_t n = puff_pg_get_int4(r->dims + 8 * dim);
    PyObject *list = PyList_New(n);
    for (int32_t i = 0; list && i < n; i++) {
        PyObject *v = dim + 1 < r->ndim ? read_dim(r, dim + 1) : read_element(r);
        if (v)
            PyList_SET_ITEM(list, i, v);
        else
            Py_CLEAR(list);
    }
    return list;
}

static decoder decoder_for(const puff_pg_type *type);

static PyObject *get_array(const char *p, int32_t len, uint32_t oid) {
    if (len < 12) return bad("array");
    array_reader r = {.ndim = puff_pg_get_int4(p), .elem_oid = (uint32_t)puff_pg_get_int4(p + 8)};
    const puff_pg_type *elem = puff_pg_type_by_oid(r.elem_oid);
    r.decode = elem ? decoder_for(elem) : NULL;
    if (!r.decode || r.decode == get_array || r.ndim < 0 || r.ndim > MAX_DIMS ||
        len < 12 + 8 * r.ndim)
        return bad("array");
    r.dims = p + 12;
    r.p = p + 12 + 8 * r.ndim;
    r.end = p + len;
    int64_t count = count_elements(&r);
    if (count < 0) return bad("array");
    PyObject *list = count == 0 ? PyList_New(0) : read_dim(&r, 0);
    if (!list || r.p == r.end) return list;
    Py_DECREF(list);
    return bad("array");
}

/* ---- the table ---- */

static decoder const decoders[] = {
    [PUFF_PG_VOID] = get_void,
    [PUFF_PG_BOOL] = get_bool,
    [PUFF_PG_CHAR] = get_bytea,
    [PUFF_PG_INT2] = get_int2,
    [PUFF_PG_INT4] = get_int4,
    [PUFF_PG_INT8] = get_int8,
    [PUFF_PG_UINT4] = get_uint4,
    [PUFF_PG_UINT8] = get_uint8,
    [PUFF_PG_FLOAT4] = get_float4,
    [PUFF_PG_FLOAT8] = get_float8,
    [PUFF_PG_NUMERIC] = get_numeric,
    [PUFF_PG_TEXT] = get_text,
    [PUFF_PG_BYTEA] = get_bytea,
    [PUFF_PG_UUID] = get_uuid,
    [PUFF_PG_DATE] = get_date,
    [PUFF_PG_TIME] = get_time,
    [PUFF_PG_TIMETZ] = get_timetz,
    [PUFF_PG_TIMESTAMP] = get_timestamp,
    [PUFF_PG_TIMESTAMPTZ] = get_timestamptz,
    [PUFF_PG_INTERVAL] = get_interval,
    [PUFF_PG_JSON] = get_json,
    [PUFF_PG_JSONB] = get_jsonb,
    [PUFF_PG_JSONPATH] = get_versioned_text,
    [PUFF_PG_ARRAY] = get_array,
    [PUFF_PG_TEXT_ONLY] = NULL,
};

static decoder decoder_for(const puff_pg_type *type) { return decoders[type->kind]; }

int puff_row_can_decode(uint32_t oid) {
    const puff_pg_type *type = puff_pg_type_by_oid(oid);
    if (!type || !decoder_for(type)) return 0;
    return type->kind != PUFF_PG_ARRAY || puff_row_can_decode(type->elem_oid);
}

PyObject *puff_row_value(uint32_t oid, puff_pg_cell cell) {
    if (cell.len < 0) Py_RETURN_NONE;
    const puff_pg_type *type = puff_pg_type_by_oid(oid);
    decoder decode = type ? decoder_for(type) : NULL;
    return decode ? decode(cell.ptr, cell.len, oid) : get_bytea(cell.ptr, cell.len, oid);
}

/* ---- rows ---- */

enum { MAX_COLUMNS = 1664 }; /* the server's limit of a target list */

typedef struct row_reader {
    int n_columns;
    decoder decode[MAX_COLUMNS];
    puff_pg_cell cells[MAX_COLUMNS];
} row_reader;

static int reader_init(row_reader *r, const puff_pg_result *res, const puff_pg_statement *st) {
    r->n_columns = puff_pg_result_n_columns(res);
    if (r->n_columns != st->n_columns || r->n_columns > MAX_COLUMNS) {
        PyErr_SetString(PyExc_ValueError, "the result has other columns than were described");
        return -1;
    }
    for (int i = 0; i < r->n_columns; i++) {
        const puff_pg_type *type = puff_pg_type_by_oid(st->columns[i].oid);
        r->decode[i] = type && decoder_for(type) ? decoder_for(type) : get_bytea;
    }
    return 0;
}

static PyObject *read_row(row_reader *r, const puff_pg_result *res, const puff_pg_statement *st,
                          puff_row_layout *layout, int row) {
    puff_record *rec = puff_record_new(layout);
    if (!rec) return NULL;
    int atoms = 1; /* nothing in it can be part of a cycle: the collector need not know it */
    puff_pg_result_row(res, row, r->cells);
    for (int i = 0; i < r->n_columns; i++) {
        puff_pg_cell c = r->cells[i];
        PyObject *v =
            c.len < 0 ? Py_NewRef(Py_None) : r->decode[i](c.ptr, c.len, st->columns[i].oid);
        if (!v) {
            Py_DECREF(rec);
            return NULL;
        }
        atoms &= !PyObject_IS_GC(v);
        rec->items[i] = v;
    }
    if (!atoms) PyObject_GC_Track(rec);
    return (PyObject *)rec;
}

PyObject *puff_row_list(const puff_pg_result *res, const puff_pg_statement *st,
                        puff_row_layout *layout) {
    int n = puff_pg_result_n_rows(res);
    row_reader *r = PyMem_Malloc(sizeof *r);
    if (!r) return PyErr_NoMemory();
    PyObject *list = reader_init(r, res, st) == 0 ? PyList_New(n) : NULL;
    for (int i = 0; list && i < n; i++) {
        PyObject *row = read_row(r, res, st, layout, i);
        if (row)
            PyList_SET_ITEM(list, i, row);
        else
            Py_CLEAR(list);
    }
    PyMem_Free(r);
    return list;
}

PyObject *puff_row_record(const puff_pg_result *res, const puff_pg_statement *st,
                          puff_row_layout *layout, int i) {
    row_reader *r = PyMem_Malloc(sizeof *r);
    if (!r) return PyErr_NoMemory();
    PyObject *row = reader_init(r, res, st) == 0 ? read_row(r, res, st, layout, i) : NULL;
    PyMem_Free(r);
    return row;
}

/* ---- set-up ---- */

static PyObject *in_utc(PyObject *naive) {
    return naive ? PyDateTimeAPI->DateTime_FromDateAndTime(
                       PyDateTime_GET_YEAR(naive), PyDateTime_GET_MONTH(naive),
                       PyDateTime_GET_DAY(naive), PyDateTime_DATE_GET_HOUR(naive),
                       PyDateTime_DATE_GET_MINUTE(naive), PyDateTime_DATE_GET_SECOND(naive),
                       PyDateTime_DATE_GET_MICROSECOND(naive), PyDateTime_TimeZone_UTC,
                       PyDateTimeAPI->DateTimeType)
                 : NULL;
}

int puff_row_setup(void) {
    PyDateTime_IMPORT;
    if (!PyDateTimeAPI) return -1;
    Decimal = puff_import_attr("decimal", "Decimal");
    UUID = puff_import_attr("uuid", "UUID");
    json_decode = puff_import_attr("puff.json", "decode_lent");
    PyObject *safe = puff_import_attr("uuid", "SafeUUID"); /* new */
    safe_unknown = safe ? PyObject_GetAttrString(safe, "unknown") : NULL;
    Py_XDECREF(safe);
    date_min = PyObject_GetAttrString((PyObject *)PyDateTimeAPI->DateType, "min");
    date_max = PyObject_GetAttrString((PyObject *)PyDateTimeAPI->DateType, "max");
    datetime_min = PyObject_GetAttrString((PyObject *)PyDateTimeAPI->DateTimeType, "min");
    datetime_max = PyObject_GetAttrString((PyObject *)PyDateTimeAPI->DateTimeType, "max");
    utc_min = in_utc(datetime_min);
    utc_max = in_utc(datetime_max);
    str_int = PyUnicode_InternFromString("int");
    str_is_safe = PyUnicode_InternFromString("is_safe");
    return Decimal && UUID && json_decode && safe_unknown && date_min && date_max && utc_min &&
                   utc_max && str_int && str_is_safe
               ? 0
               : -1;
}
