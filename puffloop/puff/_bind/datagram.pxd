"""Datagram transports on the core's sockets."""

from puff._bind.core cimport puff_udp
from puff._bind.endpoint cimport Endpoint


cdef class Datagram(Endpoint):
    cdef puff_udp *core         # owned; NULL once its close has begun
    cdef int family
    cdef object address         # asyncio's: where all goes, or None
    cdef bint connected         # the socket itself knows where all goes

    cdef int sendto(self, object data, object addr) except -1
    cdef int send(self, object data, object addr) except -1
    cdef int send_by_name(self, object data, object addr) except -1
    cdef int queue_by_name(self, object data, object addr) except -1
    cdef int send_failed(self, int code) except -1
    cdef int sent(self) except -1
