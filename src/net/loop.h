/*
 * A loop: one operating-system thread, one event base, its connections.
 *
 * Everything in struct net_loop is the loop's own while it runs, but for what points to struct
 * net_shared, which all loops and the front share and whose fields are atomic or constant. The
 * front hands connections to a loop through the loop's inbox, a pipe of struct net_message.
 *
 * The loop is online (handler->online) from the first event of an iteration until its end, offline
 * while it waits. An iteration: callbacks of libevent, then one turn for each connection that was
 * ready at that point, in groups, then a little of what is large, then upkeep and the later answers
 * that it brought, then offline.
 */
#ifndef RETHREAD_NET_LOOP_H
#define RETHREAD_NET_LOOP_H

#include "base/log.h"
#include "net/group.h"
#include "net/net.h"
#include "net/reply.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

struct event;
struct event_base;
struct net_connection;

struct net_shared {
    struct net_settings settings; /* constant */
    struct net_buffers buffers;
    /* Open connections, counted up by the front and down by loops: nothing else hangs on it. */
    _Atomic uint64_t connections;
    /* Refused by the front; a loop takes it over into its counters. */
    _Atomic uint64_t refused;
    struct log_limit dropped_limit;
    struct log_limit accept_limit;
    /* Stored with release by the front once it accepts no more, loaded with acquire by the loops:
     * who sees it finds every connection that was handed over in its inbox. */
    _Atomic bool draining;
    _Atomic bool broken_off; /* no more time for the drain */
    /* Every loop's drain is over. Until then all of them tend on: what one of them retired it alone
     * can reclaim, and a request on another may wait for that memory. */
    _Atomic bool all_drained;
    int drained_fd; /* an eventfd: a loop whose drain is over adds one */
};

/* A connection for a loop; fd -1 only wakes it. */
struct net_message {
    uint64_t id;
    int fd;
};

TAILQ_HEAD(net_queue, net_connection);
TAILQ_HEAD(net_laters, net_later);

struct net_loop {
    struct net_shared *shared;
    const struct net_handler *handler;
    unsigned number;
    pthread_t thread;
    bool started;

    struct event_base *base;
    int inbox[2]; /* [0] is the loop's, [1] the front's */
    int wake_fd;  /* an eventfd: net_loop_wake */
    /* Set by whoever wakes, before it writes to wake_fd; cleared by the loop, before it tends: who
     * finds it set need not write, since the loop will still see what it did. */
    _Atomic bool woken;
    struct event *inbox_event;
    struct event *wake_event;
    struct event *tick_event;  /* every NET_TICK_MS */
    struct event *retry_event; /* 1 ms, one shot */

    struct net_account account;
    struct net_reply reply;
    struct net_group group;
    uint8_t *scratch; /* NET_SCRATCH_BYTES: where input is received */

    struct net_connection **connections;
    size_t connection_count;
    size_t connection_capacity;
    size_t sweep_at;
    struct net_queue ready; /* a turn each, this iteration or the next */
    size_t ready_count;
    /* Parts of what is large, in or out: turns when all others have had theirs, for NET_SHARE_BYTES
     * an iteration. Whoever wants little then waits for so much at most, however many these are;
     * more is moved at once when for NET_ALONE_MS nobody wanted little. */
    struct net_queue bulk;
    size_t bulk_count;
    struct net_queue retry;     /* deferred often: ready again after 1 ms */
    struct net_queue patient;   /* deferred for long: the first is ready again after 1 ms */
    struct net_queue stopped;   /* no room: ready again at the next tick */
    struct net_queue answering; /* with later answers to send; beside the other queues */
    struct net_laters orphans;  /* later answers that nobody awaits any more */

    bool online;
    bool tend_again;
    bool retry_armed;
    bool patience_over; /* one of the patient waits no more: the others are to have their turn */
    bool draining;
    bool drained;   /* and told so */
    bool finishing; /* all answered: waiting for the peers to close */
    uint64_t now_ms;
    uint64_t answered_ms; /* when a reply last went out whole: there are others than the large */
    uint64_t drain_until_ms;
    uint64_t late_until_ms; /* 0: answers are due; then so long refusals are given */
    uint64_t finish_until_ms;
    uint64_t received_bytes; /* not yet reported to the handler, as are the next */
    uint64_t sent_bytes;
    uint64_t accepted;
    uint64_t dropped;
};

enum { NET_TICK_MS = 50, NET_LATE_MS = 250, NET_FINISH_MS = 250, NET_ALONE_MS = 100 };

/* False: logged, and nothing is left behind. */
bool net_loop_create(struct net_loop *loop, struct net_shared *shared, unsigned number,
                     const struct net_handler *handler);
bool net_loop_start(struct net_loop *loop);
void net_loop_join(struct net_loop *loop); /* it ends by itself once its drain is over */
void net_loop_destroy(struct net_loop *loop);

/* From the front. False: the inbox is full, and the message was not taken. */
bool net_loop_send(struct net_loop *loop, const struct net_message *message);

/* From any operating-system thread, until it is destroyed: see net_wake. */
void net_loop_wake(struct net_loop *loop);

/* For connections: every callback of libevent begins with it. */
void net_loop_enter(struct net_loop *loop);

#endif
