/* tasks.c - see tasks.h.
 *
 * asyncio.Task and asyncio.Future take their loop by keyword, and CPython makes a dict of keywords
 * for a type that is called. Neither keeps it, so one dict per loop serves all calls.
 */
#include "tasks.h"

#include "dispatch.h"

static PyObject *future_type, *base_create_task, *no_args;
static PyObject *tasks_vars, *task_name; /* asyncio.tasks' dict, and the word Task */

/* Borrowed: {"loop": loop}. */
static PyObject *loop_keyword(puff_loop_object *loop) {
    if (loop->loop_keyword != Py_None) return loop->loop_keyword;
    PyObject *dict = Py_BuildValue("{sO}", "loop", (PyObject *)loop);
    if (dict) Py_SETREF(loop->loop_keyword, dict);
    return dict;
}

/* With more keywords than the loop: a dict of one's own; new reference. */
static PyObject *keywords(puff_loop_object *loop, PyObject *const *values, PyObject *names) {
    PyObject *own = loop_keyword(loop);
    if (!names || !own) return Py_XNewRef(own);
    own = PyDict_Copy(own);
    for (Py_ssize_t i = 0; own && i < PyTuple_GET_SIZE(names); i++) {
        if (PyDict_SetItem(own, PyTuple_GET_ITEM(names, i), values[i]) < 0) Py_CLEAR(own);
    }
    return own;
}

static PyObject *create_task(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names) {
    puff_loop_object *loop = (puff_loop_object *)self;
    if (n != 1 || loop->task_factory != Py_None || loop->d.debug || loop->d.closed)
        return puff_call_base(base_create_task, self, args, (size_t)n, names);
    PyObject *type = Py_XNewRef(PyDict_GetItemWithError(tasks_vars, task_name)); /* as asyncio */
    if (!type)
        return PyErr_Occurred() ? NULL
                                : puff_call_base(base_create_task, self, args, (size_t)n, names);
    PyObject *positional = PyTuple_Pack(1, args[0]);
    PyObject *named = positional ? keywords(loop, args + 1, names) : NULL;
    PyObject *task = named ? PyObject_Call(type, positional, named) : NULL;
    Py_XDECREF(named);
    Py_XDECREF(positional);
    Py_DECREF(type);
    return task;
}

static PyObject *create_future(PyObject *self, PyObject *unused) {
    PyTypeObject *type = (PyTypeObject *)future_type;
    PyObject *named = loop_keyword((puff_loop_object *)self);
    PyObject *future = named ? type->tp_new(type, no_args, NULL) : NULL;
    if (future && type->tp_init(future, no_args, named) < 0) Py_CLEAR(future);
    return future;
}

static PyMethodDef methods[] = {
    {"create_task", (PyCFunction)(void (*)(void))create_task, METH_FASTCALL | METH_KEYWORDS,
     "create_task(coro, **kwargs)\n--\n\nSchedules a coroutine; keywords as asyncio.Task takes "
     "them."},
    {"create_future", create_future, METH_NOARGS,
     "create_future()\n--\n\nA new asyncio.Future of this loop."},
    {0}};

int puff_tasks_install(PyObject *loop_base, PyObject *vars, PyObject *future, PyObject *base) {
    tasks_vars = Py_NewRef(vars);
    task_name = PyUnicode_InternFromString("Task");
    future_type = Py_NewRef(future);
    base_create_task = Py_NewRef(base);
    no_args = PyTuple_New(0);
    return task_name && no_args ? puff_add_methods((PyTypeObject *)loop_base, methods) : -1;
}
