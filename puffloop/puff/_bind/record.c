/* record.c - a row of a result: a tuple that also knows its columns' names.
 *
 *   Record -> layout (shared by all rows of a statement) -> names, index
 *          -> items[n]
 *
 * Behaves like a tuple (index, slice, iteration, equality, hash) and reads like a mapping (r["id"],
 * keys(), values(), items(), get()), so that dict(r) works. Immutable. Small freelists by width, as
 * tuples have: rows come and go by the thousand.
 */
#include "record.h"

enum { MAX_WIDTH = 16, MAX_FREE = 512 };

/* Under the GIL; a free-threaded build would need one per thread. */
static puff_record *free_records[MAX_WIDTH + 1];
static int n_free[MAX_WIDTH + 1];

static PyTypeObject layout_type;
static PyTypeObject record_type;
static PyTypeObject iter_type;

/* ---- layout ---- */

static void layout_dealloc(puff_row_layout *self) {
    Py_XDECREF(self->names);
    Py_XDECREF(self->index);
    PyObject_Free(self);
}

static PyTypeObject layout_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.postgres.RowLayout",
    .tp_basicsize = sizeof(puff_row_layout),
    .tp_dealloc = (destructor)layout_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = "The column names that the rows of one statement share.",
};

PyObject *puff_row_layout_new(PyObject *names) {
    puff_row_layout *self = PyObject_New(puff_row_layout, &layout_type);
    if (!self) return NULL;
    Py_INCREF(names);
    self->names = names;
    self->index = PyDict_New();
    if (!self->index) goto fail;
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(names); i++) {
        PyObject *at = PyLong_FromSsize_t(i); /* new */
        int rc = at ? PyDict_SetItem(self->index, PyTuple_GET_ITEM(names, i), at) : -1;
        Py_XDECREF(at);
        if (rc < 0) goto fail;
    }
    return (PyObject *)self;
fail:
    Py_DECREF(self);
    return NULL;
}

/* ---- record ---- */

puff_record *puff_record_new(puff_row_layout *layout) {
    Py_ssize_t n = PyTuple_GET_SIZE(layout->names);
    puff_record *self;
    if (n <= MAX_WIDTH && free_records[n]) {
        self = free_records[n];
        free_records[n] = (puff_record *)self->layout;
        n_free[n]--;
        self->layout = NULL;
        _Py_NewReference((PyObject *)self);
    } else {
        self = PyObject_GC_NewVar(puff_record, &record_type, n);
        if (!self) return NULL;
    }
    Py_INCREF(layout);
    self->layout = layout;
    for (Py_ssize_t i = 0; i < n; i++) self->items[i] = NULL;
    return self;
}

PyObject *puff_record_from_list(puff_row_layout *layout, PyObject *values) {
    puff_record *self = puff_record_new(layout);
    if (!self) return NULL;
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++)
        self->items[i] = Py_NewRef(PyList_GET_ITEM(values, i));
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static void record_dealloc(puff_record *self) {
    Py_ssize_t n = Py_SIZE(self);
    PyObject_GC_UnTrack(self);
    Py_TRASHCAN_BEGIN(self, record_dealloc);
    for (Py_ssize_t i = 0; i < n; i++) Py_XDECREF(self->items[i]);
    Py_DECREF(self->layout);
    if (n <= MAX_WIDTH && n_free[n] < MAX_FREE) {
        self->layout = (puff_row_layout *)free_records[n]; /* the freelist's link */
        free_records[n] = self;
        n_free[n]++;
    } else {
        PyObject_GC_Del(self);
    }
    Py_TRASHCAN_END;
}

static int record_traverse(puff_record *self, visitproc visit, void *arg) {
    for (Py_ssize_t i = 0; i < Py_SIZE(self); i++) Py_VISIT(self->items[i]);
    return 0;
}

static Py_ssize_t record_length(puff_record *self) { return Py_SIZE(self); }

static PyObject *record_item(puff_record *self, Py_ssize_t i) {
    if (i < 0 || i >= Py_SIZE(self)) {
        PyErr_SetString(PyExc_IndexError, "record index out of range");
        return NULL;
    }
    Py_INCREF(self->items[i]);
    return self->items[i];
}

static PyObject *as_tuple(puff_record *self) {
    PyObject *t = PyTuple_New(Py_SIZE(self));
    for (Py_ssize_t i = 0; t && i < Py_SIZE(self); i++) {
        Py_INCREF(self->items[i]);
        PyTuple_SET_ITEM(t, i, self->items[i]);
    }
    return t;
}

static PyObject *by_slice(puff_record *self, PyObject *slice) {
    PyObject *t = as_tuple(self); /* new */
    if (!t) return NULL;
    PyObject *result = PyObject_GetItem(t, slice);
    Py_DECREF(t);
    return result;
}

/* Borrowed; NULL without an exception when there is no such column. */
static PyObject *by_name(puff_record *self, PyObject *name) {
    PyObject *at = PyDict_GetItemWithError(self->layout->index, name); /* borrowed */
    return at ? self->items[PyLong_AsSsize_t(at)] : NULL;
}

static PyObject *record_subscript(puff_record *self, PyObject *key) {
    if (PyUnicode_Check(key)) {
        PyObject *v = by_name(self, key); /* borrowed */
        if (!v && !PyErr_Occurred()) PyErr_SetObject(PyExc_KeyError, key);
        Py_XINCREF(v);
        return v;
    }
    if (PySlice_Check(key)) return by_slice(self, key);
    Py_ssize_t i = PyNumber_AsSsize_t(key, PyExc_IndexError);
    if (i == -1 && PyErr_Occurred()) return NULL;
    return record_item(self, i < 0 ? i + Py_SIZE(self) : i);
}

static int record_contains(puff_record *self, PyObject *name) {
    return PyDict_Contains(self->layout->index, name);
}

static PyObject *record_get(puff_record *self, PyObject *args) {
    PyObject *name, *fallback = Py_None;
    if (!PyArg_ParseTuple(args, "O|O:get", &name, &fallback)) return NULL;
    PyObject *v = by_name(self, name); /* borrowed */
    if (!v && PyErr_Occurred()) return NULL;
    v = v ? v : fallback;
    Py_INCREF(v);
    return v;
}

static PyObject *record_keys(puff_record *self, PyObject *unused) {
    Py_INCREF(self->layout->names);
    return self->layout->names;
}

static PyObject *record_values(puff_record *self, PyObject *unused) { return as_tuple(self); }

static PyObject *record_items(puff_record *self, PyObject *unused) {
    PyObject *list = PyList_New(Py_SIZE(self));
    for (Py_ssize_t i = 0; list && i < Py_SIZE(self); i++) {
        PyObject *pair = PyTuple_Pack(2, PyTuple_GET_ITEM(self->layout->names, i), self->items[i]);
        if (pair)
            PyList_SET_ITEM(list, i, pair);
        else
            Py_CLEAR(list);
    }
    return list;
}

static PyObject *record_repr(puff_record *self) {
    PyObject *items = record_items(self, NULL);   /* new */
    PyObject *dict = items ? PyDict_New() : NULL; /* new */
    PyObject *repr = NULL;
    if (dict && PyDict_MergeFromSeq2(dict, items, 1) == 0)
        repr = PyUnicode_FromFormat("<Record %R>", dict);
    Py_XDECREF(items);
    Py_XDECREF(dict);
    return repr;
}

static Py_hash_t record_hash(puff_record *self) {
    PyObject *t = as_tuple(self); /* new */
    Py_hash_t h = t ? PyObject_Hash(t) : -1;
    Py_XDECREF(t);
    return h;
}

static PyObject *record_richcompare(PyObject *a, PyObject *b, int op) {
    PyObject *ta = Py_TYPE(a) == &record_type ? as_tuple((puff_record *)a) : Py_NewRef(a); /* new */
    PyObject *tb = Py_TYPE(b) == &record_type ? as_tuple((puff_record *)b) : Py_NewRef(b); /* new */
    PyObject *result = NULL;
    if (ta && tb) {
        if (PyTuple_Check(ta) && PyTuple_Check(tb))
            result = PyObject_RichCompare(ta, tb, op);
        else
            result = Py_NewRef(Py_NotImplemented);
    }
    Py_XDECREF(ta);
    Py_XDECREF(tb);
    return result;
}

static PyMethodDef record_methods[] = {
    {"get", (PyCFunction)record_get, METH_VARARGS,
     "get(name, default=None)\n\nThe value of the column `name`, or `default` where there is "
     "none."},
    {"keys", (PyCFunction)record_keys, METH_NOARGS, "The column names, a tuple."},
    {"values", (PyCFunction)record_values, METH_NOARGS, "The values, a tuple."},
    {"items", (PyCFunction)record_items, METH_NOARGS, "A list of (name, value)."},
    {NULL, NULL, 0, NULL},
};

static PySequenceMethods record_as_sequence = {
    .sq_length = (lenfunc)record_length,
    .sq_item = (ssizeargfunc)record_item,
    .sq_contains = (objobjproc)record_contains,
};

static PyMappingMethods record_as_mapping = {
    .mp_length = (lenfunc)record_length,
    .mp_subscript = (binaryfunc)record_subscript,
};

/* Iterates over the values, as a tuple does; `in` asks for names, as a mapping does. */
typedef struct record_iter {
    PyObject_HEAD
    puff_record *record; /* owned; NULL at the end */
    Py_ssize_t next;
} record_iter;

static PyObject *record_get_iter(puff_record *self) {
    record_iter *it = PyObject_New(record_iter, &iter_type);
    if (!it) return NULL;
    Py_INCREF(self);
    it->record = self;
    it->next = 0;
    return (PyObject *)it;
}

static void iter_dealloc(record_iter *it) {
    Py_XDECREF(it->record);
    PyObject_Free(it);
}

static PyObject *iter_next(record_iter *it) {
    if (!it->record) return NULL;
    if (it->next < Py_SIZE(it->record)) return Py_NewRef(it->record->items[it->next++]);
    Py_CLEAR(it->record);
    return NULL;
}

static PyTypeObject iter_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.postgres.RecordIterator",
    .tp_basicsize = sizeof(record_iter),
    .tp_dealloc = (destructor)iter_dealloc,
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_iter = PyObject_SelfIter,
    .tp_iternext = (iternextfunc)iter_next,
};

static PyTypeObject record_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff.postgres.Record",
    .tp_basicsize = sizeof(puff_record),
    .tp_itemsize = sizeof(PyObject *),
    .tp_dealloc = (destructor)record_dealloc,
    .tp_traverse = (traverseproc)record_traverse,
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .tp_doc = "A row: a tuple of values that also reads by column name.",
    .tp_repr = (reprfunc)record_repr,
    .tp_hash = (hashfunc)record_hash,
    .tp_richcompare = record_richcompare,
    .tp_iter = (getiterfunc)record_get_iter,
    .tp_methods = record_methods,
    .tp_as_sequence = &record_as_sequence,
    .tp_as_mapping = &record_as_mapping,
};

int puff_record_setup(void) {
    if (PyType_Ready(&layout_type) < 0 || PyType_Ready(&iter_type) < 0) return -1;
    return PyType_Ready(&record_type);
}

PyObject *puff_record_type(void) { return (PyObject *)&record_type; }
