/* executor.h - run_in_executor() on a pool of threads, without a concurrent.futures.Future. */
#ifndef PUFF_BIND_EXECUTOR_H
#define PUFF_BIND_EXECUTOR_H

#include <Python.h>

/* Puts run_in_executor() into LoopBase. base: asyncio's own, which gets every call that is not for a
 * plain ThreadPoolExecutor with a thread to spare. */
int puff_executor_install(PyObject *loop_base, PyObject *base);

#endif
