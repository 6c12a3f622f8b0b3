/* endpoint.h - what stream and datagram transports have in common, as C sees it. */
#ifndef PUFF_BIND_ENDPOINT_H
#define PUFF_BIND_ENDPOINT_H

#include "dispatch.h"

/* Endpoint (endpoint.pxd declares the same fields in this order; checked at import). */
typedef struct puff_endpoint {
    PyObject_HEAD;
    void *vtab;
    puff_held held;      /* for the core, until on_close */
    PyObject *loop;      /* owned; a LoopBase */
    PyObject *transport; /* owned; the asyncio transport that users see; None once closed */
    PyObject *protocol;  /* owned; None once closed */
    PyObject *context;   /* owned; the contextvars context in which the protocol is called */
    PyObject *sock;      /* owned; shares the descriptor with the core, which closes it */
    int fd;
    int conn_lost; /* asyncio's: 1 when connection_lost() is scheduled, + writes since */
    int closing, paused;
    int leaked; /* the loop has ended, and this was open */
} puff_endpoint;

#endif
