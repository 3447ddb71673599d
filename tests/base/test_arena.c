/* The arena's objects: classes, contents, counts, budget. */
#include "base/arena.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <stdbool.h>
#include <string.h>

#if defined(__SANITIZE_ADDRESS__)
#define HAS_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAS_ASAN 1
#endif
#endif
#ifdef HAS_ASAN
#include <sanitizer/asan_interface.h>
#endif

enum { MIB = 1 << 20 };

static void *must_alloc(struct arena_cache *cache, size_t size)
{
    void *object = arena_alloc(cache, size, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(object);
    return object;
}

START_TEST(classes_are_at_most_an_eighth_apart)
{
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint8_t *base = arena_base(arena);
    size_t last = 0;
    for (size_t size = 1; size <= 32768; size++) {
        void *object = must_alloc(cache, size);
        size_t took = arena_size(arena, object);
        ck_assert_uint_ge(took, size);
        ck_assert_uint_ge(took, last);
        ck_assert_msg(size <= 128 ? took < size + 16 : took * 8 <= size * 9, "%zu for %zu", took,
                      size);
        bool power = (size & (size - 1)) == 0 && size >= 16 && size <= 16384;
        ck_assert_uint_eq((uintptr_t)object % (power ? size : 16), 0);
        uint32_t ref = arena_ref(base, object);
        ck_assert_uint_ne(ref, 0);
        ck_assert_ptr_eq(arena_at(base, ref), object);
        ck_assert_uint_eq(arena_live_bytes(arena), took);
        memset(object, 0xa5, size);
        arena_free(cache, object);
        last = took;
    }
    arena_free(cache, NULL);
    ck_assert_uint_eq(arena_live_bytes(arena), 0);
    arena_cache_close(cache);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

START_TEST(objects_of_a_class_do_not_overlap)
{
    static const size_t sizes[] = {1,    16,   17,   100,   129,   1000,
                                   2050, 5000, 9000, 18000, 30000, 32768};
    enum { COUNT = 300 };
    static uint8_t *objects[COUNT];
    /* Of both shapes of span: short ones for small budgets, long ones for large budgets. */
    for (unsigned round = 0; round < 2; round++) {
        struct arena *arena = arena_create(round == 0 ? 32 * MIB : 1024 * (uint64_t)MIB, 1);
        struct arena_cache *cache = arena_cache_open(arena);
        for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
            for (unsigned i = 0; i < COUNT; i++) {
                objects[i] = must_alloc(cache, sizes[s]);
                trial_fill(objects[i], sizes[s], i);
            }
            for (unsigned i = 0; i < COUNT; i++) {
                ck_assert(trial_holds(objects[i], sizes[s], i));
                arena_free(cache, objects[i]);
            }
        }
        arena_cache_close(cache);
        ck_assert_uint_eq(arena_committed_bytes(arena), 0);
        arena_destroy(arena);
    }
}
END_TEST

START_TEST(budget_refuses_and_recovers)
{
    struct arena *arena = arena_create(2 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    static void *objects[4096];
    for (unsigned round = 0; round < 3; round++) {
        unsigned count = 0;
        while ((objects[count] = arena_alloc(cache, 1024, ARENA_ORDINARY)) != NULL) {
            ck_assert_uint_lt(++count, 4096);
        }
        ck_assert_uint_eq(count, 2048);
        ck_assert_uint_eq(arena_committed_bytes(arena), 2 * MIB);
        ck_assert_ptr_null(arena_alloc(cache, 1024, ARENA_ORDINARY));
        ck_assert_ptr_null(arena_alloc(cache, 100000, ARENA_ORDINARY));

        /* What the index needs it gets; ordinary memory stays refused until that is gone. */
        void *table = arena_alloc(cache, 1024, ARENA_STRUCTURAL);
        void *large = arena_alloc(cache, 100000, ARENA_STRUCTURAL);
        ck_assert(table != NULL && large != NULL);
        ck_assert_uint_gt(arena_committed_bytes(arena), 2 * MIB);
        ck_assert_ptr_null(arena_alloc(cache, 40000, ARENA_ORDINARY));
        arena_free(cache, table);
        arena_free(cache, large);

        for (unsigned i = 0; i < count; i++) {
            arena_free(cache, objects[i]);
        }
        ck_assert_uint_eq(arena_live_bytes(arena), 0);
        ck_assert_uint_le(arena_committed_bytes(arena), 2 * MIB / 32);
        /* The spare span that is left must not stand in the way of other classes, or of runs. */
        for (unsigned i = 0; i < 4096; i++) {
            objects[i] = must_alloc(cache, 512);
        }
        ck_assert_ptr_null(arena_alloc(cache, 512, ARENA_ORDINARY));
        for (unsigned i = 0; i < 4096; i++) {
            arena_free(cache, objects[i]);
        }
        void *whole = must_alloc(cache, 2 * MIB);
        arena_free(cache, whole);
    }
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

START_TEST(charges_count_against_the_budget)
{
    struct arena *arena = arena_create(MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    ck_assert_uint_eq(arena_budget_bytes(arena), MIB);
    arena_charge(arena, MIB - 16384);
    ck_assert_uint_eq(arena_committed_bytes(arena), MIB - 16384);
    ck_assert_uint_eq(arena_live_bytes(arena), MIB - 16384);
    void *object = must_alloc(cache, 16);
    ck_assert_ptr_null(arena_alloc(cache, 17, ARENA_ORDINARY));
    arena_charge(arena, 5 * MIB); /* who charges is not refused: it has the memory already */
    ck_assert_ptr_null(arena_alloc(cache, 17, ARENA_ORDINARY));
    arena_charge(arena, -5 * MIB - MIB + 16384);
    ck_assert_uint_eq(arena_live_bytes(arena), 16);
    ck_assert_uint_eq(arena_committed_bytes(arena), 16384);
    arena_free(cache, object);
    arena_cache_close(cache);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

/* Four caches share 16 MiB; sizes as of small records and payloads of all lengths. */
START_TEST(small_budget_is_usable)
{
    enum { CACHES = 4, COUNT = 40000 };
    static void *objects[COUNT];
    struct arena *arena = arena_create(16 * MIB, CACHES);
    struct arena_cache *caches[CACHES];
    uint64_t seed = 1;
    for (unsigned i = 0; i < CACHES; i++) {
        caches[i] = arena_cache_open(arena);
    }
    for (unsigned round = 0; round < 10; round++) {
        unsigned count = 0, refused = 0;
        while (refused < 50) {
            static const size_t sizes[] = {64, 112, 192, 48, 300, 700, 1500, 2900, 6000, 14000};
            struct arena_cache *cache = caches[trial_below(&seed, CACHES)];
            void *object = arena_alloc(cache, sizes[trial_below(&seed, 10)], ARENA_ORDINARY);
            if (object == NULL) {
                refused++;
            } else {
                objects[count++] = object;
                ck_assert_uint_lt(count, COUNT);
            }
        }
        ck_assert_uint_le(arena_committed_bytes(arena), 16 * MIB);
        ck_assert_msg(arena_live_bytes(arena) >= 16 * MIB / 10 * 9, "only %lu live",
                      (unsigned long)arena_live_bytes(arena));
        for (unsigned i = 0; i < count; i++) {
            arena_free(caches[trial_below(&seed, CACHES)], objects[i]);
        }
        for (unsigned i = 0; i < CACHES; i++) {
            arena_cache_drain(caches[i]);
        }
        ck_assert_uint_eq(arena_live_bytes(arena), 0);
        ck_assert_uint_le(arena_committed_bytes(arena), 16 * MIB / 32);
    }
    for (unsigned i = 0; i < CACHES; i++) {
        arena_cache_close(caches[i]);
    }
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

/* Random work through three caches against a shadow: no overlap, no lost byte, exact counts. */
START_TEST(random_work_matches_a_model)
{
    enum { CACHES = 3, SLOTS = 3000 };
    static struct {
        uint8_t *at;
        size_t size;
        uint64_t seed;
    } slots[SLOTS];
    struct arena *arena = arena_create(48 * MIB, CACHES);
    struct arena_cache *caches[CACHES];
    uint64_t seed = 42, live = 0;
    for (unsigned i = 0; i < CACHES; i++) {
        caches[i] = arena_cache_open(arena);
    }
    for (uint64_t step = trial_count(400000); step > 0; step--) {
        unsigned s = (unsigned)trial_below(&seed, SLOTS), c = (unsigned)trial_below(&seed, CACHES);
        if (slots[s].at != NULL) {
            ck_assert(trial_holds(slots[s].at, slots[s].size, slots[s].seed));
            live -= arena_size(arena, slots[s].at);
            arena_free(caches[c], slots[s].at);
            slots[s].at = NULL;
        } else {
            unsigned log = 3 + (unsigned)trial_below(&seed, 8);
            size_t limit = trial_below(&seed, 100) == 0 ? 200000 : (size_t)16 << log / 2 * 2;
            slots[s].size = 1 + trial_below(&seed, limit);
            slots[s].seed = trial_random(&seed);
            slots[s].at = arena_alloc(caches[c], slots[s].size, ARENA_ORDINARY);
            if (slots[s].at != NULL) {
                trial_fill(slots[s].at, slots[s].size, slots[s].seed);
                live += arena_size(arena, slots[s].at);
            }
        }
        if (step % 5000 == 0) {
            arena_cache_close(caches[c]);
            caches[c] = arena_cache_open(arena);
            ck_assert_uint_eq(arena_live_bytes(arena), live);
            ck_assert_uint_ge(arena_committed_bytes(arena), live);
            ck_assert_uint_le(arena_committed_bytes(arena), 48 * MIB);
        }
    }
    for (unsigned s = 0; s < SLOTS; s++) {
        arena_free(caches[0], slots[s].at);
        slots[s].at = NULL;
    }
    for (unsigned i = 0; i < CACHES; i++) {
        arena_cache_close(caches[CACHES - 1 - i]);
    }
    arena_cache_close(arena_cache_open(arena));
    ck_assert_uint_eq(arena_live_bytes(arena), 0);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

#ifdef HAS_ASAN
START_TEST(free_memory_is_poisoned)
{
    static const size_t sizes[] = {1, 16, 50, 128, 1000, 30000, 100000};
    struct arena *arena = arena_create(64 * MIB, 2);
    struct arena_cache *cache = arena_cache_open(arena), *other = arena_cache_open(arena);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        for (unsigned by = 0; by < 2; by++) {
            uint8_t *object = must_alloc(cache, sizes[s]);
            ck_assert_ptr_null(__asan_region_is_poisoned(object, sizes[s]));
            ck_assert(sizes[s] % 16 == 0 || __asan_address_is_poisoned(object + sizes[s]));
            arena_free(by == 0 ? cache : other, object);
            ck_assert(__asan_address_is_poisoned(object));
            ck_assert(__asan_address_is_poisoned(object + sizes[s] - 1));
            arena_cache_drain(cache);
            ck_assert(__asan_address_is_poisoned(object));
        }
    }
    /* A freed object rests while there are others: an early reuse would hide a late reader. */
    uint8_t *kept = must_alloc(cache, 64), *first = must_alloc(cache, 64);
    arena_free(cache, first);
    ck_assert_ptr_ne(must_alloc(cache, 64), first);
    ck_assert(__asan_address_is_poisoned(first));
    arena_free(cache, kept);
    arena_cache_close(cache);
    arena_cache_close(other);
    arena_destroy(arena);
}
END_TEST
#endif

int main(void)
{
    Suite *suite = suite_create("base/arena");
    TCase *objects = tcase_create("objects");
    tcase_add_test(objects, classes_are_at_most_an_eighth_apart);
    tcase_add_test(objects, objects_of_a_class_do_not_overlap);
    tcase_add_test(objects, random_work_matches_a_model);
    tcase_set_timeout(objects, suite_limit(60));
    suite_add_tcase(suite, objects);
    TCase *budget = tcase_create("budget");
    tcase_add_test(budget, budget_refuses_and_recovers);
    tcase_add_test(budget, charges_count_against_the_budget);
    tcase_add_test(budget, small_budget_is_usable);
    suite_add_tcase(suite, budget);
#ifdef HAS_ASAN
    TCase *poison = tcase_create("poison");
    tcase_add_test(poison, free_memory_is_poisoned);
    suite_add_tcase(suite, poison);
#endif
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
