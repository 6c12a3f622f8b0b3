/* literal.h - getaddrinfo() of an IP address, without asking anybody. */
#ifndef PUFF_BIND_LITERAL_H
#define PUFF_BIND_LITERAL_H

#include <Python.h>

/* Enum members for what the socket module returns them for. Once, at import. */
int puff_literal_setup(PyObject *socket_module);

/* What socket.getaddrinfo() returns: a new list; None where it is not certain. All arguments are as
 * the caller got them. NULL with an exception. */
PyObject *puff_literal_addrinfo(PyObject *host, PyObject *port, PyObject *family, PyObject *type,
                                PyObject *proto, PyObject *flags);

#endif
