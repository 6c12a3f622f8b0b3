/* environ.h - the WSGI environ of a request, and what a connection keeps to build the next one. */
#ifndef PUFF_BIND_ENVIRON_H
#define PUFF_BIND_ENVIRON_H

#include <Python.h>

#include "puff/http.h"

/* Readies constants; 0 or -1. Once, at import. */
int puff_environ_init(void);
/* A new environ: a copy of template (the keys that no request changes) with the request's own keys. root is the
 * SCRIPT_NAME, a str without a slash at its end; input is its wsgi.input. NULL with an exception. */
PyObject *puff_environ_new(PyObject *template_, PyObject *root, PyObject *input,
                           puff_http_request *req);
/* What puff_http_conn_data() holds. */
void puff_environ_conn_free(void *conn_data);

#endif
