/* Blocks made ready ahead: where they lie, who gets them, and that they cost nobody anything. */
#include "base/arena_private.h"
#include "tests/lib/arena_look.h"
#include "tests/lib/arena_race.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <string.h>
#include <unistd.h>

#define MIB ((uint64_t)1 << 20)

enum { RUN = 64 << 10, RUNS_OF_WORD = WORD_CHUNKS * CHUNK_BYTES / RUN };

struct world {
    struct arena *arena;
    struct arena_cache *cache;
};

static struct world world_open(uint64_t budget_bytes)
{
    struct world world = {.arena = arena_create(budget_bytes, 1)};
    ck_assert(arena_ahead_start(world.arena));
    world.cache = arena_cache_open(world.arena);
    return world;
}

static void world_close(struct world *world)
{
    arena_cache_close(world->cache);
    arena_ahead_stop(world->arena);
    arena_look_through(world->arena);
    ck_assert_uint_eq(arena_ready_bytes(world->arena), 0);
    (void)arena_stock_trim(world->arena, UINT64_MAX);
    ck_assert_uint_eq(arena_stock_bytes(world->arena), 0);
    arena_destroy(world->arena);
}

static uint8_t *must_alloc(struct world *world, size_t size_bytes)
{
    uint8_t *object = arena_alloc(world->cache, size_bytes, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(object);
    memset(object, 0x5a, size_bytes);
    return object;
}

static uint64_t ready_bytes(const struct world *world)
{
    return atomic_load(&world->arena->ahead.ready_bytes);
}

static uint32_t slots_in_use(const struct world *world)
{
    uint32_t count = 0;
    for (unsigned i = 0; i < READY_MAX; i++) {
        count += atomic_load(&world->cache->ready[i]) != 0;
    }
    return count;
}

/* Blocks are counted before they are there, and there before they are in a slot. */
static void wait_for_blocks(const struct world *world, uint32_t count)
{
    while (slots_in_use(world) != count || ready_bytes(world) != count * (uint64_t)BLOCK_BYTES) {
        usleep(1000);
    }
}

/* Up to where all of a word is free: from there on blocks are missed. */
static void use_first_word(struct world *world)
{
    for (unsigned i = 0; i < RUNS_OF_WORD; i++) {
        must_alloc(world, RUN);
    }
}

START_TEST(a_block_waits_for_who_comes)
{
    struct world world = world_open(1024 * MIB);
    ck_assert_uint_eq(slots_in_use(&world), 0);
    use_first_word(&world);
    wait_for_blocks(&world, 1);
    uint32_t word = atomic_load(&world.cache->ready[0]);
    ck_assert_uint_eq(word, BLOCK_WORDS);
    uint8_t *block = arena_chunk_at(world.arena, word * WORD_CHUNKS);
    ck_assert_uint_eq((uintptr_t)block % BLOCK_BYTES, 0);
    ck_assert_uint_eq(arena_stock_bytes(world.arena), 0);
    ck_assert_uint_eq(arena_ready_bytes(world.arena), BLOCK_BYTES);
    ck_assert_uint_eq(arena_committed_bytes(world.arena), RUNS_OF_WORD * RUN);
    ck_assert_uint_eq(arena_resident_bytes(world.arena), RUNS_OF_WORD * RUN + BLOCK_BYTES);
    arena_look_through(world.arena);
    /* First what is left of the word at hand; then this one, from end to end. */
    uint8_t *next = must_alloc(&world, RUN);
    while (next < block) {
        next = must_alloc(&world, RUN);
    }
    for (unsigned i = 0; i < BLOCK_WORDS * RUNS_OF_WORD; i++) {
        ck_assert_ptr_eq(next, block + (size_t)i * RUN);
        next = must_alloc(&world, RUN);
    }
    world_close(&world);
}
END_TEST

START_TEST(its_pages_need_not_be_asked_for)
{
    struct world world = world_open(1024 * MIB);
    use_first_word(&world);
    wait_for_blocks(&world, 1);
    uint32_t word = atomic_load(&world.cache->ready[0]), populated = 0;
    world.cache->word_narrow = 301;
    uint32_t run = arena_run_claim(world.cache, 3, ARENA_ORDINARY, &populated);
    ck_assert_uint_eq(run, word * WORD_CHUNKS);
    ck_assert_uint_eq(populated, 3);
    arena_run_give_back(world.cache, run, 3, 3);
    world_close(&world);
}
END_TEST

/* There may be room right where the cache looks; what is ready comes first all the same. */
START_TEST(what_is_ready_comes_before_what_is_near)
{
    struct world world = world_open(1024 * MIB);
    use_first_word(&world);
    wait_for_blocks(&world, 1);
    uint32_t word = atomic_load(&world.cache->ready[0]);
    world.cache->word_narrow = 301;
    uint8_t *object = must_alloc(&world, RUN);
    uint8_t *block = arena_chunk_at(world.arena, word * WORD_CHUNKS);
    ck_assert_ptr_eq(object, block);
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes), BLOCK_BYTES - RUN);
    /* Another comes, and is left alone as long as there is room in this one. */
    wait_for_blocks(&world, 1);
    uint32_t other = atomic_load(&world.cache->ready[0]);
    ck_assert_uint_ne(other, word);
    for (unsigned i = 1; i < BLOCK_WORDS * RUNS_OF_WORD; i++) {
        ck_assert_ptr_eq(must_alloc(&world, RUN), block + (size_t)i * RUN);
        ck_assert_uint_eq(atomic_load(&world.cache->ready[0]), other);
        arena_look_through(world.arena);
    }
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes), 0);
    /* And what is in stock comes before both, be it all of a word. */
    for (unsigned i = 0; i < RUNS_OF_WORD; i++) {
        arena_free(world.cache, block + (size_t)i * RUN);
    }
    ck_assert_uint_eq(atomic_load(&world.arena->bitmap[word]), 0);
    world.cache->word_narrow = word;
    ck_assert_ptr_eq(must_alloc(&world, RUN), block);
    ck_assert_uint_eq(atomic_load(&world.cache->ready[0]), other);
    world_close(&world);
}
END_TEST

/* Runs that do not come out even: what is left serves smaller ones, and then is anybody's. */
static void use_up(uint64_t stock_bytes_max)
{
    enum { LONG = 50 };
    struct world world = world_open(1024 * MIB);
    world.arena->stock_bytes_max = stock_bytes_max;
    world.cache->word_narrow = 301;
    uint8_t *held[2 * OPEN_MAX + 6];
    size_t count = sizeof held / sizeof *held;
    for (unsigned i = 0; i < count; i++) {
        while (slots_in_use(&world) == 0) {
            atomic_fetch_or(&world.cache->sign, AHEAD_OPENED);
            usleep(1000);
        }
        held[i] = must_alloc(&world, LONG * CHUNK_BYTES); /* two in a block, 28 left */
    }
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes), OPEN_MAX * 28 * CHUNK_BYTES);
    ck_assert_uint_eq(arena_stock_bytes(world.arena),
                      stock_bytes_max == 0 ? 0 : (count / 2 - OPEN_MAX) * 28 * CHUNK_BYTES);
    uint8_t *small = must_alloc(&world, 14 * CHUNK_BYTES);
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes),
                      (OPEN_MAX * 28 - 14) * CHUNK_BYTES);
    arena_free(world.cache, small);
    for (unsigned i = 0; i < count; i++) {
        arena_free(world.cache, held[i]);
    }
    ck_assert_uint_eq(arena_committed_bytes(world.arena), 0);
    world_close(&world);
}

START_TEST(no_part_of_a_block_is_lost)
{
    use_up(128 * MIB);
    use_up(0);
}
END_TEST

START_TEST(what_fits_is_never_refused)
{
    struct world world = world_open(128 * MIB);
    uint64_t seed = 7, rounds = trial_count(400);
    for (uint64_t round = 0; round < rounds; round++) {
        uint32_t chunks = 3 + (uint32_t)trial_below(&seed, trial_below(&seed, 2) == 0 ? 60 : 4000);
        uint64_t room = (uint64_t)chunks * CHUNK_BYTES;
        world.cache->word_narrow = (uint32_t)trial_below(&seed, 400);
        void *some = must_alloc(&world, RUN); /* asks for blocks, while there is room for them */
        usleep((useconds_t)trial_below(&seed, 3000));
        int64_t charged = (int64_t)(128 * MIB - room - arena_committed_bytes(world.arena));
        arena_charge(world.arena, charged);
        ck_assert_ptr_null(arena_alloc(world.cache, room + 1, ARENA_ORDINARY));
        arena_free(world.cache, must_alloc(&world, room));
        ck_assert_uint_le(atomic_load(&world.arena->physical_bytes), 128 * MIB);
        arena_charge(world.arena, -charged);
        arena_free(world.cache, some);
    }
    world_close(&world);
}
END_TEST

START_TEST(blocks_go_when_there_is_no_room)
{
    struct world world = world_open(128 * MIB);
    use_first_word(&world);
    wait_for_blocks(&world, 1);
    world.cache->word_narrow = 301;
    must_alloc(&world, RUN);
    wait_for_blocks(&world, 1); /* one that is open, one that waits */
    int64_t charged = (int64_t)(128 * MIB - arena_committed_bytes(world.arena));
    arena_charge(world.arena, charged);
    arena_stock_decay(world.arena, 100);
    wait_for_blocks(&world, 0);
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes), BLOCK_BYTES - RUN);
    ck_assert_ptr_null(arena_alloc(world.cache, RUN, ARENA_ORDINARY));
    arena_charge(world.arena, -RUN);
    must_alloc(&world, RUN);
    ck_assert_uint_eq(atomic_load(&world.arena->ahead.open_bytes), 0);
    arena_look_through(world.arena);
    /* Nor is anything made while there is little, whatever signs there are. */
    arena_charge(world.arena, -(int64_t)(128 * MIB / 16));
    atomic_fetch_or(&world.cache->sign, AHEAD_MISSED);
    while (atomic_load(&world.cache->sign) != 0) {
        usleep(1000);
    }
    usleep(20000);
    ck_assert_uint_eq(ready_bytes(&world), 0);
    arena_charge(world.arena, -(int64_t)(32 * MIB));
    atomic_fetch_or(&world.cache->sign, AHEAD_OPENED);
    while (slots_in_use(&world) == 0) {
        usleep(1000);
    }
    arena_charge(world.arena, -(charged - RUN - (int64_t)(40 * MIB)));
    world_close(&world);
}
END_TEST

START_TEST(small_budgets_have_none)
{
    for (uint64_t budget = 16 * MIB; budget < 128 * MIB; budget += 37 * MIB) {
        struct world world = world_open(budget);
        ck_assert(!world.arena->ahead.running);
        use_first_word(&world);
        use_first_word(&world);
        ck_assert_uint_eq(atomic_load(&world.cache->sign), 0);
        world_close(&world);
    }
}
END_TEST

START_TEST(as_many_wait_as_are_missed)
{
    struct world world = world_open(1024 * MIB);
    for (uint32_t count = 1; count <= READY_MAX; count *= 2) {
        atomic_fetch_or(&world.cache->sign, AHEAD_MISSED);
        while (slots_in_use(&world) != count) {
            atomic_fetch_or(&world.cache->sign, AHEAD_OPENED); /* not one too few */
            usleep(1000);
        }
    }
    atomic_fetch_or(&world.cache->sign, AHEAD_MISSED);
    wait_for_blocks(&world, READY_MAX);
    /* The stock may decay: blocks are no part of it. */
    arena_free(world.cache, must_alloc(&world, 10 * MIB));
    for (uint64_t now_ms = 1; now_ms < 60000; now_ms += 10) {
        arena_stock_decay(world.arena, now_ms);
    }
    ck_assert_uint_eq(arena_stock_bytes(world.arena), 0);
    wait_for_blocks(&world, READY_MAX);
    arena_look_through(world.arena);
    /* And none, when it is quiet. */
    atomic_store(&world.arena->ahead.quiet_ms, 1);
    wait_for_blocks(&world, 0);
    arena_look_through(world.arena);
    world_close(&world);
}
END_TEST

/* Blocks for others lie so that no place is long enough. */
START_TEST(a_long_run_finds_its_place)
{
    enum { CACHES = 16 };
    struct arena *arena = arena_create(1024 * MIB, CACHES);
    struct arena_cache *caches[CACHES];
    ck_assert(arena_ahead_start(arena));
    for (unsigned i = 0; i < CACHES; i++) { /* as the thread does it; it sees no sign */
        uint32_t word = arena->words / CACHES * i + arena->words / CACHES / 2;
        caches[i] = arena_cache_open(arena);
        ck_assert(arena_words_claim(arena, word, BLOCK_CHUNKS) == ARENA_WORDS_CLAIMED);
        atomic_fetch_add(&arena->ahead.ready_bytes, BLOCK_BYTES);
        atomic_store(&caches[i]->ready[i % READY_MAX], word);
    }
    arena_look_through(arena);
    void *object = arena_alloc(caches[0], 600 * MIB, ARENA_ORDINARY);
    ck_assert_ptr_nonnull(object);
    ck_assert_uint_eq(arena_ready_bytes(arena), 0);
    arena_free(caches[0], object);
    for (unsigned i = 0; i < CACHES; i++) {
        arena_cache_close(caches[i]);
    }
    arena_ahead_stop(arena);
    arena_look_through(arena);
    arena_destroy(arena);
}
END_TEST

START_TEST(nothing_waits_for_who_has_closed)
{
    struct world world = world_open(1024 * MIB);
    for (unsigned round = 0; round < 30; round++) {
        atomic_fetch_or(&world.cache->sign, AHEAD_MISSED);
        usleep(300 * round); /* now before the block is made, now after */
        arena_cache_close(world.cache);
        uint64_t looks = 0;
        while (looks < 5) { /* and stays like that */
            looks = arena_ready_bytes(world.arena) == 0 ? looks + 1 : 0;
            usleep(1000);
        }
        world.cache = arena_cache_open(world.arena);
    }
    arena_cache_close(world.cache);
    /* Once stopped it can be started anew. */
    arena_ahead_stop(world.arena);
    ck_assert(arena_ahead_start(world.arena));
    world.cache = arena_cache_open(world.arena);
    atomic_fetch_or(&world.cache->sign, AHEAD_MISSED);
    while (slots_in_use(&world) == 0) {
        usleep(1000);
    }
    world_close(&world);
}
END_TEST

/* However slow blocks are to come, and however many are wanted. */
START_TEST(stop_is_not_kept_waiting)
{
    enum { CACHES = 64 };
    struct arena *arena = arena_create(8192 * MIB, CACHES);
    struct arena_cache *caches[CACHES];
    ck_assert(arena_ahead_start(arena));
    for (unsigned i = 0; i < CACHES; i++) {
        caches[i] = arena_cache_open(arena);
        atomic_store(&caches[i]->sign_word, 100 * i);
        atomic_fetch_or(&caches[i]->sign, AHEAD_MISSED);
    }
    usleep(300000);
    for (unsigned i = 0; i < CACHES; i++) {
        arena_cache_close(caches[i]);
    }
    arena_ahead_stop(arena);
    arena_look_through(arena);
    arena_destroy(arena);
}
END_TEST

static bool knows_huge_pages(void)
{
    long page = sysconf(_SC_PAGESIZE);
    void *at = mmap(NULL, (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(at != MAP_FAILED);
    bool knows = madvise(at, (size_t)page, MADV_NOHUGEPAGE) == 0;
    munmap(at, (size_t)page);
    return knows;
}

START_TEST(the_range_stays_what_it_is_to_the_system)
{
    struct world world = world_open(1024 * MIB);
    uint64_t plain = knows_huge_pages() ? world.arena->range_bytes : 0;
    for (unsigned round = 0; round < 2; round++) {
        ck_assert_uint_eq(arena_flagged_bytes(world.arena, " dd"), world.arena->range_bytes);
        ck_assert_uint_eq(arena_flagged_bytes(world.arena, " nh"), plain);
        use_first_word(&world);
        wait_for_blocks(&world, 1);
    }
    world_close(&world);
}
END_TEST

/* Now there is room for blocks, now there is not. */
static void *press(void *context)
{
    struct arena_race *race = context;
    uint64_t seed = 99;
    for (uint64_t now_ms = 1; atomic_load(&race->working) > 0; now_ms += 10) {
        int64_t bytes = (int64_t)trial_below(&seed, 128 * MIB);
        arena_charge(race->arena, bytes);
        if (atomic_load(&race->arena->ahead.ready_bytes) > race->arena->budget_bytes / 32) {
            atomic_fetch_add(&race->broken, 1);
        }
        arena_stock_decay(race->arena, now_ms);
        usleep((useconds_t)trial_below(&seed, 3000));
        arena_ahead_empty_all(race->arena);
        arena_charge(race->arena, -bytes);
        usleep((useconds_t)trial_below(&seed, 3000));
    }
    return NULL;
}

START_TEST(nobody_shares_a_block_unawares)
{
    struct arena_race race = {.arena = arena_create(128 * MIB, ARENA_RACE_WORKERS),
                              .visits = trial_count(150),
                              .steps = 240,
                              .places = 100}; /* new ones, so that blocks are wanted */
    ck_assert(arena_ahead_start(race.arena));
    arena_race_run(&race, press);
    arena_ahead_stop(race.arena);
    arena_look_through(race.arena);
    (void)arena_stock_trim(race.arena, UINT64_MAX);
    ck_assert_uint_eq(atomic_load(&race.arena->physical_bytes), 0);
    for (uint32_t word = 0; word < race.arena->words; word++) {
        ck_assert_uint_eq(atomic_load(&race.arena->bitmap[word]), word == 0);
    }
    arena_destroy(race.arena);
}
END_TEST

int main(void)
{
    return SUITE_RUN("base/arena_ahead", NULL, NULL, 240, a_block_waits_for_who_comes,
                     its_pages_need_not_be_asked_for, what_is_ready_comes_before_what_is_near,
                     no_part_of_a_block_is_lost, what_fits_is_never_refused,
                     blocks_go_when_there_is_no_room, small_budgets_have_none,
                     as_many_wait_as_are_missed, a_long_run_finds_its_place,
                     stop_is_not_kept_waiting, nothing_waits_for_who_has_closed,
                     the_range_stays_what_it_is_to_the_system, nobody_shares_a_block_unawares);
}
