/* transport.h - a __slots__ member of a Python class, read at its offset. */
#ifndef PUFF_BIND_TRANSPORT_H
#define PUFF_BIND_TRANSPORT_H

#include "compat.h"

/* The offset of what `Class.member` describes. 0, or -1 with TypeError set. */
static inline int puff_slot_offset(PyObject *member, Py_ssize_t *out) {
    if (!Py_IS_TYPE(member, &PyMemberDescr_Type)) {
        PyErr_SetString(PyExc_TypeError, "not a slot");
        return -1;
    }
    *out = ((PyMemberDescrObject *)member)->d_member->offset;
    return 0;
}

/* Borrowed; NULL when the slot is empty. self must be an instance of the slot's class. */
static inline PyObject *puff_slot_at(PyObject *self, Py_ssize_t offset) {
    return *(PyObject **)((char *)self + offset);
}

#endif
