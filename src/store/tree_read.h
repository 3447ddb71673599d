/*
 * Reading the tree with suspicion: one transaction, one cursor, copies before checks. Private to
 * src/store/tree*.c.
 *
 * What LMDB hands out may be garbage from a damaged page: keys out of order or of any size, values
 * that end anywhere. So a key and its value are copied (which may fault: all of this runs under a
 * guard) and only the copy is checked and used. A walk ends after a bounded number of entries that
 * fail or do not come in order, so that pages linked in a circle end too.
 */
#ifndef RETHREAD_STORE_TREE_READ_H
#define RETHREAD_STORE_TREE_READ_H

#include "store/tree_names.h"

enum { TREE_READ_KEY_MAX = TREE_YOUNG_KEY_BYTES, TREE_READ_BAD_MAX = 1024 };

enum tree_seen {
    TREE_SEEN,       /* an entry, or the one that was asked for */
    TREE_END,        /* none, or no such */
    TREE_DAMAGED,    /* whether there is one cannot be told, or it is damaged */
    TREE_UNREADABLE, /* no memory, no reader's slot */
};

struct tree_reading {
    struct tree *tree;
    MDB_txn *txn;
    MDB_cursor *cursor;
    const uint8_t *page; /* the last leaf that was looked over */
    unsigned damaged;    /* entries that fail their check */
    enum tree_seen seen; /* what the last move came to */
    uint64_t entries;    /* that LMDB handed out, and their bytes */
    uint64_t entry_bytes;
    size_t key_bytes; /* of the copies */
    size_t value_bytes;
    uint8_t key[TREE_READ_KEY_MAX];
    uint8_t value[RECORD_VALUE_MAX];
};

/* Whoever begins (zeroed, with `tree` set) ends, whatever happened in between; neither needs a
 * guard of its own but to begin. */
enum tree_seen tree_read_begin(struct tree_reading *reading);
void tree_read_end(struct tree_reading *reading);

/* Puts the cursor on another table. */
enum tree_seen tree_read_table(struct tree_reading *reading, enum tree_table table);

/*
 * Moves the cursor and copies key and value. `from`: the key to start at (MDB_SET_RANGE), else
 * empty. TREE_DAMAGED: of a size that no entry has; the cursor may be moved on.
 */
enum tree_seen tree_read_move(struct tree_reading *reading, MDB_cursor_op op, struct bytes from);

/* The body of the copy; `data` is NULL when it fails. Does not count. */
struct bytes tree_read_body(const struct tree_reading *reading, enum record_value kind);

/*
 * The entry of exactly this key. TREE_END only when its neighbours are sound and in order: an entry
 * that got lost by damage to its own key, or to the way there, is TREE_DAMAGED. (`body` leads into
 * the copy.)
 */
enum tree_seen tree_read_entry(struct tree_reading *reading, enum tree_table table,
                               struct bytes key, enum record_value kind, struct bytes *body);

/* The entry of a name, at home or in young: see tree_names.h. The cursor stands on it. */
enum tree_seen tree_read_name(struct tree_reading *reading, enum tree_table home,
                              struct index_hash name, struct bytes *body);

/* The body of the copy, an entry of young, of either kind; as tree_read_body. */
struct bytes tree_read_young(const struct tree_reading *reading);

/* A thread's head; `head.id` leads into the copy. The cursor stands on it. TREE_END: no such uid.
 */
enum tree_seen tree_read_head(struct tree_reading *reading, uint64_t uid, struct tier_head *head);

/* ---- tree_image.c -------------------------------------------------------------------------- */

/* What a thread's steps look like before they are decoded: blobs back to back. */
struct tree_span {
    size_t offset;
    size_t size;
    uint32_t chunks;
    bool bad;
};

struct tree_gathering {
    struct tier_head head;
    uint8_t id[TIER_ID_BYTES_MAX]; /* where head.id leads */
    uint32_t recall_count;
    struct recall_entry recalls[TIER_RECALL_MAX];
    struct tree_span *spans; /* head.length - head.lost; owned */
    uint8_t *blobs;          /* owned */
    size_t size;
    size_t capacity;
    unsigned damaged; /* entries of the thread that fail their check */
};

/* What the data table has at such a key. */
enum record_value tree_read_kind(uint32_t part, uint32_t chunk);

/* Takes in all that belongs to `head`, on which the cursor stands, and leaves it on what comes
 * behind (reading->seen). TREE_SEEN; damage is in spans and counted. Runs under a guard. */
enum tree_seen tree_gathering_fill(struct tree_reading *reading, const struct tier_head *head,
                                   struct tree_gathering *gathering);

/* Decodes; needs neither guard nor transaction. NULL: no memory. */
struct tier_image *tree_gathering_image(struct tree_gathering *gathering);
void tree_gathering_free(struct tree_gathering *gathering);

/* ---- tree_verify.c ------------------------------------------------------------------------- */

/* tree_verify, for who wants to see how far it is. Either may be NULL. */
struct tree_watch {
    tree_damage_fn *found;
    void (*progress)(void *context, uint64_t records);
    void *context;
};

enum status tree_watch_verify(struct tree *tree, const struct tree_watch *watch,
                              struct tree_audit *audit, struct wal_trouble *trouble);

#endif
