/* dispatch.h - the part of a loop that runs once per callback, in C: call_soon() and its kin, and
 * the ready ring's run.
 */
#ifndef PUFF_BIND_DISPATCH_H
#define PUFF_BIND_DISPATCH_H

#include "add_methods.h"
#include "handle.h"
#include "ring.h"
#include "slowest.h"
#include "watchdog.h"

/* What the core will call back is kept by the loop until then, by a reference that the garbage
 * collector sees: one of the core's own would keep a loop that everybody has dropped, and with none
 * a task that waits would be garbage itself. In the object's own storage; begins zeroed. */
typedef struct puff_held {
    puff_queue node;  /* among the loop's */
    PyObject *object; /* owned by the loop; NULL: it is not held */
} puff_held;

typedef struct puff_dispatch {
    puff_ring ring;
    puff_queue held;   /* of puff_held.node */
    PyObject *loose;   /* borrowed from the ring or the timers: the handle queued last, or NULL */
    unsigned n_queued; /* between two runs */
    PyThreadState *saved; /* while the poll sleeps */
    bool waiting;         /* the poll may sleep: whoever pushes must wake it */
    bool woken;           /* ... and somebody has */
    bool debug;
    bool stopping;
    bool closed;
    bool running;     /* turns follow */
    bool looking;     /* the core's turn is on the stack: no other may begin */
    uint64_t ticks;   /* when the last turn, or callback, ended */
    uint64_t n_turns; /* also those that left the poll out */
    puff_slowest slowest;
    puff_watchdog *watchdog; /* owned; NULL: none. It reads ticks and waiting, in its own thread */
} puff_dispatch;

/* How LoopBase begins (loop.pxd declares the same fields in this order; checked at import). */
typedef struct puff_loop_object {
    PyObject_HEAD;
    void *vtab;
    puff_dispatch d;
    puff_loop *core; /* NULL once closed */
    int capturing;
    PyObject *captured;
    PyObject *fatal;        /* owned; what a trampoline wants to end the run with */
    PyObject *socks;        /* see sock.c */
    PyObject *task_factory; /* owned; asyncio's */
    PyObject *loop_keyword; /* owned; see tasks.c */
} puff_loop_object;

/* Calls the function base, of a class further up, as a method of self. */
PyObject *puff_call_base(PyObject *base, PyObject *self, PyObject *const *args, size_t n,
                         PyObject *kwnames);
/* Puts call_soon, call_later, call_at, call_soon_threadsafe and time into LoopBase. Also lets the
 * garbage collector see the ring, the timers and what is held.
 * close: of a loop that is being collected open; calls back whatever is open on it. */
int puff_dispatch_install(PyObject *loop_base, void (*close)(PyObject *loop));

/* In all that follows loop is a LoopBase. This also makes the loop's hooks ours: the GIL is given
 * up around a poll that may sleep. */
void puff_dispatch_init(PyObject *loop);
/* Drops every handle that waits. */
void puff_dispatch_clear(PyObject *loop);
/* Lets go of what is still held. The core must be closed: nobody is called back any more. */
void puff_dispatch_let_go(PyObject *loop);

/* Queues fn(arg) (arg not NULL), or the handle fn (arg NULL), and wakes the loop if it sleeps. */
int puff_dispatch_push(PyObject *loop, PyObject *fn, PyObject *arg);
/* One turn: looks for events (waits for them, if nothing is queued), runs their callbacks, then what
 * is in the ring by then. -1: SystemExit or KeyboardInterrupt; the rest stays queued. */
int puff_dispatch_turn(PyObject *loop);
/* Turns until the loop is stopping, at least one. */
int puff_dispatch_turns(PyObject *loop);
/* The scheduled timer handles, in no order: a new list. */
PyObject *puff_dispatch_scheduled(PyObject *loop);

static inline void puff_hold(PyObject *loop, puff_held *h, PyObject *object) {
    h->object = Py_NewRef(object);
    puff_queue_push(&((puff_loop_object *)loop)->d.held, &h->node);
}

/* The object may go with it, unless the caller has a reference. One that is not held is allowed. */
static inline void puff_let_go(puff_held *h) {
    PyObject *object = h->object;
    if (!object) return;
    h->object = NULL;
    puff_queue_remove(&h->node);
    Py_DECREF(object);
}

/* The loop that runs in this thread; borrowed. */
extern _Thread_local PyObject *puff_running_loop;

#endif
