/* Insert, replace, remove: alone, racing for the same keys, and all mixed with reclamation. */
#include "tests/index/test_index.h"

#include <pthread.h>
#include <stdatomic.h>

enum { RACERS = 4 };

START_TEST(test_insert)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct item *item = world_insert(&world, member, 5);
    ck_assert_ptr_nonnull(item);
    struct item *other = item_create(member, 5, item->record.hash_low);
    struct index_record *existing = NULL;
    struct index_hash hash = world_hash(&world, 5);
    ck_assert_int_eq(index_insert(world.index, member, hash, &other->record, 1, item_matches,
                                  &other->key, &existing),
                     INDEX_EXISTS);
    ck_assert_ptr_eq(existing, &item->record);
    ck_assert_ptr_eq(world_find(&world, 5), item);
    /* What was refused goes in, as it is, once the place is free. */
    ck_assert(world_remove(&world, member, item));
    ck_assert_int_eq(index_insert(world.index, member, hash, &other->record, 1, item_matches,
                                  &other->key, &existing),
                     INDEX_DONE);
    ck_assert_ptr_eq(world_find(&world, 5), other);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

START_TEST(test_replace)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct item *old = world_insert(&world, member, 5);
    struct item *fresh = item_create(member, 5, old->record.hash_low);
    ck_assert(index_replace(world.index, member, &old->record, &fresh->record, 3));
    ck_assert_ptr_eq(world_find(&world, 5), fresh);
    struct item *later = item_create(member, 5, old->record.hash_low);
    ck_assert(!index_replace(world.index, member, &old->record, &later->record, 3));
    ck_assert(!index_remove(world.index, member, &old->record));
    ck_assert_ptr_eq(world_find(&world, 5), fresh);
    ck_assert_uint_eq(index_stats(world.index).records, 1);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

START_TEST(test_remove)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    /* Thirty in one bucket, so that heads and lines are emptied and filled again. */
    struct item *items[30];
    for (unsigned round = 0; round < 50; round++) {
        for (uint64_t k = 0; k < 30; k++) {
            items[k] = world_insert_at(&world, member, k, k << 40, 1);
            ck_assert_ptr_nonnull(items[k]);
        }
        for (uint64_t k = 0; k < 30; k++) {
            struct item *item = items[(k * 7 + round) % 30];
            ck_assert(index_remove(world.index, member, &item->record));
            ck_assert(!index_remove(world.index, member, &item->record));
            epoch_retire(member, WORLD_KIND_ITEM, item);
            uint64_t key = item->key;
            struct index_hash hash = {.low = key << 40};
            ck_assert_ptr_null(index_find(world.index, hash, item_matches, &key));
        }
        world_turn(member);
    }
    ck_assert_uint_eq(index_stats(world.index).records, 0);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

struct race {
    struct world world;
    uint64_t keys;
    uint64_t rounds;
    pthread_barrier_t start;
    _Atomic unsigned *done; /* by key: how many were told INDEX_DONE */
    /* Of the mix: what joined and left; relaxed counters, read when all have ended. */
    _Atomic uint64_t joined;
    _Atomic uint64_t left;
};

struct racer {
    struct race *race;
    uint32_t number;
    pthread_t thread;
};

static void race_run(struct race *race, void *(*body)(void *))
{
    struct racer racers[RACERS];
    pthread_barrier_init(&race->start, NULL, RACERS);
    for (uint32_t r = 0; r < RACERS; r++) {
        racers[r] = (struct racer){.race = race, .number = r};
        ck_assert_int_eq(pthread_create(&racers[r].thread, NULL, body, &racers[r]), 0);
    }
    for (uint32_t r = 0; r < RACERS; r++) {
        pthread_join(racers[r].thread, NULL);
    }
    pthread_barrier_destroy(&race->start);
}

/* All insert the same keys in nearly the same order. */
static void *duplicates_main(void *argument)
{
    const struct racer *racer = argument;
    struct race *race = racer->race;
    struct epoch_member *member = world_join(&race->world);
    pthread_barrier_wait(&race->start);
    for (uint64_t k = 0; k < race->keys; k++) {
        uint64_t key = k ^ (racer->number & 1); /* neighbours cross over */
        struct item *item = world_insert(&race->world, member, key);
        if (item != NULL) {
            item->owner = racer->number;
            atomic_fetch_add(&race->done[key], 1);
        }
        MUST(world_find(&race->world, key) != NULL);
        if (k % 64 == 0) {
            world_turn(member);
        }
    }
    world_leave(member);
    return NULL;
}

START_TEST(test_duplicates)
{
    struct race race = {.world = world_create(), .keys = trial_count(400000) & ~(uint64_t)1};
    race.done = calloc(race.keys, sizeof *race.done);
    race_run(&race, duplicates_main);
    struct epoch_member *member = world_join(&race.world);
    struct tally tally = world_tally(&race.world, race.keys);
    ck_assert_uint_eq(tally.total, race.keys);
    for (uint64_t key = 0; key < race.keys; key++) {
        MUST(race.done[key] == 1);
        MUST(tally.counts[key] == 1);
    }
    ck_assert_uint_eq(index_stats(race.world.index).records, race.keys);
    free(tally.counts);
    free(race.done);
    world_leave(member);
    world_destroy(&race.world);
}
END_TEST

static uint16_t mix_due(void *context, struct index_record *record)
{
    const struct item *item = item_of(record);
    MUST(item->check == ~item->key);
    return (uint16_t)(*(uint64_t *)context & 0xffff);
}

static bool mix_visit(void *context, struct index_record *record)
{
    (void)context;
    const struct item *item = item_of(record);
    MUST(item->check == ~item->key);
    return true;
}

/* One random operation on one random key. Whoever takes an item out retires it. */
static void mix_step(struct race *race, struct epoch_member *member, uint64_t *seed)
{
    const struct world *world = &race->world;
    uint64_t key = trial_below(seed, race->keys);
    struct item *item = world_find(world, key);
    MUST(item == NULL || item->key == key);
    unsigned dice = (unsigned)trial_below(seed, 8);
    if (dice < 4) {
        if (world_insert(world, member, key) != NULL) {
            atomic_fetch_add_explicit(&race->joined, 1, memory_order_relaxed);
        }
    } else if (item != NULL && dice < 6) {
        if (world_remove(world, member, item)) {
            atomic_fetch_add_explicit(&race->left, 1, memory_order_relaxed);
        }
    } else if (item != NULL && dice < 7) {
        struct item *fresh = item_create(member, key, item->record.hash_low);
        if (index_replace(world->index, member, &item->record, &fresh->record, 9)) {
            epoch_retire(member, WORLD_KIND_ITEM, item);
        } else {
            item_free(member, fresh);
        }
    }
}

static void *mix_main(void *argument)
{
    const struct racer *racer = argument;
    struct race *race = racer->race;
    struct epoch_member *member = world_join(&race->world);
    uint64_t seed = racer->number + 1000;
    struct index_cursor cursor = {0};
    struct index_scan scan = {0};
    pthread_barrier_wait(&race->start);
    for (uint64_t round = 0; round < race->rounds; round++) {
        mix_step(race, member, &seed);
        if (round % 16 == 0) {
            (void)index_sweep(race->world.index, member, &cursor, racer->number, RACERS, 20,
                              round % 32 == 0, (uint16_t)round, mix_due, &seed);
        }
        if (round % 128 == 0 && index_scan(race->world.index, &scan, 50, mix_visit, NULL)) {
            scan = (struct index_scan){0};
        }
        if (round % 32 == 0) {
            world_turn(member);
        }
    }
    world_leave(member);
    return NULL;
}

/* Few keys fight over the same slots; many make segments split all the time. */
START_TEST(test_mix)
{
    static const uint64_t keys[] = {3, 700, 200000};
    struct race race = {.world = world_create(),
                        .keys = keys[_i],
                        .rounds = trial_count(_i == 2 ? 500000 : 300000)};
    race_run(&race, mix_main);
    struct epoch_member *member = world_join(&race.world);
    struct tally tally = world_tally(&race.world, race.keys);
    uint64_t item_bytes = 0;
    for (uint64_t key = 0; key < race.keys; key++) {
        MUST(tally.counts[key] <= 1);
        const struct item *item = world_find(&race.world, key);
        MUST((item != NULL) == (tally.counts[key] == 1));
        item_bytes += item != NULL ? arena_size(race.world.arena, item) : 0;
    }
    ck_assert_uint_eq(tally.total, race.joined - race.left);
    ck_assert_uint_eq(index_stats(race.world.index).records, tally.total);
    free(tally.counts);
    world_leave(member); /* the last one: everything retired is reclaimed */
    ck_assert_uint_eq(arena_live_bytes(race.world.arena),
                      index_stats(race.world.index).bytes + item_bytes);
    world_destroy(&race.world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index write");
    TCase *tcase = tcase_create("alone");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_insert);
    tcase_add_test(tcase, test_replace);
    tcase_add_test(tcase, test_remove);
    tcase = tcase_create("racing");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_duplicates);
    tcase_add_loop_test(tcase, test_mix, 0, 3);
    return suite_main(suite);
}
