/* puff.h - libpuff, the C core of Puff: an event loop and what speaks protocols on it.
 *
 * Include this for everything, or the parts that you need from puff/. Compiles as C11 and C++.
 */
#ifndef PUFF_H
#define PUFF_H

#include "puff/base.h"
#include "puff/http.h"
#include "puff/loop.h"
#include "puff/postgres.h"
#include "puff/redis.h"

#endif
