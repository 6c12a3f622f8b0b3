/* freelist.h - a few freed objects of one type, kept for the next of the same type. Under the GIL.
 */
#ifndef PUFF_BIND_FREELIST_H
#define PUFF_BIND_FREELIST_H

#include <Python.h>
#include <stdbool.h>

enum { PUFF_FREELIST_MAX = 64 }; /* objects of at most 250 bytes: what a burst of requests needs */

typedef struct puff_freelist {
    void *items[PUFF_FREELIST_MAX]; /* owned */
    int n;
} puff_freelist;

/* An object of a static type that is not tracked by the garbage collector, or NULL with
 * MemoryError. */
static inline void *puff_freelist_new(puff_freelist *list, PyTypeObject *type) {
    if (list->n > 0) return PyObject_Init(list->items[--list->n], type);
    return PyType_IS_GC(type) ? (void *)_PyObject_GC_New(type) : (void *)_PyObject_New(type);
}

/* For tp_dealloc, when all fields are dropped and the object is untracked. */
static inline void puff_freelist_free(puff_freelist *list, PyObject *o) {
    if (list->n < PUFF_FREELIST_MAX)
        list->items[list->n++] = o;
    else if (PyType_IS_GC(Py_TYPE(o)))
        PyObject_GC_Del(o);
    else
        PyObject_Free(o);
}

#endif
