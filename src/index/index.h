/*
 * The lock-free hash index: 64-bit slots that lead from a 128-bit key hash to a record.
 *
 * Shape. A record begins with a struct index_record and lies in the arena, 16-byte aligned. A slot
 * holds [tentative 1][frozen 1][tag 14][tick 16][address 32]; a bucket is one 64-byte line of six
 * slots, a word that puts its inserts in order, and a link to overflow lines; 32 buckets are a
 * segment; a directory indexed by the low hash bits leads to segments, and an empty directory entry
 * means the index without its top set bit.
 *
 * Ownership. The index owns directory, segments and overflow lines. Records belong to the caller.
 * After INDEX_DONE a record may be reused only when it has left the index (removed or replaced) and
 * a grace period has passed: epoch_retire it; above all do not insert it again before. After
 * INDEX_EXISTS nobody else has seen the record: it may be freed, or inserted again, at once.
 *
 * Ordering guarantees
 * O1. What was written to a record before index_insert or index_replace is seen by whoever finds
 * it. O2. index_find is linearisable: it returns a record that was in the index at some moment of
 * the call, and misses a key only if the key was absent at some moment of the call. O3. Of racing
 * inserts of one key exactly one returns INDEX_DONE; the others are given its record. After
 * INDEX_DONE everybody finds the record; before the call nobody does. O4. At no moment do two final
 * slots, of those that index_find can reach, hold records of one key. O5. index_replace and
 * index_remove succeed for exactly one of those racing on the same record. Between old and fresh of
 * a replace no finder misses the key. O6. A record that stays is visited at least once by a full
 * pass of the sweep (by the one sweeper that has its bucket) and exactly once by a scan, whatever
 * splits happen meanwhile. Progress guarantees P1. index_find is wait-free: it does one load per
 * slot, never waits and never helps. It starts again only when a split on its path has overtaken
 * it, at most 24 times ever for one hash. P2. Insert, replace, remove and split are lock-free:
 * every retry means that another operation took effect. A split or a committed insert that is met
 * on the way is helped to its end. P3. Nothing stops the world: a split copies one segment (some
 * 140 slots), doubling the directory is one store. Overflow lines that have outlived their records
 * go with the next copy. Segments are not merged again: an index keeps the size of its fullest
 * hour, some 16 to 30 bytes for each record it then had.
 *
 * All functions want the member online, and it stays so until what they returned is done with.
 */
#ifndef RETHREAD_INDEX_INDEX_H
#define RETHREAD_INDEX_INDEX_H

#include "base/bytes.h"
#include "index/epoch.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct index;

/*
 * A keyed XXH3-128 (192-byte secret per index). `low` places the record. XXH3 is no cryptographic
 * function: hashes never reach a client or a log, or the secret could be worked out.
 */
struct index_hash {
    uint64_t low;
    uint64_t high;
};

struct index_record {
    uint64_t hash_low; /* set before insertion, never changed while in the index */
    uint8_t kind;      /* the rest is the owner's */
    uint8_t flags;
    uint16_t small;
    uint32_t word;
};

/* Whether `record` (hash_low already compared) is the one meant by `key`, in full. */
typedef bool index_match_fn(const struct index_record *record, const void *key);

enum { INDEX_SECRET_BYTES = 192 };

/*
 * The epoch kind the index retires its segments under is `epoch_kind`: the index defines it.
 * `secret`: INDEX_SECRET_BYTES of the hash, copied; NULL: a random one, for this process only.
 */
struct index *index_create(struct arena *arena, struct epoch *epoch, unsigned epoch_kind,
                           const uint8_t *secret);
/* After all members left and before epoch and arena go; NULL is allowed. Both this and
 * index_create open an arena cache for the time of the call. */
void index_destroy(struct index *index);

struct index_hash index_hash(const struct index *index, uint16_t tenant, uint8_t kind,
                             struct bytes id); /* at most 255 bytes */

/* The same without an index, for who keeps names beyond the process. */
struct index_hash index_hash_with(const uint8_t *secret, uint16_t tenant, uint8_t kind,
                                  struct bytes id);

/* The record, valid while the member stays online; NULL when absent. */
struct index_record *index_find(const struct index *index, struct index_hash hash,
                                index_match_fn *match, const void *key);

/*
 * Hints, for many lookups at once: bring in the directory's entry, then the bucket, then the first
 * record its tags point to, or its first `size_bytes`. Each is of use only when what the one before
 * brought in has had time to arrive: so each over all lookups before the next. What a hint has seen
 * counts for nothing; index_find looks again. The last returns that record, which may be another
 * than is meant and bear the same tag, as index_find does: NULL says that there is none, unless it
 * lies in an overflow line.
 */
void index_prefetch_directory(const struct index *index, struct index_hash hash);
void index_prefetch_bucket(const struct index *index, struct index_hash hash);
const struct index_record *index_prefetch_record(const struct index *index, struct index_hash hash,
                                                 size_t size_bytes);

enum index_result { INDEX_DONE, INDEX_EXISTS };

/*
 * A tick is the low end of a coarse time, at which index_sweep shall look at a record; 0 = never.
 * When it is given it is at most so far ahead of the sweepers' time, and not before it but for the
 * moments by which times differ (a thousand ticks do no harm).
 */
enum { INDEX_TICKS_AHEAD_MAX = 0x4000 };

/*
 * Inserts `record` (whose hash_low is hash.low). INDEX_EXISTS: *existing is the record that holds
 * the key.
 */
enum index_result index_insert(struct index *index, struct epoch_member *member,
                               struct index_hash hash, struct index_record *record, uint16_t tick,
                               index_match_fn *match, const void *key,
                               struct index_record **existing);

/*
 * old -> fresh (same key, so same hash_low; never inserted so far) in one step. False when `old` is
 * no longer in the index; nobody has seen `fresh` then.
 */
bool index_replace(struct index *index, struct epoch_member *member, const struct index_record *old,
                   struct index_record *fresh, uint16_t tick);

/* false when `record` was not, or no longer, in the index. */
bool index_remove(struct index *index, struct epoch_member *member,
                  const struct index_record *record);

/* Gives the record's slot another tick, unless the record has left the index. */
void index_retick(struct index *index, struct epoch_member *member,
                  const struct index_record *record, uint16_t tick);

/*
 * Sweeping. The buckets are shared out among `shares` sweepers (each record is in one share; more
 * than 32 sweepers leave some without work); a cursor is one sweeper's own and starts zeroed. Goes
 * on from where the cursor stands for about as long as looking at `slots` slots takes; buckets
 * where nothing is due are left out, but a hint each. A final slot whose tick is due (16-bit
 * circular comparison with `now`, the sweepers' time in ticks), or every one when `all`, is handed
 * to `due`, which returns the slot's next tick (0 = never), after doing with the record what it
 * likes, index operations included; it must not go offline. The record may have left the index a
 * moment ago, by another's hand; the tick is set only if it is still there. Returns true when this
 * call reached the end of the share (the cursor wraps). What nobody looks at for half a circle
 * after its tick is taken for not due in the other half.
 */
typedef uint16_t index_due_fn(void *context, struct index_record *record);

struct index_cursor {
    uint32_t segment;
    uint32_t bucket;
    uint64_t begun; /* when the pass at hand began, in ticks */
    unsigned wary;  /* so many passes, this one among them, look at every slot */
};

bool index_sweep(struct index *index, struct epoch_member *member, struct index_cursor *cursor,
                 unsigned share, unsigned shares, unsigned slots, bool all, uint64_t now,
                 index_due_fn *due, void *context);

/*
 * Scanning, for listings. Records are visited in one fixed order, that of bit-reversed hashes, so
 * that splits between calls change nothing (O6). `visit` returns false to stop *after* this record.
 * Visits at most `records` records a call, and goes over at most 64 empty segments: it may visit
 * fewer, or none, and not be at the end. Returns true at the end (and again when called again). A
 * zeroed cursor starts; any value is safe, but it holds a hash: seal it before a client sees it.
 */
struct index_scan {
    uint64_t position; /* the bit-reversed hash_low of the last record visited */
    uint32_t after;    /* and its arena reference, which tells equal hashes apart */
};

/* Of all records with this hash_low; and the other way round. */
uint64_t index_scan_position(uint64_t hash_low);

typedef bool index_visit_fn(void *context, struct index_record *record);

bool index_scan(struct index *index, struct index_scan *scan, unsigned records,
                index_visit_fn *visit, void *context);

struct index_stats {
    uint64_t records; /* about right while others write */
    uint64_t segments;
    uint64_t splits;
    uint64_t bytes; /* all of the index; what is not in the arena is charged to it */
};

struct index_stats index_stats(const struct index *index);

#endif
