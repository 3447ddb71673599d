/* Workers that allocate and free in one arena, all in the same places, beside one who disturbs
 * them. Header only. */
#ifndef RETHREAD_TESTS_LIB_ARENA_RACE_H
#define RETHREAD_TESTS_LIB_ARENA_RACE_H

#include "base/arena_private.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>

enum { ARENA_RACE_WORKERS = 3, ARENA_RACE_HELD = 24 };

struct arena_race {
    struct arena *arena;
    uint64_t visits; /* of each worker: caches opened and closed */
    uint64_t steps;  /* of a visit */
    uint32_t places; /* if any: a step may begin to look at any word below it */
    _Atomic unsigned named;
    _Atomic unsigned working;
    _Atomic unsigned broken;
};

/* Opens a cache, allocates, looks whether all is still its own, frees, closes. */
static inline void arena_race_visit(struct arena_race *race, uint64_t *seed, unsigned me)
{
    uint64_t *held[ARENA_RACE_HELD] = {0};
    struct arena_cache *cache = arena_cache_open(race->arena);
    for (uint64_t step = 0; step < race->steps; step++) {
        unsigned i = (unsigned)trial_below(seed, ARENA_RACE_HELD);
        if (held[i] != NULL) {
            for (size_t at = 1; at < held[i][0]; at += 500) {
                if (held[i][at] != (uintptr_t)held[i] + me) {
                    atomic_fetch_add(&race->broken, 1);
                }
            }
            arena_free(cache, held[i]);
            held[i] = NULL;
            continue;
        }
        if (race->places > 0 && trial_below(seed, 8) == 0) {
            cache->word_narrow = (uint32_t)trial_below(seed, race->places);
        }
        size_t most = trial_below(seed, 4) == 0 ? 2 << 20 : 200000;
        size_t size = 64 + trial_below(seed, most);
        held[i] = arena_alloc(cache, size, ARENA_ORDINARY);
        if (held[i] == NULL) {
            continue; /* the room is small on purpose */
        }
        held[i][0] = size / 8;
        for (size_t at = 1; at < size / 8; at += 500) {
            held[i][at] = (uintptr_t)held[i] + me;
        }
    }
    for (unsigned i = 0; i < ARENA_RACE_HELD; i++) {
        arena_free(cache, held[i]);
    }
    arena_cache_close(cache);
}

static inline void *arena_race_work(void *context)
{
    struct arena_race *race = context;
    unsigned me = 1 + atomic_fetch_add(&race->named, 1);
    uint64_t seed = me;
    for (uint64_t visit = 0; visit < race->visits; visit++) {
        arena_race_visit(race, &seed, me);
    }
    atomic_fetch_sub(&race->working, 1);
    return NULL;
}

/* `disturb` gets the race, and goes on while anybody is `working`. */
static inline void arena_race_run(struct arena_race *race, void *(*disturb)(void *))
{
    pthread_t workers[ARENA_RACE_WORKERS], other;
    race->working = ARENA_RACE_WORKERS;
    for (unsigned i = 0; i < ARENA_RACE_WORKERS; i++) { /* all look in the same places */
        race->arena->caches[i].word_first = 0;
    }
    for (unsigned i = 0; i < ARENA_RACE_WORKERS; i++) {
        ck_assert_int_eq(pthread_create(&workers[i], NULL, arena_race_work, race), 0);
    }
    ck_assert_int_eq(pthread_create(&other, NULL, disturb, race), 0);
    for (unsigned i = 0; i < ARENA_RACE_WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    pthread_join(other, NULL);
    ck_assert_uint_eq(race->broken, 0);
    ck_assert_uint_eq(arena_committed_bytes(race->arena), 0);
}

#endif
