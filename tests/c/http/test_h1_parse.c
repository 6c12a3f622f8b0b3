/* test_h1_parse.c - heads, good and bad. Each input runs whole, cut in two at every point, and byte
 * by byte, always against a guard page; all runs must come to the same verdict, written as one
 * line:
 *
 *     METHOD target path=... [?query] @authority 1.1 [flags] | name=value | ... > offset of the
 * body
 */
#include "http/h1_parse.h"

#include "../check.h"
#include "guard.h"

enum { MAX_LINE = 64, MAX_HEAD = 256, MAX_FIELDS = 8 };

static char *put(char *o, const char *s, size_t n) {
    memcpy(o, s, n);
    return o + n;
}
static char *puts_(char *o, const char *s) { return put(o, s, strlen(s)); }
static char *put_slice(char *o, const char *buf, puff_h1_slice s) {
    return put(o, buf + s.at, s.len);
}

/* in: the whole input, of which buf may be a part. */
static void dump(const puff_h1_parser *p, const char *buf, int verdict, const char *in, char *o) {
    if (verdict != PUFF_H1_DONE) {
        sprintf(o, "%d", verdict);
        return;
    }
    o = put_slice(o, buf, p->method);
    *o++ = ' ';
    o = puts_(put_slice(o, buf, p->target), " path=");
    o = put_slice(o, buf, p->path);
    if (p->query.at) o = put_slice(puts_(o, " ?"), buf, p->query);
    o = put_slice(puts_(o, " @"), buf, p->authority);
    o += sprintf(o, " %d.%d", p->version / 10, p->version % 10);
    if (p->has_length) o += sprintf(o, " length=%llu", (unsigned long long)p->content_length);
    if (p->chunked) o = puts_(o, " chunked");
    if (p->keep_alive) o = puts_(o, " keep-alive");
    if (p->expects_continue) o = puts_(o, " continue");
    for (uint32_t i = 0; i < p->n_fields; i++) {
        o = put_slice(puts_(o, " | "), buf, p->fields[i].name);
        o = put_slice(puts_(o, "="), buf, p->fields[i].value);
    }
    sprintf(o, " > %s", in + p->end);
}

/* Feeds in as pieces that end at cut, then at every step bytes after it. */
static void run(const char *in, size_t len, size_t cut, size_t step, char *out) {
    guard g;
    guard_init(&g, 16384);
    puff_h1_parser *p = calloc(1, puff_h1_parser_size(MAX_FIELDS));
    puff_h1_parser_init(p, MAX_LINE, MAX_HEAD, MAX_FIELDS);
    int verdict = PUFF_H1_MORE;
    for (size_t at = 0, n = cut; at < len && verdict == PUFF_H1_MORE; at += n, n = step) {
        if (n > len - at) n = len - at;
        guard_append(&g, in + at, n);
        verdict = puff_h1_parse(p, guard_data(&g), g.len);
        CHECK((verdict < 0) == (p->error != NULL));
    }
    dump(p, guard_data(&g), verdict, in, out);
    free(p);
    guard_deinit(&g);
}

static void expect_bytes(const char *in, size_t len, const char *want) {
    char got[4096];
    run(in, len, len, len, got);
    CHECK_EQ_STR(got, want);
    run(in, len, 1, 1, got);
    CHECK_EQ_STR(got, want);
    for (size_t cut = 1; cut < len; cut++) {
        run(in, len, cut, len, got);
        CHECK_EQ_STR(got, want);
    }
}

static void expect(const char *in, const char *want) { expect_bytes(in, strlen(in), want); }

#define H "Host: h\r\n"
#define GET "GET / HTTP/1.1\r\n" H

TEST(head_is_split_into_slices) {
    expect(
        "GET /a/b?x=1&y=?2 HTTP/1.1\r\nHost: example.com:80\r\nAccept:*/*\r\nX-Y:  a b\t "
        "\r\n\r\nbody",
        "GET /a/b?x=1&y=?2 path=/a/b ?x=1&y=?2 @example.com:80 1.1 keep-alive"
        " | host=example.com:80 | accept=*/* | x-y=a b > body");
    expect("get /? HTTP/1.1\r\n" H "E:\r\nF: \r\n\r\n",
           "get /? path=/ ? @h 1.1 keep-alive | host=h | e= | f= > ");
}

TEST(any_token_is_a_method_and_a_name) {
    expect("M-SEARCH!#$%&'*+.^_`|~9 / HTTP/1.1\r\n" H "X!#$%&'*+-.^_`|~9: v\r\n\r\n",
           "M-SEARCH!#$%&'*+.^_`|~9 / path=/ @h 1.1 keep-alive | host=h | x!#$%&'*+-.^_`|~9=v > ");
}

TEST(value_may_have_high_bytes_and_tabs) {
    expect(GET "A: \x80\xff\tz\r\n\r\n",
           "GET / path=/ @h 1.1 keep-alive | host=h | a=\x80\xff\tz > ");
}

TEST(versions_and_connection_options) {
    expect("GET / HTTP/1.0\r\n\r\n", "GET / path=/ @ 1.0 > ");
    expect("GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n",
           "GET / path=/ @ 1.0 keep-alive | connection=Keep-Alive > ");
    expect(GET "Connection: x, CLOSE ,\r\n\r\n",
           "GET / path=/ @h 1.1 | host=h | connection=x, CLOSE , > ");
    expect(GET "Connection: keep-alive\r\nConnection: close\r\n\r\n",
           "GET / path=/ @h 1.1 | host=h | connection=keep-alive | connection=close > ");
    expect("GET / HTTP/1.0\r\nExpect: 100-continue\r\n\r\n",
           "GET / path=/ @ 1.0 | expect=100-continue > ");
    expect(GET "Expect: 100-Continue\r\n\r\n",
           "GET / path=/ @h 1.1 keep-alive continue | host=h | expect=100-Continue > ");
}

TEST(framing_fields) {
    expect(GET "Content-Length: 007\r\n\r\n",
           "GET / path=/ @h 1.1 length=7 keep-alive | host=h | content-length=007 > ");
    expect(GET "Content-Length: 9223372036854775807\r\n\r\n",
           "GET / path=/ @h 1.1 length=9223372036854775807 keep-alive | host=h"
           " | content-length=9223372036854775807 > ");
    expect(GET "Transfer-Encoding: cHunked\r\n\r\n",
           "GET / path=/ @h 1.1 chunked keep-alive | host=h | transfer-encoding=cHunked > ");
}

TEST(target_forms) {
    expect("GET http://a:8/p?q HTTP/1.1\r\n" H "\r\n",
           "GET http://a:8/p?q path=/p ?q @a:8 1.1 keep-alive | host=a:8 > ");
    expect("GET HTTPS://a HTTP/1.1\r\n" H "\r\n",
           "GET HTTPS://a path= @a 1.1 keep-alive | host=a > ");
    expect("GET http://a?q HTTP/1.1\r\n" H "\r\n",
           "GET http://a?q path= ?q @a 1.1 keep-alive | host=a > ");
    expect("GET //a/b HTTP/1.1\r\n" H "\r\n", "GET //a/b path=//a/b @h 1.1 keep-alive | host=h > ");
    expect("OPTIONS * HTTP/1.1\r\n" H "\r\n", "OPTIONS * path=* @h 1.1 keep-alive | host=h > ");
    expect("GET * HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET a HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET ftp://a/ HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET http:///p HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET http://u@a/ HTTP/1.1\r\n" H "\r\n", "-400");
    expect("CONNECT a:443 HTTP/1.1\r\n" H "\r\n", "-501");
    expect("GET /a#b HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET /\x7f HTTP/1.1\r\n" H "\r\n", "-400");
    expect("GET /0123456789abcdef\x7f HTTP/1.1\r\n" H "\r\n", "-400");
}

TEST(empty_lines_before_the_request_line) {
    expect("\r\n\r\nGET / HTTP/1.0\r\n\r\n", "GET / path=/ @ 1.0 > ");
    expect("\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n", "-400");
    expect("\nGET / HTTP/1.0\r\n\r\n", "-400");
    expect("\rGET / HTTP/1.0\r\n\r\n", "-400");
    expect("\r\n\r\n", "0");
}

TEST(request_line_is_exact) {
    static const char *const bad[] = {
        " GET / HTTP/1.1\r\n",
        "GET  / HTTP/1.1\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET /  HTTP/1.1\r\n",
        "GET\t/ HTTP/1.1\r\n",
        "GET / HTTP/1.1\n",
        "GET / HTTP/1.1\r",
        "GET /\r\n",
        "GET / \r\n",
        "GET / HTTP/11\r\n",
        "GET / HTTP/1.\r\n",
        "GET / HTTP/1.10\r\n",
        "GET / http/1.1\r\n",
        "GET / HTTP/ 1.1\r\n",
        "GET / HTTP/a.b\r\n",
        "GET / HTTQ/1.1\r\n",
        "G(T / HTTP/1.1\r\n",
        "\x16\x03\x01",
        "GET / HTTP/1.1\r \n",
        "GET /a b HTTP/1.1\r\n",
        "GET / HTTP/1.1\r\r\n\n",
        "GET /\x01 HTTP/1.1\r\n",
        "GET / HTTP/+1.1\r\n",
        "GET / HTTP/1.1\v\r\n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char in[256];
        sprintf(in, "%s" H "\r\n", bad[i]);
        expect(in, "-400");
    }
    expect_bytes("GET /\0 HTTP/1.1\r\n", 18, "-400");
    expect("GET / HTTP/1.2\r\n", "-505");
    expect("GET / HTTP/2.0\r\n", "-505");
    expect("PRI * HTTP/2.0\r\n", "-505");
    expect("GET / HTTP/0.9\r\n", "-505");
    expect("ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFG / HTTP/1.1\r\n", "-501");
}

TEST(field_lines_are_exact) {
    static const char *const bad[] = {
        "A : b\r\n",
        "A\t: b\r\n",
        ": b\r\n",
        "A\r\n",
        " A: b\r\n",
        "A: b\r\n c\r\n",
        "A: b\r\n\tc\r\n",
        "A: b\nC: d\r\n",
        "A: b\rC: d\r\n",
        "A: b\r\r\n",
        "A: b\x01\r\n",
        "A: b\x7f\r\n",
        "A\x80: b\r\n",
        "A(: b\r\n",
        "A b: c\r\n",
        "A: b\v\r\n",
        "A: 0123456789abcdef\x02\r\n",
        "A: b\r\n\n",
        "A: b\f\r\n",
        "\r \n",
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        char in[256];
        sprintf(in, GET "%s\r\n", bad[i]);
        expect(in, "-400");
    }
    expect_bytes(GET "A: \0\r\n\r\n", sizeof(GET "A: \0\r\n\r\n") - 1, "-400");
    expect(GET "A: b\n\n", "-400");
    expect("GET / HTTP/1.1\r\n Host: h\r\n\r\n", "-400");
}

TEST(host_is_one_and_well_formed) {
    static const char *const good[] = {"a",        "a.b:8080",   "[::1]",
                                       "[::1]:80", "127.0.0.1:", "a_b",
                                       "%41",      "",           "xn--bcher-kva.example"};
    static const char *const bad[] = {
        "a/b", "a b",    "a,b", "u@a", "a?b", "a#b",  "a:b", "a:99999",  "[::1",      "::1", "[g]",
        "[]",  "[::1]a", ":80", "%4",  "%zz", "a\\b", "a\"", "\xc3\xa4", "[1.2.3.4]", "a:-1"};
    char in[256], got[1024];
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        sprintf(in, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", good[i]);
        run(in, strlen(in), strlen(in), 1, got);
        CHECK(got[0] == 'G');
    }
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        sprintf(in, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", bad[i]);
        expect(in, "-400");
    }
    expect("GET / HTTP/1.1\r\n\r\n", "-400");
    expect(GET H "\r\n", "-400");
    expect("GET / HTTP/1.0\r\nHost: a\r\nHost: a\r\n\r\n", "-400");
}

TEST(ambiguous_framing_is_refused) {
    static const struct {
        const char *fields, *want;
    } cases[] = {
        {"Content-Length: 1\r\nContent-Length: 1\r\n", "-400"},
        {"Content-Length: 1, 1\r\n", "-400"},
        {"Content-Length: +1\r\n", "-400"},
        {"Content-Length: -1\r\n", "-400"},
        {"Content-Length: 0x1\r\n", "-400"},
        {"Content-Length: 1_0\r\n", "-400"},
        {"Content-Length:\r\n", "-400"},
        {"Content-Length: 1 1\r\n", "-400"},
        {"Content-Length: 9223372036854775808\r\n", "-400"},
        {"Content-Length: 99999999999999999999\r\n", "-400"},
        {"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n", "-400"},
        {"Transfer-Encoding: chunked\r\nContent-Length: 1\r\n", "-400"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", "-400"},
        {"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n", "-400"},
        {"Transfer-Encoding: chunked, chunked\r\n", "-400"},
        {"Transfer-Encoding: gzip, chunked\r\n", "-501"},
        {"Transfer-Encoding: gzip, chunked,\r\n", "-400"},
        {"Transfer-Encoding: chunked, gzip\r\n", "-400"},
        {"Transfer-Encoding: gzip\r\n", "-400"},
        {"Transfer-Encoding: identity\r\n", "-400"},
        {"Transfer-Encoding: identity, chunked\r\n", "-400"},
        {"Transfer-Encoding: xchunked\r\n", "-400"},
        {"Transfer-Encoding: x chunked\r\n", "-400"},
        {"Transfer-Encoding: \"chunked\"\r\n", "-400"},
        {"Transfer-Encoding: chunked;q=1\r\n", "-400"},
        {"Transfer-Encoding: \vchunked\r\n", "-400"},
        {"Transfer-Encoding:\r\n", "-400"},
        {"Transfer_Encoding: chunked\r\nContent-Length: x\r\n", "-400"},
        {"Expect: 200-ok\r\n", "-417"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        char in[256];
        sprintf(in, GET "%s\r\n", cases[i].fields);
        expect(in, cases[i].want);
    }
    expect("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "-400");
}

/* A request line of exactly n bytes, then the rest. */
static void line_of(char *in, int n, const char *rest) {
    sprintf(in, "GET /%0*d HTTP/1.1%s", n - 14, 0, rest);
}

TEST(limits_are_exact) {
    char in[1024], got[1024];
    line_of(in, MAX_LINE, "\r\n" H "\r\n");
    run(in, strlen(in), 1, 1, got);
    CHECK(got[0] == 'G');
    line_of(in, MAX_LINE + 1, "\r\n" H "\r\n");
    expect(in, "-414");
    line_of(in, MAX_LINE * 2, "");
    expect(in, "-414");
    sprintf(in, "\x01%*d", 200, 1);
    expect(in, "-400");
    sprintf(in, "GET /\x01%*d", 200, 1); /* too long before it is known to be bad */
    expect(in, "-414");

    sprintf(in, GET "A: %0*d\r\n\r\n", MAX_HEAD - 9 - 5 - 2, 0);
    run(in, strlen(in), 1, 1, got);
    CHECK(got[0] == 'G');
    sprintf(in, GET "A: %0*d\r\n\r\n", MAX_HEAD - 9 - 5 - 1, 0);
    expect(in, "-431");
    sprintf(in, GET "A: %0*d\r\n\r\n", MAX_HEAD - 9 - 5, 0);
    expect(in, "-431");
    sprintf(in, GET "A: %0*d\r\n\r\n", MAX_HEAD - 9 - 5 + 1, 0);
    expect(in, "-431");
    sprintf(in, GET "A: %0*d", MAX_HEAD * 2, 0);
    expect(in, "-431");

    strcpy(in, GET);
    for (int i = 1; i < MAX_FIELDS; i++) strcat(in, "A: b\r\n");
    run(in, strlen(in), 1, 1, got);
    CHECK_EQ_STR(got, "0");
    strcat(in, "A: b\r\n");
    expect(in, "-431");
}

TEST(unfinished_heads_want_more) {
    static const char *const in[] = {"G",      "GET",       "GET /",       "GET / HTTP/1.1\r",
                                     GET,      GET "\r",    GET "A: b\r",  GET "A",
                                     GET "A:", "GET /\x01", GET "A: \x01", GET "A : "};
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) expect(in[i], "0");
}

TEST(next_head_follows_reset) {
    char in[] = "GET /1 HTTP/1.0\r\nA: b\r\n\r\nGET /2 HTTP/1.1\r\n" H "\r\n", got[256];
    puff_h1_parser *p = calloc(1, puff_h1_parser_size(MAX_FIELDS));
    puff_h1_parser_init(p, MAX_LINE, MAX_HEAD, MAX_FIELDS);
    CHECK_EQ_INT(puff_h1_parse(p, in, sizeof in - 1), PUFF_H1_DONE);
    uint32_t end = p->end;
    puff_h1_parser_reset(p);
    int verdict = puff_h1_parse(p, in + end, sizeof in - 1 - end);
    dump(p, in + end, verdict, in + end, got);
    CHECK_EQ_STR(got, "GET /2 path=/2 @h 1.1 keep-alive | host=h > ");
    free(p);
}

/* Every byte at every place of a head: must come to one verdict however it is cut; never past the
 * end. */
TEST(every_byte_everywhere_has_one_verdict) {
    static const char head[] =
        "POST /a?b HTTP/1.1\r\nHost: h:1\r\nContent-Length: 3\r\nA: b\r\n\r\n";
    for (size_t at = 0; at < sizeof head - 1; at++)
        for (int c = 0; c < 256; c++) {
            char in[sizeof head], whole[1024], dripped[1024];
            memcpy(in, head, sizeof head);
            in[at] = (char)c;
            run(in, sizeof head - 1, sizeof head - 1, 1, whole);
            run(in, sizeof head - 1, at + 1, 1, dripped);
            CHECK_EQ_STR(dripped, whole);
        }
}

RUN_TESTS;
