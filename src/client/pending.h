/*
 * The requests of one connection that were sent or queued, by msgid, until somebody takes their
 * responses.
 *
 * A connection owns one table; the table owns its entries, and the results in them until taken.
 */
#ifndef RETHREAD_CLIENT_PENDING_H
#define RETHREAD_CLIENT_PENDING_H

#include "client/result.h"

#include <sys/queue.h>

enum client_pending_state {
    CLIENT_PENDING_WAITING,
    CLIENT_PENDING_READY,     /* `result` is there */
    CLIENT_PENDING_ABANDONED, /* nobody wants the response, but it has yet to come */
};

struct client_pending {
    uint32_t msgid;
    enum rethread_method method;
    enum client_pending_state state;
    struct rethread_result *result;
    struct client_pending *chain;           /* of the same bucket */
    TAILQ_ENTRY(client_pending) neighbours; /* in waiting or ready; nowhere when abandoned */
};

TAILQ_HEAD(client_pending_list, client_pending);

struct client_table {
    struct client_pending **buckets; /* a power of two, at least one per entry */
    size_t bucket_count;
    size_t count;     /* all entries */
    size_t abandoned; /* of these */
    uint32_t next_msgid;
    struct client_pending_list waiting; /* in the order added */
    struct client_pending_list ready;   /* in the order of arrival */
};

void client_table_init(struct client_table *table);

/* Frees all entries and their results. */
void client_table_clear(struct client_table *table);

/* A new entry under a msgid that is not in use; NULL: no memory. */
struct client_pending *client_table_add(struct client_table *table, enum rethread_method method);

/* NULL: there is none. */
struct client_pending *client_table_find(const struct client_table *table, uint32_t msgid);

/* WAITING to READY; the entry takes the result. */
void client_table_ready(struct client_table *table, struct client_pending *pending,
                        struct rethread_result *result);

/* Waiting: kept until its response comes. Ready: freed with its result. */
void client_table_abandon(struct client_table *table, struct client_pending *pending);

/* Frees the entry and returns its result, NULL if it had none. */
struct rethread_result *client_table_take(struct client_table *table,
                                          struct client_pending *pending);

#endif
