"""wsgi.file_wrapper, and what of a file can leave by sendfile(2)."""

import io
import os
from stat import S_ISREG


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


cdef object region_of(file):
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
