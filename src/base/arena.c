/*
 * The arena's objects: size classes, caches, and how freed objects find their way home.
 *
 * A span has one owner, which allocates and frees in it without atomics. Whoever else frees an
 * object of it pushes the object onto the owner's inbox, a stack that is only ever pushed to one by
 * one or taken whole (so it has no ABA), linked through the freed objects themselves.
 *
 * Nothing is lost when caches close. An object in an inbox need not belong to the cache that takes
 * it out: whoever takes it looks at the span's owner and frees it locally or pushes it on. So it
 * is enough that every inbox is taken again after the last push to it:
 *  1. A closing cache first sets the owner of all its spans to nobody, then its state to closing,
 *     then takes its inbox. A freer first pushes, then reads the state. These four are seq_cst, so
 *     either the closer takes what was pushed, or the freer sees that the cache is not open, takes
 *     the inbox itself, and finds (since it saw the state) an owner set later than that cache's:
 *     each round it goes means that another cache closed meanwhile.
 *  2. Objects of spans without an owner go to the orphans. Every open cache takes those, after it
 *     has adopted the spans that lie abandoned. What belongs to a span that is still on its way
 *     there goes back to the orphans for the next one to look.
 *  3. Only the owner of a span changes its owner, from itself to nobody; only who took it off the
 *     abandoned stack changes it from nobody to itself. A cache that reads its own id is therefore
 *     the owner: an older cache of the same id stored nobody before the id was free again.
 * A span with an object in an inbox counts that object as used, so it is not given back, and its
 * descriptor stays what it is, until the object is home.
 */
#include "base/arena_private.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum { COLLECT_STEP = 16 };

/*
 * The link of a free object lies in its first bytes, which are poisoned: under AddressSanitizer
 * these two step past that, so that nobody else can.
 */
#ifdef ARENA_ASAN
#define LINK_ACCESS __attribute__((no_sanitize("address"), noinline))
#else
#define LINK_ACCESS inline
#endif

static LINK_ACCESS uint32_t link_load(const struct arena *arena, uint32_t ref)
{
    return *(const uint32_t *)arena_at(arena->base, ref);
}

static LINK_ACCESS void link_store(const struct arena *arena, uint32_t ref, uint32_t next)
{
    *(uint32_t *)arena_at(arena->base, ref) = next;
}

static unsigned class_of(size_t size_bytes)
{
    if (size_bytes <= 128) {
        return (unsigned)(size_bytes + 15) / 16 - 1;
    }
    unsigned last = (unsigned)size_bytes - 1;
    unsigned log = 31 - (unsigned)__builtin_clz(last);
    return 8 + (log - 7) * 8 + ((last >> (log - 3)) & 7);
}

static uint32_t class_bytes(unsigned size_class)
{
    return size_class < 8 ? (size_class + 1) * 16 : (9 + (size_class & 7)) << (size_class / 8 + 3);
}

/*
 * A span is the shortest that wastes at most a sixteenth of itself at its end and holds eight
 * objects; with a small budget, spans of more than a thousandth of it are not made longer than the
 * waste demands.
 */
static struct arena_class class_shape(unsigned size_class, uint64_t budget_bytes)
{
    struct arena_class shape = {.object_bytes = class_bytes(size_class)};
    for (shape.chunks = 1; shape.chunks <= SPAN_CHUNKS_MAX; shape.chunks++) {
        uint32_t bytes = shape.chunks * CHUNK_BYTES;
        shape.capacity = bytes / shape.object_bytes;
        if (bytes - shape.capacity * shape.object_bytes <= bytes / 16 &&
            (shape.capacity >= 8 || bytes >= budget_bytes / 1024)) {
            break;
        }
    }
    assert(shape.chunks <= SPAN_CHUNKS_MAX && shape.capacity > 0);
    return shape;
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
    if (!arena_runs_reserve(arena)) {
        free(arena);
        return NULL;
    }
    return arena;
}

void arena_destroy(struct arena *arena)
{
    for (unsigned id = 0; id < arena->caches_max; id++) {
        /* Pairs with the release at the end of arena_cache_close. */
        assert(atomic_load_explicit(&arena->caches[id].state, memory_order_acquire) == CACHE_FREE);
    }
    arena_runs_release(arena);
    free(arena);
}

/* The span or run that holds the object. */
static uint32_t span_of(const struct arena *arena, const void *object)
{
    size_t at = (size_t)((const uint8_t *)object - arena->base);
    assert(at < arena->range_bytes && at % ARENA_UNIT_BYTES == 0);
    uint32_t chunk = (uint32_t)(at / CHUNK_BYTES);
    return chunk - arena->offsets[chunk];
}

static void list_remove(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    uint32_t previous = spans[span].previous, next = spans[span].next;
    *(previous != 0 ? &spans[previous].next : &list->head) = next;
    *(next != 0 ? &spans[next].previous : &list->tail) = previous;
}

static void list_add_head(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    spans[span].previous = 0;
    spans[span].next = list->head;
    *(list->head != 0 ? &spans[list->head].previous : &list->tail) = span;
    list->head = span;
}

static void list_add_tail(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    spans[span].next = 0;
    spans[span].previous = list->tail;
    *(list->tail != 0 ? &spans[list->tail].next : &list->head) = span;
    list->tail = span;
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
    uint32_t first = arena_run_claim(cache, shape->chunks, need);
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
    /* Pairs with the load in send_home: the object that leads there was given out after this. */
    atomic_store_explicit(&span->owner, cache->id, memory_order_relaxed);
    ARENA_POISON(arena_chunk_at(arena, first), (size_t)shape->chunks * CHUNK_BYTES);
    list_add_head(arena, &cache->room[size_class], first);
    return true;
}

/* Gives back a span without objects that is in no list. */
static void span_give_back(struct arena_cache *cache, uint32_t first)
{
    struct arena_span *span = &cache->arena->spans[first];
    assert(span->used == 0);
    arena_run_give_back(cache, first, span->chunks);
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
    list_add_tail(cache->arena, &cache->room[span->size_class], first);
}

static void spares_give_back(struct arena_cache *cache)
{
    for (unsigned size_class = 0; size_class < CLASS_COUNT && cache->spare_bytes > 0;
         size_class++) {
        uint32_t first = cache->spare[size_class];
        if (first != 0) {
            cache->spare[size_class] = 0;
            cache->spare_bytes -= span_bytes(&cache->arena->spans[first]);
            list_remove(cache->arena, &cache->room[size_class], first);
            span_give_back(cache, first);
        }
    }
}

static void *take_fresh(struct arena *arena, uint32_t first)
{
    struct arena_span *span = &arena->spans[first];
    return arena_chunk_at(arena, first) + (size_t)span->fresh++ * span->object_bytes;
}

static void *take_freed(struct arena *arena, uint32_t first)
{
    struct arena_span *span = &arena->spans[first];
    uint32_t ref = span->free_head;
    span->free_head = link_load(arena, ref);
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
        list_remove(arena, &cache->room[size_class], first);
        list_add_head(arena, &cache->full[size_class], first);
    }
#ifdef ARENA_ASAN
    /* What was freed rests as long as it can. */
    return span->fresh < span->capacity ? take_fresh(arena, first) : take_freed(arena, first);
#else
    return span->free_head != 0 ? take_freed(arena, first) : take_fresh(arena, first);
#endif
}

/* Puts an object of the cache's own span back. */
static void span_put(struct arena_cache *cache, uint32_t first, uint32_t ref)
{
    struct arena *arena = cache->arena;
    struct arena_span *span = &arena->spans[first];
    struct arena_list *room = &cache->room[span->size_class];
    struct arena_list *from = span->used == span->capacity ? &cache->full[span->size_class] : room;

    assert(span->used > 0);
#ifdef ARENA_ASAN
    link_store(arena, ref, 0);
    if (span->free_head == 0) {
        span->free_head = ref;
    } else {
        link_store(arena, span->free_tail, ref);
    }
    span->free_tail = ref;
#else
    link_store(arena, ref, span->free_head);
    span->free_head = ref;
#endif
    if (--span->used == 0) {
        list_remove(arena, from, first);
        span_retire(cache, first);
    } else if (from != room) {
        list_remove(arena, from, first);
        list_add_head(arena, room, first);
    }
}

/* Pairs with the exchanges that take the stack, in stack_take. */
static void stack_push(struct arena *arena, _Atomic uint32_t *stack, uint32_t ref)
{
    uint32_t head = atomic_load_explicit(stack, memory_order_relaxed);
    do {
        link_store(arena, ref, head);
    } while (!atomic_compare_exchange_weak_explicit(stack, &head, ref, memory_order_seq_cst,
                                                    memory_order_relaxed));
}

/* Pairs with stack_push: what was done with the objects before their free lies behind. */
static uint32_t stack_take(_Atomic uint32_t *stack)
{
    return atomic_exchange_explicit(stack, 0, memory_order_seq_cst);
}

/* Puts list `front`, walked to its end, before list `rest`. */
static uint32_t chain_join(struct arena *arena, uint32_t front, uint32_t rest)
{
    if (front == 0) {
        return rest;
    }
    uint32_t last = front;
    for (uint32_t next; (next = link_load(arena, last)) != 0;) {
        last = next;
    }
    link_store(arena, last, rest);
    return front;
}

/* Sends a chain of freed objects to the owners of their spans (see the argument above). */
static void send_home(struct arena *arena, uint32_t chain)
{
    while (chain != 0) {
        uint32_t ref = chain;
        chain = link_load(arena, ref);
        /* Pairs with the stores of owners. Older ones cannot be seen: this is ordered after the
         * object was given out and, on a second round, after the closing state that was read. */
        uint16_t owner = atomic_load_explicit(
            &arena->spans[span_of(arena, arena_at(arena->base, ref))].owner, memory_order_relaxed);
        if (owner == OWNER_NOBODY) {
            stack_push(arena, &arena->orphans, ref);
            continue;
        }
        struct arena_cache *home = &arena->caches[owner];
        stack_push(arena, &home->inbox, ref);
        /* Pairs with the store of CACHE_CLOSING in arena_cache_close. */
        if (atomic_load_explicit(&home->state, memory_order_seq_cst) != CACHE_OPEN) {
            chain = chain_join(arena, stack_take(&home->inbox), chain);
        }
    }
}

/* Puts up to `objects_max` objects of a chain into the spans they belong to; returns the rest. */
static uint32_t put_chain(struct arena_cache *cache, uint32_t chain, uint64_t objects_max)
{
    struct arena *arena = cache->arena;
    for (; chain != 0 && objects_max > 0; objects_max--) {
        uint32_t ref = chain;
        uint32_t first = span_of(arena, arena_at(arena->base, ref));
        chain = link_load(arena, ref);
        /* See point 3 above. */
        if (atomic_load_explicit(&arena->spans[first].owner, memory_order_relaxed) == cache->id) {
            span_put(cache, first, ref);
        } else {
            link_store(arena, ref, 0);
            send_home(arena, ref);
        }
    }
    return chain;
}

static void collect(struct arena_cache *cache, uint64_t objects_max)
{
    if (cache->incoming == 0) {
        cache->incoming = stack_take(&cache->inbox);
    }
    cache->incoming = put_chain(cache, cache->incoming, objects_max);
}

static inline bool mail_waits(const struct arena_cache *cache)
{
    /* A hint; stack_take synchronises. */
    return cache->incoming != 0 || atomic_load_explicit(&cache->inbox, memory_order_relaxed) != 0;
}

static void adopt(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    /* Acquire pairs with the release in abandon: the former owner is done with the spans. */
    uint32_t first = atomic_exchange_explicit(&arena->abandoned, 0, memory_order_acquire);
    while (first != 0) {
        struct arena_span *span = &arena->spans[first];
        uint32_t next = span->next;
        assert(span->used > 0);
        atomic_store_explicit(&span->owner, cache->id, memory_order_relaxed);
        bool full = span->used == span->capacity;
        list_add_tail(arena, full ? &cache->full[span->size_class] : &cache->room[span->size_class],
                      first);
        first = next;
    }
    uint32_t orphans = put_chain(cache, stack_take(&arena->orphans), UINT64_MAX);
    assert(orphans == 0);
}

void arena_cache_drain(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    /* The rest of the last lot, then what has come since. */
    collect(cache, UINT64_MAX);
    if (mail_waits(cache)) {
        collect(cache, UINT64_MAX);
    }
    /* Hints; adopt synchronises. */
    if (atomic_load_explicit(&arena->abandoned, memory_order_relaxed) != 0 ||
        atomic_load_explicit(&arena->orphans, memory_order_relaxed) != 0) {
        adopt(cache);
    }
}

struct arena_cache *arena_cache_open(struct arena *arena)
{
    for (unsigned id = 0; id < arena->caches_max; id++) {
        struct arena_cache *cache = &arena->caches[id];
        uint32_t state = CACHE_FREE;
        /* Acquire pairs with the release at the end of arena_cache_close. */
        if (atomic_compare_exchange_strong_explicit(&cache->state, &state, CACHE_OPEN,
                                                    memory_order_seq_cst, memory_order_relaxed)) {
            assert(cache->incoming == 0 && cache->spare_bytes == 0);
            cache->word_narrow = cache->word_first;
            cache->word_wide = (cache->word_first + arena->words / arena->caches_max / 2);
            arena_cache_drain(cache);
            return cache;
        }
    }
    return NULL;
}

/* Takes all spans out of the cache's lists, makes them nobody's, and chains them up. */
static uint32_t disown(struct arena_cache *cache, uint32_t *last)
{
    struct arena *arena = cache->arena;
    uint32_t chain = 0;
    for (unsigned list = 0; list < 2 * CLASS_COUNT; list++) {
        struct arena_list *from =
            list < CLASS_COUNT ? &cache->room[list] : &cache->full[list - CLASS_COUNT];
        for (uint32_t first; (first = from->head) != 0;) {
            list_remove(arena, from, first);
            /* Pairs with the loads in send_home and put_chain. */
            atomic_store_explicit(&arena->spans[first].owner, OWNER_NOBODY, memory_order_relaxed);
            arena->spans[first].next = chain;
            *last = chain == 0 ? first : *last;
            chain = first;
        }
    }
    return chain;
}

/* Pairs with the exchange in adopt. Pushed as one chain, taken whole. */
static void abandon(struct arena *arena, uint32_t chain, uint32_t last)
{
    uint32_t head = atomic_load_explicit(&arena->abandoned, memory_order_relaxed);
    do {
        arena->spans[last].next = head;
    } while (!atomic_compare_exchange_weak_explicit(&arena->abandoned, &head, chain,
                                                    memory_order_release, memory_order_relaxed));
}

void arena_cache_close(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    uint32_t last = 0;
    assert(atomic_load_explicit(&cache->state, memory_order_relaxed) == CACHE_OPEN);
    /* Also takes on what lies abandoned, so that nothing stays behind the last one but what is in
     * use. */
    arena_cache_drain(cache);
    spares_give_back(cache);
    uint32_t chain = disown(cache, &last);
    /* Pairs with the load in send_home; the owners set above are seen with it. */
    atomic_store_explicit(&cache->state, CACHE_CLOSING, memory_order_seq_cst);
    send_home(arena, stack_take(&cache->inbox));
    if (chain != 0) {
        abandon(arena, chain, last);
    }
    /* Pairs with the exchange in arena_cache_open: the lists are the next one's. */
    atomic_store_explicit(&cache->state, CACHE_FREE, memory_order_seq_cst);
}

static void *run_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    struct arena *arena = cache->arena;
    if (size_bytes > arena->range_bytes) {
        return NULL;
    }
    uint32_t chunks = (uint32_t)((size_bytes + CHUNK_BYTES - 1) / CHUNK_BYTES);
    uint32_t first = arena_run_claim(cache, chunks, need);
    if (first == 0) {
        arena_cache_drain(cache);
        spares_give_back(cache);
        first = arena_run_claim(cache, chunks, need);
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
    spares_give_back(cache);
    return span_create(cache, size_class, need);
}

void *arena_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    assert(size_bytes > 0);
    if (mail_waits(cache)) {
        collect(cache, COLLECT_STEP);
    }
    if (size_bytes > OBJECT_BYTES_MAX) {
        return run_alloc(cache, size_bytes, need);
    }
    unsigned size_class = class_of(size_bytes);
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
    uint32_t first = span_of(arena, object);
    struct arena_span *span = &arena->spans[first];
    if (span->size_class == CLASS_RUN) {
        count_live(cache, -(int64_t)span_bytes(span));
        arena_run_give_back(cache, first, span->chunks);
        return;
    }
    count_live(cache, -(int64_t)span->object_bytes);
    ARENA_POISON(object, span->object_bytes);
    uint32_t ref = arena_ref(arena->base, object);
    /* See point 3 above. */
    if (atomic_load_explicit(&span->owner, memory_order_relaxed) == cache->id) {
        span_put(cache, first, ref);
    } else {
        link_store(arena, ref, 0);
        send_home(arena, ref);
    }
    if (mail_waits(cache)) {
        collect(cache, COLLECT_STEP);
    }
}

size_t arena_size(const struct arena *arena, const void *object)
{
    const struct arena_span *span = &arena->spans[span_of(arena, object)];
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
