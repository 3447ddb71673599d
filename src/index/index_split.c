/*
 * Growth: overflow lines, the splitting of a segment, the directory. index_impl.h has the argument.
 *
 * A split is done by whoever wants it together with all who meet its marks: freeze every word of
 * the segment, copy the final slots to private segments, agree on one pair of copies by CAS, link
 * the agreed pair into the directory. Each step may be done by many and takes effect once, so
 * nobody waits for anybody.
 */
#include "index/index.h"
#include "index/index_impl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* How far ahead of the freezing a segment's lines are fetched: each would be a miss by itself. */
enum { LINES_AHEAD = 8 };

/* One private copy while it is filled, bucket by bucket. */
struct half {
    struct index_segment *segment;
    struct index_line *tail; /* of the bucket at hand */
    unsigned used;
    unsigned slots;
};

/*
 * The index's own tables may exceed the budget, so an allocation fails only when the address range
 * is used up: four times the budget, of which the index takes a few percent. There is no answer
 * that would leave the index whole, and no way to get here by what a client sends.
 */
static void *structural_alloc(struct index *index, struct arena_cache *cache, size_t size_bytes)
{
    void *object = arena_alloc(cache, size_bytes, ARENA_STRUCTURAL);
    if (object == NULL) {
        (void)fputs("index: the arena's address range is used up\n", stderr);
        abort();
    }
    /* Relaxed, here and below: a gauge. */
    atomic_fetch_add_explicit(&index->bytes, arena_size(index->arena, object),
                              memory_order_relaxed);
    return object;
}

static void structural_free(struct index *index, struct arena_cache *cache, void *object)
{
    atomic_fetch_sub_explicit(&index->bytes, arena_size(index->arena, object),
                              memory_order_relaxed);
    arena_free(cache, object);
}

struct index_segment *index_segment_create(struct index *index, struct arena_cache *cache)
{
    size_t slack_bytes = LINE_BYTES - ARENA_UNIT_BYTES;
    uint8_t *start = structural_alloc(index, cache, sizeof(struct index_segment) + slack_bytes);
    size_t offset_bytes = (size_t)(-(uintptr_t)start & (LINE_BYTES - 1));
    struct index_segment *segment = (struct index_segment *)(void *)(start + offset_bytes);
    memset(segment, 0, sizeof *segment);
    segment->offset_bytes = (uint32_t)offset_bytes;
    atomic_fetch_add_explicit(&index->segments, 1, memory_order_relaxed); /* a gauge */
    return segment;
}

void index_segment_free(struct index *index, struct arena_cache *cache,
                        struct index_segment *segment)
{
    for (unsigned b = 0; b < BUCKETS; b++) {
        /* Nobody else is left here: these loads pair with nothing. */
        uint64_t link = index_word_load(&segment->bucket[b].word[WORD_LINK]) & WORD_REF_MASK;
        while (link != 0) {
            struct index_line *line = index_at(index, link);
            link = index_word_load(&line->word[WORD_LINK]) & WORD_REF_MASK;
            structural_free(index, cache, line);
        }
    }
    atomic_fetch_sub_explicit(&index->segments, 1, memory_order_relaxed); /* a gauge */
    structural_free(index, cache, (uint8_t *)segment - segment->offset_bytes);
}

bool index_segment_reclaim(void *context, struct epoch_member *member, void *object)
{
    index_segment_free(context, epoch_member_cache(member), object);
    return true;
}

static struct index_line *line_create(struct index *index, struct arena_cache *cache)
{
    struct index_line *line = structural_alloc(index, cache, sizeof *line);
    memset(line, 0, sizeof *line);
    return line;
}

static void line_add(struct index *index, struct epoch_member *member,
                     const struct index_place *place)
{
    struct index_walk walk = index_walk_start(place->bucket);
    while (index_walk_next(index, &walk)) {
    }
    struct arena_cache *cache = epoch_member_cache(member);
    struct index_line *line = line_create(index, cache);
    uint64_t none = 0;
    /* Release: pairs with index_walk_next. Failure: another added one. */
    if (index_word_cas(&walk.line->word[WORD_LINK], &none, arena_ref(index->base, line))) {
        atomic_fetch_add_explicit(&place->segment->lines_added, 1, memory_order_relaxed);
    } else {
        structural_free(index, cache, line);
    }
}

void index_make_room(struct index *index, struct epoch_member *member,
                     const struct index_place *place)
{
    uint32_t lines = atomic_load_explicit(&place->segment->lines_added, memory_order_relaxed);
    if (lines >= INDEX_LINES_ADDED_MAX) {
        index_split(index, member, place);
    } else {
        line_add(index, member, place);
    }
}

static void slot_freeze(const struct index *index, _Atomic uint64_t *slot)
{
    uint64_t word = index_word_freeze(slot);
    if (index_slot_is_final(word)) {
        __builtin_prefetch(index_at(index, word), 0, 3); /* of the record its hash will be read */
    }
}

/* After this the segment's final slots are the same for all who look, for ever. */
static void segment_freeze(const struct index *index, struct index_segment *segment)
{
    for (unsigned b = 0; b < LINES_AHEAD && b < BUCKETS; b++) {
        __builtin_prefetch(&segment->bucket[b], 1, 3);
    }
    for (unsigned b = 0; b < BUCKETS; b++) {
        struct index_line *bucket = &segment->bucket[b];
        if (b + LINES_AHEAD < BUCKETS) {
            __builtin_prefetch(bucket + LINES_AHEAD, 1, 3);
        }
        /* First the insert word, so that nothing more is committed; then the insert that was
         * committed last turns final, so that no committed slot is ever frozen tentative. Pairs
         * with the commit in index_insert. */
        uint64_t turn = index_word_freeze(&bucket->word[WORD_INSERT]);
        index_settle(index, bucket, turn);
        /* These pair with the CASes on slots in index_write.c: what came first is kept, what comes
         * later fails. A line that is added yet can hold nothing that is committed. */
        struct index_walk walk = index_walk_start(bucket);
        do {
            for (unsigned k = 0; k < walk.slots; k++) {
                slot_freeze(index, &walk.line->word[k]);
            }
        } while (index_walk_next(index, &walk));
    }
}

static unsigned segment_count(const struct index *index, struct index_segment *segment)
{
    unsigned count = 0;
    for (unsigned b = 0; b < BUCKETS; b++) {
        struct index_walk walk = index_walk_start(&segment->bucket[b]);
        do {
            for (unsigned k = 0; k < walk.slots; k++) {
                /* Frozen: pairs with nothing. */
                count += index_slot_is_final(index_word_load(&walk.line->word[k]));
            }
        } while (index_walk_next(index, &walk));
    }
    return count;
}

static void half_start(struct half *half, unsigned b)
{
    half->tail = &half->segment->bucket[b];
    half->used = 0;
    half->slots = HEAD_SLOTS;
}

static void half_add(struct index *index, struct arena_cache *cache, struct half *half,
                     uint64_t word)
{
    if (half->used == half->slots) {
        struct index_line *line = line_create(index, cache);
        index_word_store_private(&half->tail->word[WORD_LINK], arena_ref(index->base, line));
        half->tail = line;
        half->used = 0;
        half->slots = LINE_SLOTS;
    }
    index_word_store_private(&half->tail->word[half->used], word);
    half->used++;
}

/*
 * Fills one or two private segments from a frozen one. The records may be read: each was in the
 * index when its slot froze, and can leave it only through a successor, after we came online.
 */
static void segment_copy(struct index *index, struct arena_cache *cache, struct index_segment *from,
                         unsigned depth, struct half halves[2])
{
    bool two = halves[1].segment != NULL;
    for (unsigned b = 0; b < BUCKETS; b++) {
        half_start(&halves[0], b);
        if (two) {
            half_start(&halves[1], b);
        }
        struct index_walk walk = index_walk_start(&from->bucket[b]);
        do {
            for (unsigned k = 0; k < walk.slots; k++) {
                uint64_t word =
                    index_word_load(&walk.line->word[k]); /* frozen; the record: as find */
                if (!index_slot_is_final(word)) {
                    continue;
                }
                const struct index_record *record = index_at(index, word);
                unsigned side = two ? (unsigned)(record->hash_low >> depth) & 1 : 0;
                half_add(index, cache, &halves[side], word & ~WORD_FROZEN);
            }
        } while (index_walk_next(index, &walk));
    }
}

/* The agreed pair of copies: our own, or those of whoever was first. */
static uint64_t successor_agree(struct index *index, struct epoch_member *member,
                                const struct index_place *place)
{
    struct index_segment *from = place->segment;
    /* Acquire: pairs with the CAS below, behind which the copies were filled. */
    uint64_t pair = index_word_load(&from->successor);
    if (pair != 0) {
        return pair;
    }
    segment_freeze(index, from);
    uint32_t depth = index_entry_depth(place->entry);
    bool two = depth < DEPTH_MAX && segment_count(index, from) >= INDEX_SPLIT_RECORDS_MIN;
    struct arena_cache *cache = epoch_member_cache(member);
    struct half halves[2] = {{.segment = index_segment_create(index, cache)}};
    uint64_t own = arena_ref(index->base, halves[0].segment);
    if (two) {
        halves[1].segment = index_segment_create(index, cache);
        own |= (uint64_t)arena_ref(index->base, halves[1].segment) << 32;
    }
    segment_copy(index, cache, from, depth, halves);
    /* Release: pairs with the load above. */
    if (index_word_cas(&from->successor, &pair, own)) {
        return own;
    }
    for (unsigned side = 0; side < 2 && halves[side].segment != NULL; side++) {
        index_segment_free(index, cache, halves[side].segment); /* nobody saw it */
    }
    return pair;
}

void index_directory_charge(struct index *index, uint32_t at)
{
    uint32_t page = at / (DIRECTORY_PAGE_BYTES / 8);
    uint64_t bit = (uint64_t)1 << (page % 64);
    /* Relaxed: counts each page once; pairs with nothing but itself. */
    if ((atomic_fetch_or_explicit(&index->pages_seen[page / 64], bit, memory_order_relaxed) &
         bit) == 0) {
        arena_charge(index->arena, (int64_t)DIRECTORY_CHARGE_BYTES);
    }
}

/*
 * H3: of the second entry of a split, before it is set. Every helper does, so that nobody goes on
 * while another, who is to do it, has stopped. Once it is set the segment may be gone; before that
 * it cannot be, and stays while we are online.
 */
static void hints_lower(struct index *index, uint32_t at, struct index_segment *segment)
{
    if (index_word_load(&index->directory[at]) != 0) { /* pairs with nothing: a helper did it */
        return;
    }
    for (unsigned b = 0; b < BUCKETS; b++) {
        uint16_t soonest = 0;
        struct index_walk walk = index_walk_start(&segment->bucket[b]);
        do {
            for (unsigned k = 0; k < walk.slots; k++) {
                /* Acquire: pairs with the CAS by which the copy was agreed upon. If others have set
                 * the entry meanwhile, who gives a slot another tick lowers the hint as well. */
                uint16_t tick = index_slot_tick(index_word_load(&walk.line->word[k]));
                soonest = index_hint_is_late(soonest, tick) ? tick : soonest;
            }
        } while (index_walk_next(index, &walk));
        index_hint_lower(&index->hints[at].tick[b], soonest);
    }
}

static void split_complete(struct index *index, struct epoch_member *member,
                           const struct index_place *place, uint64_t pair)
{
    uint32_t depth = index_entry_depth(place->entry);
    uint64_t second = pair >> 32;
    if (second != 0) {
        uint32_t sibling = place->at | (uint32_t)1 << depth;
        depth++;
        uint64_t empty = 0;
        hints_lower(index, sibling, index_at(index, second));
        /* (1) Release: pairs with index_locate. Failure: a helper was first, with the same pair. */
        if (index_word_cas(&index->directory[sibling], &empty,
                           second | (uint64_t)depth << ENTRY_DEPTH_SHIFT)) {
            index_directory_charge(index, sibling);
        }
        /* (2) Release: pairs with index_locate. */
        uint64_t global = index_word_load(&index->depth);
        while (global < depth && !index_word_cas(&index->depth, &global, depth)) {
        }
    }
    uint64_t entry = place->entry;
    uint64_t first = (pair & WORD_REF_MASK) | (uint64_t)depth << ENTRY_DEPTH_SHIFT;
    /* (3) Release: pairs with index_locate. The entry cannot come back: while we are online the
     * old segment's address is not used again. */
    if (index_word_cas(&index->directory[place->at], &entry, first)) {
        atomic_fetch_add_explicit(&index->splits, second != 0, memory_order_relaxed); /* a gauge */
        epoch_retire(member, index->epoch_kind, place->segment);
    }
}

void index_split(struct index *index, struct epoch_member *member, const struct index_place *place)
{
    split_complete(index, member, place, successor_agree(index, member, place));
}
