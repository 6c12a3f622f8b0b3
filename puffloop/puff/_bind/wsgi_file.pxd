"""wsgi.file_wrapper."""


cdef class FileWrapper:
    """A file as an iterable of blocks, closed with the response."""

    cdef readonly object filelike
    cdef readonly Py_ssize_t blksize


# (fd, offset, length) of what is left of a regular file; None where reading it means more than its
# bytes, as gzip's does, or where it has none.
cdef object region_of(file)
