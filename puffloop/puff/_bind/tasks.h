/* tasks.h - create_task() and create_future() of a loop, in C: they run once per task and future. */
#ifndef PUFF_BIND_TASKS_H
#define PUFF_BIND_TASKS_H

#include <Python.h>

/* Puts both into LoopBase. tasks_vars: the dict of asyncio.tasks, whose Task may be replaced.
 * base_create_task: BaseEventLoop's, for what is not the common case. */
int puff_tasks_install(PyObject *loop_base, PyObject *tasks_vars, PyObject *future_type,
                       PyObject *base_create_task);

#endif
