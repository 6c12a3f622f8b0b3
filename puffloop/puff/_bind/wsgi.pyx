"""Hosts a WSGI app (PEP 3333) on the C HTTP server.

    on_request --> Call --> ready, until the turn's callbacks run --> app(environ, start_response)
                       +--> or a thread, when the app blocks
    app: reads --> Call.read()   nothing there: parks until on_body
         yields -> Call.send()   head and first bytes in one write; parks while the queue is full
    on_done <-- the response is complete, or the client is gone: whoever waits is told

The calls that are ready share a pooled greenlet, one after the other, until one of them waits: that
one keeps it, and the next begin on another. So requests that never wait cost a switch for all of a
turn, and not one each. What touches the core runs on the loop's thread: a thread's calls
are sent over and waited for.

The order of things is PEP 3333's: the head leaves with the first bytes that are not empty, each
piece before the next is asked for, close() is called once in any case.
"""

import contextvars
import io
import os
import sys
from collections import OrderedDict
from stat import S_ISREG

cimport cython

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.errno cimport EAGAIN
from libc.stdint cimport uint64_t
from libc.string cimport memchr

from puff._bind cimport green
from puff._bind.core cimport (
    PUFF_ECLOSED,
    PUFF_ENOMEM,
    PUFF_HTTP_BODY_GONE,
    PUFF_HTTP_BODY_MORE,
    PUFF_HTTP_EFIELD,
    PUFF_HTTP_ELENGTH,
    PUFF_HTTP_ESTATUS,
    puff_http_access,
    puff_http_body,
    puff_http_conn,
    puff_http_conn_server,
    puff_http_field,
    puff_http_host,
    puff_http_options,
    puff_http_request,
    puff_http_request_consume,
    puff_http_request_read,
    puff_http_request_ref,
    puff_http_request_unref,
    puff_http_response_abort,
    puff_http_response_body,
    puff_http_response_complete,
    puff_http_response_file,
    puff_http_response_queued,
    puff_http_response_simple,
    puff_http_response_start_as,
    puff_http_server_data,
    puff_loop,
    puff_now_ns,
    puff_str,
)
from puff._bind.http cimport HttpServer, set_options
from puff._bind.loop cimport LoopBase
from puff._bind.waiter cimport Waiter, call
from puff._bind.wsgi_input cimport new_input
from puff.errors import ClientDisconnected

import greenlet as _greenlet

cdef extern from "environ.h":
    int puff_environ_init() except -1
    object puff_environ_new(object template, object root, object input, puff_http_request *req)
    void puff_environ_conn_free(void *conn_data)

cdef extern from "compat.h":
    void puff_set_context(object context)

cdef extern from "fields.h":
    ctypedef struct puff_fields:
        puff_http_field *items
        size_t n
    object puff_fields_check_text(object headers)
    int puff_fields_take_text(puff_fields *f, tuple pairs) except -1
    void puff_fields_drop(puff_fields *f)

cdef extern from "access_log.h":
    puff_access_log *puff_access_log_new(puff_loop *loop, int fd)
    void puff_access_log_free(puff_access_log *log)
    void puff_access_log_add(puff_access_log *log, const puff_http_access *a)

cdef extern from *:
    const char *text_of "(const char *)PyUnicode_1BYTE_DATA" (object text)
    object PyContext_Copy(object context)
    object PyMethod_New(object function, object instance)

puff_environ_init()

cdef enum:
    QUEUE_HIGH = 65536  # a client that reads nothing holds this much of a response, no more
    FILE_BLOCK = 131072  # of a file whose client is slow: above QUEUE_HIGH, so that it parks
    BATCH_NS = 150000  # how long an answer may wait for others of its turn, as the core's
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

    cdef int begin(self) except -1:
        """Hands the head to the core, which sends it with the first bytes."""
        cdef puff_fields fields
        cdef puff_str reason
        if self.reason is None:
            raise RuntimeError("the app did not call start_response() before its first bytes")
        reason.ptr = text_of(self.reason) + 4
        reason.len = len(self.reason) - 4
        puff_fields_take_text(&fields, self.fields)
        cdef int rc = puff_http_response_start_as(
            self.req, self.status, reason, fields.items, fields.n
        )
        puff_fields_drop(&fields)
        if rc < 0:
            raise _error(rc)
        self.begun = True
        return 0

    cdef object send_now(self, bytes data, bint more):
        """Sends bytes; returns whether the client is slow to take them."""
        cdef int rc
        cdef Py_ssize_t n = PyBytes_GET_SIZE(data)
        self.woken = False
        if not self.begun:
            self.begin()
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
        if type(data) is not bytes:
            raise TypeError(f"a WSGI app's body is made of bytes, not {type(data).__name__}")
        slow = self.on_loop(False, data, 0, more) if self.threaded else self.send_now(data, more)
        if slow:
            self.wait()
        return 0

    def start_response(self, status, headers, exc_info=None, /):
        """PEP 3333: begins the response, or begins it anew with an error's; returns write()."""
        if exc_info is not None:
            try:
                if self.begun:
                    raise exc_info[1].with_traceback(exc_info[2])
            finally:
                exc_info = None  # or it would be part of a cycle
        elif self.reason is not None:
            raise AssertionError("start_response() was called before, and not for an error")
        code = _status(status)
        self.fields = puff_fields_check_text(headers)
        self.status, self.reason = code, status
        return PyMethod_New(_write, self)

    def write(self, data):
        """PEP 3333's imperative way: sends bytes at once."""
        if data:
            self.send(data, True)

    # ---- the app ---------------------------------------------------------------------------------

    def __call__(self):
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

    cdef int serve(self) except -1:
        environ, self.environ = self.environ, None  # which has us in its wsgi.input
        result = None
        try:
            result = self.server.app(environ, PyMethod_New(_start_response, self))
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
        region = None if self.threaded else _region(wrapper.filelike)
        if region is None or region[2] == 0:
            return False
        fd, at, left = region
        if not self.begun:
            self.begin()
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
            if data:
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
        if self.begun or puff_http_response_simple(self.req, 500, NULL) < 0:
            puff_http_response_abort(self.req)

    cdef int end(self) except -1:
        if self.threaded:
            self.server.loop.call_soon_threadsafe(self.end_now)
        else:
            self.end_now()
        return 0

    def end_now(self):
        self.server.remove(self)
        seat, self.seat = self.seat, None
        if seat is not None:
            self.server.give_back(seat)
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
        if self.server.line is None or self.server.line.pop(self, self) is self:
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
        elif self.worker is not None and self.worker.token is not None:
            green.throw_into(self.worker, self.worker.token, GreenletExit())


# Every request binds these two to its Call: without a look-up.
cdef object _start_response = Call.__dict__["start_response"]
cdef object _write = Call.__dict__["write"]

# "200 OK" -> 200: an app has few, and uses them again and again.
cdef dict _statuses = {}


cdef int _status(object status) except -1:
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


# ---- the core's callbacks ------------------------------------------------------------------------

cdef void _on_request(puff_http_request *req) noexcept:
    cdef WsgiServer server = <WsgiServer>puff_http_server_data(puff_http_conn_server(req.conn))
    try:
        server.serve(req)
    except (SystemExit, KeyboardInterrupt) as exc:
        server.loop.interrupt(exc)
    except BaseException as exc:
        server.report("a request could not be served", exc, req)
        puff_http_response_abort(req)


cdef void _wake(puff_http_request *req) noexcept:
    if req.data is not NULL:
        (<Call>req.data).wake()


cdef void _on_disconnect(puff_http_request *req) noexcept:
    if req.data is NULL:
        return
    left = <Call>req.data
    if not left.leave_line():
        left.wake()


cdef void _on_done(puff_http_request *req) noexcept:
    if req.data is NULL:
        return
    done = <Call>req.data
    req.data = NULL
    done.wake()
    Py_DECREF(done)  # the core's reference


cdef void _on_conn_free(puff_http_conn *conn, void *data) noexcept:
    puff_environ_conn_free(data)


cdef void _on_access(const puff_http_access *a) noexcept:
    puff_access_log_add((<WsgiServer>puff_http_server_data(a.server)).log, a)


cdef puff_http_host _host
_host.on_request = _on_request
_host.on_body = _wake
_host.on_disconnect = _on_disconnect
_host.on_drain = _wake
_host.on_done = _on_done
_host.on_conn_free = _on_conn_free


# ---- the server ----------------------------------------------------------------------------------

cdef class WsgiServer(HttpServer):
    def __init__(self, LoopBase loop not None, app, *, str root_path="", on_error, threads=None,
                 int greenlets=0, bint multiprocess=False, int access_log_fd=-1,
                 dict options=None):
        cdef puff_http_options opts
        if self.app is not None:
            raise RuntimeError("a WsgiServer is initialised once")
        if loop.core is NULL:
            raise RuntimeError("Event loop is closed")
        keep = []
        set_options(&opts, options or {}, keep)
        if access_log_fd >= 0:
            self.log = puff_access_log_new(loop.core, access_log_fd)
            if self.log is NULL:
                raise MemoryError
            opts.on_access = _on_access
        self.app, self.on_error, self.threads = app, on_error, threads
        self.root = root_path.rstrip("/")
        self.template = _template(self.root, multiprocess)
        self.context = contextvars.copy_context()
        if greenlets:
            self.seats = [green.Namespace() for _ in range(greenlets)]
            self.line = OrderedDict()
        self.pool = green.pool_of(loop)
        self.open(loop, &_host, <void *>self, &opts)

    def __dealloc__(self):
        if self.log is not NULL:
            puff_access_log_free(self.log)

    cdef int serve(self, puff_http_request *req) except -1:
        cdef Call new = Call.__new__(Call)
        new.server = self
        new.req = puff_http_request_ref(req)
        new.environ = puff_environ_new(self.template, self.root, new_input(new), req)
        new.threaded = self.threads is not None
        Py_INCREF(new)  # the core's reference, until on_done
        req.data = <void *>new
        self.add(new)
        if new.threaded:
            self.threads.submit(PyContext_Copy(self.context).run, new)
        elif self.seats is None or self.seats:
            self.get_ready(new)
        else:
            self.line[new] = None
        return 0

    cdef int give_back(self, object seat) except -1:
        self.seats.append(seat)
        if self.line:
            self.get_ready(self.line.popitem(last=False)[0])
        return 0

    # ---- the calls that are ready ----------------------------------------------------------------

    cdef int get_ready(self, Call new) except -1:
        if self.seats is not None:
            new.seat = self.seats.pop()
        if self.last_ready is None:
            self.first_ready = new
        else:
            self.last_ready.next_ready = new
        self.last_ready = new
        if not self.scheduled:
            self.scheduled = True
            self.loop.schedule(_run_ready, self)
        return 0

    cdef Call take_ready(self):
        cdef Call first = self.first_ready
        self.first_ready, first.next_ready = first.next_ready, None
        if self.first_ready is None:
            self.last_ready = None
        return first

    cdef int run_ready(self) except -1:
        """For BATCH_NS: what is answered leaves at the end of the turn."""
        self.until_ns = puff_now_ns() + BATCH_NS
        try:
            while self.first_ready is not None:
                green.run_in(self.pool, self, None)
                if puff_now_ns() >= self.until_ns:
                    break
        finally:
            self.scheduled = self.first_ready is not None
            if self.scheduled:
                self.loop.schedule(_run_ready, self)
        return 0

    def __call__(self):
        """On a greenlet: call after call. One that has waited ends in a later turn, as the last."""
        cdef Call ready
        while self.first_ready is not None:
            ready = self.take_ready()
            puff_set_context(PyContext_Copy(self.context))
            ready()
            if puff_now_ns() >= self.until_ns:
                return

    cdef void add(self, Call new) noexcept:
        new.older = self.newest
        if new.older is not None:
            new.older.newer = new
        self.newest = new

    cdef void remove(self, Call ended) noexcept:
        if ended.newer is not None:
            ended.newer.older = ended.older
        elif self.newest is ended:
            self.newest = ended.older
        if ended.older is not None:
            ended.older.newer = ended.newer
        ended.older = ended.newer = None

    cdef int report(self, str sentence, object exc, const puff_http_request *req) except -1:
        method = PyBytes_FromStringAndSize(req.method.ptr, req.method.len)
        target = PyBytes_FromStringAndSize(req.target.ptr, req.target.len)
        self.on_error(sentence, exc, method, target)
        return 0

    def tasks(self):
        """A future of each request whose app has not ended; cancelling it kills its greenlet."""
        cdef Call each = self.newest
        futures = []
        while each is not None:
            futures.append(each.ended_future())
            each = each.older
        return futures


def _run_ready(WsgiServer server):
    server.run_ready()


cdef dict _template(str root, bint multiprocess):
    return {
        "SCRIPT_NAME": root,
        "SERVER_SOFTWARE": "puff",
        "wsgi.version": (1, 0),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,  # two calls of the app may be under way at once
        "wsgi.multiprocess": multiprocess,
        "wsgi.run_once": False,
        "wsgi.input_terminated": True,  # it ends by itself, also when the body is chunked
        "wsgi.file_wrapper": FileWrapper,
    }


cdef class FileWrapper:
    def __init__(self, filelike, Py_ssize_t blksize=8192):
        self.filelike, self.blksize = filelike, blksize

    def __iter__(self):
        return self

    def __next__(self):
        data = self.filelike.read(self.blksize)
        if not data:
            raise StopIteration
        return data

    def close(self):
        close = getattr(self.filelike, "close", None)
        if close is not None:
            close()


cdef tuple _file_types = (io.BufferedReader, io.FileIO, io.BufferedRandom)


cdef object _region(file):
    """(fd, offset, length) of what is left of a regular file; None where reading it means more than
    its bytes, as gzip's does, or where it has none.
    """
    if type(file) not in _file_types:
        return None
    try:
        if type(file) is io.BufferedRandom:
            file.flush()
        fd, at = file.fileno(), file.tell()
        status = os.fstat(fd)
    except (OSError, ValueError):
        return None
    return (fd, at, max(0, status.st_size - at)) if S_ISREG(status.st_mode) else None
