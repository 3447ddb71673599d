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
    uint64_t first = tree_names_first_run(&txn->state);
    int code = MDB_NOTFOUND;
    place->is_young = true;
    for (uint64_t run = txn->state.run + 1; code == MDB_NOTFOUND && run-- > first;) {
        place->key = tree_name_in_run(run, name);
        code = tree_get_at(txn, txn->young, key_of(place), tree_name_kind(place->home), body);
    }
    return code;
}

int tree_name_find(struct tree_txn *txn, enum tree_table home, struct index_hash hash,
                   struct tree_place *place, struct bytes *body)
{
    struct tree_name name = tree_name(hash);
    int code = MDB_NOTFOUND;
    *body = (struct bytes){0};
    *place = (struct tree_place){.home = home, .key = tree_name_in_run(0, name)};
    if (tree_may_have(txn->tree, hash)) {
        code = tree_get(txn, home, key_of(place), tree_name_kind(home), body);
        code = code == MDB_NOTFOUND ? find_in_runs(txn, name, place, body) : code;
    }
    if (code == MDB_NOTFOUND) {
        place->is_young = true;
        place->is_new = true;
        place->key = tree_name_in_run(txn->state.run, name);
    }
    return code;
}

int tree_name_put(struct tree_txn *txn, const struct tree_place *place, struct bytes body)
{
    enum record_value kind = tree_name_kind(place->home);
    if (!place->is_young) {
        return tree_put(txn, place->home, key_of(place), kind, body);
    }
    int code = tree_put_at(txn, TREE_YOUNG, txn->young, key_of(place), kind, body);
    if (code == 0 && place->is_new) {
        assert(bytes_load_be32(place->key.bytes) == (uint32_t)txn->state.run);
        txn->state.run_names++;
    }
    return code;
}

int tree_name_delete(struct tree_txn *txn, const struct tree_place *place)
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

/* ---- A share: looked over ------------------------------------------------------------------- */

/* What lies in a page is lent until the next put: copies. */
struct young_entry {
    struct tree_young_key key;
    enum tree_table home;
    uint8_t size;
    uint8_t body[RECORD_KEY_BYTES];
};
static_assert((int)RECORD_KEY_BYTES >= (int)TREE_UID_BYTES, "it has room for either kind");

struct share {
    unsigned number;
    bool damaged;
    struct young_entry *entries;
    size_t count;
    size_t capacity;
    struct tree_order *orders; /* as much spare behind it */
};

static unsigned share_of(const uint8_t *name)
{
    return bytes_load_be16(name) >> (16 - TREE_SHARE_BITS);
}

static struct tree_young_key begin_of(const struct share *share, uint64_t run)
{
    struct tree_name least = {{0}};
    bytes_store_be16(least.bytes, (uint16_t)(share->number << (16 - TREE_SHARE_BITS)));
    return tree_name_in_run(run, least);
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

/* False: damaged. */
static bool open_entry(MDB_val key, MDB_val value, struct young_entry *entry)
{
    if (key.mv_size != sizeof entry->key.bytes) {
        return false;
    }
    entry->home = TREE_NAMES;
    struct bytes body = tree_check(key, value, RECORD_NAME);
    if (!body.data) {
        entry->home = TREE_KEYS;
        body = tree_check(key, value, RECORD_KEY);
    }
    if (!body.data || body.size > sizeof entry->body) {
        return false;
    }
    memcpy(entry->key.bytes, key.mv_data, sizeof entry->key.bytes);
    memcpy(entry->body, body.data, body.size);
    entry->size = (uint8_t)body.size;
    return true;
}

/* Puts the cursor on the first entry at or behind the key; one before it, if there is one, must be
 * sound and be before it. */
static int find_begin(struct tree_txn *txn, struct share *share, const struct tree_young_key *from,
                      MDB_val *key, MDB_val *value)
{
    *key = tree_val(from->bytes, sizeof from->bytes);
    int code = mdb_cursor_get(txn->young, key, value, MDB_SET_RANGE);
    if (code && code != MDB_NOTFOUND) {
        return code;
    }
    code = mdb_cursor_get(txn->young, key, value, code ? MDB_LAST : MDB_PREV);
    if (code) {
        return code == MDB_NOTFOUND ? mdb_cursor_get(txn->young, key, value, MDB_FIRST) : code;
    }
    struct young_entry before;
    share->damaged |= !open_entry(*key, *value, &before) ||
                      memcmp(before.key.bytes, from->bytes, sizeof from->bytes) >= 0;
    return mdb_cursor_get(txn->young, key, value, MDB_NEXT);
}

/* Lists what the run has of the share: sound, and in order, with what comes behind. */
static int look_over(struct tree_txn *txn, struct share *share, uint64_t run)
{
    struct tree_young_key last = begin_of(share, run);
    MDB_val key;
    MDB_val value;
    int code = find_begin(txn, share, &last, &key, &value);
    for (bool first = true; code == 0 && !share->damaged; first = false) {
        if (!has_room(share)) {
            return ENOMEM;
        }
        struct young_entry *entry = &share->entries[share->count];
        bool sound = open_entry(key, value, entry);
        int order = sound ? memcmp(last.bytes, entry->key.bytes, sizeof last.bytes) : 1;
        if (order > 0 || (order == 0 && !first)) {
            share->damaged = true;
            return 0;
        }
        last = entry->key;
        if (bytes_load_be32(last.bytes) != (uint32_t)run ||
            share_of(last.bytes + TREE_RUN_BYTES) != share->number) {
            return 0;
        }
        share->count++;
        code = mdb_cursor_get(txn->young, &key, &value, MDB_NEXT);
    }
    return code == MDB_NOTFOUND ? 0 : code;
}

/* ---- A share: moved ------------------------------------------------------------------------- */

/* Searches with each of them: where the cursor is after a deletion, nobody knows. */
static int delete_all(struct tree_txn *txn, const struct share *share)
{
    int code = 0;
    for (size_t i = 0; code == 0 && i < share->count; i++) {
        const struct tree_young_key *at = &share->entries[i].key;
        MDB_val key = tree_val(at->bytes, sizeof at->bytes);
        MDB_val value;
        code = mdb_cursor_get(txn->young, &key, &value, MDB_SET);
        code = code ? code : tree_delete_at(txn, TREE_YOUNG, txn->young, key, value);
    }
    return code;
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

static int put_all(struct tree_txn *txn, const struct share *share)
{
    MDB_cursor *cursors[TREE_TABLE_COUNT] = {NULL};
    int code = mdb_cursor_open(txn->txn, txn->tree->tables[TREE_NAMES], &cursors[TREE_NAMES]);
    code =
        code ? code : mdb_cursor_open(txn->txn, txn->tree->tables[TREE_KEYS], &cursors[TREE_KEYS]);
    for (size_t i = 0; code == 0 && i < share->count; i++) {
        const struct young_entry *entry = &share->entries[share->orders[i].place];
        MDB_val name = tree_val(entry->key.bytes + TREE_RUN_BYTES, (size_t)TREE_NAME_BYTES);
        code = tree_put_at(txn, entry->home, cursors[entry->home], name,
                           tree_name_kind(entry->home), bytes_of(entry->body, entry->size));
    }
    for (unsigned i = 0; i < TREE_TABLE_COUNT; i++) {
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

static int move(struct tree_txn *txn, struct share *share)
{
    unsigned before = txn->cost;
    unsigned cost = 0;
    if (share->count == 0) {
        return 0;
    }
    int code = sort(share);
    code = code ? code : estimate_cost(txn, share->count, &cost);
    code = code ? code : delete_all(txn, share);
    code = code ? code : put_all(txn, share);
    txn->cost = before + cost;
    return code;
}

/* Each damaged share counts as one, once. */
static void note_damage(struct tree_txn *txn)
{
    struct tree *tree = txn->tree;
    if (tree->damaged_share != txn->state.shares + 1) {
        tree->damaged_share = txn->state.shares + 1;
        tree_count_damaged(tree);
    }
}

int tree_names_move_share(struct tree_txn *txn, bool *moved)
{
    struct tree_state *state = &txn->state;
    struct share share = {.number = (unsigned)(state->shares % TREE_SHARES)};
    int code = 0;
    for (uint64_t run = tree_names_first_run(state); code == 0 && run < state->run; run++) {
        code = look_over(txn, &share, run);
    }
    *moved = code == 0 && !share.damaged;
    if (*moved) {
        code = move(txn, &share);
        state->shares++;
    } else if (code == 0) {
        note_damage(txn);
    }
    free(share.orders);
    free(share.entries);
    return code;
}

/* ---- When ----------------------------------------------------------------------------------- */

bool tree_names_next_share(struct tree_txn *txn)
{
    struct tree_state *state = &txn->state;
    unsigned names_a_share = txn->tree->run_names / TREE_RUN_SHARES;
    assert(names_a_share > 0);
    /* In this run those of the last one, evenly. */
    uint64_t part = state->run_names / names_a_share;
    bool full = part >= TREE_RUN_SHARES;
    part = full ? TREE_RUN_SHARES - 1 : part;
    if (state->run > 0 && state->shares < TREE_RUN_SHARES * (state->run - 1) + part) {
        return true;
    }
    if (full) {
        state->run++;
        state->run_names = 0;
    }
    return full && state->run > 1;
}
