/* reply.h - the builder of pools whose host brings none. */
#ifndef PUFF_CORE_REDIS_REPLY_H
#define PUFF_CORE_REDIS_REPLY_H

#include "puff/redis.h"

extern const puff_redis_builder puff__redis_reply_builder;

#endif
