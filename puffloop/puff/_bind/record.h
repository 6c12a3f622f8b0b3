/* record.h - a row of a result as a Python object. */
#ifndef PUFF_BIND_RECORD_H
#define PUFF_BIND_RECORD_H

#include <Python.h>

/* What the rows of one statement share. */
typedef struct puff_row_layout {
    PyObject_HEAD
    PyObject *names; /* owned; tuple of str */
    PyObject *index; /* owned; dict of name -> int; of equal names the last */
} puff_row_layout;

typedef struct puff_record {
    PyObject_VAR_HEAD
    puff_row_layout *layout; /* owned */
    PyObject *items[];       /* owned; NULL only while it is being filled */
} puff_record;

/* Makes the types ready; 0 or -1 with an exception. Once per interpreter, before anything else
 * here. */
int puff_record_setup(void);
/* The Record type; borrowed. */
PyObject *puff_record_type(void);
/* names: tuple of str. New reference. */
PyObject *puff_row_layout_new(PyObject *names);
/* A record with empty items, for the caller to fill before anybody sees it; then it must be tracked
 * by PyObject_GC_Track() if the garbage collector is to know it. New reference. */
puff_record *puff_record_new(puff_row_layout *layout);

/* values: a list as long as the layout is wide. New reference. */
PyObject *puff_record_from_list(puff_row_layout *layout, PyObject *values);

#endif
