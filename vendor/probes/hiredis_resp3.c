/* hiredis 1.0: RESP3, seen by the callbacks for the types that RESP2 does not have. */
#include <hiredis/hiredis.h>

int main(void) {
    redisReplyObjectFunctions fn = {.createDouble = NULL, .createBool = NULL};
    return fn.createDouble != NULL || REDIS_REPLY_PUSH == 0;
}
