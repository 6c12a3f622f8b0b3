/* value.h - Python objects to Postgres parameters. */
#ifndef PUFF_BIND_VALUE_H
#define PUFF_BIND_VALUE_H

#include <Python.h>

#include "puff/postgres.h"

/* Imports what the encoders need; 0 or -1 with an exception. Once per interpreter. */
int puff_value_setup(void);
/* Encodes v as parameter i (from 0), which the server described as type oid. Text and bytes are
 * borrowed from v until the query's on_done. 0, or -1 with an exception: TypeError for a Python
 * type that does not fit, OverflowError or ValueError for a value that does not. */
int puff_value_encode(puff_pg_params *params, int i, uint32_t oid, PyObject *v);

#endif
