/*
 * The tree: what the log was filled into, in LMDB (default sync), and what all reads come from.
 *
 * Tables (all values sealed by store/record.h):
 *   data   uid u64, part u32, chunk u32 -> head (part 0, chunk 0), recalls (part 0, chunk 1 +
 *          ordinal % 64), when it is armed (part 0, chunk 65), step chunks (part 1 + number)
 *   names  16-byte name of a thread -> uid
 *   keys   16-byte name of a step key -> uid, number, version, shared, writer
 *   young  run u32, 16-byte name -> what names and keys have, for those that came last
 *   due    deadline in s u64, uid u64 -> (empty): when to look whether a thread's time is up
 *   tombs  16-byte name -> reason, shared, version, steps, place in the ring, writer
 *   ring   place u64 -> 16-byte name, time: the tombstones in order, the oldest go first
 *   meta   format, identity, secret, applied sequence, next uid, totals, first run
 *
 * Threading: tree_apply and tree_erase* are the filler's; reads take a read transaction of their
 * own, from any operating-system thread of the pool, and never keep it. Every call that touches the
 * map runs under a guard (store/guard.h): a fault inside LMDB turns into STATUS_INTERNAL and the
 * tree is *broken*: no call touches it again for writing.
 */
#ifndef RETHREAD_STORE_TREE_H
#define RETHREAD_STORE_TREE_H

#include "store/record.h"
#include "store/wal.h"

enum { TREE_SECRET_BYTES = 192, TREE_PAGE_LIMIT = 1000 };

struct tree;

struct tree_settings {
    uint64_t disk_bytes; /* the budget; the sparse map is made several times as large */
    uint64_t max_age_ms;
    uint32_t tombstones; /* kept at the most */
    unsigned readers;
    struct clock *wall;
};

/*
 * Opens `directory`/tree.mdb, or makes it. Before the map is touched the file's size and format are
 * checked. STATUS_INTERNAL: trouble->text says what is wrong and what to do (foreign file, newer
 * format, truncated, not readable); the file is left as it is.
 */
enum status tree_open(const char *directory, const struct tree_settings *settings,
                      struct tree **tree, struct wal_trouble *trouble);
void tree_close(struct tree *tree);

/*
 * A tree of an older format says from now on that it is of this one, so that a server that knows
 * only the older leaves it alone. To be called before anything else is written to the tree, or to
 * the log beside it; does nothing when it says so already. Fails as tree_apply does.
 */
enum status tree_renew(struct tree *tree, struct wal_trouble *trouble);

const uint8_t *tree_secret(const struct tree *tree); /* TREE_SECRET_BYTES, for index_hash */
uint64_t tree_applied(const struct tree *tree);      /* sequence of the last group taken in */
uint64_t tree_next_uid(const struct tree *tree);     /* above every uid in it */

/* ---- The filler's ---- */

/* Called for every name that comes into the tree, before it can be found there. */
typedef void tree_name_fn(void *context, struct index_hash name);

/* Whether steps that come plain are compressed on their way in, from now on; not so at first. */
void tree_compress(struct tree *tree, bool compress);

/* `turn` is called every some ten records that are put, from now on: to let others have their turn,
 * by sleeping for a moment. NULL, as at first: not. */
typedef void tree_turn_fn(void *context);
void tree_take_turns(struct tree *tree, tree_turn_fn *turn, void *context);

/* Whether the tree may have that name; to be asked before it is searched, so that for a name that
 * is new no page is read. "No" must be certain, so whoever is asked is to be told of names by
 * tree_apply. NULL, as at first: it may. */
typedef bool tree_ask_fn(void *context, struct index_hash name);
void tree_ask_for_names(struct tree *tree, tree_ask_fn *ask, void *context);

struct tree_group {
    struct bytes bytes; /* a record group */
    uint64_t sequence;
};

/*
 * Takes in groups, in order, and commits; the applied sequence moves in the same transactions. In
 * several transactions when they are large (each far below what LMDB spills at); a group that needs
 * more than one becomes visible with its last. *taken: groups wholly in the tree and durable, also
 * on an error. A damaged group is STATUS_INTERNAL. trouble->error is ENOSPC for a full disk or map,
 * ENOMEM without memory: the tree is as before and may be asked again. Whatever else fails makes
 * the tree broken.
 */
enum status tree_apply(struct tree *tree, const struct tree_group *groups, size_t count,
                       size_t *taken, tree_name_fn *name, void *context,
                       struct wal_trouble *trouble);

/*
 * Threads whose deadline by the disk's knowledge has passed at `now_ms` (wall clock), at most
 * `limit`: deadline = used + retention + tier_slack_ms, or created + max age. Those that turn out
 * to be due later are re-armed on the way. `victims`: instead those that were idle longest,
 * whatever their deadline, for the disk budget.
 */
enum status tree_due(struct tree *tree, uint64_t now_ms, bool victims, struct tier_due **due,
                     unsigned limit, unsigned *count, struct wal_trouble *trouble);

/* ---- The pool's ---- */

/* Fills in the results of the load. Damage is counted (*damaged). Never waits for the filler. */
void tree_load(struct tree *tree, struct tier_load *load, unsigned *damaged);

/* All names (threads, keys, tombstones), for the filter, in pieces: *after is zeroed at first.
 * False: that was the last piece, or the tree cannot be read; after[0] tells (TREE_NAMES_END: all
 * was read). */
enum { TREE_NAMES_END = 4 };
bool tree_names(struct tree *tree, struct index_hash *names, unsigned limit, unsigned *count,
                uint8_t after[24]);

struct tree_numbers {
    uint64_t file_bytes; /* of the file: it never shrinks, pages within it are used again */
    uint64_t used_bytes; /* of pages that are in use: what a budget is to be held against */
    uint64_t live_bytes; /* of keys and values in the tree */
    uint64_t records;
    uint64_t threads;
    uint64_t names; /* threads, keys, tombstones */
    uint64_t tombstones;
    uint64_t vouch_since_ms; /* wall clock: every tombstone since then is there */
    uint64_t commits;
    uint64_t damaged; /* records that the filler found damaged */
    bool broken;
};

struct tree_numbers tree_numbers(const struct tree *tree); /* any operating-system thread */

/* ---- Offline ---- */

/* Walks and checks everything: every value's seal, every blob, every head's steps, every name and
 * key. `found` is called with one line of text for each damage (ids as hashes only). */
typedef void tree_damage_fn(void *context, const char *text);
struct tree_audit {
    uint64_t threads, steps, records, bytes, damaged;
};
enum status tree_verify(struct tree *tree, tree_damage_fn *found, void *context,
                        struct tree_audit *audit, struct wal_trouble *trouble);

#endif
