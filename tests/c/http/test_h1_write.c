/* test_h1_write.c - dates, addresses as text, and what a head may hold. */
#include "http/h1_write.h"

#include <netinet/in.h>
#include <sys/un.h>
#include <time.h>

#include "../check.h"

TEST(dates_are_those_of_strftime) {
    char got[30], want[64];
    for (int64_t t = 0; t < 4102444800; t += 86400 * 13 + 3671) {
        time_t tt = (time_t)t;
        struct tm tm;
        gmtime_r(&tt, &tm);
        strftime(want, sizeof want, "%a, %d %b %Y %H:%M:%S GMT", &tm);
        puff_http_date(got, t);
        CHECK_EQ_STR(got, want);
    }
    puff_http_date(got, 951782400); /* 29 February of a year divisible by 400 */
    CHECK_EQ_STR(got, "Tue, 29 Feb 2000 00:00:00 GMT");
}

TEST(head_has_a_ceiling) {
    static char big[PUFF_H1_MAX_RESPONSE_HEAD];
    puff_buf out;
    puff_h1_said said;
    puff_buf_init(&out, &puff_alloc_system, PUFF_H1_MAX_RESPONSE_HEAD);
    memset(big, 'x', sizeof big);
    puff_http_field f[2] = {{.name = PUFF_STR("a"), .value = {big, sizeof big / 2}},
                            {.name = PUFF_STR("a"), .value = {big, sizeof big / 2}}};
    CHECK_EQ_INT(puff_h1_write_fields(&out, 200, (puff_str){0}, f, 1, &said), 0);
    out.len = 0;
    CHECK_EQ_INT(puff_h1_write_fields(&out, 200, (puff_str){0}, f, 2, &said), PUFF_ELIMIT);
    CHECK_EQ_INT(out.len, 0);
    f[0].value.len = SIZE_MAX - 100; /* must not wrap */
    CHECK_EQ_INT(puff_h1_write_fields(&out, 200, (puff_str){0}, f, 2, &said), PUFF_ELIMIT);
    puff_buf_deinit(&out);
}

TEST(equal_content_lengths_are_one) {
    puff_buf out;
    puff_h1_said said;
    puff_buf_init(&out, &puff_alloc_system, PUFF_H1_MAX_RESPONSE_HEAD);
    puff_http_field f[2] = {{.name = PUFF_STR("Content-Length"), .value = PUFF_STR("3")},
                            {.name = PUFF_STR("content-length"), .value = PUFF_STR("3")}};
    CHECK_EQ_INT(puff_h1_write_fields(&out, 200, (puff_str){0}, f, 2, &said), 0);
    CHECK_EQ_MEM(out.data, out.len, "HTTP/1.1 200 OK\r\n", 17);
    CHECK(said.has_length && said.length == 3);
    f[1].value = PUFF_STR("4");
    CHECK_EQ_INT(puff_h1_write_fields(&out, 200, (puff_str){0}, f, 2, &said), PUFF_HTTP_ELENGTH);
    puff_buf_deinit(&out);
}

TEST(addresses_as_text) {
    char text[128];
    uint16_t port;
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons(8080)};
    in6.sin6_addr.s6_addr[15] = 1;
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&in6, text, sizeof text, &port), 3);
    CHECK_EQ_STR(text, "::1");
    CHECK_EQ_INT(port, 8080);
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&in6, text, 3, &port), PUFF_ELIMIT);
    struct sockaddr_un un = {.sun_family = AF_UNIX, .sun_path = "/run/x"};
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&un, text, sizeof text, &port), 6);
    CHECK_EQ_STR(text, "/run/x");
    memcpy(un.sun_path, "\0abs", 5);
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&un, text, sizeof text, &port), 4);
    CHECK_EQ_STR(text, "@abs");
    un.sun_path[1] = '\0';
    CHECK_EQ_INT(puff_http_addr_text((struct sockaddr *)&un, text, sizeof text, &port), 0);
}

RUN_TESTS;
