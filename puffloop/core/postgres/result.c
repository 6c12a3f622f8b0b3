/* result.c - reading results: rows, tags, errors. They are libpq's own objects. */
#include "result.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>

int puff_pg_result_n_rows(const puff_pg_result *res) { return PQntuples(res); }
int puff_pg_result_n_columns(const puff_pg_result *res) { return PQnfields(res); }

int puff_pg_result_format(const puff_pg_result *res) {
    return PQnfields(res) > 0 ? PQfformat(res, 0) : 1;
}

puff_pg_cell puff_pg_result_cell(const puff_pg_result *res, int row, int column) {
    puff_pg_cell cell = {PQgetvalue(res, row, column), PQgetlength(res, row, column)};
    if (cell.len == 0 && PQgetisnull(res, row, column)) cell.len = -1;
    return cell;
}

void puff_pg_result_row(const puff_pg_result *res, int row, puff_pg_cell *cells) {
    int n = PQnfields(res);
    for (int i = 0; i < n; i++) cells[i] = puff_pg_result_cell(res, row, i);
}

/* libpq takes these without const, and changes nothing. */
const char *puff_pg_result_tag(const puff_pg_result *res) { return PQcmdStatus((PGresult *)res); }

int64_t puff_pg_result_affected(const puff_pg_result *res) {
    const char *digits = PQcmdTuples((PGresult *)res);
    return *digits ? strtoll(digits, NULL, 10) : -1;
}

void puff_pg_result_free(puff_pg_result *res) { PQclear(res); }

static uint64_t get_uint(const char *p, int n) {
    uint64_t v = 0;
    for (int i = 0; i < n; i++) v = v << 8 | (unsigned char)p[i];
    return v;
}

int16_t puff_pg_get_int2(const char *p) { return (int16_t)get_uint(p, 2); }
int32_t puff_pg_get_int4(const char *p) { return (int32_t)get_uint(p, 4); }
int64_t puff_pg_get_int8(const char *p) { return (int64_t)get_uint(p, 8); }

float puff_pg_get_float4(const char *p) {
    uint32_t bits = (uint32_t)get_uint(p, 4);
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

double puff_pg_get_float8(const char *p) {
    uint64_t bits = get_uint(p, 8);
    double v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* ---- errors -------------------------------------------------------------------------------- */

const char *puff__pg_sqlstate(const PGresult *res) {
    const char *state = PQresultErrorField(res, PG_DIAG_SQLSTATE);
    return state ? state : "";
}

static void copy_sqlstate(puff_err *err, const char *state) {
    size_t len = strnlen(state, sizeof err->sqlstate - 1);
    memcpy(err->sqlstate, state, len);
    err->sqlstate[len] = '\0';
}

/* A result that libpq made itself (out of memory, lost synchronization) has no fields, only a text.
 */
void puff__pg_error_of_result(puff_pg_error *out, const PGresult *res) {
    *out = (puff_pg_error){
        .severity = PQresultErrorField(res, PG_DIAG_SEVERITY_NONLOCALIZED),
        .message = PQresultErrorField(res, PG_DIAG_MESSAGE_PRIMARY),
        .detail = PQresultErrorField(res, PG_DIAG_MESSAGE_DETAIL),
        .hint = PQresultErrorField(res, PG_DIAG_MESSAGE_HINT),
        .position = PQresultErrorField(res, PG_DIAG_STATEMENT_POSITION),
        .context = PQresultErrorField(res, PG_DIAG_CONTEXT),
        .schema = PQresultErrorField(res, PG_DIAG_SCHEMA_NAME),
        .table = PQresultErrorField(res, PG_DIAG_TABLE_NAME),
        .column = PQresultErrorField(res, PG_DIAG_COLUMN_NAME),
        .datatype = PQresultErrorField(res, PG_DIAG_DATATYPE_NAME),
        .constraint = PQresultErrorField(res, PG_DIAG_CONSTRAINT_NAME),
        .internal_query = PQresultErrorField(res, PG_DIAG_INTERNAL_QUERY),
        .internal_position = PQresultErrorField(res, PG_DIAG_INTERNAL_POSITION),
        .source_file = PQresultErrorField(res, PG_DIAG_SOURCE_FILE),
        .source_line = PQresultErrorField(res, PG_DIAG_SOURCE_LINE),
        .source_function = PQresultErrorField(res, PG_DIAG_SOURCE_FUNCTION),
    };
    const char *state = puff__pg_sqlstate(res);
    if (out->message) {
        puff_err_set(&out->err, PUFF_EDB, PUFF_DOMAIN_POSTGRES, "%s", out->message);
        copy_sqlstate(&out->err, state);
    } else {
        puff__pg_error_of_conn(&out->err, PUFF_EPROTO, PQresultErrorMessage(res));
    }
}

static bool is_sqlstate(const char *s) {
    for (int i = 0; i < 5; i++)
        if (!isdigit((unsigned char)s[i]) && !isupper((unsigned char)s[i])) return false;
    return s[5] == ':' && s[6] == ' ';
}

/* "FATAL:  28P01: password ...": takes the five letters out of the line, in place. */
static void extract_sqlstate(puff_err *err) {
    char *at = strstr(err->msg, ":  ");
    if (!at || !is_sqlstate(at + 3)) return;
    copy_sqlstate(err, at + 3);
    memmove(at + 2, at + 10, strlen(at + 10) + 1); /* ":  28P01: " becomes ": " */
}

static size_t append_line(char *msg, size_t len, size_t cap, const char *line, size_t n) {
    if (len && len + 2 < cap) {
        memcpy(msg + len, "; ", 2);
        len += 2;
    }
    if (n > cap - 1 - len) n = cap - 1 - len;
    memcpy(msg + len, line, n);
    msg[len + n] = '\0';
    return len + n;
}

void puff__pg_error_of_conn(puff_err *out, int code, const char *text) {
    *out = (puff_err){.code = code, .domain = PUFF_DOMAIN_POSTGRES};
    size_t len = 0;
    while (*text) {
        size_t n = strcspn(text, "\n");
        const char *line = text;
        text += n + (text[n] == '\n');
        while (n && isspace((unsigned char)*line)) line++, n--;
        if (n && strncmp(line, "LOCATION:", 9) != 0)
            len = append_line(out->msg, len, sizeof out->msg, line, n);
    }
    if (!len) append_line(out->msg, 0, sizeof out->msg, "libpq said nothing", 18);
    extract_sqlstate(out);
}
