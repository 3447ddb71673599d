/* The arena's stock: pages that stay, pages that go, and what is counted. */
#include "base/arena_private.h"
#include "tests/lib/arena_look.h"
#include "tests/lib/arena_race.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <string.h>

#define MIB ((uint64_t)1 << 20)

static uint8_t *must_alloc(struct arena_cache *cache, size_t size_bytes)
{
    uint8_t *object = arena_alloc(cache, size_bytes, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(object);
    memset(object, 0x5a, size_bytes);
    return object;
}

START_TEST(freed_pages_serve_what_comes_next)
{
    enum { RUNS = 20, RUN = 6 * CHUNK_BYTES };
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint8_t *runs[RUNS];
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = must_alloc(cache, RUN);
    }
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    for (unsigned i = 0; i < RUNS; i++) {
        arena_free(cache, runs[i]);
        ck_assert_uint_eq(arena_stock_bytes(arena), (i + 1) * RUN);
        ck_assert_uint_eq(arena_committed_bytes(arena), (RUNS - i - 1) * RUN);
        arena_look_through(arena);
    }
    uint64_t resident = arena_resident_bytes(arena);
    ck_assert_uint_eq(resident, RUNS * RUN);
    /* Of one chunk more: each takes parts of two, or some of one and something new. */
    for (unsigned i = 0; i < RUNS; i++) {
        runs[i] = must_alloc(cache, RUN + CHUNK_BYTES);
        arena_look_through(arena);
        ck_assert_uint_eq(arena_resident_bytes(arena),
                          arena_committed_bytes(arena) + arena_stock_bytes(arena));
    }
    ck_assert_uint_lt(arena_resident_bytes(arena), resident + RUNS * RUN / 2);
    for (unsigned i = 0; i < RUNS; i++) {
        arena_free(cache, runs[i]);
    }
    uint64_t stock = arena_stock_bytes(arena);
    ck_assert_uint_ge(stock, RUNS * (RUN + CHUNK_BYTES));
    arena_stock_trim(arena, 1);
    ck_assert_uint_eq(arena_stock_bytes(arena), stock - CHUNK_BYTES);
    arena_stock_trim(arena, UINT64_MAX);
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    ck_assert_uint_eq(arena_resident_bytes(arena), 0);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* Of a span that was begun only the pages that are there go into stock. */
START_TEST(what_was_never_touched_is_not_in_stock)
{
    struct arena *arena = arena_create(1024 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    cache->arena->spare_bytes_max = 0;
    void *object = must_alloc(cache, 9000);
    uint64_t span = arena_committed_bytes(arena);
    uint64_t resident = arena_resident_bytes(arena);
    ck_assert_uint_lt(resident, span);
    arena_free(cache, object);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    ck_assert_uint_eq(arena_stock_bytes(arena), resident);
    arena_look_through(arena);
    /* The next one has these at its start, and what lies behind comes as it is needed. */
    object = must_alloc(cache, 9000);
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    ck_assert_uint_eq(arena_resident_bytes(arena), resident);
    arena_free(cache, object);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

START_TEST(stock_never_costs_what_the_budget_has)
{
    enum { RUN = 5 * CHUNK_BYTES };
    struct arena *arena = arena_create(16 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint8_t *runs[16 * MIB / RUN];
    unsigned count = 0;
    for (; (count + 1) * RUN <= 16 * MIB; count++) {
        runs[count] = must_alloc(cache, RUN);
    }
    ck_assert_ptr_null(arena_alloc(cache, RUN, ARENA_ORDINARY));
    uint64_t rest = 16 * MIB - (uint64_t)count * RUN;
    for (unsigned i = 0; i < 20; i++) {
        arena_free(cache, runs[i]);
    }
    ck_assert_uint_eq(arena_stock_bytes(arena), 20 * RUN);
    /* One object as large as all of them finds no place where they were. */
    uint8_t *large = must_alloc(cache, 20 * RUN);
    arena_look_through(arena);
    ck_assert_uint_le(arena_committed_bytes(arena) + arena_stock_bytes(arena), 16 * MIB);
    ck_assert_ptr_null(arena_alloc(cache, RUN, ARENA_ORDINARY));
    arena_free(cache, large);
    /* Charges may exceed the budget, but not while there is stock. */
    uint64_t stock = arena_stock_bytes(arena);
    ck_assert_uint_gt(stock, CHUNK_BYTES);
    arena_charge(arena, (int64_t)(20 * RUN + rest - stock + CHUNK_BYTES));
    ck_assert_uint_eq(arena_stock_bytes(arena), stock - CHUNK_BYTES);
    arena_charge(arena, (int64_t)(2 * stock));
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    /* Nor does it grow beyond it. */
    arena_free(cache, runs[20]);
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    arena_look_through(arena);
    arena_charge(arena, -(int64_t)(20 * RUN + rest + stock + CHUNK_BYTES));
    for (unsigned i = 21; i < count; i++) {
        arena_free(cache, runs[i]);
    }
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    ck_assert_uint_gt(arena_stock_bytes(arena), arena->stock_bytes_max - RUN);
    arena_look_through(arena);
    /* And what is structural drives it out as well. */
    uint8_t *structural = arena_alloc(cache, 15 * MIB, ARENA_STRUCTURAL);
    ck_assert_uint_le(arena_committed_bytes(arena) + arena_stock_bytes(arena), 16 * MIB);
    arena_free(cache, structural);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

START_TEST(stock_leaves_little_by_little)
{
    struct arena *arena = arena_create(1024 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    arena_free(cache, must_alloc(cache, 100 * MIB));
    uint64_t stock = arena_stock_bytes(arena), now_ms = 5000;
    ck_assert_uint_eq(stock, 100 * MIB);
    arena_stock_decay(arena, now_ms); /* however long ago the last one was: a quarter second's */
    ck_assert_uint_gt(arena_stock_bytes(arena), stock - stock / 4);
    ck_assert_uint_lt(arena_stock_bytes(arena), stock);
    for (unsigned step = 0; step < 60000 && arena_stock_bytes(arena) > 0; step++) {
        uint64_t before = arena_stock_bytes(arena);
        arena_stock_decay(arena, now_ms);
        arena_stock_decay(arena, now_ms + 9);
        arena_stock_decay(arena, 3); /* of one that is behind */
        ck_assert_uint_eq(arena_stock_bytes(arena), before);
        now_ms += 10;
        arena_stock_decay(arena, now_ms);
        ck_assert_uint_lt(arena_stock_bytes(arena), before);
        ck_assert_uint_le(before - arena_stock_bytes(arena), MIB / 4);
    }
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    ck_assert_uint_ge(now_ms, 5000 + 5000);
    ck_assert_uint_le(now_ms, 5000 + 60000);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* A run finds of its pages so many there as lie at its start, without a gap. */
START_TEST(a_run_knows_what_its_start_has)
{
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint32_t populated, runs[3];
    for (unsigned i = 0; i < 3; i++) {
        runs[i] = arena_run_claim(cache, 3, ARENA_ORDINARY, &populated);
        ck_assert_uint_eq(runs[i], 1 + 3 * i);
        ck_assert_uint_eq(populated, 0);
    }
    arena_run_give_back(cache, runs[0], 3, 3);
    arena_run_give_back(cache, runs[1], 3, 1); /* a gap of two */
    arena_run_give_back(cache, runs[2], 3, 3);
    ck_assert_uint_eq(arena_stock_bytes(arena), 7 * CHUNK_BYTES);
    ck_assert_uint_eq(arena_run_claim(cache, 9, ARENA_ORDINARY, &populated), 1);
    ck_assert_uint_eq(populated, 4);
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    ck_assert_uint_eq(arena_committed_bytes(arena), 9 * CHUNK_BYTES);
    arena_run_give_back(cache, 1, 9, 0);
    ck_assert_uint_eq(arena_stock_bytes(arena), 0);
    /* Longer than a word; and with a gap in the first, but none in the second. */
    static const uint32_t parts[] = {0, 1, 63, 64, 65, 128, 129, 200};
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        uint32_t first = arena_run_claim(cache, 200, ARENA_ORDINARY, &populated);
        arena_run_give_back(cache, first, 200, parts[i]);
        ck_assert_uint_eq(arena_run_claim(cache, 200, ARENA_ORDINARY, &populated), first);
        ck_assert_uint_eq(populated, parts[i]);
        arena_run_give_back(cache, first + 64, 136, 136);
        arena_run_give_back(cache, first, 64, 5);
        ck_assert_uint_eq(arena_run_claim(cache, 200, ARENA_ORDINARY, &populated), first);
        ck_assert_uint_eq(populated, 5);
        arena_run_give_back(cache, first, 200, 0);
    }
    ck_assert_uint_eq(atomic_load(&arena->physical_bytes), 0);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* The last of the budget, all of it in stock where the run does not lie, is enough for it. */
START_TEST(stock_makes_room_to_the_last_byte)
{
    enum { STOCK = 100, ELSEWHERE = 500 };
    for (uint32_t chunks = 3; chunks <= STOCK; chunks += 97) {
        struct arena *arena = arena_create(64 * MIB, 1);
        struct arena_cache *cache = arena_cache_open(arena);
        arena_free(cache, must_alloc(cache, STOCK * CHUNK_BYTES));
        arena_charge(arena, (int64_t)(64 * MIB - STOCK * CHUNK_BYTES));
        cache->word_narrow = cache->word_wide = ELSEWHERE;
        must_alloc(cache, chunks * CHUNK_BYTES);
        ck_assert_uint_eq(arena_stock_bytes(arena), (STOCK - chunks) * CHUNK_BYTES);
        ck_assert_uint_eq(atomic_load(&arena->physical_bytes), 64 * MIB);
        arena_look_through(arena);
        arena_cache_close(cache);
        arena_destroy(arena);
    }
}
END_TEST

/* One that may exceed the budget has counted, and not yet driven out what is in its way. */
START_TEST(stock_makes_room_while_others_exceed)
{
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    arena_free(cache, must_alloc(cache, 8 * MIB));
    arena_charge(arena, (int64_t)(56 * MIB));
    atomic_fetch_add(&arena->physical_bytes, 4 * MIB);
    atomic_fetch_add(&arena->charged_bytes, 4 * MIB);
    ck_assert_uint_eq(arena_committed_bytes(arena), 60 * MIB);
    cache->word_narrow = 500;
    must_alloc(cache, 100000);
    ck_assert_uint_le(atomic_load(&arena->physical_bytes), 64 * MIB);
    /* And where nobody needs room, the next step makes good for what was missed. */
    atomic_fetch_add(&arena->physical_bytes, 2 * MIB);
    atomic_fetch_add(&arena->charged_bytes, 2 * MIB);
    arena_stock_decay(arena, 1000);
    ck_assert_uint_le(atomic_load(&arena->physical_bytes), 64 * MIB);
    ck_assert_uint_gt(arena_stock_bytes(arena), 0);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* What is counted in stock and in others' hands cannot be driven out: nothing is left behind. */
START_TEST(claim_that_fails_leaves_nothing)
{
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint32_t populated;
    uint32_t first = arena_run_claim(cache, 5, ARENA_ORDINARY, &populated);
    arena_charge(arena, (int64_t)(60 * MIB - 2 * CHUNK_BYTES));
    arena_run_give_back(cache, first, 5, 2);
    atomic_fetch_add(&arena->physical_bytes, 4 * MIB); /* somebody adds this to the stock */
    atomic_fetch_add(&arena->stock_bytes, 4 * MIB);
    ck_assert_uint_eq(atomic_load(&arena->physical_bytes), 64 * MIB);
    uint64_t used = atomic_load(&arena->bitmap[0]);
    /* It has two from the stock with it, and finds nothing more to drive out. */
    ck_assert_uint_eq(arena_run_claim(cache, 5, ARENA_ORDINARY, &populated), 0);
    ck_assert_uint_eq(atomic_load(&arena->bitmap[0]), used);
    ck_assert_uint_eq(atomic_load(&arena->stocked[0]), 0);
    ck_assert_uint_eq(atomic_load(&arena->physical_bytes), 64 * MIB - 2 * CHUNK_BYTES);
    ck_assert_uint_eq(arena_stock_bytes(arena), 4 * MIB);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* Who has claimed chunks in stock, and not yet taken them out of it, keeps them. */
START_TEST(what_is_claimed_is_not_given_back)
{
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    arena_free(cache, must_alloc(cache, 10 * CHUNK_BYTES));
    uint64_t stocked = atomic_load(&arena->stocked[0]), used = atomic_load(&arena->bitmap[0]);
    uint64_t claimed = used | (stocked & UINT64_C(0x3c));
    atomic_store(&arena->bitmap[0], claimed);
    arena_stock_trim(arena, UINT64_MAX);
    ck_assert_uint_eq(atomic_load(&arena->bitmap[0]), claimed);
    ck_assert_uint_eq(atomic_load(&arena->stocked[0]), UINT64_C(0x3c));
    ck_assert_uint_eq(arena_stock_bytes(arena), 4 * CHUNK_BYTES);
    ck_assert_uint_eq(arena_resident_bytes(arena), 4 * CHUNK_BYTES);
    atomic_store(&arena->bitmap[0], used);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
}
END_TEST

/* What the budget has no room for anyway leaves the stock as it is. */
START_TEST(stock_stays_when_nothing_would_help)
{
    enum { STOCK = 100 };
    struct arena *arena = arena_create(64 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    arena_free(cache, must_alloc(cache, STOCK * CHUNK_BYTES));
    arena_charge(arena, (int64_t)(64 * MIB - STOCK * CHUNK_BYTES));
    ck_assert_ptr_null(arena_alloc(cache, (STOCK + 1) * CHUNK_BYTES, ARENA_ORDINARY));
    ck_assert_uint_eq(arena_stock_bytes(arena), STOCK * CHUNK_BYTES);
    arena_look_through(arena);
    arena_cache_close(cache);
    arena_destroy(arena);
    arena = arena_create(UINT64_MAX, 1);
    ck_assert_uint_eq(arena->stock_bytes_max, 256 * MIB);
    arena_destroy(arena);
}
END_TEST

START_TEST(any_order_counts_right)
{
    enum { HELD = 200 };
    uint8_t *held[HELD] = {0};
    struct arena *arena = arena_create(24 * MIB, 1);
    struct arena_cache *cache = arena_cache_open(arena);
    uint64_t seed = 11, now_ms = 1, steps = trial_count(20000);
    for (uint64_t step = 0; step < steps; step++) {
        unsigned i = (unsigned)trial_below(&seed, HELD);
        if (held[i] != NULL) {
            arena_free(cache, held[i]);
            held[i] = NULL;
        } else {
            uint64_t kind = trial_below(&seed, 8);
            size_t most = kind == 0 ? 3 * MIB : kind < 4 ? 300000 : 30000;
            size_t size = 1 + trial_below(&seed, most);
            held[i] = arena_alloc(cache, size,
                                  trial_below(&seed, 20) == 0 ? ARENA_STRUCTURAL : ARENA_ORDINARY);
            if (held[i] != NULL) {
                memset(held[i], 0xa5, size);
            }
        }
        if (trial_below(&seed, 10) == 0) {
            now_ms += trial_below(&seed, 30);
            arena_stock_decay(arena, now_ms);
        }
        if (step % 256 == 0) {
            arena_look_through(arena);
            ck_assert(arena_stock_bytes(arena) == 0 ||
                      arena_committed_bytes(arena) + arena_stock_bytes(arena) <= 24 * MIB);
        }
    }
    for (unsigned i = 0; i < HELD; i++) {
        arena_free(cache, held[i]);
    }
    arena_cache_close(cache);
    arena_look_through(arena);
    ck_assert_uint_eq(arena_committed_bytes(arena), 0);
    arena_destroy(arena);
}
END_TEST

static void *take_away(void *context)
{
    struct arena_race *race = context;
    uint64_t seed = 99;
    for (uint64_t now_ms = 1; atomic_load(&race->working) > 0; now_ms += 10) {
        arena_stock_decay(race->arena, now_ms);
        if (trial_below(&seed, 4) == 0) {
            arena_stock_trim(race->arena, trial_below(&seed, MIB));
        }
    }
    return NULL;
}

START_TEST(nobody_loses_a_page_to_the_stock)
{
    struct arena_race race = {.arena = arena_create(16 * MIB, ARENA_RACE_WORKERS),
                              .visits = 1,
                              .steps = trial_count(10000)};
    arena_race_run(&race, take_away);
    arena_look_through(race.arena);
    arena_stock_trim(race.arena, UINT64_MAX);
    ck_assert_uint_eq(atomic_load(&race.arena->physical_bytes), 0);
    arena_look_through(race.arena);
    arena_destroy(race.arena);
}
END_TEST

int main(void)
{
    return SUITE_RUN("base/arena_stock", NULL, NULL, 60, freed_pages_serve_what_comes_next,
                     what_was_never_touched_is_not_in_stock, stock_never_costs_what_the_budget_has,
                     stock_leaves_little_by_little, a_run_knows_what_its_start_has,
                     stock_makes_room_to_the_last_byte, stock_makes_room_while_others_exceed,
                     claim_that_fails_leaves_nothing, what_is_claimed_is_not_given_back,
                     stock_stays_when_nothing_would_help, any_order_counts_right,
                     nobody_loses_a_page_to_the_stock);
}
