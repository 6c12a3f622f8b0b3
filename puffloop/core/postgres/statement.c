/* statement.c - the pool's statements: found by SQL text, described once, prepared once on each
 * lane.
 *
 * A statement is shared by all lanes: the first use on the pool pays for Parse and Describe, any
 * other lane sends Parse (with the known parameter types, so that what was encoded for them is read
 * as them) and Bind in one flight. When DDL changes a statement it is replaced by a new one under a
 * new name; queries on their way keep the old one.
 *
 *   buckets[hash] -> st -> st            lookup; only cached ones
 *   lru: st <-> st <-> st                the one used last is last; the first makes room
 *   all: st <-> st <-> st <-> st         also those that are only used by queries on their way
 */
#include "statement.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Longer texts are prepared for one use: 256 of them must not be 256 megabytes. */
enum { MAX_CACHED_SQL = 64 * 1024 };
/* Until it has run: five of them fit on a lane (pool.c, SLOW_NS), and if they turn out to be slow
 * no more than these wait for each other. */
enum { UNKNOWN_COST_NS = 1000 * 1000 };

/* FNV-1a over words: a text is hashed at every query. */
static uint64_t hash_of(puff_str s) {
    uint64_t h = 0xcbf29ce484222325u ^ s.len, word;
    const char *p = s.ptr;
    size_t n = s.len;
    for (; n >= 8; n -= 8, p += 8) {
        memcpy(&word, p, 8);
        h = (h ^ word) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    word = 0;
    memcpy(&word, p, n);
    h = (h ^ word) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

int puff__pg_stmts_init(puff__pg_stmts *c, const puff_alloc *alloc, int max_cached,
                        void (*on_unused)(puff__pg_stmts *, puff__pg_stmt *)) {
    *c = (puff__pg_stmts){.alloc = alloc, .max_cached = max_cached, .on_unused = on_unused};
    puff_queue_init(&c->all);
    puff_queue_init(&c->lru);
    uint64_t seed = puff_now_ns() ^ (uint64_t)(uintptr_t)c;
    c->token = (uint32_t)((seed * 0x9e3779b97f4a7c15u) >> 32);
    c->n_buckets = 16;
    while (c->n_buckets < (size_t)max_cached * 2) c->n_buckets *= 2;
    c->buckets = puff_calloc(alloc, c->n_buckets, sizeof *c->buckets);
    return c->buckets ? 0 : PUFF_ENOMEM;
}

static void unref(puff__pg_stmt *st) {
    if (--st->refs > 0) return;
    const puff_alloc *alloc = st->cache->alloc;
    if (st->pub.host_free) st->pub.host_free(st->pub.host);
    puff_queue_remove(&st->all);
    puff_free(alloc, st->description);
    puff_free(alloc, st);
}

void puff_pg_statement_ref(puff_pg_statement *st) { ((puff__pg_stmt *)st)->refs++; }
void puff_pg_statement_unref(puff_pg_statement *st) { unref((puff__pg_stmt *)st); }

void puff__pg_stmt_use(puff__pg_stmt *st) {
    if (st->uses++ == 0) st->refs++;
}

void puff__pg_stmt_unuse(puff__pg_stmt *st) {
    if (--st->uses > 0) return;
    st->cache->on_unused(st->cache, st);
    unref(st);
}

static puff__pg_stmt **bucket_of(puff__pg_stmts *c, uint64_t hash) {
    return &c->buckets[hash & (c->n_buckets - 1)];
}

void puff__pg_stmts_forget(puff__pg_stmt *st) {
    if (!st->cached) return;
    puff__pg_stmt **at = bucket_of(st->cache, st->hash);
    while (*at != st) at = &(*at)->next_in_bucket;
    *at = st->next_in_bucket;
    puff_queue_remove(&st->lru);
    st->cache->n_cached--;
    st->cached = false;
    puff__pg_stmt_unuse(st);
}

void puff__pg_stmts_deinit(puff__pg_stmts *c) {
    while (!puff_queue_empty(&c->lru))
        puff__pg_stmts_forget(PUFF_CONTAINER_OF(c->lru.next, puff__pg_stmt, lru));
    puff_free(c->alloc, c->buckets);
}

static void add_to_cache(puff__pg_stmts *c, puff__pg_stmt *st) {
    if (c->n_cached >= c->max_cached)
        puff__pg_stmts_forget(PUFF_CONTAINER_OF(c->lru.next, puff__pg_stmt, lru));
    puff__pg_stmt **at = bucket_of(c, st->hash);
    st->next_in_bucket = *at;
    *at = st;
    puff_queue_push(&c->lru, &st->lru);
    c->n_cached++;
    st->cached = true;
    puff__pg_stmt_use(st);
}

void puff__pg_stmt_name(const puff__pg_stmts *c, uint64_t id, char name[PUFF__PG_NAME_CAP]) {
    snprintf(name, PUFF__PG_NAME_CAP, "puff_%08" PRIx32 "_%" PRIx64, c->token, id);
}

/* An average that forgets: the last execution counts an eighth. The first too: it was planned and
 * its pages were read, and one hiccup must not make a statement a slow one. */
void puff__pg_stmt_took(puff__pg_stmt *st, uint64_t ns) {
    uint64_t was = puff__pg_stmt_est_ns(st);
    st->ewma_ns = was - was / 8 + ns / 8;
}

uint64_t puff__pg_stmt_est_ns(const puff__pg_stmt *st) {
    return st->ewma_ns ? st->ewma_ns : UNKNOWN_COST_NS;
}

/* Used by nobody yet, not in the cache. */
static puff__pg_stmt *make(puff__pg_stmts *c, puff_str sql, uint64_t hash) {
    puff__pg_stmt *st = puff_calloc(c->alloc, 1, sizeof *st + sql.len + 1);
    if (!st) return NULL;
    memcpy(st->sql, sql.ptr, sql.len);
    st->pub.sql = st->sql;
    st->pub.sql_len = sql.len;
    st->cache = c;
    st->hash = hash;
    puff_queue_push(&c->all, &st->all);
    puff_queue_init(&st->lru);
    puff_queue_init(&st->waiters);
    st->id = ++c->n_made;
    puff__pg_stmt_name(c, st->id, st->name);
    return st;
}

static bool same_text(const puff__pg_stmt *st, puff_str sql) {
    return st->pub.sql_len == sql.len && memcmp(st->sql, sql.ptr, sql.len) == 0;
}

static puff__pg_stmt *find(puff__pg_stmts *c, puff_str sql, uint64_t hash) {
    puff__pg_stmt *st = *bucket_of(c, hash);
    while (st && (st->hash != hash || !same_text(st, sql))) st = st->next_in_bucket;
    return st;
}

puff__pg_stmt *puff__pg_stmts_get(puff__pg_stmts *c, puff_str sql) {
    uint64_t hash = hash_of(sql);
    puff__pg_stmt *st = find(c, sql, hash);
    if (st) {
        puff_queue_remove(&st->lru);
        puff_queue_push(&c->lru, &st->lru);
        puff__pg_stmt_use(st);
        return st;
    }
    st = make(c, sql, hash);
    if (!st) return NULL;
    puff__pg_stmt_use(st);
    if (c->max_cached > 0 && sql.len <= MAX_CACHED_SQL) add_to_cache(c, st);
    return st;
}

/* ---- descriptions -------------------------------------------------------------------------- */

static size_t names_size(const PGresult *res) {
    size_t size = 0;
    for (int i = 0; i < PQnfields(res); i++) size += strlen(PQfname(res, i)) + 1;
    return size;
}

static char *fill_column(puff_pg_column *col, const PGresult *res, int i, char *names) {
    size_t len = strlen(PQfname(res, i)) + 1;
    memcpy(names, PQfname(res, i), len);
    *col = (puff_pg_column){
        .name = names,
        .oid = PQftype(res, i),
        .fmod = PQfmod(res, i),
        .table_oid = PQftable(res, i),
        .table_column = (int16_t)PQftablecol(res, i),
    };
    return names + len;
}

/* [columns][parameter OIDs][names] */
static int set_description(puff__pg_stmt *st, const PGresult *res, const uint32_t *oids,
                           int n_params) {
    size_t n_columns = (size_t)PQnfields(res);
    size_t size = n_columns * sizeof(puff_pg_column) + (size_t)n_params * sizeof *oids;
    char *block = puff_malloc(st->cache->alloc, size + names_size(res) + 1);
    if (!block) return PUFF_ENOMEM;
    puff_pg_column *columns = (puff_pg_column *)block;
    uint32_t *param_oids = (uint32_t *)(columns + n_columns);
    for (int i = 0; i < n_params; i++) param_oids[i] = oids ? oids[i] : PQparamtype(res, i);
    char *names = block + size;
    for (size_t i = 0; i < n_columns; i++) names = fill_column(&columns[i], res, (int)i, names);
    st->description = block;
    st->pub.n_params = n_params;
    st->pub.param_oids = param_oids;
    st->pub.n_columns = (int)n_columns;
    st->pub.columns = columns;
    st->described = true;
    return 0;
}

int puff__pg_stmt_describe(puff__pg_stmt *st, const PGresult *res) {
    return set_description(st, res, NULL, PQnparams(res));
}

bool puff__pg_stmt_matches(const puff__pg_stmt *st, const PGresult *res) {
    if (PQnfields(res) != st->pub.n_columns) return false;
    for (int i = 0; i < st->pub.n_columns; i++) {
        const puff_pg_column *col = &st->pub.columns[i];
        if (PQftype(res, i) != col->oid || strcmp(PQfname(res, i), col->name) != 0) return false;
    }
    return true;
}

puff__pg_stmt *puff__pg_stmt_renew(puff__pg_stmt *old, const PGresult *res) {
    puff__pg_stmt *st = make(old->cache, (puff_str){old->sql, old->pub.sql_len}, old->hash);
    if (!st) return NULL;
    puff__pg_stmt_use(st);
    if (set_description(st, res, old->pub.param_oids, old->pub.n_params) != 0) {
        puff__pg_stmt_unuse(st);
        return NULL;
    }
    st->ewma_ns = old->ewma_ns;
    if (old->cached) {
        puff__pg_stmts_forget(old);
        add_to_cache(st->cache, st);
    }
    return st;
}

void puff__pg_stmts_lane_gone(puff__pg_stmts *c, uint64_t lane_bit) {
    puff_queue *node;
    PUFF_QUEUE_FOREACH(node, &c->all) {
        puff__pg_stmt *st = PUFF_CONTAINER_OF(node, puff__pg_stmt, all);
        st->prepared &= ~lane_bit;
        st->verified &= ~lane_bit;
    }
}
