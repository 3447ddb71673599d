/*
 * What several workloads do before and between measurements: the bytes that steps are cut from, and
 * putting threads into a server at full speed, every reply checked.
 */
#ifndef RETHREAD_BENCH_STOCK_H
#define RETHREAD_BENCH_STOCK_H

#include "bench/load.h"
#include "bench/sides.h"

enum { STOCK_CONNECTIONS = 50, STOCK_IN_FLIGHT = 64 };

/*
 * Sets pool, series and ttl; a step may have up to `step_bytes_max` bytes. False, after a message
 * on stderr, when there is no memory. Series that differ by less than 2^32 from it are free.
 */
bool stock_values(struct protocol_values *values, size_t step_bytes_max, uint32_t ttl_s);
void stock_values_free(struct protocol_values *values); /* of zeroed ones as well */

/* Threads begin..end-1 with all their steps: a source of appends, and a job of its own. */
struct stock {
    const struct protocol_values *values;
    uint32_t begin;
    uint32_t end;
    uint32_t steps;
};

/* Connects, appends all, disconnects. False, after a message on stderr. */
bool stock_run(const char *workload, const struct side *side, const struct stock *stock,
               struct load_result *result);

/* Says on stderr what went wrong, after the progress line is gone. */
void stock_complain(const char *workload, const char *error);

/* Seconds from some time in the past, on a clock that only goes on. */
double stock_now_s(void);
void stock_sleep_ms(unsigned time_ms);

#endif
