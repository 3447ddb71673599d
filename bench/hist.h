/*
 * A log-linear histogram: exact below 64, above it 32 steps to the power of two, so a percentile is
 * at most 1/32 too high. The largest value is kept exactly. Any number of values, fixed size.
 */
#ifndef RETHREAD_BENCH_HIST_H
#define RETHREAD_BENCH_HIST_H

#include <stdint.h>

enum { HIST_STEP_BITS = 5, HIST_BUCKETS = (64 - HIST_STEP_BITS + 1) << HIST_STEP_BITS };

struct hist {
    uint64_t count;
    uint64_t max;
    uint64_t bucket[HIST_BUCKETS];
};

void hist_clear(struct hist *hist);
void hist_record(struct hist *hist, uint64_t value);
void hist_add(struct hist *into, const struct hist *from);

/* The smallest bound that `share` (0 to 1) of the values do not exceed; 0 when there are none. */
uint64_t hist_percentile(const struct hist *hist, double share);

#endif
