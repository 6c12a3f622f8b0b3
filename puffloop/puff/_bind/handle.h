/* handle.h - what call_soon() and call_later() return: asyncio.Handle and asyncio.TimerHandle in C.
 *
 * Both types are subclasses of asyncio's and keep their state in asyncio's own slots, so repr(),
 * debug mode and code that reads handle._callback see what they expect. Up to four arguments lie
 * inline; the tuple _args and the context _context are made when somebody asks.
 */
#ifndef PUFF_BIND_HANDLE_H
#define PUFF_BIND_HANDLE_H

#include <stdbool.h>

#include "compat.h"
#include "puff/loop.h"

enum { PUFF_INLINE_ARGS = 4 };

/* What we keep behind asyncio's slots. */
typedef struct puff_handle_own {
    PyObject *items[PUFF_INLINE_ARGS]; /* owned; arguments */
    int n;                             /* -1: they are in the slot args, a tuple */
    PyObject *vars;                    /* owned; of the context, while the slot context is NULL */
} puff_handle_own;

typedef struct puff_handle {
    PUFF_HANDLE_SLOTS
    puff_handle_own own;
} puff_handle;

typedef struct puff_timer_handle {
    PUFF_TIMER_HANDLE_SLOTS
    puff_handle_own own;
    puff_timer timer; /* while it is started, the loop owns a reference */
} puff_timer_handle;

extern PyTypeObject *puff_handle_type, *puff_timer_handle_type;

/* Makes the two types. report(loop, handle, exc) is called for an exception of a callback. 0 or -1.
 */
int puff_handle_types_init(PyObject *asyncio_events, PyObject *extract_stack, PyObject *report);

/* New references, not tracked by the garbage collector yet: see puff_handle_track(). context NULL: a
 * copy of the current one. debug: remember the source line. */
PyObject *puff_handle_new(PyObject *loop, PyObject *callback, PyObject *const *args, Py_ssize_t n,
                          PyObject *context, bool debug);
/* What call_soon_threadsafe() returns. From 3.14 on its cancel() waits for a callback that is running
 * and so it is asyncio's own, a Python object with a lock; before, it is like any other. */
PyObject *puff_safe_handle_new(PyObject *loop, PyObject *callback, PyObject *const *args,
                               Py_ssize_t n, PyObject *context, bool debug);
PyObject *puff_timer_handle_new(PyObject *loop, PyObject *when, PyObject *callback,
                                PyObject *const *args, Py_ssize_t n, PyObject *context, bool debug);

/* A handle that only the ring or the timers hold is not tracked: a burst of thousands would make
 * the collector look at each, several times, before it runs. Whoever lets one live longer, or
 * shows it to somebody, has it tracked. Any native handle; twice is allowed. */
void puff_handle_track(PyObject *handle);
/* tp_traverse of whoever owns handle (native or not), tracked or not. */
int puff_handle_visit(PyObject *handle, visitproc visit, void *arg);

/* Gives memory back, of n dropped handles at most: one turn's worth of a busy loop stays. */
enum { PUFF_FREE_HANDLES = 256 };
extern size_t puff_n_free_handles;
void puff__handle_trim(size_t n);
static inline void puff_handle_trim(size_t n) {
    if (__builtin_expect(puff_n_free_handles > PUFF_FREE_HANDLES, 0)) puff__handle_trim(n);
}

/* Calls the callback in the handle's context, unless it is cancelled. The caller owns a reference.
 * -1 only for SystemExit and
 * KeyboardInterrupt: anything else goes to the loop's exception handler. */
int puff_handle_run(PyObject *handle);
/* The exception that is set goes to the loop's exception handler (0), or it is one of those two
 * (-1). handle: a handle, or the function that was called. */
int puff_handle_report(PyObject *loop, PyObject *handle);

/* dispatch.c: whether a LoopBase is in debug mode. */
bool puff_loop_in_debug(PyObject *loop); /* any object, or NULL */
/* dispatch.c: takes it out of the loop's timers, when it is there. */
void puff_timer_handle_unschedule(puff_timer_handle *t);

static inline bool puff_handle_is_native(PyObject *o) {
    return Py_IS_TYPE(o, puff_handle_type) || Py_IS_TYPE(o, puff_timer_handle_type);
}
static inline bool puff_handle_is_cancelled(PyObject *native) {
    return ((puff_handle *)native)->cancelled == Py_True;
}

#endif
