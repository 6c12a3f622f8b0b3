/* params.h - the parameters of the query that is being written. See params.c. */
#ifndef PUFF_CORE_POSTGRES_PARAMS_H
#define PUFF_CORE_POSTGRES_PARAMS_H

#include "puff/postgres.h"

struct puff_pg_params {
    const puff_alloc *alloc;     /* borrowed; outlives us */
    const puff_pg_statement *st; /* borrowed, between begin and end */
    puff_arena arena;            /* encoded bytes, until end */
    const char **values;         /* owned: cap of each */
    int *lengths, *formats;
    int cap;
    size_t total, max; /* bytes of all parameters and their ceiling */
};

void puff__pg_params_init(puff_pg_params *p, const puff_alloc *alloc, size_t max);
void puff__pg_params_deinit(puff_pg_params *p);
/* All parameters of st, NULL. PUFF_ENOMEM. */
int puff__pg_params_begin(puff_pg_params *p, const puff_pg_statement *st);
void puff__pg_params_end(puff_pg_params *p);
/* From an array that the caller keeps. PUFF_EARG with err, PUFF_ELIMIT. */
int puff__pg_params_from_array(puff_pg_params *p, const puff_pg_param *params, puff_err *err);

#endif
