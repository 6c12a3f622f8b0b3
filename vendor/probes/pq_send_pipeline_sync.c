/* libpq 17: a Sync that is queued and not flushed, so that one write carries many queries. */
#include <libpq-fe.h>

int main(void) { return PQsendPipelineSync(NULL); }
