/* What of an arena's range is in memory, as the system sees it. Header only. */
#ifndef RETHREAD_TESTS_LIB_ARENA_LOOK_H
#define RETHREAD_TESTS_LIB_ARENA_LOOK_H

#include "base/arena_private.h"

#include <check.h>
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

#endif
