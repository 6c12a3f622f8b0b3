"""Codes of the core as the exceptions that Python users know."""

cdef object os_error(int code)
