/* awaitable.h - what receive() and send() return: coroutine objects without a frame.
 *
 * Both count as coroutines (asyncio.create_task() and wait_for() take them), finish in their first
 * step when there is nothing to wait for, and else park on an asyncio Future of the loop.
 */
#ifndef PUFF_BIND_AWAITABLE_H
#define PUFF_BIND_AWAITABLE_H

#include <Python.h>

#include "puff/base.h"

struct puff_exchange;

enum puff_wait_kind { PUFF_WAIT_RECEIVE = 1, PUFF_WAIT_DRAIN = 2 };

/* Finished from the start, with None; any number of tasks may await it. Borrowed. */
extern PyObject *puff_sent;

int puff_awaitable_init(void);
/* Its result is what the exchange's poll gives. Holds a reference to the exchange. */
PyObject *puff_wait_new(struct puff_exchange *exchange, enum puff_wait_kind kind);
/* Lets everybody who is parked in the list for one of these kinds look again, soon. */
void puff_wait_wake(puff_queue *waits, int kinds);

#endif
