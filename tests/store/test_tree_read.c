/* Loads: what was put comes back; what is damaged, missing or another's never does. */
#include "tests/store/test_hands.h"

#include "store/guard.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>

/* ---- What is there ----------------------------------------------------------------------------
 */

START_TEST(keys_lead_to_the_newest)
{
    static struct sample one, two;
    sample_four(&one, "one", 1);
    ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "r2"), TIER_FOUND);
    ck_assert_uint_eq(load.key.uid, 1);
    ck_assert_uint_eq(load.key.number, 2);
    ck_assert_uint_eq(load.key.version, 3);
    ck_assert(!load.key.shared);
    ck_assert(bytes_equal(bytes_of(load.key.id, load.key.id_size), bytes_text("one")));
    ck_assert(tree_same_name(load.key.owner, one.head.name));
    sample_begin(&two, "two", 2);
    sample_say(&two, "other", "c2", bytes_text("x"));
    sample_put(&two);
    ck_assert_int_eq(LOAD_KEY(RECORD_TOOL_CALL, "c2"), TIER_FOUND);
    ck_assert_uint_eq(load.key.uid, 2);
    ck_assert_uint_eq(load.key.number, 0);
    ck_assert(load.key.shared);
    /* Of one kind is not of another. */
    ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "c2"), TIER_ABSENT);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

/* ---- What is not there ------------------------------------------------------------------------
 */

START_TEST(what_never_was)
{
    static struct sample sample;
    ck_assert_int_eq(LOAD("nobody"), TIER_ABSENT);
    sample_four(&sample, "t", 1);
    ck_assert_int_eq(LOAD("nobody"), TIER_ABSENT);
    ck_assert_int_eq(LOAD_KEY(RECORD_PREFIX, "r0"), TIER_ABSENT);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

/* The same hash: of another id, of another tenant, of another kind. */
START_TEST(what_only_looks_the_same)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    load_begin(&load, TIER_LOAD_THREAD, RECORD_THREAD, bytes_text("u"));
    load.name = sample.head.name;
    tree_load(image.tree, &load, &damaged);
    ck_assert_int_eq(load.found, TIER_ABSENT);
    load_begin(&load, TIER_LOAD_THREAD, RECORD_THREAD, bytes_text("t"));
    load.tenant = 1;
    tree_load(image.tree, &load, &damaged);
    ck_assert_int_eq(load.found, TIER_ABSENT);
    load_begin(&load, TIER_LOAD_KEY, RECORD_RESPONSE_ID, bytes_text("r0"));
    load.record_kind = RECORD_PREFIX;
    tree_load(image.tree, &load, &damaged);
    ck_assert_int_eq(load.found, TIER_ABSENT);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

START_TEST(tombstones_say_why)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    sample_erase(&sample, REASON_EXPIRED);
    ck_assert_int_eq(LOAD("t"), TIER_TOMBSTONE);
    ck_assert_int_eq(load.tombstone.reason, REASON_EXPIRED);
    ck_assert_uint_eq(load.tombstone.version, 4);
    ck_assert_uint_eq(load.tombstone.steps, 4);
    ck_assert_int_eq(LOAD_KEY(RECORD_TOOL_CALL, "c2"), TIER_TOMBSTONE);
    ck_assert_int_eq(load.tombstone.reason, REASON_EXPIRED);
    ck_assert_uint_eq(load.tombstone.version, (uint32_t)sample.head.name.high);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

/* Between two transactions of a large group. */
START_TEST(a_key_whose_thread_has_no_head)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    meddle_data(1, 0, TREE_CHUNK_HEAD, NULL);
    ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "r0"), TIER_ABSENT);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

/* ---- Damage -----------------------------------------------------------------------------------
 */

START_TEST(a_damaged_head)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    meddle_data(1, 0, TREE_CHUNK_HEAD, spoil);
    ck_assert_int_eq(LOAD("t"), TIER_CORRUPT);
    ck_assert_uint_eq(damaged, 1);
    ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "r0"), TIER_CORRUPT);
    ck_assert_uint_eq(damaged, 1);
    meddle_data(1, 0, TREE_CHUNK_HEAD, NULL);
    ck_assert_int_eq(LOAD("t"), TIER_CORRUPT); /* its name says that it is there */
    ck_assert_uint_eq(damaged, 1);
}
END_TEST

/* In young a name may have any of its keys for a neighbour. */
static void spoil_keys_of_four(void)
{
    static const char *const responses[] = {"r0", "r1", "r2", "r3"};
    for (unsigned i = 0; i < 4; i++) {
        meddle_name(TREE_KEYS, image_name(RECORD_RESPONSE_ID, bytes_text(responses[i])), spoil);
    }
    meddle_name(TREE_KEYS, image_name(RECORD_TOOL_CALL, bytes_text("c0")), spoil);
    meddle_name(TREE_KEYS, image_name(RECORD_TOOL_CALL, bytes_text("c2")), spoil);
}

static void check_damaged_ways_in(bool home)
{
    static struct sample sample, gone;
    sample_four(&sample, "t", 1);
    sample_begin(&gone, "gone", 2);
    sample_say(&gone, "g", NULL, bytes_text("x"));
    sample_put(&gone);
    sample_erase(&gone, REASON_FORGOTTEN);
    if (home) {
        bring_home(image.tree);
    }
    meddle_name(TREE_NAMES, sample.head.name, spoil);
    ck_assert_int_eq(LOAD("t"), TIER_CORRUPT);
    ck_assert_uint_eq(damaged, 1);
    spoil_keys_of_four();
    /* Its neighbour is damaged: whether it was there cannot be told. */
    ck_assert_int_eq(LOAD("gone"), TIER_CORRUPT);
    spoil_keys_of_four();
    struct index_hash key = image_name(RECORD_RESPONSE_ID, bytes_text("r2"));
    meddle_name(TREE_KEYS, key, spoil);
    ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "r2"), TIER_CORRUPT);
    meddle_name(TREE_NAMES, sample.head.name, spoil);
    meddle_name(TREE_TOMBS, gone.head.name, spoil);
    ck_assert_int_eq(LOAD("gone"), TIER_CORRUPT);
    check_loads(&sample, 0, 0);
}

START_TEST(damaged_ways_in)
{
    check_damaged_ways_in(false);
}
END_TEST

START_TEST(damaged_ways_in_from_home)
{
    check_damaged_ways_in(true);
}
END_TEST

/* The way to the pages is cut: the file became shorter under the map. More often than there are
 * readers' slots, so that none may get lost. */
START_TEST(a_fault_inside_the_map)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    char path[96];
    snprintf(path, sizeof path, "%s/tree.mdb", image.directory);
    ck_assert_int_eq(truncate(path, 8192), 0);
    for (unsigned i = 0; i < 200; i++) {
        ck_assert_int_eq(LOAD("t"), TIER_CORRUPT);
        ck_assert_uint_eq(damaged, 1);
        ck_assert_int_eq(LOAD_KEY(RECORD_RESPONSE_ID, "r0"), TIER_CORRUPT);
    }
    ck_assert(tree_is_broken(image.tree));
    struct tier_change change = sample_change(&sample, 0, 0);
    struct tree_group group = {.bytes = image_encode(&change), .sequence = ++image.sequence};
    struct wal_trouble trouble;
    size_t taken;
    ck_assert_int_eq(tree_apply(image.tree, &group, 1, &taken, NULL, NULL, &trouble),
                     STATUS_INTERNAL);
    ck_assert_uint_eq(taken, 0);
}
END_TEST

/* ---- Pages ------------------------------------------------------------------------------------
 */

static enum tier_found load_page_of(const char *prefix, uint64_t after, uint32_t limit)
{
    load_begin(&load, TIER_LOAD_PAGE, RECORD_THREAD, bytes_text(prefix));
    load.after_uid = after;
    load.limit = limit;
    damaged = 0;
    tree_load(image.tree, &load, &damaged);
    return load.found;
}

START_TEST(pages_in_the_order_of_uids)
{
    put_row(20);
    uint64_t after = 0;
    unsigned seen = 0;
    bool more = true;
    while (more) {
        ck_assert_int_eq(load_page_of("", after, 3), TIER_FOUND);
        for (uint32_t i = 0; i < load.page->count; i++) {
            const struct tier_listed *listed = &load.page->listed[i];
            seen++;
            ck_assert_uint_eq(listed->uid, seen * 10);
            ck_assert_uint_eq(listed->payload_bytes, seen);
            ck_assert_uint_eq(listed->used_ms, IMAGE_WALL_MS + listed->uid);
            ck_assert_uint_eq(listed->version, 1);
            struct bytes id = bytes_of(listed->id, listed->id_size);
            ck_assert(tree_same_name(listed->name, image_name(RECORD_THREAD, id)));
        }
        more = load.page->more;
        after = load.page->last_uid;
        free(load.page);
    }
    ck_assert_uint_eq(seen, 20);
    ck_assert_uint_eq(damaged, 0);
}
END_TEST

START_TEST(pages_of_a_prefix_and_a_tenant)
{
    put_row(20);
    ck_assert_int_eq(load_page_of("ev", 45, 100), TIER_FOUND);
    ck_assert_uint_eq(load.page->count, 8);
    ck_assert_uint_eq(load.page->listed[0].uid, 60);
    ck_assert(!load.page->more);
    ck_assert_uint_eq(load.page->last_uid, 200);
    free(load.page);
    load_begin(&load, TIER_LOAD_PAGE, RECORD_THREAD, (struct bytes){0});
    load.tenant = 3;
    load.limit = 100;
    tree_load(image.tree, &load, &damaged);
    ck_assert_int_eq(load.found, TIER_FOUND);
    ck_assert_uint_eq(load.page->count, 0);
    free(load.page);
    ck_assert_int_eq(load_page_of("", UINT64_MAX, 10), TIER_FOUND);
    ck_assert_uint_eq(load.page->count, 0);
    ck_assert(!load.page->more);
    free(load.page);
}
END_TEST

START_TEST(pages_pass_damage)
{
    put_row(20);
    meddle_data(50, 0, TREE_CHUNK_HEAD, spoil);
    meddle_data(70, 0, TREE_CHUNK_HEAD, NULL); /* on its way in or out */
    ck_assert_int_eq(load_page_of("", 0, 100), TIER_FOUND);
    ck_assert_uint_eq(load.page->count, 18);
    ck_assert_uint_eq(damaged, 1);
    free(load.page);
}
END_TEST

START_TEST(pages_are_bounded)
{
    put_row(20);
    ck_assert_int_eq(load_page_of("", 0, UINT32_MAX), TIER_FOUND);
    ck_assert_uint_eq(load.page->count, 20);
    free(load.page);
    /* More heads than one look may see, none of which is wanted. */
    struct tree_txn txn;
    ck_assert_int_eq(tree_begin(image.tree, &txn), 0);
    static struct sample sample;
    sample_begin(&sample, "odd", 0);
    for (uint64_t uid = 1000; uid < 1000 + 17000; uid++) {
        uint8_t body[512];
        sample.head.uid = uid;
        record_put_head(body, &sample.head);
        struct tree_data_key key = tree_data_key(uid, 0, TREE_CHUNK_HEAD);
        ck_assert_int_eq(tree_put(&txn, TREE_DATA, tree_val(key.bytes, sizeof key.bytes),
                                  RECORD_HEAD, bytes_of(body, record_head_bytes(&sample.head))),
                         0);
    }
    ck_assert_int_eq(tree_commit(&txn), 0);
    ck_assert_int_eq(load_page_of("even", 0, 100), TIER_FOUND);
    ck_assert(load.page->more);
    ck_assert_uint_eq(load.page->count, 10);
    uint64_t reached = load.page->last_uid;
    ck_assert_uint_lt(reached, 1000 + 17000 - 1);
    free(load.page);
    ck_assert_int_eq(load_page_of("even", reached, 100), TIER_FOUND);
    ck_assert(!load.page->more);
    ck_assert_uint_eq(load.page->last_uid, 1000 + 17000 - 1);
    free(load.page);
}
END_TEST

/* ---- Beside the filler ------------------------------------------------------------------------
 */

struct crew {
    atomic_bool stop;
    atomic_uint loads;
};

/* Version n of the thread has n steps; step i says so. */
static void load_once(struct crew *crew, uint32_t *newest)
{
    struct tier_load mine;
    unsigned found = 0;
    load_begin(&mine, TIER_LOAD_THREAD, RECORD_THREAD, bytes_text("t"));
    tree_load(image.tree, &mine, &found);
    if (mine.found == TIER_ABSENT && *newest == 0) {
        return;
    }
    ck_assert_int_eq(mine.found, TIER_FOUND);
    ck_assert_uint_eq(found, 0);
    ck_assert_uint_ge(mine.image->head.version, *newest);
    *newest = mine.image->head.version;
    ck_assert_uint_eq(mine.image->step_count, *newest);
    for (uint32_t i = 0; i < *newest; i++) {
        ck_assert(!mine.image->steps[i].corrupt);
        ck_assert(bytes_equal(mine.image->steps[i].payload, bytes_of(noise + i, 6000)));
    }
    free(mine.image);
    atomic_fetch_add(&crew->loads, 1);
}

static void *load_again(void *context)
{
    struct crew *crew = context;
    uint32_t newest = 0;
    ck_assert(guard_thread_begin());
    while (!atomic_load(&crew->stop)) {
        load_once(crew, &newest);
    }
    guard_thread_end();
    return context;
}

START_TEST(loads_beside_the_filler)
{
    enum { READERS = 3 };
    static struct sample sample;
    struct crew crew = {.stop = false};
    pthread_t readers[READERS];
    for (unsigned i = 0; i < READERS; i++) {
        ck_assert_int_eq(pthread_create(&readers[i], NULL, load_again, &crew), 0);
    }
    sample_begin(&sample, "t", 1);
    for (unsigned i = 0; i < SAMPLE_STEPS_MAX; i++) {
        sample_say(&sample, NULL, NULL, bytes_of(noise + i, 6000));
        sample_put_last(&sample);
        while (atomic_load(&crew.loads) < 3 * i) {
            sched_yield();
        }
    }
    atomic_store(&crew.stop, true);
    for (unsigned i = 0; i < READERS; i++) {
        void *result = NULL;
        ck_assert_int_eq(pthread_join(readers[i], &result), 0);
        ck_assert_ptr_eq(result, &crew);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_read", image_open, image_close, 60, keys_lead_to_the_newest,
                     what_never_was, what_only_looks_the_same, tombstones_say_why,
                     a_key_whose_thread_has_no_head, a_damaged_head, damaged_ways_in,
                     damaged_ways_in_from_home, a_fault_inside_the_map, pages_in_the_order_of_uids,
                     pages_of_a_prefix_and_a_tenant, pages_pass_damage, pages_are_bounded,
                     loads_beside_the_filler);
}
