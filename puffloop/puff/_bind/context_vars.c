/* context_vars.c - see context_vars.h. */
#include "context_vars.h"

/* Sets var in the (not entered) context through the public API. */
static bool set_in(PyObject *context, PyObject *var) {
    if (PyContext_Enter(context) < 0) return false;
    PyObject *token = PyContextVar_Set(var, Py_True);
    Py_XDECREF(token);
    return PyContext_Exit(context) == 0 && token;
}

/* 1: var is set in context, 0: it is not, -1: failed. */
static int is_set_in(PyObject *context, PyObject *var) {
    if (PyContext_Enter(context) < 0) return -1;
    PyObject *value = NULL;
    int rc = PyContextVar_Get(var, NULL, &value);
    int set = value != NULL;
    Py_XDECREF(value);
    return PyContext_Exit(context) < 0 || rc < 0 ? -1 : set;
}

/* Anything but the right layout fails here before a wrong pointer is followed: only the identity of
 * the words is looked at, then their type. */
static bool try_layout(PyObject *context, PyObject *copy, PyObject *var) {
    PyObject *before = puff_context_vars(copy);
    if (Py_TYPE(context)->tp_basicsize < (Py_ssize_t)sizeof(puff_context)) return false;
    if (before == NULL || before != puff_context_vars(context)) return false;
    if (strcmp(Py_TYPE(before)->tp_name, "hamt") != 0) return false;
    Py_INCREF(before);
    bool ok = set_in(copy, var) && puff_context_vars(copy) != before &&
              puff_context_vars(context) == before && is_set_in(copy, var) == 1;
    if (ok) {
        puff_context_vars_restore(copy, before);
        ok = puff_context_vars(copy) == before && is_set_in(copy, var) == 0;
    }
    Py_DECREF(before);
    return ok;
}

bool puff_context_vars_init(void) {
    PyObject *var = PyContextVar_New("puff_probe", NULL);
    PyObject *context = PyContext_CopyCurrent();
    PyObject *copy = context ? PyContext_Copy(context) : NULL;
    bool ok = var && copy && try_layout(context, copy, var);
    Py_XDECREF(copy);
    Py_XDECREF(context);
    Py_XDECREF(var);
    PyErr_Clear();
    return ok;
}
