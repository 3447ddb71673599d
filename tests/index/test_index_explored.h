/*
 * The sources of the index, compiled into a test with a switch point before each operation on a
 * shared word, on an arena and an epoch that do next to nothing. Segments have one bucket, so few
 * operations split them. Nothing is reclaimed while a schedule runs; what is freed at once is
 * filled with rubbish, and freeing it again is noticed.
 */
#ifndef RETHREAD_TESTS_INDEX_TEST_INDEX_EXPLORED_H
#define RETHREAD_TESTS_INDEX_TEST_INDEX_EXPLORED_H

#include "tests/index/test_index_schedule.h"

#define INDEX_POINT()           schedule_point()
#define INDEX_BUCKET_BITS       0
#define INDEX_LINES_ADDED_MAX   lines_added_max
#define INDEX_SPLIT_RECORDS_MIN split_records_min

static unsigned lines_added_max;
static unsigned split_records_min;

/* The index's names here are not those of the library that tests are linked with. */
#define index_create             explored_create
#define index_destroy            explored_destroy
#define index_hash               explored_hash_of
#define index_find               explored_find
#define index_prefetch_directory explored_prefetch_directory
#define index_prefetch_bucket    explored_prefetch_bucket
#define index_prefetch_record    explored_prefetch_record
#define index_insert             explored_insert
#define index_replace            explored_replace
#define index_remove             explored_remove
#define index_sweep              explored_sweep
#define index_scan               explored_scan
#define index_stats              explored_stats
#define index_settle             explored_settle
#define index_slot_of            explored_slot_of
#define index_retick             explored_retick
#define index_make_room          explored_make_room
#define index_split              explored_split
#define index_segment_create     explored_segment_create
#define index_segment_free       explored_segment_free
#define index_segment_reclaim    explored_segment_reclaim
#define index_directory_charge   explored_directory_charge
#define arena_alloc              explored_arena_alloc
#define arena_free               explored_arena_free
#define arena_size               explored_arena_size
#define arena_base               explored_arena_base
#define arena_charge             explored_arena_charge
#define arena_cache_open         explored_arena_cache_open
#define arena_cache_close        explored_arena_cache_close
#define epoch_define             explored_epoch_define
#define epoch_is_online          explored_epoch_is_online
#define epoch_member_cache       explored_epoch_member_cache
#define epoch_retire             explored_epoch_retire
#define random_fill              explored_random_fill
#define mmap                     explored_mmap
#define munmap                   explored_munmap
#define madvise                  explored_madvise

/* clang-format off */
#include "index/index.c"
#include "index/index_write.c"
#include "index/index_split.c"
#include "index/index_sweep.c"
/* clang-format on */

enum { ARENA_BYTES = 512 * 1024, RETIRED_MAX = 64, RUBBISH = 0xdb };

struct arena_cache {
    int unused;
};

struct epoch_member {
    struct arena_cache cache;
};

static _Alignas(4096) uint8_t arena_bytes[ARENA_BYTES];
static size_t arena_used;
static uint8_t arena_live[ARENA_BYTES / LINE_BYTES]; /* 1: an object begins here */
static size_t arena_live_count;
static void *retired[RETIRED_MAX];
static unsigned retired_count;
static struct arena_cache one_cache;
static struct epoch_member members[CONTEXTS_MAX + 1];

void *arena_alloc(struct arena_cache *cache, size_t size_bytes, enum arena_need need)
{
    (void)cache;
    (void)need;
    size_t rounded = (size_bytes + 63) & ~(size_t)63;
    MUST(arena_used + rounded <= ARENA_BYTES);
    void *object = arena_bytes + arena_used;
    arena_live[arena_used / LINE_BYTES] = 1;
    arena_live_count++;
    arena_used += rounded;
    memset(object, RUBBISH, rounded);
    return object;
}

void arena_free(struct arena_cache *cache, void *object)
{
    (void)cache;
    size_t unit = (size_t)((uint8_t *)object - arena_bytes) / LINE_BYTES;
    MUST(arena_live[unit] == 1);
    arena_live[unit] = 0;
    arena_live_count--;
    memset(object, RUBBISH, LINE_BYTES); /* of a segment: the header; enough to derail a user */
}

size_t arena_size(const struct arena *arena, const void *object)
{
    (void)arena;
    (void)object;
    return LINE_BYTES;
}

uint8_t *arena_base(const struct arena *arena)
{
    (void)arena;
    return arena_bytes;
}

void arena_charge(struct arena *arena, int64_t bytes)
{
    (void)arena;
    (void)bytes;
}

struct arena_cache *arena_cache_open(struct arena *arena)
{
    (void)arena;
    return &one_cache;
}

void arena_cache_close(struct arena_cache *cache)
{
    (void)cache;
}

void epoch_define(struct epoch *epoch, unsigned kind, struct epoch_kind definition)
{
    (void)epoch;
    (void)kind;
    (void)definition;
}

bool epoch_is_online(const struct epoch_member *member)
{
    (void)member;
    return true;
}

struct arena_cache *epoch_member_cache(struct epoch_member *member)
{
    return &member->cache;
}

void epoch_retire(struct epoch_member *member, unsigned kind, void *object)
{
    (void)member;
    (void)kind;
    MUST(retired_count < RETIRED_MAX);
    retired[retired_count++] = object;
}

void random_fill(void *data, size_t size_bytes)
{
    memset(data, 1, size_bytes);
}

/* The directory and its hints: only the first entries are ever used here. */
static _Atomic uint64_t entries[64];
static struct index_hints hints_of_entries[64];

void *mmap(void *address, size_t size_bytes, int protection, int flags, int fd, off_t offset)
{
    (void)address;
    (void)protection;
    (void)flags;
    (void)fd;
    (void)offset;
    if (size_bytes == directory_bytes) {
        return memset(entries, 0, sizeof entries);
    }
    MUST(size_bytes == hints_bytes);
    return memset(hints_of_entries, 0, sizeof hints_of_entries);
}

int munmap(void *address, size_t size_bytes)
{
    (void)address;
    (void)size_bytes;
    return 0;
}

int madvise(void *address, size_t size_bytes, int advice)
{
    (void)address;
    (void)size_bytes;
    (void)advice;
    return 0;
}

static void explored_reset(void)
{
    arena_used = 4096;
    arena_live_count = 0;
    memset(arena_live, 0, sizeof arena_live);
    retired_count = 0;
}

#endif
