/*
 * The tree seen from inside: its handles, what it counts, and how keys and bodies are laid out.
 * Private to src/store/tree*.c and its tests.
 *
 * Who writes. Only the filler runs write transactions (tree_apply.c, tree_due.c); `state` and all
 * that is not atomic or fixed at open is its own. The pool reads `env`, `tables` and the atomics.
 *
 * What a reader may meet between two transactions of one large group:
 * - a key's entry whose uid has no head (any more, or yet): its thread is being erased or written;
 *   that is no damage, the key leads nowhere;
 * - a uid with steps or recalls but no head, or with parts beyond its head's length: no damage;
 * - a name's uid always has a head, and all steps below the head's length are whole.
 */
#ifndef RETHREAD_STORE_TREE_PRIVATE_H
#define RETHREAD_STORE_TREE_PRIVATE_H

#include "store/tree.h"

#include <lmdb.h>
#include <stdatomic.h>

/* ---- Tables -------------------------------------------------------------------------------- */

enum tree_table {
    TREE_DATA,
    TREE_NAMES,
    TREE_KEYS,
    TREE_YOUNG, /* not in a tree that is older than TREE_FORMAT_YOUNG and was not renewed */
    TREE_DUE,
    TREE_TOMBS,
    TREE_RING,
    TREE_META,
    TREE_TABLE_COUNT
};

/* Of the tree, as its identity says it; a record says its own (RECORD_FORMAT). */
enum { TREE_FORMAT = 3, TREE_FORMAT_OLDEST = 1, TREE_FORMAT_YOUNG = 3 };

/* What the filler counts and remembers; stored under TREE_STATE_KEY in every transaction. */
struct tree_state {
    uint64_t applied;    /* sequence of the last group that is wholly in the tree */
    uint64_t next_uid;   /* above every uid that was ever in it */
    uint64_t live_bytes; /* keys and values of all tables but meta */
    uint64_t threads;    /* heads */
    uint64_t ring_next;  /* place that the next one gets */
    uint64_t vouch_since_ms;
    uint64_t run;       /* of young, that new names go to; see tree_names.h */
    uint64_t run_names; /* that have come to it */
    uint64_t shares;    /* of young that were brought home, ever */
};

struct tree {
    MDB_env *env;
    MDB_dbi tables[TREE_TABLE_COUNT];
    struct tree_settings settings;
    uint8_t secret[TREE_SECRET_BYTES];
    uint64_t first_run_ms;
    uint32_t format; /* that the file says it is written in */
    int directory_fd;
    unsigned page_bytes;
    struct tree_state state;      /* as committed */
    bool compresses;              /* see tree_compress */
    struct record_buffer scratch; /* for that */
    tree_turn_fn *turn;           /* see tree_take_turns */
    void *turn_context;
    unsigned turn_puts; /* since it was called */
    tree_ask_fn *ask;   /* see tree_ask_for_names */
    void *ask_context;
    /* What fills a transaction, see TREE_TXN_COST; tests make it less. */
    unsigned txn_cost;
    uint64_t txn_bytes;
    /* Of a run, see TREE_RUN_NAMES; tests make it less, TREE_RUN_SHARES or a multiple of that. */
    unsigned run_names;
    uint64_t damaged_share; /* 1 + its number, of the last that could not come home; 0: none */
    /* Where the next look for what is due goes on, and when its pass began; see tree_due.c. */
    struct tree_pass {
        uint64_t begun_ms;
        uint64_t second;
        uint64_t uid;
    } passes[2];
    /* Set once, never cleared; store-release by whoever met the fault, load-acquire by writers. */
    _Atomic bool broken;
    /* Published by the filler after each commit, read by anybody; each alone, relaxed. */
    struct tree_published {
        _Atomic uint64_t applied;
        _Atomic uint64_t next_uid;
        _Atomic uint64_t file_bytes;
        _Atomic uint64_t used_bytes;
        _Atomic uint64_t live_bytes;
        _Atomic uint64_t records;
        _Atomic uint64_t threads;
        _Atomic uint64_t names;
        _Atomic uint64_t tombstones;
        _Atomic uint64_t vouch_since_ms;
        _Atomic uint64_t commits;
        _Atomic uint64_t damaged; /* records that the filler found damaged */
    } published;
};

static inline bool tree_is_broken(const struct tree *tree)
{
    return atomic_load_explicit(&tree->broken, memory_order_acquire);
}

static inline void tree_set_broken(struct tree *tree)
{
    atomic_store_explicit(&tree->broken, true, memory_order_release);
}

static inline bool tree_has_young(const struct tree *tree)
{
    return tree->format >= TREE_FORMAT_YOUNG;
}

/* False: for certain neither a thread, a key nor a tombstone of that name is in the tree. */
static inline bool tree_may_have(const struct tree *tree, struct index_hash name)
{
    return !tree->ask || tree->ask(tree->ask_context, name);
}

static inline void tree_count_damaged(struct tree *tree)
{
    /* Relaxed: a number of its own. */
    atomic_fetch_add_explicit(&tree->published.damaged, 1, memory_order_relaxed);
}

/* ---- Keys ---------------------------------------------------------------------------------- */

enum {
    TREE_BODY_MAX = RECORD_VALUE_MAX - RECORD_SEAL_BYTES, /* of a chunk */
    TREE_DATA_KEY_BYTES = 16,
    TREE_NAME_BYTES = 16,
    TREE_DUE_KEY_BYTES = 16,
    TREE_RING_KEY_BYTES = 8,
    /* Part 0 of a uid. */
    TREE_CHUNK_HEAD = 0,    /* RECORD_HEAD */
    TREE_CHUNK_RECALLS = 1, /* RECORD_RECALL, at 1 + ordinal % TIER_RECALL_MAX */
    TREE_CHUNK_ARMED = 65,  /* RECORD_META: u64, the second its due entry stands at */
    /* The step of number n: part 1 + n, chunks 0, 1, 2, ... (RECORD_CHUNK), all but the last of
     * them TREE_BODY_MAX bytes. */
    TREE_PART_STEPS = 1,
};

struct tree_data_key {
    uint8_t bytes[TREE_DATA_KEY_BYTES];
};

static inline struct tree_data_key tree_data_key(uint64_t uid, uint32_t part, uint32_t chunk)
{
    struct tree_data_key key = {{0}};
    bytes_store_be64(key.bytes, uid);
    bytes_store_be32(key.bytes + 8, part);
    bytes_store_be32(key.bytes + 12, chunk);
    return key;
}

/* False: no key of this table. */
static inline bool tree_open_data_key(MDB_val key, uint64_t *uid, uint32_t *part, uint32_t *chunk)
{
    if (key.mv_size != TREE_DATA_KEY_BYTES) {
        return false;
    }
    *uid = bytes_load_be64(key.mv_data);
    *part = bytes_load_be32((const uint8_t *)key.mv_data + 8);
    *chunk = bytes_load_be32((const uint8_t *)key.mv_data + 12);
    return true;
}

/* Keys of names, keys and tombs, and the body of ring begins with it. */
struct tree_name {
    uint8_t bytes[TREE_NAME_BYTES];
};

static inline struct tree_name tree_name(struct index_hash hash)
{
    struct tree_name name = {{0}};
    bytes_store_be64(name.bytes, hash.low);
    bytes_store_be64(name.bytes + 8, hash.high);
    return name;
}

static inline struct index_hash tree_load_name(const uint8_t *at)
{
    return (struct index_hash){.low = bytes_load_be64(at), .high = bytes_load_be64(at + 8)};
}

static inline bool tree_same_name(struct index_hash a, struct index_hash b)
{
    return a.low == b.low && a.high == b.high;
}

struct tree_due_key {
    uint8_t bytes[TREE_DUE_KEY_BYTES];
};

static inline struct tree_due_key tree_due_key(uint64_t second, uint64_t uid)
{
    struct tree_due_key key = {{0}};
    bytes_store_be64(key.bytes, second);
    bytes_store_be64(key.bytes + 8, uid);
    return key;
}

struct tree_ring_key {
    uint8_t bytes[TREE_RING_KEY_BYTES];
};

static inline struct tree_ring_key tree_ring_key(uint64_t place)
{
    struct tree_ring_key key = {{0}};
    bytes_store_be64(key.bytes, place);
    return key;
}

/* Keys of meta, with their zero byte. Both values are RECORD_META. */
#define TREE_IDENTITY_KEY "identity" /* TREE_IDENTITY_BYTES: mark, format, secret, first run */
#define TREE_STATE_KEY    "state"    /* TREE_STATE_BYTES: struct tree_state */

/* ---- Bodies (what a sealed value holds) ---------------------------------------------------- */

enum {
    TREE_UID_BYTES = 8,        /* names: RECORD_NAME, the uid */
    TREE_RING_BODY_BYTES = 24, /* ring: RECORD_TOMB, the name, u64 wall clock of the burial in ms */
    TREE_DUE_BODY_BYTES = 0,   /* due: RECORD_META, nothing but the seal */
    TREE_MARK_BYTES = 8,
    TREE_IDENTITY_BYTES = TREE_MARK_BYTES + 4 + TREE_SECRET_BYTES + 8,
    TREE_STATE_BYTES = 9 * 8,
    TREE_STATE_BYTES_OLD = 6 * 8, /* before TREE_FORMAT_YOUNG: without what is of young */
};

/* keys: RECORD_KEY. */
struct tree_key_entry {
    uint64_t uid;
    uint32_t number;
    uint32_t version; /* of the step */
    bool shared;
    uint8_t kind;            /* enum record_kind of the key */
    struct index_hash owner; /* name of the thread that wrote it */
};

static inline void tree_put_key_entry(uint8_t *at, const struct tree_key_entry *entry)
{
    bytes_store_be64(at, entry->uid);
    bytes_store_be32(at + 8, entry->number);
    bytes_store_be32(at + 12, entry->version);
    at[16] = entry->shared;
    at[17] = entry->kind;
    bytes_store_be64(at + 18, entry->owner.low);
    bytes_store_be64(at + 26, entry->owner.high);
}

static inline bool tree_open_key_entry(struct bytes body, struct tree_key_entry *entry)
{
    if (!body.data || body.size != RECORD_KEY_BYTES) {
        return false;
    }
    entry->uid = bytes_load_be64(body.data);
    entry->number = bytes_load_be32(body.data + 8);
    entry->version = bytes_load_be32(body.data + 12);
    entry->shared = body.data[16] != 0;
    entry->kind = body.data[17];
    entry->owner = tree_load_name(body.data + 18);
    return true;
}

/* tombs: RECORD_TOMB. */
struct tree_tomb {
    uint8_t reason;
    bool shared;
    uint32_t version; /* of a thread; of a key the low 32 bits of owner.high */
    uint32_t steps;
    uint64_t place;          /* in the ring */
    struct index_hash owner; /* of a key: name of the thread that wrote it; of a thread its own */
};

static inline void tree_put_tomb(uint8_t *at, const struct tree_tomb *tomb)
{
    at[0] = tomb->reason;
    at[1] = tomb->shared;
    bytes_store_be32(at + 2, tomb->version);
    bytes_store_be32(at + 6, tomb->steps);
    bytes_store_be64(at + 10, tomb->place);
    bytes_store_be64(at + 18, tomb->owner.low);
    bytes_store_be64(at + 26, tomb->owner.high);
}

static inline bool tree_open_tomb(struct bytes body, struct tree_tomb *tomb)
{
    if (!body.data || body.size != RECORD_TOMB_BYTES || body.data[0] >= REASON_COUNT) {
        return false;
    }
    tomb->reason = body.data[0];
    tomb->shared = body.data[1] != 0;
    tomb->version = bytes_load_be32(body.data + 2);
    tomb->steps = bytes_load_be32(body.data + 6);
    tomb->place = bytes_load_be64(body.data + 10);
    tomb->owner = tree_load_name(body.data + 18);
    return true;
}

/* ---- LMDB and records ---------------------------------------------------------------------- */

static inline MDB_val tree_val(const void *data, size_t size)
{
    return (MDB_val){.mv_size = size, .mv_data = (void *)(uintptr_t)data};
}

static inline struct bytes tree_bytes(MDB_val val)
{
    return bytes_of(val.mv_data, val.mv_size);
}

/* The body of a value that was found under the key; `data` is NULL when it is damaged. */
static inline struct bytes tree_check(MDB_val key, MDB_val value, enum record_value kind)
{
    return record_check(tree_bytes(value), tree_bytes(key), kind);
}

/* When the disk may forget a thread, in ms of the wall clock; rounded late. */
static inline uint64_t tree_deadline_ms(const struct tree *tree, const struct tier_head *head)
{
    uint64_t idle = head->retention_ms + tier_slack_ms(head->retention_ms);
    uint64_t deadline = head->used_ms + idle < idle ? UINT64_MAX : head->used_ms + idle;
    uint64_t age = tree->settings.max_age_ms;
    if (age && head->created_ms <= UINT64_MAX - age && head->created_ms + age < deadline) {
        deadline = head->created_ms + age;
    }
    return deadline;
}

/* The same in the seconds of the due table. */
static inline uint64_t tree_due_second(uint64_t deadline_ms)
{
    return deadline_ms / 1000 + (deadline_ms % 1000 != 0);
}

/* ---- tree.c -------------------------------------------------------------------------------- */

/* tree_open with a map of that size; for tests of a full one. */
enum status tree_open_mapped(const char *directory, const struct tree_settings *settings,
                             size_t map_bytes, struct tree **tree, struct wal_trouble *trouble);

/* Fills in trouble; always STATUS_INTERNAL. */
enum status tree_refuse(struct wal_trouble *trouble, int error, const char *call, const char *text);

/* ---- tree_txn.c ---------------------------------------------------------------------------- */

/* One of the published numbers. */
static inline uint64_t tree_read_one(const _Atomic uint64_t *from)
{
    return atomic_load_explicit(from, memory_order_relaxed); /* pairs with tree_publish */
}

struct tree_counts {
    uint64_t entries[TREE_TABLE_COUNT];
    uint64_t pages; /* in use, with LMDB's own */
};

int tree_count_tables(const struct tree *tree, MDB_txn *txn, struct tree_counts *counts);
void tree_publish(struct tree *tree, const struct tree_counts *counts);
bool tree_open_state(struct bytes body, struct tree_state *state);

/*
 * A transaction of the filler. `state` is its own copy, stored and published by tree_commit and
 * dropped by tree_abort. Every function returns LMDB's code or an errno; after one that is not 0
 * the transaction must be aborted. All run under a guard.
 */
struct tree_txn {
    struct tree *tree;
    MDB_txn *txn;
    MDB_cursor *cursor; /* on data; goes with the transaction */
    MDB_cursor *young;  /* likewise; the one way in which that table is written */
    struct tree_state state;
    unsigned cost;       /* see TREE_TXN_COST */
    uint64_t size_bytes; /* put */
};

/*
 * How much goes into one transaction: a put costs 1, a deletion 8, so that at most 2,000 records
 * are deleted, and at most some 16,000 pages (64 MiB) become dirty if each record is on one of its
 * own. Half of it took a quarter longer for appends with three keys each.
 */
enum { TREE_TXN_COST = 16000, TREE_COST_DELETE = 8, TREE_TXN_BYTES = 16 << 20 };

static inline bool tree_txn_is_full(const struct tree_txn *txn)
{
    return txn->cost >= txn->tree->txn_cost || txn->size_bytes >= txn->tree->txn_bytes;
}

int tree_begin(struct tree *tree, struct tree_txn *txn);
int tree_commit(struct tree_txn *txn);
void tree_abort(struct tree_txn *txn); /* of one that is begun; may be called after tree_commit */

/* MDB_NOTFOUND: absent. 0 and no body->data: damaged (counted). */
int tree_get(struct tree_txn *txn, enum tree_table table, MDB_val key, enum record_value kind,
             struct bytes *body);
/* Seals and puts; an older value is replaced. */
int tree_put(struct tree_txn *txn, enum tree_table table, MDB_val key, enum record_value kind,
             struct bytes body);
/* A blob as it is to be stored: lent until the next one. */
struct bytes tree_blob(struct tree *tree, struct bytes blob);
/* The same through a cursor of the table. */
int tree_get_at(struct tree_txn *txn, MDB_cursor *cursor, MDB_val key, enum record_value kind,
                struct bytes *body);
int tree_put_at(struct tree_txn *txn, enum tree_table table, MDB_cursor *cursor, MDB_val key,
                enum record_value kind, struct bytes body);
int tree_delete(struct tree_txn *txn, enum tree_table table, MDB_val key); /* absent: 0 */
/* Deletes the record that the cursor is on; where it is afterwards, nobody knows. */
int tree_delete_at(struct tree_txn *txn, enum tree_table table, MDB_cursor *cursor, MDB_val key,
                   MDB_val value);

/* Moves (or makes, or with UINT64_MAX removes) the due entry of a uid, and its armed record. */
int tree_arm(struct tree_txn *txn, uint64_t uid, uint64_t second);
/* *second is UINT64_MAX when it has none. */
int tree_armed(struct tree_txn *txn, uint64_t uid, uint64_t *second);

/* Whether the code says no more than that space, or memory, is lacking now. */
bool tree_lacks_room(const struct tree *tree, int code);

/* Fills in trouble from a code; sets broken unless for lack of space or memory. STATUS_INTERNAL. */
enum status tree_fail(struct tree *tree, int code, struct wal_trouble *trouble);

/* ---- tree_tombs.c -------------------------------------------------------------------------- */

/* Takes it away; *found is false when there is none. */
int tree_take_tomb(struct tree_txn *txn, struct index_hash hash, struct tree_tomb *tomb,
                   bool *found);
/* `tomb` but for its place; one that is there already is replaced. */
int tree_bury(struct tree_txn *txn, uint64_t now_ms, struct index_hash hash, struct tree_tomb tomb);

#endif
