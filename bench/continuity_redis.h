/*
 * What Redis would keep of conversations in the same memory: `maxmemory`, `volatile-lru`, 24 h on
 * every key, one list for each thread.
 *
 * The conversations take hours, and Redis has no clock that could be driven: played at once, all of
 * its keys would be of the same age to its LRU clock of whole seconds, so that it would evict
 * almost at random. So a real redis-server says how many bytes each list takes after each append
 * (MEMORY USAGE), and how many it takes when empty; what is evicted is then reckoned by an exact
 * LRU on the conversations' own time. That is kinder to Redis than its sampling of five keys, and
 * leaves out its tables of keys and of deadlines.
 */
#ifndef RETHREAD_BENCH_CONTINUITY_REDIS_H
#define RETHREAD_BENCH_CONTINUITY_REDIS_H

#include "bench/continuity_play.h"
#include "bench/server.h"

#include <stdbool.h>
#include <stdint.h>

struct continuity_redis {
    const struct trace *trace;
    uint64_t empty_bytes;   /* of a server without keys */
    uint64_t *bytes_behind; /* for each turn: of its thread's list after it */
};

/* Asks a Redis that has nothing yet. False, after a message on stderr. */
bool continuity_redis_measure(struct continuity_redis *redis, const struct trace *trace,
                              const struct server *server);
void continuity_redis_free(struct continuity_redis *redis);

/* False: no memory. */
bool continuity_redis_play(const struct continuity_redis *redis, uint64_t memory_bytes,
                           uint64_t ttl_ms, struct continuity_counts *counts);

#endif
