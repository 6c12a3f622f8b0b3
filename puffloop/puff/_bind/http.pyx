"""The C HTTP server (include/puff/http.h) as the hosts of an app share it: open, listen, stop.

What happens for a request is the host's: asgi.pyx, wsgi.pyx.
"""

import os

from libc.stdint cimport uint16_t
from libc.string cimport memset

from puff._bind.core cimport (
    PUFF_EARG, puff_err, puff_http_options_init, puff_http_server_listen, puff_http_server_open,
    puff_http_server_stats, puff_http_server_stop, puff_listener, puff_listener_options,
    puff_listener_port,
)


cdef object _oserror(puff_err *err):
    if -4000 < err.code < 0:
        return OSError(-err.code, err.msg.decode("utf-8", "replace"))
    if err.code == PUFF_EARG:
        return ValueError(err.msg.decode("utf-8", "replace"))
    return RuntimeError(err.msg.decode("utf-8", "replace"))


cdef int set_options(puff_http_options *o, dict options, list keep) except -1:
    puff_http_options_init(o)
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
    """One HTTP server on one loop; a subclass hosts the app."""

    cdef int open(self, LoopBase loop, const puff_http_host *host, void *data,
                  puff_http_options *options) except -1:
        cdef puff_err err
        self.loop = loop
        if puff_http_server_open(&self.server, loop.core, host, data, options, &err) < 0:
            raise _oserror(&err)
        loop.clients["http", id(self)] = self  # so that closing the loop stops us
        _open[<size_t>self.server] = self
        return 0

    cdef int stopping(self) except -1:
        return 0

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
        self.stopping()
        puff_http_server_stop(self.server, timeout_ms, _on_stopped)

    def tasks(self):
        """A future of each request whose app has begun, has waited and has not ended; cancelling it
        ends the app."""
        return []

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


# Those that have not stopped yet, by their puff_http_server: on_stopped is given no more.
cdef dict _open = {}


cdef void _on_stopped(puff_http_server *server, void *data) noexcept:
    cdef HttpServer self = _open.pop(<size_t>server)
    self.loop.clients.pop(("http", id(self)), None)
    self.server = NULL
    on_stopped, self.on_stopped = self.on_stopped, None
    if on_stopped is None:
        return
    try:
        on_stopped()
    except BaseException as exc:
        context = {"message": "an HTTP server's on_stopped failed", "exception": exc}
        self.loop.call_exception_handler(context)
