/*
 * Blocks of the arena made ready ahead of the claims that will want them, each as one huge page if
 * the system has any to give.
 *
 * Why. A lookup at random in some hundred MiB waits longer for the translation of its addresses
 * than for its bytes; with huge pages it does not. But the first touch of one clears 2 MiB, which
 * takes longer than a loop may stand still. So an operating-system thread of its own
 * (arena_supply.c) claims free blocks, has them populated, and leaves them in the `ready` slots of
 * the caches that grow. When it is late, the cache takes small pages as if there were none.
 *
 * Outside of a block that is just being made the range takes no huge pages (arena_runs.c): what was
 * given back would come back by the system's own doing, uncounted. A block of which a part is given
 * back is a huge page no more; the system has that part's memory when all of it is free, or when it
 * runs short.
 *
 * Ownership. All of a block is claimed in `bitmap` from before it is made: by the thread, then by
 * the slot, then by who takes it out of that: a cache that opens it, or anybody who gives it back.
 * Of an open block its cache alone gives out runs, which from then on are like any others.
 *
 * Room. What nobody has asked for is no part of physical_bytes: a claim never fails for it. It is
 * counted by itself (ready_bytes, open_bytes), is only made while the budget has room for it with a
 * sixteenth to spare, and is given back when it has none any more: what waits at once or by the
 * next decay, what a cache has open by that cache when it next claims. Until then all together may
 * exceed the budget.
 *
 * Caches tell by their signs that they have opened a block or missed one; see arena_supply.c.
 *
 * Progress. No cache waits for the thread or for another cache; a thread that is kept from running
 * keeps the addresses of one block from others.
 */
#include "base/arena_private.h"

#include <assert.h>

/* ---- room: all counts are relaxed, since none of them decides who owns what ---- */

uint64_t arena_ready_bytes(const struct arena *arena)
{
    return atomic_load_explicit(&arena->ahead.ready_bytes, memory_order_relaxed) +
           atomic_load_explicit(&arena->ahead.open_bytes, memory_order_relaxed);
}

bool arena_ahead_has_room(const struct arena *arena, uint64_t bytes)
{
    uint64_t held = atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed);
    uint64_t more = arena_ready_bytes(arena) + bytes;
    return held <= arena->budget_bytes && more <= arena->budget_bytes - held;
}

static void add(_Atomic uint64_t *count, uint64_t bytes)
{
    atomic_fetch_add_explicit(count, bytes, memory_order_relaxed);
}

static void subtract(_Atomic uint64_t *count, uint64_t bytes)
{
    uint64_t old = atomic_fetch_sub_explicit(count, bytes, memory_order_relaxed);
    assert(old >= bytes);
}

/* ---- blocks that wait ---- */

static uint32_t take(_Atomic uint32_t *slot)
{
    /* A look first, which costs the others nothing. Seq_cst, both: see supply in arena_supply.c. */
    return atomic_load_explicit(slot, memory_order_seq_cst) == 0
               ? 0
               : atomic_exchange_explicit(slot, 0, memory_order_seq_cst);
}

void arena_ahead_empty(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    for (unsigned i = 0; i < READY_MAX; i++) {
        uint32_t word = take(&cache->ready[i]);
        if (word != 0) {
            arena_run_drop(arena, word * WORD_CHUNKS, BLOCK_CHUNKS, 0);
            subtract(&arena->ahead.ready_bytes, BLOCK_BYTES);
        }
    }
}

void arena_ahead_empty_all(struct arena *arena)
{
    /* Relaxed: a hint whether it is worth looking. */
    for (unsigned id = 0; id < arena->caches_max &&
                          atomic_load_explicit(&arena->ahead.ready_bytes, memory_order_relaxed) > 0;
         id++) {
        arena_ahead_empty(&arena->caches[id]);
    }
}

void arena_ahead_hold(struct arena *arena)
{
    if (arena->ahead.running && !arena_ahead_has_room(arena, 0)) {
        arena_ahead_empty_all(arena);
    }
}

/* ---- blocks that are open: the cache's own ---- */

/*
 * Ends an open block. What is left of it goes into stock where that is wanted and the budget has
 * ample room, else back to the system.
 */
static void end_block(struct arena *arena, struct arena_open *open, bool stock)
{
    stock = stock && arena_ahead_has_room(arena, arena->budget_bytes / AHEAD_ROOM_PART);
    for (unsigned half = 0; half < BLOCK_WORDS; half++) {
        while (open->left[half] != 0) {
            uint32_t chunks, at = arena_stretch_next(&open->left[half], &chunks);
            uint32_t first = (open->word + half) * WORD_CHUNKS + at;
            uint64_t bytes = (uint64_t)chunks * CHUNK_BYTES;
            subtract(&arena->ahead.open_bytes, bytes);
            bool counted = stock && arena_commit(arena, bytes, ARENA_ORDINARY);
            if (counted && arena_stock_add(arena, first, chunks)) {
                arena_clear(arena, first, chunks);
            } else {
                arena_run_drop(arena, first, chunks, counted ? chunks : 0);
            }
        }
    }
}

static uint32_t left_of(const struct arena_open *open)
{
    uint32_t chunks = 0;
    for (unsigned half = 0; half < BLOCK_WORDS; half++) {
        chunks += (uint32_t)__builtin_popcountll(open->left[half]);
    }
    return chunks;
}

/* A run out of an open block; 0 when none has a place for it. */
static uint32_t carve(struct arena_cache *cache, uint32_t chunks)
{
    for (unsigned i = 0; i < OPEN_MAX; i++) {
        for (unsigned half = 0; half < BLOCK_WORDS; half++) {
            uint64_t *left = &cache->open[i].left[half];
            uint32_t at = arena_find_clear(~*left, chunks);
            if (at < WORD_CHUNKS) {
                *left &= ~(arena_low_bits(chunks) << at);
                subtract(&cache->arena->ahead.open_bytes, (uint64_t)chunks * CHUNK_BYTES);
                return (cache->open[i].word + half) * WORD_CHUNKS + at;
            }
        }
    }
    return 0;
}

/* Opens a block that waits, in the place of the one of which least is left; false without one. */
static bool open_next(struct arena_cache *cache)
{
    struct arena *arena = cache->arena;
    uint32_t word = 0;
    for (unsigned i = 0; i < READY_MAX && word == 0; i++) {
        word = take(&cache->ready[i]);
    }
    if (word == 0) {
        return false;
    }
    struct arena_open *open = &cache->open[0];
    for (unsigned i = 1; i < OPEN_MAX; i++) {
        open = left_of(&cache->open[i]) < left_of(open) ? &cache->open[i] : open;
    }
    end_block(arena, open, true);
    *open = (struct arena_open){.word = word, .left = {UINT64_MAX, UINT64_MAX}};
    add(&arena->ahead.open_bytes, BLOCK_BYTES);
    subtract(&arena->ahead.ready_bytes, BLOCK_BYTES);
    return true;
}

void arena_ahead_leave(struct arena_cache *cache)
{
    arena_ahead_empty(cache);
    for (unsigned i = 0; i < OPEN_MAX; i++) {
        end_block(cache->arena, &cache->open[i], false);
    }
}

void arena_ahead_give_up(struct arena_cache *cache)
{
    if (arena_ready_bytes(cache->arena) > 0) {
        arena_ahead_leave(cache);
        arena_ahead_empty_all(cache->arena);
    }
}

/* Relaxed, both: hints. The thread looks for them by itself: to wake it would cost the caller more
 * than all the rest. */
static void tell(struct arena_cache *cache, uint32_t word, uint32_t sign)
{
    atomic_store_explicit(&cache->sign_word, word, memory_order_relaxed);
    atomic_fetch_or_explicit(&cache->sign, sign, memory_order_relaxed);
}

uint32_t arena_ahead_take(struct arena_cache *cache, uint32_t chunks, uint32_t word)
{
    struct arena *arena = cache->arena;
    /* Relaxed: a hint. What is in stock comes first. */
    if (!arena->ahead.running ||
        atomic_load_explicit(&arena->stocked[word], memory_order_relaxed) != 0) {
        return 0;
    }
    uint32_t first = carve(cache, chunks);
    if (first != 0) {
        return first;
    }
    if (!open_next(cache)) {
        tell(cache, word, AHEAD_MISSED);
        return 0;
    }
    tell(cache, word, AHEAD_OPENED);
    return carve(cache, chunks);
}
