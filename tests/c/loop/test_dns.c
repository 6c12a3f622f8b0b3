/* Names: answers, failures, cancelling. */
#include "rig.h"
#include "slow_dns.h"

#include <sys/wait.h>

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
    CHECK_EQ_INT(n_answers, 0);
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, UV_ECANCELED);
    CHECK(!last_res);
    slow_dns_answer_all(1); /* for nobody */
    turn_some();
    CHECK_EQ_INT(n_answers, 1);
    end();
}

TEST(the_end_of_the_loop_does_not_wait_for_a_name) {
    begin_dns();
    resolve("slow");
    resolve("slow");
    slow_dns_wait_begun();
    slow_dns_wait_begun();
    puff_dns_cancel(resolve("two"));
    end();
    CHECK_EQ_INT(n_answers, 3);
    CHECK_EQ_INT(last_status, UV_ECANCELED);
    slow_dns_answer_all(
        2); /* the threads end, and with the last the memory: for a checker to see */
}

TEST(a_name_is_not_held_up_by_slow_ones) {
    begin_dns();
    for (int i = 0; i < 8; i++) resolve("slow");
    for (int i = 0; i < 8; i++) slow_dns_wait_begun();
    resolve("two");
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, 0);
    puff_dns_free(last_res);
    end();
    slow_dns_answer_all(8);
}

TEST(a_forked_child_is_told_that_its_questions_are_lost) {
    begin_dns();
    resolve("slow");
    slow_dns_wait_begun();
    pid_t pid = fork();
    if (pid == 0) {
        alarm(RIG_PATIENCE_S);
        CHECK_EQ_INT(puff_loop_fork(loop), 0);
        turn_until(&n_answers, 1);
        CHECK_EQ_INT(last_status, UV_ECANCELED);
        CHECK_EQ_INT(puff_dns_resolve(NULL, loop, "two", "80", NULL, on_answer, &n_answers), 0);
        turn_until(&n_answers, 2);
        CHECK_EQ_INT(last_status, 0);
        puff_dns_free(last_res);
        end();
        _exit(0);
    }
    int status;
    CHECK(waitpid(pid, &status, 0) == pid);
    CHECK_EQ_INT(status, 0);
    slow_dns_answer();
    turn_until(&n_answers, 1);
    CHECK_EQ_INT(last_status, 0);
    puff_dns_free(last_res);
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
