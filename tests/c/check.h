/* check.h - the test harness of the C core: TEST() registers, RUN_TESTS is main().
 *
 * A failed CHECK prints where and ends the process: what follows could only mislead. Run a binary
 * with names as arguments to run only those tests. The closing line is read by the suite's runner.
 */
#ifndef CHECK_H
#define CHECK_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef struct check_test {
    const char *name;
    void (*fn)(void);
    struct check_test *next;
} check_test;

static check_test *check_first, **check_last __attribute__((unused)) = &check_first;

#define TEST(name_)                                                         \
    static void name_(void);                                                \
    __attribute__((constructor)) static void check_register_##name_(void) { \
        static check_test t = {#name_, name_, NULL};                        \
        *check_last = &t;                                                   \
        check_last = &t.next;                                               \
    }                                                                       \
    static void name_(void)

#define CHECK_FAIL(...)                                 \
    do {                                                \
        fprintf(stderr, "%s:%d: ", __FILE__, __LINE__); \
        fprintf(stderr, __VA_ARGS__);                   \
        fputc('\n', stderr);                            \
        exit(1);                                        \
    } while (0)

#define CHECK(cond)                                         \
    do {                                                    \
        if (!(cond)) CHECK_FAIL("CHECK(%s) failed", #cond); \
    } while (0)

#define CHECK_EQ_INT(a, b)                                                          \
    do {                                                                            \
        long long check_a = (long long)(a), check_b = (long long)(b);               \
        if (check_a != check_b)                                                     \
            CHECK_FAIL("%s is %lld, expected %s = %lld", #a, check_a, #b, check_b); \
    } while (0)

#define CHECK_EQ_STR(a, b)                                                     \
    do {                                                                       \
        const char *check_a = (a), *check_b = (b);                             \
        if (strcmp(check_a, check_b) != 0)                                     \
            CHECK_FAIL("%s is \"%s\", expected \"%s\"", #a, check_a, check_b); \
    } while (0)

#define CHECK_EQ_MEM(a, alen, b, blen)                                                           \
    do {                                                                                         \
        size_t check_n = (alen);                                                                 \
        if (check_n != (size_t)(blen) || memcmp((a), (b), check_n) != 0)                         \
            CHECK_FAIL("%s is \"%.*s\", expected \"%.*s\"", #a, (int)check_n, (const char *)(a), \
                       (int)(blen), (const char *)(b));                                          \
    } while (0)

#define RUN_TESTS                                                                   \
    int main(int argc, char **argv) {                                               \
        int n_run = 0;                                                              \
        for (check_test *t = check_first; t; t = t->next) {                         \
            int wanted = argc < 2;                                                  \
            for (int i = 1; i < argc; i++) wanted |= strcmp(argv[i], t->name) == 0; \
            if (!wanted) continue;                                                  \
            fprintf(stderr, "%s\n", t->name);                                       \
            t->fn();                                                                \
            n_run++;                                                                \
        }                                                                           \
        printf("%d passed, 0 failed\n", n_run);                                     \
        return n_run ? 0 : 1;                                                       \
    }                                                                               \
    struct check_semicolon

#endif
