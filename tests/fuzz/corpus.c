/* corpus.c - a fuzz target without a fuzzer: seeds and simple changes of them, always the same.
 *
 *   corpus            every seed; every byte of it replaced by telling ones, removed, doubled;
 *                     every seed's begin with every seed's end; then N_RANDOM mixtures
 *   corpus --write D  writes the seeds into the folder D, for a fuzzer to begin with
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h1_seeds.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

enum { N_SEEDS = sizeof seeds / sizeof *seeds, MAX_INPUT = 4096, N_RANDOM = 100000 };

static size_t n_run;

/* In a block of exactly its size, for sanitizers. */
static void run(const char *in, size_t len) {
    uint8_t *block = malloc(len ? len : 1);
    memcpy(block, in, len);
    LLVMFuzzerTestOneInput(block, len);
    free(block);
    n_run++;
}

static void replace_each_byte(const char *seed, size_t len) {
    static const char telling[] = "\r\n\t \v\0:;,=\"\\0aA-+_x#?/*\x7f\x80\xff";
    char in[MAX_INPUT];
    memcpy(in, seed, len);
    for (size_t at = 0; at < len; at++) {
        for (size_t c = 0; c < sizeof telling - 1; c++) {
            in[at] = telling[c];
            run(in, len);
        }
        in[at] = seed[at];
    }
}

static void remove_and_double_each_byte(const char *seed, size_t len) {
    char in[MAX_INPUT];
    for (size_t at = 0; at < len; at++) {
        memcpy(in, seed, at);
        memcpy(in + at, seed + at + 1, len - at - 1);
        run(in, len - 1);
        in[at] = seed[at];
        memcpy(in + at + 1, seed + at, len - at);
        run(in, len + 1);
    }
}

static void join(const char *a, size_t n, const char *b, size_t m) {
    char in[2 * MAX_INPUT];
    memcpy(in, a, n);
    memcpy(in + n, b, m);
    run(in, n + m);
}

static uint32_t state = 12345;
static uint32_t pick(uint32_t n) {
    state = state * 1664525u + 1013904223u;
    return (state >> 8) % n;
}

/* A few pieces of seeds, a few bytes changed. */
static void run_random(void) {
    char in[MAX_INPUT];
    size_t len = 0;
    for (uint32_t pieces = 1 + pick(4); pieces > 0; pieces--) {
        const char *seed = seeds[pick(N_SEEDS)];
        size_t all = strlen(seed), from = pick((uint32_t)all), n = pick((uint32_t)(all - from)) + 1;
        if (pick(3) == 0) from = 0, n = all;
        if (len + n > sizeof in) break;
        memcpy(in + len, seed + from, n);
        len += n;
    }
    for (uint32_t changes = pick(3); changes > 0 && len; changes--)
        in[pick((uint32_t)len)] = (char)pick(256);
    run(in, len);
}

static int write_seeds(const char *folder) {
    for (size_t i = 0; i < N_SEEDS; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/%02zu", folder, i);
        FILE *f = fopen(path, "wb");
        if (!f || fwrite(seeds[i], 1, strlen(seeds[i]), f) != strlen(seeds[i])) return 1;
        fclose(f);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "--write") == 0) return write_seeds(argv[2]);
    for (size_t i = 0; i < N_SEEDS; i++) {
        size_t len = strlen(seeds[i]);
        run(seeds[i], len);
        replace_each_byte(seeds[i], len);
        remove_and_double_each_byte(seeds[i], len);
        for (size_t k = 0; k < N_SEEDS; k++) {
            size_t other = strlen(seeds[k]);
            join(seeds[i], len, seeds[k], other);
            for (size_t cut = 4; cut < len && cut < other; cut += 7)
                join(seeds[i], cut, seeds[k] + cut, other - cut);
        }
    }
    for (size_t i = 0; i < N_RANDOM; i++) run_random();
    printf("%zu inputs\n", n_run);
    return 0;
}
