/* words.c - what may stand in a Redis command: bytes, str as UTF-8, int and float as text.
 *
 * bool is refused although it is an int: Redis would keep "True", which no reader takes for a
 * truth.
 */
#include "words.h"

static int refuse(PyObject *args, Py_ssize_t i) {
    PyObject *arg = PyTuple_GET_ITEM(args, i);
    const char *type = Py_TYPE(arg)->tp_name;
    const char *hint = PyBool_Check(arg) ? " (write int(x))" : "";
    if (i == 0)
        PyErr_Format(PyExc_TypeError, "the name of a Redis command must be str or bytes, not %s",
                     type);
    else
        PyErr_Format(PyExc_TypeError,
                     "argument %zd of %S must be str, bytes, int or float, not %s%s", i,
                     PyTuple_GET_ITEM(args, 0), type, hint);
    return -1;
}

static int set_str(puff_str *out, PyObject *s) {
    Py_ssize_t len;
    const char *p = PyUnicode_AsUTF8AndSize(s, &len);
    if (!p) return -1;
    *out = (puff_str){p, (size_t)len};
    return 0;
}

/* The shortest text that reads back as the same number. */
static int set_number(puff_words *a, puff_str *out, PyObject *number) {
    if (!a->texts && !(a->texts = PyList_New(0))) return -1;
    PyTypeObject *plain = PyFloat_Check(number) ? &PyFloat_Type : &PyLong_Type;
    PyObject *text = plain->tp_repr(number); /* an IntEnum's own str is its name */
    int rc = text ? PyList_Append(a->texts, text) : -1;
    Py_XDECREF(text);
    return rc < 0 ? -1 : set_str(out, text);
}

static int set(puff_words *a, PyObject *args, Py_ssize_t i) {
    PyObject *arg = PyTuple_GET_ITEM(args, i);
    if (PyBytes_Check(arg)) {
        a->items[i] = (puff_str){PyBytes_AS_STRING(arg), (size_t)PyBytes_GET_SIZE(arg)};
        return 0;
    }
    if (PyUnicode_Check(arg)) return set_str(&a->items[i], arg);
    bool number = (PyLong_Check(arg) && !PyBool_Check(arg)) || PyFloat_Check(arg);
    if (number && i > 0) return set_number(a, &a->items[i], arg);
    return refuse(args, i);
}

int puff_words_init(puff_words *a, PyObject *args) {
    a->n = PyTuple_GET_SIZE(args);
    a->texts = NULL;
    a->items = a->small;
    if (a->n > PUFF_WORDS_SMALL) a->items = PyMem_New(puff_str, (size_t)a->n);
    if (!a->items) {
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < a->n; i++) {
        if (set(a, args, i) == 0) continue;
        puff_words_deinit(a);
        return -1;
    }
    return 0;
}

void puff_words_deinit(puff_words *a) {
    Py_CLEAR(a->texts);
    if (a->items != a->small) PyMem_Free(a->items);
    a->items = a->small;
}
