"""wsgi.input of a request."""

from puff._bind.wsgi cimport Call


cdef object new_input(Call call)
