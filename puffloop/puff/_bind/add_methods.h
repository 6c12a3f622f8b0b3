/* add_methods.h - C functions for a class that Cython has made: its own would make a tuple of arguments.
 */
#ifndef PUFF_BIND_ADD_METHODS_H
#define PUFF_BIND_ADD_METHODS_H

#include <Python.h>

/* For set-up code, before there is an object of the class. 0 or -1. */
static inline int puff_add_methods(PyTypeObject *type, PyMethodDef *defs) {
    for (PyMethodDef *def = defs; def->ml_name; def++) {
        PyObject *descr = PyDescr_NewMethod(type, def); /* new */
        int rc = descr ? PyDict_SetItemString(type->tp_dict, def->ml_name, descr) : -1;
        Py_XDECREF(descr);
        if (rc < 0) return -1;
    }
    PyType_Modified(type);
    return 0;
}

#endif
