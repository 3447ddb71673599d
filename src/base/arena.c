/*
 * The arena's objects: size classes, spans, allocating and freeing.
 *
 * Everything here works on spans that the calling cache owns, without atomics. How objects that
 * others freed find their way home is arena_caches.c's.
 */
#include "base/arena_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    COLLECT_STEP = 16,
    FINE_BUDGET_BYTES = 16 << 20,
    POPULATE_STEP_BYTES = 32768,
};
static_assert(POPULATE_STEP_BYTES % CHUNK_BYTES == 0, "steps are whole chunks");

/*
 * Classes that are close together save what objects waste, and cost every cache a span of each that
 * is half empty: with a small budget only those that are an eighth apart are used.
 */
static size_t coarse_bytes(size_t size_bytes)
{
    if (size_bytes <= 8 * ARENA_UNIT_BYTES) {
        return size_bytes;
    }
    size_t step = (size_t)1 << (28 - __builtin_clz((unsigned)size_bytes - 1));
    return (size_bytes + step - 1) / step * step;
}

static unsigned class_of(size_t size_bytes)
{
    if (size_bytes <= CLASSES_FINE * ARENA_UNIT_BYTES) {
        return (unsigned)(size_bytes + ARENA_UNIT_BYTES - 1) / ARENA_UNIT_BYTES - 1;
    }
    unsigned last = (unsigned)size_bytes - 1;
    unsigned log = 31 - (unsigned)__builtin_clz(last);
    return CLASSES_FINE + (log - 11) * CLASSES_PER_DOUBLING +
           ((last >> (log - 4)) & (CLASSES_PER_DOUBLING - 1));
}

static uint32_t class_bytes(unsigned size_class)
{
    if (size_class < CLASSES_FINE) {
        return (size_class + 1) * ARENA_UNIT_BYTES;
    }
    unsigned coarse = size_class - CLASSES_FINE;
    return (CLASSES_PER_DOUBLING + 1 + coarse % CLASSES_PER_DOUBLING)
           << (coarse / CLASSES_PER_DOUBLING + 7);
}

/* Of spans of so many chunks, wasting at most a `part`th of themselves at their end. */
static bool shape_fits(struct arena_class *shape, uint32_t chunks, uint32_t part,
                       uint64_t budget_bytes)
{
    uint32_t bytes = chunks * CHUNK_BYTES;
    shape->chunks = chunks;
    shape->capacity = bytes / shape->object_bytes;
    return bytes - shape->capacity * shape->object_bytes <= bytes / part &&
           (shape->capacity >= 8 || bytes >= budget_bytes / 1024);
}

/*
 * A span is the shortest that holds eight objects and wastes at most a 512th of itself, or what
 * comes next to that; with a small budget, spans of more than an 8192nd of it are not made longer
 * for the sake of less than a sixteenth, nor of more than a 1024th for the eight objects.
 */
static struct arena_class class_shape(unsigned size_class, uint64_t budget_bytes)
{
    struct arena_class shape = {.object_bytes = class_bytes(size_class)};
    for (uint32_t part = 512; part >= 16; part /= 2) {
        for (uint32_t chunks = 1; chunks <= SPAN_CHUNKS_MAX; chunks++) {
            bool long_enough = (uint64_t)chunks * CHUNK_BYTES >= budget_bytes / 8192;
            if (shape_fits(&shape, chunks, long_enough ? 16 : part, budget_bytes)) {
                assert(shape.capacity > 0);
                return shape;
            }
        }
    }
    abort(); /* every class has a span that wastes less than a sixteenth */
}

struct arena *arena_create(uint64_t budget_bytes, unsigned caches_max)
{
    const uint64_t range_min = UINT64_C(1) << 30, range_max = UINT64_C(64) << 30;
    const uint64_t word_bytes = (uint64_t)WORD_CHUNKS * CHUNK_BYTES;
    assert(caches_max > 0 && caches_max <= CACHES_MAX);

    size_t bytes = sizeof(struct arena) + caches_max * sizeof(struct arena_cache);
    struct arena *arena = aligned_alloc(128, (bytes + 127) / 128 * 128);
    if (arena == NULL) {
        return NULL;
    }
    memset(arena, 0, bytes);
    uint64_t range = budget_bytes < range_max / 4 ? budget_bytes * 4 : range_max;
    range = range < range_min ? range_min : range;
    arena->words = (uint32_t)((range + word_bytes - 1) / word_bytes);
    arena->range_bytes = arena->words * word_bytes;
    arena->budget_bytes = budget_bytes;
    arena->caches_max = caches_max;
    arena->coarse = budget_bytes / caches_max < FINE_BUDGET_BYTES;
    /* All that caches keep empty is at most a thirty-second of the budget. */
    arena->spare_bytes_max = budget_bytes / 32 / caches_max;
    for (unsigned size_class = 0; size_class < CLASS_COUNT; size_class++) {
        arena->classes[size_class] = class_shape(size_class, budget_bytes);
    }
    for (unsigned id = 0; id < caches_max; id++) {
        struct arena_cache *cache = &arena->caches[id];
        cache->arena = arena;
        cache->id = (uint16_t)id;
        cache->word_first = (uint32_t)((uint64_t)arena->words * id / caches_max);
    }
    arena_stock_init(arena);
    if (!arena_runs_reserve(arena)) {
        free(arena);
        return NULL;
    }
    return arena;
}

void arena_destroy(struct arena *arena)
{
    assert(!arena->ahead.running);
    for (unsigned id = 0; id < arena->caches_max; id++) {
        /* Pairs with the release at the end of arena_cache_close. */
        assert(atomic_load_explicit(&arena->caches[id].state, memory_order_acquire) == CACHE_FREE);
    }
    arena_runs_release(arena);
    free(arena);
}

/* Written by its cache only; pairs with the loads in arena_live_bytes, which want no order. */
static void count_live(struct arena_cache *cache, int64_t bytes)
{
    int64_t old = atomic_load_explicit(&cache->live_bytes, memory_order_relaxed);
    atomic_store_explicit(&cache->live_bytes, old + bytes, memory_order_relaxed);
}

static bool span_create(struct arena_cache *cache, unsigned size_class, enum arena_need need)
{
    struct arena *arena = cache->arena;
    const struct arena_class *shape = &arena->classes[size_class];
    uint32_t populated;
    uint32_t first = arena_run_claim(cache, shape->chunks, need, &populated);
    if (first == 0) {
        return false;
    }
    struct arena_span *span = &arena->spans[first];
    for (uint32_t i = 0; i < shape->chunks; i++) {
        arena->offsets[first + i] = (uint8_t)i;
    }
    span->size_class = (uint8_t)size_class;
    span->chunks = shape->chunks;
    span->object_bytes = shape->object_bytes;
    span->capacity = shape->capacity;
    span->used = span->fresh = span->free_head = span->free_tail = 0;
    span->populated = populated * CHUNK_BYTES;
    /* Pairs with the load in arena_send_home: the objects are given out after this. */
    atomic_store_explicit(&span->owner, cache->id, memory_order_relaxed);
    ARENA_POISON(arena_chunk_at(arena, first), (size_t)shape->chunks * CHUNK_BYTES);
    arena_list_add_head(arena, &cache->room[size_class], first);
    return true;
}

/* Gives back a span without objects that is in no list. */
static void span_give_back(struct arena_cache *cache, uint32_t first)
{
    struct arena_span *span = &cache->arena->spans[first];
    assert(span->used == 0);
    arena_run_give_back(cache, first, span->chunks, span->populated / CHUNK_BYTES);
}

static uint64_t span_bytes(const struct arena_span *span)
{
    return (uint64_t)span->chunks * CHUNK_BYTES;
}

/* Keeps the span, just fallen empty and in no list, as the class's spare, or gives it back. */
static void span_retire(struct arena_cache *cache, uint32_t first)
{
    struct arena_span *span = &cache->arena->spans[first];
    if (cache->spare[span->size_class] != 0 ||
        cache->spare_bytes + span_bytes(span) > cache->arena->spare_bytes_max) {
        span_give_back(cache, first);
        return;
    }
    cache->spare[span->size_class] = first;
    cache->spare_bytes += span_bytes(span);
    span->fresh = span->free_head = span->free_tail = 0;
    arena_list_add_tail(cache->arena, &cache->room[span->size_class], first);
}

void arena_spares_give_back(struct arena_cache *cache)
{
    for (unsigned size_class = 0; size_class < CLASS_COUNT && cache->spare_bytes > 0;
         size_class++) {
        uint32_t first = cache->spare[size_class];
        if (first != 0) {
            cache->spare[size_class] = 0;
            cache->spare_bytes -= span_bytes(&cache->arena->spans[first]);
            arena_list_remove(cache->arena, &cache->room[size_class], first);
            span_give_back(cache, first);
        }
    }
}

/* The pages come a few at a time: by a fault for each they took longer, all at once too long. */
static void populate(struct arena *arena, uint32_t first, uint32_t end)
{
    struct arena_span *span = &arena->spans[first];
    uint32_t left = span->chunks * CHUNK_BYTES - span->populated;
    uint32_t wanted = end - span->populated;
    uint32_t bytes = wanted > POPULATE_STEP_BYTES ? wanted : POPULATE_STEP_BYTES;
    bytes = (bytes + POPULATE_STEP_BYTES - 1) / POPULATE_STEP_BYTES * POPULATE_STEP_BYTES;
    bytes = bytes < left ? bytes : left;
    arena_run_populate(arena_chunk_at(arena, first) + span->populated, bytes);
    span->populated += bytes;
}

static void *take_fresh(struct arena *arena, uint32_t first)
{
    struct arena_span *span = &arena->spans[first];
    uint32_t at = span->fresh++ * span->object_bytes;
    if (at + span->object_bytes > span->populated) {
        populate(arena, first, at + span->object_bytes);
    }
    return arena_chunk_at(arena, first) + at;
}

static void *take_freed(struct arena *arena, uint32_t first)
{
    struct arena_span *span = &arena->spans[first];
    uint32_t ref = span->free_head;
    span->free_head = arena_link_load(arena, ref);
    /* Its link is read by the next allocation, which then writes to it. */
    __builtin_prefetch(arena_at(arena->base, span->free_head), 1, 3);
    return arena_at(arena->base, ref);
}

/* Takes an object out of the first span with room. */
static void *span_take(struct arena_cache *cache, unsigned size_class)
{
    struct arena *arena = cache->arena;
    uint32_t first = cache->room[size_class].head;
    struct arena_span *span = &arena->spans[first];
    assert(span->used < span->capacity);
    if (span->used == 0 && cache->spare[size_class] == first) {
        cache->spare[size_class] = 0;
        cache->spare_bytes -= span_bytes(span);
    }
    if (++span->used == span->capacity) {
        arena_list_remove(arena, &cache->room[size_class], first);
        arena_list_add_head(arena, &cache->full[size_class], first);
    }
#ifdef ARENA_ASAN
    /* What was freed rests as long as it can. */
    return span->fresh < span->capacity ? take_fresh(arena, first) : take_freed(arena, first);
#else
    return span->free_head != 0 ? take_freed(arena, first) : take_fresh(arena, first);
#endif
}

void arena_span_put(struct arena_cache *cache, uint32_t first, uint32_t ref)
{
    struct arena *arena = cache->arena;
    struct arena_span *span = &arena->spans[first];
    struct arena_list *room = &cache->room[span->size_class];
    struct arena_list *from = span->used == span->capacity ? &cache->full[span->size_class] : room;

    assert(span->used > 0);
#ifdef ARENA_ASAN
    arena_link_store(arena, ref, 0);
    if (span->free_head == 0) {
        span->free_head = ref;
    } else {
        arena_link_store(arena, span->free_tail, ref);
    }
    span->free_tail = ref;
#else
    arena_link_store(arena, ref, span->free_head);
    span->free_head = ref;
#endif
    if (--span->used == 0) {
        arena_list_remove(arena, from, first);
        span_retire(cache, first);
    } else if (from != room) {
        arena_list_remove(arena, from, first);
        arena_list_add_head(arena, room, first);
    }
}

/* One large object. */
static void *run_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    struct arena *arena = cache->arena;
    if (size_bytes > arena->range_bytes) {
        return NULL;
    }
    uint32_t chunks = (uint32_t)((size_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    uint32_t populated;
    uint32_t first = arena_run_claim(cache, chunks, need, &populated);
    if (first == 0) {
        arena_cache_drain(cache);
        arena_spares_give_back(cache);
        first = arena_run_claim(cache, chunks, need, &populated);
        if (first == 0) {
            return NULL;
        }
    }
    arena->spans[first].size_class = CLASS_RUN;
    arena->spans[first].chunks = chunks;
    arena->offsets[first] = 0;
    uint8_t *object = arena_chunk_at(arena, first);
    size_t run_bytes = (size_t)chunks * CHUNK_BYTES;
    ARENA_POISON(object + size_bytes / 8 * 8, run_bytes - size_bytes / 8 * 8);
    ARENA_UNPOISON(object, size_bytes);
    size_t there = (size_t)populated * CHUNK_BYTES;
    if (there < size_bytes) {
        arena_run_populate(object + there, size_bytes - there);
    }
    count_live(cache, (int64_t)run_bytes);
    return object;
}

/* Makes room in the class: from what comes home, or a new span. */
static bool refill(struct arena_cache *cache, unsigned size_class, enum arena_need need)
{
    arena_cache_drain(cache);
    if (cache->room[size_class].head != 0 || span_create(cache, size_class, need)) {
        return true;
    }
    arena_spares_give_back(cache);
    return span_create(cache, size_class, need);
}

void *arena_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    assert(size_bytes > 0);
    if (arena_mail_waits(cache)) {
        arena_collect(cache, COLLECT_STEP);
    }
    if (size_bytes > OBJECT_BYTES_MAX) {
        return run_alloc(cache, size_bytes, need);
    }
    unsigned size_class = class_of(cache->arena->coarse ? coarse_bytes(size_bytes) : size_bytes);
    if (cache->room[size_class].head == 0 && !refill(cache, size_class, need)) {
        return NULL;
    }
    void *object = span_take(cache, size_class);
    ARENA_UNPOISON(object, size_bytes);
    count_live(cache, cache->arena->classes[size_class].object_bytes);
    return object;
}

void arena_free(struct arena_cache *cache, void *object)
{
    if (object == NULL) {
        return;
    }
    struct arena *arena = cache->arena;
    uint32_t first = arena_span_of(arena, object);
    struct arena_span *span = &arena->spans[first];
    if (span->size_class == CLASS_RUN) {
        count_live(cache, -(int64_t)span_bytes(span));
        /* As far as it was written its pages are there: nearly all of them. */
        arena_run_give_back(cache, first, span->chunks, span->chunks);
        return;
    }
    count_live(cache, -(int64_t)span->object_bytes);
    ARENA_POISON(object, span->object_bytes);
    uint32_t ref = arena_ref(arena->base, object);
    /* See point 3 in arena_caches.c. */
    if (atomic_load_explicit(&span->owner, memory_order_relaxed) == cache->id) {
        arena_span_put(cache, first, ref);
    } else {
        arena_link_store(arena, ref, 0);
        arena_send_home(arena, ref);
    }
    if (arena_mail_waits(cache)) {
        arena_collect(cache, COLLECT_STEP);
    }
}

size_t arena_size(const struct arena *arena, const void *object)
{
    const struct arena_span *span = &arena->spans[arena_span_of(arena, object)];
    return span->size_class == CLASS_RUN ? span_bytes(span) : span->object_bytes;
}

uint8_t *arena_base(const struct arena *arena)
{
    return arena->base;
}

uint64_t arena_budget_bytes(const struct arena *arena)
{
    return arena->budget_bytes;
}

uint64_t arena_live_bytes(const struct arena *arena)
{
    /* Pairs with arena_charge and count_live; about right while others allocate. */
    int64_t live = (int64_t)atomic_load_explicit(&arena->charged_bytes, memory_order_relaxed);
    for (unsigned id = 0; id < arena->caches_max; id++) {
        live += atomic_load_explicit(&arena->caches[id].live_bytes, memory_order_relaxed);
    }
    return live > 0 ? (uint64_t)live : 0;
}
