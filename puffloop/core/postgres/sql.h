/* sql.h - what may travel on a shared connection. See sql.c. */
#ifndef PUFF_CORE_POSTGRES_SQL_H
#define PUFF_CORE_POSTGRES_SQL_H

#include "puff/base.h"

/* NULL, or why this text cannot run on a connection that others share. */
const char *puff__pg_sql_refusal(puff_str sql);

#endif
