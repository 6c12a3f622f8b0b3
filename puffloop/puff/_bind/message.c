/* message.c - see message.h. */
#include "message.h"

static PyObject *keys[PUFF_MESSAGE_KEYS]; /* owned, interned */

/* Literals of the app's source are interned, as ours are; a key that was computed is compared. */
static int index_of(PyObject *key) {
    for (int i = 0; i < PUFF_MESSAGE_KEYS; i++)
        if (key == keys[i]) return i;
    if (!PyUnicode_Check(key) || PyUnicode_CHECK_INTERNED(key)) return -1;
    for (int i = 0; i < PUFF_MESSAGE_KEYS; i++)
        if (PyUnicode_Compare(key, keys[i]) == 0) return i;
    return -1;
}

int puff_message_take(puff_message *m, PyObject *dict) {
    if (!PyDict_Check(dict)) {
        PyErr_Format(PyExc_TypeError, "an ASGI message is a dict, not %.200s",
                     Py_TYPE(dict)->tp_name);
        return -1;
    }
    *m = (puff_message){{NULL}};
    PyObject *key, *value;
    for (Py_ssize_t at = 0; PyDict_Next(dict, &at, &key, &value);) {
        int i = index_of(key);
        if (i >= 0) m->values[i] = Py_NewRef(value);
    }
    return 0;
}

void puff_message_drop(puff_message *m) {
    for (int i = 0; i < PUFF_MESSAGE_KEYS; i++) Py_XDECREF(m->values[i]);
}

int puff_message_flag(const puff_message *m, enum puff_message_key key) {
    PyObject *value = m->values[key];
    return value ? PyObject_IsTrue(value) : 0;
}

int puff_message_status(const puff_message *m) {
    PyObject *value = m->values[PUFF_MESSAGE_STATUS];
    if (!value || !PyLong_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "http.response.start needs a status that is an int");
        return -1;
    }
    int overflow;
    long status = PyLong_AsLongAndOverflow(value, &overflow);
    return overflow || status < 0 || status > 999 ? 0 : (int)status;
}

int puff_message_init(void) {
    static const char *const names[PUFF_MESSAGE_KEYS] = {
        [PUFF_MESSAGE_TYPE] = "type",
        [PUFF_MESSAGE_BODY] = "body",
        [PUFF_MESSAGE_STATUS] = "status",
        [PUFF_MESSAGE_HEADERS] = "headers",
        [PUFF_MESSAGE_MORE_BODY] = "more_body",
        [PUFF_MESSAGE_TRAILERS] = "trailers",
        [PUFF_MESSAGE_MORE_TRAILERS] = "more_trailers",
        [PUFF_MESSAGE_LINKS] = "links",
    };
    for (int i = 0; i < PUFF_MESSAGE_KEYS; i++)
        if (!(keys[i] = PyUnicode_InternFromString(names[i]))) return -1;
    return 0;
}
