/* h1_chars.h - character classes of RFC 9110 and 3986, and scans that stop at the first byte
 * outside one. Shared by the parser (what peers send) and by responses (what the host hands us).
 *
 * The scans look at 16 bytes at once where SSE2 is (every x86-64) and 16 are left; they never load
 * a byte at or after end.
 */
#ifndef PUFF_H1_CHARS_H
#define PUFF_H1_CHARS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

/* A tchar in lower case; 0 for every other byte. */
extern const uint8_t puff__h1_lower[256];

enum {
    PUFF__H1_VALUE = 1,  /* field-vchar, SP, HTAB: what a field value may contain */
    PUFF__H1_TARGET = 2, /* 0x21-0x7e but '#': what a request target may contain */
    PUFF__H1_HOST = 4,   /* reg-name but ',': see puff_h1_host_valid() */
    PUFF__H1_HEX = 8
};
extern const uint8_t puff__h1_class[256];

static inline bool puff__h1_is(char c, int class) {
    return (puff__h1_class[(uint8_t)c] & class) != 0;
}
static inline bool puff__h1_is_token(char c) { return puff__h1_lower[(uint8_t)c] != 0; }

static inline const char *puff__h1_skip_token(const char *p, const char *end) {
    while (p < end && puff__h1_is_token(*p)) p++;
    return p;
}

static inline const char *puff__h1_skip_value(const char *p, const char *end) {
#if defined(__SSE2__)
    const __m128i last_ctl = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'),
                  del = _mm_set1_epi8(0x7f);
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        __m128i ctl = _mm_cmpeq_epi8(_mm_min_epu8(v, last_ctl), v); /* v <= 0x1f, unsigned */
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), ctl), _mm_cmpeq_epi8(v, del));
        int mask = _mm_movemask_epi8(bad);
        if (mask) return p + __builtin_ctz((unsigned)mask);
    }
#endif
    while (p < end && puff__h1_is(*p, PUFF__H1_VALUE)) p++;
    return p;
}

static inline const char *puff__h1_skip_target(const char *p, const char *end) {
#if defined(__SSE2__)
    const __m128i sp = _mm_set1_epi8(' '), del = _mm_set1_epi8(0x7f), hash = _mm_set1_epi8('#');
    for (; end - p >= 16; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)p);
        /* signed: 0x80-0xff are below SP */
        __m128i good = _mm_and_si128(_mm_cmpgt_epi8(v, sp), _mm_cmplt_epi8(v, del));
        int mask = _mm_movemask_epi8(_mm_andnot_si128(_mm_cmpeq_epi8(v, hash), good));
        if (mask != 0xffff) return p + __builtin_ctz(~(unsigned)mask);
    }
#endif
    while (p < end && puff__h1_is(*p, PUFF__H1_TARGET)) p++;
    return p;
}

#endif
