/* Who sweeps or scans in the tests of the index, and keeps count. */
#ifndef RETHREAD_TESTS_INDEX_TEST_INDEX_VISITS_H
#define RETHREAD_TESTS_INDEX_TEST_INDEX_VISITS_H

#include "tests/index/test_index.h"

/* Counts visits by key and does what the test at hand wants done. */
struct visits {
    struct world *world;
    struct epoch_member *member;
    unsigned *counts;
    uint64_t keys;
    uint64_t total;
    uint16_t next_tick;
    enum { LET_BE, REMOVE, REPLACE } action;
    uint64_t stop_after; /* scans: 0 = never */
    uint64_t last_key;
};

static inline uint16_t visit_due(void *context, struct index_record *record)
{
    struct visits *visits = context;
    struct item *item = item_of(record);
    MUST(item->key < visits->keys);
    visits->counts[item->key]++;
    visits->total++;
    if (visits->action == REMOVE) {
        MUST(world_remove(visits->world, visits->member, item));
    } else if (visits->action == REPLACE) {
        struct item *fresh = item_create(visits->member, item->key, item->record.hash_low);
        MUST(index_replace(visits->world->index, visits->member, record, &fresh->record, 77));
        epoch_retire(visits->member, WORLD_KIND_ITEM, item);
    }
    return visits->next_tick;
}

static inline struct visits visits_create(struct world *world, struct epoch_member *member,
                                          uint64_t keys)
{
    struct visits visits = {.world = world, .member = member, .keys = keys};
    visits.counts = calloc(keys, sizeof(unsigned));
    MUST(visits.counts != NULL);
    return visits;
}

static inline void visits_clear(struct visits *visits)
{
    memset(visits->counts, 0, visits->keys * sizeof(unsigned));
    visits->total = 0;
}

/* A full pass by one sweeper; returns how many it visited. */
static inline uint64_t pass(struct visits *visits, bool all, uint64_t now)
{
    struct index_cursor cursor = {0};
    uint64_t before = visits->total;
    while (!index_sweep(visits->world->index, visits->member, &cursor, 0, 1, 100, all, now,
                        visit_due, visits)) {
    }
    return visits->total - before;
}

#endif
