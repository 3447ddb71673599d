/*
 * The filler's transactions: sealed values in and out of tables, everything counted on the way, and
 * what is counted published with each commit. Owns nothing; called under a guard.
 */
#include "store/tree_private.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <sys/statvfs.h>

enum { SPACE_LEFT_BYTES = 32 << 20 /* below it a failed write is for want of space */ };

/* LMDB calls a write that the kernel cut short EIO; the usual cause is a disk that is full. */
static bool is_space_gone(const struct tree *tree)
{
    struct statvfs space;
    return fstatvfs(tree->directory_fd, &space) == 0 &&
           (uint64_t)space.f_bavail * space.f_frsize < SPACE_LEFT_BYTES;
}

static bool is_space_lacking(const struct tree *tree, int code)
{
    return code == MDB_MAP_FULL || code == ENOSPC || code == EDQUOT ||
           (code == EIO && is_space_gone(tree));
}

bool tree_lacks_room(const struct tree *tree, int code)
{
    return code == ENOMEM || is_space_lacking(tree, code);
}

enum status tree_fail(struct tree *tree, int code, struct wal_trouble *trouble)
{
    assert(code != 0);
    if (is_space_lacking(tree, code)) {
        return tree_refuse(trouble, ENOSPC, "commit",
                           code == MDB_MAP_FULL ? "The tree's map is full." : "The disk is full.");
    }
    if (code == ENOMEM) {
        return tree_refuse(trouble, ENOMEM, "malloc", "No memory for the tree."); /* aborted */
    }
    tree_set_broken(tree);
    tree_refuse(trouble, code > 0 ? code : EIO, "commit", "");
    snprintf(trouble->text, sizeof trouble->text, "The tree failed: %s.", mdb_strerror(code));
    return STATUS_INTERNAL;
}

int tree_begin(struct tree *tree, struct tree_txn *txn)
{
    *txn = (struct tree_txn){.tree = tree, .state = tree->state};
    int code = mdb_txn_begin(tree->env, NULL, 0, &txn->txn);
    if (code == 0) {
        code = mdb_cursor_open(txn->txn, tree->tables[TREE_DATA], &txn->cursor);
    }
    if (code == 0 && tree_has_young(tree)) {
        code = mdb_cursor_open(txn->txn, tree->tables[TREE_YOUNG], &txn->young);
    }
    return code;
}

void tree_abort(struct tree_txn *txn)
{
    if (txn->txn) {
        mdb_txn_abort(txn->txn);
        txn->txn = NULL;
    }
}

static void put_state(uint8_t *at, const struct tree_state *state)
{
    bytes_store_be64(at, state->applied);
    bytes_store_be64(at + 8, state->next_uid);
    bytes_store_be64(at + 16, state->live_bytes);
    bytes_store_be64(at + 24, state->threads);
    bytes_store_be64(at + 32, state->ring_next);
    bytes_store_be64(at + 40, state->vouch_since_ms);
    bytes_store_be64(at + 48, state->run);
    bytes_store_be64(at + 56, state->run_names);
    bytes_store_be64(at + 64, state->shares);
}

bool tree_open_state(struct bytes body, struct tree_state *state)
{
    if (!body.data || (body.size != TREE_STATE_BYTES && body.size != TREE_STATE_BYTES_OLD)) {
        return false;
    }
    bool old = body.size == TREE_STATE_BYTES_OLD;
    state->applied = bytes_load_be64(body.data);
    state->next_uid = bytes_load_be64(body.data + 8);
    state->live_bytes = bytes_load_be64(body.data + 16);
    state->threads = bytes_load_be64(body.data + 24);
    state->ring_next = bytes_load_be64(body.data + 32);
    state->vouch_since_ms = bytes_load_be64(body.data + 40);
    state->run = old ? 0 : bytes_load_be64(body.data + 48);
    state->run_names = old ? 0 : bytes_load_be64(body.data + 56);
    state->shares = old ? 0 : bytes_load_be64(body.data + 64);
    return true;
}

static void publish_one(_Atomic uint64_t *to, uint64_t value)
{
    /* Relaxed: each number stands alone, see struct tree_published. */
    atomic_store_explicit(to, value, memory_order_relaxed);
}

void tree_publish(struct tree *tree, const struct tree_counts *counts)
{
    struct tree_published *to = &tree->published;
    uint64_t records = 0;
    for (unsigned i = 0; i < TREE_TABLE_COUNT; i++) {
        records += i == TREE_META ? 0 : counts->entries[i];
    }
    MDB_envinfo info;
    if (mdb_env_info(tree->env, &info) == 0) {
        publish_one(&to->file_bytes, ((uint64_t)info.me_last_pgno + 1) * tree->page_bytes);
    }
    publish_one(&to->used_bytes, counts->pages * tree->page_bytes);
    publish_one(&to->records, records);
    publish_one(&to->names, counts->entries[TREE_NAMES] + counts->entries[TREE_KEYS] +
                                counts->entries[TREE_YOUNG] + counts->entries[TREE_TOMBS]);
    publish_one(&to->tombstones, counts->entries[TREE_TOMBS]);
    publish_one(&to->applied, tree->state.applied);
    publish_one(&to->next_uid, tree->state.next_uid);
    publish_one(&to->live_bytes, tree->state.live_bytes);
    publish_one(&to->threads, tree->state.threads);
    publish_one(&to->vouch_since_ms, tree->state.vouch_since_ms);
}

int tree_count_tables(const struct tree *tree, MDB_txn *txn, struct tree_counts *counts)
{
    counts->pages = 2; /* LMDB's meta pages */
    for (unsigned i = 0; i < TREE_TABLE_COUNT + 2; i++) {
        MDB_dbi own = i - TREE_TABLE_COUNT; /* 0: the free list, 1: the list of tables */
        MDB_stat stat;
        if (i == TREE_YOUNG && !tree_has_young(tree)) {
            counts->entries[i] = 0;
            continue;
        }
        int code = mdb_stat(txn, i < TREE_TABLE_COUNT ? tree->tables[i] : own, &stat);
        if (code) {
            return code;
        }
        counts->pages += stat.ms_branch_pages + stat.ms_leaf_pages + stat.ms_overflow_pages;
        if (i < TREE_TABLE_COUNT) {
            counts->entries[i] = stat.ms_entries;
        }
    }
    return 0;
}

int tree_commit(struct tree_txn *txn)
{
    struct tree *tree = txn->tree;
    if (txn->cost == 0 && memcmp(&txn->state, &tree->state, sizeof txn->state) == 0) {
        tree_abort(txn);
        return 0;
    }
    uint8_t body[TREE_STATE_BYTES];
    put_state(body, &txn->state);
    struct tree_counts counts;
    MDB_val key = tree_val(TREE_STATE_KEY, sizeof TREE_STATE_KEY);
    int code = tree_put(txn, TREE_META, key, RECORD_META, bytes_of(body, sizeof body));
    code = code ? code : tree_count_tables(tree, txn->txn, &counts);
    if (code) {
        return code;
    }
    MDB_txn *mdb = txn->txn;
    txn->txn = NULL; /* gone, whatever comes */
    code = mdb_txn_commit(mdb);
    if (code == 0) {
        tree->state = txn->state;
        tree_publish(tree, &counts);
        publish_one(&tree->published.commits, tree_read_one(&tree->published.commits) + 1);
    }
    return code;
}

struct bytes tree_blob(struct tree *tree, struct bytes blob)
{
    return tree->compresses ? record_compress_step(&tree->scratch, blob) : blob;
}

static struct bytes check(struct tree_txn *txn, MDB_val key, MDB_val value, enum record_value kind)
{
    struct bytes body = tree_check(key, value, kind);
    if (!body.data) {
        tree_count_damaged(txn->tree);
    }
    return body;
}

int tree_get(struct tree_txn *txn, enum tree_table table, MDB_val key, enum record_value kind,
             struct bytes *body)
{
    MDB_val value;
    int code = mdb_get(txn->txn, txn->tree->tables[table], &key, &value);
    *body = code ? bytes_of(NULL, 0) : check(txn, key, value, kind);
    return code;
}

int tree_get_at(struct tree_txn *txn, MDB_cursor *cursor, MDB_val key, enum record_value kind,
                struct bytes *body)
{
    MDB_val value;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET);
    *body = code ? bytes_of(NULL, 0) : check(txn, key, value, kind);
    return code;
}

static void count_put(struct tree_txn *txn, enum tree_table table, size_t key, size_t value,
                      size_t before)
{
    txn->cost++;
    txn->size_bytes += key + value;
    if (table != TREE_META) {
        txn->state.live_bytes += before ? value : key + value;
        txn->state.live_bytes -= before;
    }
}

static void take_turn(struct tree *tree)
{
    enum { PUTS = 32 }; /* some 20 us of them, or with much to compress 100 */
    if (tree->turn && ++tree->turn_puts >= PUTS) {
        tree->turn_puts = 0;
        tree->turn(tree->turn_context);
    }
}

/* Through the cursor, if there is one. */
static int reserve(struct tree_txn *txn, enum tree_table table, MDB_cursor *cursor, MDB_val *key,
                   MDB_val *value, unsigned flags)
{
    return cursor ? mdb_cursor_put(cursor, key, value, flags | MDB_RESERVE)
                  : mdb_put(txn->txn, txn->tree->tables[table], key, value, flags | MDB_RESERVE);
}

int tree_put_at(struct tree_txn *txn, enum tree_table table, MDB_cursor *cursor, MDB_val key,
                enum record_value kind, struct bytes body)
{
    assert(body.size <= TREE_BODY_MAX);
    size_t size = RECORD_SEAL_BYTES + body.size;
    MDB_val value = {.mv_size = size};
    size_t before = 0;
    int code = reserve(txn, table, cursor, &key, &value, MDB_NOOVERWRITE);
    if (code == MDB_KEYEXIST) {
        before = value.mv_size;
        value = (MDB_val){.mv_size = size};
        code = reserve(txn, table, cursor, &key, &value, 0);
    }
    if (code) {
        return code;
    }
    if (body.size) {
        memcpy((uint8_t *)value.mv_data + RECORD_SEAL_BYTES, body.data, body.size);
    }
    record_seal(value.mv_data, size, tree_bytes(key), kind);
    count_put(txn, table, key.mv_size, size, before);
    take_turn(txn->tree);
    return 0;
}

int tree_put(struct tree_txn *txn, enum tree_table table, MDB_val key, enum record_value kind,
             struct bytes body)
{
    return tree_put_at(txn, table, NULL, key, kind, body);
}

static void count_delete(struct tree_txn *txn, enum tree_table table, MDB_val key, MDB_val value)
{
    assert(table != TREE_META);
    txn->cost += TREE_COST_DELETE;
    txn->state.live_bytes -= key.mv_size + value.mv_size;
}

int tree_delete(struct tree_txn *txn, enum tree_table table, MDB_val key)
{
    MDB_dbi dbi = txn->tree->tables[table];
    MDB_val value;
    int code = mdb_get(txn->txn, dbi, &key, &value);
    if (code) {
        return code == MDB_NOTFOUND ? 0 : code;
    }
    count_delete(txn, table, key, value);
    return mdb_del(txn->txn, dbi, &key, NULL);
}

int tree_delete_at(struct tree_txn *txn, enum tree_table table, MDB_cursor *cursor, MDB_val key,
                   MDB_val value)
{
    count_delete(txn, table, key, value);
    take_turn(txn->tree);
    return mdb_cursor_del(cursor, 0);
}

int tree_armed(struct tree_txn *txn, uint64_t uid, uint64_t *second)
{
    struct tree_data_key at = tree_data_key(uid, 0, TREE_CHUNK_ARMED);
    struct bytes body;
    int code = tree_get(txn, TREE_DATA, tree_val(&at, sizeof at), RECORD_META, &body);
    *second = code == 0 && body.data && body.size == 8 ? bytes_load_be64(body.data) : UINT64_MAX;
    return code == MDB_NOTFOUND ? 0 : code;
}

int tree_arm(struct tree_txn *txn, uint64_t uid, uint64_t second)
{
    uint64_t before;
    int code = tree_armed(txn, uid, &before);
    if (code || before == second) {
        return code;
    }
    if (before != UINT64_MAX) {
        struct tree_due_key old = tree_due_key(before, uid);
        code = tree_delete(txn, TREE_DUE, tree_val(&old, sizeof old));
    }
    struct tree_data_key at = tree_data_key(uid, 0, TREE_CHUNK_ARMED);
    if (code || second == UINT64_MAX) {
        return code ? code : tree_delete(txn, TREE_DATA, tree_val(&at, sizeof at));
    }
    uint8_t body[8];
    bytes_store_be64(body, second);
    struct tree_due_key due = tree_due_key(second, uid);
    code = tree_put(txn, TREE_DATA, tree_val(&at, sizeof at), RECORD_META,
                    bytes_of(body, sizeof body));
    return code ? code
                : tree_put(txn, TREE_DUE, tree_val(&due, sizeof due), RECORD_META,
                           (struct bytes){0});
}
