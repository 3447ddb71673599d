/*
 * The operating-system thread that makes blocks ready: when, how many, and for whom.
 *
 * Only the thread looks for the caches' signs, fills their slots, and decides how many blocks are
 * to wait for each: twice as many each time one was missed, none when there was no sign for long.
 *
 * Cost. Clearing 2 MiB takes a quarter of the time that small pages for them do; but where the
 * machine is virtual and its host takes free memory back, a fresh huge page may take ten times as
 * long as they. So after a block that took long the thread rests: for a multiple of that, and twice
 * as long each time. Caches take small pages then.
 */
#include "base/arena_private.h"

#include "base/background.h"
#include "base/clock.h"

#include <assert.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum {
    READY_PART = 32,       /* at most this part of the budget waits */
    BLOCKS_LEAST = 2,      /* with less of a budget than gives so many there are none */
    LOOK_BLOCKS_MAX = 256, /* for one that is free */
    WAIT_MS = 5,           /* for a sign, while there was one lately */
    WAIT_LONG_MS = 250,
    LATELY_MS = 1000,
    QUIET_MS = 30 * 1000,
    SLOW_US = 1000,     /* a block that takes longer */
    REST_PART = 31,     /* is followed by so many times its time without one, */
    REST_MS_MAX = 8000, /* twice as long each time, up to this */
};

struct arena_supply {
    uint32_t depth; /* so many blocks are to wait */
    bool wanting;   /* some may be missing */
    uint64_t sign_ms;
};

/* A hint, unless the caller holds the word. */
static bool is_free(const struct arena *arena, uint32_t word)
{
    return atomic_load_explicit(&arena->stocked[word], memory_order_relaxed) == 0 &&
           atomic_load_explicit(&arena->bitmap[word], memory_order_relaxed) == 0;
}

static bool in_stock(const struct arena *arena, uint32_t word)
{
    /* Relaxed: the caller holds both words, and so alone changes these. */
    return (atomic_load_explicit(&arena->stocked[word], memory_order_relaxed) |
            atomic_load_explicit(&arena->stocked[word + 1], memory_order_relaxed)) != 0;
}

/* Claims the first free block from that of `word` on; 0 when there is none near. */
static uint32_t claim(struct arena *arena, uint32_t word)
{
    word = word / BLOCK_WORDS * BLOCK_WORDS;
    for (uint32_t looked = 0; looked < LOOK_BLOCKS_MAX; looked++, word += BLOCK_WORDS) {
        if (word + BLOCK_WORDS > arena->words) {
            word = 0; /* of which chunk 0 is never free */
        }
        if (is_free(arena, word) && is_free(arena, word + 1) &&
            arena_words_claim(arena, word, BLOCK_CHUNKS) == ARENA_WORDS_CLAIMED) {
            if (!in_stock(arena, word)) {
                return word;
            }
            arena_clear(arena, word * WORD_CHUNKS, BLOCK_CHUNKS);
        }
    }
    return 0;
}

/*
 * Has the pages of a claimed block there. Where it is refused huge pages, it is made of small ones.
 * Of what takes huge pages by itself ever after, none may be given out: that stays claimed.
 */
static bool populate(struct arena *arena, uint32_t word)
{
    void *at = arena_chunk_at(arena, word * WORD_CHUNKS);
    bool huge = madvise(at, BLOCK_BYTES, MADV_HUGEPAGE) == 0;
    bool there = madvise(at, BLOCK_BYTES, MADV_POPULATE_WRITE) == 0;
    if (huge && madvise(at, BLOCK_BYTES, MADV_NOHUGEPAGE) != 0) {
        (void)madvise(at, BLOCK_BYTES, MADV_DONTNEED);
        return false;
    }
    if (!there) {
        arena_run_drop(arena, word * WORD_CHUNKS, BLOCK_CHUNKS, 0);
    }
    return there;
}

/* A block whose pages are there, from that of `word` on; 0 when there is to be none. */
static uint32_t make(struct arena *arena, uint32_t word)
{
    struct arena_ahead *ahead = &arena->ahead;
    uint64_t ready = atomic_load_explicit(&ahead->ready_bytes, memory_order_relaxed);
    if (ready + BLOCK_BYTES > ahead->ready_bytes_max ||
        !arena_ahead_has_room(arena, BLOCK_BYTES + arena->budget_bytes / AHEAD_ROOM_PART)) {
        return 0;
    }
    word = claim(arena, word);
    if (word == 0) {
        return 0;
    }
    atomic_fetch_add_explicit(&ahead->ready_bytes, BLOCK_BYTES, memory_order_relaxed);
    if (!populate(arena, word)) {
        atomic_fetch_sub_explicit(&ahead->ready_bytes, BLOCK_BYTES, memory_order_relaxed);
        return 0;
    }
    return word;
}

/* Of this operating-system thread, so that waiting for a core does not count. */
static uint64_t spent_us(void)
{
    struct timespec spent;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &spent);
    return (uint64_t)spent.tv_sec * 1000000 + (uint64_t)spent.tv_nsec / 1000;
}

static bool is_stopping(const struct arena_ahead *ahead)
{
    /* Acquire pairs with the release in arena_ahead_stop. */
    return atomic_load_explicit(&ahead->stopping, memory_order_acquire);
}

/* Only the stop wakes it. */
static void sleep_ms(struct arena_ahead *ahead, uint64_t ms)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    uint64_t ns = (uint64_t)until.tv_nsec + ms % 1000 * 1000000;
    until.tv_sec += (time_t)(ms / 1000 + ns / 1000000000);
    until.tv_nsec = (long)(ns % 1000000000);
    (void)sem_clockwait(&ahead->stop, CLOCK_MONOTONIC, &until);
}

/* After a block that took so long: nothing if that was quick. */
static void rest_after(struct arena_ahead *ahead, uint64_t took_us)
{
    if (took_us <= SLOW_US) {
        ahead->rest_ms = 0;
        return;
    }
    uint64_t least = took_us * REST_PART / 1000;
    ahead->rest_ms = 2 * ahead->rest_ms > least ? 2 * ahead->rest_ms : least;
    ahead->rest_ms = ahead->rest_ms < REST_MS_MAX ? ahead->rest_ms : REST_MS_MAX;
    sleep_ms(ahead, ahead->rest_ms);
}

/* Takes note of the cache's sign, or that there has been none for long. */
static void listen(struct arena_cache *cache, struct arena_supply *supply, uint64_t now_ms)
{
    /* Pairs with the fetch_or in tell; wants no order. A look first, as most say nothing. */
    uint32_t sign = atomic_load_explicit(&cache->sign, memory_order_relaxed) == 0
                        ? 0
                        : atomic_exchange_explicit(&cache->sign, 0, memory_order_relaxed);
    if (sign != 0) {
        supply->wanting = true;
        supply->sign_ms = now_ms;
        if (supply->depth == 0) {
            supply->depth = 1;
        } else if ((sign & AHEAD_MISSED) != 0 && supply->depth < READY_MAX) {
            supply->depth *= 2;
        }
    } else if (supply->depth > 0 &&
               now_ms - supply->sign_ms >
                   atomic_load_explicit(&cache->arena->ahead.quiet_ms, memory_order_relaxed)) {
        supply->depth = 0;
        arena_ahead_empty(cache);
    }
}

/* Makes a block for the cache if one is missing; whether it did. */
static bool supply(struct arena_cache *cache, struct arena_supply *supply)
{
    /* A hint, so that none is made in vain. */
    if (atomic_load_explicit(&cache->state, memory_order_relaxed) != CACHE_OPEN) {
        supply->depth = 0;
    }
    unsigned slot = 0;
    while (slot < supply->depth &&
           atomic_load_explicit(&cache->ready[slot], memory_order_relaxed) != 0) {
        slot++;
    }
    uint64_t before_us = spent_us();
    uint32_t word =
        slot < supply->depth
            ? make(cache->arena, atomic_load_explicit(&cache->sign_word, memory_order_relaxed))
            : 0;
    if (word == 0) {
        supply->wanting = false;
        return false;
    }
    /* Seq_cst, both, pair with the store of the state in arena_cache_close and what take does
     * behind it: either that finds the block, or this sees that nobody is there. The store is a
     * release for whoever takes the block, too. */
    atomic_store_explicit(&cache->ready[slot], word, memory_order_seq_cst);
    if (atomic_load_explicit(&cache->state, memory_order_seq_cst) != CACHE_OPEN) {
        arena_ahead_empty(cache);
    }
    /* What was taken meanwhile knew nothing of this one. */
    arena_ahead_hold(cache->arena);
    rest_after(&cache->arena->ahead, spent_us() - before_us);
    return true;
}

/* Looks after every cache once; whether a block was made. */
static bool go_round(struct arena *arena, bool *lately)
{
    struct arena_ahead *ahead = &arena->ahead;
    uint64_t now_ms = clock_read_ms(clock_monotonic());
    bool made = false;
    /* Each block may be followed by a rest, which the stop ends but once. */
    for (unsigned id = 0; id < arena->caches_max && !is_stopping(ahead); id++) {
        struct arena_supply *to = &ahead->supplies[id];
        listen(&arena->caches[id], to, now_ms);
        made = (to->wanting && supply(&arena->caches[id], to)) || made;
        *lately = *lately || (to->depth > 0 && now_ms - to->sign_ms < LATELY_MS);
    }
    return made;
}

static void *run(void *context)
{
    struct arena *arena = context;
    background_be_nice();
    while (!is_stopping(&arena->ahead)) {
        bool lately = false;
        if (!go_round(arena, &lately)) {
            sleep_ms(&arena->ahead, lately ? WAIT_MS : WAIT_LONG_MS);
        }
    }
    return NULL;
}

bool arena_ahead_start(struct arena *arena)
{
    struct arena_ahead *ahead = &arena->ahead;
    assert(!ahead->running);
    *ahead = (struct arena_ahead){.ready_bytes_max = arena->budget_bytes / READY_PART,
                                  .quiet_ms = QUIET_MS};
    if (ahead->ready_bytes_max < BLOCKS_LEAST * (uint64_t)BLOCK_BYTES) {
        return true;
    }
    ahead->supplies = calloc(arena->caches_max, sizeof *ahead->supplies);
    if (ahead->supplies == NULL) {
        return false;
    }
    sem_init(&ahead->stop, 0, 0);
    ahead->running = true;
    if (!background_start(&ahead->thread, "ahead", run, arena)) {
        ahead->running = false;
        sem_destroy(&ahead->stop);
        free(ahead->supplies);
    }
    return ahead->running;
}

void arena_ahead_stop(struct arena *arena)
{
    struct arena_ahead *ahead = &arena->ahead;
    if (!ahead->running) {
        return;
    }
    /* Pairs with the acquire in is_stopping. */
    atomic_store_explicit(&ahead->stopping, true, memory_order_release);
    (void)sem_post(&ahead->stop);
    pthread_join(ahead->thread, NULL);
    arena_ahead_empty_all(arena);
    sem_destroy(&ahead->stop);
    free(ahead->supplies);
    ahead->running = false;
}
