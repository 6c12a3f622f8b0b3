/* test_h1_chunk.c - the chunked coding: good bodies, bad ones, cut at every point, against a guard
 * page. */
#include "http/h1_chunk.h"

#include "../check.h"
#include "guard.h"
#include "http/h1_parse.h"

/* "verdict:decoded:rest" of in, fed as a first piece of cut bytes and then pieces of step. */
static void run(const char *in, size_t len, size_t cut, size_t step, char *out) {
    puff_h1_chunked d = {0};
    char decoded[4096];
    size_t n_decoded = 0, at = 0;
    int verdict = PUFF_H1_MORE;
    for (size_t n = cut; at < len && verdict == PUFF_H1_MORE; n = step) {
        guard g;
        guard_init(&g, 4096);
        guard_append(&g, in + at, n < len - at ? n : len - at);
        puff_h1_chunk_io io = {.src = guard_data(&g), .len = g.len};
        verdict = puff_h1_chunked_decode(&d, &io);
        at += g.len - io.len;
        CHECK(verdict != PUFF_H1_MORE || io.len == 0);
        if (io.n_out) memcpy(decoded + n_decoded, io.dst, io.n_out);
        n_decoded += io.n_out;
        guard_deinit(&g);
    }
    if (verdict < 0)
        sprintf(out, "%d", verdict);
    else
        sprintf(out, "%d:%.*s:%.*s", verdict, (int)n_decoded, decoded, (int)(len - at), in + at);
}

static void expect(const char *in, const char *want) {
    char got[8192];
    size_t len = strlen(in);
    run(in, len, 1, 1, got);
    CHECK_EQ_STR(got, want);
    for (size_t cut = 1; cut <= len; cut++) {
        run(in, len, cut, len, got);
        CHECK_EQ_STR(got, want);
    }
}

TEST(chunks_are_joined) {
    expect("3\r\nabc\r\n0\r\n\r\nGET", "1:abc:GET");
    expect("3\r\nabc\r\n00A\r\n0123456789\r\n1\r\nz\r\n000\r\n\r\n", "1:abc0123456789z:");
    expect("0\r\n\r\n", "1::");
    expect("a\r\n\r\n\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "1:\r\n\r\n\r\n\r\n\r\n:");
}

TEST(unfinished_bodies_want_more) {
    expect("", "0::");
    expect("3", "0::");
    expect("3\r\nab", "0:ab:");
    expect("3\r\nabc\r\n", "0:abc:");
    expect("0\r\n\r", "0::");
    expect("7fffffffffffffff\r\na", "0:a:");
}

TEST(extensions_are_checked_and_dropped) {
    expect("1;a\r\nx\r\n0;b=c;d=\"e f\";g\r\n\r\n", "1:x:");
    static const char *const bad[] = {
        "1;\r\n",      "1 ;a\r\n",       "1; a\r\n",        "1;a =b\r\n", "1;a=\r\n",
        "1;a=\"b\r\n", "1;a=\"b\"c\r\n", "1;a\n",           "1;a\rb\r\n", "1;a=\"\r\n\"\r\n",
        "1;=\r\n",     "1;a=b=c\r\n",    "1;a=\"\\\"\"\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect(bad[i], "-400");
}

TEST(sizes_and_line_ends_are_exact) {
    static const char *const bad[] = {"\r\n",
                                      "g\r\n",
                                      "-1\r\n",
                                      "+1\r\n",
                                      "0x1\r\n",
                                      " 1\r\n",
                                      "1 \r\n",
                                      "1_0\r\n",
                                      "1\n",
                                      "1\r\r\n",
                                      "\n",
                                      "8000000000000000\r\n",
                                      "10000000000000000\r\n",
                                      "00000000000000001\r\n",
                                      "3\r\nabc0\r\n\r\n",
                                      "3\r\nabc\n0\r\n\r\n",
                                      "3\r\nabc\r0\r\n\r\n",
                                      "3\r\nabcd\r\n",
                                      "0\r\n\n",
                                      "0\r\n\r\r"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect(bad[i], "-400");
}

TEST(trailers_are_checked_and_dropped) {
    expect("0\r\nA: b\r\nC:\r\n\r\nX", "1::X");
    static const char *const bad[] = {
        "0\r\nA\r\n\r\n",  "0\r\n: b\r\n\r\n",     "0\r\nA : b\r\n\r\n",      "0\r\n A: b\r\n\r\n",
        "0\r\nA: b\n\r\n", "0\r\nA: \x01\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "0\r\nA: b\r\r\n"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) expect(bad[i], "-400");
}

static int feed(puff_h1_chunked *d, const char *s, size_t *n_out) {
    char buf[4096];
    size_t len = strlen(s);
    memcpy(buf, s, len);
    puff_h1_chunk_io io = {.src = buf, .len = len};
    int r = puff_h1_chunked_decode(d, &io);
    *n_out += io.n_out;
    return r;
}

TEST(overhead_is_bounded) {
    puff_h1_chunked d = {0};
    size_t n = 0, rounds = 0;
    while (feed(&d, "1;abcdefgh\r\nx\r\n", &n) == PUFF_H1_MORE) rounds++;
    CHECK(rounds > 1000 && rounds < PUFF_H1_MAX_EXTENSIONS / 8);
    d = (puff_h1_chunked){0};
    CHECK_EQ_INT(feed(&d, "0\r\n", &n), PUFF_H1_MORE);
    for (rounds = 0; feed(&d, "A: b\r\n", &n) == PUFF_H1_MORE; rounds++) continue;
    CHECK_EQ_INT(rounds, PUFF_H1_MAX_TRAILER_FIELDS);
    d = (puff_h1_chunked){0};
    CHECK_EQ_INT(feed(&d, "0\r\nA:", &n), PUFF_H1_MORE);
    int r;
    while ((r = feed(&d, "bbbbbbbbbbbbbbbb", &n)) == PUFF_H1_MORE) continue;
    CHECK_EQ_INT(r, -431);
}

TEST(decoding_compacts_in_place) {
    char buf[] = "xx1\r\na\r\n2\r\nbc\r\n3\r\nde";
    puff_h1_chunked d = {0};
    puff_h1_chunk_io io = {.src = buf + 2, .len = strlen(buf) - 2, .dst = buf, .n_out = 2};
    CHECK_EQ_INT(puff_h1_chunked_decode(&d, &io), PUFF_H1_MORE);
    CHECK_EQ_MEM(buf, io.n_out, "xxabcde", 7);
}

TEST(one_chunk_is_not_moved) {
    char buf[] = "5\r\nabcde\r\n0\r\n\r\n";
    puff_h1_chunked d = {0};
    puff_h1_chunk_io io = {.src = buf, .len = strlen(buf)};
    CHECK_EQ_INT(puff_h1_chunked_decode(&d, &io), PUFF_H1_DONE);
    CHECK(io.dst == buf + 3 && io.n_out == 5);
}

TEST(chunk_heads_are_hexadecimal) {
    char out[19] = {0};
    CHECK_EQ_INT(puff_h1_chunk_head(out, 0x1f4), 5);
    CHECK_EQ_MEM(out, 5, "1f4\r\n", 5);
    CHECK_EQ_INT(puff_h1_chunk_head(out, 1), 3);
    CHECK_EQ_INT(puff_h1_chunk_head(out, SIZE_MAX), 18);
    CHECK_EQ_MEM(out, 18, "ffffffffffffffff\r\n", 18);
}

RUN_TESTS;
