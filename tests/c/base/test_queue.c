/* The intrusive ring. */
#include "check.h"
#include "puff/base.h"

typedef struct item {
    puff_queue node;
    char name;
} item;

static item a = {.name = 'a'}, b = {.name = 'b'}, c = {.name = 'c'};
static puff_queue head;

static void begin(void) {
    puff_queue_init(&head);
    puff_queue_init(&a.node);
    puff_queue_init(&b.node);
    puff_queue_init(&c.node);
}

static const char *names(const puff_queue *of) {
    static char text[8];
    size_t n = 0;
    puff_queue *q;
    PUFF_QUEUE_FOREACH(q, of) text[n++] = PUFF_CONTAINER_OF(q, item, node)->name;
    text[n] = '\0';
    return text;
}

TEST(push_and_pop_are_first_in_first_out) {
    begin();
    CHECK(puff_queue_empty(&head));
    CHECK(!puff_queue_pop(&head));
    puff_queue_push(&head, &a.node);
    puff_queue_push(&head, &b.node);
    puff_queue_push_front(&head, &c.node);
    CHECK_EQ_STR(names(&head), "cab");
    CHECK(puff_queue_pop(&head) == &c.node);
    CHECK(puff_queue_empty(&c.node)); /* in no list */
    CHECK_EQ_STR(names(&head), "ab");
}

TEST(remove_is_allowed_anywhere_and_twice) {
    begin();
    puff_queue_push(&head, &a.node);
    puff_queue_push(&head, &b.node);
    puff_queue_push(&head, &c.node);
    puff_queue_remove(&b.node);
    puff_queue_remove(&b.node);
    CHECK_EQ_STR(names(&head), "ac");
    puff_queue_remove(&a.node);
    puff_queue_remove(&c.node);
    CHECK(puff_queue_empty(&head));
}

TEST(splice_moves_all_to_the_end) {
    begin();
    puff_queue from;
    puff_queue_init(&from);
    puff_queue_splice(&head, &from);
    CHECK(puff_queue_empty(&head));
    puff_queue_push(&head, &a.node);
    puff_queue_push(&from, &b.node);
    puff_queue_push(&from, &c.node);
    puff_queue_splice(&head, &from);
    CHECK(puff_queue_empty(&from));
    CHECK_EQ_STR(names(&head), "abc");
    puff_queue_splice(&from, &head);
    CHECK_EQ_STR(names(&from), "abc");
    CHECK(puff_queue_empty(&head));
}

RUN_TESTS;
