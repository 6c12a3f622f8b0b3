/* fields.h - header fields as an app gives them, as the core wants them. */
#ifndef PUFF_BIND_FIELDS_H
#define PUFF_BIND_FIELDS_H

#include <Python.h>

#include "puff/http.h"

enum { PUFF_FIELDS_INLINE = 24 };

/* Slices into Python's bytes, until puff_fields_drop(). */
typedef struct puff_fields {
    puff_http_field *items; /* inline_items, or owned */
    size_t n;
    PyObject *source; /* owned: holds every byte that items point to */
    puff_http_field inline_items[PUFF_FIELDS_INLINE];
} puff_fields;

/* Of any iterable of [name, value] pairs of bytes; NULL: none. -1 with TypeError (then there is
 * nothing to drop). May run the iterable's own code. */
int puff_fields_take(puff_fields *f, PyObject *headers);
/* "link" fields of an iterable of bytes. */
int puff_fields_take_links(puff_fields *f, PyObject *links);
/* Of a list, or a tuple, of tuples of two latin-1 str, as WSGI has them. Runs no code of the app's, which
 * until puff_fields_drop() might change the list. */
int puff_fields_take_text(puff_fields *f, PyObject *pairs);
void puff_fields_drop(puff_fields *f);

#endif
