"""Waiting for sockets that Python code reads and writes itself."""

from puff._bind.core cimport puff_ready
from puff._bind.loop cimport puff_held
from puff._bind.waiter cimport Waiter


cdef class Ready(Waiter):
    """Until a descriptor is ready, in the caller's world; the value is None."""

    cdef puff_ready ready
    cdef puff_held held  # while it waits
    cdef object sock  # whose descriptor it is; None: only a number
    cdef int fd
    cdef int events   # PUFF_READABLE or PUFF_WRITABLE


# After BlockingIOError: waits until the socket is ready (or failed, or hung up: only trying tells).
# A greenlet parks, a task gets an awaitable; see waiter.call(). No system call when this socket
# has waited before. Any number may wait for one socket; all of them are woken.
cdef object wait_socket(object sock, int events)
# The same for a number that may be any file's, and without a try before: one system call.
cdef object wait_fd(int fd, int events)

# Whether accept_now() is for this socket: an open, non-blocking socket.socket.
cdef bint can_accept(object sock)
# (socket, address), non-blocking; None when nobody waits to be accepted.
cdef object accept_now(object sock)
