"""What a run inside a callback puts aside: the state of the task and of the contexts further up
the stack.

asyncio lets one task of a loop run at a time, and a context be entered once. Whoever runs the loop
inside a task has to leave both first, or no other task could be stepped, nor any callback be run
that shares the caller's context (in a Jupyter kernel all cells do).
"""

from asyncio import tasks

from cpython.object cimport PyObject


cdef extern from *:
    """
    /* On top of the thread's stack of contexts; NULL: none. Borrowed. */
    static PyObject *puff_context_on_top(void) { return PyThreadState_Get()->context; }
    """
    PyObject *puff_context_on_top()
    int PyContext_Enter(object context) except -1
    int PyContext_Exit(object context) except -1


def leave(loop):
    """Leaves the current task and every context; returns what come_back() needs."""
    task = tasks.current_task(loop)
    if task is not None:
        tasks._leave_task(loop, task)
    contexts = []
    while puff_context_on_top() is not NULL:
        context = <object>puff_context_on_top()
        try:
            PyContext_Exit(context)
        except RuntimeError:  # a thread's first context lies below all and was never entered
            break
        contexts.append(context)
    return task, contexts


def come_back(loop, aside):
    """Undoes leave()."""
    task, contexts = aside
    for context in reversed(contexts):
        PyContext_Enter(context)
    if task is not None:
        tasks._enter_task(loop, task)
