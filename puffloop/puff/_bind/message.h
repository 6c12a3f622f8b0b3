/* message.h - an ASGI message that an app sends, read in one pass over its dict.
 *
 * Messages have two to four keys, so looking at each is cheaper than asking for the ones that may
 * be there.
 */
#ifndef PUFF_BIND_MESSAGE_H
#define PUFF_BIND_MESSAGE_H

#include <Python.h>

/* In the order in which they are tried. Keys that are none of these are ignored, as ASGI says. */
enum puff_message_key {
    PUFF_MESSAGE_TYPE,
    PUFF_MESSAGE_BODY,
    PUFF_MESSAGE_STATUS,
    PUFF_MESSAGE_HEADERS,
    PUFF_MESSAGE_MORE_BODY,
    PUFF_MESSAGE_TRAILERS,
    PUFF_MESSAGE_MORE_TRAILERS,
    PUFF_MESSAGE_LINKS,
    PUFF_MESSAGE_KEYS
};

typedef struct puff_message {
    PyObject *values[PUFF_MESSAGE_KEYS]; /* owned: reading one may run code that changes the dict */
} puff_message;

int puff_message_init(void);
/* -1 with TypeError for what is no dict; then there is nothing to drop. Runs no Python code. */
int puff_message_take(puff_message *m, PyObject *dict);
void puff_message_drop(puff_message *m);

/* Its truth: 0 when it is not there, -1 with an exception. */
int puff_message_flag(const puff_message *m, enum puff_message_key key);
/* An int as it is, or 0 for one that is no status; -1 with TypeError. */
int puff_message_status(const puff_message *m);

#endif
