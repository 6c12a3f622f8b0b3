"""Hosts a WSGI app (PEP 3333) on the C HTTP server.

    on_request --> Call --> ready, until the turn's callbacks run --> app(environ, start_response)
                       +--> in line, while there are as many as may be
                       +--> or a thread, when the app blocks
    on_body, on_drain, on_disconnect, on_done --> the call, which tells whoever waits

What a call does is wsgi_call.pyx. Those that are ready share a pooled greenlet, one after the
other, until one of them waits: that one keeps it, and the next begin on another. So requests that
never wait cost a switch for all of a turn, and not one each.
"""

import contextvars
import sys
from collections import OrderedDict

from cpython.ref cimport Py_DECREF, Py_INCREF

cimport puff._bind.green as green
from puff._bind.core cimport (
    puff_http_access,
    puff_http_conn,
    puff_http_conn_server,
    puff_http_host,
    puff_http_options,
    puff_http_request,
    puff_http_request_proceed,
    puff_http_response_abort,
    puff_http_server_data,
    puff_loop,
    puff_now_ns,
)
from puff._bind.http cimport set_options
from puff._bind.loop cimport LoopBase
from puff._bind.wsgi_call cimport Call, new_call
from puff._bind.wsgi_input cimport new_input

from puff._bind.wsgi_call import run_call
from puff._bind.wsgi_file import FileWrapper

cdef extern from "environ.h":
    int puff_environ_init() except -1
    object puff_environ_new(object template, object root, object input, puff_http_request *req)
    void puff_environ_conn_free(void *conn_data)

cdef extern from "compat.h":
    void puff_set_context(object context)

cdef extern from "access_log.h":
    puff_access_log *puff_access_log_new(puff_loop *loop, int fd)
    void puff_access_log_free(puff_access_log *log)
    void puff_access_log_add(puff_access_log *log, const puff_http_access *a)

cdef extern from *:
    object PyContext_Copy(object context)

puff_environ_init()

cdef enum:
    BATCH_NS = 150000  # how long an answer may wait for others of its turn, as the core's


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

cdef class WsgiServer(Gateway):
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
        self.apart = set()
        if greenlets:
            self.seats = [green.Namespace() for _ in range(greenlets)]
            self.line = OrderedDict()
        self.pool = green.pool_of(loop)
        self.open(loop, &_host, <void *>self, &opts)

    def __dealloc__(self):
        if self.log is not NULL:
            puff_access_log_free(self.log)

    cdef int serve(self, puff_http_request *req) except -1:
        cdef Call new = new_call(self, req)
        new.environ = puff_environ_new(self.template, self.root, new_input(new), req)
        new.threaded = self.threads is not None
        Py_INCREF(new)  # the core's reference, until on_done
        req.data = <void *>new
        if new.threaded:
            self.apart.add(new)
            self.threads.submit(PyContext_Copy(self.context).run, run_call, new)
        elif self.seats is None or self.seats:
            self.get_ready(new)
        else:
            self.line[new] = None
        return 0

    cdef int ended(self, Call one) except -1:
        if self.running is one:
            self.running = None
        else:
            self.apart.discard(one)
        seat, one.seat = one.seat, None
        if seat is None:
            return 0
        self.seats.append(seat)
        if self.line:
            self.get_ready(self.line.popitem(last=False)[0])
        return 0

    cdef bint leave_line(self, Call one) noexcept:
        return self.line is not None and self.line.pop(one, one) is None

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
                self.set_apart()
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
            ready = self.running = self.take_ready()
            puff_set_context(PyContext_Copy(self.context))
            ready.run()
            if ready.apart:
                return
            puff_http_request_proceed(ready.req)  # a pipelined one gets ready behind the others
            if puff_now_ns() >= self.until_ns:
                return

    cdef int set_apart(self) except -1:
        """The call that was begun last waits: from here on its greenlet is its own."""
        parked, self.running = self.running, None
        if parked is not None:
            (<Call>parked).apart = True
            self.apart.add(parked)
        return 0

    def tasks(self):
        """A future of each request whose app has not ended; cancelling it kills its greenlet."""
        cdef Call each = self.first_ready
        calls = [*self.apart, *(self.line or ())]
        if self.running is not None:
            calls.append(self.running)
        while each is not None:
            calls.append(each)
            each = each.next_ready
        return [(<Call>call).ended_future() for call in calls]


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
