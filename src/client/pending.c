/* Requests by msgid: a hash table, threaded by two lists in order. */
#include "client/pending.h"

#include <assert.h>
#include <stdlib.h>

enum {
    BUCKETS_MIN = 16,
};

void client_table_init(struct client_table *table)
{
    *table = (struct client_table){.next_msgid = 1};
    TAILQ_INIT(&table->waiting);
    TAILQ_INIT(&table->ready);
}

void client_table_clear(struct client_table *table)
{
    for (size_t i = 0; i < table->bucket_count; i++) {
        while (table->buckets[i] != NULL) {
            struct client_pending *pending = table->buckets[i];
            table->buckets[i] = pending->chain;
            rethread_result_free(pending->result);
            free(pending);
        }
    }
    free(table->buckets);
    client_table_init(table);
}

/* Message ids are counted up, so that their low bits spread as evenly as can be. */
static struct client_pending **bucket_of(const struct client_table *table, uint32_t msgid)
{
    return &table->buckets[msgid & (table->bucket_count - 1)];
}

static bool grow(struct client_table *table)
{
    size_t count = table->bucket_count > 0 ? 2 * table->bucket_count : BUCKETS_MIN;
    struct client_table larger = *table;
    larger.buckets = calloc(count, sizeof(struct client_pending *));
    if (larger.buckets == NULL)
        return false;
    larger.bucket_count = count;
    for (size_t i = 0; i < table->bucket_count; i++) {
        while (table->buckets[i] != NULL) {
            struct client_pending *pending = table->buckets[i];
            struct client_pending **bucket = bucket_of(&larger, pending->msgid);
            table->buckets[i] = pending->chain;
            pending->chain = *bucket;
            *bucket = pending;
        }
    }
    free(table->buckets);
    table->buckets = larger.buckets;
    table->bucket_count = larger.bucket_count;
    return true;
}

struct client_pending *client_table_add(struct client_table *table, enum rethread_method method)
{
    if (table->count == table->bucket_count && !grow(table))
        return NULL;
    struct client_pending *pending = calloc(1, sizeof *pending);
    if (pending == NULL)
        return NULL;
    while (client_table_find(table, table->next_msgid) != NULL)
        table->next_msgid++;
    pending->msgid = table->next_msgid++;
    pending->method = method;
    pending->state = CLIENT_PENDING_WAITING;
    struct client_pending **bucket = bucket_of(table, pending->msgid);
    pending->chain = *bucket;
    *bucket = pending;
    TAILQ_INSERT_TAIL(&table->waiting, pending, neighbours);
    table->count++;
    return pending;
}

struct client_pending *client_table_find(const struct client_table *table, uint32_t msgid)
{
    if (table->bucket_count == 0)
        return NULL;
    struct client_pending *pending = *bucket_of(table, msgid);
    while (pending != NULL && pending->msgid != msgid)
        pending = pending->chain;
    return pending;
}

void client_table_ready(struct client_table *table, struct client_pending *pending,
                        struct rethread_result *result)
{
    assert(pending->state == CLIENT_PENDING_WAITING && pending->result == NULL);
    TAILQ_REMOVE(&table->waiting, pending, neighbours);
    TAILQ_INSERT_TAIL(&table->ready, pending, neighbours);
    pending->state = CLIENT_PENDING_READY;
    pending->result = result;
}

void client_table_abandon(struct client_table *table, struct client_pending *pending)
{
    if (pending->state == CLIENT_PENDING_READY) {
        rethread_result_free(client_table_take(table, pending));
    } else if (pending->state == CLIENT_PENDING_WAITING) {
        TAILQ_REMOVE(&table->waiting, pending, neighbours);
        pending->state = CLIENT_PENDING_ABANDONED;
        table->abandoned++;
    }
}

struct rethread_result *client_table_take(struct client_table *table,
                                          struct client_pending *pending)
{
    struct rethread_result *result = pending->result;
    struct client_pending **link = bucket_of(table, pending->msgid);
    while (*link != pending)
        link = &(*link)->chain;
    *link = pending->chain;
    if (pending->state == CLIENT_PENDING_WAITING)
        TAILQ_REMOVE(&table->waiting, pending, neighbours);
    else if (pending->state == CLIENT_PENDING_READY)
        TAILQ_REMOVE(&table->ready, pending, neighbours);
    else
        table->abandoned--;
    table->count--;
    free(pending);
    return result;
}
