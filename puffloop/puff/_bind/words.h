/* words.h - the words of a Redis command as the bytes that are sent. */
#ifndef PUFF_BIND_WORDS_H
#define PUFF_BIND_WORDS_H

#include <Python.h>

#include "puff/base.h"

enum { PUFF_WORDS_SMALL = 16 }; /* nearly every command has fewer arguments */

/* Slices into the objects of a tuple, which outlives it. */
typedef struct puff_words {
    puff_str *items; /* small, or owned */
    Py_ssize_t n;
    PyObject *texts; /* owned; keeps the text of numbers alive; NULL: no numbers */
    puff_str small[PUFF_WORDS_SMALL];
} puff_words;

/* args: a tuple of str, bytes, int and float. -1 with TypeError (it names the argument),
 * UnicodeEncodeError, MemoryError: nothing needs to be freed then. */
int puff_words_init(puff_words *a, PyObject *args);
void puff_words_deinit(puff_words *a);

#endif
