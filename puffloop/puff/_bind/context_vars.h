/* context_vars.h - the variables of a contextvars.Context as one value that can be compared and put
 * back.
 *
 * A Context points to an immutable map and replaces the pointer when a variable is set, so "was
 * anything set since" is one comparison. The pointer is not public; puff_context_vars_init() tries
 * our idea of the layout on real Contexts, and when it is wrong nothing here may be used.
 */
#ifndef PUFF_BIND_CONTEXT_VARS_H
#define PUFF_BIND_CONTEXT_VARS_H

#include <Python.h>
#include <stdbool.h>

/* True: the layout is as we think. Never raises. */
bool puff_context_vars_init(void);

typedef struct puff_context {
    PyObject_HEAD
    PyObject *prev;
    PyObject *vars;
} puff_context;

/* Borrowed. */
static inline PyObject *puff_context_vars(PyObject *context) {
    return ((puff_context *)context)->vars;
}

/* Makes vars the context's variables again. May run destructors. What ContextVar.get() has cached
 * of an entered context is wrong until the context is left. */
static inline void puff_context_vars_restore(PyObject *context, PyObject *vars) {
    PyObject *old = puff_context_vars(context);
    ((puff_context *)context)->vars = Py_NewRef(vars);
    Py_DECREF(old);
}

#endif
