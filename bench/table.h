/*
 * A hash table as workload `index` drives it: keys 0 to count - 1, each 16 bytes once mixed. Every
 * table hashes a key by the same function, inside what is measured. All records are allocated
 * before the first insert: `count` of them, and `spares` more that MIXED puts in place of what it
 * removes, so that no table reuses memory while it is measured.
 */
#ifndef RETHREAD_BENCH_TABLE_H
#define RETHREAD_BENCH_TABLE_H

#include "bench/hist.h"

#include "index/index.h"

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

enum {
    TABLE_PAUSE = 1024, /* operations between two quiescent states */
    TABLE_BATCH = 16,
    TABLE_MIX = 20,      /* operations of which one removes, and one puts back */
    TABLE_LOOPS_MAX = 2, /* operating-system threads on one table at once */
    TABLE_SUSPECT_NS = 10000,
};

enum table_op {
    TABLE_INSERT,
    TABLE_INSERT_TIMED,
    TABLE_FIND,
    TABLE_FIND_BATCHED,
    TABLE_MIXED,
    TABLE_REMOVE, /* finds, then removes what it found */
    TABLE_OPS
};

/* What one operating-system thread does; keys of two that run at once are disjoint. */
struct table_job {
    const uint32_t *keys; /* in this order, each once */
    uint32_t count;
    uint32_t spare;       /* MIXED: the first of count / TABLE_MIX spares that are its own */
    struct hist *hist_ns; /* INSERT_TIMED: each insert on the caller's CPU clock */
    /*
     * INSERT_TIMED: of each key the least that its insert took in any load so far, UINT32_MAX at
     * first. `again`: only those that took more than TABLE_SUSPECT_NS are timed, and not for
     * hist_ns.
     */
    uint32_t *least_ns;
    bool again;
};

struct table;

typedef bool table_run_fn(struct table *table, const struct table_job *job);

struct table_kind {
    const char *name;
    struct table *(*create)(uint32_t count, uint32_t spares); /* NULL: no memory */
    void (*destroy)(struct table *table);
    table_run_fn *run[TABLE_OPS]; /* false: a wrong answer; NULL: the table cannot do this */
};

struct table_key {
    uint64_t word[2];
};

static inline struct table_key table_key_of(uint32_t number)
{
    uint64_t mixed = (number + UINT64_C(1)) * UINT64_C(0x9e3779b97f4a7c15);
    mixed = (mixed ^ mixed >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return (struct table_key){{mixed ^ mixed >> 31, number}};
}

static inline bool table_key_equal(const struct table_key *a, const struct table_key *b)
{
    return ((a->word[0] ^ b->word[0]) | (a->word[1] ^ b->word[1])) == 0;
}

/* Of all tables of this process, so that filling one again splits and grows it at the same keys. */
extern uint8_t table_secret[INDEX_SECRET_BYTES];

/* The hash that each table uses, of `secret`: its own copy of table_secret. */
static inline struct index_hash table_hash(const uint8_t *secret, const struct table_key *key)
{
    return index_hash_with(secret, 0, 0, bytes_of(key, sizeof *key));
}

static inline uint64_t table_cpu_ns(clockid_t clock)
{
    struct timespec used;
    clock_gettime(clock, &used);
    return (uint64_t)used.tv_sec * 1000000000u + (uint64_t)used.tv_nsec;
}

extern const struct table_kind table_rethread;
/* Not built in: name NULL, and `missing` says what to install. */
extern const struct table_kind table_lfht;
extern const char table_lfht_missing[];
extern const struct table_kind table_ck_ht;
extern const char table_ck_ht_missing[];

#endif
