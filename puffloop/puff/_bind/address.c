/* address.c - socket addresses as Python has them. See address.h.
 *
 * Making a tuple and reading one cost more than all else that a datagram needs, and most datagrams
 * come from, and go to, a few peers. So what was made or read lately is kept, in a table with one
 * place for each hash:
 *
 *   by_peer[hash of the sockaddr]  -> tuple     what a datagram's sender gets as its address
 *   by_object[hash of the pointer] -> sockaddr  what the same tuple, given back, means
 *
 * A tuple in the table is owned, so its pointer is no other's; and of strings and numbers only, so
 * it never means anything else.
 */
#include "address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/un.h>

enum { PLACES = 256 }; /* twice 40 KiB once all are used; see the hashes before changing it */

typedef struct entry {
    PyObject *tuple; /* owned; NULL: empty */
    puff_address addr;
} entry;

static entry *by_peer[PLACES], *by_object[PLACES]; /* under the GIL */
static entry *latest; /* the peer that was asked for last: it will most likely be answered */

static bool is_ip(int family) { return family == AF_INET || family == AF_INET6; }

static bool holds(const entry *e, const struct sockaddr *sa, socklen_t len) {
    return e && e->addr.len == len && memcmp(&e->addr.sa, sa, len) == 0;
}

static void put(entry **place, PyObject *tuple, const struct sockaddr *sa, socklen_t len) {
    entry *e = *place ? *place : PyMem_Calloc(1, sizeof *e);
    if (!e) return; /* then it is not kept */
    *place = e;
    memcpy(&e->addr.sa, sa, len);
    e->addr.len = len;
    PyObject *old = e->tuple;
    e->tuple = Py_NewRef(tuple);
    Py_XDECREF(old);
}

/* ---- address -> object ----------------------------------------------------------------------- */

static entry **place_of_peer(const struct sockaddr *sa, socklen_t len) {
    uint64_t h = 0;
    uint32_t word;
    for (socklen_t i = 0; i + sizeof word <= len; i += sizeof word) {
        memcpy(&word, (const char *)sa + i, sizeof word);
        h = (h ^ word) * 0x9e3779b97f4a7c15u; /* every bit reaches the uppermost, which count */
    }
    return &by_peer[h >> 56];
}

static PyObject *inet4(const struct sockaddr_in *sa) {
    char host[INET_ADDRSTRLEN];
    inet_ntop(AF_INET, &sa->sin_addr, host, sizeof host);
    return Py_BuildValue("si", host, ntohs(sa->sin_port));
}

static PyObject *inet6(const struct sockaddr_in6 *sa) {
    char host[INET6_ADDRSTRLEN];
    inet_ntop(AF_INET6, &sa->sin6_addr, host, sizeof host);
    return Py_BuildValue("siII", host, ntohs(sa->sin6_port), ntohl(sa->sin6_flowinfo),
                         sa->sin6_scope_id);
}

/* Bytes for a name in Linux' abstract space, which begins with NUL; else a path, without its end.
 */
static PyObject *unix_name(const struct sockaddr_un *sa, socklen_t len) {
    size_t n = len - offsetof(struct sockaddr_un, sun_path);
    if (n > 0 && sa->sun_path[0] == '\0') return PyBytes_FromStringAndSize(sa->sun_path, n);
    return PyUnicode_DecodeFSDefaultAndSize(sa->sun_path, strnlen(sa->sun_path, n));
}

PyObject *puff_address_object(const struct sockaddr *sa, socklen_t len) {
    if (len < sizeof sa->sa_family) Py_RETURN_NONE;
    if (sa->sa_family == AF_UNIX) return unix_name((const struct sockaddr_un *)sa, len);
    if (!is_ip(sa->sa_family)) {
        PyErr_Format(PyExc_OSError, "address family %d is not known", sa->sa_family);
        return NULL;
    }
    entry **place = place_of_peer(sa, len);
    if (!holds(*place, sa, len)) {
        PyObject *made = sa->sa_family == AF_INET ? inet4((const struct sockaddr_in *)sa)
                                                  : inet6((const struct sockaddr_in6 *)sa);
        if (made) put(place, made, sa, len);
        if (!made || !holds(*place, sa, len)) return made;
        Py_DECREF(made);
    }
    latest = *place;
    return Py_NewRef(latest->tuple);
}

PyObject *puff_address_local(int fd) {
    puff_address own = {.len = sizeof own.storage};
    if (getsockname(fd, &own.sa, &own.len) < 0) return PyErr_SetFromErrno(PyExc_OSError);
    return puff_address_object(&own.sa, own.len);
}

/* ---- object -> address ----------------------------------------------------------------------- */

/* An exact int within the range; anything else is the socket module's to refuse. */
static bool number(PyObject *o, unsigned long most, uint32_t *out) {
    int overflow;
    if (!PyLong_CheckExact(o)) return false;
    long long n = PyLong_AsLongLongAndOverflow(o, &overflow);
    if (overflow || n < 0 || (unsigned long long)n > most) return false;
    *out = (uint32_t)n;
    return true;
}

/* A numeric host; others ("localhost", "", "<broadcast>", fe80::1%eth0) take the long way. */
static bool host(PyObject *o, int family, void *out) {
    Py_ssize_t n;
    if (!PyUnicode_CheckExact(o) || !PyUnicode_IS_COMPACT_ASCII(o)) return false;
    const char *text = PyUnicode_AsUTF8AndSize(o, &n);
    if (!text) {
        PyErr_Clear();
        return false;
    }
    return strlen(text) == (size_t)n && inet_pton(family, text, out) == 1;
}

static bool read_inet4(PyObject *o, puff_address *a) {
    struct sockaddr_in *sa = (struct sockaddr_in *)&a->sa;
    uint32_t port;
    if (PyTuple_GET_SIZE(o) != 2 || !number(PyTuple_GET_ITEM(o, 1), 65535, &port)) return false;
    *sa = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    a->len = sizeof *sa;
    return host(PyTuple_GET_ITEM(o, 0), AF_INET, &sa->sin_addr);
}

static bool read_inet6(PyObject *o, puff_address *a) {
    struct sockaddr_in6 *sa = (struct sockaddr_in6 *)&a->sa;
    uint32_t port, flow = 0, scope = 0;
    Py_ssize_t n = PyTuple_GET_SIZE(o);
    if (n < 2 || n > 4 || !number(PyTuple_GET_ITEM(o, 1), 65535, &port)) return false;
    if (n > 2 && !number(PyTuple_GET_ITEM(o, 2), 0xfffff, &flow)) return false;
    if (n > 3 && !number(PyTuple_GET_ITEM(o, 3), UINT32_MAX, &scope)) return false;
    *sa = (struct sockaddr_in6){.sin6_family = AF_INET6,
                                .sin6_port = htons((uint16_t)port),
                                .sin6_flowinfo = htonl(flow),
                                .sin6_scope_id = scope};
    a->len = sizeof *sa;
    return host(PyTuple_GET_ITEM(o, 0), AF_INET6, &sa->sin6_addr);
}

/* A path that ends with its NUL, or an abstract name that ends where it ends. */
static bool read_unix(PyObject *o, puff_address *a) {
    struct sockaddr_un *sa = (struct sockaddr_un *)&a->sa;
    PyObject *path = PyUnicode_CheckExact(o) ? PyUnicode_EncodeFSDefault(o) : Py_NewRef(o);
    bool good = path && PyBytes_CheckExact(path);
    size_t n = good ? (size_t)PyBytes_GET_SIZE(path) : 0;
    if (n == 0 || n >= sizeof sa->sun_path) good = false;
    if (good) {
        *sa = (struct sockaddr_un){.sun_family = AF_UNIX};
        memcpy(sa->sun_path, PyBytes_AS_STRING(path), n);
        a->len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n);
    }
    if (!path) PyErr_Clear();
    Py_XDECREF(path);
    return good;
}

int puff_address_of(PyObject *o, int family, const puff_address **out) {
    static puff_address fresh;
    if (latest && latest->tuple == o && latest->addr.sa.sa_family == family) {
        *out = &latest->addr;
        return 1;
    }
    if (family == AF_UNIX) {
        *out = &fresh;
        return read_unix(o, &fresh);
    }
    if (!PyTuple_CheckExact(o)) return 0;
    entry **place = &by_object[(uintptr_t)o / 32 & (PLACES - 1)];
    if (*place && (*place)->tuple == o && (*place)->addr.sa.sa_family == family) {
        *out = &(*place)->addr;
        return 1;
    }
    bool good = family == AF_INET    ? read_inet4(o, &fresh)
                : family == AF_INET6 ? read_inet6(o, &fresh)
                                     : false;
    if (!good) return 0;
    put(place, o, &fresh.sa, fresh.len);
    *out = &fresh;
    return 1;
}
