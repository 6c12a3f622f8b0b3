/* extension.c - a stranger's extension module on puff/python.h; it links nothing of Puff.
 *
 * Compiled by test_extension.py. Each function takes the callable that shall be called.
 */
#include <pthread.h>
#include <puff/python.h>

static const puff_python_api *puff;

/* ---- call_soon ------------------------------------------------------------------------------- */

static int on_soon(void *arg) {
    PyObject *res = PyObject_CallNoArgs((PyObject *)arg);
    Py_DECREF((PyObject *)arg);
    Py_XDECREF(res);
    return res ? 0 : -1;
}

static PyObject *soon(PyObject *self, PyObject *args) {
    PyObject *loop, *callable;
    if (!PyArg_ParseTuple(args, "OO", &loop, &callable)) return NULL;
    Py_INCREF(callable);
    if (puff->call_soon(loop, on_soon, callable) < 0) {
        Py_DECREF(callable);
        return NULL;
    }
    Py_RETURN_NONE;
}

/* ---- post from a thread that never saw the GIL ----------------------------------------------- */

typedef struct message {
    puff_post job; /* first: run() gets its address */
    puff_loop *core;
    PyObject *callable;
    pthread_t thread;
} message;

static void on_message(puff_post *job) {
    message *m = (message *)job;
    pthread_join(m->thread, NULL);
    PyObject *res = PyObject_CallNoArgs(m->callable);
    if (!res) PyErr_WriteUnraisable(m->callable);
    Py_XDECREF(res);
    Py_DECREF(m->callable);
    PyMem_Free(m);
}

static void *in_thread(void *arg) {
    message *m = (message *)arg;
    puff->post(m->core, &m->job);
    return NULL;
}

static PyObject *post(PyObject *self, PyObject *callable) {
    PyObject *loop = puff->running_loop();
    if (!loop) return NULL;
    message *m = (message *)PyMem_Calloc(1, sizeof *m);
    m->job.run = on_message;
    m->core = puff->core(loop);
    m->callable = Py_NewRef(callable);
    Py_DECREF(loop); /* it runs, so it lives */
    pthread_create(&m->thread, NULL, in_thread, m);
    Py_RETURN_NONE;
}

/* ---- a descriptor, once ---------------------------------------------------------------------- */

static void on_ready(puff_poll *w, int status, int events) {
    PyObject *callable = (PyObject *)puff->watch_data(w);
    puff->unwatch(w);
    PyObject *res = PyObject_CallFunction(callable, "ii", status, events);
    if (!res) PyErr_WriteUnraisable(callable);
    Py_XDECREF(res);
    Py_DECREF(callable);
}

static PyObject *watch(PyObject *self, PyObject *args) {
    PyObject *loop, *callable;
    int fd, events = PUFF_READABLE;
    if (!PyArg_ParseTuple(args, "OiO|i", &loop, &fd, &callable, &events)) return NULL;
    if (!puff->watch(loop, fd, events, on_ready, callable)) return NULL;
    Py_INCREF(callable);
    Py_RETURN_NONE;
}

static PyObject *running(PyObject *self, PyObject *unused) { return puff->running_loop(); }

static PyMethodDef methods[] = {
    {"soon", soon, METH_VARARGS, NULL},
    {"post", post, METH_O, NULL},
    {"watch", watch, METH_VARARGS, NULL},
    {"running", running, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "extension", NULL, -1, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit_extension(void) {
    puff = puff_python_import();
    return puff ? PyModule_Create(&module) : NULL;
}
