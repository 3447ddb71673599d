/* What of an arena's range is in memory, as the system sees it, and what is counted. Header only.
 */
#ifndef RETHREAD_TESTS_LIB_ARENA_LOOK_H
#define RETHREAD_TESTS_LIB_ARENA_LOOK_H

#include "base/arena_private.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static inline size_t arena_resident_bytes(const struct arena *arena)
{
    static unsigned char present[65536];
    size_t page = (size_t)sysconf(_SC_PAGESIZE), found = 0;
    for (size_t at = 0; at < arena->range_bytes; at += sizeof present * page) {
        size_t bytes = arena->range_bytes - at;
        bytes = bytes < sizeof present * page ? bytes : sizeof present * page;
        ck_assert_int_eq(mincore(arena->base + at, bytes, present), 0);
        for (size_t i = 0; i < bytes / page; i++) {
            found += present[i] & 1;
        }
    }
    return found * page;
}

/* The bytes of the range that the system has down as such: " dd" is what no core file has, " nh"
 * what takes no huge pages by itself. */
static inline uint64_t arena_flagged_bytes(const struct arena *arena, const char *flag)
{
    FILE *file = fopen("/proc/self/smaps", "r");
    ck_assert_ptr_nonnull(file);
    char line[512];
    uintptr_t base = (uintptr_t)arena->base, first = 0, end = 0;
    uint64_t bytes = 0;
    while (fgets(line, sizeof line, file) != NULL) {
        uintptr_t from, to;
        if (sscanf(line, "%" SCNxPTR "-%" SCNxPTR " ", &from, &to) == 2) {
            first = from > base ? from : base;
            end = to < base + arena->range_bytes ? to : base + arena->range_bytes;
        } else if (strncmp(line, "VmFlags:", 8) == 0 && strstr(line, flag) && first < end) {
            bytes += end - first;
        }
    }
    (void)fclose(file);
    return bytes;
}

/* What must hold whenever nobody is in the middle of something. */
static inline void arena_look_through(const struct arena *arena)
{
    uint64_t chunks = 0;
    for (uint32_t word = 0; word < arena->words; word++) {
        uint64_t used = atomic_load(&arena->bitmap[word]);
        uint64_t stocked = atomic_load(&arena->stocked[word]);
        ck_assert_uint_eq(used & stocked, 0);
        chunks += (uint64_t)__builtin_popcountll(stocked);
    }
    uint64_t ready = 0, open = 0;
    for (unsigned i = 0; i < arena->caches_max * OPEN_MAX * BLOCK_WORDS; i++) {
        const struct arena_cache *cache = &arena->caches[i / (OPEN_MAX * BLOCK_WORDS)];
        const struct arena_open *block = &cache->open[i / BLOCK_WORDS % OPEN_MAX];
        uint64_t left = block->left[i % BLOCK_WORDS];
        if (left != 0) {
            uint64_t used = atomic_load(&arena->bitmap[block->word + i % BLOCK_WORDS]);
            ck_assert_uint_eq(used & left, left);
        }
        open += (uint64_t)__builtin_popcountll(left) * CHUNK_BYTES;
    }
    for (unsigned i = 0; i < arena->caches_max * READY_MAX; i++) {
        uint32_t word = atomic_load(&arena->caches[i / READY_MAX].ready[i % READY_MAX]);
        if (word != 0) {
            ck_assert_uint_eq(word % BLOCK_WORDS, 0);
            ck_assert_uint_eq(~atomic_load(&arena->bitmap[word]), 0);
            ck_assert_uint_eq(~atomic_load(&arena->bitmap[word + 1]), 0);
            ready += BLOCK_BYTES;
        }
    }
    ck_assert_uint_eq(atomic_load(&arena->ahead.ready_bytes), ready);
    ck_assert_uint_eq(atomic_load(&arena->ahead.open_bytes), open);
    ck_assert_uint_eq(arena_stock_bytes(arena), chunks * CHUNK_BYTES);
    ck_assert_uint_le(arena_stock_bytes(arena), arena->stock_bytes_max);
    uint64_t counted =
        arena_committed_bytes(arena) + arena_stock_bytes(arena) + arena_ready_bytes(arena);
    ck_assert_uint_le(arena_resident_bytes(arena), counted);
}

#endif
