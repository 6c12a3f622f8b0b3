/* work.c - jobs on threads of the loop's own.
 *
 *   submit -> crew.waiting -> a thread runs it -> crew.finished, wake-up -> done, on the loop's thread
 *
 * Not libuv's pool: a loop of libuv's cannot end before the last thread has answered, and in a forked
 * child, where no thread is left, it never can. Here the crew belongs to its loop and its threads
 * together and goes with the last of them; a job that nobody waits for any more belongs to the thread
 * that runs it.
 *
 * What threads share is under the lock; loop->jobs (all that are not done) is the loop's thread's. A
 * forked child gives the crew up and answers what it had: nobody else can.
 */
#include "loop.h"

#include <pthread.h>
#include <signal.h>

/* A name server that is silent holds a thread for 10 s and more: others must get past it. */
enum { MAX_THREADS = 16 };

enum { WAITING, RUNNING, LEFT, FINISHED };

struct puff__crew {
    pthread_mutex_t lock;
    pthread_cond_t more;     /* for threads: jobs, or the end */
    pthread_cond_t answered; /* for puff__work_drain() */
    puff_loop *loop;         /* borrowed; NULL: it has ended */
    puff_queue waiting, finished;
    unsigned n_threads, n_idle, n_waiting;
};

/* ---- the threads' side ----------------------------------------------------------------------- */

/* The crew's memory is the system's: it may outlive the loop and the loop's allocator. */
static void crew_free(puff__crew *c) {
    pthread_cond_destroy(&c->more);
    pthread_cond_destroy(&c->answered);
    pthread_mutex_destroy(&c->lock);
    puff_free(&puff_alloc_system, c);
}

static void finish(puff__crew *c, puff__job *job) {
    job->state = FINISHED;
    bool first = puff_queue_empty(&c->finished);
    puff_queue_push(&c->finished, &job->node);
    pthread_cond_signal(&c->answered);
    if (first) puff_loop_wake(c->loop); /* there is a loop as long as somebody waits */
}

static puff__job *next_job(puff__crew *c) {
    while (puff_queue_empty(&c->waiting) && c->loop) {
        c->n_idle++;
        pthread_cond_wait(&c->more, &c->lock);
        c->n_idle--;
    }
    puff_queue *node = puff_queue_pop(&c->waiting);
    if (!node) return NULL;
    c->n_waiting--;
    puff__job *job = PUFF_CONTAINER_OF(node, puff__job, node);
    job->state = RUNNING;
    return job;
}

static void *on_thread(void *arg) {
    puff__crew *c = arg;
    puff__job *job;
    pthread_mutex_lock(&c->lock);
    while ((job = next_job(c)) != NULL) {
        pthread_mutex_unlock(&c->lock);
        job->run(job);
        pthread_mutex_lock(&c->lock);
        if (job->state == LEFT)
            job->drop(job);
        else
            finish(c, job);
    }
    bool last = --c->n_threads == 0; /* and there is no loop, or next_job() would not have ended */
    pthread_mutex_unlock(&c->lock);
    if (last) crew_free(c);
    return NULL;
}

/* ---- the loop's side ------------------------------------------------------------------------- */

static puff__crew *crew_of(puff_loop *loop) {
    if (loop->crew) return loop->crew;
    puff__crew *c = puff_calloc(&puff_alloc_system, 1, sizeof *c);
    if (!c) return NULL;
    pthread_mutex_init(&c->lock, NULL);
    pthread_cond_init(&c->more, NULL);
    pthread_cond_init(&c->answered, NULL);
    puff_queue_init(&c->waiting);
    puff_queue_init(&c->finished);
    c->loop = loop;
    return loop->crew = c;
}

/* Signals are for the host's threads: these take none. */
static int start_thread(puff__crew *c) {
    pthread_t thread;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int rc = pthread_create(&thread, NULL, on_thread, c);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (rc) return -rc;
    pthread_detach(thread);
    c->n_threads++;
    return 0;
}

int puff__job_submit(puff_loop *loop, puff__job *job) {
    puff__crew *c = crew_of(loop);
    if (!c) return PUFF_ENOMEM;
    int rc = 0;
    job->crew = c;
    job->state = WAITING;
    pthread_mutex_lock(&c->lock);
    if (c->n_waiting >= c->n_idle && c->n_threads < MAX_THREADS) rc = start_thread(c);
    if (rc == 0 || c->n_threads > 0) {
        puff_queue_push(&c->waiting, &job->node);
        c->n_waiting++;
        pthread_cond_signal(&c->more);
        rc = 0;
    }
    pthread_mutex_unlock(&c->lock);
    if (rc == 0) puff_queue_push(&loop->jobs, &job->open);
    return rc;
}

bool puff__job_leave(puff__job *job) {
    puff__crew *c = job->crew;
    puff_queue_remove(&job->open);
    if (!c) return true; /* of before the fork */
    pthread_mutex_lock(&c->lock);
    bool ours = job->state != RUNNING;
    if (job->state == WAITING) c->n_waiting--;
    if (ours)
        puff_queue_remove(&job->node);
    else
        job->state = LEFT;
    pthread_mutex_unlock(&c->lock);
    return ours;
}

static int take_back(puff__job *job) {
    puff__crew *c = job->crew;
    if (!c) return 0; /* of before the fork: it is about to say so */
    pthread_mutex_lock(&c->lock);
    int rc = job->state == WAITING ? 0 : UV_EBUSY;
    if (rc == 0) {
        c->n_waiting--;
        puff_queue_remove(&job->node);
        job->status = UV_ECANCELED;
        finish(c, job);
    }
    pthread_mutex_unlock(&c->lock);
    return rc;
}

/* The next job that is finished; with wait, it waits for one if there are any. */
static puff__job *next_finished(puff_loop *loop, bool wait) {
    puff_queue *lost = puff_queue_pop(&loop->lost);
    if (lost) return PUFF_CONTAINER_OF(lost, puff__job, open);
    puff__crew *c = loop->crew;
    if (!c || puff_queue_empty(&loop->jobs)) return NULL;
    pthread_mutex_lock(&c->lock);
    while (wait && puff_queue_empty(&c->finished)) pthread_cond_wait(&c->answered, &c->lock);
    puff_queue *node = puff_queue_pop(&c->finished);
    pthread_mutex_unlock(&c->lock);
    return node ? PUFF_CONTAINER_OF(node, puff__job, node) : NULL;
}

static void run_finished(puff_loop *loop, bool wait) {
    puff__job *job;
    while ((job = next_finished(loop, wait)) != NULL) {
        puff_queue_remove(&job->open);
        loop->called = true;
        job->done(job, job->status);
    }
}

void puff__work_run(puff_loop *loop) { run_finished(loop, false); }

void puff__work_drain(puff_loop *loop) { run_finished(loop, true); }

/* The lock may be held by a thread that is not here: the crew is given up as it is. */
void puff__work_forked(puff_loop *loop) {
    puff_queue *node;
    while ((node = puff_queue_pop(&loop->jobs)) != NULL) {
        puff__job *job = PUFF_CONTAINER_OF(node, puff__job, open);
        job->crew = NULL;
        job->status = UV_ECANCELED;
        puff_queue_push(&loop->lost, &job->open);
    }
    puff_free(&puff_alloc_system, loop->crew);
    loop->crew = NULL;
}

void puff__work_deinit(puff_loop *loop) {
    puff__crew *c = loop->crew;
    if (!c) return;
    pthread_mutex_lock(&c->lock);
    c->loop = NULL;
    pthread_cond_broadcast(&c->more);
    bool last = c->n_threads == 0;
    pthread_mutex_unlock(&c->lock);
    if (last) crew_free(c);
    loop->crew = NULL;
}

/* ---- public ---------------------------------------------------------------------------------- */

struct puff_work {
    puff__job job;
    puff_loop *loop; /* borrowed; outlives us */
    void (*work)(void *arg);
    void (*done)(void *arg, int status);
    void *arg;
};

static void run_work(puff__job *job) {
    puff_work *w = PUFF_CONTAINER_OF(job, puff_work, job);
    w->work(w->arg);
}

static void on_done(puff__job *job, int status) {
    puff_work *w = PUFF_CONTAINER_OF(job, puff_work, job);
    w->done(w->arg, status);
    puff_free(w->loop->alloc, w);
}

int puff_work_submit(puff_loop *loop, void (*work)(void *arg), void (*done)(void *arg, int status),
                     void *arg, puff_work **out) {
    puff_work *w = puff_calloc(loop->alloc, 1, sizeof *w);
    if (!w) return PUFF_ENOMEM;
    puff__job_init(&w->job, run_work, on_done, NULL);
    w->loop = loop;
    w->work = work;
    w->done = done;
    w->arg = arg;
    int rc = puff__job_submit(loop, &w->job);
    if (rc) {
        puff_free(loop->alloc, w);
        return rc;
    }
    if (out) *out = w;
    return 0;
}

int puff_work_cancel(puff_work *work) { return take_back(&work->job); }
