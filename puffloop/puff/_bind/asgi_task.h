/* asgi_task.h - runs the app for one request, inside an asyncio.Task. */
#ifndef PUFF_BIND_ASGI_TASK_H
#define PUFF_BIND_ASGI_TASK_H

#include "exchange.h"

int puff_asgi_task_init(void);
/* Calls the app and drives it up to its first suspension. -1 with an exception: no Task could be
 * made, nothing was called; or SystemExit or KeyboardInterrupt came out of the app, for the loop.
 */
int puff_asgi_task_run(puff_asgi *asgi, puff_exchange *exchange);
/* Drops the Task that is kept for the next request, if there is one, without a word. */
void puff_asgi_task_end_idle(puff_asgi *asgi);
/* The Tasks of asgi->running: a new list. */
PyObject *puff_asgi_task_list(puff_asgi *asgi);
/* Those go on, but belong to no app any more. */
void puff_asgi_task_disown(puff_asgi *asgi);

#endif
