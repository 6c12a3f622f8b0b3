/* sock.h - loop.sock_recv() and its kin: coroutine objects without a frame that try the system call
 * first, and wait on the loop's ready set (puff/loop.h) only when it would block.
 */
#ifndef PUFF_BIND_SOCK_H
#define PUFF_BIND_SOCK_H

#include "dispatch.h"

typedef struct puff_sock_op puff_sock_op;

/* What a step of an operation has come to. */
enum puff_sock_outcome { PUFF_SOCK_FAILED = -1, PUFF_SOCK_BLOCKS = 0, PUFF_SOCK_DONE = 1 };

typedef struct puff_sock_kind {
    const char *name;  /* of the loop's method */
    int events;        /* what to wait for: PUFF_READABLE or PUFF_WRITABLE */
    int n_args, n_opt; /* after the socket: needed, and allowed */
    const char *args[2];
    /* Tries it. DONE: *result is a new reference; FAILED: an exception is set. */
    enum puff_sock_outcome (*attempt)(puff_sock_op *op, PyObject **result);
} puff_sock_kind;

struct puff_sock_op {
    PyObject_HEAD
    puff_ready ready;
    puff_held held; /* while parked */
    const puff_sock_kind *kind;
    puff_loop_object *loop; /* owned */
    PyObject *sock;         /* owned */
    PyObject *args[2];      /* owned; NULL: not given */
    Py_buffer view;         /* of what sendall sends; obj NULL: none yet */
    Py_ssize_t n_sent;      /* of view */
    PyObject *future;       /* owned while parked */
    int flags;              /* PUFF_READY_* of the next wait */
    uint8_t state;          /* enum op_state */
    bool woken;             /* it has waited */
};

/* The head of a socket object, or NULL: its methods must be called then. */
extern PyTypeObject *puff_sock_type;
static inline puff_socket *puff_sock_native(PyObject *sock) {
    return Py_IS_TYPE(sock, puff_sock_type) ? (puff_socket *)sock : NULL;
}

/* How much the last sock_recv() of this descriptor brought, for the next one's buffer; NULL: it has
 * never waited. Borrowed until the next wait. */
uint32_t *puff_sock_last_len(puff_loop_object *loop, int fd);

/* sock_io.c: the operations, by name; the last one's name is NULL. */
extern const puff_sock_kind puff_sock_kinds[];

/* Whether puff_sock_accept() is for this socket: an open, non-blocking socket.socket. */
bool puff_sock_can_accept(PyObject *sock);
/* (socket, address), non-blocking; None when nobody waits to be accepted; NULL with an OSError. */
PyObject *puff_sock_accept(PyObject *listener);

/* Puts the methods into LoopBase. socket_type: of the objects that begin as a puff_socket, or None;
 * the other two are asyncio's checks. 0 or -1. */
int puff_sock_init(PyObject *loop_base, PyObject *socket_type, PyObject *check_ssl,
                   PyObject *check_transport);
/* A coroutine object: waits until the socket is ready for events, once. flags: PUFF_READY_ONCE. */
PyObject *puff_sock_wait(PyObject *loop, PyObject *sock, int events, int flags);
/* Whether fd has been this very socket since the last wait of it; and to say that it is. 0 or -1. */
bool puff_sock_is_known(PyObject *loop, PyObject *sock, int fd);
int puff_sock_remember(PyObject *loop, PyObject *sock, int fd);
/* Somebody else watches fd from now on. */
void puff_sock_forget(PyObject *loop, int fd);

#endif
