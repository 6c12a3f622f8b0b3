/* fields.c - see fields.h.
 *
 * Almost every app gives a list or tuple of pairs of bytes: those are read in place, and since that
 * runs no Python code nothing can change under us. Anything else is first copied into that form.
 */
#include "fields.h"

#include <stdbool.h>

static puff_str slice(PyObject *bytes) {
    return (puff_str){PyBytes_AS_STRING(bytes), (size_t)PyBytes_GET_SIZE(bytes)};
}

/* The pair's two objects when it is a plain pair of bytes. */
static bool is_plain(PyObject *pair, PyObject **name, PyObject **value) {
    PyObject **items;
    if (PyTuple_CheckExact(pair) && PyTuple_GET_SIZE(pair) == 2)
        items = &PyTuple_GET_ITEM(pair, 0);
    else if (PyList_CheckExact(pair) && PyList_GET_SIZE(pair) == 2)
        items = &PyList_GET_ITEM(pair, 0);
    else
        return false;
    *name = items[0];
    *value = items[1];
    return PyBytes_Check(*name) && PyBytes_Check(*value);
}

static int reserve(puff_fields *f, size_t n) {
    f->n = n;
    f->items = f->inline_items;
    if (n <= PUFF_FIELDS_INLINE) return 0;
    f->items = PyMem_New(puff_http_field, n);
    if (f->items) return 0;
    PyErr_NoMemory();
    return -1;
}

/* True when all pairs are plain: items is filled. source is a list or a tuple. */
static bool fill(puff_fields *f, PyObject *source) {
    PyObject **pairs = PySequence_Fast_ITEMS(source);
    for (size_t i = 0; i < f->n; i++) {
        PyObject *name, *value;
        if (!is_plain(pairs[i], &name, &value)) return false;
        f->items[i] = (puff_http_field){.name = slice(name), .value = slice(value)};
    }
    return true;
}

static PyObject *as_bytes(PyObject *o) {
    if (PyBytes_Check(o)) return Py_NewRef(o);
    if (PyByteArray_Check(o) || PyMemoryView_Check(o)) return PyBytes_FromObject(o);
    PyErr_Format(PyExc_TypeError, "header names and values are bytes, not %.200s",
                 Py_TYPE(o)->tp_name);
    return NULL;
}

static PyObject *plain_pair(PyObject *pair) {
    PyObject *seq = PySequence_Fast(pair, "a header is a pair of bytes: [name, value]");
    if (!seq) return NULL;
    PyObject *name = NULL, *value = NULL, *plain = NULL;
    if (PySequence_Fast_GET_SIZE(seq) != 2)
        PyErr_SetString(PyExc_TypeError, "a header is a pair of bytes: [name, value]");
    else if ((name = as_bytes(PySequence_Fast_GET_ITEM(seq, 0))) &&
             (value = as_bytes(PySequence_Fast_GET_ITEM(seq, 1))))
        plain = PyTuple_Pack(2, name, value);
    Py_XDECREF(name);
    Py_XDECREF(value);
    Py_DECREF(seq);
    return plain;
}

/* A new tuple of make(item) for each item of a new reference to a list or tuple, which it takes. */
static PyObject *mapped(PyObject *source, PyObject *(*make)(PyObject *)) {
    PyObject *items = PySequence_Tuple(source); /* a list may change while make() runs */
    Py_DECREF(source);
    PyObject *out = items ? PyTuple_New(PyTuple_GET_SIZE(items)) : NULL;
    for (Py_ssize_t i = 0; out && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *made = make(PyTuple_GET_ITEM(items, i));
        if (made)
            PyTuple_SET_ITEM(out, i, made);
        else
            Py_CLEAR(out);
    }
    Py_XDECREF(items);
    return out;
}

/* Takes the reference to source. */
static int take(puff_fields *f, PyObject *source) {
    f->items = f->inline_items;
    if (!source || reserve(f, (size_t)PySequence_Fast_GET_SIZE(source)) < 0) {
        Py_XDECREF(source);
        return -1;
    }
    f->source = source;
    if (fill(f, source)) return 0;
    f->source = mapped(source, plain_pair);
    if (f->source && fill(f, f->source)) return 0; /* same length as before */
    puff_fields_drop(f);
    return -1;
}

int puff_fields_take(puff_fields *f, PyObject *headers) {
    if (!headers) return take(f, PyTuple_New(0));
    return take(f, PySequence_Fast(headers, "headers are an iterable of [name, value] pairs"));
}

/* ---- text ------------------------------------------------------------------------------------ */

static bool is_latin1(PyObject *o) {
    return PyUnicode_Check(o) && PyUnicode_KIND(o) == PyUnicode_1BYTE_KIND;
}

static int refuse_text(PyObject *pair) {
    PyErr_Format(PyExc_TypeError,
                 "a header is a tuple of two strings of ISO-8859-1 characters, not %R", pair);
    return -1;
}

static puff_str text_slice(PyObject *text) {
    return (puff_str){(const char *)PyUnicode_1BYTE_DATA(text), (size_t)PyUnicode_GET_LENGTH(text)};
}

static bool is_text_pair(PyObject *pair) {
    return PyTuple_Check(pair) && PyTuple_GET_SIZE(pair) == 2 &&
           is_latin1(PyTuple_GET_ITEM(pair, 0)) && is_latin1(PyTuple_GET_ITEM(pair, 1));
}

int puff_fields_take_text(puff_fields *f, PyObject *pairs) {
    PyObject **items = PySequence_Fast_ITEMS(pairs);
    if (reserve(f, (size_t)PySequence_Fast_GET_SIZE(pairs)) < 0) return -1;
    f->source = Py_NewRef(pairs);
    for (size_t i = 0; i < f->n; i++) {
        PyObject *pair = items[i];
        if (!is_text_pair(pair)) {
            Py_INCREF(pair); /* its repr may change the list */
            puff_fields_drop(f);
            refuse_text(pair);
            Py_DECREF(pair);
            return -1;
        }
        f->items[i] = (puff_http_field){.name = text_slice(PyTuple_GET_ITEM(pair, 0)),
                                        .value = text_slice(PyTuple_GET_ITEM(pair, 1))};
    }
    return 0;
}

/* ---- links ----------------------------------------------------------------------------------- */

static PyObject *link_pair(PyObject *value) {
    PyObject *bytes = as_bytes(value);
    PyObject *pair = bytes ? Py_BuildValue("(yO)", "link", bytes) : NULL;
    Py_XDECREF(bytes);
    return pair;
}

int puff_fields_take_links(puff_fields *f, PyObject *links) {
    if (!links) return take(f, PyTuple_New(0));
    PyObject *source = PySequence_Fast(links, "links are an iterable of bytes");
    return take(f, source ? mapped(source, link_pair) : NULL);
}

void puff_fields_drop(puff_fields *f) {
    if (f->items != f->inline_items) PyMem_Free(f->items);
    Py_CLEAR(f->source);
}
