/* What a workload gets and is; main.c has the table of them. */
#ifndef RETHREAD_BENCH_WORKLOAD_H
#define RETHREAD_BENCH_WORKLOAD_H

#include "bench/options.h"
#include "bench/report.h"

struct workload {
    const char *name;
    const char *help;
    /* False, after a message on stderr, when it could not be measured or an answer was wrong. */
    bool (*run)(const struct options *options, struct report *report);
};

extern const struct workload workload_kv;
extern const struct workload workload_agent;
extern const struct workload workload_index;
extern const struct workload workload_noise;
extern const struct workload workload_expiry;
extern const struct workload workload_memory;
extern const struct workload workload_durable;
extern const struct workload workload_scale;
extern const struct workload workload_continuity;
extern const struct workload workload_churn;
extern const struct workload workload_restart;

/* Whether the first of two goes first in this round: A B, B A, A B … */
static inline bool workload_ours_first(unsigned round)
{
    return round % 2 == 0;
}

#endif
