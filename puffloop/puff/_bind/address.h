/* address.h - socket addresses as Python has them: ("127.0.0.1", 80), ("::1", 80, 0, 0), a path.
 *
 * Each module that uses it has a table of its own of the addresses that it met lately. */
#ifndef PUFF_BIND_ADDRESS_H
#define PUFF_BIND_ADDRESS_H

#include <Python.h>
#include <sys/socket.h>

typedef struct puff_address {
    union {
        struct sockaddr sa;
        struct sockaddr_storage storage;
    };
    socklen_t len;
} puff_address;

/* The object that the socket module makes of an address; None where there is none. New reference,
 * or NULL with an exception. Peers that came lately get the tuple that they got before. */
PyObject *puff_address_object(const struct sockaddr *sa, socklen_t len);

/* The same of a socket's own address. */
PyObject *puff_address_local(int fd);

/* Reads what loop.sendto() was given: 1, or 0 where only the socket module can tell (a host's name, a
 * wrong type, an argument out of range). Never raises. *out is borrowed until the next call of
 * either function. */
int puff_address_of(PyObject *o, int family, const puff_address **out);

#endif
