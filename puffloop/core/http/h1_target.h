/* h1_target.h - the forms of a request target and the grammar of Host (RFC 9112 3.2, RFC
 * 3986 3.2.2). */
#ifndef PUFF_H1_TARGET_H
#define PUFF_H1_TARGET_H

#include "puff/base.h"

/* uri-host [":" port]. Without a comma, which the grammar has but which only ever joins two Host
 * fields, and without userinfo. Empty is valid. */
bool puff_h1_host_valid(puff_str host);

typedef struct puff_h1_target {
    puff_str path, query, authority; /* query.ptr NULL: no '?' */
    bool absolute;
} puff_h1_target;

/* Splits an origin-form or absolute-form target (bytes already checked). False: it is neither. */
bool puff_h1_target_split(puff_str target, puff_h1_target *out);

#endif
