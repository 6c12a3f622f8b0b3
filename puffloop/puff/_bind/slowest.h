/* slowest.h - which callback of a loop took longest, for loop.stats().
 *
 * The counter of the processor is read once per callback. What is slow enough to matter is remembered by
 * its text: an object kept for statistics would live on.
 */
#ifndef PUFF_BIND_SLOWEST_H
#define PUFF_BIND_SLOWEST_H

#include <Python.h>
#include <stdint.h>

#include "puff/loop.h"

typedef struct puff_slowest {
    uint64_t ticks;
    PyObject *what; /* owned; NULL: it took less than a millisecond, or there was none */
} puff_slowest;

/* Once, at import. describe(handle or function) gives the text. */
void puff_slowest_init(PyObject *describe);
/* A callback has taken longer than any before: queued is its handle, or what was called. -1: an
 * interrupt came in between, and is set. */
int puff_slowest_note(puff_slowest *s, puff_loop *core, uint64_t ticks, PyObject *queued);
/* (seconds, text or None): a new tuple. */
PyObject *puff_slowest_get(const puff_slowest *s, puff_loop *core);
void puff_slowest_reset(puff_slowest *s);

#endif
