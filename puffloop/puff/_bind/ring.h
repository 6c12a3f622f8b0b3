/* ring.h - the ready queue: a ring whose size is a power of two.
 *
 *   entries  [ . . h h h h . . ]      head: the next to run, tail: where the next push goes
 *                  ^head   ^tail      both only grow; & mask makes them places
 *
 * Only under the GIL. A push may come between any two pops, also from another thread.
 */
#ifndef PUFF_BIND_RING_H
#define PUFF_BIND_RING_H

#include <Python.h>
#include <stdbool.h>

typedef struct puff_entry {
    PyObject *fn;  /* owned: a handle, or what is called with arg */
    PyObject *arg; /* owned; NULL: fn is a handle */
} puff_entry;

typedef struct puff_ring {
    puff_entry *entries; /* owned; NULL until the first push */
    size_t mask, head, tail;
} puff_ring;

static inline size_t puff_ring_len(const puff_ring *r) { return r->tail - r->head; }

/* Makes room for one more: 0, or -1 with MemoryError set. */
int puff_ring_grow(puff_ring *r);
/* Drops every entry and the memory. */
void puff_ring_clear(puff_ring *r);
int puff_ring_traverse(puff_ring *r, visitproc visit, void *arg);
/* The handles in it, in order: a new list. */
PyObject *puff_ring_handles(const puff_ring *r);

/* Takes new references to both. 0, or -1 with MemoryError set. */
static inline int puff_ring_push(puff_ring *r, PyObject *fn, PyObject *arg) {
    if (!r->entries || puff_ring_len(r) > r->mask) {
        if (puff_ring_grow(r) < 0) return -1;
    }
    Py_INCREF(fn);
    Py_XINCREF(arg);
    r->entries[r->tail++ & r->mask] = (puff_entry){fn, arg};
    return 0;
}

/* Not when it is empty. The references are the caller's. */
static inline puff_entry puff_ring_pop(puff_ring *r) { return r->entries[r->head++ & r->mask]; }

/* A long ring's handles have left the cache by the time they run: asks for one that comes soon. (Behind
 * the tail it is some old one, which does no harm.) */
static inline void puff_ring_prefetch(const puff_ring *r) {
    enum { AHEAD = 4, LINE = 64 };
    const char *fn = (const char *)r->entries[(r->head + AHEAD) & r->mask].fn;
    __builtin_prefetch(fn);
    __builtin_prefetch(fn + LINE);
    __builtin_prefetch(fn + 2 * LINE);
}

/* The first n become the last; n is at most its length. Nothing is allocated. */
static inline void puff_ring_rotate(puff_ring *r, size_t n) {
    while (n-- > 0) {
        puff_entry e = puff_ring_pop(r);
        r->entries[r->tail++ & r->mask] = e;
    }
}

#endif
