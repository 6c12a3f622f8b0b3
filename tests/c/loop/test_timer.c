/* Timers: order, punctuality, and changes from inside callbacks. */
#include "rig.h"

enum { MS = 1000000, N_MANY = 500 };

typedef struct numbered {
    puff_timer timer;
    int id;
} numbered;

static int fired[20000], n_fired;

static void on_fire(puff_timer *t) {
    CHECK(!puff_timer_active(t));
    CHECK(puff_now_ns() >= t->deadline_ns);
    CHECK(puff_loop_now_ns(loop) >= t->deadline_ns);
    fired[n_fired++] = PUFF_CONTAINER_OF(t, numbered, timer)->id;
}

static void init(numbered *n, int id) {
    puff_timer_init(&n->timer, loop, on_fire);
    n->id = id;
}

TEST(earlier_deadlines_fire_first_and_ties_in_start_order) {
    begin();
    n_fired = 0;
    numbered t[6];
    uint64_t now = puff_now_ns();
    static const int after_ms[6] = {3, 1, 2, 1, 3, 1};
    for (int i = 0; i < 6; i++) {
        init(&t[i], i);
        CHECK_EQ_INT(puff_timer_start_at(&t[i].timer, now + (uint64_t)after_ms[i] * MS), 0);
        CHECK(puff_timer_active(&t[i].timer));
    }
    turn_until(&n_fired, 6);
    static const int want[6] = {1, 3, 5, 2, 0, 4};
    for (int i = 0; i < 6; i++) CHECK_EQ_INT(fired[i], want[i]);
    end();
}

TEST(starting_again_moves_it_behind_its_equals) {
    begin();
    n_fired = 0;
    numbered a, b;
    init(&a, 'a');
    init(&b, 'b');
    uint64_t at = puff_now_ns() + MS;
    puff_timer_start_at(&a.timer, at);
    puff_timer_start_at(&b.timer, at);
    puff_timer_start_at(&a.timer, at);
    turn_until(&n_fired, 2);
    CHECK_EQ_INT(fired[0], 'b');
    CHECK_EQ_INT(fired[1], 'a');
    end();
}

TEST(never_early) {
    begin();
    for (uint64_t ns = 100000; ns < 5 * MS; ns += 317 * 1000) {
        n_fired = 0;
        numbered t;
        init(&t, 1);
        puff_timer_start_at(&t.timer, puff_now_ns() + ns);
        turn_until(&n_fired, 1); /* on_fire compares */
    }
    end();
}

TEST(the_first_to_fire_is_listed_first_and_every_other_once) {
    enum { N = 50 };
    begin();
    numbered t[N];
    uint64_t now = puff_now_ns(), sum = 0;
    for (int i = 0; i < N; i++) {
        init(&t[i], i);
        puff_timer_start_at(&t[i].timer, now + MS * 1000 + (uint64_t)(i * 7 % N));
    }
    CHECK(puff_loop_timer(loop, 0) == &t[0].timer);
    for (size_t i = 0; i < N; i++) sum += puff_loop_timer(loop, i)->deadline_ns - now - MS * 1000;
    CHECK(sum == N * (N - 1) / 2);
    CHECK(!puff_loop_timer(loop, N));
    for (int i = 0; i < N; i++) puff_timer_stop(&t[i].timer);
    CHECK(!puff_loop_timer(loop, 0));
    end();
}

/* The best of some, for the machine may be busy. The kernel's own slack is 50 us. */
TEST(hardly_late) {
    begin();
    static const int after_us[] = {150, 400, 999, 1000, 1700, 2300, 5650, 12345};
    for (size_t i = 0; i < sizeof after_us / sizeof *after_us; i++) {
        uint64_t least = UINT64_MAX;
        for (int n = 0; n < 20 && least > 120000; n++) {
            n_fired = 0;
            numbered t;
            init(&t, 1);
            uint64_t due = puff_now_ns() + (uint64_t)after_us[i] * 1000;
            puff_timer_start_at(&t.timer, due);
            turn_until(&n_fired, 1);
            uint64_t late = puff_now_ns() - due;
            if (late < least) least = late;
        }
        CHECK(least < 300000);
    }
    end();
}

TEST(short_waits_are_slept) {
    begin();
    n_fired = 0;
    numbered t;
    for (int i = 0; i < 50; i++) {
        init(&t, 1);
        puff_timer_start_at(&t.timer, puff_now_ns() + 400000);
        turn_until(&n_fired, i + 1);
    }
    puff_loop_stats stats = puff_loop_get_stats(loop);
    CHECK(stats.n_turns < 50 * 4);
    CHECK(stats.idle_ns > 50 * 200000);
    end();
}

TEST(stopped_timer_is_silent_and_lets_the_loop_end) {
    begin();
    n_fired = 0;
    numbered t;
    init(&t, 1);
    puff_timer_stop(&t.timer); /* idle is allowed */
    puff_timer_start(&t.timer, 0);
    puff_timer_stop(&t.timer);
    puff_timer_stop(&t.timer);
    CHECK_EQ_INT(puff_loop_turn(loop, true), 0);
    puff_timer_start(&t.timer, 3600 * 1000);
    CHECK(puff_loop_turn(loop, false) != 0);
    puff_timer_stop(&t.timer);
    turn_while_open();
    CHECK_EQ_INT(n_fired, 0);
    end();
}

TEST(a_timeout_beyond_all_time_does_not_overflow) {
    begin();
    n_fired = 0;
    numbered far, near;
    init(&far, 1);
    init(&near, 2);
    CHECK_EQ_INT(puff_timer_start(&far.timer, UINT64_MAX), 0);
    CHECK_EQ_INT(puff_timer_start(&far.timer, UINT64_MAX / 1000000 - 1), 0);
    puff_timer_start(&near.timer, 1);
    turn_until(&n_fired, 1);
    CHECK_EQ_INT(fired[0], 2);
    puff_timer_stop(&far.timer);
    end();
}

/* ---- from inside a callback ---- */

static numbered self, victim;
static int n_rounds;

static void on_fire_stop_victim(puff_timer *t) {
    n_rounds++;
    puff_timer_stop(&victim.timer);
}

TEST(a_callback_may_stop_another_that_is_due) {
    begin();
    n_fired = n_rounds = 0;
    puff_timer_init(&self.timer, loop, on_fire_stop_victim);
    init(&victim, 1);
    puff_timer_start_at(&self.timer, 1);
    puff_timer_start_at(&victim.timer, 2);
    turn_until(&n_rounds, 1);
    turn_while_open();
    CHECK_EQ_INT(n_fired, 0);
    end();
}

static void on_fire_again(puff_timer *t) {
    n_rounds++;
    puff_timer_start(t, 0);
}

TEST(starting_itself_at_once_fires_once_a_turn) {
    begin();
    n_rounds = 0;
    puff_timer_init(&self.timer, loop, on_fire_again);
    puff_timer_start(&self.timer, 0);
    for (int i = 0; i < 50; i++) {
        int before = n_rounds;
        puff_loop_turn(loop, true);
        CHECK_EQ_INT(n_rounds, before + 1);
    }
    puff_timer_stop(&self.timer);
    end();
}

static void on_fire_long_ago(puff_timer *t) {
    n_rounds++;
    puff_timer_start_at(t, 1); /* a deadline that was long ago: before everybody's */
}

TEST(a_deadline_in_the_past_does_not_starve_those_that_are_due) {
    begin();
    n_fired = n_rounds = 0;
    puff_timer_init(&self.timer, loop, on_fire_long_ago);
    init(&victim, 1);
    puff_timer_start_at(&self.timer, 1);
    puff_timer_start_at(&victim.timer, 2);
    for (int i = 0; i < 10; i++) puff_loop_turn(loop, true);
    CHECK_EQ_INT(n_fired, 1);
    CHECK(n_rounds > 1);
    puff_timer_stop(&self.timer);
    end();
}

static void on_fire_free(puff_timer *t) {
    n_rounds++;
    free(t);
}

TEST(a_callback_may_free_its_timer) {
    begin();
    n_rounds = 0;
    for (int i = 0; i < 100; i++) {
        puff_timer *t = malloc(sizeof *t);
        puff_timer_init(t, loop, on_fire_free);
        puff_timer_start(t, (uint64_t)(i % 3));
    }
    turn_until(&n_rounds, 100);
    end();
}

/* ---- against a model ---- */

static numbered many[N_MANY];

/* The ids of the active timers in the order in which they must fire, by insertion. */
static int model_order(int *ids) {
    int n = 0;
    for (int i = 0; i < N_MANY; i++) {
        const puff_timer *t = &many[i].timer;
        if (!puff_timer_active(t)) continue;
        int k = n++;
        for (; k > 0; k--) {
            const puff_timer *o = &many[ids[k - 1]].timer;
            if (o->deadline_ns < t->deadline_ns ||
                (o->deadline_ns == t->deadline_ns && o->seq < t->seq))
                break;
            ids[k] = ids[k - 1];
        }
        ids[k] = i;
    }
    return n;
}

TEST(many_at_random_fire_as_the_model_says) {
    srand(1);
    for (int round = 0; round < 20; round++) {
        begin();
        n_fired = 0;
        int ids[N_MANY];
        uint64_t base = puff_now_ns() + MS;
        for (int i = 0; i < N_MANY; i++) init(&many[i], i);
        for (int step = 0; step < 3 * N_MANY; step++) {
            numbered *t = &many[rand() % N_MANY];
            if (rand() % 4 == 0)
                puff_timer_stop(&t->timer);
            else /* few distinct deadlines, so that many are equal */
                CHECK_EQ_INT(puff_timer_start_at(&t->timer, base + (uint64_t)(rand() % 40) * 50000),
                             0);
        }
        int n = model_order(ids);
        turn_while_open();
        CHECK_EQ_INT(n_fired, n);
        for (int i = 0; i < n; i++) CHECK_EQ_INT(fired[i], ids[i]);
        end();
    }
}

/* ---- memory ---- */

TEST(no_memory_for_the_heap_leaves_the_others_alone) {
    begin();
    n_fired = 0;
    static numbered t[65];
    for (int i = 0; i < 65; i++) init(&t[i], i);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_timer_start(&t[0].timer, 1), PUFF_ENOMEM);
    CHECK(!puff_timer_active(&t[0].timer));
    for (int i = 0; i < 64; i++) CHECK_EQ_INT(puff_timer_start(&t[i].timer, 1), 0);
    memory.fail_at = memory.n_calls + 1;
    CHECK_EQ_INT(puff_timer_start(&t[64].timer, 1), PUFF_ENOMEM);
    CHECK_EQ_INT(puff_timer_start(&t[0].timer, 1), 0); /* moving needs no memory */
    turn_until(&n_fired, 64);
    end();
}

/* What the host does between turns takes time too: libuv from 1.45 on does not look at the clock
 * again before it sleeps. */
TEST(time_that_passed_between_turns_counts) {
    begin();
    n_fired = 0;
    numbered t;
    init(&t, 1);
    uint64_t due = puff_now_ns() + 60 * MS;
    puff_timer_start_at(&t.timer, due);
    puff_loop_turn(loop, false);
    while (puff_now_ns() < due + 40 * MS) continue; /* the host works */
    uint64_t before = puff_loop_get_stats(loop).idle_ns;
    turn_until(&n_fired, 1);
    CHECK(puff_loop_get_stats(loop).idle_ns - before < 30 * MS);
    end();
}

RUN_TESTS;
