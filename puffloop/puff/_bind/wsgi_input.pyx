"""wsgi.input: the request's body as a file that is read while it arrives.

Nothing is kept here: what has arrived lies in the core until it is taken. A read that finds nothing
parks the app's greenlet (or blocks its thread) until there is more.
"""

cimport cython

from puff._bind.wsgi_call cimport Call


@cython.final
@cython.freelist(32)
cdef class Input:
    """A stream of bytes, as PEP 3333 asks for: read, readline, readlines, iteration."""

    cdef Call call

    cdef object some(self, Py_ssize_t n, bint line):
        """At least one byte, unless it is the end."""
        while True:
            data = self.call.read(n, line)
            if data is not None:
                return data
            self.call.wait()

    def read(self, size=-1):
        """`size` bytes, or fewer at the end of the body; without one, all that is left."""
        cdef Py_ssize_t left = _size(size)
        parts = []
        while left != 0:
            data = self.some(left, False)
            if not data:
                break
            parts.append(data)
            if left > 0:
                left -= len(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readline(self, size=-1):
        """A line with its newline, at most `size` bytes of it; b"" at the end of the body."""
        cdef Py_ssize_t left = _size(size)
        parts = []
        while left != 0:
            data = self.some(left, True)
            if not data:
                break
            parts.append(data)
            if left > 0:
                left -= len(data)
            if (<bytes>data)[len(data) - 1] == 10:  # "\n"
                break
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def readlines(self, hint=-1):
        """All lines that are left; not many more than `hint` bytes of them, if it is given."""
        cdef Py_ssize_t limit = _size(hint)
        cdef Py_ssize_t total = 0
        lines = []
        for line in self:
            lines.append(line)
            total += len(line)
            if 0 < limit <= total:
                break
        return lines

    def __iter__(self):
        return self

    def __next__(self):
        line = self.readline()
        if not line:
            raise StopIteration
        return line


cdef Py_ssize_t _size(size) except? -2:
    """None and what is negative: no limit."""
    if size is None:
        return -1
    cdef Py_ssize_t n = size
    return n if n >= 0 else -1


cdef object new_input(Call call):
    cdef Input self = Input.__new__(Input)
    self.call = call
    return self
