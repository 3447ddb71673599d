/*
 * What the files of the index share. Nobody else includes this.
 *
 * Words. A slot holds [tentative 1][frozen 1][tag 14][tick 16][address 32]; 0 is an empty slot. An
 * address is an arena reference, never 0. A tentative slot is a place taken by an insert that has
 * not been decided: everybody but its inserter passes over it. A frozen slot never changes again; a
 * frozen insert word lets nothing more be committed.
 *
 * A bucket is a head line of six slots, the insert word and the link word, then a chain of
 * overflow lines of seven slots and a link word. Records never move within a chain and lines never
 * leave it. A slot's position counts along the chain.
 *
 * Insert word: [unused 1][frozen 1][pending 1][position 21][version 40]. It puts the inserts of
 * one bucket in order. An insert reads it, finishes the pending insert before it, scans the whole
 * chain, takes an empty slot (0 -> tentative) and commits by advancing the version with its own
 * position as pending; then the slot turns final. The commit fails if any other insert of the
 * bucket was committed since the read, so between the scan and the commit no record can have
 * joined the chain: that is O3 and O4. Only the inserter commits, so it always knows the outcome;
 * anybody can finish it, so a committed insert never holds up another.
 *   W1. While the word reads (version, pending, position) the slot there has not been emptied: a
 *       remover clears `pending` first. So a tentative slot read between two equal reads of such a
 *       word is the committed one.
 *   W2. The version makes a stale commit fail; 2^40 inserts into one bucket during one insert are
 *       taken as impossible.
 *
 * Directory. Entry = [unused 24][depth 8][segment 32]; 0 is empty and stands for the index without
 * its top set bit. Entry i of depth d (i < 2^d) leads to the segment of all hashes whose low d bits
 * are i. Splitting (i, d) sets (1) entry j = i + 2^d to (B, d + 1) and (2) the global depth to at
 * least d + 1, then, after both, (3) entry i to (A, d + 1). No other split ever sets j.
 *   Locating. Read the global depth D, walk from low mod 2^D down by top bits to the first set
 *   entry (x, d); when low mod 2^d is not x, start again.
 *   D1. The walk ends: entry 0 is always set.
 *   D2. A restart means that a split on this hash's path was completed meanwhile: x was deepened
 *       past a sibling on our path, which was set and within the global depth before (step 3 comes
 *       last), but which the walk had read as empty, or left out because D was still too small. A
 *       path has at most DEPTH_MAX splits.
 *   D3. The segment found was the only home of the hash at a moment of the call: its records could
 *       have changed elsewhere before we read x only through B, as A cannot be reached before step
 *       3, which overwrites what we read. If d + 1 <= D, the walk read j as empty, so B could not
 *       be reached then; else step 2 was still to come when D was read, and nobody looks at j
 *       before it. And from its freezing on the old segment keeps what was true at the moment
 *       before B or A could be reached; so reading it later gives an answer of the call's time.
 * A segment may also be replaced by a fresh copy of the same depth, when overflow lines have piled
 * up without records: the same, with step 3 alone.
 *
 * Hints. Beside each entry of the directory lies for each bucket of its segment the earliest tick
 * of its slots, so that the sweep leaves out the buckets where nothing is due, and reads for that
 * one line after the other. A hint may be too early; once all who gave a slot its tick have
 * returned it is not too late.
 *   H1. Who has given a slot a tick lowers the hint to it afterwards, if it is later.
 *   H2. Who raises a hint, a sweeper, first sets it to 0 (never), then looks at the entry and at
 *       every slot of the chain, tentative ones too, and lowers it to the earliest tick found. A
 *       slot that it saw without the tick, or whose line or segment it did not see, was given the
 *       tick after that look; so H1's lowering comes after the wiping and is not wiped out. That
 *       needs one order of operations on several words, so they are sequentially consistent: the
 *       changes of slot, link and entry and the load of the hint in H1, the wiping and the looks at
 *       entry, slots and links in H2. (A giver's load of the entry acquires: that puts the change
 *       of the entry before its load of the hint in that order too.)
 *   H3. Who sets the second entry of a split has lowered its hints to the ticks of its slots; no
 *       sweeper wipes the hints of an entry that is not set. The first one's are those of all that
 *       was there: only too early. (Who gave a slot of the frozen segment its tick lowers the first
 *       one's; if the record has gone to the second, its tick went with it.)
 *   H4. H1 and H3 compare ticks to each other, which goes wrong when they are half a circle apart:
 *       when the hint has been due for long, as after a standstill of the sweeper. So a sweeper
 *       whose pass has taken HINTS_HOLD_TICKS looks into all buckets for the rest of it and in the
 *       next pass. So between two looks at a bucket, of which the second trusted its hint, there
 *       are less than two such times, and no tick given is more than INDEX_TICKS_AHEAD_MAX ahead.
 *       What is left, HINTS_SPARE_TICKS, is for times that differ between those who give and look.
 */
#ifndef RETHREAD_INDEX_INDEX_IMPL_H
#define RETHREAD_INDEX_INDEX_IMPL_H

#include "index/index.h"

#include <assert.h>
#include <stdatomic.h>

/* Where the schedule explorer of the tests switches between operations; nothing otherwise. */
#ifndef INDEX_POINT
#define INDEX_POINT() ((void)0)
#endif

/*
 * The size of segments and when they are replaced: once so many lines were added since the segment
 * was built; by two if it holds so many records, else by one fresh copy. (Five lines mean some 140
 * records if they only ever joined. Larger segments make for longer inserts, smaller ones for more
 * memory. The explorer has smaller ones, so that few operations split.)
 */
#ifndef INDEX_BUCKET_BITS
#define INDEX_BUCKET_BITS       5
#define INDEX_LINES_ADDED_MAX   5
#define INDEX_SPLIT_RECORDS_MIN 115
#endif

enum {
    LINE_BYTES = 64,
    LINE_WORDS = 8,
    HEAD_SLOTS = 6,
    LINE_SLOTS = 7,
    WORD_INSERT = 6, /* in the head line */
    WORD_LINK = 7,
    BUCKETS = 1 << INDEX_BUCKET_BITS,
    DEPTH_MAX = 24,
    BUCKET_SHIFT = 32, /* bits of hash_low: 0-23 directory, 32-36 bucket, 38-51 tag */
    TAG_SHIFT = 38,
    COUNTER_COUNT = 32,
    HINTS_SPARE_TICKS = 0x400,
    HINTS_HOLD_TICKS = (0x8000 - INDEX_TICKS_AHEAD_MAX - HINTS_SPARE_TICKS) / 2,
    DIRECTORY_PAGE_BYTES = 4096,
    DIRECTORY_PAGES = (1 << DEPTH_MAX) / DIRECTORY_PAGE_BYTES * 8,
};

/* A page of the directory and the hints of its entries. */
#define DIRECTORY_CHARGE_BYTES                                                                     \
    (DIRECTORY_PAGE_BYTES + DIRECTORY_PAGE_BYTES / 8 * sizeof(struct index_hints))

#define SLOT_TENTATIVE    ((uint64_t)1 << 63)
#define WORD_FROZEN       ((uint64_t)1 << 62)
#define SLOT_TAG_SHIFT    48
#define SLOT_TAG_MASK     ((uint64_t)0x3fff << SLOT_TAG_SHIFT)
#define SLOT_TICK_SHIFT   32
#define SLOT_TICK_MASK    ((uint64_t)0xffff << SLOT_TICK_SHIFT)
#define WORD_REF_MASK     ((uint64_t)0xffffffff)
#define INSERT_PENDING    ((uint64_t)1 << 61)
#define INSERT_AT_SHIFT   40
#define INSERT_AT_MASK    ((uint64_t)0x1fffff << INSERT_AT_SHIFT)
#define INSERT_VERSION    (((uint64_t)1 << INSERT_AT_SHIFT) - 1)
#define ENTRY_DEPTH_SHIFT 32

struct index_line {
    _Atomic uint64_t word[LINE_WORDS];
};

/* Of one entry of the directory: of each bucket a tick, 0: never. */
struct index_hints {
    _Alignas(LINE_BYTES) union {
        _Atomic uint16_t tick[BUCKETS];
        /* The same, for looks at several at once. Where 64 bits are loaded at once, so is each of
         * the ticks in them; the first of four is in the lower bits (little-endian). */
        _Atomic uint64_t four[(BUCKETS + 3) / 4];
    };
};

struct index_segment {
    /* 0, then [B 32][A 32]: what replaces this segment; B is 0 for a fresh copy. */
    _Atomic uint64_t successor;
    _Atomic uint32_t lines_added; /* a hint: relaxed, pairs with nothing */
    uint32_t link;                /* the epoch's, once retired */
    uint32_t offset_bytes;        /* of this struct in its allocation: it is aligned to lines */
    uint8_t padding[LINE_BYTES - 20];
    struct index_line bucket[BUCKETS];
};

_Static_assert(sizeof(struct index_segment) == (BUCKETS + 1) * LINE_BYTES, "lines are aligned");

/* Records joined minus left, spread so that loops do not share a line. Relaxed: only ever summed.
 */
struct index_counter {
    _Alignas(128) _Atomic uint64_t records;
};

struct index {
    /* Constant after index_create. */
    struct arena *arena;
    struct epoch *epoch;
    uint8_t *base;
    _Atomic uint64_t *directory;
    struct index_hints *hints; /* of the entries */
    unsigned epoch_kind;
    uint8_t secret[192];

    _Alignas(128) _Atomic uint64_t depth; /* global depth: grows at most DEPTH_MAX times */

    /* Gauges, changed by splits and by overflow lines only. Relaxed: only ever read alone. */
    _Alignas(128) _Atomic uint64_t segments;
    _Atomic uint64_t splits;
    _Atomic uint64_t bytes;
    _Atomic uint64_t pages_seen[DIRECTORY_PAGES / 64]; /* directory pages charged to the arena */

    struct index_counter counter[COUNTER_COUNT];
};

/* Where a hash lives, as of one moment. */
struct index_place {
    uint32_t at; /* in the directory */
    uint64_t entry;
    struct index_segment *segment;
    struct index_line *bucket;
};

/* A line of a chain, with its count of slots and the position of its first. */
struct index_walk {
    struct index_line *line;
    unsigned slots;
    uint32_t position;
};

/*
 * All shared words go through these. Loads acquire and changes release and acquire, so that
 * whoever reads a word sees everything that was done before it was written; which write a read
 * pairs with is said where they are called. A CAS and a look are part of the one order that hints
 * need (H2) as well.
 */
static inline uint64_t index_word_load(const _Atomic uint64_t *word)
{
    INDEX_POINT();
    return atomic_load_explicit(word, memory_order_acquire);
}

static inline bool index_word_cas(_Atomic uint64_t *word, uint64_t *expected, uint64_t desired)
{
    INDEX_POINT();
    return atomic_compare_exchange_strong_explicit(word, expected, desired, memory_order_seq_cst,
                                                   memory_order_acquire);
}

static inline uint64_t index_word_look(const _Atomic uint64_t *word)
{
    INDEX_POINT();
    return atomic_load_explicit(word, memory_order_seq_cst);
}

static inline uint64_t index_word_freeze(_Atomic uint64_t *word)
{
    INDEX_POINT();
    return atomic_fetch_or_explicit(word, WORD_FROZEN, memory_order_acq_rel) | WORD_FROZEN;
}

/* Only for words that nobody else can reach yet; they are published by a later index_word_cas. */
static inline void index_word_store_private(_Atomic uint64_t *word, uint64_t value)
{
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static inline void *index_at(const struct index *index, uint64_t ref)
{
    return arena_at(index->base, (uint32_t)(ref & WORD_REF_MASK));
}

static inline uint64_t index_slot_tag(uint64_t hash_low)
{
    return (hash_low >> TAG_SHIFT << SLOT_TAG_SHIFT) & SLOT_TAG_MASK;
}

static inline uint64_t index_slot_make(uint64_t hash_low, uint16_t tick, uint32_t ref)
{
    return index_slot_tag(hash_low) | (uint64_t)tick << SLOT_TICK_SHIFT | ref;
}

static inline uint16_t index_slot_tick(uint64_t word)
{
    return (uint16_t)(word >> SLOT_TICK_SHIFT);
}

/* Whether the hint has to be lowered for the tick. */
static inline bool index_hint_is_late(uint16_t hint, uint16_t tick)
{
    return tick != 0 && (hint == 0 || (uint16_t)(tick - hint) >= 0x8000);
}

static inline _Atomic uint16_t *index_hint_of(const struct index *index,
                                              const struct index_place *place)
{
    return &index->hints[place->at].tick[place->bucket - place->segment->bucket];
}

/* H1. Lock-free: a failure means that another has lowered the hint, or wiped it. */
static inline void index_hint_lower(_Atomic uint16_t *hint, uint16_t tick)
{
    INDEX_POINT();
    uint16_t seen = atomic_load_explicit(hint, memory_order_seq_cst);
    while (index_hint_is_late(seen, tick)) {
        INDEX_POINT();
        if (atomic_compare_exchange_strong_explicit(hint, &seen, tick, memory_order_seq_cst,
                                                    memory_order_seq_cst)) {
            return;
        }
    }
}

/* Whether a record is to be found here: what is tentative is not yet in the index. */
static inline bool index_slot_is_final(uint64_t word)
{
    return (word & WORD_REF_MASK) != 0 && (word & SLOT_TENTATIVE) == 0;
}

static inline bool index_slot_is_final_with_tag(uint64_t word, uint64_t tag)
{
    return (word & (SLOT_TENTATIVE | SLOT_TAG_MASK)) == tag && (word & WORD_REF_MASK) != 0;
}

/*
 * Loads the slots of a line and tells which are final with the tag, as a set of bits. Without a
 * branch: where in its bucket a record lies is chance, so that a branch would be mispredicted once
 * for each lookup. `slots` is HEAD_SLOTS or LINE_SLOTS.
 */
static inline unsigned index_slots_with_tag(const struct index_line *line, unsigned slots,
                                            uint64_t tag, uint64_t words[LINE_SLOTS])
{
    unsigned found = 0;
    for (unsigned k = 0; k < slots; k++) {
        words[k] = index_word_load(&line->word[k]);
        unsigned tagged = ((words[k] ^ tag) & (SLOT_TENTATIVE | SLOT_TAG_MASK)) == 0;
        unsigned holds = (words[k] & WORD_REF_MASK) != 0;
        found |= (tagged & holds) << k;
    }
    return found;
}

static inline uint32_t index_entry_depth(uint64_t entry)
{
    return (uint32_t)(entry >> ENTRY_DEPTH_SHIFT) & 0xff;
}

static inline uint32_t index_low_bits(uint64_t hash_low, uint32_t depth)
{
    return (uint32_t)(hash_low & (((uint64_t)1 << depth) - 1));
}

static inline struct index_place index_locate(const struct index *index, uint64_t hash_low)
{
    for (;;) {
        /* Acquire: pairs with the raise in split_complete, behind which the new entry is set. */
        uint32_t at = index_low_bits(hash_low, (uint32_t)index_word_load(&index->depth));
        /* Acquire: pairs with the entry's publication in split_complete and index_create. */
        uint64_t entry = index_word_load(&index->directory[at]);
        while (entry == 0) {
            assert(at != 0);
            at &= ~((uint32_t)1 << (31 - __builtin_clz(at)));
            entry = index_word_load(&index->directory[at]); /* as above */
        }
        if (index_low_bits(hash_low, index_entry_depth(entry)) == at) {
            struct index_segment *segment = index_at(index, entry);
            return (struct index_place){
                .at = at,
                .entry = entry,
                .segment = segment,
                .bucket = &segment->bucket[(hash_low >> BUCKET_SHIFT) & (BUCKETS - 1)],
            };
        }
    }
}

static inline struct index_walk index_walk_start(struct index_line *bucket)
{
    return (struct index_walk){.line = bucket, .slots = HEAD_SLOTS, .position = 0};
}

static inline bool index_walk_next(const struct index *index, struct index_walk *walk)
{
    /* Acquire: pairs with the link's publication in line_add, behind which the line is zeroed. And
     * H2. */
    uint64_t link = index_word_look(&walk->line->word[WORD_LINK]) & WORD_REF_MASK;
    if (link == 0) {
        return false;
    }
    walk->position += walk->slots;
    walk->slots = LINE_SLOTS;
    walk->line = index_at(index, link);
    return true;
}

/* Turns the committed but still tentative insert that `turn`, an insert word, names final. */
void index_settle(const struct index *index, struct index_line *bucket, uint64_t turn);

/* The final slot that holds `ref`; NULL when none does. */
_Atomic uint64_t *index_slot_of(const struct index *index, struct index_line *bucket, uint32_t ref,
                                uint64_t *word, uint32_t *position);

/* Makes room in a full chain, by a line or by replacing the segment. The caller looks again. */
void index_make_room(struct index *index, struct epoch_member *member,
                     const struct index_place *place);

/* Replaces the segment, or helps whoever began to. Afterwards index_locate leads elsewhere. */
void index_split(struct index *index, struct epoch_member *member, const struct index_place *place);

/* For index_create and index_destroy too. */
struct index_segment *index_segment_create(struct index *index, struct arena_cache *cache);
void index_segment_free(struct index *index, struct arena_cache *cache,
                        struct index_segment *segment);
bool index_segment_reclaim(void *context, struct epoch_member *member, void *object);
void index_directory_charge(struct index *index, uint32_t at);

#endif
