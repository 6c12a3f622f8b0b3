/* result.h - errors out of results and connections. See result.c. */
#ifndef PUFF_CORE_POSTGRES_RESULT_H
#define PUFF_CORE_POSTGRES_RESULT_H

#include <libpq-fe.h>

#include "puff/postgres.h"

/* Everything that a failed result says; strings are borrowed from it. */
void puff__pg_error_of_result(puff_pg_error *out, const PGresult *res);
/* The SQLSTATE of a result, "" when there is none. */
const char *puff__pg_sqlstate(const PGresult *res);
/* Why a connection failed, from its error message; made on one line, LOCATION left out, with the
 * SQLSTATE that PQERRORS_VERBOSE puts into it. what: "cannot connect" or the like. */
void puff__pg_error_of_conn(puff_err *out, int code, const char *text);

#endif
