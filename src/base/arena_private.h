/*
 * What arena.c (objects and their spans), arena_caches.c (caches, and frees that travel home),
 * arena_runs.c (the range and its chunks), arena_stock.c (free chunks whose pages stay),
 * arena_ahead.c (huge pages made ready) and arena_supply.c (who makes them) share. Nobody else
 * includes this, but for their tests.
 *
 * The range is cut into 16 KiB chunks. A run is one or more adjacent chunks, named by its first
 * chunk; it is either a span (objects of one class, owned by one cache) or one large object. A
 * bitmap has a bit per chunk in use; whoever sets the bits owns the run and its descriptor. Chunk 0
 * is never given out, so 0 means none both for chunks and for references.
 */
#ifndef RETHREAD_BASE_ARENA_PRIVATE_H
#define RETHREAD_BASE_ARENA_PRIVATE_H

#include "base/arena.h"

#include <assert.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#if defined(__SANITIZE_ADDRESS__)
#define ARENA_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define ARENA_ASAN 1
#endif
#endif

#ifdef ARENA_ASAN
#include <sanitizer/asan_interface.h>
#define ARENA_POISON(data, size)   __asan_poison_memory_region((data), (size))
#define ARENA_UNPOISON(data, size) __asan_unpoison_memory_region((data), (size))
#else
#define ARENA_POISON(data, size)   ((void)(data), (void)(size))
#define ARENA_UNPOISON(data, size) ((void)(data), (void)(size))
#endif

enum {
    CHUNK_BYTES = 16384,
    WORD_CHUNKS = 64,   /* one word of the bitmap: 1 MiB */
    CLASSES_FINE = 128, /* of one unit more each */
    CLASSES_PER_DOUBLING = 16,
    CLASS_COUNT = CLASSES_FINE + 4 * CLASSES_PER_DOUBLING,
    CLASS_RUN = 255, /* a descriptor's size_class when the run is one large object */
    OBJECT_BYTES_MAX = 32768,
    SPAN_CHUNKS_MAX = 16,
    OWNER_NOBODY = 0xffff,
    CACHES_MAX = 4096,
    BLOCK_WORDS = 2, /* a block is what one huge page holds: 2 MiB */
    BLOCK_CHUNKS = BLOCK_WORDS * WORD_CHUNKS,
    BLOCK_BYTES = BLOCK_CHUNKS * CHUNK_BYTES,
    AHEAD_ROOM_PART = 16, /* of the budget, that blocks made ready leave free */
    AHEAD_OPENED = 1,     /* signs of a cache */
    AHEAD_MISSED = 2,
    READY_MAX = 4, /* blocks that wait for a cache */
    OPEN_MAX = 4,  /* and that it takes runs from */
};

/*
 * Descriptor of a run, at the index of its first chunk. Written by the claimer of the run before
 * any object of it is given out; from then on only `owner` is shared, and the fields below it are
 * the owner's alone (an abandoned span has no owner: whoever takes it off the list is the next).
 */
struct arena_span {
    _Alignas(64) _Atomic uint16_t owner; /* id of the owning cache, or OWNER_NOBODY */
    uint8_t size_class;
    uint32_t chunks;
    uint32_t object_bytes;
    uint32_t capacity;

    uint32_t used;
    uint32_t fresh;     /* objects from this index on were never given out */
    uint32_t populated; /* bytes from the start whose pages are there, or were asked for */
    uint32_t free_head;
    uint32_t free_tail; /* only under AddressSanitizer, where the list is first in, first out */
    uint32_t previous;  /* neighbours in a list of the owner; `next` also on the abandoned stack */
    uint32_t next;
};

struct arena_list {
    uint32_t head;
    uint32_t tail;
};

enum cache_state { CACHE_FREE, CACHE_OPEN, CACHE_CLOSING };

/* A block that a cache takes runs from: what of it nobody has is claimed, and not counted. */
struct arena_open {
    uint32_t word;
    uint64_t left[BLOCK_WORDS];
};

struct arena_cache {
    /* Shared: what other caches push to. */
    _Alignas(128) _Atomic uint32_t state;
    _Atomic uint32_t inbox;            /* objects of this cache's spans, freed by others */
    _Atomic uint32_t ready[READY_MAX]; /* first words of blocks that wait for it; 0 is none */
    _Atomic uint32_t sign;             /* what it tells who makes them; see arena_ahead.c */
    _Atomic uint32_t sign_word;        /* and where it takes fresh chunks */

    /* The owner's. `live_bytes` is written by the owner only and read by all. */
    _Alignas(128) struct arena *arena;
    _Atomic int64_t live_bytes; /* allocated minus freed through this cache: may be negative */
    uint16_t id;
    uint32_t incoming; /* taken from the inbox, not yet put back into spans */
    uint32_t word_first;
    uint32_t word_narrow; /* where to look first for runs of up to one word */
    uint32_t word_wide;   /* and for longer ones */
    struct arena_open open[OPEN_MAX];
    uint64_t spare_bytes;
    struct arena_list room[CLASS_COUNT]; /* spans with room, the ones to use first in front */
    struct arena_list full[CLASS_COUNT];
    uint32_t spare[CLASS_COUNT]; /* the one empty span that is kept, also in `room` */
};

struct arena_class {
    uint32_t object_bytes;
    uint32_t chunks;
    uint32_t capacity;
};

/* Who makes blocks ready; see arena_supply.c. */
struct arena_ahead {
    pthread_t thread;
    sem_t stop;
    bool running; /* changes only while no cache is open */
    uint64_t ready_bytes_max;
    _Atomic uint64_t quiet_ms; /* of a cache, until no blocks wait for it any more */
    _Atomic bool stopping;
    _Atomic uint64_t ready_bytes; /* in slots, and what is being made */
    _Atomic uint64_t open_bytes;  /* what is left of open blocks */

    /* The thread's own. */
    struct arena_supply *supplies; /* by id of cache */
    uint64_t rest_ms;              /* how long it has rested after slow blocks */
};

struct arena {
    uint8_t *base;
    size_t range_bytes;
    uint32_t words;
    unsigned caches_max;
    uint64_t budget_bytes;
    uint64_t spare_bytes_max; /* per cache */
    bool coarse;              /* every other class and more is left out, see class_of */
    struct arena_class classes[CLASS_COUNT];

    void *tables; /* one mapping: bitmap, stocked, spans, offsets */
    size_t tables_bytes;
    _Atomic uint64_t *bitmap;
    _Atomic uint64_t *stocked; /* of free chunks: whose pages are kept; see arena_stock.c */
    struct arena_span *spans;
    uint8_t *offsets; /* of a chunk of a span: how many chunks its first one lies before it */

    uint64_t stock_bytes_max;

    _Alignas(128) _Atomic uint64_t physical_bytes; /* spans, runs, charges, and what is in stock */
    _Atomic uint64_t charged_bytes;
    _Atomic uint64_t stock_bytes;
    _Atomic uint64_t stock_due_ms;            /* when it decays next */
    _Atomic uint32_t stock_word;              /* where trimming goes on */
    _Alignas(128) _Atomic uint32_t abandoned; /* spans of closed caches, by `next` */
    _Atomic uint32_t orphans;                 /* freed objects of spans that had no owner */
    struct arena_ahead ahead;
    struct arena_cache caches[];
};

/* Reserves range and tables for an arena whose sizes are set; false when the system refuses. */
bool arena_runs_reserve(struct arena *arena);
void arena_runs_release(struct arena *arena);

/*
 * Commits and claims `chunks` adjacent chunks. 0 when the budget or the range has no room.
 * `populated`: of so many from its start on the pages are there.
 */
uint32_t arena_run_claim(struct arena_cache *cache, uint32_t chunks, enum arena_need need,
                         uint32_t *populated);

/*
 * Gives the run back: the pages of its first `populated` chunks to the stock if that has room, all
 * others to the system. Nobody may hold a pointer into it.
 */
void arena_run_give_back(struct arena_cache *cache, uint32_t first, uint32_t chunks,
                         uint32_t populated);
/* Has the pages of a fresh run, which is to be written whole, there at once: a fault for each takes
 * longer. */
void arena_run_populate(void *at, size_t bytes);

/* Counts bytes, unless the budget has no room for them. */
bool arena_commit(struct arena *arena, uint64_t bytes, enum arena_need need);
/* Takes bytes whose pages have gone out of the count. */
void arena_uncommit(struct arena *arena, uint64_t bytes);

/*
 * Claims so many chunks from the start of `word` on: ARENA_WORDS_CLAIMED, or the first word in the
 * way, and nothing is claimed. Counts nothing.
 */
#define ARENA_WORDS_CLAIMED UINT32_MAX
uint32_t arena_words_claim(struct arena *arena, uint32_t word, uint32_t chunks);
/* The lowest place of `count` adjacent clear bits, or WORD_CHUNKS. */
uint32_t arena_find_clear(uint64_t word, uint32_t count);
/* Gives the pages of held chunks back to the system, then the chunks; so many were counted. */
void arena_run_drop(struct arena *arena, uint32_t first, uint32_t chunks, uint32_t counted);
/* Gives up the bits of held chunks. */
void arena_clear(struct arena *arena, uint32_t first, uint32_t chunks);

/* ---- the stock; the chunks' bits in `bitmap` are the caller's throughout ---- */

void arena_stock_init(struct arena *arena); /* its limit, by the budget */

/* Puts the chunks, whose pages are there, in stock; false when it has no room, and nothing is done.
 */
bool arena_stock_add(struct arena *arena, uint32_t first, uint32_t chunks);

struct arena_taken {
    uint32_t chunks;  /* so many were in stock, and are counted in physical_bytes */
    uint32_t leading; /* of these so many from the first one on, without a gap */
};

/* Takes what of the chunks is in stock out of it. */
struct arena_taken arena_stock_take(struct arena *arena, uint32_t first, uint32_t chunks);

/* Gives at least so much of the stock back to the system, or all that it has; returns how much. */
uint64_t arena_stock_trim(struct arena *arena, uint64_t bytes);

/* What may exceed the budget drives out the stock first: after it was counted. */
void arena_stock_hold(struct arena *arena);

/* ---- blocks made ready ---- */

/*
 * A run of at most a word, whose pages are there, out of a block that was made ready, for a claim
 * that else would begin with `word`, all of which is free. It is not counted yet. 0 when there is
 * none.
 */
uint32_t arena_ahead_take(struct arena_cache *cache, uint32_t chunks, uint32_t word);

/* Whether the budget has room for all that is there, and so many bytes more. */
bool arena_ahead_has_room(const struct arena *arena, uint64_t bytes);

void arena_ahead_empty(struct arena_cache *cache); /* its slots: gives what waits in them back */
void arena_ahead_empty_all(struct arena *arena);

/* Gives what waits back to the system, if it and all else together exceed the budget. */
void arena_ahead_hold(struct arena *arena);

/* Gives all that waits, and what this cache has open, back to the system: there is no room. */
void arena_ahead_give_up(struct arena_cache *cache);

void arena_ahead_leave(struct arena_cache *cache); /* the same with this cache's alone: it closes */

static inline uint64_t arena_low_bits(uint32_t count)
{
    assert(count >= 1 && count <= WORD_CHUNKS);
    return ~UINT64_C(0) >> (WORD_CHUNKS - count);
}

/* Takes the lowest stretch of adjacent ones off bits of which some are set: where it is, how long.
 */
static inline uint32_t arena_stretch_next(uint64_t *bits, uint32_t *count)
{
    assert(*bits != 0);
    uint32_t at = (uint32_t)__builtin_ctzll(*bits);
    uint64_t ends = ~(*bits >> at);
    *count = ends != 0 ? (uint32_t)__builtin_ctzll(ends) : WORD_CHUNKS;
    *bits &= ~(arena_low_bits(*count) << at);
    return at;
}

/* The part of a run that lies in one word of the bitmaps. */
struct arena_part {
    uint32_t word;
    uint32_t at;     /* its first bit */
    uint32_t chunks; /* so many from there */
    uint64_t mask;
};

/* Takes the part in its first word off a run of at least one chunk. */
static inline struct arena_part arena_part_next(uint32_t *first, uint32_t *chunks)
{
    uint32_t at = *first % WORD_CHUNKS;
    uint32_t here = *chunks < WORD_CHUNKS - at ? *chunks : WORD_CHUNKS - at;
    struct arena_part part = {
        .word = *first / WORD_CHUNKS, .at = at, .chunks = here, .mask = arena_low_bits(here) << at};
    *first += here;
    *chunks -= here;
    return part;
}

static inline uint8_t *arena_chunk_at(const struct arena *arena, uint32_t chunk)
{
    return arena->base + (size_t)chunk * CHUNK_BYTES;
}

/* The span or run that holds the object. */
static inline uint32_t arena_span_of(const struct arena *arena, const void *object)
{
    size_t at = (size_t)((const uint8_t *)object - arena->base);
    assert(at < arena->range_bytes && at % ARENA_UNIT_BYTES == 0);
    uint32_t chunk = (uint32_t)(at / CHUNK_BYTES);
    return chunk - arena->offsets[chunk];
}

/*
 * The link of a free object lies in its first bytes, which are poisoned: under AddressSanitizer
 * these two step past that, so that nobody else can.
 */
#ifdef ARENA_ASAN
#define ARENA_LINK_ACCESS __attribute__((no_sanitize("address"), noinline, unused))
#else
#define ARENA_LINK_ACCESS inline
#endif

static ARENA_LINK_ACCESS uint32_t arena_link_load(const struct arena *arena, uint32_t ref)
{
    return *(const uint32_t *)arena_at(arena->base, ref);
}

static ARENA_LINK_ACCESS void arena_link_store(const struct arena *arena, uint32_t ref,
                                               uint32_t next)
{
    *(uint32_t *)arena_at(arena->base, ref) = next;
}

static inline void arena_list_remove(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    uint32_t previous = spans[span].previous, next = spans[span].next;
    *(previous != 0 ? &spans[previous].next : &list->head) = next;
    *(next != 0 ? &spans[next].previous : &list->tail) = previous;
}

static inline void arena_list_add_head(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    spans[span].previous = 0;
    spans[span].next = list->head;
    *(list->head != 0 ? &spans[list->head].previous : &list->tail) = span;
    list->head = span;
}

static inline void arena_list_add_tail(struct arena *arena, struct arena_list *list, uint32_t span)
{
    struct arena_span *spans = arena->spans;
    spans[span].next = 0;
    spans[span].previous = list->tail;
    *(list->tail != 0 ? &spans[list->tail].next : &list->head) = span;
    list->tail = span;
}

static inline bool arena_mail_waits(const struct arena_cache *cache)
{
    /* A hint; stack_take synchronises. */
    return cache->incoming != 0 || atomic_load_explicit(&cache->inbox, memory_order_relaxed) != 0;
}

/*
 * Puts up to `objects_max` of the objects that others freed back where they belong. Only what was
 * there at the call, or what an earlier call left over.
 */
void arena_collect(struct arena_cache *cache, uint64_t objects_max);

/* Sends a chain of freed objects to the owners of their spans. */
void arena_send_home(struct arena *arena, uint32_t chain);

/* Puts a free object back into its span `first`, which is the cache's own. */
void arena_span_put(struct arena_cache *cache, uint32_t first, uint32_t ref);

/* Gives the empty spans that the cache keeps back. */
void arena_spares_give_back(struct arena_cache *cache);

#endif
