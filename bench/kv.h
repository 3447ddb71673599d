/*
 * What the parts of the workload kv share: kv.c measures costs and throughput, kv_latency.c
 * latencies at fixed rates, both on the same servers.
 */
#ifndef RETHREAD_BENCH_KV_H
#define RETHREAD_BENCH_KV_H

#include "bench/load.h"
#include "bench/options.h"
#include "bench/report.h"
#include "bench/sides.h"

enum { KV_CONNECTIONS = 50, KV_VALUE_BYTES_MAX = 64 * 1024 };

struct kv {
    const struct options *options;
    struct report *report;
    struct sides sides;
    struct protocol_values values;
    unsigned rounds;
};

/* NULL after a message on stderr. */
struct load *kv_open_load(const struct kv *kv, unsigned side, uint32_t value_bytes,
                          unsigned in_flight);
/* Appends or forgets threads 0 to count - 1, or replays any of them. */
bool kv_run(const struct kv *kv, struct load *load, enum protocol_op op, uint32_t threads,
            uint64_t count, struct load_result *result);
/* A message on stderr; false. */
bool kv_fail(const struct load_result *result);

/* The row's params; those that are the same in all rows follow `first`. */
void kv_set_params(const struct kv *kv, struct report_row *row, const struct report_param *first,
                   unsigned count);

/* "1 KiB" */
enum { KV_SIZE_TEXT_BYTES = 32 };
void kv_put_size(uint32_t bytes, char text[KV_SIZE_TEXT_BYTES]);

/* Replays of 1 KiB at shares of the peer's own greatest rate. */
bool kv_measure_latency(struct kv *kv);

#endif
