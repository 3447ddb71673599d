/*
 * Put before every file of src/store when it is compiled for the crash runs: segments of the log
 * are small, so that many are filled and used anew and a state costs little, names do not stay in
 * young for long, and what comes round every second comes round sooner.
 */
#ifndef RETHREAD_TESTS_CRASH_SMALL_H
#define RETHREAD_TESTS_CRASH_SMALL_H

#include "store/store_private.h"
#include "store/tree_names.h"

enum {
    SMALL_SEGMENT_BYTES = 64 << 10,
    SMALL_TICK_MS = 100,
    SMALL_FILL_MS = 5,
    SMALL_TXN_COST = 24, /* what goes into the tree at once takes several transactions */
    SMALL_RUN_NAMES = TREE_RUN_SHARES, /* names come home soon */
};

struct clock *small_clock(void); /* in judge.c */

#define clock_monotonic   small_clock
#define WAL_SEGMENT_BYTES SMALL_SEGMENT_BYTES
#define STORE_TICK_MS     SMALL_TICK_MS
#define STORE_FILL_MS     SMALL_FILL_MS
#define TREE_TXN_COST     SMALL_TXN_COST
#define TREE_RUN_NAMES    SMALL_RUN_NAMES

#endif
