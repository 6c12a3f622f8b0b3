"""An ASGI app on the C HTTP server."""

from puff._bind.core cimport puff_http_server
from puff._bind.loop cimport LoopBase


cdef extern from "asgi.h":
    ctypedef struct puff_asgi:
        pass


cdef class HttpServer:
    cdef LoopBase loop
    cdef puff_asgi *asgi            # owned
    cdef puff_http_server *server   # owned; NULL once stopped
    cdef object on_stopped          # a callable without arguments, or None
