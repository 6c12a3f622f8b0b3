"""What condition.pyx needs of locks."""

from puff._bind.gate cimport Gate


cdef class _Held(Gate):
    pass


cdef class Lock(_Held):
    cdef bint held

    # To the next in line, or free.
    cdef void pass_on(self) noexcept


cdef class RLock(_Held):
    cdef object holder     # a flow, while depth is not 0
    cdef Py_ssize_t depth

    # n of its acquires are undone.
    cdef void leave(self, Py_ssize_t n) noexcept
    cdef void pass_on(self) noexcept
    cdef bint is_mine(self) except -1
