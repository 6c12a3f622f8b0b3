/* command.c - what a command's name says about it, and how it is written.
 *
 * RESP: "*" argc CRLF, then for each argument "$" length CRLF bytes CRLF.
 */
#include "command.h"

#include <string.h>

/* ---- classes ------------------------------------------------------------------------------- */

#define ADVICE_TRANSACTION "transactions are not offered yet; a Lua script (EVAL) is atomic"
#define ADVICE_SUBSCRIBE "use pub/sub, whose connection is its own"
#define ADVICE_URL "put it into the URL of the pool"
#define ADVICE_SESSION "it would change the connection that others share"

typedef struct verb {
    const char *name; /* upper case */
    puff__redis_class class_;
    const char *advice; /* SESSION: what to use instead */
} verb;

/* Their first letters are in may_be_special(). */
static const verb verbs[] = {
    {"ASKING", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"AUTH", PUFF__REDIS_SESSION, ADVICE_URL},
    {"BLMOVE", PUFF__REDIS_BLOCKING, NULL},
    {"BLMPOP", PUFF__REDIS_BLOCKING, NULL},
    {"BLPOP", PUFF__REDIS_BLOCKING, NULL},
    {"BRPOP", PUFF__REDIS_BLOCKING, NULL},
    {"BRPOPLPUSH", PUFF__REDIS_BLOCKING, NULL},
    {"BZMPOP", PUFF__REDIS_BLOCKING, NULL},
    {"BZPOPMAX", PUFF__REDIS_BLOCKING, NULL},
    {"BZPOPMIN", PUFF__REDIS_BLOCKING, NULL},
    {"DISCARD", PUFF__REDIS_SESSION, ADVICE_TRANSACTION},
    {"EXEC", PUFF__REDIS_SESSION, ADVICE_TRANSACTION},
    {"HELLO", PUFF__REDIS_SESSION, "the pool greets the server itself"},
    {"MONITOR", PUFF__REDIS_SESSION, "use redis-cli"},
    {"MULTI", PUFF__REDIS_SESSION, ADVICE_TRANSACTION},
    {"PSUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"PSYNC", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"PUNSUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"QUIT", PUFF__REDIS_SESSION, "close the pool"},
    {"READONLY", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"READWRITE", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"REPLCONF", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"RESET", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"SELECT", PUFF__REDIS_SESSION, ADVICE_URL},
    {"SSUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"SUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"SUNSUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"SYNC", PUFF__REDIS_SESSION, ADVICE_SESSION},
    {"UNSUBSCRIBE", PUFF__REDIS_SESSION, ADVICE_SUBSCRIBE},
    {"UNWATCH", PUFF__REDIS_SESSION, ADVICE_TRANSACTION},
    {"WAIT", PUFF__REDIS_BLOCKING, NULL},
    {"WAITAOF", PUFF__REDIS_BLOCKING, NULL},
    {"WATCH", PUFF__REDIS_SESSION, ADVICE_TRANSACTION},
};

/* Commands that are harmless but for these subcommands. */
static const struct {
    const char *name, *subcommand;
} subcommands[] = {
    {"CLIENT", "CACHING"}, {"CLIENT", "NO-EVICT"}, {"CLIENT", "NO-TOUCH"}, {"CLIENT", "REPLY"},
    {"CLIENT", "SETINFO"}, {"CLIENT", "SETNAME"},  {"CLIENT", "TRACKING"}, {"SCRIPT", "DEBUG"},
};

static bool is_word(puff_str s, const char *upper) {
    return puff_str_ieq(s, (puff_str){upper, strlen(upper)});
}

static char upper(char c) { return c >= 'a' && c <= 'z' ? (char)(c - 32) : c; }

static bool is_session_subcommand(const puff_str *argv, size_t argc) {
    for (size_t i = 0; argc > 1 && i < sizeof subcommands / sizeof *subcommands; i++)
        if (is_word(argv[0], subcommands[i].name) && is_word(argv[1], subcommands[i].subcommand))
            return true;
    return false;
}

/* XREAD and XREADGROUP block if BLOCK stands before STREAMS, after which only keys and ids come. */
static puff__redis_class classify_xread(const puff_str *argv, size_t argc) {
    for (size_t i = 1; i < argc && !is_word(argv[i], "STREAMS"); i++)
        if (is_word(argv[i], "BLOCK")) return PUFF__REDIS_BLOCKING;
    return PUFF__REDIS_SHARED;
}

#define LETTER(c) (1u << ((c) - 'A'))

/* Most commands are done after one look at the bit of their first letter. */
static bool may_be_special(char first) {
    static const uint32_t letters = LETTER('A') | LETTER('B') | LETTER('C') | LETTER('D') |
                                    LETTER('E') | LETTER('H') | LETTER('M') | LETTER('P') |
                                    LETTER('Q') | LETTER('R') | LETTER('S') | LETTER('U') |
                                    LETTER('W') | LETTER('X');
    return first >= 'A' && first <= 'Z' && (letters >> (first - 'A') & 1);
}

puff__redis_class puff__redis_classify(const puff_str *argv, size_t argc, const char **advice) {
    char first = argv[0].len ? upper(argv[0].ptr[0]) : 0;
    if (!may_be_special(first)) return PUFF__REDIS_SHARED;
    if (first == 'X') {
        bool reads = is_word(argv[0], "XREAD") || is_word(argv[0], "XREADGROUP");
        return reads ? classify_xread(argv, argc) : PUFF__REDIS_SHARED;
    }
    if ((first == 'C' || first == 'S') && is_session_subcommand(argv, argc)) {
        *advice = ADVICE_SESSION;
        return PUFF__REDIS_SESSION;
    }
    for (size_t i = 0; i < sizeof verbs / sizeof *verbs; i++) {
        if (verbs[i].name[0] != first || !is_word(argv[0], verbs[i].name)) continue;
        *advice = verbs[i].advice;
        return verbs[i].class_;
    }
    return PUFF__REDIS_SHARED;
}

/* ---- encoding ------------------------------------------------------------------------------ */

enum { MAX_PREFIX = 1 + 20 + 2 }; /* a type byte, the longest decimal, CRLF */

static char *put_prefix(char *p, char type, size_t n) {
    char digits[20];
    size_t len = 0;
    do digits[len++] = (char)('0' + n % 10);
    while ((n /= 10) != 0);
    *p++ = type;
    while (len > 0) *p++ = digits[--len];
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

static char *put_argument(char *p, puff_str arg) {
    p = put_prefix(p, '$', arg.len);
    if (arg.len) memcpy(p, arg.ptr, arg.len);
    p += arg.len;
    *p++ = '\r';
    *p++ = '\n';
    return p;
}

int puff__redis_encode(puff_buf *b, const puff_str *argv, size_t argc) {
    size_t room = MAX_PREFIX;
    for (size_t i = 0; i < argc; i++) {
        size_t need = argv[i].len + MAX_PREFIX + 2;
        if (need < argv[i].len || room + need < room) return PUFF_ELIMIT;
        room += need;
    }
    int rc = puff_buf_reserve(b, room);
    if (rc) return rc;
    char *p = put_prefix(b->data + b->len, '*', argc);
    for (size_t i = 0; i < argc; i++) p = put_argument(p, argv[i]);
    b->len = (size_t)(p - b->data);
    return 0;
}
