"""A __slots__ member of a Python class, read at its offset: slot.h."""

from cpython.object cimport PyObject


cdef extern from "slot.h":
    ctypedef struct puff_slot:
        pass
    int puff_slot_find(object type, const char *name, puff_slot *out) except -1
    PyObject *puff_slot_of(object self, const puff_slot *slot) except NULL
