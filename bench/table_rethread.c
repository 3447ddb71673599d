/* The index of rethread as a table; see table.h. One member, one arena. */
#include "bench/table.h"

#include "base/arena.h"
#include "index/epoch.h"
#include "index/index.h"

#include <stddef.h>
#include <stdlib.h>

enum { KIND_SEGMENT = 0, CACHES = 2, BATCH = 16, BYTES_PER_KEY = 128, BYTES_LEAST = 64 << 20 };

struct item {
    struct index_record record;
    struct table_key key;
};

struct table {
    struct arena *arena;
    struct epoch *epoch;
    struct epoch_member *member;
    struct index *index;
    struct item **items;
};

static bool matches(const struct index_record *record, const void *key)
{
    const struct item *item = (const struct item *)record; /* its first member */
    return table_key_equal(&item->key, key);
}

static struct index_hash hash_of(const struct table *table, const struct table_key *key)
{
    return index_hash(table->index, 0, 0, bytes_of(key, sizeof *key));
}

static void pause_at(struct table *table, uint32_t done)
{
    if (done % TABLE_PAUSE == 0) {
        epoch_online(table->member);
        (void)epoch_reclaim(table->member, TABLE_PAUSE);
    }
}

static void destroy(struct table *table)
{
    if (table->member != NULL) {
        epoch_offline(table->member);
        epoch_leave(table->member);
    }
    index_destroy(table->index);
    if (table->epoch != NULL) {
        epoch_destroy(table->epoch);
    }
    if (table->arena != NULL) {
        arena_destroy(table->arena);
    }
    free(table->items);
    free(table);
}

static bool create_items(struct table *table, uint32_t count)
{
    struct arena_cache *cache = epoch_member_cache(table->member);
    for (uint32_t i = 0; i < count; i++) {
        struct item *item = arena_alloc(cache, sizeof *item, ARENA_ORDINARY);
        if (item == NULL) {
            return false;
        }
        *item = (struct item){.key = table_key_of(i)};
        table->items[i] = item;
    }
    return true;
}

static struct table *create(uint32_t count)
{
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    table->items = calloc(count, sizeof(struct item *));
    table->arena = arena_create(BYTES_LEAST + (uint64_t)count * BYTES_PER_KEY, CACHES);
    table->epoch = table->arena != NULL ? epoch_create(table->arena) : NULL;
    table->index =
        table->epoch != NULL ? index_create(table->arena, table->epoch, KIND_SEGMENT, NULL) : NULL;
    table->member = table->index != NULL ? epoch_join(table->epoch) : NULL;
    if (table->items == NULL || table->member == NULL) {
        destroy(table);
        return NULL;
    }
    epoch_online(table->member);
    if (!create_items(table, count)) {
        destroy(table);
        return NULL;
    }
    return table;
}

static inline bool insert_one(struct table *table, uint32_t number)
{
    struct item *item = table->items[number];
    struct table_key key = table_key_of(number);
    struct index_hash hash = hash_of(table, &key);
    item->record.hash_low = hash.low;
    struct index_record *existing;
    return index_insert(table->index, table->member, hash, &item->record, 0, matches, &key,
                        &existing) == INDEX_DONE;
}

static bool insert(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!insert_one(table, keys[i])) {
            return false;
        }
        pause_at(table, i + 1);
    }
    return true;
}

static bool insert_timed(struct table *table, const uint32_t *keys, uint32_t count,
                         struct hist *hist_ns)
{
    for (uint32_t i = 0; i < count; i++) {
        uint64_t before_ns = table_cpu_ns();
        bool done = insert_one(table, keys[i]);
        hist_record(hist_ns, table_cpu_ns() - before_ns);
        if (!done) {
            return false;
        }
        pause_at(table, i + 1);
    }
    return true;
}

static bool find(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct table_key key = table_key_of(keys[i]);
        struct index_record *found = index_find(table->index, hash_of(table, &key), matches, &key);
        if (found == NULL || !matches(found, &key)) {
            return false;
        }
        pause_at(table, i + 1);
    }
    return true;
}

/* As a loop's turn does it: all buckets are brought in, then all records, then each is read. */
static bool find_batched(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i += BATCH) {
        struct table_key key[BATCH];
        struct index_hash hash[BATCH];
        uint32_t size = count - i < BATCH ? count - i : BATCH;
        for (uint32_t k = 0; k < size; k++) {
            key[k] = table_key_of(keys[i + k]);
            hash[k] = hash_of(table, &key[k]);
            index_prefetch_bucket(table->index, hash[k]);
        }
        for (uint32_t k = 0; k < size; k++) {
            index_prefetch_record(table->index, hash[k]);
        }
        for (uint32_t k = 0; k < size; k++) {
            struct index_record *found = index_find(table->index, hash[k], matches, &key[k]);
            if (found == NULL || !matches(found, &key[k])) {
                return false;
            }
        }
        pause_at(table, i);
    }
    return true;
}

static bool remove_all(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct table_key key = table_key_of(keys[i]);
        struct index_record *found = index_find(table->index, hash_of(table, &key), matches, &key);
        if (found == NULL || !index_remove(table->index, table->member, found)) {
            return false;
        }
        pause_at(table, i + 1);
    }
    return true;
}

const struct table_kind table_rethread = {
    .name = "rethread",
    .create = create,
    .destroy = destroy,
    .insert = insert,
    .insert_timed = insert_timed,
    .find = find,
    .find_batched = find_batched,
    .remove = remove_all,
};
