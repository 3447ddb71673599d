/*
 * The arena's caches: opening and closing them, and how freed objects find their way home.
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

/* Pairs with the exchanges that take the stack, in stack_take. */
static void stack_push(struct arena *arena, _Atomic uint32_t *stack, uint32_t ref)
{
    uint32_t head = atomic_load_explicit(stack, memory_order_relaxed);
    do {
        arena_link_store(arena, ref, head);
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
    for (uint32_t next; (next = arena_link_load(arena, last)) != 0;) {
        last = next;
    }
    arena_link_store(arena, last, rest);
    return front;
}

void arena_send_home(struct arena *arena, uint32_t chain)
{
    while (chain != 0) {
        uint32_t ref = chain;
        chain = arena_link_load(arena, ref);
        /* Pairs with the stores of owners. Older ones cannot be seen: this is ordered after the
         * object was given out and, on a second round, after the closing state that was read. */
        uint16_t owner = atomic_load_explicit(
            &arena->spans[arena_span_of(arena, arena_at(arena->base, ref))].owner,
            memory_order_relaxed);
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
        uint32_t first = arena_span_of(arena, arena_at(arena->base, ref));
        chain = arena_link_load(arena, ref);
        /* See point 3 above. */
        if (atomic_load_explicit(&arena->spans[first].owner, memory_order_relaxed) == cache->id) {
            arena_span_put(cache, first, ref);
        } else {
            arena_link_store(arena, ref, 0);
            arena_send_home(arena, ref);
        }
    }
    return chain;
}

void arena_collect(struct arena_cache *cache, uint64_t objects_max)
{
    if (cache->incoming == 0) {
        cache->incoming = stack_take(&cache->inbox);
    }
    cache->incoming = put_chain(cache, cache->incoming, objects_max);
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
        arena_list_add_tail(
            arena, full ? &cache->full[span->size_class] : &cache->room[span->size_class], first);
        first = next;
    }
    uint32_t orphans = put_chain(cache, stack_take(&arena->orphans), UINT64_MAX);
    assert(orphans == 0);
}

void arena_cache_drain(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    /* The rest of the last lot, then what has come since. */
    for (unsigned lot = 0; lot < 2 && arena_mail_waits(cache); lot++) {
        arena_collect(cache, UINT64_MAX);
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
            cache->word_wide = cache->word_first + arena->words / arena->caches_max / 2;
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
            arena_list_remove(arena, from, first);
            /* Pairs with the loads in arena_send_home and put_chain. */
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
    arena_spares_give_back(cache);
    uint32_t chain = disown(cache, &last);
    /* Pairs with the load in arena_send_home; the owners set above are seen with it. */
    atomic_store_explicit(&cache->state, CACHE_CLOSING, memory_order_seq_cst);
    arena_send_home(arena, stack_take(&cache->inbox));
    if (chain != 0) {
        abandon(arena, chain, last);
    }
    arena_ahead_leave(cache);
    /* Pairs with the exchange in arena_cache_open: the lists are the next one's. */
    atomic_store_explicit(&cache->state, CACHE_FREE, memory_order_seq_cst);
}
