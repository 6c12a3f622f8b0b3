/* row.h - Postgres values in binary format to Python objects. */
#ifndef PUFF_BIND_ROW_H
#define PUFF_BIND_ROW_H

#include "puff/postgres.h"
#include "record.h"

/* Imports what the decoders need; 0 or -1 with an exception. Once per interpreter. */
int puff_row_setup(void);
/* Whether a column of this type can be decoded from binary; if not, ask for text. */
int puff_row_can_decode(uint32_t oid);
/* One value; NULL is None. New reference, or NULL with an exception (ValueError: bytes that make no
 * sense). */
PyObject *puff_row_value(uint32_t oid, puff_pg_cell cell);
/* All rows of a binary result as Records. New reference. */
PyObject *puff_row_list(const puff_pg_result *res, const puff_pg_statement *st,
                        puff_row_layout *layout);
/* Row number i. New reference. */
PyObject *puff_row_record(const puff_pg_result *res, const puff_pg_statement *st,
                          puff_row_layout *layout, int i);

#endif
