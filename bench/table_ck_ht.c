/*
 * Concurrency Kit's ck_ht as a table; see table.h. Keys are byte strings, and it is told that keys
 * come and go (CK_HT_WORKLOAD_DELETE), as its manual wants it. It has one writer at a time: loops
 * that write take turns by a spinlock of the same kit; readers take none. Built in where libck-dev
 * is installed, but not under ThreadSanitizer, which does not see that spinlock for what it is.
 */
#include "bench/table.h"

#include <stddef.h>

#if __has_include(<ck_ht.h>) && !defined(__SANITIZE_THREAD__)

#include <ck_ht.h>
#include <ck_spinlock.h>

#include <assert.h>
#include <stdlib.h>
#include <string.h>

struct item {
    struct table_key key;
    uint64_t value[2]; /* so that a record is as large as the others' */
};

struct table {
    ck_ht_t ht;
    bool created;
    struct item *items;
    uint8_t secret[INDEX_SECRET_BYTES];
    ck_spinlock_t writer;
};

struct member {
    bool reads_too; /* while others write */
};

enum { ENTRIES_AT_FIRST = 64, REPLACED_MAX = 64 };

/*
 * Maps that were replaced while others might still read them: they stay until the table goes.
 * Changed under the writer's lock. Of one table at a time, since the callbacks are told none.
 */
static void *replaced[REPLACED_MAX];
static unsigned replaced_count;
static bool readers; /* whether there may be any; set under the writer's lock */

static void *allocate(size_t bytes)
{
    return malloc(bytes);
}

static void release(void *map, size_t bytes, bool defer)
{
    (void)bytes;
    if (defer && readers) {
        assert(replaced_count < REPLACED_MAX);
        replaced[replaced_count++] = map;
    } else {
        free(map);
    }
}

static struct ck_malloc memory = {.malloc = allocate, .free = release};

/* Never called: the hash is handed over with each operation, as the others' is. */
static void no_hash(ck_ht_hash_t *hash, const void *key, size_t bytes, uint64_t seed)
{
    (void)key;
    (void)bytes;
    (void)seed;
    hash->value = 0;
}

static ck_ht_hash_t hash_of(const struct table *table, const struct table_key *key)
{
    return (ck_ht_hash_t){.value = table_hash(table->secret, key).low};
}

static bool join(struct table *table, struct member *member, enum table_op op)
{
    *member = (struct member){.reads_too = op == TABLE_MIXED};
    ck_spinlock_lock(&table->writer);
    readers = member->reads_too;
    ck_spinlock_unlock(&table->writer);
    return true;
}

static void leave(struct table *table, struct member *member)
{
    (void)table;
    (void)member;
}

static inline void pause_at(struct table *table, struct member *member, uint32_t done)
{
    (void)table;
    (void)member;
    (void)done;
}

static inline bool insert_one(struct table *table, struct member *member, uint32_t number,
                              uint32_t record)
{
    (void)member;
    struct item *item = &table->items[record];
    ck_ht_entry_t entry;
    item->key = table_key_of(number);
    ck_ht_hash_t hash = hash_of(table, &item->key);
    ck_ht_entry_set(&entry, hash, &item->key, sizeof item->key, item);
    ck_spinlock_lock(&table->writer);
    bool inserted = ck_ht_put_spmc(&table->ht, hash, &entry);
    ck_spinlock_unlock(&table->writer);
    return inserted;
}

static inline bool find_one(struct table *table, struct member *member, const struct table_key *key)
{
    (void)member;
    ck_ht_entry_t entry;
    ck_ht_entry_key_set(&entry, key, sizeof *key);
    if (!ck_ht_get_spmc(&table->ht, hash_of(table, key), &entry)) {
        return false;
    }
    const struct item *item = ck_ht_entry_value(&entry);
    return table_key_equal(&item->key, key);
}

static inline bool remove_one(struct table *table, struct member *member,
                              const struct table_key *key)
{
    (void)member;
    ck_ht_entry_t entry;
    ck_ht_hash_t hash = hash_of(table, key);
    ck_ht_entry_key_set(&entry, key, sizeof *key);
    ck_spinlock_lock(&table->writer);
    bool removed = ck_ht_remove_spmc(&table->ht, hash, &entry);
    ck_spinlock_unlock(&table->writer);
    return removed;
}

#include "bench/table_loops.h"

static void destroy(struct table *table)
{
    if (table->created) {
        readers = false;
        ck_ht_destroy(&table->ht);
    }
    while (replaced_count > 0) {
        free(replaced[--replaced_count]);
    }
    free(table->items);
    free(table);
}

static struct table *create(uint32_t count, uint32_t spares)
{
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    memcpy(table->secret, table_secret, sizeof table->secret);
    ck_spinlock_init(&table->writer);
    table->items = calloc((size_t)count + spares, sizeof(struct item));
    table->created = ck_ht_init(&table->ht, CK_HT_MODE_BYTESTRING | CK_HT_WORKLOAD_DELETE, no_hash,
                                &memory, ENTRIES_AT_FIRST, 0);
    if (table->items == NULL || !table->created) {
        destroy(table);
        return NULL;
    }
    for (uint32_t i = 0; i < count + spares; i++) {
        table->items[i].key = table_key_of(i);
    }
    return table;
}

const struct table_kind table_ck_ht = TABLE_KIND("ck_ht", NULL);
const char table_ck_ht_missing[] = "";

#else

const struct table_kind table_ck_ht = {.name = NULL};
const char table_ck_ht_missing[] = "ck_ht is not built in: index was measured without it (apt-get "
                                   "install libck-dev, then build again).";

#endif
