/*
 * Going over the whole index a little at a time: the sweep, which each loop runs over its share,
 * and the scan, which listings use. Both take only moments' views and keep nothing between calls.
 */
#include "index/index.h"
#include "index/index_impl.h"

enum {
    PICKS_MAX = 64,
    SCAN_SEGMENTS_MAX = 64, /* a call's bound where the index is nearly empty */
    HINTS_A_SLOT = 2,       /* looking at so many hints costs what looking at a slot does */
    /* What the sweep has under way: each would be a miss by itself. */
    SWEEP_BUCKETS_AHEAD = 16,
    WARY_PASSES = 2, /* the rest of the one at hand, and a whole one */
};

struct sweep {
    struct index *index;
    struct epoch_member *member;
    unsigned shares;
    bool all;
    bool everywhere;  /* in all buckets, whatever their hints say */
    uint64_t buckets; /* of the share, as a set of bits */
    uint16_t now_tick;
    index_due_fn *due;
    void *context;
};

/* 0 is never due; else the tick lies within the half circle up to now. */
static bool tick_is_due(const struct sweep *sweep, uint16_t tick)
{
    return tick != 0 && (uint16_t)(sweep->now_tick - tick) < 0x8000;
}

static bool is_sooner(const struct sweep *sweep, uint16_t tick, uint16_t than)
{
    return tick != 0 &&
           (than == 0 || (int16_t)(tick - sweep->now_tick) < (int16_t)(than - sweep->now_tick));
}

/* Returns the tick that the sweep knows the slot to have; 0 when others have given it theirs, and
 * lower the hint themselves. */
static uint16_t sweep_slot(const struct sweep *sweep, _Atomic uint64_t *slot, uint64_t word)
{
    struct index_record *record = index_at(sweep->index, word);
    uint16_t tick = sweep->due(sweep->context, record);
    uint64_t to = (word & ~SLOT_TICK_MASK) | (uint64_t)tick << SLOT_TICK_SHIFT;
    uint64_t seen = word;
    if (to == word) {
        return tick;
    }
    if ((word & WORD_FROZEN) == 0) {
        /* Pairs with nothing: only the tick changes, and the record was published before. */
        if (index_word_cas(slot, &seen, to)) {
            return tick;
        }
        if ((seen & WORD_FROZEN) == 0) {
            return 0; /* replaced, removed or given another tick: whoever did it knew better */
        }
    }
    index_retick(sweep->index, sweep->member, record, tick);
    return 0;
}

/* Loads the slots of a line; returns which are due, as a set of bits. */
static unsigned line_due(const struct sweep *sweep, const struct index_line *line, unsigned slots,
                         uint64_t words[LINE_SLOTS])
{
    unsigned due = 0;
    for (unsigned k = 0; k < slots; k++) {
        /* Acquire: as in index_find; and H2. */
        words[k] = index_word_look(&line->word[k]);
        if (index_slot_is_final(words[k]) &&
            (sweep->all || tick_is_due(sweep, index_slot_tick(words[k])))) {
            due |= 1u << k;
            __builtin_prefetch(index_at(sweep->index, words[k]), 0, 3);
        }
    }
    return due;
}

/* Returns how many slots it looked at. */
static unsigned sweep_bucket(const struct sweep *sweep, uint32_t at, unsigned b)
{
    _Atomic uint16_t *hint = &sweep->index->hints[at].tick[b];
    unsigned slots = 0;
    uint16_t soonest = 0;
    INDEX_POINT();
    atomic_store_explicit(hint, 0, memory_order_seq_cst); /* H2: the wiping */
    /* H2: the look at the entry. Acquire: as in index_locate. */
    struct index_segment *segment =
        index_at(sweep->index, index_word_look(&sweep->index->directory[at]));
    struct index_walk walk = index_walk_start(&segment->bucket[b]);
    do {
        uint64_t words[LINE_SLOTS];
        unsigned due = line_due(sweep, walk.line, walk.slots, words);
        for (unsigned k = 0; k < walk.slots; k++) {
            uint16_t tick = (due >> k & 1) != 0 ? sweep_slot(sweep, &walk.line->word[k], words[k])
                                                : index_slot_tick(words[k]);
            soonest = is_sooner(sweep, tick, soonest) ? tick : soonest;
        }
        slots += walk.slots;
    } while (index_walk_next(sweep->index, &walk));
    index_hint_lower(hint, soonest);
    return slots;
}

/* Of four ticks those that are due, or 0, as a set of bits. */
static unsigned four_due(const struct sweep *sweep, uint64_t ticks)
{
    static const uint64_t ones = 0x0001000100010001;
    uint64_t now = ones * sweep->now_tick;
    uint64_t top = ones << 15;
    /* Each of the differences now - tick by itself: without borrows from its neighbour. */
    uint64_t ago = ((now | top) - (ticks & ~top)) ^ ((now ^ ~ticks) & top);
    uint64_t due = ~ago >> 15 & ones;
    return (unsigned)(due * 0x0001000200040008 >> 48 & 0xf);
}

/* The share's buckets from `first` on, of those where something may be due, as a set of bits. */
static uint64_t buckets_due(const struct sweep *sweep, uint32_t at, unsigned first)
{
    const struct index_hints *hints = &sweep->index->hints[at];
    uint64_t all = sweep->buckets & UINT64_MAX << first;
    if (sweep->everywhere) {
        return all;
    }
    /* Relaxed, both: what it is too early for now is seen the next time. */
    uint64_t due = 0;
    for (unsigned k = 0; k < sizeof hints->four / sizeof hints->four[0]; k++) {
        uint64_t ticks = atomic_load_explicit(&hints->four[k], memory_order_relaxed);
        due |= (uint64_t)four_due(sweep, ticks) << (4 * k);
    }
    due &= all;
    for (uint64_t left = due; left != 0; left &= left - 1) {
        unsigned b = (unsigned)__builtin_ctzll(left);
        uint16_t hint = atomic_load_explicit(&hints->tick[b], memory_order_relaxed);
        due ^= (uint64_t)!tick_is_due(sweep, hint) << b;
    }
    return due;
}

/* Goes over a segment's buckets from the cursor's on; returns how many slots that counts for. */
static unsigned sweep_segment(const struct sweep *sweep, const struct index_segment *segment,
                              struct index_cursor *cursor, unsigned slots)
{
    unsigned hints = sweep->everywhere ? 0 : (BUCKETS - cursor->bucket) / sweep->shares + 1;
    unsigned spent = 0;
    uint64_t due = buckets_due(sweep, cursor->segment, cursor->bucket);
    uint64_t ahead = due;
    for (unsigned n = 0; n < SWEEP_BUCKETS_AHEAD && n * HEAD_SLOTS < slots && ahead != 0; n++) {
        __builtin_prefetch(&segment->bucket[__builtin_ctzll(ahead)], 0, 3);
        ahead &= ahead - 1;
    }
    for (; due != 0 && spent < slots; due &= due - 1, ahead &= ahead - 1) {
        unsigned b = (unsigned)__builtin_ctzll(due);
        if (ahead != 0 && SWEEP_BUCKETS_AHEAD * HEAD_SLOTS + spent < slots) {
            __builtin_prefetch(&segment->bucket[__builtin_ctzll(ahead)], 0, 3);
        }
        spent += sweep_bucket(sweep, cursor->segment, b);
        cursor->bucket = b + sweep->shares;
    }
    cursor->bucket = due != 0 ? cursor->bucket : BUCKETS;
    return spent + hints / HINTS_A_SLOT;
}

/* H4: whether this call trusts the hints. */
static bool is_wary(struct index_cursor *cursor, uint64_t now)
{
    if (now - cursor->begun >= HINTS_HOLD_TICKS) {
        cursor->wary = WARY_PASSES;
    }
    return cursor->wary > 0;
}

static uint64_t buckets_of(unsigned share, unsigned shares)
{
    uint64_t buckets = 0;
    _Static_assert(BUCKETS <= 64, "a bit for each");
    for (unsigned b = share; b < BUCKETS; b += shares) {
        buckets |= (uint64_t)1 << b;
    }
    return buckets;
}

static void pass_ends(struct index_cursor *cursor, uint64_t now)
{
    *cursor = (struct index_cursor){.begun = now, .wary = cursor->wary - (cursor->wary > 0)};
}

/*
 * Nothing is passed over: a record's bucket number never changes, and a split moves records only
 * to directory entries further on.
 */
bool index_sweep(struct index *index, struct epoch_member *member, struct index_cursor *cursor,
                 unsigned share, unsigned shares, unsigned slots, bool all, uint64_t now,
                 index_due_fn *due, void *context)
{
    assert(epoch_is_online(member));
    assert(share < shares);
    struct sweep sweep = {.index = index,
                          .member = member,
                          .shares = shares,
                          .all = all,
                          .everywhere = is_wary(cursor, now) || all,
                          .buckets = buckets_of(share, shares),
                          .now_tick = (uint16_t)now,
                          .due = due,
                          .context = context};
    /* From here on the cursor stands on buckets of the share, or behind the segment's last. */
    cursor->bucket += (share + shares - cursor->bucket % shares) % shares;
    for (unsigned spent = 0; spent < slots;) {
        /* Acquire, both: as in index_locate. */
        if (cursor->segment >= (uint64_t)1 << index_word_load(&index->depth)) {
            pass_ends(cursor, now);
            return true;
        }
        uint64_t entry = index_word_load(&index->directory[cursor->segment]);
        if (entry == 0 || cursor->bucket >= BUCKETS) {
            cursor->segment++;
            cursor->bucket = share;
            spent++;
        } else {
            spent += sweep_segment(&sweep, index_at(index, entry), cursor, slots - spent);
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
