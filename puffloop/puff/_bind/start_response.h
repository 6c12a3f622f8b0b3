/* start_response.h - PEP 3333's start_response() of one request, as the app calls it. */
#ifndef PUFF_BIND_START_RESPONSE_H
#define PUFF_BIND_START_RESPONSE_H

#include <Python.h>

/* Begins call's response; exc_info is NULL or as the app gave it. 0, or -1 with an exception. */
typedef int (*puff_start_fn)(PyObject *call, PyObject *status, PyObject *headers,
                             PyObject *exc_info);

/* Once, at import; 0 or -1. */
int puff_start_response_init(puff_start_fn start);
/* A new callable that holds call, and returns it: it is the app's write(). NULL with MemoryError. */
PyObject *puff_start_response_new(PyObject *call);

#endif
