"""Codes of the core as the exceptions that Python users know."""

import os
import socket

from puff._bind.core cimport puff_err_text


cdef extern from "uv.h" nogil:
    enum:
        UV_EOF
        UV_EAI_ADDRFAMILY
        UV_EAI_AGAIN
        UV_EAI_BADFLAGS
        UV_EAI_FAIL
        UV_EAI_FAMILY
        UV_EAI_MEMORY
        UV_EAI_NODATA
        UV_EAI_NONAME
        UV_EAI_SERVICE
        UV_EAI_SOCKTYPE
        UV_EAI_OVERFLOW


cdef extern from "netdb.h" nogil:
    const char *gai_strerror(int code)


cdef dict _gai = {
    UV_EAI_ADDRFAMILY: "EAI_ADDRFAMILY", UV_EAI_AGAIN: "EAI_AGAIN", UV_EAI_BADFLAGS: "EAI_BADFLAGS",
    UV_EAI_FAIL: "EAI_FAIL", UV_EAI_FAMILY: "EAI_FAMILY", UV_EAI_MEMORY: "EAI_MEMORY",
    UV_EAI_NODATA: "EAI_NODATA", UV_EAI_NONAME: "EAI_NONAME", UV_EAI_SERVICE: "EAI_SERVICE",
    UV_EAI_SOCKTYPE: "EAI_SOCKTYPE", UV_EAI_OVERFLOW: "EAI_OVERFLOW",
}


cdef object os_error(int code):
    """The OSError (of the right class) for a code of libuv's; RuntimeError for one of ours."""
    if code == UV_EOF:
        return ConnectionResetError("the peer closed the connection")
    name = _gai.get(code)
    if name is not None:
        number = getattr(socket, name, 0)
        return socket.gaierror(number, gai_strerror(number).decode())
    if -4000 < code < 0:
        return OSError(-code, os.strerror(-code))
    return RuntimeError(puff_err_text(code).decode())
