# cython: language_level=3
"""Files: Python's own, opened, read and written on threads of ours, so that no disk blocks the
loop.

The threads are not those of puff.blocking: a file can be read while all of them are busy. In a
thread or a script, which may block, the work is done where it is called. A wait that is cancelled
leaves what its thread does to its end: a file is never left half through a call.
"""

import os
import threading

from puff._bind.blocking cimport Threads, ThreadCall, call_aside
from puff._bind.gate cimport refuse_in_coroutine
from puff._bind.loop cimport running
from puff._bind.waiter cimport call

cdef enum:
    MAX_THREADS = 4  # a disk gets slower by more at once


cdef Threads _threads = Threads("puff-file", MAX_THREADS)
os.register_at_fork(after_in_child=_threads.forget)


cdef object _aside(object fn, tuple args):
    return call_aside(_threads, fn, args, {})


def _read(path):
    with open(path, "rb") as file:
        return file.read()


def _write(path, data):
    with open(path, "wb") as file:
        return file.write(data)


def read_file_bytes(path):
    """Read a whole file; bytes. OSError as open() and read() raise it.

        config = json.loads(puff.read_file_bytes("config.json"))    # in a coroutine: await it
    """
    return _aside(_read, (path,))


def write_file_bytes(path, data):
    """Make or replace a file that has these bytes; return how many. OSError as Python raises it."""
    return _aside(_write, (path, data))


cdef class _Opening(ThreadCall):
    """`await` it, or `async with` it."""

    cdef File file

    cdef void lost(self, result) noexcept:
        if result is not None:
            self.threads.submit((<File>result).raw.close, (), {}, None)

    async def __aenter__(self):
        self.file = await self
        return self.file

    async def __aexit__(self, *exc_info):
        await self.file.close()


def _open(path, mode, kwargs):
    cdef File file = File.__new__(File)
    file.raw = open(path, mode, **kwargs)
    file.mutex = threading.RLock()
    return file


def open_file(path, mode="r", **kwargs):
    """Open a file, as `open` does and with its arguments; return a `File`.

        with puff.open_file("log.txt") as file:         # in a coroutine: async with
            for line in file:                           # async for
                print(line)
    """
    cdef _Opening waiter
    if running() is None:
        return _aside(_open, (path, mode, kwargs))
    waiter = _Opening()
    waiter.threads = _threads
    waiter.fn, waiter.args, waiter.kwargs = _open, (path, mode, kwargs), {}
    return call(waiter)


cdef class File:
    """What open_file() returns: a file object whose methods are puff calls."""

    cdef object raw    # Python's
    cdef object mutex  # its text layer is not made for several threads
    cdef object __weakref__

    def _locked(self, name, args):
        with self.mutex:
            return getattr(self.raw, name)(*args)

    cdef object do(self, str name, tuple args):
        return _aside(self._locked, (name, args))

    def read(self, size=-1):
        """Read at most `size` characters or bytes; all that are left when it is negative."""
        return self.do("read", (size,))

    def readline(self, size=-1):
        """Read a line with its end; empty at the end of the file."""
        return self.do("readline", (size,))

    def readlines(self, hint=-1):
        """Read lines, as a list; no more when they have `hint` characters or bytes."""
        return self.do("readlines", (hint,))

    def write(self, data):
        """Write it; return how much that was."""
        return self.do("write", (data,))

    def writelines(self, lines):
        """Write them one after the other."""
        return self.do("writelines", (lines,))

    def seek(self, offset, whence=0):
        """Move to a position; return it."""
        return self.do("seek", (offset, whence))

    def tell(self):
        """Return the position."""
        return self.do("tell", ())

    def truncate(self, size=None):
        """Cut or lengthen it to `size`, or to the position; return the size."""
        return self.do("truncate", (size,))

    def flush(self):
        """Give what was written to the operating system."""
        return self.do("flush", ())

    def fileno(self):
        """Return the file descriptor."""
        return self.raw.fileno()

    def close(self):
        """Flush and close it; again is no error."""
        return self.do("close", ())

    @property
    def closed(self):
        return self.raw.closed

    @property
    def name(self):
        return self.raw.name

    @property
    def mode(self):
        return self.raw.mode

    def __enter__(self):
        refuse_in_coroutine("async with")
        return self

    def __exit__(self, *exc_info):
        self.close()

    async def __aenter__(self):
        return self

    async def __aexit__(self, *exc_info):
        await self.close()

    def __iter__(self):
        refuse_in_coroutine("async for")
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    def __aiter__(self):
        return self

    async def __anext__(self):
        line = await self.readline()
        if not line:
            raise StopAsyncIteration
        return line

    def __repr__(self):
        return f"<puff.File {self.raw!r}>"
