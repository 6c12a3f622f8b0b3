/* future.h - create_future(): an asyncio.Future of a loop at the least that it can cost. */
#ifndef PUFF_BIND_FUTURE_H
#define PUFF_BIND_FUTURE_H

#include <Python.h>

/* class is asyncio.Future. */
int puff_future_init(PyObject *class);
/* Future(loop=loop). */
PyObject *puff_future_new(PyObject *loop);
/* The loop is about to be closed. */
void puff_future_forget(PyObject *loop);

#endif
