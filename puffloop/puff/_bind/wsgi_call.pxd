"""One WSGI request: what its server and its wsgi.input need to know."""

from cpython.object cimport PyObject

from puff._bind.core cimport puff_http_request
from puff._bind.green cimport Worker
from puff._bind.http cimport HttpServer
from puff._bind.waiter cimport Waiter
from puff._bind.wsgi_file cimport FileWrapper


cdef class Gateway(HttpServer):
    """What a call knows of the server that it is for."""

    cdef object app
    cdef object on_error

    cdef int report(self, str sentence, object exc, const puff_http_request *req) except -1
    # Override: its app has ended, or will not begin any more.
    cdef int ended(self, Call one) except -1
    # Override: True if it was in line; its app does not begin any more.
    cdef bint leave_line(self, Call one) noexcept


cdef class Call:
    """One request and what the app does with it."""

    cdef Gateway server
    cdef puff_http_request *req  # a reference; its calls say ECLOSED once it is done
    cdef object environ
    cdef object status           # "200 OK", or None: start_response() was not called yet
    cdef tuple headers           # of a thread, until the first bytes
    cdef bint threaded           # the app runs in a thread: what touches the core is sent over
    cdef bint begun              # the core has the head
    cdef bint ended              # the last of the body is with the core
    cdef bint woken              # something has happened since the app last looked
    cdef Waiter waiting          # for body bytes or a queue that falls
    cdef Worker worker           # the greenlet, while the app runs on one
    cdef object seat             # keeps what is local to a thread; None: the call's own does
    cdef object future           # done when the app has ended; made when somebody asks
    cdef bint killed             # before its app has begun
    cdef bint apart              # it has waited: its greenlet serves no other
    cdef Call next_ready

    # What the request's body has now, at most n bytes (-1: all), with line at most one line; None:
    # nothing yet. b"" is the end. Raises ClientDisconnected.
    cdef object read(self, Py_ssize_t n, bint line)
    # Returns when there is more of the body, the end, or the client is gone.
    cdef object wait(self)

    cdef object read_now(self, Py_ssize_t n, bint line)
    cdef int begin(self, int code, str status, object headers) except -1
    cdef int begin_late(self) except -1
    cdef int start(self, object status, object headers, PyObject *exc_info) except -1
    cdef bint take_back(self) noexcept
    cdef object send_now(self, bytes data, bint more)
    cdef object on_loop(self, bint reading, object data, Py_ssize_t n, bint flag)
    cdef int send(self, object data, bint more) except -1
    cdef int run(self) except -1
    cdef int serve(self) except -1
    cdef bint send_file(self, FileWrapper wrapper) except -1
    cdef int send_all(self, object result) except -1
    cdef int failed(self, object exc) except -1
    cdef int give_up(self) except -1
    cdef int end(self) except -1
    cdef void wake(self) noexcept
    cdef bint leave_line(self) noexcept
    cdef object ended_future(self)


cdef Call new_call(Gateway server, puff_http_request *req)
