/* slot.h - a __slots__ member of a Python class, read at its offset.
 *
 * A transport is two objects: what users see, a class of asyncio's family (which a cdef class cannot
 * be, for asyncio's have slots of their own), and the native one in its slot.
 */
#ifndef PUFF_BIND_SLOT_H
#define PUFF_BIND_SLOT_H

#include "compat.h"

typedef struct puff_slot {
    PyTypeObject *type; /* borrowed: whose instances have it */
    Py_ssize_t offset;
} puff_slot;

/* The slot `name` of a class, or of one that it derives from. 0, or -1 with an exception set. */
static inline int puff_slot_find(PyObject *type, const char *name, puff_slot *out) {
    PyObject *member = PyObject_GetAttrString(type, name);
    if (!member) return -1;
    if (Py_IS_TYPE(member, &PyMemberDescr_Type))
        *out = (puff_slot){(PyTypeObject *)type, ((PyMemberDescrObject *)member)->d_member->offset};
    else
        PyErr_Format(PyExc_TypeError, "%s is not a slot", name);
    Py_DECREF(member);
    return PyErr_Occurred() ? -1 : 0;
}

/* Borrowed; NULL when the slot is empty. self must be an instance of slot->type. */
static inline PyObject *puff_slot_at(PyObject *self, const puff_slot *slot) {
    return *(PyObject **)((char *)self + slot->offset);
}

/* The same of any self, as a slot's own descriptor would: NULL with TypeError or RuntimeError. */
static inline PyObject *puff_slot_of(PyObject *self, const puff_slot *slot) {
    if (!PyObject_TypeCheck(self, slot->type)) {
        PyErr_Format(PyExc_TypeError, "a puff %s was expected, not '%.100s'", slot->type->tp_name,
                     Py_TYPE(self)->tp_name);
        return NULL;
    }
    PyObject *native = puff_slot_at(self, slot);
    if (native && native != Py_None) return native;
    PyErr_Format(PyExc_RuntimeError, "this %s has not been initialised", slot->type->tp_name);
    return NULL;
}

#endif
