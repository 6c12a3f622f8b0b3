/* import_attr.h - an attribute of a module, for set-up code. */
#ifndef PUFF_BIND_IMPORT_ATTR_H
#define PUFF_BIND_IMPORT_ATTR_H

#include <Python.h>

/* A new reference, or NULL with an exception. */
static inline PyObject *puff_import_attr(const char *module, const char *name) {
    PyObject *m = PyImport_ImportModule(module); /* new */
    PyObject *v = m ? PyObject_GetAttrString(m, name) : NULL;
    Py_XDECREF(m);
    return v;
}

#endif
