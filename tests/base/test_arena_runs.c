/* The arena's range: long and odd runs, claims that meet, and memory that goes back. */
#include "base/arena_private.h"
#include "tests/lib/arena_look.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

/* Bits set in the bitmap: chunks that somebody holds, the first included. */
static uint64_t chunks_held(const struct arena *arena)
{
    uint64_t held = 0;
    for (uint32_t i = 0; i < arena->words; i++) {
        held += (uint64_t)__builtin_popcountll(atomic_load(&arena->bitmap[i]));
    }
    return held;
}

START_TEST(range_follows_the_budget)
{
    static const struct {
        uint64_t budget, range;
    } cases[] = {
        {0, 1024 * MIB},          {16 * MIB, 1024 * MIB},    {256 * MIB + 1, 1025 * MIB},
        {1024 * MIB, 4096 * MIB}, {UINT64_MAX, 65536 * MIB},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct arena *arena = arena_create(cases[i].budget, 1);
        ck_assert_ptr_nonnull(arena);
        ck_assert_uint_eq(arena->range_bytes, cases[i].range);
        ck_assert_uint_eq(arena_resident_bytes(arena), 0);
        struct arena_cache *cache = arena_cache_open(arena);
        void *object = arena_alloc(cache, 100, ARENA_ORDINARY);
        ck_assert((object != NULL) == (cases[i].budget > 0));
        arena_free(cache, object);
        arena_cache_close(cache);
        arena_destroy(arena);
    }
}
END_TEST

START_TEST(long_runs_hold_their_bytes)
{
    static const uint64_t sizes[] = {
        32769,   49152,       49153,    100000,         MIB - 16384,
        MIB - 1, MIB,         MIB + 1,  MIB + 16385,    3 * MIB / 2,
        2 * MIB, 5 * MIB + 7, 64 * MIB, 63 * MIB + 123, 65 * MIB,
    };
    enum { COUNT = sizeof sizes / sizeof *sizes };
    uint8_t *runs[COUNT];
    struct arena *arena = arena_create(512 * MIB, 2);
    struct arena_cache *cache = arena_cache_open(arena), *other = arena_cache_open(arena);
    for (unsigned round = 0; round < 2; round++) {
        uint64_t sum = 0;
        for (unsigned i = 0; i < COUNT; i++) {
            runs[i] = arena_alloc(i % 2 ? cache : other, sizes[i], ARENA_ORDINARY);
            ck_assert_ptr_nonnull(runs[i]);
            size_t took = arena_size(arena, runs[i]);
            ck_assert(took >= sizes[i] && took - sizes[i] < 16384);
            sum += took;
            memset(runs[i], (int)i + 1, sizes[i]);
        }
        ck_assert_uint_eq(arena_committed_bytes(arena), sum);
        ck_assert_uint_eq(arena_live_bytes(arena), sum);
        ck_assert_uint_le(arena_resident_bytes(arena), sum);
        for (unsigned i = 0; i < COUNT; i++) {
            for (uint64_t at = 0; at < sizes[i]; at += 4093) {
                ck_assert_uint_eq(runs[i][at], i + 1);
            }
            ck_assert_uint_eq(runs[i][sizes[i] - 1], i + 1);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            arena_free(cache, runs[i]);
            sum -= (sizes[i] + 16383) / 16384 * 16384;
            ck_assert_uint_eq(arena_committed_bytes(arena), sum);
        }
        arena_stock_trim(arena, UINT64_MAX);
        ck_assert_uint_eq(arena_resident_bytes(arena), 0);
        ck_assert_uint_eq(chunks_held(arena), 1);
    }
    arena_cache_close(cache);
    arena_cache_close(other);
    arena_destroy(arena);
}
END_TEST

START_TEST(memory_goes_back_to_the_system)
{
    enum { COUNT = 100000 };
    static uint8_t *objects[COUNT];
    struct arena *arena = arena_create(256 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint64_t seed = 3;
    for (unsigned round = 0; round < 2; round++) {
        unsigned count = 0;
        for (; count < COUNT; count++) {
            size_t size = 1 + trial_below(&seed, 3000);
            objects[count] = arena_alloc(cache, size, ARENA_ORDINARY);
            ck_assert_ptr_nonnull(objects[count]);
            memset(objects[count], 1, size);
        }
        /* Committed is what is resident, but for spans just begun. */
        size_t resident = arena_resident_bytes(arena);
        ck_assert_uint_le(resident, arena_committed_bytes(arena));
        ck_assert_uint_ge(resident + 64 * 65536, arena_committed_bytes(arena));
        for (unsigned i = 0; i < count; i++) {
            arena_free(cache, objects[i]);
        }
        ck_assert_uint_le(arena_committed_bytes(arena), 256 * MIB / 32);
        ck_assert_uint_le(arena_resident_bytes(arena),
                          arena_committed_bytes(arena) + arena_stock_bytes(arena));
        arena_stock_trim(arena, UINT64_MAX);
        ck_assert_uint_le(arena_resident_bytes(arena), arena_committed_bytes(arena));
    }
    arena_cache_close(cache);
    arena_stock_trim(arena, UINT64_MAX);
    ck_assert_uint_eq(arena_resident_bytes(arena), 0);
    ck_assert_uint_eq(chunks_held(arena), 1);
    arena_destroy(arena);
}
END_TEST

/* Long runs must find the gaps between what stands in their way, up to the last one. */
START_TEST(full_range_refuses_and_recovers)
{
    enum { RUNS = 1024 };
    static void *runs[RUNS];
    struct arena *arena = arena_create(16 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    unsigned count = 0;
    while (count < RUNS && (runs[count] = arena_alloc(cache, MIB, ARENA_STRUCTURAL)) != NULL) {
        count++;
    }
    /* All of the range but the first word, whose first chunk is never given out. */
    ck_assert_uint_eq(count, 1023);
    ck_assert_uint_eq(arena_committed_bytes(arena), 1023 * MIB);
    void *rest = arena_alloc(cache, MIB - 16384, ARENA_STRUCTURAL);
    ck_assert_ptr_nonnull(rest);
    ck_assert_ptr_null(arena_alloc(cache, 40000, ARENA_STRUCTURAL));
    ck_assert_ptr_null(arena_alloc(cache, 16, ARENA_STRUCTURAL));
    ck_assert_ptr_null(arena_alloc(cache, 2 * MIB, ARENA_STRUCTURAL));
    ck_assert_ptr_null(arena_alloc(cache, 2048 * MIB, ARENA_STRUCTURAL));
    ck_assert_ptr_null(arena_alloc(cache, SIZE_MAX, ARENA_STRUCTURAL));
    ck_assert_uint_eq(arena_committed_bytes(arena), 1024 * MIB - 16384);

    /* Every second one goes: no place for two words, until two neighbours are free. */
    for (unsigned i = 0; i < count; i += 2) {
        arena_free(cache, runs[i]);
        runs[i] = NULL;
    }
    ck_assert_ptr_null(arena_alloc(cache, MIB + 1, ARENA_STRUCTURAL));
    ck_assert_ptr_null(arena_alloc(cache, 2 * MIB, ARENA_STRUCTURAL));
    uint64_t held = chunks_held(arena);
    for (unsigned at = 1; at < count; at += 170) {
        unsigned odd = at | 1;
        uint8_t *before = (uint8_t *)runs[odd] - MIB;
        arena_free(cache, runs[odd]);
        uint8_t *wide = arena_alloc(cache, 2 * MIB + 16384, ARENA_STRUCTURAL);
        ck_assert(wide == before);
        arena_free(cache, wide);
        runs[odd] = arena_alloc(cache, MIB, ARENA_STRUCTURAL);
        ck_assert_ptr_nonnull(runs[odd]);
        ck_assert_uint_eq(chunks_held(arena), held);
        /* It may stand in another gap now: put the pattern right again. */
        arena_free(cache, runs[odd]);
        cache->word_narrow = (uint32_t)((size_t)(before + MIB - arena->base) / MIB);
        ck_assert_ptr_eq(arena_alloc(cache, MIB, ARENA_STRUCTURAL), before + MIB);
        runs[odd] = before + MIB;
    }
    for (unsigned i = 0; i < count; i++) {
        arena_free(cache, runs[i]);
    }
    arena_free(cache, rest);
    ck_assert_uint_eq(chunks_held(arena), 1);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* Traces must not reach core files: all of the range is marked so. */
START_TEST(range_stays_out_of_core_files)
{
    struct arena *arena = arena_create(MIB, 1);
    ck_assert_uint_eq(arena_flagged_bytes(arena, " dd"), arena->range_bytes);
    arena_destroy(arena);
}
END_TEST

enum { WORKERS = 4 };

struct claimers {
    struct arena *arena;
    uint64_t steps;
    _Atomic unsigned named;
    _Atomic unsigned broken;
};

/* Claims short and long runs in a narrow range, marks them, and looks whether the marks last. */
static void *claim_runs(void *context)
{
    enum { HELD = 6 };
    struct claimers *claimers = context;
    unsigned me = 1 + atomic_fetch_add(&claimers->named, 1);
    uint64_t seed = me;
    uint64_t *runs[HELD] = {0};
    struct arena_cache *cache = arena_cache_open(claimers->arena);
    for (uint64_t step = 0; step < claimers->steps; step++) {
        unsigned i = (unsigned)trial_below(&seed, HELD);
        if (runs[i] != NULL) {
            size_t words = runs[i][0];
            for (size_t at = 1; at < words; at += 2048) {
                if (runs[i][at] != (uintptr_t)runs[i] + me) {
                    atomic_fetch_add(&claimers->broken, 1);
                }
            }
            arena_free(cache, runs[i]);
            runs[i] = NULL;
            continue;
        }
        size_t size = 40000 + trial_below(&seed, 5 * MIB);
        size = trial_below(&seed, 2) ? size : 40000 + size % 300000;
        runs[i] = arena_alloc(cache, size, ARENA_STRUCTURAL);
        if (runs[i] == NULL) {
            atomic_fetch_add(&claimers->broken, 1);
            break;
        }
        runs[i][0] = size / 8;
        for (size_t at = 1; at < size / 8; at += 2048) {
            runs[i][at] = (uintptr_t)runs[i] + me;
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        arena_free(cache, runs[i]);
    }
    arena_cache_close(cache);
    return NULL;
}

START_TEST(racing_claims_do_not_overlap)
{
    struct claimers claimers = {.arena = arena_create(16 * MIB, WORKERS),
                                .steps = trial_count(20000)};
    /* All of them look in the same places, where there is just room for all. */
    for (unsigned i = 0; i < WORKERS; i++) {
        claimers.arena->caches[i].word_first = 0;
    }
    claimers.arena->words = 200;
    pthread_t workers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(pthread_create(&workers[i], NULL, claim_runs, &claimers), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    ck_assert_uint_eq(claimers.broken, 0);
    ck_assert_uint_eq(chunks_held(claimers.arena), 1);
    ck_assert_uint_eq(arena_committed_bytes(claimers.arena), 0);
    arena_destroy(claimers.arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/arena_runs");
    TCase *runs = tcase_create("runs");
    tcase_set_timeout(runs, suite_limit(60));
    tcase_add_test(runs, range_follows_the_budget);
    tcase_add_test(runs, long_runs_hold_their_bytes);
    tcase_add_test(runs, memory_goes_back_to_the_system);
    tcase_add_test(runs, full_range_refuses_and_recovers);
    tcase_add_test(runs, range_stays_out_of_core_files);
    tcase_add_test(runs, racing_claims_do_not_overlap);
    suite_add_tcase(suite, runs);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
