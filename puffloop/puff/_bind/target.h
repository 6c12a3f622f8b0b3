/* target.h - a request target's path as text: what the ASGI and the WSGI binding share. */
#ifndef PUFF_BIND_TARGET_H
#define PUFF_BIND_TARGET_H

#include <stddef.h>

/* Percent-decodes in to out (room for len); a '%' without two digits stays. Returns the length. */
size_t puff_percent_decode(char *out, const char *in, size_t len);

#endif
