/*
 * The memory of everything that is kept: one reserved address range, cut into size classes.
 *
 * Shape. The range is reserved once and never moves, so an object is named by a 32-bit reference
 * in 16-byte units (0 = none) as well as by pointer. Small objects (up to 32 KiB) come from spans
 * of one size class each, 16 bytes apart up to 2 KiB and at most 6.25% beyond (12.5% with less than
 * 16 MiB of budget for each cache); larger ones are runs of whole chunks. Of what falls empty up to
 * an eighth of the budget (256 MiB at most) stays in stock for what comes next, little by little
 * less of it; the rest goes back to the system at once (MADV_DONTNEED).
 *
 * Ownership. An arena is shared. Each operating-system thread that allocates has one arena_cache
 * of its own; an object may be freed through any cache. Objects are 16-byte aligned, those of a
 * power of two of bytes (up to 16 KiB) aligned to their size, and their contents undefined. Only
 * the bytes that were asked for are the caller's, whatever arena_size says. Under AddressSanitizer
 * everything else is poisoned: free memory and the slack of objects.
 *
 * Budget. committed bytes = spans and runs in use + what others charged (arena_charge). An
 * ordinary allocation that needs new memory fails when committed would exceed the budget; a
 * structural one (the index's own tables, bounded by the records they hold) may exceed it. The
 * stock fits beside what is committed, or goes: what exceeds the budget drives it out.
 *
 * Progress. Allocation and free are lock-free: a failed compare-and-swap means that another caller
 * succeeded. No mutex, no spinning on another's progress.
 */
#ifndef RETHREAD_BASE_ARENA_H
#define RETHREAD_BASE_ARENA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ARENA_UNIT_BYTES = 16 };

struct arena;
struct arena_cache;

enum arena_need { ARENA_ORDINARY, ARENA_STRUCTURAL };

/*
 * Reserves max(4 * budget, 1 GiB), at most 64 GiB, of address space. NULL when the system refuses.
 * `caches_max`: how many caches may be open at once (the loops, and tests' threads).
 */
struct arena *arena_create(uint64_t budget_bytes, unsigned caches_max);
void arena_destroy(struct arena *arena); /* after every cache is closed; frees all memory at once */

/*
 * From now on fresh memory is made ready in the background: blocks of 2 MiB, as huge pages where
 * the system grants them (madvise). At most a thirty-second of the budget waits like this, besides
 * what is left of the blocks that each cache has begun; new ones come only while a sixteenth is
 * free, and with budgets below 128 MiB there are none. It costs no claim its room: where that is
 * needed it is given back, a moment later. Before the first cache is opened. False when the system
 * has no operating-system thread to give.
 */
bool arena_ahead_start(struct arena *arena);
void arena_ahead_stop(struct arena *arena); /* after every cache is closed; also if never started */

struct arena_cache *arena_cache_open(struct arena *arena); /* NULL beyond caches_max */
void arena_cache_close(struct arena_cache *cache);         /* its spans pass on; nothing leaks */

/* NULL when the budget or the address range has no room. size_bytes >= 1. */
void *arena_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need);
void arena_free(struct arena_cache *cache, void *object); /* NULL is allowed */

/*
 * Takes in what other caches freed of this cache's memory, and what closed caches left behind.
 * Allocating and freeing do so a little at a time; a cache that may rest for long calls this once
 * in a while (each turn of its loop: one load when there is nothing), or memory stays committed.
 */
void arena_cache_drain(struct arena_cache *cache);

/*
 * Gives part of the stock back to the system when it is time: to be called again and again, some
 * hundred times a second if it is to be even, with a time that does not go backwards. From any
 * operating-system thread.
 */
void arena_stock_decay(struct arena *arena, uint64_t now_ms);

/* What the object really takes: its class or run size. */
size_t arena_size(const struct arena *arena, const void *object);

/* Start of the range: arena_at and arena_ref are plain arithmetic on it. */
uint8_t *arena_base(const struct arena *arena);

static inline void *arena_at(uint8_t *base, uint32_t ref)
{
    return base + (size_t)ref * ARENA_UNIT_BYTES;
}

static inline uint32_t arena_ref(const uint8_t *base, const void *object)
{
    return (uint32_t)((size_t)((const uint8_t *)object - base) / ARENA_UNIT_BYTES);
}

/* Counts memory that lives elsewhere (buffers, tables) against the budget; negative gives back. */
void arena_charge(struct arena *arena, int64_t bytes);

uint64_t arena_budget_bytes(const struct arena *arena);
uint64_t arena_committed_bytes(const struct arena *arena); /* spans, runs, charges */
uint64_t arena_stock_bytes(const struct arena *arena);     /* free, with its pages, beside that */
uint64_t arena_ready_bytes(const struct arena *arena);     /* made ready, beside both */
uint64_t
arena_live_bytes(const struct arena *arena); /* allocated objects (class sizes) and charges */

#endif
