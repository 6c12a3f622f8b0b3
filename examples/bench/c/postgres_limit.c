/* postgres_limit DSN select|rows SECONDS - libpq alone: what a client could reach without Python.
 *
 * select: point selects, 64 in flight on one pipeline, a Sync each. rows: 10,000 rows of 2 columns,
 * binary, not converted. Prints operations (selects, rows) and seconds.
 */
#include <libpq-fe.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { DEPTH = 64, ROWS = 10000 };

static double now(void) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

static void die(PGconn *pg) {
    fprintf(stderr, "%s", PQerrorMessage(pg));
    exit(1);
}

static void send_one(PGconn *pg) {
    static unsigned id;
    char text[16];
    const char *values[] = {text};
    snprintf(text, sizeof text, "%u", id++ % 1000 + 1);
    if (!PQsendQueryPrepared(pg, "s", 1, values, NULL, NULL, 1)) die(pg);
    if (!PQpipelineSync(pg)) die(pg);
}

static unsigned long selects(PGconn *pg, double seconds) {
    unsigned long done = 0;
    unsigned in_flight = 0;
    PQenterPipelineMode(pg);
    PQsetnonblocking(pg, 1);
    for (double start = now(); now() - start < seconds;) {
        for (; in_flight < DEPTH; in_flight++) send_one(pg);
        PQflush(pg);
        struct pollfd fd = {.fd = PQsocket(pg), .events = POLLIN};
        poll(&fd, 1, -1);
        if (!PQconsumeInput(pg)) die(pg);
        while (in_flight > 0 && !PQisBusy(pg)) {
            PGresult *res = PQgetResult(pg);
            if (res && PQresultStatus(res) == PGRES_PIPELINE_SYNC) done++, in_flight--;
            PQclear(res);
        }
    }
    return done;
}

static unsigned long rows(PGconn *pg, double seconds) {
    unsigned long done = 0;
    for (double start = now(); now() - start < seconds; done += ROWS) {
        PGresult *res = PQexecPrepared(pg, "r", 0, NULL, NULL, NULL, 1);
        if (PQntuples(res) != ROWS) die(pg);
        PQclear(res);
    }
    return done;
}

int main(int argc, char **argv) {
    PGconn *pg = PQconnectdb(argv[1]);
    if (PQstatus(pg) != CONNECTION_OK) die(pg);
    PQclear(PQprepare(pg, "s", "select balance from bench where id = $1", 0, NULL));
    PQclear(PQprepare(pg, "r", "select id, balance from bench_rows", 0, NULL));
    double start = now(), seconds = atof(argv[3]);
    unsigned long n = strcmp(argv[2], "select") == 0 ? selects(pg, seconds) : rows(pg, seconds);
    printf("%lu %f\n", n, now() - start);
    return 0;
}
