/* capi.c - the capsule of puff/python.h: what other extension modules get of a loop. */
#include "puff/python.h"

#include "dispatch.h"

static PyObject *loop_base, *get_running_loop, *str_call_soon;

/* ---- which loop ------------------------------------------------------------------------------ */

static PyObject *running_loop(void) {
    PyObject *loop = PyObject_CallNoArgs(get_running_loop);
    if (!loop) return NULL;
    int ours = PyObject_IsInstance(loop, loop_base);
    if (ours == 0) PyErr_SetString(PyExc_RuntimeError, "no puff loop is running in this thread");
    if (ours != 1) Py_CLEAR(loop);
    return loop;
}

static puff_loop *core_of(PyObject *loop) {
    int ours = PyObject_IsInstance(loop, loop_base);
    if (ours < 0) return NULL;
    if (!ours) {
        PyErr_Format(PyExc_TypeError, "a puff.Loop was expected, not '%.100s'",
                     Py_TYPE(loop)->tp_name);
        return NULL;
    }
    puff_loop *core = ((puff_loop_object *)loop)->core;
    if (!core) PyErr_SetString(PyExc_RuntimeError, "Event loop is closed");
    return core;
}

/* ---- call_soon ------------------------------------------------------------------------------- */

typedef struct job {
    int (*fn)(void *arg);
    void *arg;
} job;

static void free_job(PyObject *capsule) { PyMem_Free(PyCapsule_GetPointer(capsule, NULL)); }

static PyObject *run_job(PyObject *capsule, PyObject *unused) {
    job *j = PyCapsule_GetPointer(capsule, NULL);
    if (!j || j->fn(j->arg) < 0) return NULL;
    Py_RETURN_NONE;
}

static PyMethodDef run_job_def = {"c_callback", run_job, METH_NOARGS, NULL};

/* A callable that owns the job. */
static PyObject *new_job(int (*fn)(void *arg), void *arg) {
    job *j = PyMem_Malloc(sizeof *j);
    if (!j) return PyErr_NoMemory();
    *j = (job){fn, arg};
    PyObject *capsule = PyCapsule_New(j, NULL, free_job);
    if (!capsule) {
        PyMem_Free(j);
        return NULL;
    }
    PyObject *callable = PyCFunction_New(&run_job_def, capsule);
    Py_DECREF(capsule);
    return callable;
}

static int call_soon(PyObject *loop, int (*fn)(void *arg), void *arg) {
    if (!core_of(loop)) return -1;
    PyObject *callable = new_job(fn, arg);
    if (!callable) return -1;
    PyObject *handle = PyObject_CallMethodOneArg(loop, str_call_soon, callable);
    Py_DECREF(callable);
    Py_XDECREF(handle);
    return handle ? 0 : -1;
}

/* ---- descriptors ----------------------------------------------------------------------------- */

static PyObject *set_os_error(int status) {
    errno = -status;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static puff_poll *watch(PyObject *loop, int fd, int events, puff_poll_cb cb, void *data) {
    puff_loop *core = core_of(loop);
    puff_poll *p = NULL;
    if (!core) return NULL;
    if (events == 0 || (events & ~(PUFF_READABLE | PUFF_WRITABLE))) {
        PyErr_Format(PyExc_ValueError, "events are PUFF_READABLE, PUFF_WRITABLE or both, not %d",
                     events);
        return NULL;
    }
    int status = puff_poll_new(&p, core, fd, cb, data);
    if (status == 0 && (status = puff_poll_set(p, events)) < 0) puff_poll_free(p);
    if (status < 0) set_os_error(status);
    return status < 0 ? NULL : p;
}

/* ---- the module ------------------------------------------------------------------------------ */

static puff_python_api api = {
    sizeof(puff_python_api),
    PUFF_PYTHON_VERSION,
    running_loop,
    core_of,
    call_soon,
    puff_loop_post,
    watch,
    puff_poll_data,
    puff_poll_free,
};

static PyObject *attribute(const char *module, const char *name) {
    PyObject *m = PyImport_ImportModule(module);
    PyObject *found = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return found;
}

static struct PyModuleDef capi = {
    PyModuleDef_HEAD_INIT,
    "capi",
    "The capsule of puff/python.h.",
    -1,
    NULL,
    NULL,
    NULL,
    NULL,
    NULL,
};

PyMODINIT_FUNC PyInit_capi(void) {
    if (!(loop_base = attribute("puff._bind.loop", "LoopBase")) ||
        !(get_running_loop = attribute("asyncio", "get_running_loop")) ||
        !(str_call_soon = PyUnicode_InternFromString("call_soon")))
        return NULL;
    PyObject *module = PyModule_Create(&capi);
    PyObject *capsule = module ? PyCapsule_New(&api, PUFF_PYTHON_CAPSULE, NULL) : NULL;
    if (!capsule || PyModule_AddObjectRef(module, "C_API", capsule) < 0) Py_CLEAR(module);
    Py_XDECREF(capsule);
    return module;
}
