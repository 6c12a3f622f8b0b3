/* ring.c - the cold half of the ready queue. */
#include "ring.h"

#include "handle.h"

enum { FIRST_SIZE = 64 };

int puff_ring_grow(puff_ring *r) {
    size_t old = r->entries ? r->mask + 1 : 0, size = old ? old * 2 : FIRST_SIZE;
    puff_entry *entries = PyMem_New(puff_entry, size);
    if (!entries) {
        PyErr_NoMemory();
        return -1;
    }
    size_t n = puff_ring_len(r);
    for (size_t i = 0; i < n; i++) entries[i] = r->entries[(r->head + i) & r->mask];
    PyMem_Free(r->entries);
    *r = (puff_ring){.entries = entries, .mask = size - 1, .head = 0, .tail = n};
    return 0;
}

void puff_ring_clear(puff_ring *r) {
    while (puff_ring_len(r) > 0) {
        puff_entry e = puff_ring_pop(r);
        Py_DECREF(e.fn);
        Py_XDECREF(e.arg);
    }
    PyMem_Free(r->entries);
    *r = (puff_ring){0};
}

int puff_ring_traverse(puff_ring *r, visitproc visit, void *arg) {
    for (size_t i = r->head; i != r->tail; i++) {
        int rc = puff_handle_visit(r->entries[i & r->mask].fn, visit, arg);
        if (rc) return rc;
        Py_VISIT(r->entries[i & r->mask].arg);
    }
    return 0;
}

PyObject *puff_ring_handles(const puff_ring *r) {
    PyObject *list = PyList_New(0);
    for (size_t i = r->head; list && i != r->tail; i++) {
        const puff_entry *e = &r->entries[i & r->mask];
        if (e->arg) continue;
        if (puff_handle_is_native(e->fn)) puff_handle_track(e->fn);
        if (PyList_Append(list, e->fn) < 0) Py_CLEAR(list);
    }
    return list;
}
