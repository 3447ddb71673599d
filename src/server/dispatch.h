/*
 * Frame bodies to operations to replies: what a loop calls, for one loop.
 *
 * Each loop has a struct dispatch of its own, which owns the loop's lane. Created and destroyed on
 * any operating-system thread, used by one at a time; nothing in it is locked.
 */
#ifndef RETHREAD_SERVER_DISPATCH_H
#define RETHREAD_SERVER_DISPATCH_H

#include "net/handler.h"

struct dispatch;

struct dispatch_settings {
    struct threads *threads; /* outlives the dispatch */
    unsigned share;          /* of the sweep: this loop of that many */
    unsigned shares;
    uint64_t frame_max_bytes;
    unsigned attempts_max; /* deferrals of one request before it is answered `busy`; 0: 1000 */

    /* Fills in the gauges that only the server knows, for `info`; from any loop. May be NULL. */
    void (*gauges)(void *context, uint64_t values[METRIC_COUNT]);
    void *gauges_context;
};

struct dispatch *dispatch_create(const struct dispatch_settings *settings); /* NULL: no memory */
void dispatch_destroy(struct dispatch *dispatch);

/* The handler to give to this dispatch's loop. */
struct net_handler dispatch_handler(struct dispatch *dispatch);

#endif
