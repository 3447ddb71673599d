/* Making, hashing, finding, gauges; hostile keys; a long random run against a simple model. */
#include "tests/index/test_index.h"

#include <xxhash.h>

START_TEST(test_hash)
{
    struct world one = world_create();
    struct world two = world_create();
    uint8_t id[255];
    memset(id, 'x', sizeof id);
    struct bytes whole = bytes_of(id, sizeof id);
    struct index_hash hash = index_hash(one.index, 7, 1, whole);
    struct index_hash again = index_hash(one.index, 7, 1, whole);
    ck_assert(hash.low == again.low && hash.high == again.high);
    ck_assert(hash.low != index_hash(one.index, 8, 1, whole).low);
    ck_assert(hash.low != index_hash(one.index, 7, 2, whole).low);
    ck_assert(hash.low != index_hash(one.index, 7, 1, bytes_of(id, 254)).low);
    ck_assert_msg(hash.low != index_hash(two.index, 7, 1, whole).low, "the secret does not count");
    struct bytes none = bytes_of(NULL, 0);
    ck_assert(index_hash(one.index, 7, 1, none).low == index_hash(one.index, 7, 1, none).low);
    ck_assert(index_hash(one.index, 7, 1, none).low != index_hash(one.index, 1, 7, none).low);
    world_destroy(&one);
    world_destroy(&two);
}
END_TEST

START_TEST(test_find)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    ck_assert_ptr_null(world_find(&world, 1));
    struct item *item = world_insert(&world, member, 1);
    ck_assert_ptr_eq(world_find(&world, 1), item);
    ck_assert_ptr_null(world_find(&world, 2));
    /* The same 64 bits of hash, so only the key tells them apart; more than a line of them. */
    struct item *same[20];
    for (uint64_t k = 0; k < 20; k++) {
        same[k] = world_insert_at(&world, member, 100 + k, 0x123456789abcdef0u, 1);
    }
    for (uint64_t k = 0; k < 20; k++) {
        uint64_t key = 100 + k;
        struct index_hash hash = {.low = 0x123456789abcdef0u};
        ck_assert_ptr_eq(item_of(index_find(world.index, hash, item_matches, &key)), same[k]);
    }
    uint64_t absent = 120;
    struct index_hash hash = {.low = 0x123456789abcdef0u};
    ck_assert_ptr_null(index_find(world.index, hash, item_matches, &absent));
    world_leave(member);
    world_destroy(&world);
}
END_TEST

static bool never_matches(const struct index_record *record, const void *key)
{
    (void)record;
    (void)key;
    ck_abort_msg("an empty slot was taken for a record");
    return true;
}

/* The tag of this hash is what an empty slot holds, and so is its hash. */
START_TEST(test_find_tag_of_nothing)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct index_hash hash = {.low = 0};
    ck_assert_ptr_null(index_find(world.index, hash, never_matches, NULL));
    struct item *item = world_insert_at(&world, member, 7, 0, 1);
    uint64_t key = 7;
    ck_assert_ptr_eq(item_of(index_find(world.index, hash, item_matches, &key)), item);
    ck_assert(index_remove(world.index, member, &item->record));
    ck_assert_ptr_null(index_find(world.index, hash, never_matches, NULL));
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Whether the record is there, as far as hints can tell. */
static bool prefetch(const struct world *world, struct index_hash hash)
{
    index_prefetch_directory(world->index, hash);
    index_prefetch_bucket(world->index, hash);
    const struct index_record *likely = index_prefetch_record(world->index, hash, 1);
    ck_assert_ptr_eq(index_prefetch_record(world->index, hash, 300), likely);
    return likely != NULL;
}

/* Hints change nothing, wherever they point: an empty bucket, a full one, an overflow line. */
START_TEST(test_prefetch)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    unsigned likely_before = 0;
    unsigned likely_after = 0;
    for (uint64_t k = 0; k < 1000; k++) {
        struct index_hash hash = {.low = k % 3 == 0 ? 5u | k << 38 : k * 0x9e3779b97f4a7c15u};
        likely_before += prefetch(&world, hash);
        ck_assert_ptr_nonnull(world_insert_at(&world, member, k, hash.low, 1));
        likely_after += prefetch(&world, hash);
    }
    /* A third lies in overflow lines, of which hints say nothing. */
    ck_assert_uint_lt(likely_before, 10);
    ck_assert_uint_gt(likely_after, 600);
    ck_assert_uint_eq(index_stats(world.index).records, 1000);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* The gauges are exact when nobody writes, and everything goes back in the end. */
START_TEST(test_stats)
{
    uint64_t count = trial_count(200000);
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct index_stats stats = index_stats(world.index);
    ck_assert_uint_eq(stats.records, 0);
    ck_assert_uint_eq(stats.segments, 1);
    ck_assert_uint_eq(stats.splits, 0);
    ck_assert_uint_eq(arena_live_bytes(world.arena), stats.bytes);
    struct item **items = calloc(count, sizeof(struct item *));
    for (uint64_t k = 0; k < count; k++) {
        items[k] = world_insert(&world, member, k);
        ck_assert_msg(items[k] != NULL, "new key taken");
    }
    uint64_t item_bytes = arena_size(world.arena, items[0]);
    for (unsigned turn = 0; turn < count / 50000 + 4; turn++) {
        world_turn(member);
    }
    ck_assert_uint_eq(epoch_pending(world.epoch), 0);
    stats = index_stats(world.index);
    ck_assert_uint_eq(stats.records, count);
    ck_assert_uint_eq(stats.segments, stats.splits + 1);
    ck_assert_uint_eq(arena_live_bytes(world.arena), stats.bytes + count * item_bytes);
    for (uint64_t k = 0; k < count; k++) {
        MUST(world_remove(&world, member, items[k]));
    }
    for (unsigned turn = 0; turn < count / 1000 + 4; turn++) {
        world_turn(member);
    }
    stats = index_stats(world.index);
    ck_assert_uint_eq(stats.records, 0);
    ck_assert_uint_eq(arena_live_bytes(world.arena), stats.bytes);
    free(items);
    world_leave(member);
    index_destroy(world.index);
    ck_assert_uint_eq(arena_live_bytes(world.arena), 0);
    world.index = NULL;
    world_destroy(&world);
}
END_TEST

/*
 * Keys chosen so that the low 8 bits of the hash that everybody knows are the same: they would fill
 * 16 of 4096 places. Under ours they must fall everywhere, and the index must look as after any
 * other keys.
 */
START_TEST(test_flooding)
{
    uint64_t count = trial_count(100000);
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint8_t *met = calloc(4096, 1);
    unsigned places = 0;
    uint64_t found = 0;
    for (uint64_t key = 0; found < count; key++) {
        if ((XXH3_128bits(&key, sizeof key).low64 & 0xff) != 0) {
            continue;
        }
        found++;
        uint64_t low = world_hash(&world, key).low;
        places += met[low & 4095] == 0;
        met[low & 4095] = 1;
        MUST(world_insert_at(&world, member, key, low, 1) != NULL);
        if (found % 1000 == 0) {
            world_turn(member);
        }
    }
    /* As many as balls thrown at 4096 bins leave filled: all but e^-(count / 4096) of them. */
    ck_assert_uint_gt(places, count >= 40000 ? 4080 : count >= 4096 ? 2300 : count * 7 / 10);
    struct index_stats stats = index_stats(world.index);
    ck_assert_uint_le(stats.segments, count / 50 + 8);
    free(met);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Each step random; the model is an array of what should be there. */
START_TEST(test_model)
{
    enum { KEYS = 20000 };
    uint64_t rounds = trial_count(2000000);
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    struct item **model = calloc(KEYS, sizeof(struct item *));
    uint64_t present = 0;
    uint64_t seed = 42;
    for (uint64_t round = 0; round < rounds; round++) {
        uint64_t key = trial_below(&seed, KEYS);
        struct item *item = model[key];
        MUST(world_find(&world, key) == item);
        /* Tides: joining outweighs leaving for a while, then the other way round. */
        bool rising = (round / 100000) % 2 == 0;
        unsigned dice = (unsigned)trial_below(&seed, 10);
        if (dice < (rising ? 6u : 2u)) {
            struct item *fresh = world_insert(&world, member, key);
            MUST((fresh == NULL) == (item != NULL));
            present += fresh != NULL;
            model[key] = fresh != NULL ? fresh : item;
        } else if (item == NULL) {
            continue;
        } else if (dice < 8) {
            MUST(world_remove(&world, member, item));
            MUST(!index_remove(world.index, member, &item->record));
            present--;
            model[key] = NULL;
        } else {
            struct item *fresh = item_create(member, key, item->record.hash_low);
            MUST(index_replace(world.index, member, &item->record, &fresh->record, 2));
            epoch_retire(member, WORLD_KIND_ITEM, item);
            model[key] = fresh;
        }
        if (round % 64 == 0) {
            world_turn(member);
        }
    }
    ck_assert_uint_eq(index_stats(world.index).records, present);
    struct tally tally = world_tally(&world, KEYS);
    ck_assert_uint_eq(tally.total, present);
    for (uint64_t key = 0; key < KEYS; key++) {
        MUST(tally.counts[key] == (model[key] != NULL));
        MUST(world_find(&world, key) == model[key]);
    }
    free(tally.counts);
    free(model);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index");
    TCase *tcase = tcase_create("index");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_hash);
    tcase_add_test(tcase, test_find);
    tcase_add_test(tcase, test_find_tag_of_nothing);
    tcase_add_test(tcase, test_prefetch);
    tcase_add_test(tcase, test_stats);
    tcase_add_test(tcase, test_flooding);
    tcase_add_test(tcase, test_model);
    return suite_main(suite);
}
