"""Pipe transports: the interpreter's own, with the system calls of reading and writing made here.

asyncio reads 256 KiB at a time. malloc serves that with mmap, so each read of one byte costs an
mmap, page faults and an munmap: three quarters of what a message through a pipe costs. Here a
read is 64 KiB, into the stack or, after a long one, straight into the bytes that the protocol gets.

All else (which files are refused, EOF, flow control, errors, repr, warnings) is inherited from the
Python that runs, which also decides when to watch: so two transports may share a descriptor, as
for a terminal, and the loop's selector shows both.
"""

from asyncio import unix_events

from cpython.bytes cimport (
    PyBytes_AS_STRING,
    PyBytes_CheckExact,
    PyBytes_FromStringAndSize,
    PyBytes_GET_SIZE,
)
from cpython.object cimport PyObject
from cpython.ref cimport Py_XDECREF
from libc.errno cimport EAGAIN, EINTR, errno
from posix.unistd cimport read, write

from puff._bind.errors cimport os_error


cdef extern from *:
    PyObject *_new_bytes "PyBytes_FromStringAndSize"(const char *s, Py_ssize_t n) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t n) except -1


cdef enum:
    READ_MAX = 65536   # what a pipe holds; malloc serves it without mmap
    LONG_READ = 8192   # as in transport.pyx: from here on, a copy costs more than cutting to size


# Whoever shares a descriptor may have made it blocking again (a child at the terminal does): then
# these wait, as asyncio's do, but other threads go on.

cdef Py_ssize_t _read(int fd, char *buf) noexcept:
    """Bytes, 0 at the end, or -errno."""
    cdef Py_ssize_t n
    with nogil:
        n = read(fd, buf, READ_MAX)
        if n < 0:
            n = -errno
    return n


cdef Py_ssize_t _write(int fd, object data) noexcept:
    """Bytes, or -errno."""
    cdef const char *bytes = PyBytes_AS_STRING(data)
    cdef Py_ssize_t size = PyBytes_GET_SIZE(data), n
    with nogil:
        n = write(fd, bytes, size)
        if n < 0:
            n = -errno
    return n


cdef object _read_copied(int fd, Py_ssize_t *n):
    cdef char buf[READ_MAX]
    n[0] = _read(fd, buf)
    return PyBytes_FromStringAndSize(buf, n[0]) if n[0] > 0 else None


cdef object _read_in_place(int fd, Py_ssize_t *n):
    cdef PyObject *data = _new_bytes(NULL, READ_MAX)
    n[0] = _read(fd, PyBytes_AS_STRING(<object>data))
    if n[0] <= 0:
        Py_XDECREF(data)
        return None
    _PyBytes_Resize(&data, n[0])  # NULL, and nothing to give back, when it fails
    result = <object>data
    Py_XDECREF(data)
    return result


cdef bint _not_now(Py_ssize_t n) noexcept:
    return n == -EAGAIN or n == -EINTR


cdef int _failed(transport, Py_ssize_t error, message) except -1:
    try:
        raise os_error(error)  # debug mode logs where
    except OSError as exc:
        transport._fatal_error(exc, message)
    return 0


class ReadPipeTransport(unix_events._UnixReadPipeTransport):
    """The read end of a pipe, a FIFO, a socket or a character device. See asyncio.ReadTransport."""

    _long_reads = False

    def _read_ready(self):
        cdef Py_ssize_t n
        cdef int fd = self._fileno
        data = _read_in_place(fd, &n) if self._long_reads else _read_copied(fd, &n)
        if n > 0:
            if self._long_reads is not (n >= LONG_READ):
                self._long_reads = n >= LONG_READ
            self._protocol.data_received(data)
        elif n == 0:
            self._end()
        elif not _not_now(n):
            _failed(self, n, "Fatal read error on pipe transport")

    def _end(self):
        """The last writer has closed."""
        if self._loop.get_debug():
            unix_events.logger.info("%r was closed by peer", self)
        self._closing = True
        self._loop._remove_reader(self._fileno)
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)


class WritePipeTransport(unix_events._UnixWritePipeTransport):
    """The write end of a pipe, a FIFO, a socket or a character device. See asyncio.WriteTransport.
    """

    def write(self, data):
        """Writes what the kernel takes now, and the rest when it can."""
        cdef Py_ssize_t n
        if not PyBytes_CheckExact(data) or not data or self._buffer or self._closing \
                or self._conn_lost:
            super().write(data)
            return
        n = _write(self._fileno, data)
        if n == PyBytes_GET_SIZE(data):
            return
        if n < 0 and not _not_now(n):
            self._conn_lost += 1
            _failed(self, n, "Fatal write error on pipe transport")
            return
        self._loop._add_writer(self._fileno, self._write_ready)
        self._buffer += data if n <= 0 else memoryview(data)[n:]
        self._maybe_pause_protocol()


class PipeMethods:
    """What asyncio's connect_read_pipe(), connect_write_pipe() and subprocesses ask of a loop."""

    def _make_read_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return ReadPipeTransport(self, pipe, protocol, waiter, extra)

    def _make_write_pipe_transport(self, pipe, protocol, waiter=None, extra=None):
        return WritePipeTransport(self, pipe, protocol, waiter, extra)
