/*
 * The index as its readers see it: making it, hashing, finding, prefetching, gauges.
 *
 * Owns the mappings of the directory and its hints, and the struct itself; both are charged to the
 * arena.
 */
#include "index/index.h"
#include "index/index_impl.h"
#include "base/random.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

enum { ID_BYTES_MAX = 255, HASH_PREFIX_BYTES = 3 };

static const size_t directory_bytes = ((size_t)1 << DEPTH_MAX) * sizeof(uint64_t);
static const size_t hints_bytes = ((size_t)1 << DEPTH_MAX) * sizeof(struct index_hints);

/* Address space: what is never touched takes up nothing. NULL: there is none. */
static void *space_create(size_t size_bytes)
{
    void *pages = mmap(NULL, size_bytes, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (pages == MAP_FAILED) {
        return NULL;
    }
    /* A huge page would take up memory that nobody charged. Advice only: it may be refused. */
    (void)madvise(pages, size_bytes, MADV_NOHUGEPAGE);
    return pages;
}

static bool directory_create(struct index *index)
{
    index->directory = space_create(directory_bytes);
    index->hints = space_create(hints_bytes);
    return index->directory != NULL && index->hints != NULL;
}

static void directory_destroy(struct index *index)
{
    if (index->hints != NULL) {
        munmap(index->hints, hints_bytes);
    }
    if (index->directory != NULL) {
        munmap(index->directory, directory_bytes);
    }
}

static bool first_segment_create(struct index *index)
{
    struct arena_cache *cache = arena_cache_open(index->arena);
    if (cache == NULL) {
        return false;
    }
    struct index_segment *segment = index_segment_create(index, cache);
    arena_cache_close(cache);
    if (segment == NULL) {
        return false;
    }
    /* Depth 0. Release: pairs with index_locate, for whoever was handed the index otherwise. */
    uint64_t empty = 0;
    bool first = index_word_cas(&index->directory[0], &empty, arena_ref(index->base, segment));
    assert(first);
    index_directory_charge(index, 0);
    return true;
}

struct index *index_create(struct arena *arena, struct epoch *epoch, unsigned epoch_kind,
                           const uint8_t *secret)
{
    struct index *index = aligned_alloc(128, sizeof *index);
    if (index == NULL) {
        return NULL;
    }
    memset(index, 0, sizeof *index);
    index->arena = arena;
    index->epoch = epoch;
    index->epoch_kind = epoch_kind;
    index->base = arena_base(arena);
    static_assert(sizeof index->secret == INDEX_SECRET_BYTES, "what the header promises");
    if (secret != NULL) {
        memcpy(index->secret, secret, sizeof index->secret);
    } else {
        random_fill(index->secret, sizeof index->secret);
    }
    if (!directory_create(index)) {
        goto failed;
    }
    if (!first_segment_create(index)) {
        goto failed;
    }
    arena_charge(arena, (int64_t)sizeof *index);
    epoch_define(epoch, epoch_kind,
                 (struct epoch_kind){.link_offset = offsetof(struct index_segment, link),
                                     .reclaim = index_segment_reclaim,
                                     .context = index});
    return index;
failed:
    directory_destroy(index);
    free(index);
    return NULL;
}

/* The directory's part of index->bytes. */
static uint64_t directory_charged_bytes(const struct index *index)
{
    uint64_t pages = 0;
    for (size_t i = 0; i < DIRECTORY_PAGES / 64; i++) {
        /* Relaxed: a gauge, or a destroyer that is alone. */
        uint64_t seen = atomic_load_explicit(&index->pages_seen[i], memory_order_relaxed);
        pages += (uint64_t)__builtin_popcountll(seen);
    }
    return pages * DIRECTORY_CHARGE_BYTES;
}

void index_destroy(struct index *index)
{
    if (index == NULL) {
        return;
    }
    /* Without a cache the segments stay in the arena until it goes. */
    struct arena_cache *cache = arena_cache_open(index->arena);
    uint64_t limit =
        (uint64_t)1 << index_word_load(&index->depth); /* alone by now: pairs with nothing */
    for (uint64_t at = 0; cache != NULL && at < limit; at++) {
        uint64_t entry = index_word_load(&index->directory[at]);
        if (entry != 0) {
            index_segment_free(index, cache, index_at(index, entry));
        }
    }
    if (cache != NULL) {
        arena_cache_close(cache);
    }
    arena_charge(index->arena, -(int64_t)(directory_charged_bytes(index) + sizeof *index));
    directory_destroy(index);
    free(index);
}

struct index_hash index_hash_with(const uint8_t *secret, uint16_t tenant, uint8_t kind,
                                  struct bytes id)
{
    assert(id.size <= ID_BYTES_MAX);
    uint8_t whole[HASH_PREFIX_BYTES + ID_BYTES_MAX];
    memcpy(whole, &tenant, sizeof tenant);
    whole[2] = kind;
    if (id.size > 0) {
        memcpy(whole + HASH_PREFIX_BYTES, id.data, id.size);
    }
    XXH128_hash_t hash =
        XXH3_128bits_withSecret(whole, HASH_PREFIX_BYTES + id.size, secret, INDEX_SECRET_BYTES);
    return (struct index_hash){.low = hash.low64, .high = hash.high64};
}

struct index_hash index_hash(const struct index *index, uint16_t tenant, uint8_t kind,
                             struct bytes id)
{
    return index_hash_with(index->secret, tenant, kind, id);
}

/* The record that is meant, of a line's slots. */
static inline struct index_record *line_find(const struct index *index, struct index_line *line,
                                             unsigned slots, struct index_hash hash,
                                             index_match_fn *match, const void *key)
{
    uint64_t words[LINE_SLOTS];
    /* Acquire: pairs with the CAS that made the slot final, in index_settle, index_insert or
     * index_replace, or with the entry that published a split's copy. */
    unsigned found = index_slots_with_tag(line, slots, index_slot_tag(hash.low), words);
    for (; found != 0; found &= found - 1) {
        struct index_record *record = index_at(index, words[__builtin_ctz(found)]);
        if (record->hash_low == hash.low && match(record, key)) {
            return record;
        }
    }
    return NULL;
}

struct index_record *index_find(const struct index *index, struct index_hash hash,
                                index_match_fn *match, const void *key)
{
    struct index_walk walk = index_walk_start(index_locate(index, hash.low).bucket);
    struct index_record *record = line_find(index, walk.line, HEAD_SLOTS, hash, match, key);
    while (record == NULL && index_walk_next(index, &walk)) {
        record = line_find(index, walk.line, LINE_SLOTS, hash, match, key);
    }
    return record;
}

void index_prefetch_directory(const struct index *index, struct index_hash hash)
{
    /* Not followed, only prefetched: pairs with nothing, like all loads of the hints. */
    uint32_t depth = (uint32_t)index_word_load(&index->depth);
    __builtin_prefetch((const void *)&index->directory[index_low_bits(hash.low, depth)], 0, 3);
}

void index_prefetch_bucket(const struct index *index, struct index_hash hash)
{
    __builtin_prefetch(index_locate(index, hash.low).bucket, 0, 3);
}

const struct index_record *index_prefetch_record(const struct index *index, struct index_hash hash,
                                                 size_t size_bytes)
{
    const struct index_line *line = index_locate(index, hash.low).bucket;
    uint64_t words[LINE_SLOTS];
    unsigned found = index_slots_with_tag(line, HEAD_SLOTS, index_slot_tag(hash.low), words);
    if (found != 0) {
        const uint8_t *record = index_at(index, words[__builtin_ctz(found)]);
        const uint8_t *last = record + size_bytes - 1;
        __builtin_prefetch(record, 0, 3);
        for (size_t at = LINE_BYTES; at < size_bytes; at += LINE_BYTES) {
            __builtin_prefetch(record + at, 0, 3);
        }
        __builtin_prefetch(last, 0, 3); /* of the same line, mostly, and then free */
        return (const struct index_record *)record;
    }
    uint64_t link = index_word_load(&line->word[WORD_LINK]) & WORD_REF_MASK;
    if (link != 0) {
        __builtin_prefetch(index_at(index, link), 0, 3);
    }
    return NULL;
}

struct index_stats index_stats(const struct index *index)
{
    struct index_stats stats = {0};
    for (size_t i = 0; i < COUNTER_COUNT; i++) {
        stats.records += atomic_load_explicit(&index->counter[i].records, memory_order_relaxed);
    }
    if ((int64_t)stats.records < 0) { /* a leaver was summed, its joiner not yet */
        stats.records = 0;
    }
    stats.segments = atomic_load_explicit(&index->segments, memory_order_relaxed);
    stats.splits = atomic_load_explicit(&index->splits, memory_order_relaxed);
    stats.bytes = atomic_load_explicit(&index->bytes, memory_order_relaxed) +
                  directory_charged_bytes(index) + sizeof *index;
    return stats;
}
