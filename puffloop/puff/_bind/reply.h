/* reply.h - Redis replies as Python objects. */
#ifndef PUFF_BIND_REPLY_H
#define PUFF_BIND_REPLY_H

#include <Python.h>

#include "puff/redis.h"

/* The arg of a command: for whom its reply is made, and how. */
typedef struct puff_reply_target {
    PyObject *waiter; /* borrowed; the command holds it */
    PyObject *error;  /* owned; the first exception of making the reply, or NULL */
    int decode;       /* strings become str, not bytes */
} puff_reply_target;

extern const puff_redis_builder puff_reply_builder;

/* fault(text) makes the exception that stands for an error inside an array. Once, at import. */
int puff_reply_setup(PyObject *fault);

#endif
