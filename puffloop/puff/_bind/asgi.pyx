"""Hosts an ASGI app on the C HTTP server.

What happens for a request is C: asgi.h says how its files hang together.
"""

from cpython.object cimport PyObject

from puff._bind.core cimport puff_http_access, puff_http_host, puff_http_options
from puff._bind.http cimport HttpServer, set_options
from puff._bind.loop cimport LoopBase


cdef extern from "asgi.h":
    ctypedef struct puff_asgi:
        pass
    int puff_asgi_init(void (*interrupt)(PyObject *loop, PyObject *exc) noexcept) except -1
    puff_asgi *puff_asgi_new(object loop, object app, object state, object root_path,
                             object on_error, int log_fd) except NULL
    void puff_asgi_free(puff_asgi *asgi)
    void puff_asgi_stop(puff_asgi *asgi)
    object puff_asgi_tasks(puff_asgi *asgi)
    const puff_http_host puff_asgi_host
    void puff_asgi_on_access(const puff_http_access *a) noexcept


cdef void _interrupt(PyObject *loop, PyObject *exc) noexcept:
    (<LoopBase>loop).interrupt(<object>exc)


puff_asgi_init(_interrupt)


cdef class AsgiServer(HttpServer):
    cdef puff_asgi *asgi  # owned

    def __init__(self, LoopBase loop not None, app, *, dict state=None, str root_path="", on_error,
                 int access_log_fd=-1, dict options=None):
        cdef puff_http_options opts
        if self.asgi is not NULL:
            raise RuntimeError("an AsgiServer is initialised once")
        if loop.core is NULL:
            raise RuntimeError("Event loop is closed")
        keep = []
        set_options(&opts, options or {}, keep)
        if access_log_fd >= 0:
            opts.on_access = puff_asgi_on_access
        self.asgi = puff_asgi_new(loop, app, {} if state is None else state, root_path.rstrip("/"),
                                  on_error, access_log_fd)
        self.open(loop, &puff_asgi_host, self.asgi, &opts)

    def __dealloc__(self):
        if self.asgi is not NULL:
            puff_asgi_free(self.asgi)

    cdef int stopping(self) except -1:
        puff_asgi_stop(self.asgi)
        return 0

    def tasks(self):
        """The asyncio.Tasks of requests whose app has begun, has waited and has not ended."""
        return puff_asgi_tasks(self.asgi)
