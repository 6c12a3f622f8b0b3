# cython: language_level=3
"""Hosts an ASGI app on the C HTTP server (include/puff/http.h).

This file opens, listens and stops. What happens for a request is C: asgi.h says how its files hang
together.
"""

import os

from cpython.object cimport PyObject
from libc.stdint cimport uint16_t
from libc.string cimport memset

from puff._bind.core cimport (
    PUFF_EARG, puff_err, puff_http_access, puff_http_host, puff_http_options,
    puff_http_options_init, puff_http_server, puff_http_server_listen, puff_http_server_open,
    puff_http_server_stats, puff_http_server_stop, puff_listener, puff_listener_options,
    puff_listener_port,
)
from puff._bind.loop cimport LoopBase


cdef extern from "asgi.h":
    int puff_asgi_init(void (*interrupt)(PyObject *loop, PyObject *exc) noexcept) except -1
    puff_asgi *puff_asgi_new(object loop, object app, object state, object root_path,
                             object on_error, int log_fd) except NULL
    void puff_asgi_free(puff_asgi *asgi)
    void puff_asgi_stop(puff_asgi *asgi)
    object puff_asgi_tasks(puff_asgi *asgi)
    const puff_http_host puff_asgi_host
    void puff_asgi_on_access(const puff_http_access *a) noexcept
    void puff_asgi_set_owner(puff_asgi *asgi, void *owner)
    void *puff_asgi_owner(void *asgi)


cdef void _interrupt(PyObject *loop, PyObject *exc) noexcept:
    (<LoopBase>loop).interrupt(<object>exc)


puff_asgi_init(_interrupt)


cdef object _oserror(puff_err *err):
    if -4000 < err.code < 0:
        return OSError(-err.code, err.msg.decode("utf-8", "replace"))
    if err.code == PUFF_EARG:
        return ValueError(err.msg.decode("utf-8", "replace"))
    return RuntimeError(err.msg.decode("utf-8", "replace"))


cdef int _set_options(puff_http_options *o, dict options, list keep) except -1:
    """Fills in what is given; `keep` holds what C borrows."""
    for name, value in options.items():
        if name == "max_request_line":
            o.max_request_line = value
        elif name == "max_head":
            o.max_head = value
        elif name == "max_fields":
            o.max_fields = value
        elif name == "max_connections":
            o.max_connections = value
        elif name == "max_pipelined":
            o.max_pipelined = value
        elif name == "max_body":
            o.max_body = value
        elif name == "max_drain":
            o.max_drain = value
        elif name == "header_timeout_ms":
            o.header_timeout_ms = value
        elif name == "keep_alive_timeout_ms":
            o.keep_alive_timeout_ms = value
        elif name == "body_timeout_ms":
            o.body_timeout_ms = value
        elif name == "write_timeout_ms":
            o.write_timeout_ms = value
        elif name == "min_rate":
            o.min_rate = value
        elif name == "server_header":
            o.server_header = value
        elif name == "date_header":
            o.date_header = value
        elif name == "server_name":
            keep.append(value.encode("latin-1"))
            o.server_name = <bytes>keep[-1]
        else:
            raise TypeError(f"the HTTP server has no option {name!r}")
    return 0


cdef class HttpServer:
    def __init__(self, LoopBase loop not None, app, *, dict state=None, str root_path="", on_error,
                 int access_log_fd=-1, dict options=None):
        cdef puff_http_options opts
        cdef puff_err err
        if self.asgi is not NULL:
            raise RuntimeError("an HttpServer is initialised once")
        if loop.core is NULL:
            raise RuntimeError("Event loop is closed")
        keep = []
        puff_http_options_init(&opts)
        _set_options(&opts, options or {}, keep)
        if access_log_fd >= 0:
            opts.on_access = puff_asgi_on_access
        self.loop = loop
        self.asgi = puff_asgi_new(loop, app, {} if state is None else state, root_path.rstrip("/"),
                                  on_error, access_log_fd)
        puff_asgi_set_owner(self.asgi, <void *>self)
        if puff_http_server_open(&self.server, loop.core, &puff_asgi_host, self.asgi, &opts,
                                 &err) < 0:
            raise _oserror(&err)
        loop.clients[("http", id(self))] = self  # keeps us alive until we have stopped

    def __dealloc__(self):
        if self.asgi is not NULL:
            puff_asgi_free(self.asgi)

    def listen(self, *, str host=None, uint16_t port=0, unix_path=None, int fd=-1, int backlog=0,
               bint reuse_port=False):
        """Listens on one more address; returns its port (0 for a Unix socket). Raises OSError."""
        cdef puff_listener_options opts
        cdef puff_listener *listener = NULL
        cdef puff_err err
        cdef bytes host_bytes = None if host is None else host.encode("idna")
        cdef bytes path_bytes = None if unix_path is None else os.fsencode(unix_path)
        self._check_open()
        memset(&opts, 0, sizeof(opts))
        opts.size = sizeof(opts)
        if host_bytes is not None:
            opts.host = host_bytes
        if path_bytes is not None:
            opts.unix_path = path_bytes
        opts.port = port
        opts.fd = fd
        opts.backlog = backlog
        opts.reuse_port = reuse_port
        if puff_http_server_listen(self.server, &opts, &listener, &err) < 0:
            raise _oserror(&err)
        return puff_listener_port(listener)

    def stop(self, unsigned long long timeout_ms, on_stopped=None):
        """Stops listening and lets requests finish, at most that long; then calls on_stopped().

        A second call may shorten the time; only the first call's on_stopped is called.
        """
        self._check_open()
        if self.on_stopped is None:
            self.on_stopped = on_stopped
        puff_asgi_stop(self.asgi)
        puff_http_server_stop(self.server, timeout_ms, _on_stopped)

    def tasks(self):
        """The asyncio.Tasks of requests whose app has begun, has waited and has not ended."""
        return puff_asgi_tasks(self.asgi)

    @property
    def is_open(self):
        return self.server is not NULL

    def statistics(self):
        """Counters: accepted, requests, refused; and as of now: connections, in_flight."""
        self._check_open()
        s = puff_http_server_stats(self.server)
        return {"accepted": s.n_accepted, "requests": s.n_requests, "refused": s.n_refused,
                "connections": s.n_connections, "in_flight": s.n_in_flight}

    def _check_open(self):
        if self.server is NULL:
            raise RuntimeError("the HTTP server has stopped")

    def _loop_closing(self, loop):
        """The loop ends with us still open: nobody is served any more."""
        if self.server is NULL:
            return
        self.stop(0)
        while self.server is not NULL:
            self.loop.turn()


cdef void _on_stopped(puff_http_server *server, void *data) noexcept:
    cdef HttpServer self = <HttpServer>puff_asgi_owner(data)
    self.server = NULL
    self.loop.clients.pop(("http", id(self)), None)
    on_stopped, self.on_stopped = self.on_stopped, None
    if on_stopped is None:
        return
    try:
        on_stopped()
    except BaseException as exc:
        context = {"message": "an HTTP server's on_stopped failed", "exception": exc}
        self.loop.call_exception_handler(context)
