/* target.c - see target.h. */
#include "target.h"

static int hex(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 0x20;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

size_t puff_percent_decode(char *out, const char *in, size_t len) {
    size_t n = 0;
    for (size_t i = 0; i < len; i++) {
        int high = in[i] == '%' && len - i > 2 ? hex(in[i + 1]) : -1;
        int low = high >= 0 ? hex(in[i + 2]) : -1;
        if (low < 0) {
            out[n++] = in[i];
        } else {
            out[n++] = (char)(high << 4 | low);
            i += 2;
        }
    }
    return n;
}
