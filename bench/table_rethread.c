/* The index of rethread as a table; see table.h. One arena, one member for each loop. */
#include "bench/table.h"

#include "base/arena.h"
#include "index/epoch.h"
#include "index/index.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum {
    KIND_SEGMENT = 0,
    CACHES = TABLE_LOOPS_MAX + 2, /* the creator's, and one that index_create opens */
    BYTES_PER_KEY = 128,
    BYTES_LEAST = 64 << 20
};

struct item {
    struct index_record record;
    struct table_key key;
};

struct table {
    struct arena *arena;
    struct epoch *epoch;
    struct index *index;
    struct item **items;
    uint8_t secret[INDEX_SECRET_BYTES];
};

struct member {
    struct epoch_member *epoch;
};

static bool matches(const struct index_record *record, const void *key)
{
    const struct item *item = (const struct item *)record; /* its first member */
    return table_key_equal(&item->key, key);
}

static bool join(struct table *table, struct member *member, enum table_op op)
{
    (void)op;
    member->epoch = epoch_join(table->epoch);
    if (member->epoch == NULL) {
        return false;
    }
    epoch_online(member->epoch);
    return true;
}

static void leave(struct table *table, struct member *member)
{
    (void)table;
    if (member->epoch != NULL) {
        epoch_offline(member->epoch);
        epoch_leave(member->epoch);
    }
}

static inline void pause_at(struct table *table, struct member *member, uint32_t done)
{
    (void)table;
    if (done % TABLE_PAUSE == 0) {
        epoch_online(member->epoch);
        (void)epoch_reclaim(member->epoch, TABLE_PAUSE);
    }
}

static inline bool insert_one(struct table *table, struct member *member, uint32_t number,
                              uint32_t record)
{
    struct item *item = table->items[record];
    struct table_key key = table_key_of(number);
    struct index_hash hash = table_hash(table->secret, &key);
    struct index_record *existing;
    item->key = key;
    item->record.hash_low = hash.low;
    return index_insert(table->index, member->epoch, hash, &item->record, 0, matches, &key,
                        &existing) == INDEX_DONE;
}

static inline bool find_one(struct table *table, struct member *member, const struct table_key *key)
{
    (void)member;
    const struct index_record *found =
        index_find(table->index, table_hash(table->secret, key), matches, key);
    return found != NULL && matches(found, key);
}

static inline bool remove_one(struct table *table, struct member *member,
                              const struct table_key *key)
{
    const struct index_record *found =
        index_find(table->index, table_hash(table->secret, key), matches, key);
    return found != NULL && index_remove(table->index, member->epoch, found);
}

#include "bench/table_loops.h"

static bool find_batch(struct table *table, const uint32_t *keys, uint32_t size)
{
    struct table_key key[TABLE_BATCH];
    struct index_hash hash[TABLE_BATCH];
    for (uint32_t k = 0; k < size; k++) {
        key[k] = table_key_of(keys[k]);
        hash[k] = table_hash(table->secret, &key[k]);
        index_prefetch_directory(table->index, hash[k]);
    }
    for (uint32_t k = 0; k < size; k++) {
        index_prefetch_bucket(table->index, hash[k]);
    }
    for (uint32_t k = 0; k < size; k++) {
        index_prefetch_record(table->index, hash[k], sizeof(struct item));
    }
    for (uint32_t k = 0; k < size; k++) {
        const struct index_record *found = index_find(table->index, hash[k], matches, &key[k]);
        if (found == NULL || !matches(found, &key[k])) {
            return false;
        }
    }
    return true;
}

/* As a loop's turn does it: a step of the way for all of them, then the next. */
static bool loop_find_batched(struct table *table, const struct table_job *job)
{
    struct member member;
    bool good = join(table, &member, TABLE_FIND_BATCHED);
    for (uint32_t i = 0; good && i < job->count; i += TABLE_BATCH) {
        uint32_t left = job->count - i;
        good = find_batch(table, job->keys + i, left < TABLE_BATCH ? left : TABLE_BATCH);
        pause_at(table, &member, i);
    }
    leave(table, &member);
    return good;
}

static void destroy(struct table *table)
{
    index_destroy(table->index);
    if (table->epoch != NULL) {
        epoch_destroy(table->epoch);
    }
    if (table->arena != NULL) {
        arena_ahead_stop(table->arena);
        arena_destroy(table->arena);
    }
    free(table->items);
    free(table);
}

static bool create_items(struct table *table, uint32_t count)
{
    struct arena_cache *cache = arena_cache_open(table->arena);
    bool good = cache != NULL;
    for (uint32_t i = 0; good && i < count; i++) {
        struct item *item = arena_alloc(cache, sizeof *item, ARENA_ORDINARY);
        good = item != NULL;
        if (good) {
            *item = (struct item){.key = table_key_of(i)};
            table->items[i] = item;
        }
    }
    if (cache != NULL) {
        arena_cache_close(cache);
    }
    return good;
}

static struct table *create(uint32_t count, uint32_t spares)
{
    uint32_t items = count + spares;
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    memcpy(table->secret, table_secret, sizeof table->secret);
    table->items = calloc(items, sizeof(struct item *));
    table->arena = arena_create(BYTES_LEAST + (uint64_t)items * BYTES_PER_KEY, CACHES);
    table->epoch =
        table->arena != NULL && arena_ahead_start(table->arena) ? epoch_create(table->arena) : NULL;
    table->index = table->epoch != NULL
                       ? index_create(table->arena, table->epoch, KIND_SEGMENT, table->secret)
                       : NULL;
    if (table->items == NULL || table->index == NULL || !create_items(table, items)) {
        destroy(table);
        return NULL;
    }
    return table;
}

const struct table_kind table_rethread = TABLE_KIND("rethread", loop_find_batched);
