/*
 * The arena's stock: chunks that nobody uses and whose pages stay, for whoever claims them next.
 *
 * To give pages back and fault them in again costs several times what is done with the memory in
 * between, and what lives by a ttl frees as much as it allocates. So the pages of a freed run stay,
 * within a limit; they leave little by little (arena_stock_decay), and at once where the budget has
 * no room for them beside what is asked for.
 *
 * A chunk is in stock while its bit in `stocked` is set and that in `bitmap` is clear. Whoever
 * holds its bit in `bitmap` alone changes the one in `stocked`: after the acquire that won it,
 * before the release that gives it up, so that `stocked` needs no order of its own. Pages in stock
 * are counted in physical_bytes until they are another's, or just before they go: of each who trims
 * a word of them at most is there for a moment and not counted. The other way round a claim that
 * has room could miss it.
 *
 * Progress. Lock-free as the range is; no call goes round the words more than once.
 */
#include "base/arena_private.h"

#include <assert.h>
#include <sys/mman.h>

enum {
    STOCK_PART = 8,         /* at most this part of the budget */
    STOCK_MIB_MAX = 256,    /* nor more than this, for the time it takes to give back */
    DECAY_STEP_MS = 10,     /* so often */
    DECAY_STEPS_MAX = 25,   /* at once, when nobody has called for a while */
    DECAY_PART = 512,       /* leaves: e-fold in some 5 s */
    DECAY_CHUNKS_LEAST = 4, /* and so much of the last of it */
};

void arena_stock_init(struct arena *arena)
{
    const uint64_t most = (uint64_t)STOCK_MIB_MAX << 20;
    uint64_t part = arena->budget_bytes / STOCK_PART;
    arena->stock_bytes_max = part < most ? part : most;
}

/* Whether the stock has, and keeps, room for so many bytes more. */
static bool reserve(struct arena *arena, uint64_t bytes)
{
    /* Relaxed: what slips through is driven out by the next decay. */
    if (atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed) > arena->budget_bytes) {
        return false;
    }
    /* Pairs with the subtraction in uncount; wants no order. */
    uint64_t old = atomic_load_explicit(&arena->stock_bytes, memory_order_relaxed);
    do {
        if (bytes > arena->stock_bytes_max || old > arena->stock_bytes_max - bytes) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&arena->stock_bytes, &old, old + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

bool arena_stock_add(struct arena *arena, uint32_t first, uint32_t chunks)
{
    if (chunks == 0 || !reserve(arena, (uint64_t)chunks * CHUNK_BYTES)) {
        return false;
    }
    if (arena_stock_bytes(arena) < 2 * (uint64_t)WORD_CHUNKS * CHUNK_BYTES) {
        /* There is next to nothing elsewhere: near the budget a trim need not walk to find this. */
        atomic_store_explicit(&arena->stock_word, first / WORD_CHUNKS, memory_order_relaxed);
    }
    while (chunks > 0) {
        struct arena_part part = arena_part_next(&first, &chunks);
        /* Relaxed: see above. Others change other bits of the word. */
        uint64_t old =
            atomic_fetch_or_explicit(&arena->stocked[part.word], part.mask, memory_order_relaxed);
        assert((old & part.mask) == 0);
    }
    return true;
}

/* Takes the bits of `mask` that are in stock out of it. The caller holds all of them. */
static uint64_t take_bits(struct arena *arena, uint32_t word, uint64_t mask)
{
    /* Relaxed, both: see above. */
    if ((atomic_load_explicit(&arena->stocked[word], memory_order_relaxed) & mask) == 0) {
        return 0;
    }
    return atomic_fetch_and_explicit(&arena->stocked[word], ~mask, memory_order_relaxed) & mask;
}

static void uncount(struct arena *arena, uint64_t chunks)
{
    uint64_t bytes = chunks * CHUNK_BYTES;
    uint64_t had = atomic_fetch_sub_explicit(&arena->stock_bytes, bytes, memory_order_relaxed);
    assert(had >= bytes);
}

struct arena_taken arena_stock_take(struct arena *arena, uint32_t first, uint32_t chunks)
{
    struct arena_taken taken = {0};
    bool leads = true;
    while (chunks > 0) {
        struct arena_part part = arena_part_next(&first, &chunks);
        uint64_t bits = take_bits(arena, part.word, part.mask);
        taken.chunks += (uint32_t)__builtin_popcountll(bits);
        if (leads) {
            leads = bits == part.mask;
            taken.leading += leads ? part.chunks : (uint32_t)__builtin_ctzll(~(bits >> part.at));
        }
    }
    if (taken.chunks > 0) {
        uncount(arena, taken.chunks);
    }
    return taken;
}

/* The lowest `count` of the bits, or all. */
static uint64_t lowest(uint64_t bits, uint32_t count)
{
    uint64_t left = bits;
    for (; left != 0 && count > 0; count--) {
        left &= left - 1;
    }
    return bits & ~left;
}

/* Gives the pages of the word's chunks back to the system, stretch by stretch. */
static void drop_pages(struct arena *arena, uint32_t word, uint64_t bits)
{
    while (bits != 0) {
        uint32_t count, at = arena_stretch_next(&bits, &count);
        (void)madvise(arena_chunk_at(arena, word * WORD_CHUNKS + at), (size_t)count * CHUNK_BYTES,
                      MADV_DONTNEED);
    }
}

/* Gives up to `chunks_max` of the word's chunks in stock back to the system: so many it were. */
static uint32_t drop(struct arena *arena, uint32_t word, uint32_t chunks_max)
{
    uint64_t bits;
    uint64_t used = atomic_load_explicit(&arena->bitmap[word], memory_order_relaxed);
    do {
        bits = atomic_load_explicit(&arena->stocked[word], memory_order_relaxed) & ~used;
        bits = lowest(bits, chunks_max);
        if (bits == 0) {
            return 0;
        }
        /* Acquire pairs with the release in who freed them (arena_runs.c), as any claim's does. */
    } while (!atomic_compare_exchange_weak_explicit(&arena->bitmap[word], &used, used | bits,
                                                    memory_order_acquire, memory_order_relaxed));
    /* What was claimed and freed between the two loads need not be in stock any more. */
    uint64_t mine = take_bits(arena, word, bits);
    uint32_t chunks = (uint32_t)__builtin_popcountll(mine);
    /* First from the sum, then from its part: who looks in between finds too much room. */
    arena_uncommit(arena, (uint64_t)chunks * CHUNK_BYTES);
    uncount(arena, chunks);
    drop_pages(arena, word, mine);
    /* Release pairs with the acquire of who claims them next. */
    atomic_fetch_and_explicit(&arena->bitmap[word], ~bits, memory_order_release);
    return chunks;
}

uint64_t arena_stock_trim(struct arena *arena, uint64_t bytes)
{
    const uint64_t asked = bytes / CHUNK_BYTES + (bytes % CHUNK_BYTES != 0);
    uint64_t left = asked;
    /* A hint where to look: others move it too. */
    uint32_t word = atomic_load_explicit(&arena->stock_word, memory_order_relaxed);
    for (uint32_t looked = 0; looked < arena->words && left > 0 && arena_stock_bytes(arena) > 0;
         looked++) {
        left -= drop(arena, word, left < WORD_CHUNKS ? (uint32_t)left : WORD_CHUNKS);
        if (left > 0) {
            word = word + 1 == arena->words ? 0 : word + 1;
        }
    }
    atomic_store_explicit(&arena->stock_word, word, memory_order_relaxed);
    return (asked - left) * CHUNK_BYTES;
}

void arena_stock_hold(struct arena *arena)
{
    /* Relaxed: where it is missed, the next decay makes good for it. */
    uint64_t held = atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed);
    if (held > arena->budget_bytes && arena_stock_bytes(arena) > 0) {
        (void)arena_stock_trim(arena, held - arena->budget_bytes);
    }
}

void arena_stock_decay(struct arena *arena, uint64_t now_ms)
{
    /* Relaxed, all: who wins the exchange does the step, and nothing hangs on when. */
    uint64_t due_ms = atomic_load_explicit(&arena->stock_due_ms, memory_order_relaxed);
    if (now_ms < due_ms || !atomic_compare_exchange_strong_explicit(
                               &arena->stock_due_ms, &due_ms, now_ms + DECAY_STEP_MS,
                               memory_order_relaxed, memory_order_relaxed)) {
        return;
    }
    arena_stock_hold(arena);
    arena_ahead_hold(arena);
    uint64_t steps = (now_ms - due_ms) / DECAY_STEP_MS + 1;
    steps = steps < DECAY_STEPS_MAX ? steps : DECAY_STEPS_MAX;
    uint64_t part = arena_stock_bytes(arena) / DECAY_PART;
    uint64_t least = (uint64_t)DECAY_CHUNKS_LEAST * CHUNK_BYTES;
    (void)arena_stock_trim(arena, steps * (part > least ? part : least));
}

uint64_t arena_stock_bytes(const struct arena *arena)
{
    return atomic_load_explicit(&arena->stock_bytes, memory_order_relaxed);
}
