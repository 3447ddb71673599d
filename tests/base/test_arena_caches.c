/* The arena's caches: frees that travel home, and caches that close while others free. */
#include "base/arena.h"
#include "base/clock.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

enum { MIB = 1 << 20 };

static void *must_alloc(struct arena_cache *cache, size_t size)
{
    void *object = arena_alloc(cache, size, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(object);
    return object;
}

START_TEST(caches_are_limited_and_reused)
{
    struct arena *arena = arena_create(MIB, 2);
    struct arena_cache *one = arena_cache_open(arena), *two = arena_cache_open(arena);
    ck_assert(one != NULL && two != NULL && one != two);
    ck_assert_ptr_null(arena_cache_open(arena));
    arena_cache_close(one);
    one = arena_cache_open(arena);
    ck_assert_ptr_nonnull(one);
    arena_cache_close(one);
    arena_cache_close(two);
    arena_destroy(arena);
}
END_TEST

START_TEST(frees_of_others_come_home)
{
    enum { COUNT = 1000 };
    static void *objects[COUNT];
    struct arena *arena = arena_create(4 * MIB, 2);
    struct arena_cache *owner = arena_cache_open(arena), *other = arena_cache_open(arena);
    for (unsigned i = 0; i < COUNT; i++) {
        objects[i] = must_alloc(owner, 500);
    }
    uint64_t committed = arena_committed_bytes(arena);
    for (unsigned i = 0; i < COUNT; i++) {
        arena_free(other, objects[i]);
    }
    ck_assert_uint_eq(arena_live_bytes(arena), 0);
    ck_assert_uint_eq(arena_committed_bytes(arena), committed);
    /* A resting owner takes them in when asked to. */
    arena_cache_drain(owner);
    ck_assert_uint_le(arena_committed_bytes(arena), 4 * MIB / 32);

    /* A busy one does so by itself, a few at a time. */
    for (unsigned i = 0; i < COUNT; i++) {
        objects[i] = must_alloc(owner, 500);
    }
    for (unsigned i = 0; i < COUNT; i++) {
        arena_free(other, objects[i]);
    }
    for (unsigned i = 0; i < COUNT / 16 + 2; i++) {
        arena_free(owner, must_alloc(owner, 20));
    }
    ck_assert_uint_le(arena_committed_bytes(arena), 4 * MIB / 32 + 16384);
    arena_cache_close(other);
    arena_cache_close(owner);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

START_TEST(spans_of_closed_caches_pass_on)
{
    enum { COUNT = 1000 };
    static uint8_t *objects[COUNT];
    struct arena *arena = arena_create(4 * MIB, 2);
    struct arena_cache *owner = arena_cache_open(arena), *other = arena_cache_open(arena);
    for (unsigned i = 0; i < COUNT; i++) {
        objects[i] = must_alloc(owner, 500);
        trial_fill(objects[i], 500, i);
    }
    arena_free(other, objects[0]); /* still in the inbox when its owner goes */
    arena_cache_close(owner);
    for (unsigned i = 2; i < COUNT; i += 2) {
        ck_assert(trial_holds(objects[i], 500, i));
        arena_free(other, objects[i]); /* nobody owns them now */
    }
    arena_cache_drain(other);
    uint64_t committed = arena_committed_bytes(arena);
    for (unsigned i = 0; i < COUNT; i += 2) {
        objects[i] = must_alloc(other, 500); /* room that was left behind is used again */
    }
    ck_assert_uint_eq(arena_committed_bytes(arena), committed);

    /* The same slot again, and everything goes when nobody is there to take it but the last. */
    owner = arena_cache_open(arena);
    arena_cache_close(other);
    arena_cache_close(owner);
    other = arena_cache_open(arena);
    for (unsigned i = 1; i < COUNT; i += 2) {
        ck_assert(trial_holds(objects[i], 500, i));
        arena_free(other, objects[i]);
    }
    ck_assert_uint_eq(arena_live_bytes(arena), COUNT / 2 * 512);
    arena_cache_close(other);
    ck_assert_uint_gt(arena_committed_bytes(arena), 0);
    arena_destroy(arena); /* frees what was never freed */
}
END_TEST

/* What the operating-system threads below share: places that objects are swapped into. */
enum { PLACES = 512, WORKERS = 4 };

struct exchange_floor {
    struct arena *arena;
    _Atomic uint32_t places[PLACES]; /* references; exchanged (acq_rel), so each has one taker */
    unsigned close_every;
    uint64_t steps;
    unsigned kinds;
    _Atomic unsigned workers_named;
    _Atomic unsigned broken;
};

struct parcel {
    uint32_t size;
    uint32_t seed;
    uint8_t body[];
};

static void parcel_free(struct exchange_floor *floor, struct arena_cache *cache, uint32_t ref)
{
    if (ref == 0) {
        return;
    }
    struct parcel *parcel = arena_at(arena_base(floor->arena), ref);
    if (!trial_holds(parcel->body, parcel->size - sizeof *parcel, parcel->seed)) {
        atomic_fetch_add(&floor->broken, 1);
    }
    arena_free(cache, parcel);
}

static void *work(void *context)
{
    static const uint32_t sizes[] = {64, 1000, 24, 3000, 128, 18000, 300, 50000};
    struct exchange_floor *floor = context;
    uint64_t seed = 1000 + atomic_fetch_add(&floor->workers_named, 1);
    struct arena_cache *cache = arena_cache_open(floor->arena);
    for (uint64_t step = 1; step <= floor->steps; step++) {
        uint32_t size = sizes[trial_below(&seed, floor->kinds)];
        struct parcel *parcel = arena_alloc(cache, size, ARENA_ORDINARY);
        uint32_t ref = 0;
        if (parcel != NULL) {
            parcel->size = size;
            parcel->seed = (uint32_t)trial_random(&seed);
            trial_fill(parcel->body, size - sizeof *parcel, parcel->seed);
            ref = arena_ref(arena_base(floor->arena), parcel);
        }
        parcel_free(floor, cache,
                    atomic_exchange_explicit(&floor->places[trial_below(&seed, PLACES)], ref,
                                             memory_order_acq_rel));
        if (step % floor->close_every == 0) {
            arena_cache_close(cache);
            cache = arena_cache_open(floor->arena);
        }
    }
    arena_cache_close(cache);
    return NULL;
}

static void trade(uint64_t steps, unsigned close_every, unsigned kinds)
{
    struct exchange_floor floor = {.arena = arena_create(16 * MIB, WORKERS),
                                   .close_every = close_every,
                                   .steps = steps,
                                   .kinds = kinds};
    pthread_t workers[WORKERS];
    for (unsigned i = 0; i < WORKERS; i++) {
        ck_assert_int_eq(pthread_create(&workers[i], NULL, work, &floor), 0);
    }
    for (unsigned i = 0; i < WORKERS; i++) {
        pthread_join(workers[i], NULL);
    }
    struct arena_cache *cache = arena_cache_open(floor.arena);
    for (unsigned i = 0; i < PLACES; i++) {
        parcel_free(&floor, cache, floor.places[i]);
    }
    arena_cache_close(cache);
    ck_assert_uint_eq(floor.broken, 0);
    ck_assert_uint_eq(arena_live_bytes(floor.arena), 0);
    /* A free that got lost would keep its span for ever. */
    ck_assert_uint_eq(arena_committed_bytes(floor.arena), 0);
    arena_destroy(floor.arena);
}

START_TEST(caches_trade_objects)
{
    trade(trial_count(60000), 20000, 8);
}
END_TEST

START_TEST(caches_close_while_others_free)
{
    trade(trial_count(200000), 7, 2);
}
END_TEST

/*
 * One cache closes while the other frees its last objects. The budget is too small for spares, so
 * whatever is still committed when both are done was lost on the way.
 */
enum { HANDED = 8, ROUNDS_LEAST = 100, ROUNDS_MS = 10000 };

struct handover {
    struct arena *arena;
    _Atomic bool over;
    _Atomic uint64_t turn; /* even: the closer's, odd: the freer has seen it close */
    _Atomic uint32_t handed[HANDED];
};

static void *hand_and_close(void *context)
{
    struct handover *handover = context;
    uint64_t seed = 5;
    for (uint64_t round = 0;; round++) {
        while (atomic_load(&handover->turn) != 2 * round) {
            sched_yield();
        }
        if (atomic_load(&handover->over)) {
            break;
        }
        struct arena_cache *cache = arena_cache_open(handover->arena);
        for (unsigned i = 0; i < HANDED; i++) {
            void *object = arena_alloc(cache, 100, ARENA_ORDINARY);
            /* The last one when the freer is awake, so that the two really meet. */
            for (unsigned spins = 0; i == HANDED - 1 && atomic_load(&handover->handed[i - 1]) != 0;
                 spins++) {
                if (spins > 500) {
                    sched_yield();
                }
            }
            atomic_store(&handover->handed[i], arena_ref(arena_base(handover->arena), object));
        }
        for (volatile uint64_t pause = trial_below(&seed, 120); pause > 0; pause--) {
        }
        arena_cache_close(cache);
        atomic_store(&handover->turn, 2 * round + 1);
    }
    return NULL;
}

START_TEST(no_free_is_lost_to_a_closing_cache)
{
    struct handover handover = {.arena = arena_create(MIB / 2, 2)};
    uint64_t rounds = trial_count(100000), ends_ms = clock_read_ms(clock_monotonic()) + ROUNDS_MS;
    struct arena_cache *cache = arena_cache_open(handover.arena);
    pthread_t closer;
    ck_assert_int_eq(pthread_create(&closer, NULL, hand_and_close, &handover), 0);
    /* Each hands over to the other so often that beside other programs it may take for ever. */
    for (uint64_t round = 0; !atomic_load(&handover.over); round++) {
        for (unsigned i = 0; i < HANDED; i++) {
            uint32_t ref;
            while ((ref = atomic_exchange(&handover.handed[i], 0)) == 0) {
                sched_yield();
            }
            arena_free(cache, arena_at(arena_base(handover.arena), ref));
        }
        while (atomic_load(&handover.turn) != 2 * round + 1) {
            sched_yield();
        }
        arena_cache_drain(cache);
        ck_assert_uint_eq(arena_live_bytes(handover.arena), 0);
        ck_assert_uint_eq(arena_committed_bytes(handover.arena), 0);
        bool late = round >= ROUNDS_LEAST && clock_read_ms(clock_monotonic()) > ends_ms;
        atomic_store(&handover.over, late || round + 1 >= rounds);
        atomic_store(&handover.turn, 2 * round + 2);
    }
    pthread_join(closer, NULL);
    arena_cache_close(cache);
    arena_destroy(handover.arena);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/arena_caches");
    TCase *caches = tcase_create("caches");
    tcase_add_test(caches, caches_are_limited_and_reused);
    tcase_add_test(caches, frees_of_others_come_home);
    tcase_add_test(caches, spans_of_closed_caches_pass_on);
    tcase_add_test(caches, caches_trade_objects);
    tcase_add_test(caches, caches_close_while_others_free);
    tcase_add_test(caches, no_free_is_lost_to_a_closing_cache);
    tcase_set_timeout(caches, suite_limit(60));
    suite_add_tcase(suite, caches);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
