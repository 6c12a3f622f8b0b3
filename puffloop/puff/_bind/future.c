/* future.c - see future.h.
 *
 * Future(loop=loop) makes a dict of its keyword, and drops it. It is kept here instead, with the
 * loop that it was last used for: half the cost of a Future.
 */
#include "future.h"

static PyTypeObject *future_type;
static PyObject *no_arguments, *keywords; /* {"loop": the last loop, or None} */
static PyObject *str_loop;
static PyObject *last_loop; /* borrowed from keywords */

static int keep(PyObject *loop) {
    last_loop = NULL;
    if (PyDict_SetItem(keywords, str_loop, loop) < 0) return -1;
    last_loop = loop;
    return 0;
}

PyObject *puff_future_new(PyObject *loop) {
    PyObject *future = future_type->tp_new(future_type, no_arguments, NULL);
    if (!future) return NULL;
    while (loop != last_loop) /* another thread's; nothing may run between this and tp_init() */
        if (keep(loop) < 0) goto fail;
    if (future_type->tp_init(future, no_arguments, keywords) == 0) return future;
fail:
    Py_DECREF(future);
    return NULL;
}

void puff_future_forget(PyObject *loop) {
    if (loop == last_loop && keep(Py_None) < 0) PyErr_Clear();
}

int puff_future_init(PyObject *class) {
    future_type = (PyTypeObject *)Py_NewRef(class);
    no_arguments = PyTuple_New(0);
    keywords = PyDict_New();
    str_loop = PyUnicode_InternFromString("loop");
    return no_arguments && keywords && str_loop ? keep(Py_None) : -1;
}
