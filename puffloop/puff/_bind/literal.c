/* literal.c - getaddrinfo() of an IP address, without asking anybody. See literal.h.
 *
 * Only what every C library answers alike: one address, one kind of socket (STREAM or DGRAM with
 * its protocol), a numeric port. A name's answer, its order, errors, and flags that depend on the
 * system's interfaces are for the library to give.
 */
#include "literal.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "address.h"

/* An address and a kind that are known need no look at the system with these. */
enum { PLAIN_FLAGS = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV };

static PyObject *inet, *inet6, *stream, *dgram, *empty; /* owned */

static bool number(PyObject *o, long *out) {
    if (!PyLong_Check(o)) return false; /* an enum's member is one */
    int overflow;
    *out = PyLong_AsLongAndOverflow(o, &overflow);
    return !overflow;
}

/* The characters of an exact str or bytes, if these are ASCII without NUL; NULL if not. Borrowed. */
static const char *text_of(PyObject *o) {
    const char *text;
    size_t len;
    if (PyUnicode_CheckExact(o) && PyUnicode_IS_COMPACT_ASCII(o)) {
        text = (const char *)PyUnicode_1BYTE_DATA(o);
        len = (size_t)PyUnicode_GET_LENGTH(o);
    } else if (PyBytes_CheckExact(o)) {
        text = PyBytes_AS_STRING(o);
        len = (size_t)PyBytes_GET_SIZE(o);
    } else {
        return NULL;
    }
    return strlen(text) == len ? text : NULL;
}

/* Digits only: libraries disagree about signs and spaces. */
static bool digits(const char *text, long *out) {
    size_t n = strlen(text);
    if (n == 0 || n > 5 || strspn(text, "0123456789") != n) return false;
    *out = 0;
    for (; *text; text++) *out = *out * 10 + (*text - '0');
    return true;
}

static bool port_of(PyObject *o, uint16_t *out) {
    long n = 0;
    const char *text;
    if (o != Py_None) {
        bool known = PyLong_CheckExact(o) ? number(o, &n) : (text = text_of(o)) && digits(text, &n);
        if (!known || n < 0 || n > 65535) return false;
    }
    *out = (uint16_t)n;
    return true;
}

static bool read_host(const char *text, long family, uint16_t port, puff_address *a) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&a->storage;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&a->storage;
    if (family != AF_INET6) {
        *v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(port)};
        a->len = sizeof *v4;
        if (inet_pton(AF_INET, text, &v4->sin_addr) == 1) return true;
    }
    if (family != AF_INET) {
        *v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(port)};
        a->len = sizeof *v6;
        if (inet_pton(AF_INET6, text, &v6->sin6_addr) == 1) return true;
    }
    return false;
}

static PyObject *answer(PyObject *family, PyObject *kind, int proto, const puff_address *a) {
    PyObject *list = PyList_New(1), *info = PyTuple_New(5);
    PyObject *number = PyLong_FromLong(proto), *addr = puff_address_object(&a->sa, a->len);
    if (!list || !info || !number || !addr) {
        Py_XDECREF(list);
        Py_XDECREF(info);
        Py_XDECREF(number);
        Py_XDECREF(addr);
        return NULL;
    }
    PyTuple_SET_ITEM(info, 0, Py_NewRef(family));
    PyTuple_SET_ITEM(info, 1, Py_NewRef(kind));
    PyTuple_SET_ITEM(info, 2, number);
    PyTuple_SET_ITEM(info, 3, Py_NewRef(empty));
    PyTuple_SET_ITEM(info, 4, addr);
    PyList_SET_ITEM(list, 0, info);
    return list;
}

PyObject *puff_literal_addrinfo(PyObject *host, PyObject *port, PyObject *family, PyObject *type,
                                PyObject *proto, PyObject *flags) {
    long fam, kind, pro, flag;
    uint16_t n_port;
    puff_address a;
    const char *text = text_of(host);
    if (!text || !number(family, &fam) || !number(type, &kind) || !number(proto, &pro) ||
        !number(flags, &flag))
        Py_RETURN_NONE;
    long own = kind == SOCK_STREAM ? IPPROTO_TCP : kind == SOCK_DGRAM ? IPPROTO_UDP : -1;
    if (own < 0 || (pro != 0 && pro != own) || flag & ~PLAIN_FLAGS || !port_of(port, &n_port) ||
        (fam != AF_UNSPEC && fam != AF_INET && fam != AF_INET6) ||
        !read_host(text, fam, n_port, &a))
        Py_RETURN_NONE;
    return answer(a.sa.sa_family == AF_INET ? inet : inet6, kind == SOCK_STREAM ? stream : dgram,
                  (int)own, &a);
}

int puff_literal_setup(PyObject *socket_module) {
    inet = PyObject_GetAttrString(socket_module, "AF_INET");
    inet6 = PyObject_GetAttrString(socket_module, "AF_INET6");
    stream = PyObject_GetAttrString(socket_module, "SOCK_STREAM");
    dgram = PyObject_GetAttrString(socket_module, "SOCK_DGRAM");
    empty = PyUnicode_FromString("");
    return inet && inet6 && stream && dgram && empty ? 0 : -1;
}
