"""A WSGI app on the C HTTP server."""

from libc.stdint cimport uint64_t

from puff._bind.core cimport puff_http_request
from puff._bind.green cimport Pool, Worker
from puff._bind.http cimport HttpServer
from puff._bind.waiter cimport Waiter


cdef extern from "access_log.h":
    ctypedef struct puff_access_log:
        pass


cdef class WsgiServer(HttpServer):
    cdef object app
    cdef object root             # SCRIPT_NAME, without a slash at its end
    cdef dict template           # the environ's keys that no request changes
    cdef object context          # what each request's context is a copy of
    cdef object on_error
    cdef object threads          # an executor for apps that block, or None: on greenlets
    cdef Pool pool               # of the greenlets
    cdef list seats              # Namespaces that no call has, or None: as many calls as there are
    cdef object line             # an OrderedDict: calls that wait for a seat
    cdef Call first_ready        # a list by Call.next_ready: their app begins in this turn
    cdef Call last_ready
    cdef bint scheduled          # that
    cdef uint64_t until_ns       # no more of them begin in this turn
    cdef Call newest             # of the calls that have not ended: a list by Call.older
    cdef puff_access_log *log    # owned, or NULL

    cdef int serve(self, puff_http_request *req) except -1
    cdef int get_ready(self, Call new) except -1
    cdef Call take_ready(self)
    cdef int run_ready(self) except -1
    cdef int give_back(self, object seat) except -1
    cdef void add(self, Call new) noexcept
    cdef void remove(self, Call ended) noexcept
    cdef int report(self, str sentence, object exc, const puff_http_request *req) except -1


cdef class FileWrapper:
    """wsgi.file_wrapper: a file as an iterable of blocks, closed with the response."""

    cdef readonly object filelike
    cdef readonly Py_ssize_t blksize


cdef class Call:
    """One request and what the app does with it."""

    cdef WsgiServer server
    cdef puff_http_request *req  # a reference; its calls say ECLOSED once it is done
    cdef object environ
    cdef object reason           # "200 OK", or None: start_response() was not called yet
    cdef tuple fields            # of the response, as the app gave them
    cdef int status
    cdef bint threaded           # the app runs in a thread: what touches the core is sent over
    cdef bint begun              # the core has the head
    cdef bint ended              # the last of the body is with the core
    cdef bint woken              # something has happened since the app last looked
    cdef Waiter waiting          # for body bytes or a queue that falls
    cdef Worker worker           # the greenlet, while the app runs on one
    cdef object seat             # keeps what is local to a thread; None: the call's own does
    cdef object future           # done when the app has ended; made when somebody asks
    cdef bint killed             # before its app has begun
    cdef Call next_ready
    cdef Call older              # the list of those that have not ended
    cdef Call newer

    # What the request's body has now, at most n bytes (-1: all), with line at most one line; None:
    # nothing yet. b"" is the end. Raises ClientDisconnected.
    cdef object read(self, Py_ssize_t n, bint line)
    # Returns when there is more of the body, the end, or the client is gone.
    cdef object wait(self)

    cdef object read_now(self, Py_ssize_t n, bint line)
    cdef int begin(self) except -1
    cdef object send_now(self, bytes data, bint more)
    cdef object on_loop(self, bint reading, object data, Py_ssize_t n, bint flag)
    cdef int send(self, object data, bint more) except -1
    cdef int serve(self) except -1
    cdef bint send_file(self, FileWrapper wrapper) except -1
    cdef int send_all(self, object result) except -1
    cdef int failed(self, object exc) except -1
    cdef int give_up(self) except -1
    cdef int end(self) except -1
    cdef void wake(self) noexcept
    cdef bint leave_line(self) noexcept
    cdef object ended_future(self)
