/* params.c - parameters as libpq wants them: three arrays, and bytes that live until it has copied
 * them.
 *
 * A pool has one puff_pg_params: a query is encoded right before it is written, and writing copies
 * it into libpq's output buffer. So the arena is emptied for each query, and large values are
 * borrowed, not copied. libpq takes the length of text parameters by strlen(): a NUL inside one
 * would cut it, and is refused.
 */
#include "params.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum {
    KEEP = 64 * 1024, /* an arena that grew beyond is given back: one large INSERT must not stay */
    ARENA_SLACK = 1024 * 1024, /* its rounding up to 16 for each of 65535 parameters */
    MIN_CAP = 16,
};

void puff__pg_params_init(puff_pg_params *p, const puff_alloc *alloc, size_t max) {
    *p = (puff_pg_params){.alloc = alloc, .max = max};
    puff_arena_init(&p->arena, alloc, max + ARENA_SLACK);
}

void puff__pg_params_deinit(puff_pg_params *p) {
    puff_arena_deinit(&p->arena);
    puff_free(p->alloc, p->values);
    puff_free(p->alloc, p->lengths);
    puff_free(p->alloc, p->formats);
}

static int grow(puff_pg_params *p, int n) {
    int cap = n > MIN_CAP ? n : MIN_CAP;
    const char **values = puff_realloc(p->alloc, p->values, (size_t)cap * sizeof *values);
    if (!values) return PUFF_ENOMEM;
    p->values = values;
    int *lengths = puff_realloc(p->alloc, p->lengths, (size_t)cap * sizeof *lengths);
    if (!lengths) return PUFF_ENOMEM;
    p->lengths = lengths;
    int *formats = puff_realloc(p->alloc, p->formats, (size_t)cap * sizeof *formats);
    if (!formats) return PUFF_ENOMEM;
    p->formats = formats;
    p->cap = cap;
    return 0;
}

int puff__pg_params_begin(puff_pg_params *p, const puff_pg_statement *st) {
    if (st->n_params > p->cap && grow(p, st->n_params) != 0) return PUFF_ENOMEM;
    p->st = st;
    p->total = 0;
    for (int i = 0; i < st->n_params; i++) {
        p->values[i] = NULL;
        p->lengths[i] = 0;
        p->formats[i] = 1;
    }
    return 0;
}

void puff__pg_params_end(puff_pg_params *p) {
    p->st = NULL;
    if (p->arena.used > KEEP)
        puff_arena_deinit(&p->arena);
    else
        puff_arena_reset(&p->arena);
}

static int set(puff_pg_params *p, int i, const char *data, size_t len, int format) {
    if (i < 0 || i >= p->st->n_params) return PUFF_EARG;
    if (len > p->max - p->total) return PUFF_ELIMIT;
    if (format == 0 && memchr(data, '\0', len)) return PUFF_EARG;
    p->total += len;
    p->values[i] = data;
    p->lengths[i] = (int)len;
    p->formats[i] = format;
    return 0;
}

int puff_pg_params_null(puff_pg_params *p, int i) {
    if (i < 0 || i >= p->st->n_params) return PUFF_EARG;
    p->values[i] = NULL;
    return 0;
}

int puff_pg_params_ref(puff_pg_params *p, int i, const void *data, size_t len, int format) {
    return set(p, i, data ? data : "", len, format); /* NULL would be SQL's */
}

int puff_pg_params_copy(puff_pg_params *p, int i, const void *data, size_t len, int format) {
    if (len > p->max - p->total) return PUFF_ELIMIT;
    char *copy = puff_arena_dup(&p->arena, data, len);
    if (!copy) return PUFF_ENOMEM;
    return set(p, i, copy, len, format);
}

char *puff_pg_params_reserve(puff_pg_params *p, int i, size_t len, int format) {
    if (len > p->max - p->total) return NULL;
    char *room = puff_arena_alloc(&p->arena, len + 1);
    if (!room) return NULL;
    memset(room, format == 0 ? ' ' : 0, len); /* no NUL for set() to find in text not yet written */
    room[len] = '\0';
    return set(p, i, room, len, format) == 0 ? room : NULL;
}

/* n low bytes of v, highest first. */
static int put_uint(puff_pg_params *p, int i, uint64_t v, int n) {
    char *room = puff_pg_params_reserve(p, i, (size_t)n, 1);
    if (!room) return i < 0 || i >= p->st->n_params ? PUFF_EARG : PUFF_ENOMEM;
    for (int at = n - 1; at >= 0; at--, v >>= 8) room[at] = (char)(v & 0xff);
    return 0;
}

int puff_pg_params_bool(puff_pg_params *p, int i, bool v) { return put_uint(p, i, v, 1); }
int puff_pg_params_int2(puff_pg_params *p, int i, int16_t v) {
    return put_uint(p, i, (uint16_t)v, 2);
}
int puff_pg_params_int4(puff_pg_params *p, int i, int32_t v) {
    return put_uint(p, i, (uint32_t)v, 4);
}
int puff_pg_params_int8(puff_pg_params *p, int i, int64_t v) {
    return put_uint(p, i, (uint64_t)v, 8);
}

int puff_pg_params_float4(puff_pg_params *p, int i, float v) {
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_uint(p, i, bits, 4);
}

int puff_pg_params_float8(puff_pg_params *p, int i, double v) {
    uint64_t bits;
    memcpy(&bits, &v, sizeof bits);
    return put_uint(p, i, bits, 8);
}

static int put_decimal(puff_pg_params *p, int i, int64_t v) {
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, v);
    return puff_pg_params_copy(p, i, text, (size_t)len, 0);
}

static int put_ranged(puff_pg_params *p, int i, int64_t v, int64_t min, int64_t max, int n) {
    return v < min || v > max ? PUFF_ELIMIT : put_uint(p, i, (uint64_t)v, n);
}

int puff_pg_params_integer(puff_pg_params *p, int i, int64_t v) {
    if (i < 0 || i >= p->st->n_params) return PUFF_EARG;
    const puff_pg_type *type = puff_pg_type_by_oid(p->st->param_oids[i]);
    switch (type ? type->kind : PUFF_PG_UNKNOWN) {
    case PUFF_PG_INT2: return put_ranged(p, i, v, INT16_MIN, INT16_MAX, 2);
    case PUFF_PG_INT4: return put_ranged(p, i, v, INT32_MIN, INT32_MAX, 4);
    case PUFF_PG_INT8: return put_uint(p, i, (uint64_t)v, 8);
    case PUFF_PG_UINT4: return put_ranged(p, i, v, 0, UINT32_MAX, 4);
    case PUFF_PG_UINT8: return put_ranged(p, i, v, 0, INT64_MAX, 8);
    case PUFF_PG_FLOAT4: return puff_pg_params_float4(p, i, (float)v);
    case PUFF_PG_FLOAT8: return puff_pg_params_float8(p, i, (double)v);
    case PUFF_PG_NUMERIC:
    case PUFF_PG_TEXT: return put_decimal(p, i, v);
    default: return PUFF_EARG;
    }
}

static const char *type_name(uint32_t oid, char fallback[32]) {
    const puff_pg_type *type = puff_pg_type_by_oid(oid);
    if (type) return type->name;
    snprintf(fallback, 32, "the type with OID %" PRIu32, oid);
    return fallback;
}

static int wrong_type(const puff_pg_params *p, int i, uint32_t given, puff_err *err) {
    char a[32], b[32];
    return puff_err_set(err, PUFF_EARG, PUFF_DOMAIN_POSTGRES, "parameter $%d is %s, not %s", i + 1,
                        type_name(p->st->param_oids[i], a), type_name(given, b));
}

static int set_one(puff_pg_params *p, int i, const puff_pg_param *from, puff_err *err) {
    if (from->len < 0) return 0;
    if (from->format != 0 && from->oid != 0 && from->oid != p->st->param_oids[i])
        return wrong_type(p, i, from->oid, err);
    int rc = puff_pg_params_ref(p, i, from->data, (size_t)from->len, from->format);
    if (rc == PUFF_EARG)
        puff_err_set(err, rc, PUFF_DOMAIN_POSTGRES, "parameter $%d: text has a NUL in it", i + 1);
    else if (rc)
        puff_err_set(err, rc, PUFF_DOMAIN_POSTGRES, "the parameters are longer than %zu bytes",
                     p->max);
    return rc;
}

int puff__pg_params_from_array(puff_pg_params *p, const puff_pg_param *params, puff_err *err) {
    for (int i = 0; i < p->st->n_params; i++) {
        int rc = set_one(p, i, &params[i], err);
        if (rc) return rc;
    }
    return 0;
}
