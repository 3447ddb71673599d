/*
 * Real time, while tails are measured: the servers and this process run whenever they can, before
 * everything else on the machine. In ordinary scheduling whoever wakes up may wait for milliseconds
 * until another process's slice ends, and where something else runs at all, that is all that p99.9
 * would tell, alike for all servers. Needs a privilege, and a core of its own for either.
 *
 * The kernel then gives others 50 ms of each second, in one piece: measure in parts of
 * URGENT_PART_S at most, and rest before each, so that they get theirs between.
 */
#ifndef RETHREAD_BENCH_URGENT_H
#define RETHREAD_BENCH_URGENT_H

#include "bench/sides.h"

#define URGENT_PART_S 0.5

/* Between sides_open and sides_close. Where it cannot be had nothing is changed, but for a note in
 * the report. */
void urgent_begin(const struct sides *sides, struct report *report);
void urgent_rest(void);
void urgent_end(const struct sides *sides);

/* How many parts make so many seconds. */
unsigned urgent_parts(double seconds);

#endif
