/* access_log.h - one line for each request, written in batches.
 *
 *   203.0.113.9:54321 [2026-11-24T08:15:00Z] "GET /a?b HTTP/1.1" 200 1024 0.31ms
 *
 * The bytes are those of the response's body. A response that was cut short has a "-" after its
 * size.
 */
#ifndef PUFF_BIND_ACCESS_LOG_H
#define PUFF_BIND_ACCESS_LOG_H

#include "puff/http.h"

typedef struct puff_access_log puff_access_log;

/* fd is borrowed. NULL: no memory. */
puff_access_log *puff_access_log_new(puff_loop *loop, int fd);
/* Writes what is left. */
void puff_access_log_free(puff_access_log *log);
/* Adds a line; lines leave at the end of the turn, in one write. */
void puff_access_log_add(puff_access_log *log, const puff_http_access *a);

#endif
