/* Names: answers, failures, cancelling. */
#include "rig.h"
#include "slow_dns.h"

static int n_answers, last_status;
static struct addrinfo *last_res;

static void on_answer(void *arg, int status, struct addrinfo *res) {
    CHECK(arg == &n_answers);
    n_answers++;
    last_status = status;
    last_res = res;
}

static puff_dns *resolve(const char *host) {
    puff_dns *d = NULL;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    CHECK_EQ_INT(puff_dns_resolve(&d, loop, host, "80", &hints, on_answer, &n_answers), 0);
    CHECK_EQ_INT(n_answers, 0);
    return d;
}

static void begin_dns(void) {
    begin();
    slow_dns_init();
    n_answers = 0;
    last_res = NULL;
}

TEST(an_answer_is_its_receivers) {
    begin_dns();
    resolve("two");
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, 0);
    CHECK(last_res && last_res->ai_next);
    puff_dns_free(last_res);
    end();
}

TEST(a_name_that_nobody_has_is_an_error) {
    begin_dns();
    resolve("nowhere");
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, UV_EAI_NONAME);
    CHECK(!last_res);
    end();
}

TEST(cancel_drops_an_answer_that_cannot_be_stopped) {
    begin_dns();
    puff_dns *d = resolve("slow");
    slow_dns_wait_begun();
    puff_dns_cancel(d);
    puff_dns_cancel(d);
    turn_some();
    CHECK_EQ_INT(n_answers, 0);
    slow_dns_answer();
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, UV_ECANCELED);
    CHECK(!last_res);
    end();
}

TEST(cancel_right_after_asking_answers_once) {
    for (int i = 0; i < 50; i++) {
        begin_dns();
        puff_dns_cancel(resolve("two"));
        CHECK_EQ_INT(n_answers, 0);
        turn_until(&n_answers, 1);
        CHECK_EQ_INT(last_status, UV_ECANCELED);
        turn_while_open();
        CHECK_EQ_INT(n_answers, 1);
        end();
    }
}

TEST(no_memory_is_said_at_once) {
    begin_dns();
    memory.fail_at = memory.n_calls + 1;
    puff_dns *d;
    CHECK_EQ_INT(puff_dns_resolve(&d, loop, "two", NULL, NULL, on_answer, &n_answers), PUFF_ENOMEM);
    turn_while_open();
    CHECK_EQ_INT(n_answers, 0);
    end();
}

RUN_TESTS;
