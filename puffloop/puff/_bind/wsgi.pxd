"""A WSGI app on the C HTTP server."""

from libc.stdint cimport uint64_t

from puff._bind.core cimport puff_http_request
from puff._bind.green cimport Pool
from puff._bind.wsgi_call cimport Call, Gateway


cdef extern from "access_log.h":
    ctypedef struct puff_access_log:
        pass


cdef class WsgiServer(Gateway):
    cdef object root             # SCRIPT_NAME, without a slash at its end
    cdef dict template           # the environ's keys that no request changes
    cdef object context          # what each request's context is a copy of
    cdef object threads          # an executor for apps that block, or None: on greenlets
    cdef Pool pool               # of the greenlets
    cdef list seats              # Namespaces that no call has, or None: as many calls as there are
    cdef object line             # an OrderedDict: calls that wait for a seat
    cdef Call first_ready        # a list by Call.next_ready: their app begins in this turn
    cdef Call last_ready
    cdef bint scheduled          # that
    cdef uint64_t until_ns       # no more of them begin in this turn
    cdef Call running            # it has begun, and has not waited yet
    cdef set apart               # calls that have waited, or run in threads, and have not ended
    cdef puff_access_log *log    # owned, or NULL

    cdef int serve(self, puff_http_request *req) except -1
    cdef int get_ready(self, Call new) except -1
    cdef Call take_ready(self)
    cdef int run_ready(self) except -1
    cdef int set_apart(self) except -1
