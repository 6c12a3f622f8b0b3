/* scope.h - the ASGI scope of a request, and what a connection keeps to build the next one. */
#ifndef PUFF_BIND_SCOPE_H
#define PUFF_BIND_SCOPE_H

#include "asgi.h"

int puff_scope_init(void);
/* The keys that are the same for all requests of an app: a new dict. */
PyObject *puff_scope_template(PyObject *root_path);
/* extensions: a new dict. */
PyObject *puff_scope_extensions(void);
/* A new dict, or NULL with an exception. */
PyObject *puff_scope_new(puff_asgi *asgi, puff_http_request *req);
/* What puff_http_conn_data() holds. */
void puff_scope_conn_free(void *conn_data);

#endif
