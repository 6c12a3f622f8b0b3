/* h1_chars.c - the two tables of h1_chars.h, a row for each 16 bytes. */
#include "http/h1_chars.h"

/* clang-format off */
const uint8_t puff__h1_lower[256] = {
    /* 00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 20 */ 0, '!', 0, '#', '$', '%', '&', '\'', 0, 0, '*', '+', 0, '-', '.', 0,
    /* 30 */ '0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 0, 0, 0, 0, 0, 0,
    /* 40 */ 0, 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    /* 50 */ 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, 0, 0, '^', '_',
    /* 60 */ '`', 'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o',
    /* 70 */ 'p', 'q', 'r', 's', 't', 'u', 'v', 'w', 'x', 'y', 'z', 0, '|', 0, '~', 0,
};

#define V PUFF__H1_VALUE
#define T (PUFF__H1_VALUE | PUFF__H1_TARGET)
#define H (PUFF__H1_VALUE | PUFF__H1_TARGET | PUFF__H1_HOST)
#define X (PUFF__H1_VALUE | PUFF__H1_TARGET | PUFF__H1_HOST | PUFF__H1_HEX)
const uint8_t puff__h1_class[256] = {
    /* 00 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, V, 0, 0, 0, 0, 0, 0,
    /* 10 */ 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
    /* 20 */ V, H, T, V, H, H, H, H, H, H, H, H, T, H, H, T,
    /* 30 */ X, X, X, X, X, X, X, X, X, X, T, H, T, H, T, T,
    /* 40 */ T, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
    /* 50 */ H, H, H, H, H, H, H, H, H, H, H, T, T, T, T, H,
    /* 60 */ T, X, X, X, X, X, X, H, H, H, H, H, H, H, H, H,
    /* 70 */ H, H, H, H, H, H, H, H, H, H, H, T, T, T, H, 0,
    /* 80 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* 90 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* a0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* b0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* c0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* d0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* e0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
    /* f0 */ V, V, V, V, V, V, V, V, V, V, V, V, V, V, V, V,
};
/* clang-format on */
