/* fuzz_h1_parse.c - however a message is cut, it is the same message.
 *
 * The whole input in one piece, byte by byte, and in pieces whose sizes come from the input itself
 * must come to one outcome, body included. Sanitizers watch every look beyond a piece.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "h1_outcome.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void show(const char *name, const outcome *o) {
    fprintf(stderr, "%s: kind %d status %d (%s)\n%.*s", name, o->kind, o->status, o->why,
            (int)o->text.len, o->text.data);
}

static void compare(const outcome *a, const uint8_t *data, size_t len, size_t first, size_t step) {
    outcome b;
    outcome_init(&b);
    outcome_ours(&b, data, len, first, step);
    const bool same_text =
        a->text.len == b.text.len && memcmp(a->text.data, b.text.data, a->text.len) == 0;
    if (a->kind != b.kind || a->status != b.status || (a->kind == OUTCOME_DONE && !same_text)) {
        show("whole", a);
        fprintf(stderr, "pieces of %zu, then %zu\n", first, step);
        show("cut", &b);
        abort();
    }
    outcome_deinit(&b);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len) {
    outcome whole;
    if (len == 0) return 0;
    outcome_init(&whole);
    outcome_ours(&whole, data, len, len, len);
    size_t hash = 5381;
    for (size_t i = 0; i < len; i++) hash = hash * 33 ^ data[i];
    compare(&whole, data, len, 1, 1);
    compare(&whole, data, len, 1 + hash % len, len);
    compare(&whole, data, len, 1 + hash / 7 % len, 1 + hash / 64 % 17);
    outcome_deinit(&whole);
    return 0;
}
