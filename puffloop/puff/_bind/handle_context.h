/* handle_context.h - the contextvars context of a callback, made when it is needed.
 *
 * call_soon() means "in a copy of the context of now". What a context holds is an immutable map, so
 * that the map is all that has to be kept; the Context around it can be the same one for callback
 * after callback, as long as none of them has let anything hold it (a Token does).
 */
#ifndef PUFF_BIND_HANDLE_CONTEXT_H
#define PUFF_BIND_HANDLE_CONTEXT_H

#include <Python.h>

/* At import. Where Context is not laid out as we think, contexts are copied at once. */
int puff_handle_context_init(void);

/* The variables of the current context: a new reference; NULL without an exception: copy it. */
PyObject *puff_handle_context_vars(void);
/* A Context of one's own with these variables; NULL with MemoryError. */
PyObject *puff_handle_context_new(PyObject *vars);
/* The same to be entered, left and given back; nobody else may be shown it. */
PyObject *puff_handle_context_borrow(PyObject *vars);
void puff_handle_context_return(PyObject *context);

#endif
