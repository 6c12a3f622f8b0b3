/* libpq 17: results in chunks of n rows, between one row at a time and all at once. */
#include <libpq-fe.h>

int main(void) { return PQsetChunkedRowsMode(NULL, 64) + (PGRES_TUPLES_CHUNK == 0); }
