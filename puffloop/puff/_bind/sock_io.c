/* sock_io.c - the operations on sockets: one attempt each. See sock.h.
 *
 * On a plain socket.socket the system call is made here, with MSG_DONTWAIT, so that even a blocking
 * socket does not stop the loop. A subclass, and arguments out of the ordinary (a float, a negative
 * length, a list of strings), go to the socket's own method: it knows what to say about them.
 */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "address.h"
#include "sock.h"

/* A read of a stream takes at most CHUNK (a full socket buffer, below malloc's mmap threshold): a
 * caller's generous limit is no reason to get that much memory. What is small is read into one
 * shared place and copied; where the last read was larger than DIRECT, copying costs more than a
 * fresh block cut to size. */
enum { CHUNK = 65536, DIRECT = 8192 };
/* Sends in one step: then the loop's other business comes before a fast peer's. */
enum { MAX_SENDS = 16 };

static char chunk[CHUNK]; /* under the GIL, which a read does not give up */

/* ---- outcomes ------------------------------------------------------------------------------ */

static enum puff_sock_outcome done_with(PyObject *value, PyObject **result) {
    *result = value;
    return value ? PUFF_SOCK_DONE : PUFF_SOCK_FAILED;
}

/* A system call said -1. */
static enum puff_sock_outcome failed(void) {
    if (errno == EAGAIN || errno == EWOULDBLOCK) return PUFF_SOCK_BLOCKS;
    PyErr_SetFromErrno(PyExc_OSError);
    return PUFF_SOCK_FAILED;
}

/* A method raised: asyncio waits after either of these. */
static enum puff_sock_outcome raised(void) {
    if (!PyErr_ExceptionMatches(PyExc_BlockingIOError) &&
        !PyErr_ExceptionMatches(PyExc_InterruptedError))
        return PUFF_SOCK_FAILED;
    PyErr_Clear();
    return PUFF_SOCK_BLOCKS;
}

static enum puff_sock_outcome by_method(puff_sock_op *op, const char *name, PyObject **result) {
    PyObject *method = PyObject_GetAttrString(op->sock, name);
    if (!method) return PUFF_SOCK_FAILED;
    *result = PyObject_CallFunctionObjArgs(method, op->args[0], op->args[1], NULL);
    Py_DECREF(method);
    return *result ? PUFF_SOCK_DONE : raised();
}

/* A length that needs no second look, or -1. */
static Py_ssize_t plain_length(PyObject *o) {
    if (!PyLong_CheckExact(o)) return -1;
    Py_ssize_t n = PyLong_AsSsize_t(o);
    if (n == -1) PyErr_Clear();
    return n < 0 ? -1 : n;
}

/* ---- receiving ----------------------------------------------------------------------------- */

/* Families whose addresses need no socket object to be made. */
static bool knows_addresses(const puff_socket *s) {
    return s->family == AF_INET || s->family == AF_INET6 || s->family == AF_UNIX;
}

static ssize_t receive(int fd, void *buf, size_t n, puff_address *from) {
    ssize_t got;
    if (from) from->len = sizeof from->storage;
    do got = recvfrom(fd, buf, n, MSG_DONTWAIT, from ? &from->sa : NULL, from ? &from->len : NULL);
    while (got < 0 && errno == EINTR);
    return got;
}

/* value is stolen. */
static PyObject *with_sender(PyObject *value, const puff_address *from) {
    if (!from || !value) return value;
    PyObject *addr = puff_address_object(&from->sa, from->len);
    PyObject *both = addr ? PyTuple_Pack(2, value, addr) : NULL;
    Py_XDECREF(addr);
    Py_DECREF(value);
    return both;
}

static enum puff_sock_outcome read_fresh(int fd, Py_ssize_t n, puff_address *from, uint32_t *last,
                                         PyObject **result) {
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, n);
    if (!bytes) return PUFF_SOCK_FAILED;
    ssize_t got = receive(fd, PyBytes_AS_STRING(bytes), (size_t)n, from);
    if (got < 0) {
        Py_DECREF(bytes);
        return failed();
    }
    if (last) *last = (uint32_t)got;
    if (got < n && _PyBytes_Resize(&bytes, got) < 0) return PUFF_SOCK_FAILED;
    return done_with(with_sender(bytes, from), result);
}

static enum puff_sock_outcome read_copied(int fd, Py_ssize_t n, puff_address *from, uint32_t *last,
                                          PyObject **result) {
    ssize_t got = receive(fd, chunk, (size_t)n, from);
    if (got < 0) return failed();
    if (last) *last = (uint32_t)got;
    return done_with(with_sender(PyBytes_FromStringAndSize(chunk, got), from), result);
}

static enum puff_sock_outcome attempt_recv(puff_sock_op *op, PyObject **result) {
    puff_socket *s = puff_sock_native(op->sock);
    Py_ssize_t n = s ? plain_length(op->args[0]) : -1;
    if (n <= 0) return by_method(op, "recv", result);
    if (n > CHUNK && s->type == SOCK_STREAM) n = CHUNK;
    uint32_t *last = puff_sock_last_len(op->loop, s->fd);
    bool fresh = n > CHUNK || (last && *last > DIRECT);
    return (fresh ? read_fresh : read_copied)(s->fd, n, NULL, last, result);
}

static enum puff_sock_outcome attempt_recvfrom(puff_sock_op *op, PyObject **result) {
    puff_socket *s = puff_sock_native(op->sock);
    Py_ssize_t n = s && knows_addresses(s) ? plain_length(op->args[0]) : -1;
    puff_address from;
    if (n <= 0) return by_method(op, "recvfrom", result);
    return (n > CHUNK ? read_fresh : read_copied)(s->fd, n, &from, NULL, result);
}

/* n bytes at most, -1: as many as it takes. BLOCKS also where the socket's method should say. */
static enum puff_sock_outcome read_into(puff_socket *s, Py_buffer *view, Py_ssize_t n,
                                        puff_address *from, PyObject **result) {
    ssize_t got = receive(s->fd, view->buf, (size_t)n, from);
    PyBuffer_Release(view);
    if (got < 0) return failed();
    return done_with(with_sender(PyLong_FromSsize_t(got), from), result);
}

/* The buffer's memory, if it is ordinary and not empty. */
static bool take_memory(PyObject *buf, Py_buffer *view) {
    if (PyObject_GetBuffer(buf, view, PyBUF_WRITABLE) < 0) {
        PyErr_Clear();
        return false;
    }
    if (view->len > 0) return true;
    PyBuffer_Release(view);
    return false;
}

static enum puff_sock_outcome attempt_recv_into(puff_sock_op *op, PyObject **result) {
    puff_socket *s = puff_sock_native(op->sock);
    Py_buffer view;
    if (!s || !take_memory(op->args[0], &view)) return by_method(op, "recv_into", result);
    return read_into(s, &view, view.len, NULL, result);
}

/* asyncio's: nbytes, or all that len() says. 0 or -1. */
static int set_nbytes(puff_sock_op *op) {
    int given = op->args[1] ? PyObject_IsTrue(op->args[1]) : 0;
    if (given) return given < 0 ? -1 : 0;
    Py_ssize_t n = PyObject_Size(op->args[0]);
    if (n < 0) return -1;
    Py_XSETREF(op->args[1], PyLong_FromSsize_t(n));
    return op->args[1] ? 0 : -1;
}

static enum puff_sock_outcome attempt_recvfrom_into(puff_sock_op *op, PyObject **result) {
    if (set_nbytes(op) < 0) return PUFF_SOCK_FAILED;
    puff_socket *s = puff_sock_native(op->sock);
    Py_ssize_t n = s && knows_addresses(s) ? plain_length(op->args[1]) : -1;
    Py_buffer view;
    puff_address from;
    if (n <= 0 || !take_memory(op->args[0], &view)) return by_method(op, "recvfrom_into", result);
    if (n <= view.len) return read_into(s, &view, n, &from, result);
    PyBuffer_Release(&view);
    return by_method(op, "recvfrom_into", result);
}

/* ---- sending ------------------------------------------------------------------------------- */

/* Sends the rest until the kernel takes no more: DONE when all of it has gone. */
static enum puff_sock_outcome send_native(puff_sock_op *op, int fd) {
    for (int i = 0; i < MAX_SENDS; i++) {
        const char *rest = (const char *)op->view.buf + op->n_sent;
        ssize_t n =
            send(fd, rest, (size_t)(op->view.len - op->n_sent), MSG_DONTWAIT | MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed();
        op->n_sent += n;
        if (op->n_sent >= op->view.len) return PUFF_SOCK_DONE;
    }
    op->flags = 0; /* not blocked: to be told that there is room */
    return PUFF_SOCK_BLOCKS;
}

static PyObject *rest_of(puff_sock_op *op) {
    if (op->n_sent == 0) return Py_NewRef(op->args[0]);
    PyObject *view = PyMemoryView_FromObject(op->args[0]), *bytes = NULL, *rest = NULL;
    if (view) bytes = PyObject_CallMethod(view, "cast", "s", "B");
    if (bytes) rest = PySequence_GetSlice(bytes, op->n_sent, op->view.len);
    Py_XDECREF(bytes);
    Py_XDECREF(view);
    return rest;
}

/* One send() of a socket with methods of its own. */
static enum puff_sock_outcome send_by_method(puff_sock_op *op) {
    PyObject *rest = rest_of(op);
    PyObject *sent = rest ? PyObject_CallMethod(op->sock, "send", "O", rest) : NULL;
    Py_XDECREF(rest);
    if (!sent) return raised();
    Py_ssize_t n = PyLong_AsSsize_t(sent);
    Py_DECREF(sent);
    if (n == -1 && PyErr_Occurred()) return PUFF_SOCK_FAILED;
    op->n_sent += n;
    op->flags = 0;
    return op->n_sent >= op->view.len ? PUFF_SOCK_DONE : PUFF_SOCK_BLOCKS;
}

/* The buffer stays exported until all is sent, so a bytearray cannot shrink meanwhile. */
static enum puff_sock_outcome attempt_sendall(puff_sock_op *op, PyObject **result) {
    puff_socket *s = puff_sock_native(op->sock);
    if (!op->view.obj && PyObject_GetBuffer(op->args[0], &op->view, PyBUF_SIMPLE) < 0)
        return PUFF_SOCK_FAILED;
    enum puff_sock_outcome o = s ? send_native(op, s->fd) : send_by_method(op);
    if (o == PUFF_SOCK_DONE) *result = Py_NewRef(Py_None);
    return o;
}

static enum puff_sock_outcome send_datagram(int fd, const Py_buffer *view, const puff_address *to,
                                            PyObject **result) {
    ssize_t n;
    do n = sendto(fd, view->buf, (size_t)view->len, MSG_DONTWAIT | MSG_NOSIGNAL, &to->sa, to->len);
    while (n < 0 && errno == EINTR);
    return n < 0 ? failed() : done_with(PyLong_FromSsize_t(n), result);
}

/* A host's name, and whatever is wrong, is the method's. */
static enum puff_sock_outcome attempt_sendto(puff_sock_op *op, PyObject **result) {
    puff_socket *s = puff_sock_native(op->sock);
    const puff_address *to;
    Py_buffer view;
    if (!s || PyObject_GetBuffer(op->args[0], &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return by_method(op, "sendto", result);
    }
    enum puff_sock_outcome o = puff_address_of(op->args[1], s->family, &to)
                                   ? send_datagram(s->fd, &view, to, result)
                                   : by_method(op, "sendto", result);
    PyBuffer_Release(&view);
    return o;
}

/* ---- accepting ----------------------------------------------------------------------------- */

static enum puff_sock_outcome accept_by_method(puff_sock_op *op, PyObject **result) {
    PyObject *both = PyObject_CallMethod(op->sock, "accept", NULL);
    if (!both) return raised();
    PyObject *conn = PySequence_GetItem(both, 0);
    PyObject *res = conn ? PyObject_CallMethod(conn, "setblocking", "O", Py_False) : NULL;
    Py_XDECREF(conn);
    if (!res) Py_CLEAR(both);
    Py_XDECREF(res);
    return done_with(both, result);
}

/* The object takes fd, or fd is closed. */
static PyObject *socket_of(const puff_socket *listener, int fd) {
    PyObject *conn = PyObject_CallFunction((PyObject *)puff_sock_type, "iiii", listener->family,
                                           listener->type | SOCK_NONBLOCK, listener->proto, fd);
    if (!conn) {
        PyObject *exc = puff_take_exception();
        close(fd);
        puff_raise_exception(exc);
    }
    return conn;
}

static int accept_fd(const puff_socket *listener, puff_address *peer) {
    int fd;
    peer->len = sizeof peer->storage;
    do fd = accept4(listener->fd, &peer->sa, &peer->len, SOCK_NONBLOCK | SOCK_CLOEXEC);
    while (fd < 0 && errno == EINTR);
    return fd;
}

/* accept() has no MSG_DONTWAIT: what a blocking listener does is its method's business. */
bool puff_sock_can_accept(PyObject *sock) {
    puff_socket *s = puff_sock_native(sock);
    return s && s->fd >= 0 && s->timeout == 0 && knows_addresses(s);
}

PyObject *puff_sock_accept(PyObject *listener) {
    puff_socket *s = (puff_socket *)listener;
    puff_address peer;
    int fd = accept_fd(s, &peer);
    if (fd >= 0) return with_sender(socket_of(s, fd), &peer);
    if (errno == EAGAIN || errno == EWOULDBLOCK || errno == ECONNABORTED) Py_RETURN_NONE;
    return PyErr_SetFromErrno(PyExc_OSError);
}

static enum puff_sock_outcome attempt_accept(puff_sock_op *op, PyObject **result) {
    puff_address peer;
    if (!puff_sock_can_accept(op->sock)) return accept_by_method(op, result);
    puff_socket *s = (puff_socket *)op->sock;
    int fd = accept_fd(s, &peer);
    return fd < 0 ? failed() : done_with(with_sender(socket_of(s, fd), &peer), result);
}

/* In the order of sock.c's methods. */
const puff_sock_kind puff_sock_kinds[] = {
    {"sock_recv", PUFF_READABLE, 1, 1, {"n"}, attempt_recv},
    {"sock_recv_into", PUFF_READABLE, 1, 1, {"buf"}, attempt_recv_into},
    {"sock_recvfrom", PUFF_READABLE, 1, 1, {"bufsize"}, attempt_recvfrom},
    {"sock_recvfrom_into", PUFF_READABLE, 1, 2, {"buf", "nbytes"}, attempt_recvfrom_into},
    {"sock_sendall", PUFF_WRITABLE, 1, 1, {"data"}, attempt_sendall},
    {"sock_sendto", PUFF_WRITABLE, 2, 2, {"data", "address"}, attempt_sendto},
    {"sock_accept", PUFF_READABLE, 0, 0, {0}, attempt_accept},
};
