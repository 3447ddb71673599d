/*
 * What the tests of the index share: an arena, an epoch and an index, and items to put into it.
 *
 * An item that was reclaimed is filled with rubbish before its memory goes back, so that whoever
 * still reads it is caught here, and by AddressSanitizer too.
 */
#ifndef RETHREAD_TESTS_INDEX_TEST_INDEX_H
#define RETHREAD_TESTS_INDEX_TEST_INDEX_H

#include "index/index.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WORLD_KIND_SEGMENT = 1, WORLD_KIND_ITEM = 2, WORLD_CACHES = 16 };

struct world {
    struct arena *arena;
    struct epoch *epoch;
    struct index *index;
};

struct item {
    struct index_record record;
    uint64_t key;
    uint64_t check; /* ~key as long as the item lives */
    uint32_t link;
    uint32_t owner; /* who made it */
};

/* Check's assertions write to a file each time, so loops use this. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static inline struct item *item_of(const struct index_record *record)
{
    return (struct item *)(uintptr_t)record; /* the index hands out what it was given */
}

static inline bool item_matches(const struct index_record *record, const void *key)
{
    const struct item *item = item_of(record);
    MUST(item->check == ~item->key);
    return item->key == *(const uint64_t *)key;
}

static inline bool item_reclaim(void *context, struct epoch_member *member, void *object)
{
    (void)context;
    memset(object, 0xa5, offsetof(struct item, link));
    arena_free(epoch_member_cache(member), object);
    return true;
}

static inline struct world world_create(void)
{
    struct world world = {.arena = arena_create((uint64_t)1 << 30, WORLD_CACHES)};
    ck_assert_ptr_nonnull(world.arena);
    world.epoch = epoch_create(world.arena);
    ck_assert_ptr_nonnull(world.epoch);
    epoch_define(
        world.epoch, WORLD_KIND_ITEM,
        (struct epoch_kind){.link_offset = offsetof(struct item, link), .reclaim = item_reclaim});
    world.index = index_create(world.arena, world.epoch, WORLD_KIND_SEGMENT, NULL);
    ck_assert_ptr_nonnull(world.index);
    return world;
}

/* All members have left. */
static inline void world_destroy(struct world *world)
{
    index_destroy(world->index);
    epoch_destroy(world->epoch);
    arena_destroy(world->arena);
}

static inline struct epoch_member *world_join(const struct world *world)
{
    struct epoch_member *member = epoch_join(world->epoch);
    MUST(member != NULL);
    epoch_online(member);
    return member;
}

static inline void world_leave(struct epoch_member *member)
{
    epoch_offline(member);
    epoch_leave(member);
}

/* A turn of a loop: hold nothing, announce, reclaim. */
static inline void world_turn(struct epoch_member *member)
{
    epoch_offline(member);
    epoch_online(member);
    (void)epoch_reclaim(member, 1000);
}

static inline struct index_hash world_hash(const struct world *world, uint64_t key)
{
    return index_hash(world->index, 0, 1, bytes_of(&key, sizeof key));
}

static inline struct item *item_create(struct epoch_member *member, uint64_t key, uint64_t hash_low)
{
    struct item *item =
        arena_alloc(epoch_member_cache(member), sizeof(struct item), ARENA_ORDINARY);
    MUST(item != NULL);
    *item = (struct item){.record = {.hash_low = hash_low}, .key = key, .check = ~key};
    return item;
}

static inline void item_free(struct epoch_member *member, struct item *item)
{
    arena_free(epoch_member_cache(member), item);
}

static inline struct item *world_find(const struct world *world, uint64_t key)
{
    return item_of(index_find(world->index, world_hash(world, key), item_matches, &key));
}

/* Inserts a new item under a hash of the test's choice; NULL when the key is taken. */
static inline struct item *world_insert_at(const struct world *world, struct epoch_member *member,
                                           uint64_t key, uint64_t hash_low, uint16_t tick)
{
    struct item *item = item_create(member, key, hash_low);
    struct index_record *existing = NULL;
    struct index_hash hash = {.low = hash_low};
    if (index_insert(world->index, member, hash, &item->record, tick, item_matches, &key,
                     &existing) == INDEX_DONE) {
        return item;
    }
    MUST(existing != NULL && item_of(existing)->key == key);
    item_free(member, item);
    return NULL;
}

static inline struct item *world_insert(const struct world *world, struct epoch_member *member,
                                        uint64_t key)
{
    return world_insert_at(world, member, key, world_hash(world, key).low, 1);
}

/* Removes the item and lets it be reclaimed; false when another did. */
static inline bool world_remove(const struct world *world, struct epoch_member *member,
                                struct item *item)
{
    if (!index_remove(world->index, member, &item->record)) {
        return false;
    }
    epoch_retire(member, WORLD_KIND_ITEM, item);
    return true;
}

/* How many records hold each key below `keys`, by a scan; the sum. */
struct tally {
    unsigned *counts;
    uint64_t keys;
    uint64_t total;
};

static inline bool tally_visit(void *context, struct index_record *record)
{
    struct tally *tally = context;
    const struct item *item = item_of(record);
    MUST(item->check == ~item->key);
    MUST(item->key < tally->keys);
    tally->counts[item->key]++;
    tally->total++;
    return true;
}

/* The counts are the caller's to free. */
static inline struct tally world_tally(const struct world *world, uint64_t keys)
{
    struct tally tally = {.counts = calloc(keys, sizeof(unsigned)), .keys = keys};
    MUST(tally.counts != NULL);
    struct index_scan scan = {0};
    while (!index_scan(world->index, &scan, 1000, tally_visit, &tally)) {
    }
    return tally;
}

#endif
