/* bench_hello.c - the smallest server: a fixed answer on a port, for load generators and profilers.
 *
 *   bench_hello [port]         then: wrk -t1 -c64 http://127.0.0.1:PORT/
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "puff/http.h"

static void on_request(puff_http_request *req) {
    static const puff_http_field type = {.name = {"content-type", 12}, .value = {"text/plain", 10}};
    if (puff_http_response_start(req, 200, &type, 1) != 0 ||
        puff_http_response_body(req, "Hello, world!", 13, false, NULL, NULL) != 0)
        puff_http_response_abort(req);
}

int main(int argc, char **argv) {
    static const puff_http_host host = {.on_request = on_request};
    puff_listener_options at = {.size = sizeof at, .host = "127.0.0.1", .fd = -1};
    puff_loop *loop;
    puff_http_server *server;
    puff_listener *listener;
    puff_err err;

    at.port = (uint16_t)(argc > 1 ? atoi(argv[1]) : 8000);
    signal(SIGPIPE, SIG_IGN);
    if (puff_loop_new(&loop, NULL, &err) != 0 ||
        puff_http_server_open(&server, loop, &host, NULL, NULL, &err) != 0 ||
        puff_http_server_listen(server, &at, &listener, &err) != 0) {
        fprintf(stderr, "%s\n", err.msg);
        return 1;
    }
    printf("http://127.0.0.1:%d/\n", puff_listener_port(listener));
    fflush(stdout);
    puff_loop_run(loop);
    return 0;
}
