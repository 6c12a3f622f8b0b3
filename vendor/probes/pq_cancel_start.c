/* libpq 17: a CancelRequest that does not block, and that is encrypted where the session is. */
#include <libpq-fe.h>

int main(void) {
    PGcancelConn *cancel = PQcancelCreate(NULL);
    return PQcancelStart(cancel) + (int)PQcancelPoll(cancel);
}
