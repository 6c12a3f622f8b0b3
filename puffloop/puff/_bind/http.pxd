"""The C HTTP server (include/puff/http.h) as the hosts of an app share it: open, listen, stop."""

from puff._bind.core cimport puff_http_host, puff_http_options, puff_http_server
from puff._bind.loop cimport LoopBase


cdef class HttpServer:
    cdef LoopBase loop
    cdef puff_http_server *server   # owned; NULL once stopped
    cdef object on_stopped          # a callable without arguments, or None

    # Opens the server on the loop. host is borrowed and outlives us; it finds its own with
    # puff_http_server_data(), which is data.
    cdef int open(self, LoopBase loop, const puff_http_host *host, void *data,
                  puff_http_options *options) except -1
    # Override: the server begins to stop.
    cdef int stopping(self) except -1


# Fills in the defaults, then what is given by name; `keep` holds what C borrows until open().
# Raises TypeError, ValueError.
cdef int set_options(puff_http_options *o, dict options, list keep) except -1
