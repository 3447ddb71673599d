/*
 * Which threads have had their time, by what the disk knows.
 *
 * The due table says when to look, not when the time is up: a thread that is used is not moved in
 * it, but found again at its old place, and only then put where its deadline is by now. So a look
 * reads (in a read transaction, which costs the disk nothing) and then moves what it found too
 * early, if anything.
 *
 * Who was asked for stays where it is until its ERASE or PUT comes. A pass goes on where the last
 * look ended, so that threads whose lanes do nothing do not stand in the way of others; a new pass,
 * every ten seconds, asks for them again.
 */
#include "store/tree_private.h"

#include "store/guard.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

enum {
    PASS_MS = 10000,
    MOVES_MAX = 1000,
    ROUNDS_MAX = 8,
    DAMAGED_LATER_S = 24 * 3600,
};

struct move {
    struct tree_due_key from;
    uint64_t uid;
    uint64_t second; /* UINT64_MAX: away */
};

struct look {
    struct tree *tree;
    uint64_t now_ms;
    bool victims;
    struct tier_due **due;
    unsigned limit;
    unsigned count;
    unsigned move_count;
    struct tree_pass pass;
    MDB_txn *txn;
    int code;
    struct move moves[MOVES_MAX];
};

static void move_later(struct look *look, uint64_t second, uint64_t uid, uint64_t to)
{
    assert(look->move_count < MOVES_MAX);
    look->moves[look->move_count++] =
        (struct move){.from = tree_due_key(second, uid), .uid = uid, .second = to};
}

static enum reason reason_of(const struct look *look, const struct tier_head *head)
{
    uint64_t age = look->tree->settings.max_age_ms;
    if (look->victims) {
        return REASON_EVICTED;
    }
    return age && head->created_ms <= look->now_ms && look->now_ms - head->created_ms >= age
               ? REASON_MAX_AGE
               : REASON_EXPIRED;
}

static int ask_for(struct look *look, const struct tier_head *head)
{
    struct tier_due *due = calloc(1, sizeof *due);
    if (!due) {
        return ENOMEM;
    }
    due->event.kind = TIER_DUE;
    due->reason = reason_of(look, head);
    due->uid = head->uid;
    due->tenant = head->tenant;
    due->name = head->name;
    due->version = head->version;
    due->length = head->length;
    due->used_ms = head->used_ms;
    due->id_size = (uint8_t)head->id.size;
    if (head->id.size) {
        memcpy(due->id, head->id.data, head->id.size);
    }
    look->due[look->count++] = due;
    return 0;
}

/* An entry whose time to look has come. */
static int look_at(struct look *look, uint64_t second, uint64_t uid)
{
    struct tree_data_key at = tree_data_key(uid, 0, TREE_CHUNK_HEAD);
    MDB_val key = tree_val(at.bytes, sizeof at.bytes);
    MDB_val value;
    int code = mdb_get(look->txn, look->tree->tables[TREE_DATA], &key, &value);
    if (code == MDB_NOTFOUND) {
        move_later(look, second, uid, UINT64_MAX);
        return 0;
    }
    struct tier_head head;
    if (code) {
        return code;
    }
    struct bytes body = tree_check(key, value, RECORD_HEAD);
    if (!body.data || !record_open_head(body, record_body_format(body), &head) || head.uid != uid) {
        /* Nobody can tell whose it is or when it ends: it stays, for the operator to see. */
        tree_count_damaged(look->tree);
        move_later(look, second, uid, look->now_ms / 1000 + DAMAGED_LATER_S);
        return 0;
    }
    uint64_t deadline_ms = tree_deadline_ms(look->tree, &head);
    if (deadline_ms > look->now_ms && (!look->victims || tree_due_second(deadline_ms) > second)) {
        move_later(look, second, uid, tree_due_second(deadline_ms));
        return 0;
    }
    return ask_for(look, &head);
}

static void scan(struct look *look, MDB_cursor *cursor)
{
    struct tree_due_key from = tree_due_key(look->pass.second, look->pass.uid);
    MDB_val key = tree_val(from.bytes, sizeof from.bytes);
    MDB_val value;
    int code = mdb_cursor_get(cursor, &key, &value, MDB_SET_RANGE);
    while (code == 0 && look->count < look->limit && look->move_count < MOVES_MAX) {
        if (key.mv_size != TREE_DUE_KEY_BYTES) {
            code = MDB_CORRUPTED;
            break;
        }
        uint64_t second = bytes_load_be64(key.mv_data);
        uint64_t uid = bytes_load_be64((const uint8_t *)key.mv_data + 8);
        if (!look->victims && second > look->now_ms / 1000) {
            break;
        }
        if (!tree_check(key, value, RECORD_META).data) {
            tree_count_damaged(look->tree); /* the head knows better */
        }
        code = look_at(look, second, uid);
        if (code == 0) {
            look->pass.second = second;
            look->pass.uid = uid + 1;
            code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
        }
    }
    look->code = code == MDB_NOTFOUND ? 0 : code;
}

static void find(struct look *look)
{
    struct tree *tree = look->tree;
    look->code = mdb_txn_begin(tree->env, NULL, MDB_RDONLY, &look->txn);
    if (look->code) {
        return;
    }
    MDB_cursor *cursor;
    look->code = mdb_cursor_open(look->txn, tree->tables[TREE_DUE], &cursor);
    if (look->code == 0) {
        scan(look, cursor);
        mdb_cursor_close(cursor);
    }
    mdb_txn_abort(look->txn);
}

static int make_moves(struct look *look)
{
    struct tree_txn txn;
    int code = tree_begin(look->tree, &txn);
    for (unsigned i = 0; i < look->move_count && code == 0; i++) {
        const struct move *move = &look->moves[i];
        code = tree_delete(&txn, TREE_DUE, tree_val(move->from.bytes, sizeof move->from.bytes));
        code = code ? code : tree_arm(&txn, move->uid, move->second);
    }
    code = code ? code : tree_commit(&txn);
    tree_abort(&txn);
    return code;
}

static void look_around(void *context)
{
    struct look *look = context;
    bool more = true;
    for (unsigned i = 0; i < ROUNDS_MAX && more; i++) {
        look->move_count = 0;
        find(look);
        more = look->move_count == MOVES_MAX && look->count < look->limit;
        if (look->code == 0 && look->move_count) {
            look->code = make_moves(look);
        }
        more = more && look->code == 0;
    }
}

enum status tree_due(struct tree *tree, uint64_t now_ms, bool victims, struct tier_due **due,
                     unsigned limit, unsigned *count, struct wal_trouble *trouble)
{
    *trouble = (struct wal_trouble){0};
    *count = 0;
    if (tree_is_broken(tree)) {
        return tree_refuse(trouble, EIO, "due", "The tree is broken.");
    }
    struct look *look = malloc(sizeof *look);
    if (!look) {
        return tree_refuse(trouble, ENOMEM, "malloc", "No memory to look for what is due.");
    }
    struct tree_pass *pass = &tree->passes[victims];
    if (now_ms < pass->begun_ms || now_ms - pass->begun_ms >= PASS_MS) {
        *pass = (struct tree_pass){.begun_ms = now_ms};
    }
    *look = (struct look){.tree = tree,
                          .now_ms = now_ms,
                          .victims = victims,
                          .due = due,
                          .limit = limit,
                          .pass = *pass};
    enum status status = STATUS_OK;
    if (!guard_run(look_around, look)) {
        tree_set_broken(tree);
        status = tree_refuse(trouble, EIO, "due", "The tree's file is damaged: a fault inside it.");
    } else if (look->code) {
        status = tree_fail(tree, look->code, trouble);
    } else {
        *pass = look->pass;
        *count = look->count;
    }
    for (unsigned i = 0; status && i < look->count; i++) {
        free(due[i]);
    }
    free(look);
    return status;
}
