/* handle_context.c - see handle_context.h. */
#include "handle_context.h"

#include "context_vars.h"

static bool known; /* the layout */
static PyObject *no_vars;
static PyObject *spare; /* a context that is not in use; owned */

int puff_handle_context_init(void) {
    PyObject *empty = PyContext_New();
    if (!empty) return -1;
    known = puff_context_vars_init();
    if (known) no_vars = Py_NewRef(puff_context_vars(empty));
    Py_DECREF(empty);
    return 0;
}

PyObject *puff_handle_context_vars(void) {
    if (!known) return NULL;
    PyObject *current = PyThreadState_Get()->context;
    return Py_NewRef(current ? puff_context_vars(current) : no_vars);
}

PyObject *puff_handle_context_new(PyObject *vars) {
    PyObject *context = PyContext_New();
    if (context) puff_context_vars_restore(context, vars);
    return context;
}

PyObject *puff_handle_context_borrow(PyObject *vars) {
    PyObject *context = spare;
    if (!context) return puff_handle_context_new(vars);
    spare = NULL;
    puff_context_vars_restore(context, vars);
    return context;
}

/* Back to no variables, or their values would live until the next callback. */
void puff_handle_context_return(PyObject *context) {
    if (Py_REFCNT(context) > 1 || spare) {
        Py_DECREF(context);
        return;
    }
    puff_context_vars_restore(context, no_vars);
    if (spare) /* what a destructor did */
        Py_DECREF(context);
    else
        spare = context;
}
