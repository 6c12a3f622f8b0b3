/* loop.h - what the files of core/loop share: the loop's inside and how a callback begins. */
#ifndef PUFF_CORE_LOOP_H
#define PUFF_CORE_LOOP_H

#include <stdatomic.h>
#include <uv.h>

#include "puff/loop.h"

/* A chunk of memory that reads of streams without an on_alloc share: one read is on the stack at a
 * time. 64 KiB: one read of a full socket buffer, below malloc's mmap threshold. */
enum { PUFF_READ_BUF = 65536 };

/* The data of every uv handle that somebody else may still have open when the loop is freed. */
typedef struct puff__kind {
    void (*close)(uv_handle_t *h);
    void (*refused)(uv_handle_t *h, int status); /* the kernel does not watch its descriptor */
} puff__kind;

/* What is made of several handles, or of none yet, and has to end with the loop. */
typedef struct puff__closer {
    puff_queue node;
    void (*close)(struct puff__closer *self);
} puff__closer;

/* Memory for queued output: a copy of small writes, or a borrowed range. See stream.c. */
typedef struct puff__chunk puff__chunk;
/* Memory for several datagrams at once. See udp.c. */
typedef struct puff__burst puff__burst;
/* Sockets that others wait for. See ready.c. */
typedef struct puff__ready_set puff__ready_set;
/* The loop's threads. See work.c. */
typedef struct puff__crew puff__crew;

/* Something that a thread of the loop's does, in its owner's storage. */
typedef struct puff__job {
    puff_queue open; /* among loop->jobs or loop->lost */
    puff_queue node; /* among what waits or is finished; the crew's */
    puff__crew *crew;
    int state, status;
    void (*run)(struct puff__job *self);              /* on a thread */
    void (*done)(struct puff__job *self, int status); /* on the loop's thread, once */
    void (*drop)(struct puff__job *self); /* any thread: of a job that was left, in place of done */
} puff__job;

/* A timer in the heap. */
typedef struct puff__deadline {
    uint64_t ns;
    puff_timer *timer; /* borrowed */
} puff__deadline;

struct puff_loop {
    uv_loop_t uv;
    const puff_alloc *alloc; /* borrowed; outlives us */
    puff_loop_hooks hooks;
    bool sleeping; /* before_wait has run and after_wait has not */
    bool stopped;
    bool due;             /* the kernel's timer is, in this turn, before its poll */
    bool called;          /* something has come in, in this turn */
    bool freeing;         /* puff_loop_free() is at work: nothing new is begun */
    uv_prepare_t prepare; /* runs right before the poll: the last moment to give the lock up */
    uint64_t now_ns, now_ticks;
    uint64_t slept_at_ns;
    puff_loop_stats stats;

    uint64_t looked_ticks; /* of the end of the last look or wait */
    unsigned n_skipped;    /* turns since */
    unsigned n_quiet;      /* looks in a row that found nothing */
    uint64_t ticks_per_ms; /* 0: not known yet */
    uint64_t made_ns, made_ticks;

    puff_queue deferred; /* of puff_defer */
    puff_queue closers;  /* of puff__closer */

    _Atomic(puff_post *) posted; /* a stack; last in, first out */
    atomic_bool woken;           /* wake_fd is readable, or about to be */
    int wake_fd;                 /* owned; an eventfd */
    uv_poll_t wake;

    puff__crew *crew;      /* made at first use */
    puff_queue jobs, lost; /* jobs that are not done; of before a fork */

    puff__deadline *heap; /* owned */
    size_t n_timers, heap_cap;
    uint64_t timer_seq; /* of the timer started last */
    uv_timer_t kernel_timer;
    uint64_t kernel_deadline_ns; /* what kernel_timer is set for; 0: it is not */
    uint64_t firing_ns;          /* while due timers fire: the time that counts; else 0 */

    puff__ready_set *ready; /* owned; made at first use */

    int spare_fd;   /* given up for one accept when the process runs out of descriptors; -1: none */
    char *read_buf; /* owned; made at first use */
    puff__chunk *free_chunks; /* owned; chunks of CHUNK_CAP that wait for the next write */
    unsigned n_free_chunks;
    puff__burst *burst; /* owned; made at first use */
};

/* Every callback from libuv begins with this: if the loop slept, the host takes its lock. */
void puff__loop_awake(puff_loop *loop);
static inline void puff__loop_enter(puff_loop *loop) {
    loop->called = true;
    if (__builtin_expect(loop->sleeping, 0)) puff__loop_awake(loop);
}
static inline puff_loop *puff__loop_of(const uv_handle_t *h) {
    return PUFF_CONTAINER_OF(h->loop, puff_loop, uv);
}
/* The loop's shared read buffer, or NULL. */
char *puff__loop_read_buf(puff_loop *loop);

/* What is not watched for want of a system call is watched now: 0, UV_EBADF, UV_EPERM, UV_ENOENT. */
int puff__watch(puff_loop *loop, uv__io_t *w);
/* The same for all; true: somebody has been told that it cannot be. */
bool puff__watch_new(puff_loop *loop);
/* libuv will call back before it polls. */
bool puff__watch_may_change(puff_loop *loop);

void puff__chunks_deinit(puff_loop *loop);
void puff__bursts_deinit(puff_loop *loop);
int puff__timers_init(puff_loop *loop);
void puff__timers_fire(puff_loop *loop); /* those that are due by now_ns */
/* Sets the kernel's timer for a wait: false if that is too coarse for the first deadline. */
bool puff__timers_arm(puff_loop *loop);
void puff__timers_deinit(puff_loop *loop);
/* The first deadline, or UINT64_MAX. */
static inline uint64_t puff__timers_next(const puff_loop *loop) {
    return loop->n_timers > 0 ? loop->heap[0].ns : UINT64_MAX;
}
int puff__post_init(puff_loop *loop);
void puff__post_run(puff_loop *loop);    /* what has been posted until now */
int puff__post_forked(puff_loop *loop);  /* in the child: UV_E* */
int puff__ready_forked(puff_loop *loop); /* in the child: UV_E* */
void puff__post_deinit(puff_loop *loop);

static inline void puff__job_init(puff__job *job, void (*run)(puff__job *self),
                                  void (*done)(puff__job *self, int status),
                                  void (*drop)(puff__job *self)) {
    *job = (puff__job){.run = run, .done = done, .drop = drop};
    puff_queue_init(&job->open);
    puff_queue_init(&job->node);
}
/* done comes in a later turn. Where the loop's end must not wait for it, a closer leaves it.
 * PUFF_ENOMEM, UV_EAGAIN (no thread to be had). */
int puff__job_submit(puff_loop *loop, puff__job *job);
/* Nobody waits for this job any more: done does not run. True: the storage is the caller's again;
 * false: a thread has it and will drop it. Not for a job that is done. */
bool puff__job_leave(puff__job *job);
void puff__work_run(puff_loop *loop);    /* done of what has been finished until now */
void puff__work_drain(puff_loop *loop);  /* waits for every job that is left */
void puff__work_forked(puff_loop *loop); /* in the child */
void puff__work_deinit(puff_loop *loop); /* nothing is left */
/* The question goes on without anybody who waits: its callback will not run. */
void puff__dns_abandon(puff_dns *d);

#endif
