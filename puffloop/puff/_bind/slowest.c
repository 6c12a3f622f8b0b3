/* slowest.c - see slowest.h. */
#include "slowest.h"

static PyObject *describe_fn; /* owned */

void puff_slowest_init(PyObject *describe) { describe_fn = Py_NewRef(describe); }

/* The callback's outcome, an exception that is set, is not ours to change; but whoever interrupts the
 * program while it describes one means the program. */
static int set_text(PyObject **text, PyObject *queued) {
    PyObject *type, *value, *tb;
    PyErr_Fetch(&type, &value, &tb);
    Py_XSETREF(*text, PyObject_CallOneArg(describe_fn, queued));
    if (!*text && !PyErr_ExceptionMatches(PyExc_Exception)) {
        Py_XDECREF(type);
        Py_XDECREF(value);
        Py_XDECREF(tb);
        return -1;
    }
    if (!*text) PyErr_WriteUnraisable(queued);
    PyErr_Restore(type, value, tb);
    return 0;
}

int puff_slowest_note(puff_slowest *s, puff_loop *core, uint64_t ticks, PyObject *queued) {
    uint64_t per_ms = puff_loop_ticks_per_ms(core);
    s->ticks = ticks;
    /* The loop may be too young to know what a tick is: then everything has a name. */
    if (ticks >= per_ms) return set_text(&s->what, queued);
    Py_CLEAR(s->what);
    return 0;
}

PyObject *puff_slowest_get(const puff_slowest *s, puff_loop *core) {
    uint64_t per_ms = puff_loop_ticks_per_ms(core);
    double seconds = per_ms ? (double)s->ticks / (double)per_ms / 1000 : 0;
    return Py_BuildValue("(dO)", seconds, s->what ? s->what : Py_None);
}

void puff_slowest_reset(puff_slowest *s) {
    s->ticks = 0;
    Py_CLEAR(s->what);
}
