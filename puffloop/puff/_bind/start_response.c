/* start_response.c - see start_response.h.
 *
 * Every request makes one, so it comes from a free list and is called without a tuple. The garbage
 * collector does not see it: a call that has ended holds nothing that could lead back here.
 */
#include "start_response.h"

#include <stddef.h>

#include "freelist.h"

typedef struct start_response {
    PyObject_HEAD
    vectorcallfunc vectorcall;
    PyObject *call; /* owned */
} start_response;

static puff_freelist freelist;
static puff_start_fn start_call;

static PyObject *on_call(PyObject *self, PyObject *const *args, size_t nargsf, PyObject *kwnames) {
    PyObject *call = ((start_response *)self)->call;
    Py_ssize_t n = PyVectorcall_NARGS(nargsf);
    if (kwnames && PyTuple_GET_SIZE(kwnames) > 0) {
        PyErr_SetString(PyExc_TypeError, "start_response() takes no keyword arguments");
        return NULL;
    }
    if (n != 2 && n != 3)
        return PyErr_Format(
            PyExc_TypeError,
            "start_response() takes a status, headers and maybe exc_info, not %zd arguments", n);
    PyObject *exc_info = n == 3 && args[2] != Py_None ? args[2] : NULL;
    return start_call(call, args[0], args[1], exc_info) < 0 ? NULL : Py_NewRef(call);
}

static void dealloc(PyObject *self) {
    Py_CLEAR(((start_response *)self)->call);
    puff_freelist_free(&freelist, self);
}

static PyTypeObject type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "puff._bind.wsgi_call.StartResponse",
    .tp_basicsize = sizeof(start_response),
    .tp_flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_VECTORCALL,
    .tp_vectorcall_offset = offsetof(start_response, vectorcall),
    .tp_call = PyVectorcall_Call,
    .tp_dealloc = dealloc,
};

PyObject *puff_start_response_new(PyObject *call) {
    start_response *s = puff_freelist_new(&freelist, &type);
    if (!s) return NULL;
    s->vectorcall = on_call;
    s->call = Py_NewRef(call);
    return (PyObject *)s;
}

int puff_start_response_init(puff_start_fn start) {
    start_call = start;
    return PyType_Ready(&type);
}
