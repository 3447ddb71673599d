/*
 * The arena's range: reserving it, claiming runs of chunks, giving them back, and the budget.
 *
 * Lock-free. A run of up to 64 chunks is claimed inside one word of the bitmap by one CAS; a longer
 * one starts at a word boundary and claims word by word, rolling back when one is taken. Claims of
 * long runs that meet may both roll back; each looks further, and over the whole range a second
 * time, before it gives up. Ownership of a run passes from who clears its bits (release) to who
 * sets them (acquire).
 */
#include "base/arena_private.h"

#include <assert.h>
#include <sys/mman.h>

enum { POPULATE_BYTES_MAX = 1 << 20 }; /* in one call, for the time it takes */

static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) {
        return NULL;
    }
    /* Traces must not reach a core file. */
    if (madvise(at, bytes, MADV_DONTDUMP) != 0) {
        munmap(at, bytes);
        return NULL;
    }
    return at;
}

/* As reserve, at a multiple of BLOCK_BYTES, and with huge pages only where they are asked for. */
static uint8_t *reserve_blocks(size_t bytes)
{
    uint8_t *at = reserve(bytes + BLOCK_BYTES);
    if (at == NULL) {
        return NULL;
    }
    size_t before = (size_t)(-(uintptr_t)at & (BLOCK_BYTES - 1));
    if (before > 0) {
        munmap(at, before);
    }
    munmap(at + before + bytes, BLOCK_BYTES - before);
    /* Refused by systems that have none. */
    (void)madvise(at + before, bytes, MADV_NOHUGEPAGE);
    return at + before;
}

bool arena_runs_reserve(struct arena *arena)
{
    size_t chunks = (size_t)arena->words * WORD_CHUNKS;
    size_t bitmap_bytes = arena->words * sizeof *arena->bitmap;
    size_t spans_at = (2 * bitmap_bytes + 63) / 64 * 64;
    size_t offsets_at = spans_at + chunks * sizeof *arena->spans;

    assert(arena->range_bytes == chunks * CHUNK_BYTES);
    arena->base = reserve_blocks(arena->range_bytes);
    if (arena->base == NULL) {
        return false;
    }
    arena->tables_bytes = offsets_at + chunks;
    arena->tables = reserve(arena->tables_bytes);
    if (arena->tables == NULL) {
        munmap(arena->base, arena->range_bytes);
        return false;
    }
    arena->bitmap = arena->tables;
    arena->stocked = arena->bitmap + arena->words;
    arena->spans = (void *)((uint8_t *)arena->tables + spans_at);
    arena->offsets = (uint8_t *)arena->tables + offsets_at;
    atomic_init(&arena->bitmap[0], 1); /* chunk 0 is none */
    return true;
}

void arena_runs_release(struct arena *arena)
{
    /* The addresses may serve others next. */
    ARENA_UNPOISON(arena->base, arena->range_bytes);
    munmap(arena->tables, arena->tables_bytes);
    munmap(arena->base, arena->range_bytes);
}

/* The counter orders nothing: the bitmap does. Pairs with the subtraction in arena_uncommit. */
bool arena_commit(struct arena *arena, uint64_t bytes, enum arena_need need)
{
    uint64_t old = atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed);
    do {
        if (need == ARENA_ORDINARY &&
            (old > arena->budget_bytes || bytes > arena->budget_bytes - old)) {
            return false;
        }
    } while (!atomic_compare_exchange_weak_explicit(&arena->physical_bytes, &old, old + bytes,
                                                    memory_order_relaxed, memory_order_relaxed));
    return true;
}

void arena_uncommit(struct arena *arena, uint64_t bytes)
{
    uint64_t old = atomic_fetch_sub_explicit(&arena->physical_bytes, bytes, memory_order_relaxed);
    assert(old >= bytes);
}

uint32_t arena_find_clear(uint64_t word, uint32_t count)
{
    uint64_t starts = ~word;
    uint32_t left = count;
    while (left > 1) {
        uint32_t by = left / 2;
        starts &= starts >> by;
        left -= by;
    }
    return starts == 0 ? WORD_CHUNKS : (uint32_t)__builtin_ctzll(starts);
}

static uint32_t claim_narrow(struct arena_cache *cache, uint32_t chunks, uint32_t *populated)
{
    struct arena *arena = cache->arena;
    uint32_t word = cache->word_narrow;
    for (uint32_t looked = 0; looked < arena->words; looked++) {
        uint64_t old = atomic_load_explicit(&arena->bitmap[word], memory_order_relaxed);
        uint32_t ready = old == 0 ? arena_ahead_take(cache, chunks, word) : 0;
        if (ready != 0) {
            cache->word_narrow = word;
            *populated = chunks;
            return ready;
        }
        uint32_t at = arena_find_clear(old, chunks);
        while (at < WORD_CHUNKS) {
            /* Acquire pairs with the release in arena_clear: the former owner is done with the
             * run. */
            if (atomic_compare_exchange_weak_explicit(&arena->bitmap[word], &old,
                                                      old | arena_low_bits(chunks) << at,
                                                      memory_order_acquire, memory_order_relaxed)) {
                cache->word_narrow = word;
                return word * WORD_CHUNKS + at;
            }
            at = arena_find_clear(old, chunks);
        }
        word = word + 1 == arena->words ? 0 : word + 1;
    }
    return 0;
}

/* Pairs with the acquire in claim_narrow and arena_words_claim. */
void arena_clear(struct arena *arena, uint32_t first, uint32_t chunks)
{
    while (chunks > 0) {
        struct arena_part part = arena_part_next(&first, &chunks);
        uint64_t old =
            atomic_fetch_and_explicit(&arena->bitmap[part.word], ~part.mask, memory_order_release);
        assert((old & part.mask) == part.mask);
    }
}

uint32_t arena_words_claim(struct arena *arena, uint32_t word, uint32_t chunks)
{
    uint32_t claimed = 0;
    while (claimed < chunks) {
        uint32_t here = chunks - claimed < WORD_CHUNKS ? chunks - claimed : WORD_CHUNKS;
        uint64_t mask = arena_low_bits(here);
        uint32_t at = word + claimed / WORD_CHUNKS;
        uint64_t old = atomic_load_explicit(&arena->bitmap[at], memory_order_relaxed);
        /* Acquire pairs with the release in arena_clear. */
        while ((old & mask) == 0 &&
               !atomic_compare_exchange_weak_explicit(&arena->bitmap[at], &old, old | mask,
                                                      memory_order_acquire, memory_order_relaxed)) {
        }
        if ((old & mask) != 0) {
            arena_clear(arena, word * WORD_CHUNKS, claimed);
            return at;
        }
        claimed += here;
    }
    return ARENA_WORDS_CLAIMED;
}

static uint32_t claim_wide(struct arena_cache *cache, uint32_t chunks)
{
    struct arena *arena = cache->arena;
    uint32_t need = (chunks + WORD_CHUNKS - 1) / WORD_CHUNKS;
    uint32_t word = cache->word_wide;
    /* Twice: a claim that rolled back may have hidden the only room from this one. */
    for (uint64_t looked = 0; looked < 2 * (uint64_t)arena->words && need <= arena->words;) {
        if (word + need > arena->words) {
            looked += arena->words - word;
            word = 0;
            continue;
        }
        uint32_t blocked = arena_words_claim(arena, word, chunks);
        if (blocked == ARENA_WORDS_CLAIMED) {
            cache->word_wide = word;
            return word * WORD_CHUNKS;
        }
        looked += blocked + 1 - word;
        word = blocked + 1 == arena->words ? 0 : blocked + 1;
    }
    return 0;
}

void arena_run_drop(struct arena *arena, uint32_t first, uint32_t chunks, uint32_t counted)
{
    /* Before the bits: afterwards the next owner's bytes would go. It fails on locked memory only,
     * which then stays resident, and nothing else is wrong. */
    (void)madvise(arena_chunk_at(arena, first), (size_t)chunks * CHUNK_BYTES, MADV_DONTNEED);
    arena_uncommit(arena, (uint64_t)counted * CHUNK_BYTES);
    arena_clear(arena, first, chunks);
}

/* Whether a claim can succeed that has all of the stock to fall back on. A hint: arena_commit
 * decides. */
static bool may_fit(const struct arena *arena, uint64_t bytes, enum arena_need need)
{
    uint64_t used = arena_committed_bytes(arena);
    return need == ARENA_STRUCTURAL ||
           (used <= arena->budget_bytes && bytes <= arena->budget_bytes - used);
}

/*
 * Commits what the run has not brought along from the stock, at the cost of the rest of that.
 * Lock-free: another round means that somebody else committed what was made room for.
 */
static bool commit_rest(struct arena *arena, uint64_t bytes, enum arena_need need)
{
    bool freed = true;
    while (!arena_commit(arena, bytes, need)) {
        if (!freed) {
            return false;
        }
        /* Relaxed: arena_commit decides. */
        uint64_t held = atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed) + bytes;
        uint64_t lack = held > arena->budget_bytes ? held - arena->budget_bytes : 1;
        freed = arena_stock_trim(arena, lack) > 0;
    }
    if (need == ARENA_STRUCTURAL) {
        arena_stock_hold(arena);
    }
    return true;
}

static uint32_t claim(struct arena_cache *cache, uint32_t chunks, uint32_t *populated)
{
    return chunks <= WORD_CHUNKS ? claim_narrow(cache, chunks, populated)
                                 : claim_wide(cache, chunks);
}

uint32_t arena_run_claim(struct arena_cache *cache, uint32_t chunks, enum arena_need need,
                         uint32_t *populated)
{
    struct arena *arena = cache->arena;
    assert(chunks > 0);
    if (!may_fit(arena, (uint64_t)chunks * CHUNK_BYTES, need)) {
        return 0;
    }
    if (arena->ahead.running && !arena_ahead_has_room(arena, (uint64_t)chunks * CHUNK_BYTES)) {
        arena_ahead_give_up(cache);
    }
    uint32_t ready = 0;
    uint32_t first = claim(cache, chunks, &ready);
    if (first == 0 && arena->ahead.running) {
        /* It lies in the way, perhaps. */
        arena_ahead_give_up(cache);
        first = claim(cache, chunks, &ready);
    }
    if (first == 0) {
        return 0;
    }
    struct arena_taken taken = arena_stock_take(arena, first, chunks);
    if (!commit_rest(arena, (uint64_t)(chunks - taken.chunks) * CHUNK_BYTES, need)) {
        arena_run_drop(arena, first, chunks, taken.chunks);
        return 0;
    }
    *populated = ready > 0 ? ready : taken.leading;
    return first;
}

void arena_run_populate(void *at, size_t bytes)
{
    if (bytes > POPULATE_BYTES_MAX) {
        bytes = POPULATE_BYTES_MAX;
    }
    /* A hint: where it is refused, the pages come one by one as they are written. */
    (void)madvise(at, bytes, MADV_POPULATE_WRITE);
}

void arena_run_give_back(struct arena_cache *cache, uint32_t first, uint32_t chunks,
                         uint32_t populated)
{
    struct arena *arena = cache->arena;
    uint32_t word = first / WORD_CHUNKS;

    assert(first > 0 && chunks > 0 && populated <= chunks);
    ARENA_POISON(arena_chunk_at(arena, first), (size_t)chunks * CHUNK_BYTES);
    /* Reuse low addresses of the cache's own part first, so that the rest stays whole. */
    if (chunks <= WORD_CHUNKS && word >= cache->word_first && word < cache->word_narrow) {
        cache->word_narrow = word;
    }
    if (arena_stock_add(arena, first, populated)) {
        arena_clear(arena, first, populated);
        first += populated;
        chunks -= populated;
    }
    if (chunks > 0) {
        arena_run_drop(arena, first, chunks, chunks);
    }
}

void arena_charge(struct arena *arena, int64_t bytes)
{
    if (bytes >= 0) {
        atomic_fetch_add_explicit(&arena->physical_bytes, (uint64_t)bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&arena->charged_bytes, (uint64_t)bytes, memory_order_relaxed);
        arena_stock_hold(arena);
        return;
    }
    uint64_t less = (uint64_t)-bytes;
    uint64_t old = atomic_fetch_sub_explicit(&arena->charged_bytes, less, memory_order_relaxed);
    assert(old >= less);
    arena_uncommit(arena, less);
}

uint64_t arena_committed_bytes(const struct arena *arena)
{
    /* Relaxed: about right while others claim and free. */
    uint64_t held = atomic_load_explicit(&arena->physical_bytes, memory_order_relaxed);
    uint64_t stock = arena_stock_bytes(arena);
    return held > stock ? held - stock : 0;
}
