"""One request and what its WSGI app does with it: PEP 3333 between the app and the core.

    app: reads --> Call.read()   nothing there: parks until the core says that there is more
         yields -> Call.send()   head and first bytes in one write; parks while the queue is full

What touches the core runs on the loop's thread: a thread's calls are sent over and waited for.

The order of things is PEP 3333's: the head leaves with the first bytes that are not empty, each
piece before the next is asked for, close() is called once in any case.
"""

import os

cimport cython

from cpython.object cimport PyObject
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t
from libc.string cimport memchr

cimport puff._bind.green as green
from puff._bind.bridge cimport kill_parked
from puff._bind.core cimport (
    PUFF_ECLOSED,
    PUFF_ENOMEM,
    PUFF_HTTP_BODY_GONE,
    PUFF_HTTP_BODY_MORE,
    PUFF_HTTP_EFIELD,
    PUFF_HTTP_ELENGTH,
    PUFF_HTTP_ESTATUS,
    puff_http_body,
    puff_http_field,
    puff_http_request_consume,
    puff_http_request_read,
    puff_http_request_ref,
    puff_http_request_unref,
    puff_http_response_abort,
    puff_http_response_body,
    puff_http_response_complete,
    puff_http_response_file,
    puff_http_response_forget,
    puff_http_response_queued,
    puff_http_response_simple,
    puff_http_response_start_as,
    puff_str,
)
from puff._bind.waiter cimport Waiter, call
from puff._bind.wsgi_file cimport FileWrapper, region_of
from puff.errors import ClientDisconnected

import greenlet as _greenlet

cdef extern from "fields.h":
    ctypedef struct puff_fields:
        puff_http_field *items
        size_t n
    int puff_fields_take_text(puff_fields *f, object pairs) except -1
    void puff_fields_drop(puff_fields *f)

cdef extern from *:
    const char *text_of "(const char *)PyUnicode_1BYTE_DATA" (object text)

cdef extern from "start_response.h":
    int puff_start_response_init(int (*start)(object call, object status, object headers,
                                              PyObject *exc_info) except -1) except -1
    object puff_start_response_new(object call)

cdef enum:
    QUEUE_HIGH = 65536  # a client that reads nothing holds this much of a response, no more
    FILE_BLOCK = 131072  # of a file whose client is slow: above QUEUE_HIGH, so that it parks
    COPY_BELOW = 4096   # as the core's: below, a write is copied anyway

cdef object GreenletExit = _greenlet.GreenletExit


# ---- waiting -------------------------------------------------------------------------------------

cdef class _Wait(Waiter):
    """For the body to go on, or for the queue to fall; the client's end ends it too."""

    cdef Call call

    cdef int start(self) except -1:
        if self.call.woken:  # since the thread has looked
            self.resolve(None)
        else:
            self.call.waiting = self
        return 0

    cdef void abandon(self) noexcept:
        if self.call.waiting is self:
            self.call.waiting = None


cdef class _Turn(Waiter):
    """For the loop's next turn, in which what was written has left."""

    cdef int start(self) except -1:
        self.loop.schedule(_resolve, self)
        return 0


def _resolve(Waiter waiter):
    waiter.resolve(None)


cdef class _OnLoop(Waiter):
    """What an app in a thread asks of the core."""

    cdef Call call
    cdef object data
    cdef Py_ssize_t n
    cdef bint flag
    cdef bint reading

    cdef int start(self) except -1:
        if self.reading:
            self.resolve(self.call.read_now(self.n, self.flag))
        else:
            self.resolve(self.call.send_now(self.data, self.flag))
        return 0


# ---- the request ---------------------------------------------------------------------------------

cdef class Gateway(HttpServer):
    cdef int report(self, str sentence, object exc, const puff_http_request *req) except -1:
        method = PyBytes_FromStringAndSize(req.method.ptr, req.method.len)
        target = PyBytes_FromStringAndSize(req.target.ptr, req.target.len)
        self.on_error(sentence, exc, method, target)
        return 0

    cdef int ended(self, Call one) except -1:
        raise NotImplementedError

    cdef bint leave_line(self, Call one) noexcept:
        return False


cdef Call new_call(Gateway server, puff_http_request *req):
    cdef Call self = Call.__new__(Call)
    self.server = server
    self.req = puff_http_request_ref(req)
    return self


@cython.final
@cython.freelist(32)
cdef class Call:
    def __dealloc__(self):
        if self.req is not NULL:
            puff_http_request_unref(self.req)

    # ---- what touches the core: on the loop's thread ---------------------------------------------

    cdef object read_now(self, Py_ssize_t n, bint line):
        cdef puff_str there
        cdef const void *newline
        self.woken = False
        cdef puff_http_body more = puff_http_request_read(self.req, &there)
        if more == PUFF_HTTP_BODY_GONE:
            raise ClientDisconnected("the client has disconnected")
        if there.len == 0:
            return None if more == PUFF_HTTP_BODY_MORE else b""
        if 0 <= n < <Py_ssize_t>there.len:
            there.len = n
        if line:
            newline = memchr(there.ptr, 10, there.len)
            if newline is not NULL:
                there.len = <const char *>newline - there.ptr + 1
        data = PyBytes_FromStringAndSize(there.ptr, there.len)
        puff_http_request_consume(self.req, there.len)
        return data

    cdef int begin(self, int code, str status, object headers) except -1:
        """Hands the head to the core, which sends it with the first bytes."""
        cdef puff_fields fields
        cdef puff_str reason
        reason.ptr = text_of(status) + 4
        reason.len = len(status) - 4
        puff_fields_take_text(&fields, headers)
        cdef int rc = puff_http_response_start_as(
            self.req, code, reason, fields.items, fields.n
        )
        puff_fields_drop(&fields)
        if rc < 0:
            raise _error(rc)
        self.begun = True
        return 0

    cdef int begin_late(self) except -1:
        """Before the first bytes: what a thread has left of start_response()."""
        if self.status is None:
            raise RuntimeError("the app did not call start_response() before its first bytes")
        return self.begin(_code(self.status), self.status, self.headers)

    cdef object send_now(self, bytes data, bint more):
        """Sends bytes; returns whether the client is slow to take them."""
        cdef int rc
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        self.woken = False
        if not self.begun:
            self.begin_late()
        if n < COPY_BELOW:
            rc = puff_http_response_body(self.req, PyBytes_AS_STRING(data), n, more, NULL, NULL)
        else:
            Py_INCREF(data)
            rc = puff_http_response_body(
                self.req, PyBytes_AS_STRING(data), n, more, _release, <void *>data
            )
            if rc < 0:
                Py_DECREF(data)
        if rc < 0:
            raise _error(rc)
        if not more:
            self.ended = True
        return more and puff_http_response_queued(self.req) > QUEUE_HIGH

    # ---- for the app -----------------------------------------------------------------------------

    cdef object on_loop(self, bint reading, object data, Py_ssize_t n, bint flag):
        cdef _OnLoop waiter = _OnLoop()
        waiter.call, waiter.reading, waiter.data, waiter.n, waiter.flag = (
            self, reading, data, n, flag
        )
        return call(waiter)

    cdef object read(self, Py_ssize_t n, bint line):
        return self.on_loop(True, None, n, line) if self.threaded else self.read_now(n, line)

    cdef object wait(self):
        cdef _Wait waiter = _Wait()
        waiter.call = self
        call(waiter)

    cdef int send(self, object data, bint more) except -1:
        """One piece of the body; returns when the next may be made."""
        _is_empty(data)
        slow = self.on_loop(False, data, 0, more) if self.threaded else self.send_now(data, more)
        if slow:
            self.wait()
        return 0

    cdef int start(self, object status, object headers, PyObject *exc_info) except -1:
        """PEP 3333's start_response(): begins the response, or begins it anew with an error's."""
        if exc_info is not NULL:
            if type(<object>exc_info) is not tuple:
                raise TypeError("exc_info is a tuple, what sys.exc_info() returns")
            if not self.take_back():
                _raise(<object>exc_info)
        elif self.status is not None:
            raise AssertionError("start_response() was called before, and not for an error")
        code = _code(status)
        if not isinstance(headers, list):
            raise TypeError(
                f"headers are a list of (name, value) tuples, not {type(headers).__name__}"
            )
        if self.threaded:
            self.headers = _checked(headers)
        else:
            self.begin(code, status, headers)
        self.status = status
        return 0

    cdef bint take_back(self) noexcept:
        """False: the head has left."""
        if self.begun and (self.threaded or puff_http_response_forget(self.req) < 0):
            return False
        self.begun = False
        return True

    def __call__(self, data):
        """PEP 3333's write(), its imperative way: sends bytes at once."""
        if not _is_empty(data):
            self.send(data, True)

    # ---- the app ---------------------------------------------------------------------------------

    cdef int run(self) except -1:
        """Runs the app, on a greenlet or in a thread, to its end."""
        self.worker = green.current()
        if self.worker is not None:
            self.worker.locals = self.seat  # None: new ones
        try:
            if self.killed:
                raise GreenletExit
            self.serve()
        except ClientDisconnected:
            self.give_up()  # or the core would wait for the response for ever
        except (GreenletExit, SystemExit, KeyboardInterrupt):
            self.give_up()
            raise
        except BaseException as exc:
            self.failed(exc)
        finally:
            self.worker = None
            self.end()
        return 0

    cdef int serve(self) except -1:
        environ, self.environ = self.environ, None  # which has us in its wsgi.input
        result = None
        try:
            result = self.server.app(environ, puff_start_response_new(self))
            del environ
            self.send_all(result)
        finally:
            if type(result) is not list:
                close = getattr(result, "close", None)
                if close is not None:
                    close()
        return 0

    cdef bint send_file(self, FileWrapper wrapper) except -1:
        """By sendfile(2), where that can be done; a client that is slow gets blocks in between."""
        cdef uint64_t at, left
        cdef ssize_t n
        cdef int fd
        region = None if self.threaded else region_of(wrapper.filelike)
        if region is None or region[2] == 0:
            return False
        fd, at, left = region
        if not self.begun:
            self.begin_late()
        waited = False
        while True:
            n = puff_http_response_file(self.req, fd, at, left)
            if n == -EAGAIN and waited:  # it was not the head that was queued
                data = os.pread(fd, min(left, <uint64_t>FILE_BLOCK), at)
                self.send(data, True)
                n = PyBytes_GET_SIZE(data)
                if n == 0:
                    raise RuntimeError("the file has become shorter")
            elif n < 0 and n != -EAGAIN:
                if n == PUFF_ECLOSED or n == PUFF_HTTP_ELENGTH or n == PUFF_ENOMEM:
                    raise _error(n)
                wrapper.filelike.seek(at)
                return False
            waited = n == -EAGAIN
            if n > 0:
                at, left = at + n, left - n
            if puff_http_response_complete(self.req):
                self.ended = True
                return True
            call(_Turn())

    cdef int send_all(self, object result) except -1:
        if type(result) is FileWrapper and self.send_file(result):
            return 0
        if type(result) is list or type(result) is tuple:
            return self.send(result[0] if len(result) == 1 else b"".join(result), False)
        for data in result:
            if not _is_empty(data):
                self.send(data, True)
                call(_Turn())  # before the next piece is asked for this one is on its way
        return self.send(b"", False)

    cdef int failed(self, object exc) except -1:
        """The app has raised: 500 if that can still be said, else the connection breaks off."""
        sentence = "the WSGI app raised an exception"
        self.server.report(sentence, exc, self.req)
        self.give_up()
        return 0

    cdef int give_up(self) except -1:
        if self.threaded:
            self.server.loop.call_soon_threadsafe(self.give_up_now)
        else:
            self.give_up_now()
        return 0

    def give_up_now(self):
        if self.ended:
            return
        self.ended = True
        if puff_http_response_forget(self.req) < 0 or puff_http_response_simple(
            self.req, 500, NULL
        ) < 0:
            puff_http_response_abort(self.req)

    cdef int end(self) except -1:
        if self.threaded:
            self.server.loop.call_soon_threadsafe(self.end_now)
        else:
            self.end_now()
        return 0

    def end_now(self):
        self.server.ended(self)
        self.server = self.environ = None  # the app may keep us: nothing leads from here to it
        future, self.future = self.future, None
        if future is not None and not future.done():
            future.set_result(None)

    # ---- for the server --------------------------------------------------------------------------

    cdef void wake(self) noexcept:
        self.woken = True
        waiting, self.waiting = self.waiting, None
        if waiting is not None:
            (<Waiter>waiting).resolve(None)

    cdef bint leave_line(self) noexcept:
        """True if it was in line: its app does not begin any more."""
        if self.server is None or not self.server.leave_line(self):
            return False
        self.give_up_now()
        self.end_now()
        return True

    cdef object ended_future(self):
        """Done when the app has ended; cancelling it kills the greenlet. A thread goes on."""
        if self.future is None:
            self.future = self.server.loop.create_future()
            self.future.add_done_callback(self.kill)
        return self.future

    def kill(self, future):
        if not future.cancelled():
            return
        if self.future is future:
            self.future = None
        if self.leave_line():
            return
        if self.environ is not None:
            self.killed = not self.threaded
        elif self.worker is not None:
            kill_parked(self.worker, False)


cdef int _start(object one, object status, object headers, PyObject *exc_info) except -1:
    return (<Call>one).start(status, headers, exc_info)


puff_start_response_init(_start)


def run_call(Call one):
    """In a thread."""
    one.run()


cdef bint _is_empty(object data) except -1:
    if type(data) is not bytes:
        raise TypeError(f"a WSGI app's body is made of bytes, not {type(data).__name__}")
    return PyBytes_GET_SIZE(data) == 0


cdef tuple _checked(object headers):
    """A copy for later; raises if it cannot be sent."""
    cdef puff_fields fields
    puff_fields_take_text(&fields, headers)
    puff_fields_drop(&fields)
    return tuple(headers)


cdef int _raise(object exc_info) except -1:
    """Takes no part in the cycle that the traceback's frames make with it."""
    try:
        raise exc_info[1].with_traceback(exc_info[2])
    finally:
        exc_info = None


# "200 OK" -> 200: an app has few, and uses them again and again.
cdef dict _statuses = {}


cdef int _code(object status) except -1:
    code = _statuses.get(status)
    if code is None:
        code = _parse_status(status)
        if len(_statuses) < 100:
            _statuses[status] = code
    return code


cdef object _parse_status(object status):
    """The number of "404 Not Found"."""
    if type(status) is not str:
        raise TypeError(f"a status is a str such as '200 OK', not {status!r}")
    digits = status[:3]
    number = digits.isascii() and digits.isdigit() and status[3:4] == " "
    if not number or max(status) > "\u00ff":
        raise ValueError(f"a status is three digits, a space and a reason, not {status!r}")
    return int(digits)


cdef object _error(int rc):
    if rc == PUFF_ECLOSED:
        return ClientDisconnected("the client has disconnected")
    if rc == PUFF_ENOMEM:
        return MemoryError()
    if rc == PUFF_HTTP_EFIELD:
        return ValueError("a header name is no token, or a header value has a control character")
    if rc == PUFF_HTTP_ESTATUS:
        return ValueError("a status is from 200 to 599, its reason without control characters")
    if rc == PUFF_HTTP_ELENGTH:
        return RuntimeError("content-length is none, or more body than it says")
    return RuntimeError("the response is complete")


cdef void _release(void *data) noexcept:
    Py_DECREF(<object>data)
