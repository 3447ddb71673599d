/*
 * What the tests of loads share beyond an image: hands that reach past all checks into its tree.
 * Header only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_HANDS_H
#define RETHREAD_TESTS_STORE_TEST_HANDS_H

#include "tests/store/test_image.h"
#include "tests/store/test_young.h"

static struct tier_load load;
static unsigned damaged;

#define LOAD(id)           load_thread_of(&load, (id), &damaged)
#define LOAD_KEY(kind, id) load_key_of(&load, (kind), (id), &damaged)

/* ---- Hands on the tree ----------------------------------------------------------------------- */

/* Something done to one value, past all checks. */
typedef void hand_fn(uint8_t *value, size_t size);

static inline void spoil(uint8_t *value, size_t size)
{
    value[size - 1] ^= 1;
}

static inline void meddle(enum tree_table table, struct bytes at, hand_fn *hand)
{
    MDB_txn *txn;
    ck_assert_int_eq(mdb_txn_begin(image.tree->env, NULL, 0, &txn), 0);
    MDB_val key = tree_val(at.data, at.size);
    MDB_val value;
    if (hand) {
        static uint8_t copy[RECORD_VALUE_MAX];
        ck_assert_int_eq(mdb_get(txn, image.tree->tables[table], &key, &value), 0);
        ck_assert_uint_le(value.mv_size, sizeof copy);
        memcpy(copy, value.mv_data, value.mv_size);
        hand(copy, value.mv_size);
        value.mv_data = copy;
        ck_assert_int_eq(mdb_put(txn, image.tree->tables[table], &key, &value, 0), 0);
    } else {
        ck_assert_int_eq(mdb_del(txn, image.tree->tables[table], &key, NULL), 0);
    }
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
}

static inline void meddle_data(uint64_t uid, uint32_t part, uint32_t chunk, hand_fn *hand)
{
    struct tree_data_key key = tree_data_key(uid, part, chunk);
    meddle(TREE_DATA, bytes_of(key.bytes, sizeof key.bytes), hand);
}

static inline void meddle_name(enum tree_table table, struct index_hash hash, hand_fn *hand)
{
    struct name_place place = {.table = table, .key_bytes = TREE_NAME_BYTES};
    if (table == TREE_NAMES || table == TREE_KEYS) {
        place = place_of(image.tree, table, hash);
    } else {
        struct tree_name name = tree_name(hash);
        memcpy(place.key, name.bytes, sizeof name.bytes);
    }
    meddle(place.table, bytes_of(place.key, place.key_bytes), hand);
}

/* A value as it is in the tree, under another key. */
static inline void copy_value(struct tree_data_key from, struct tree_data_key to)
{
    MDB_txn *txn;
    ck_assert_int_eq(mdb_txn_begin(image.tree->env, NULL, 0, &txn), 0);
    MDB_val key = tree_val(from.bytes, sizeof from.bytes);
    MDB_val value;
    static uint8_t copy[RECORD_VALUE_MAX];
    ck_assert_int_eq(mdb_get(txn, image.tree->tables[TREE_DATA], &key, &value), 0);
    memcpy(copy, value.mv_data, value.mv_size);
    value.mv_data = copy;
    key = tree_val(to.bytes, sizeof to.bytes);
    ck_assert_int_eq(mdb_put(txn, image.tree->tables[TREE_DATA], &key, &value, 0), 0);
    ck_assert_int_eq(mdb_txn_commit(txn), 0);
}

/* A sound value of our own. */
static inline void put_data(uint64_t uid, uint32_t part, uint32_t chunk, enum record_value kind,
                            struct bytes body)
{
    struct tree_txn txn;
    struct tree_data_key key = tree_data_key(uid, part, chunk);
    ck_assert_int_eq(tree_begin(image.tree, &txn), 0);
    ck_assert_int_eq(tree_put(&txn, TREE_DATA, tree_val(key.bytes, sizeof key.bytes), kind, body),
                     0);
    ck_assert_int_eq(tree_commit(&txn), 0);
}

static inline void put_head(const struct tier_head *head)
{
    uint8_t body[512];
    record_put_head(body, head);
    put_data(head->uid, 0, TREE_CHUNK_HEAD, RECORD_HEAD, bytes_of(body, record_head_bytes(head)));
}

/* Steps of 1, 1, 3, 1 chunks; recalls for two of its appends. */
static inline void sample_four(struct sample *sample, const char *id, uint64_t uid)
{
    sample_begin(sample, id, uid);
    sample_say(sample, "r0", "c0", bytes_text("zero"));
    sample_say(sample, "r1", NULL, bytes_text("one"));
    sample_say(sample, "r2", "c2", bytes_of(noise, 10000));
    sample_say(sample, "r3", NULL, bytes_of(prose, 3000));
    for (uint32_t i = 0; i < 2; i++) {
        sample->recalls[i] = (struct recall_entry){
            .key = {.low = uid, .high = i}, .digest = {7, i}, .ordinal = 2 + 2 * i, .step = 1};
    }
    sample->recall_count = 2;
    sample_put(sample);
}

/* Threads odd1, even2, odd3, ... of uids 10, 20, 30, ... */
static inline void put_row(unsigned count)
{
    for (unsigned i = 1; i <= count; i++) {
        static struct sample sample;
        char id[16];
        snprintf(id, sizeof id, "%s%u", i % 2 ? "odd" : "even", i);
        sample_begin(&sample, id, i * 10);
        sample_say(&sample, NULL, NULL, bytes_of(noise, i));
        sample_put(&sample);
    }
}

static inline void check_loads(const struct sample *sample, unsigned corrupt, unsigned damage)
{
    ck_assert_int_eq(LOAD(sample->id), TIER_FOUND);
    ck_assert_uint_eq(check_image(load.image, sample), corrupt);
    ck_assert_uint_eq(damaged, damage);
    free(load.image);
}

static inline bool is_corrupt(const char *id, uint32_t step)
{
    ck_assert_int_eq(LOAD(id), TIER_FOUND);
    bool corrupt = load.image->steps[step].corrupt;
    free(load.image);
    return corrupt;
}

#endif
