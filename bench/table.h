/*
 * A hash table as workload `index` drives it: keys 0 to count - 1, each 16 bytes once mixed. The
 * loops stand in the implementations, so that no call through a pointer is measured. All records
 * are allocated before the first insert.
 */
#ifndef RETHREAD_BENCH_TABLE_H
#define RETHREAD_BENCH_TABLE_H

#include "bench/hist.h"
#include "bench/protocol.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum { TABLE_PAUSE = 1024 /* operations between two quiescent states */ };

struct table;

struct table_kind {
    const char *name;
    struct table *(*create)(uint32_t count); /* NULL: no memory */
    void (*destroy)(struct table *table);
    /* Each takes keys in the order given; false when an answer was wrong. */
    bool (*insert)(struct table *table, const uint32_t *keys, uint32_t count);
    bool (*insert_timed)(struct table *table, const uint32_t *keys, uint32_t count,
                         struct hist *hist_ns); /* each on the caller's CPU clock; or NULL */
    bool (*find)(struct table *table, const uint32_t *keys, uint32_t count);
    bool (*find_batched)(struct table *table, const uint32_t *keys, uint32_t count); /* or NULL */
    bool (*remove)(struct table *table, const uint32_t *keys, uint32_t count);
};

struct table_key {
    uint64_t word[2];
};

static inline struct table_key table_key_of(uint32_t number)
{
    return (struct table_key){{protocol_mix(number + UINT64_C(1)), number}};
}

static inline bool table_key_equal(const struct table_key *a, const struct table_key *b)
{
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1])) == 0;
}

static inline uint64_t table_cpu_ns(void)
{
    struct timespec used;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

extern const struct table_kind table_rethread;
extern const struct table_kind *const table_peer; /* NULL: not built in */
extern const char table_peer_missing[];           /* what to say then */

#endif
