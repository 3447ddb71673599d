/*
 * Going over the whole index a little at a time: the sweep, which each loop runs over its share,
 * and the scan, which listings use. Both take only moments' views and keep nothing between calls.
 */
#include "index/index.h"
#include "index/index_impl.h"

enum {
    PICKS_MAX = 64,
    SCAN_SEGMENTS_MAX = 64, /* a call's bound where the index is nearly empty */
    SWEEP_LINES_AHEAD = 16, /* that the sweep has under way: each would be a miss by itself */
};

/* 0 is never due; else the tick lies within the half circle up to now. */
static bool tick_is_due(uint64_t word, uint16_t now_tick)
{
    uint16_t tick = (uint16_t)((word & SLOT_TICK_MASK) >> SLOT_TICK_SHIFT);
    return tick != 0 && (uint16_t)(now_tick - tick) < 0x8000;
}

struct sweep {
    struct index *index;
    struct epoch_member *member;
    unsigned share;
    unsigned shares;
    bool all;
    uint16_t now_tick;
    index_due_fn *due;
    void *context;
};

static void sweep_slot(const struct sweep *sweep, _Atomic uint64_t *slot, uint64_t word)
{
    struct index_record *record = index_at(sweep->index, word);
    uint64_t tick = (uint64_t)sweep->due(sweep->context, record) << SLOT_TICK_SHIFT;
    uint64_t to = (word & ~SLOT_TICK_MASK) | tick;
    uint64_t seen = word;
    if (to == word) {
        return;
    }
    if ((word & WORD_FROZEN) == 0) {
        /* Pairs with nothing: only the tick changes, and the record was published before. */
        if (index_word_cas(slot, &seen, to)) {
            return;
        }
        if ((seen & WORD_FROZEN) == 0) {
            return; /* replaced, removed or given another tick: whoever did it knew better */
        }
    }
    index_retick(sweep->index, sweep->member, record, (uint16_t)(tick >> SLOT_TICK_SHIFT));
}

/* Which of a line's slots are due, as a set of bits. */
static unsigned line_due(const struct sweep *sweep, unsigned slots, const uint64_t *words)
{
    unsigned due = 0;
    for (unsigned k = 0; k < slots; k++) {
        if (index_slot_is_final(words[k]) &&
            (sweep->all || tick_is_due(words[k], sweep->now_tick))) {
            due |= 1u << k;
        }
    }
    return due;
}

/*
 * Loads the slots of a line; false when none of them can be due, as in most lines. Without a branch
 * for each: which slots are taken is chance. The highest bit of `later` says that the tick is yet
 * to come (of the ref below nothing is borrowed), that of `none` that it is 0.
 */
static bool line_load(const struct sweep *sweep, const struct index_line *line, unsigned slots,
                      uint64_t words[LINE_SLOTS])
{
    uint64_t now = (uint64_t)sweep->now_tick << 48 | (((uint64_t)1 << 48) - 1);
    uint64_t resting = UINT64_MAX;
    for (unsigned k = 0; k < slots; k++) {
        /* Acquire: as in index_find. */
        words[k] = index_word_load(&line->word[k]);
        uint64_t tick_above_ref = words[k] << (48 - SLOT_TICK_SHIFT);
        uint64_t later = now - tick_above_ref;
        uint64_t none = (tick_above_ref >> 48) - 1;
        resting &= later | none;
    }
    return sweep->all || resting >> 63 == 0;
}

/* Returns how many slots it looked at. */
static unsigned sweep_bucket(const struct sweep *sweep, struct index_line *bucket)
{
    unsigned slots = 0;
    struct index_walk walk = index_walk_start(bucket);
    do {
        uint64_t words[LINE_SLOTS];
        unsigned due =
            line_load(sweep, walk.line, walk.slots, words) ? line_due(sweep, walk.slots, words) : 0;
        for (unsigned left = due; left != 0; left &= left - 1) {
            __builtin_prefetch(index_at(sweep->index, words[__builtin_ctz(left)]), 0, 3);
        }
        for (unsigned left = due; left != 0; left &= left - 1) {
            unsigned k = (unsigned)__builtin_ctz(left);
            sweep_slot(sweep, &walk.line->word[k], words[k]);
        }
        slots += walk.slots;
    } while (index_walk_next(sweep->index, &walk));
    return slots;
}

/* Brings in the bucket that the sweep will come to after some more, in this segment or the next. */
static void sweep_prefetch(const struct sweep *sweep, const struct index_cursor *cursor,
                           struct index_segment *segment)
{
    unsigned bucket = cursor->bucket + SWEEP_LINES_AHEAD * sweep->shares;
    if (bucket >= BUCKETS) {
        uint64_t next = (uint64_t)cursor->segment + 1;
        bucket = sweep->share + (bucket - BUCKETS) / sweep->shares * sweep->shares;
        /* Acquire, both: as in index_locate. */
        if (bucket >= BUCKETS || next >= (uint64_t)1 << index_word_load(&sweep->index->depth)) {
            return;
        }
        uint64_t entry = index_word_load(&sweep->index->directory[next]);
        if (entry == 0) {
            return;
        }
        segment = index_at(sweep->index, entry);
    }
    __builtin_prefetch(&segment->bucket[bucket], 0, 3);
}

/*
 * Nothing is passed over: a record's bucket number never changes, and a split moves records only
 * to directory entries further on.
 */
bool index_sweep(struct index *index, struct epoch_member *member, struct index_cursor *cursor,
                 unsigned share, unsigned shares, unsigned slots, bool all, uint16_t now_tick,
                 index_due_fn *due, void *context)
{
    assert(epoch_is_online(member));
    assert(share < shares);
    struct sweep sweep = {.index = index,
                          .member = member,
                          .share = share,
                          .shares = shares,
                          .all = all,
                          .now_tick = now_tick,
                          .due = due,
                          .context = context};
    /* From here on the cursor stands on buckets of the share, or behind the segment's last. */
    cursor->bucket += (share + shares - cursor->bucket % shares) % shares;
    for (unsigned spent = 0; spent < slots;) {
        /* Acquire, both: as in index_locate. */
        if (cursor->segment >= (uint64_t)1 << index_word_load(&index->depth)) {
            *cursor = (struct index_cursor){0};
            return true;
        }
        uint64_t entry = index_word_load(&index->directory[cursor->segment]);
        if (entry == 0 || cursor->bucket >= BUCKETS) {
            cursor->segment++;
            cursor->bucket = share;
            spent++;
        } else {
            struct index_segment *segment = index_at(index, entry);
            sweep_prefetch(&sweep, cursor, segment);
            spent += sweep_bucket(&sweep, &segment->bucket[cursor->bucket]);
            cursor->bucket += shares;
        }
    }
    return false;
}

uint64_t index_scan_position(uint64_t value)
{
    value = (value >> 1 & 0x5555555555555555u) | (value & 0x5555555555555555u) << 1;
    value = (value >> 2 & 0x3333333333333333u) | (value & 0x3333333333333333u) << 2;
    value = (value >> 4 & 0x0f0f0f0f0f0f0f0fu) | (value & 0x0f0f0f0f0f0f0f0fu) << 4;
    return __builtin_bswap64(value);
}

/* A record in scanning order: by reversed hash, then by reference. */
struct pick {
    uint64_t key;
    uint32_t ref;
};

static bool pick_before(struct pick a, struct pick b)
{
    return a.key != b.key ? a.key < b.key : a.ref < b.ref;
}

/* Keeps the `limit` smallest in order; returns the new count. */
static unsigned pick_insert(struct pick *picks, unsigned count, unsigned limit, struct pick pick)
{
    if (count == limit) {
        if (!pick_before(pick, picks[count - 1])) {
            return count;
        }
        count--;
    }
    unsigned k = count;
    for (; k > 0 && pick_before(pick, picks[k - 1]); k--) {
        picks[k] = picks[k - 1];
    }
    picks[k] = pick;
    return count + 1;
}

/* The first `limit` records of the segment after `last`, in order. */
static unsigned segment_pick(const struct index *index, struct index_segment *segment,
                             struct pick last, struct pick *picks, unsigned limit)
{
    unsigned count = 0;
    for (unsigned b = 0; b < BUCKETS; b++) {
        struct index_walk walk = index_walk_start(&segment->bucket[b]);
        do {
            uint64_t words[LINE_SLOTS];
            for (unsigned k = 0; k < walk.slots; k++) {
                words[k] = index_word_load(&walk.line->word[k]); /* acquire: as in index_find */
                __builtin_prefetch(index_at(index, words[k]), 0, 3);
            }
            for (unsigned k = 0; k < walk.slots; k++) {
                if (!index_slot_is_final(words[k])) {
                    continue;
                }
                const struct index_record *record = index_at(index, words[k]);
                struct pick pick = {.key = index_scan_position(record->hash_low),
                                    .ref = (uint32_t)(words[k] & WORD_REF_MASK)};
                if (pick_before(last, pick)) {
                    count = pick_insert(picks, count, limit, pick);
                }
            }
        } while (index_walk_next(index, &walk));
    }
    return count;
}

/*
 * In the order of reversed hashes a segment of depth d is one interval of length 2^(64 - d), and a
 * split cuts it in two: so the place of a record in the order never depends on splits, and the
 * cursor is simply the last record's place.
 */
bool index_scan(struct index *index, struct index_scan *scan, unsigned records,
                index_visit_fn *visit, void *context)
{
    struct pick picks[PICKS_MAX];
    for (unsigned segments = 0; records > 0 && segments < SCAN_SEGMENTS_MAX;) {
        struct index_place place = index_locate(index, index_scan_position(scan->position));
        struct pick last = {.key = scan->position, .ref = scan->after};
        unsigned limit = records < PICKS_MAX ? records : PICKS_MAX;
        unsigned count = segment_pick(index, place.segment, last, picks, limit);
        for (unsigned k = 0; k < count; k++) {
            scan->position = picks[k].key;
            scan->after = picks[k].ref;
            records--;
            if (!visit(context, index_at(index, picks[k].ref))) {
                return false;
            }
        }
        if (count == limit) {
            continue;
        }
        segments++;
        uint32_t depth = index_entry_depth(place.entry);
        uint64_t last_key = index_scan_position(place.at) | UINT64_MAX >> depth;
        if (last_key == UINT64_MAX) {
            *scan = (struct index_scan){.position = UINT64_MAX, .after = UINT32_MAX};
            return true;
        }
        scan->position = last_key + 1;
        scan->after = 0;
    }
    return false;
}
