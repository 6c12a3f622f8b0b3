/* watchdog.c - see watchdog.h.
 *
 *   loop       writes ticks after each callback, waiting around each sleep; knows nothing of us
 *   sampler    sleeps until threshold after ticks, looks: the same ticks, not waiting -> a block
 *                 |  block                             |  200 ms later: nobody has taken it
 *   teller     wakes, takes the GIL, reads the stack   |
 *   loop's thread, interrupted by a signal  <----------+  code that holds the GIL: only this thread
 *                                                         itself can say where it is
 *
 * The sampler never touches the GIL, so it can be joined anywhere, and it wakes about once per threshold.
 * A block is told when it reaches the threshold, and again each time that it has doubled.
 */
#include "watchdog.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "puff/loop.h"

enum {
    MS = 1000000,
    PATIENCE_NS = 200 * MS, /* the GIL changes hands every 5 ms, unless C code keeps it */
    LOOK_NS = 100 * MS,     /* while a block lasts */
    STACK_BYTES = 128 * 1024,
};

enum { QUIET, HANDED, TOLD };

struct puff_watchdog {
    pthread_mutex_t lock;
    pthread_cond_t change; /* for both threads */
    pthread_t sampler;
    puff_pulse pulse; /* borrowed: the loop stops us before it goes */
    uint64_t threshold_ns, gap_ns;
    uint64_t began_ns, began_ticks;
    int signum, n_refs;
    pid_t pid;
    pthread_t loop_thread; /* while active */
    bool active, ended;
    uint64_t seen_mark; /* of the last block, told or not */
    int state;          /* of the block that is told */
    uint64_t handed_ns; /* when, on the clock; 0: never */
    uint64_t next_ns;   /* how long it must last to be told again */
    puff_block block;   /* what is told */
    bool news;          /* the teller has not taken it yet */
};

/* ---- the sampler: under the lock but for its sleep ---------------------------------------------- */

/* How long what runs now has run; 0: nothing does. */
static uint64_t blocked_ns(puff_watchdog *w, uint64_t now_ns, uint64_t *mark) {
    if (!w->active || __atomic_load_n(w->pulse.waiting, __ATOMIC_ACQUIRE)) return 0;
    *mark = __atomic_load_n(w->pulse.ticks, __ATOMIC_RELAXED);
    uint64_t ticks = puff_ticks();
    if (ticks <= *mark || now_ns <= w->began_ns) return 0;
    double per_ns = (double)(ticks - w->began_ticks) / (double)(now_ns - w->began_ns);
    return (uint64_t)((double)(ticks - *mark) / per_ns);
}

static void hand(puff_watchdog *w, double seconds, bool over) {
    w->block.seconds = seconds;
    w->block.over = over;
    w->news = true;
    pthread_cond_broadcast(&w->change);
}

static void tell(puff_watchdog *w, uint64_t now_ns, uint64_t ns) {
    w->state = HANDED;
    w->handed_ns = now_ns;
    w->next_ns = 2 * ns;
    hand(w, (double)ns / 1e9, false);
}

/* One that nobody has taken yet will be found to be over. */
static void end(puff_watchdog *w, uint64_t now_ns) {
    if (w->state == TOLD) hand(w, w->block.seconds + (double)(now_ns - w->handed_ns) / 1e9, true);
    w->state = QUIET;
}

static void begin(puff_watchdog *w, uint64_t now_ns, uint64_t ns, uint64_t mark) {
    end(w, now_ns);
    w->seen_mark = mark;
    if (w->news || (w->handed_ns && now_ns - w->handed_ns < w->gap_ns)) {
        w->block.n_silent++;
        return;
    }
    w->block.mark = mark;
    w->block.dumped = false;
    w->block.thread = (unsigned long)w->loop_thread;
    tell(w, now_ns, ns);
}

static void write_stack(puff_watchdog *w, uint64_t ns) {
    char line[160];
    int n = snprintf(
        line, sizeof line,
        "puff: the loop has been blocked for %.2f s by code that holds the GIL; it is in\n",
        (double)ns / 1e9);
    w->block.dumped = true;
    if (write(STDERR_FILENO, line, (size_t)n) == n) pthread_kill(w->loop_thread, w->signum);
}

static void go_on(puff_watchdog *w, uint64_t now_ns, uint64_t ns) {
    if (w->state == TOLD && ns >= w->next_ns)
        tell(w, now_ns, ns);
    else if (w->state == HANDED && w->signum && !w->block.dumped &&
             now_ns - w->handed_ns >= PATIENCE_NS)
        write_stack(w, ns);
}

/* One look; how long to sleep until the next. */
static uint64_t look(puff_watchdog *w) {
    uint64_t now_ns = puff_now_ns(), mark = 0;
    uint64_t ns = blocked_ns(w, now_ns, &mark);
    if (ns < w->threshold_ns) {
        end(w, now_ns);
        return w->threshold_ns - ns;
    }
    if (w->seen_mark != mark)
        begin(w, now_ns, ns, mark);
    else
        go_on(w, now_ns, ns);
    return LOOK_NS;
}

static struct timespec time_in(uint64_t ns) {
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    ns += (uint64_t)ts.tv_nsec;
    ts.tv_sec += (time_t)(ns / 1000000000);
    ts.tv_nsec = (long)(ns % 1000000000);
    return ts;
}

static void *on_sampler(void *arg) {
    puff_watchdog *w = arg;
    uint64_t sleep_ns = w->threshold_ns;
    pthread_mutex_lock(&w->lock);
    while (!w->ended) {
        struct timespec until = time_in(sleep_ns);
        while (!w->ended && pthread_cond_timedwait(&w->change, &w->lock, &until) != ETIMEDOUT)
            continue;
        if (!w->ended) sleep_ns = look(w);
    }
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static void free_watchdog(puff_watchdog *w) {
    pthread_cond_destroy(&w->change);
    pthread_mutex_destroy(&w->lock);
    free(w);
}

static void init_condition(pthread_cond_t *condition) {
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(condition, &attr);
    pthread_condattr_destroy(&attr);
}

/* No signal is for this thread: Python's handlers are for one that has the interpreter. */
static int begin_sampler(puff_watchdog *w) {
    sigset_t all, before;
    pthread_attr_t attr;
    sigfillset(&all);
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, STACK_BYTES);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&w->sampler, &attr, on_sampler, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attr);
    return rc;
}

puff_watchdog *puff_watchdog_new(puff_pulse pulse, const puff_watchdog_options *options) {
    puff_watchdog *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    pthread_mutex_init(&w->lock, NULL);
    init_condition(&w->change);
    w->pulse = pulse;
    w->threshold_ns = options->threshold_ms * MS;
    w->gap_ns = options->gap_ms * MS;
    w->signum = options->signum;
    w->began_ns = puff_now_ns();
    w->began_ticks = puff_ticks();
    w->n_refs = 2;
    w->pid = getpid();
    if (begin_sampler(w) == 0) return w;
    free_watchdog(w);
    return NULL;
}

void puff_watchdog_unref(puff_watchdog *w) {
    if (w->pid != getpid()) return; /* forked: who knows what state the lock is in */
    pthread_mutex_lock(&w->lock);
    bool last = --w->n_refs == 0;
    pthread_mutex_unlock(&w->lock);
    if (last) free_watchdog(w);
}

void puff_watchdog_stop(puff_watchdog *w) {
    if (!w || w->pid != getpid()) return; /* a child has no such thread */
    pthread_mutex_lock(&w->lock);
    w->ended = true;
    pthread_cond_broadcast(&w->change);
    pthread_mutex_unlock(&w->lock);
    pthread_join(w->sampler, NULL);
    puff_watchdog_unref(w);
}

void puff_watchdog_enter(puff_watchdog *w) {
    if (w->pid != getpid()) return;
    pthread_mutex_lock(&w->lock);
    w->loop_thread = pthread_self();
    w->active = true;
    pthread_mutex_unlock(&w->lock);
}

void puff_watchdog_leave(puff_watchdog *w) {
    if (w->pid != getpid()) return;
    pthread_mutex_lock(&w->lock);
    w->active = false;
    pthread_mutex_unlock(&w->lock);
}

/* ---- the teller's side --------------------------------------------------------------------------- */

bool puff_watchdog_next(puff_watchdog *w, puff_block *block) {
    pthread_mutex_lock(&w->lock);
    while (!w->news && !w->ended) pthread_cond_wait(&w->change, &w->lock);
    bool ended = w->ended;
    *block = w->block;
    pthread_mutex_unlock(&w->lock);
    return !ended;
}

bool puff_watchdog_take(puff_watchdog *w, puff_block *block) {
    uint64_t now_ns = puff_now_ns(), mark = 0;
    pthread_mutex_lock(&w->lock);
    *block = w->block;
    w->news = false;
    w->block.n_silent = 0;
    uint64_t ns = w->ended ? 0 : blocked_ns(w, now_ns, &mark);
    bool lasts = !block->over && ns > 0 && mark == block->mark;
    if (lasts) {
        block->seconds = (double)ns / 1e9;
        w->state = TOLD;
    } else if (!block->over) { /* nobody could take the GIL while it lasted */
        block->seconds += (double)(now_ns - w->handed_ns) / 1e9;
        w->state = QUIET;
    }
    pthread_mutex_unlock(&w->lock);
    return lasts;
}
