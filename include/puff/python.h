/* puff/python.h - the loop for other extension modules, by a capsule: nothing to link.
 *
 *     const puff_python_api *puff = puff_python_import();
 *     if (!puff) return NULL;                       (an exception is set)
 *     PyObject *loop = puff->running_loop();        (a puff.Loop)
 *     puff->call_soon(loop, on_soon, arg);
 *
 * Unless it says otherwise a function wants the GIL and the loop's thread, and callbacks come with
 * both, from the loop's turn and never before the call that registered them has returned.
 */
#ifndef PUFF_PYTHON_H
#define PUFF_PYTHON_H

#include <Python.h>

#include "puff/loop.h"

#ifdef __cplusplus
extern "C" {
#endif

#define PUFF_PYTHON_CAPSULE "puff._bind.capi.C_API"
#define PUFF_PYTHON_VERSION 1

/* Only ever grows at its end; what is there is what size says. */
typedef struct puff_python_api {
    size_t size; /* sizeof(puff_python_api) of the puff that is installed */
    int version; /* PUFF_PYTHON_VERSION; another one is another layout */

    /* A new reference to the puff.Loop that runs in this thread. NULL and RuntimeError: none does, or
     * it is another kind of loop. */
    PyObject *(*running_loop)(void);

    /* Borrowed; gone when the loop is closed. NULL and TypeError: not a puff.Loop; RuntimeError:
     * closed. */
    puff_loop *(*core)(PyObject *loop);

    /* Runs fn(arg) once, in the next turn, in the order of call_soon(). -1 from fn, with an exception
     * set, is reported to the loop's exception handler. arg is the caller's; when the loop is closed
     * first, fn never runs. 0, or -1 with what call_soon() raises. */
    int (*call_soon)(PyObject *loop, int (*fn)(void *arg), void *arg);

    /* Any thread, with or without the GIL: runs job->run(job) once, on the loop's thread and with the
     * GIL. The storage is the caller's until then. The loop must not be closed before this has
     * returned; a loop that closes runs what has been posted. run() leaves no exception set. */
    void (*post)(puff_loop *core, puff_post *job);

    /* Calls cb while fd is ready for events (PUFF_READABLE, PUFF_WRITABLE); cb leaves no exception
     * set. fd stays the caller's, and open until unwatch(). Not together with add_reader(),
     * add_writer() or a transport on the same descriptor. NULL with OSError (a regular file is
     * PermissionError, one that is watched FileExistsError), ValueError (no or other events), TypeError
     * or RuntimeError. */
    puff_poll *(*watch)(PyObject *loop, int fd, int events, puff_poll_cb cb, void *data);
    /* What watch() was given. */
    void *(*watch_data)(puff_poll *watch);
    /* No callback comes any more, and the watch is gone. Also from its callback; not after the loop
     * has been closed, which ends all watches. */
    void (*unwatch)(puff_poll *watch);
} puff_python_api;

/* The table, valid until the interpreter ends. NULL and ImportError: no puff, or one of another
 * version. */
static inline const puff_python_api *puff_python_import(void) {
    /* PyCapsule_Import() alone imports no submodules. */
    PyObject *module = PyImport_ImportModule("puff._bind.capi");
    if (!module) return NULL;
    Py_DECREF(module);
    const puff_python_api *api = (const puff_python_api *)PyCapsule_Import(PUFF_PYTHON_CAPSULE, 0);
    if (api && (api->version != PUFF_PYTHON_VERSION || api->size < sizeof *api)) {
        PyErr_SetString(PyExc_ImportError,
                        "the installed puff is older than what this was built for");
        return NULL;
    }
    return api;
}

#ifdef __cplusplus
}
#endif
#endif
