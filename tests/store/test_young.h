/*
 * What the tests of names share: where in a tree a name lies, and young emptied at once. Header
 * only.
 */
#ifndef RETHREAD_TESTS_STORE_TEST_YOUNG_H
#define RETHREAD_TESTS_STORE_TEST_YOUNG_H

#include "store/tree_names.h"

#include <check.h>

struct name_place {
    enum tree_table table;
    uint8_t key[TREE_YOUNG_KEY_BYTES];
    size_t key_bytes;
};

/* Everywhere that it may be; the number of places. */
static inline unsigned places_of(struct tree *in, enum tree_table home, struct index_hash hash,
                                 struct name_place *place)
{
    struct tree_name name = tree_name(hash);
    MDB_txn *txn;
    MDB_val value;
    MDB_val key = tree_val(name.bytes, sizeof name.bytes);
    unsigned found = 0;
    ck_assert_int_eq(mdb_txn_begin(in->env, NULL, MDB_RDONLY, &txn), 0);
    if (mdb_get(txn, in->tables[home], &key, &value) == 0) {
        *place = (struct name_place){.table = home, .key_bytes = sizeof name.bytes};
        memcpy(place->key, name.bytes, sizeof name.bytes);
        found++;
    }
    for (uint64_t run = 0; run <= in->state.run; run++) {
        struct tree_young_key young = tree_name_in_run(run, name);
        key = tree_val(young.bytes, sizeof young.bytes);
        if (mdb_get(txn, in->tables[TREE_YOUNG], &key, &value) == 0) {
            *place = (struct name_place){.table = TREE_YOUNG, .key_bytes = sizeof young.bytes};
            memcpy(place->key, young.bytes, sizeof young.bytes);
            found++;
        }
    }
    mdb_txn_abort(txn);
    return found;
}

static inline struct name_place place_of(struct tree *in, enum tree_table home,
                                         struct index_hash hash)
{
    struct name_place place = {.table = TREE_TABLE_COUNT};
    ck_assert_uint_eq(places_of(in, home, hash, &place), 1);
    return place;
}

/* As if so many names had come that all that are there now have been brought home. */
static inline void bring_home(struct tree *in)
{
    struct tree_txn txn;
    bool moved;
    ck_assert_int_eq(tree_begin(in, &txn), 0);
    txn.state.run += TREE_SHARES / TREE_RUN_SHARES;
    txn.state.run_names = 0;
    for (unsigned i = 0; i < TREE_SHARES; i++) {
        ck_assert_int_eq(tree_names_move_share(&txn, &moved), 0);
        ck_assert(moved);
    }
    ck_assert_int_eq(tree_commit(&txn), 0);
}

#endif
