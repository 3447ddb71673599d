/* Growth under readers, hashes that all fall into one place, and churn that must not grow. */
#include "tests/index/test_index.h"

#include <pthread.h>
#include <stdatomic.h>

enum { WRITERS = 2, READERS = 2 };

struct growth {
    struct world world;
    uint64_t keys; /* of each writer: 0, 2, 4 … and 1, 3, 5 … */
    /* How many of a writer's keys are in. Release by the writer, acquire by the readers. */
    _Atomic uint64_t watermark[WRITERS];
};

struct grower {
    struct growth *growth;
    uint64_t number;
    pthread_t thread;
};

static void *writer_main(void *argument)
{
    const struct grower *grower = argument;
    struct growth *growth = grower->growth;
    struct epoch_member *member = world_join(&growth->world);
    for (uint64_t k = 0; k < growth->keys; k++) {
        MUST(world_insert(&growth->world, member, k * WRITERS + grower->number) != NULL);
        atomic_store_explicit(&growth->watermark[grower->number], k + 1, memory_order_release);
        if (k % 256 == 0) {
            world_turn(member);
        }
    }
    world_leave(member);
    return NULL;
}

/* What was in must be found, the newest above all; what was never put in must not. */
static void *reader_main(void *argument)
{
    const struct grower *grower = argument;
    struct growth *growth = grower->growth;
    struct epoch_member *member = world_join(&growth->world);
    uint64_t seed = grower->number;
    uint64_t least = 0;
    for (uint64_t round = 0; least < growth->keys; round++) {
        least = growth->keys;
        for (uint64_t w = 0; w < WRITERS; w++) {
            uint64_t in = atomic_load_explicit(&growth->watermark[w], memory_order_acquire);
            least = in < least ? in : least;
            uint64_t newest = in - 1 - trial_below(&seed, 8);
            uint64_t any = trial_below(&seed, in + 1);
            uint64_t key = (round % 2 == 0 ? newest : any) * WRITERS + w;
            if (newest < in && any < in) {
                const struct item *item = world_find(&growth->world, key);
                MUST(item != NULL && item->key == key);
            }
            MUST(world_find(&growth->world, key + ((uint64_t)1 << 40)) == NULL);
        }
        if (round % 64 == 0) {
            world_turn(member);
        }
    }
    world_leave(member);
    return NULL;
}

START_TEST(test_growth)
{
    struct growth growth = {.world = world_create(), .keys = trial_count(5000000) / WRITERS};
    struct grower growers[WRITERS + READERS];
    for (uint64_t g = 0; g < WRITERS + READERS; g++) {
        growers[g] = (struct grower){.growth = &growth, .number = g};
        ck_assert_int_eq(pthread_create(&growers[g].thread, NULL,
                                        g < WRITERS ? writer_main : reader_main, &growers[g]),
                         0);
    }
    for (unsigned g = 0; g < WRITERS + READERS; g++) {
        pthread_join(growers[g].thread, NULL);
    }
    struct index_stats stats = index_stats(growth.world.index);
    uint64_t keys = growth.keys * WRITERS;
    ck_assert_uint_eq(stats.records, keys);
    ck_assert_uint_eq(stats.segments, stats.splits + 1);
    ck_assert_uint_le(stats.bytes, 32 * keys + 100000);
    struct epoch_member *member = world_join(&growth.world);
    for (uint64_t key = 0; key < keys; key++) {
        const struct item *item = world_find(&growth.world, key);
        MUST(item != NULL && item->key == key);
    }
    world_leave(member);
    world_destroy(&growth.world);
}
END_TEST

/*
 * Hashes that agree in all bits that place them (_i 0: the tag too, 1: all but the tag). No split
 * helps, so there must be an end to them; everything stays right, only slower.
 */
START_TEST(test_one_place)
{
    uint64_t count = trial_count(2000);
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    unsigned shift = _i == 0 ? 52 : 38;
    struct item **items = calloc(count, sizeof(struct item *));
    for (uint64_t k = 0; k < count; k++) {
        items[k] = world_insert_at(&world, member, k, k << shift | 0x1200abcdef, 1);
        MUST(items[k] != NULL);
        world_turn(member);
    }
    struct index_stats stats = index_stats(world.index);
    ck_assert_uint_eq(stats.records, count);
    ck_assert_uint_le(stats.splits, 24);
    /* Each entry on the way lies on a page of its own, which is charged with all its hints. */
    ck_assert_uint_le(stats.bytes, count * 16 + 60 * 5000 + 100000 + 24 * 36864);
    for (uint64_t k = 0; k < 2 * count; k++) {
        struct index_hash hash = {.low = k << shift | 0x1200abcdef};
        struct item *item = item_of(index_find(world.index, hash, item_matches, &k));
        MUST(item == (k < count ? items[k] : NULL));
    }
    for (uint64_t k = 0; k < count; k++) {
        MUST(world_remove(&world, member, items[k]));
    }
    ck_assert_uint_eq(index_stats(world.index).records, 0);
    free(items);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/*
 * A few hundred records that come and go for ever. Sooner or later every bucket has once been
 * crowded; the lines that it got then must not make the index grow.
 */
START_TEST(test_churn)
{
    enum { LIVE = 400 };
    uint64_t count = trial_count(500000);
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct item *live[LIVE] = {0};
    for (uint64_t k = 0; k < count; k++) {
        struct item **slot = &live[k % LIVE];
        if (*slot != NULL) {
            MUST(world_remove(&world, member, *slot));
        }
        *slot = world_insert(&world, member, k);
        MUST(*slot != NULL);
        if (k % 16 == 0) {
            world_turn(member);
        }
    }
    for (unsigned turn = 0; turn < 8; turn++) {
        world_turn(member); /* one that was just copied still counts */
    }
    ck_assert_uint_le(index_stats(world.index).segments, 8);
    ck_assert_uint_eq(index_stats(world.index).records, count < LIVE ? count : LIVE);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Segments that were split away go back to the arena while others live on. */
START_TEST(test_reclaim)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct epoch_member *reader = world_join(&world);
    uint64_t count = trial_count(50000) + 1000;
    for (uint64_t k = 0; k < count; k++) {
        MUST(world_insert(&world, member, k) != NULL);
    }
    struct index_stats stats = index_stats(world.index);
    for (unsigned turn = 0; turn < 8; turn++) {
        (void)epoch_reclaim(member, 1000);
    }
    /* `reader` is online since before the splits and may hold any of them. */
    ck_assert_uint_eq(index_stats(world.index).segments, stats.segments);
    ck_assert_uint_gt(stats.segments, stats.splits + 1);
    for (unsigned turn = 0; turn < 8; turn++) {
        world_turn(reader);
        world_turn(member);
    }
    ck_assert_uint_eq(index_stats(world.index).segments, stats.splits + 1);
    world_leave(reader);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index split");
    TCase *tcase = tcase_create("growth");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_growth);
    tcase_add_loop_test(tcase, test_one_place, 0, 2);
    tcase_add_test(tcase, test_churn);
    tcase_add_test(tcase, test_reclaim);
    return suite_main(suite);
}
