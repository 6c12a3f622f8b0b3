/* reader.h - asyncio's StreamReader with its hot methods in C.
 *
 * The state stays where asyncio has it, in the instance's attributes, under asyncio's names; the
 * objects only get a class with C methods. A C method does what succeeds and what waits. Whatever
 * else may happen (an error, the end, an odd argument, a replaced method) it leaves to asyncio's
 * own function, which finds everything as if it had been called in the first place.
 */
#ifndef PUFF_BIND_READER_H
#define PUFF_BIND_READER_H

#include <Python.h>
#include <stdbool.h>

/* The two classes are asyncio's; the methods go into the other two, which are their subclasses. */
int puff_reader_init(PyObject *asyncio_reader, PyObject *asyncio_protocol, PyObject *reader,
                     PyObject *protocol);

/* True: asyncio's methods are not those of puff_reader_init()'s time. */
bool puff_reader_is_patched(void);

/* ---- between reader.c and reader_call.c ---- */

/* What a call finds when it looks: */
enum puff_look {
    PUFF_LOOK_DONE,    /* the result */
    PUFF_LOOK_WAIT,    /* that it must wait for more data */
    PUFF_LOOK_ASYNCIO, /* that this is for asyncio's function */
    PUFF_LOOK_FAILED,  /* an exception */
};

typedef struct puff_call puff_call;

typedef struct puff_call_kind {
    const char *name; /* of the method */
    PyObject **asyncio_class;
    enum puff_look (*look)(puff_call *c, PyObject **result);
} puff_call_kind;

/* One call of a coroutine method: an object that counts as its coroutine, begun when awaited. */
struct puff_call {
    PyObject_HEAD;
    const puff_call_kind *kind;
    PyObject *self;    /* owned until done */
    PyObject *attrs;   /* owned until done: the dict of self */
    PyObject *arg;     /* owned or NULL: the method's only argument */
    PyObject *waiting; /* owned while it waits: a Future's iterator, or asyncio's coroutine */
    Py_ssize_t n;      /* what the argument says */
    Py_ssize_t offset; /* readuntil: no separator begins before */
    int state;
};

/* reader._waiter, borrowed. */
PyObject *puff_reader_waiter(PyObject *attrs);

int puff_call_init(void);
/* A new call, or NULL. */
PyObject *puff_call_new(const puff_call_kind *kind, PyObject *self, PyObject *arg, Py_ssize_t n);
/* Has it been waiting before? */
bool puff_call_is_woken(const puff_call *c);
/* Makes future what c waits for, as `await future` would. */
int puff_call_wait(puff_call *c, PyObject *future);

/* asyncio's names of attributes and methods, interned. */
#define PUFF_READER_NAMES(X)               \
    X(buffer, "_buffer")                   \
    X(connection_lost, "_connection_lost") \
    X(eof, "_eof")                         \
    X(exception, "_exception")             \
    X(limit, "_limit")                     \
    X(loop, "_loop")                       \
    X(paused, "_paused")                   \
    X(reader_ref, "_stream_reader_wr")     \
    X(transport, "_transport")             \
    X(waiter, "_waiter")                   \
    X(cancelled, "cancelled")              \
    X(create_future, "create_future")      \
    X(feed_data, "feed_data")              \
    X(pause_reading, "pause_reading")      \
    X(resume_reading, "resume_reading")    \
    X(set_result, "set_result")
#define PUFF_READER_NAME(name, text) extern PyObject *puff_str_##name;
PUFF_READER_NAMES(PUFF_READER_NAME)
#undef PUFF_READER_NAME

#endif
