/* counted.h - loops whose memory is counted: what one has not given back when it is closed, and
 * nobody gives back later, is lost.
 *
 * For tests: nothing is counted until puff_counted_begin(), and an ordinary loop pays nothing.
 */
#ifndef PUFF_BIND_COUNTED_H
#define PUFF_BIND_COUNTED_H

#include "puff/base.h"

/* From now on; for the rest of the process. */
void puff_counted_begin(void);
/* For a loop that is about to be made: an allocator of its own. NULL: the system's will do. */
const puff_alloc *puff_counted_new(void);
/* After the loop's end; takes any loop's. */
void puff_counted_close(const puff_alloc *alloc);
/* Blocks of loops that have ended: what is still referred to (a request, by a traceback), and leaks. */
size_t puff_counted_left(void);

#endif
