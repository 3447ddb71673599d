/*
 * liburcu's cds_lfht as a table, quiescent-state flavour; see table.h. Built in where liburcu-dev
 * is installed.
 *
 * It has as many buckets as records, up to twice as many, which is what it aims at by itself. But
 * it is doubled between inserts, not by its own helper (CDS_LFHT_AUTO_RESIZE): with that and few
 * buckets to begin with, runs with version 0.13.2 did not end, an insert going along a long chain
 * while the helper slept. The likely cause, by the library's source and not shown by a test: a
 * resize is marked as begun after it was queued, so that a helper which is done before that leaves
 * a mark that nobody clears. With many buckets to begin with it did work, but found far more slowly
 * at 1 M keys. The doubling counts as CPU time, but not as part of any insert.
 */
#include "bench/table.h"

#include <stddef.h>

#if __has_include(<urcu/rculfhash.h>) && __has_include(<urcu/urcu-qsbr.h>)

#define URCU_INLINE_SMALL_FUNCTIONS
#include <urcu/urcu-qsbr.h>
#include <urcu/rculfhash.h>

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct node {
    struct cds_lfht_node node;
    struct table_key key;
};

struct table {
    struct cds_lfht *lfht;
    struct node *nodes;
    uint8_t secret[INDEX_SECRET_BYTES];
    _Atomic uint32_t inserted; /* in steps of TABLE_PAUSE; both relaxed: hints when to grow */
    _Atomic uint32_t buckets;
};

struct member {
    bool inserts;
};

enum { BUCKETS_AT_FIRST = 64 };

static int matches(struct cds_lfht_node *node, const void *key)
{
    const struct node *of = caa_container_of(node, struct node, node);
    return table_key_equal(&of->key, key);
}

static unsigned long hash_of(const struct table *table, const struct table_key *key)
{
    return table_hash(table->secret, key).low;
}

static bool join(struct table *table, struct member *member, enum table_op op)
{
    (void)table;
    member->inserts = op == TABLE_INSERT;
    urcu_qsbr_register_thread();
    return true;
}

static void leave(struct table *table, struct member *member)
{
    (void)table;
    (void)member;
    urcu_qsbr_unregister_thread();
}

/* By one loop at a time: the other one, which waits for nobody, goes on. */
static void grow(struct table *table)
{
    uint32_t inserted =
        atomic_fetch_add_explicit(&table->inserted, TABLE_PAUSE, memory_order_relaxed) +
        TABLE_PAUSE;
    uint32_t buckets = atomic_load_explicit(&table->buckets, memory_order_relaxed);
    uint32_t wanted = buckets;
    while (inserted > wanted) {
        wanted *= 2;
    }
    if (wanted != buckets &&
        atomic_compare_exchange_strong_explicit(&table->buckets, &buckets, wanted,
                                                memory_order_relaxed, memory_order_relaxed)) {
        cds_lfht_resize(table->lfht, wanted);
    }
}

static inline void pause_at(struct table *table, struct member *member, uint32_t done)
{
    if (done % TABLE_PAUSE == 0) {
        urcu_qsbr_quiescent_state();
        if (member->inserts) {
            grow(table);
        }
    }
}

static inline bool insert_one(struct table *table, struct member *member, uint32_t number,
                              uint32_t record)
{
    (void)member;
    struct node *node = &table->nodes[record];
    struct table_key key = table_key_of(number);
    node->key = key;
    cds_lfht_node_init(&node->node);
    return cds_lfht_add_unique(table->lfht, hash_of(table, &key), matches, &key, &node->node) ==
           &node->node;
}

static struct cds_lfht_node *lookup(struct table *table, const struct table_key *key)
{
    struct cds_lfht_iter iter;
    cds_lfht_lookup(table->lfht, hash_of(table, key), matches, key, &iter);
    return cds_lfht_iter_get_node(&iter);
}

static inline bool find_one(struct table *table, struct member *member, const struct table_key *key)
{
    (void)member;
    struct cds_lfht_node *found = lookup(table, key);
    return found != NULL && matches(found, key);
}

static inline bool remove_one(struct table *table, struct member *member,
                              const struct table_key *key)
{
    (void)member;
    struct cds_lfht_node *node = lookup(table, key);
    return node != NULL && cds_lfht_del(table->lfht, node) == 0;
}

#include "bench/table_loops.h"

static void destroy(struct table *table)
{
    if (table->lfht != NULL) {
        struct cds_lfht_iter iter;
        struct cds_lfht_node *node;
        urcu_qsbr_register_thread();
        cds_lfht_for_each(table->lfht, &iter, node)
        {
            (void)cds_lfht_del(table->lfht, node);
        }
        urcu_qsbr_unregister_thread();
        (void)cds_lfht_destroy(table->lfht, NULL);
    }
    free(table->nodes);
    free(table);
}

static struct table *create(uint32_t count, uint32_t spares)
{
    struct table *table = calloc(1, sizeof *table);
    if (table == NULL) {
        return NULL;
    }
    memcpy(table->secret, table_secret, sizeof table->secret);
    table->nodes = calloc((size_t)count + spares, sizeof(struct node));
    atomic_init(&table->buckets, BUCKETS_AT_FIRST);
    table->lfht =
        cds_lfht_new_flavor(BUCKETS_AT_FIRST, BUCKETS_AT_FIRST, 0, 0, &urcu_qsbr_flavor, NULL);
    if (table->nodes == NULL || table->lfht == NULL) {
        destroy(table);
        return NULL;
    }
    for (uint32_t i = 0; i < count + spares; i++) {
        table->nodes[i].key = table_key_of(i);
    }
    return table;
}

const struct table_kind table_lfht = TABLE_KIND("cds_lfht", NULL);
const char table_lfht_missing[] = "";

#else

const struct table_kind table_lfht = {.name = NULL};
const char table_lfht_missing[] = "liburcu-dev is not installed: index was measured without "
                                  "cds_lfht (apt-get install liburcu-dev, then build again).";

#endif
