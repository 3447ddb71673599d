/*
 * Tombstones, and the ring in which they are dropped again, the oldest first. Within a transaction
 * of the filler; owns nothing.
 */
#include "store/tree_private.h"

enum { TOMBS_DROPPED_MAX = 4 };

static MDB_val name_val(const struct tree_name *name)
{
    return tree_val(name->bytes, sizeof name->bytes);
}

static int put_tomb_away(struct tree_txn *txn, const struct tree_name *name, uint64_t place)
{
    struct tree_ring_key ring = tree_ring_key(place);
    int code = tree_delete(txn, TREE_RING, tree_val(ring.bytes, sizeof ring.bytes));
    return code ? code : tree_delete(txn, TREE_TOMBS, name_val(name));
}

int tree_take_tomb(struct tree_txn *txn, struct index_hash hash, struct tree_tomb *tomb,
                   bool *found)
{
    struct tree_name name = tree_name(hash);
    struct bytes body;
    *found = false;
    if (!tree_may_have(txn->tree, hash)) {
        return 0;
    }
    int code = tree_get(txn, TREE_TOMBS, name_val(&name), RECORD_TOMB, &body);
    *found = code == 0 && tree_open_tomb(body, tomb);
    if (code) {
        return code == MDB_NOTFOUND ? 0 : code;
    }
    return *found ? put_tomb_away(txn, &name, tomb->place)
                  : tree_delete(txn, TREE_TOMBS, name_val(&name));
}

/* The oldest one goes, and with it the knowledge of all that is as old. */
static int drop_oldest_tomb(struct tree_txn *txn, uint64_t now_ms)
{
    MDB_cursor *cursor;
    MDB_val key;
    MDB_val value;
    int code = mdb_cursor_open(txn->txn, txn->tree->tables[TREE_RING], &cursor);
    if (code) {
        return code;
    }
    code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST);
    mdb_cursor_close(cursor);
    if (code) {
        return code == MDB_NOTFOUND ? 0 : code;
    }
    struct tree_ring_key place = {{0}};
    if (key.mv_size != sizeof place.bytes) {
        return MDB_CORRUPTED;
    }
    memcpy(place.bytes, key.mv_data, sizeof place.bytes);
    struct bytes body = tree_check(key, value, RECORD_TOMB);
    uint64_t buried_ms = now_ms;
    struct tree_name name;
    bool leads = body.data && body.size == TREE_RING_BODY_BYTES;
    if (leads) {
        memcpy(name.bytes, body.data, sizeof name.bytes);
        buried_ms = bytes_load_be64(body.data + TREE_NAME_BYTES);
    } else {
        tree_count_damaged(txn->tree);
    }
    if (buried_ms >= txn->state.vouch_since_ms) {
        txn->state.vouch_since_ms = buried_ms + 1;
    }
    struct tree_tomb tomb;
    code = leads ? tree_get(txn, TREE_TOMBS, name_val(&name), RECORD_TOMB, &body) : MDB_NOTFOUND;
    if (code == 0 && (!tree_open_tomb(body, &tomb) || tomb.place == bytes_load_be64(place.bytes))) {
        code = tree_delete(txn, TREE_TOMBS, name_val(&name));
    }
    if (code && code != MDB_NOTFOUND) {
        return code;
    }
    return tree_delete(txn, TREE_RING, tree_val(place.bytes, sizeof place.bytes));
}

static int keep_ring_bound(struct tree_txn *txn, uint64_t now_ms)
{
    /* A limit that was lowered is come down to in small steps. */
    for (unsigned i = 0; i < TOMBS_DROPPED_MAX; i++) {
        MDB_stat stat;
        int code = mdb_stat(txn->txn, txn->tree->tables[TREE_RING], &stat);
        if (code || stat.ms_entries <= txn->tree->settings.tombstones) {
            return code;
        }
        code = drop_oldest_tomb(txn, now_ms);
        if (code) {
            return code;
        }
    }
    return 0;
}

int tree_bury(struct tree_txn *txn, uint64_t now_ms, struct index_hash hash, struct tree_tomb tomb)
{
    struct tree_tomb older;
    bool found;
    int code = tree_take_tomb(txn, hash, &older, &found);
    if (code) {
        return code;
    }
    struct tree_name name = tree_name(hash);
    tomb.place = txn->state.ring_next++;
    uint8_t body[RECORD_TOMB_BYTES];
    tree_put_tomb(body, &tomb);
    code = tree_put(txn, TREE_TOMBS, name_val(&name), RECORD_TOMB, bytes_of(body, sizeof body));
    if (code) {
        return code;
    }
    struct tree_ring_key place = tree_ring_key(tomb.place);
    uint8_t ring[TREE_RING_BODY_BYTES];
    memcpy(ring, name.bytes, sizeof name.bytes);
    bytes_store_be64(ring + TREE_NAME_BYTES, now_ms);
    code = tree_put(txn, TREE_RING, tree_val(place.bytes, sizeof place.bytes), RECORD_TOMB,
                    bytes_of(ring, sizeof ring));
    return code ? code : keep_ring_bound(txn, now_ms);
}
