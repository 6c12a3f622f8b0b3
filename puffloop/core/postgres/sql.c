/* sql.c - finds statements that need a session of their own, by their first word.
 *
 * On a shared lane BEGIN would put the queries of others, which are on their way already, into its
 * transaction, and its end would undo what they were told is done; COPY breaks libpq's pipeline;
 * LISTEN and SET change a connection of which the caller will get another one next time. So they
 * are refused before anything is sent. The server's status byte is still checked after every answer
 * (pipeline.c).
 */
#include "sql.h"

#include <ctype.h>

static const char *skip_line(const char *p, const char *end) {
    while (p < end && *p != '\n') p++;
    return p;
}

/* Postgres' block comments nest. */
static const char *skip_block(const char *p, const char *end) {
    int depth = 0;
    while (p < end) {
        if (end - p >= 2 && p[0] == '/' && p[1] == '*') {
            depth++;
            p += 2;
        } else if (end - p >= 2 && p[0] == '*' && p[1] == '/') {
            p += 2;
            if (--depth == 0) break;
        } else {
            p++;
        }
    }
    return p;
}

/* An empty statement before the first is dropped by the server's grammar: so are semicolons here.
 */
static const char *skip_blank(const char *p, const char *end) {
    while (p < end) {
        if (isspace((unsigned char)*p) || *p == ';')
            p++;
        else if (end - p >= 2 && p[0] == '-' && p[1] == '-')
            p = skip_line(p, end);
        else if (end - p >= 2 && p[0] == '/' && p[1] == '*')
            p = skip_block(p, end);
        else
            break;
    }
    return p;
}

static puff_str next_word(const char **at, const char *end) {
    const char *p = skip_blank(*at, end), *first = p;
    while (p < end && (isalnum((unsigned char)*p) || *p == '_')) p++;
    *at = p;
    return (puff_str){first, (size_t)(p - first)};
}

#define IS(word, lit) puff_str_ieq(word, PUFF_STR(lit))

const char *puff__pg_sql_refusal(puff_str sql) {
    const char *at = sql.ptr, *end = sql.ptr + sql.len;
    puff_str word = next_word(&at, end);
    switch (word.len ? tolower((unsigned char)*word.ptr) : 0) {
    case 'b':
        if (IS(word, "begin")) return "BEGIN on a shared connection: use transaction()";
        break;
    case 'c':
        if (IS(word, "copy")) return "COPY on a shared connection: it needs one of its own";
        break;
    case 'l':
        if (IS(word, "listen")) return "LISTEN on a shared connection: it needs one of its own";
        break;
    case 'r':
        if (IS(word, "reset")) return "RESET on a shared connection: others use it too";
        break;
    case 's':
        if (IS(word, "start")) return "START TRANSACTION on a shared connection: use transaction()";
        if (IS(word, "set"))
            return "SET on a shared connection: others use it too, and the next query may take "
                   "another; put it into the DSN (options=-c name=value)";
        break;
    case 'd':
        if (IS(word, "discard")) return "DISCARD on a shared connection: others use it too";
        break;
    case 'u':
        if (IS(word, "unlisten")) return "UNLISTEN on a shared connection: nothing listens there";
        break;
    }
    return NULL;
}
