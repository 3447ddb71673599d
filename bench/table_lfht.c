/*
 * liburcu's cds_lfht (quiescent-state flavour) as a table; see table.h. Built in
 * where liburcu-dev is installed.
 */
#include "bench/table.h"

#include <stddef.h>

#if __has_include(<urcu/rculfhash.h>) && __has_include(<urcu/urcu-qsbr.h>)

#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include "base/random.h"

#include <stdlib.h>
#include <xxhash.h>

struct node {
    struct cds_lfht_node node;
    struct table_key key;
};

struct table {
    struct cds_lfht *lfht;
    struct node *nodes;
    unsigned long buckets;
    uint8_t secret[XXH3_SECRET_SIZE_MIN];
};

enum { BUCKETS_AT_FIRST = 64 };

static int matches(struct cds_lfht_node *node, const void *key)
{
    const struct node *of = caa_container_of(node, struct node, node);
    return table_key_equal(&of->key, key);
}

static unsigned long hash_of(const struct table *table, const struct table_key *key)
{
    return XXH3_64bits_withSecret(key, sizeof *key, table->secret, sizeof table->secret);
}

static void pause_at(uint32_t done)
{
    if (done % TABLE_PAUSE == 0) {
        urcu_qsbr_quiescent_state();
    }
}

/*
 * Between inserts: doubles the table when there are more records than buckets. Not left to the
 * library (CDS_LFHT_AUTO_RESIZE): with that, runs of this benchmark several times did not end while
 * inserting. Why was not found out, whether it lies with version 0.13.2 or with its use here.
 */
static void pause_growing(struct table *table, uint32_t done)
{
    if (done % TABLE_PAUSE != 0) {
        return;
    }
    urcu_qsbr_quiescent_state();
    if (done > table->buckets) {
        while (done > table->buckets) {
            table->buckets *= 2;
        }
        cds_lfht_resize(table->lfht, table->buckets);
    }
}

static void destroy(struct table *table)
{
    if (table->lfht != NULL) {
        struct cds_lfht_iter iter;
        struct cds_lfht_node *node;
        cds_lfht_for_each(table->lfht, &iter, node)
        {
            (void)cds_lfht_del(table->lfht, node);
        }
        urcu_qsbr_thread_offline();
        (void)cds_lfht_destroy(table->lfht, NULL);
    }
    urcu_qsbr_unregister_thread();
    free(table->nodes);
    free(table);
}

static struct table *create(uint32_t count)
{
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    urcu_qsbr_register_thread();
    random_fill(table->secret, sizeof table->secret);
    table->nodes = calloc(count, sizeof(struct node));
    table->lfht =
        cds_lfht_new_flavor(BUCKETS_AT_FIRST, BUCKETS_AT_FIRST, 0, 0, &urcu_qsbr_flavor, NULL);
    table->buckets = BUCKETS_AT_FIRST;
    if (table->nodes == NULL || table->lfht == NULL) {
        destroy(table);
        return NULL;
    }
    for (uint32_t i = 0; i < count; i++) {
        table->nodes[i].key = table_key_of(i);
    }
    return table;
}

static inline bool insert_one(struct table *table, uint32_t number)
{
    struct table_key key = table_key_of(number);
    struct cds_lfht_node *node = &table->nodes[number].node;
    cds_lfht_node_init(node);
    return cds_lfht_add_unique(table->lfht, hash_of(table, &key), matches, &key, node) == node;
}

static bool insert(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!insert_one(table, keys[i])) {
            return false;
        }
        pause_growing(table, i + 1);
    }
    return true;
}

static struct cds_lfht_node *find_one(struct table *table, const struct table_key *key)
{
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->lfht, hash_of(table, key), matches, key, &iter);
    return cds_lfht_iter_get_node(&iter);
}

static bool find(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct table_key key = table_key_of(keys[i]);
        struct cds_lfht_node *found = find_one(table, &key);
        if (found == NULL || !matches(found, &key)) {
            return false;
        }
        pause_at(i + 1);
    }
    return true;
}

static bool remove_all(struct table *table, const uint32_t *keys, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        struct table_key key = table_key_of(keys[i]);
        struct cds_lfht_node *node = find_one(table, &key);
        if (node == NULL || cds_lfht_del(table->lfht, node) != 0) {
            return false;
        }
        pause_at(i + 1);
    }
    return true;
}

static const struct table_kind lfht = {
    .name = "cds_lfht",
    .create = create,
    .destroy = destroy,
    .insert = insert,
    .find = find,
    .remove = remove_all,
};

const struct table_kind *const table_peer = &lfht;
const char table_peer_missing[] = "";

#else

const struct table_kind *const table_peer = NULL;
const char table_peer_missing[] = "liburcu-dev is not installed: index was measured alone "
                                  "(apt-get install liburcu-dev, then build again).";

#endif
