/* watchdog.h - notices from a thread of its own that a loop has been blocked for too long. */
#ifndef PUFF_BIND_WATCHDOG_H
#define PUFF_BIND_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

typedef struct puff_watchdog puff_watchdog;

/* What it looks at; the loop writes both anyway. */
typedef struct puff_pulse {
    const uint64_t *ticks; /* puff_ticks() when the last callback, or sleep, ended */
    const bool *waiting;   /* the loop sleeps until something happens: it is not blocked */
} puff_pulse;

typedef struct puff_block {
    double seconds;       /* so far, or in all when it is over */
    uint64_t mark;        /* the same for all that is told of one block */
    unsigned long thread; /* that is blocked, as threading.get_ident() names it */
    bool over;
    bool dumped;       /* the stack has been written to stderr already */
    unsigned n_silent; /* blocks before this one of which nothing was told */
} puff_block;

typedef struct puff_watchdog_options {
    uint64_t threshold_ms;
    uint64_t gap_ms; /* at most one block in so long is told of */
    int signum;      /* makes a thread write its stack to stderr; 0: there is no such signal */
} puff_watchdog_options;

/* NULL: no memory or no thread. The pulse must be readable until puff_watchdog_stop(). */
puff_watchdog *puff_watchdog_new(puff_pulse pulse, const puff_watchdog_options *options);
/* Ends it and gives up the loop's share of it. NULL is allowed. In any thread. */
void puff_watchdog_stop(puff_watchdog *w);
/* The calling thread runs the loop, from enter to leave. */
void puff_watchdog_enter(puff_watchdog *w);
void puff_watchdog_leave(puff_watchdog *w);

/* The side of whoever tells; it has a share from the start. */
void puff_watchdog_unref(puff_watchdog *w);
/* Waits, without the GIL: true, a block; false, the watchdog has been stopped. */
bool puff_watchdog_next(puff_watchdog *w, puff_block *block);
/* With the GIL, after that: whether the block still lasts. From here on the stack may be asked for. */
bool puff_watchdog_take(puff_watchdog *w, puff_block *block);

#endif
