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

enum {
    /* A deferred request is answered `busy` only after both of these. Time alone could pass while
     * the loop itself did not run. */
    DISPATCH_PATIENCE_MS = 2000,
    /* For room on the disk. It comes in parts of up to half of what may wait to be written, each of
     * which takes seconds where the tree is large or the disk is slow; clients wait for 30 s. */
    DISPATCH_ROOM_PATIENCE_MS = 10000,
    DISPATCH_ATTEMPTS_MIN = 32,
    /* Steps gone through by the requests of one connection's turn but the last. So many take about
     * as long as what a turn may move of something large (NET_SHARE_BYTES). */
    DISPATCH_WORK_MAX = 4096,
};

struct dispatch_settings {
    struct threads *threads; /* outlives the dispatch */
    unsigned share;          /* of the sweep: this loop of that many */
    unsigned shares;
    uint64_t frame_max_bytes;
    bool has_disk;        /* answers may wait for it */
    uint64_t patience_ms; /* one request may be deferred for so long; 0: DISPATCH_PATIENCE_MS */
    /* Or for so long, for room on the disk and unless the server drains; 0: DISPATCH_ROOM_… */
    uint64_t room_patience_ms;

    /* Fills in the gauges that only the server knows, for `info`; from any loop. May be NULL. */
    void (*gauges)(void *context, uint64_t values[METRIC_COUNT]);
    void *gauges_context;
};

struct dispatch *dispatch_create(const struct dispatch_settings *settings); /* NULL: no memory */
/* False: its lane could not be closed, see lane_close; nothing was freed. */
bool dispatch_destroy(struct dispatch *dispatch);

/* The handler to give to this dispatch's loop. */
struct net_handler dispatch_handler(struct dispatch *dispatch);

#endif
