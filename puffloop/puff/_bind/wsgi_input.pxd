"""wsgi.input of a request."""

from puff._bind.wsgi_call cimport Call


cdef object new_input(Call call)
