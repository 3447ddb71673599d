/*
 * Names: found, put and deleted wherever they lie, and brought home from young. Within a
 * transaction of the filler, under its guard; owns a share while it is moved.
 *
 * Young is written through the transaction's cursor only; home through cursors of a share's move,
 * and by key when none is open.
 */
#include "store/tree_names.h"

#include "store/tree_order.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

/* ---- One name ------------------------------------------------------------------------------- */

static MDB_val key_of(const struct tree_place *place)
{
    return place->is_young ? tree_val(place->key.bytes, sizeof place->key.bytes)
                           : tree_val(place->key.bytes + TREE_RUN_BYTES, (size_t)TREE_NAME_BYTES);
}

static int find_in_runs(struct tree_txn *txn, struct tree_name name, struct tree_place *place,
                        struct bytes *body)
{
    uint64_t first = tree_first_run(&txn->state);
    int code = MDB_NOTFOUND;
    place->is_young = true;
    for (uint64_t run = txn->state.run + 1; code == MDB_NOTFOUND && run-- > first;) {
        place->key = tree_young_key(run, name);
        code = tree_get_at(txn, txn->young, key_of(place), tree_name_kind(place->home), body);
    }
    return code;
}

int tree_find_name(struct tree_txn *txn, enum tree_table home, struct index_hash hash,
                   struct tree_place *place, struct bytes *body)
{
    struct tree_name name = tree_name(hash);
    int code = MDB_NOTFOUND;
    *body = (struct bytes){0};
    *place = (struct tree_place){.home = home, .key = tree_young_key(0, name)};
    if (tree_may_have(txn->tree, hash)) {
        code = tree_get(txn, home, key_of(place), tree_name_kind(home), body);
        code = code == MDB_NOTFOUND ? find_in_runs(txn, name, place, body) : code;
    }
    if (code == MDB_NOTFOUND) {
        place->is_young = true;
        place->is_new = true;
        place->key = tree_young_key(txn->state.run, name);
    }
    return code;
}

static void count_new(struct tree_txn *txn)
{
    struct tree_state *state = &txn->state;
    if (++state->run_names >= txn->tree->run_names) {
        state->run++;
        state->run_names = 0;
    }
}

int tree_put_name(struct tree_txn *txn, const struct tree_place *place, struct bytes body)
{
    enum record_value kind = tree_name_kind(place->home);
    if (!place->is_young) {
        return tree_put(txn, place->home, key_of(place), kind, body);
    }
    int code = tree_put_at(txn, TREE_YOUNG, txn->young, key_of(place), kind, body);
    if (code == 0 && place->is_new) {
        assert(bytes_load_be32(place->key.bytes) == (uint32_t)txn->state.run);
        count_new(txn);
    }
    return code;
}

int tree_delete_name(struct tree_txn *txn, const struct tree_place *place)
{
    assert(!place->is_new);
    if (!place->is_young) {
        return tree_delete(txn, place->home, key_of(place));
    }
    MDB_val key = key_of(place);
    MDB_val value;
    int code = mdb_cursor_get(txn->young, &key, &value, MDB_SET);
    return code ? code : tree_delete_at(txn, TREE_YOUNG, txn->young, key, value);
}

/* ---- A share -------------------------------------------------------------------------------- */

/* What lies in a page is lent until the next put: copies. */
struct young_entry {
    struct tree_young_key key;
    uint8_t size;
    /* With one byte more than there should be, so that what is too long stays so. */
    uint8_t value[RECORD_SEAL_BYTES + RECORD_KEY_BYTES + 1];
};
static_assert((int)RECORD_KEY_BYTES >= (int)TREE_UID_BYTES &&
                  RECORD_SEAL_BYTES + RECORD_KEY_BYTES < 256,
              "it has room for either kind");

struct share {
    unsigned number;
    struct young_entry *entries;
    size_t count;
    size_t capacity;
    struct tree_order *orders; /* as much spare behind it */
};

static unsigned share_of(const uint8_t *name)
{
    return bytes_load_be16(name) >> (16 - TREE_SHARE_BITS);
}

bool tree_has_share(const struct tree_txn *txn)
{
    const struct tree_state *state = &txn->state;
    unsigned names_a_share = txn->tree->run_names / TREE_RUN_SHARES;
    uint64_t part = state->run_names / names_a_share;
    /* In this run those of the last one, evenly. */
    part = part < TREE_RUN_SHARES ? part : TREE_RUN_SHARES - 1;
    return state->run > 0 && state->shares < TREE_RUN_SHARES * (state->run - 1) + part;
}

static bool has_room(struct share *share)
{
    if (share->count == share->capacity) {
        size_t capacity = share->capacity ? 2 * share->capacity : 1024;
        struct young_entry *entries = realloc(share->entries, capacity * sizeof *entries);
        if (!entries) {
            return false;
        }
        share->entries = entries;
        share->capacity = capacity;
    }
    return true;
}

static void copy_entry(struct share *share, MDB_val key, MDB_val value)
{
    struct young_entry *entry = &share->entries[share->count++];
    size_t size = value.mv_size < sizeof entry->value ? value.mv_size : sizeof entry->value;
    memcpy(entry->key.bytes, key.mv_data, sizeof entry->key.bytes);
    memcpy(entry->value, value.mv_data, size);
    entry->size = (uint8_t)size;
}

/* Out of young, into the list. */
static int take_run(struct tree_txn *txn, struct share *share, uint64_t run)
{
    struct tree_name least = {{0}};
    bytes_store_be16(least.bytes, (uint16_t)(share->number << (16 - TREE_SHARE_BITS)));
    struct tree_young_key from = tree_young_key(run, least);
    for (;;) {
        MDB_val key = tree_val(from.bytes, sizeof from.bytes);
        MDB_val value;
        int code = mdb_cursor_get(txn->young, &key, &value, MDB_SET_RANGE);
        if (code) {
            return code == MDB_NOTFOUND ? 0 : code;
        }
        if (key.mv_size != sizeof from.bytes) {
            return MDB_CORRUPTED;
        }
        const uint8_t *at = key.mv_data;
        if (bytes_load_be32(at) != (uint32_t)run ||
            share_of(at + TREE_RUN_BYTES) != share->number) {
            return 0;
        }
        if (!has_room(share)) {
            return ENOMEM;
        }
        copy_entry(share, key, value);
        code = tree_delete_at(txn, TREE_YOUNG, txn->young, key, value);
        if (code) {
            return code;
        }
    }
}

static int sort(struct share *share)
{
    share->orders = malloc(2 * share->count * sizeof *share->orders);
    if (!share->orders) {
        return ENOMEM;
    }
    for (size_t i = 0; i < share->count; i++) {
        const uint8_t *name = share->entries[i].key.bytes + TREE_RUN_BYTES;
        share->orders[i] = (struct tree_order){.key = bytes_load_be64(name), .place = (uint32_t)i};
    }
    tree_order_sort(share->orders, share->orders + share->count, share->count);
    return 0;
}

/* Whose a damaged one is nobody knows: either table has it from now on, as damaged as it was. */
static int put_damaged(struct tree_txn *txn, MDB_cursor *const *cursors, MDB_val name,
                       struct bytes value)
{
    tree_count_damaged(txn->tree);
    int code = tree_put_as_is(txn, TREE_NAMES, cursors[0], name, value);
    return code ? code : tree_put_as_is(txn, TREE_KEYS, cursors[1], name, value);
}

static int put_home(struct tree_txn *txn, MDB_cursor *const *cursors, struct young_entry *entry)
{
    MDB_val name = tree_val(entry->key.bytes + TREE_RUN_BYTES, (size_t)TREE_NAME_BYTES);
    struct bytes value = bytes_of(entry->value, entry->size);
    struct bytes key = bytes_of(entry->key.bytes, sizeof entry->key.bytes);
    for (unsigned i = 0; i < 2; i++) {
        enum tree_table home = i == 0 ? TREE_NAMES : TREE_KEYS;
        struct bytes body = record_check(value, key, tree_name_kind(home));
        if (body.data) {
            return tree_put_at(txn, home, cursors[i], name, tree_name_kind(home), body);
        }
    }
    return put_damaged(txn, cursors, name, value);
}

static int put_all(struct tree_txn *txn, struct share *share)
{
    MDB_cursor *cursors[2] = {NULL, NULL};
    int code = mdb_cursor_open(txn->txn, txn->tree->tables[TREE_NAMES], &cursors[0]);
    code = code ? code : mdb_cursor_open(txn->txn, txn->tree->tables[TREE_KEYS], &cursors[1]);
    for (size_t i = 0; code == 0 && i < share->count; i++) {
        code = put_home(txn, cursors, &share->entries[share->orders[i].place]);
    }
    for (unsigned i = 0; i < 2; i++) {
        if (cursors[i]) {
            mdb_cursor_close(cursors[i]);
        }
    }
    return code;
}

/* Twice the mean of the pages that a share has at home, those that split, and those of young; but
 * no more than a page for each name, as for other puts. */
static int estimate_cost(struct tree_txn *txn, size_t names, unsigned *cost)
{
    MDB_stat threads;
    MDB_stat keys;
    int code = mdb_stat(txn->txn, txn->tree->tables[TREE_NAMES], &threads);
    code = code ? code : mdb_stat(txn->txn, txn->tree->tables[TREE_KEYS], &keys);
    if (code == 0) {
        size_t pages = (threads.ms_leaf_pages + keys.ms_leaf_pages) / (TREE_SHARES / 2);
        pages += names / 16 + 1;
        *cost = (unsigned)(pages < names ? pages : names);
    }
    return code;
}

int tree_move_share(struct tree_txn *txn)
{
    struct tree_state *state = &txn->state;
    struct share share = {.number = (unsigned)(state->shares % TREE_SHARES)};
    unsigned before = txn->cost;
    unsigned cost = 0;
    int code = 0;
    for (uint64_t run = tree_first_run(state); code == 0 && run < state->run; run++) {
        code = take_run(txn, &share, run);
    }
    if (code == 0 && share.count > 0) {
        code = sort(&share);
        code = code ? code : estimate_cost(txn, share.count, &cost);
        code = code ? code : put_all(txn, &share);
    }
    txn->cost = before + cost;
    state->shares++;
    free(share.orders);
    free(share.entries);
    return code;
}
