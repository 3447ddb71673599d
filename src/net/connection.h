/*
 * A connection: one socket, its unfinished input, its unsent output. It belongs to one loop and is
 * touched by that loop only.
 *
 * An idle connection owns nothing but its struct. Input is received into the loop's scratch and
 * served from there; only what is left over is stored. While output is unsent no further request
 * is run and nothing is read: the peer feels it as back-pressure. Answers that come later
 * (net/later.h) keep no further request waiting, and keep the connection from being given up.
 *
 * At any time a connection is in one place: waiting for the socket (libevent tells), or in one of
 * the loop's queues.
 */
#ifndef RETHREAD_NET_CONNECTION_H
#define RETHREAD_NET_CONNECTION_H

#include "net/input.h"
#include "net/loop.h"

#include <event2/event.h>
#include <event2/event_struct.h>

enum net_place { NET_NOWHERE, NET_READY, NET_BULK, NET_RETRY, NET_PATIENT, NET_STOPPED };
enum net_watch { NET_WATCH_NOTHING, NET_WATCH_READ, NET_WATCH_WRITE };

struct net_connection {
    struct event event;
    TAILQ_ENTRY(net_connection) link; /* in the queue of `place` */
    struct net_loop *loop;
    uint64_t id;
    size_t number; /* in loop->connections */
    int fd;
    uint8_t place; /* enum net_place */
    uint8_t watch; /* enum net_watch */
    bool closing;  /* a last answer was given: flush, linger, close */
    bool lingering;
    bool late;      /* draining: its unsent replies are but refusals of what came too late */
    bool answering; /* in loop->answering */
    bool patient;   /* its first request was deferred for something that takes long */

    struct net_input input; /* received and not yet served */
    uint64_t skip_bytes;    /* of a frame refused for its size: still to be received and dropped */
    unsigned attempts;      /* how often the first request was deferred */
    uint64_t deferred_ms;   /* when it was for the first time */

    struct net_output *output; /* NULL: all is sent */
    bool takes_more;           /* the socket, by what it took last */

    TAILQ_ENTRY(net_connection) answering_link;
    struct net_laters waiting;  /* their answers are still to come */
    struct net_laters answered; /* and still to be sent */
    unsigned later_count;       /* of both */

    size_t due_bytes;     /* draining: input up to here still gets served */
    size_t moved_bytes;   /* in or out, since pace_ms */
    uint64_t pace_ms;     /* when it last kept a fair pace, see patience.c */
    uint64_t progress_ms; /* when a byte last moved */
    uint64_t request_ms;  /* when a request was last taken; at first the accept */
    uint64_t stopped_ms;  /* since when it waits for room; 0: it does not */
    uint64_t linger_ms;   /* since when it lingers */
};

/* Takes over `fd`. Closes it and returns when there is no memory. */
void net_connection_open(struct net_loop *loop, int fd, uint64_t id);
void net_connection_close(struct net_connection *connection); /* frees it */

/* A connection taken off the ready queue has its turn. It may be gone afterwards, or in the loop's
 * group, which is to be run when all have had theirs. */
void net_connection_turn(struct net_connection *connection);

/* Sends a part of the loop's reply; what is left becomes the connection's output, of which it has
 * none. False: it is closed. */
bool net_connection_send_part(struct net_connection *connection, struct net_part *part);
/* The same with all of the reply, which is empty then. */
bool net_connection_send(struct net_connection *connection);

/* Keeps its input `view` without the first `used` bytes. False: it is closed. */
bool net_connection_keep(struct net_connection *connection, struct bytes view, size_t used);

/* patience.c: the peer sends no more. It is closed, at once or after answers that are still to
 * come. */
void net_connection_end(struct net_connection *connection);

/* Decides what a connection waits for after its turn. */
void net_connection_settle(struct net_connection *connection);
/* Instead, when its first request could not be run, for want of room. It has no output. */
void net_connection_stall(struct net_connection *connection);

/*
 * Answers the request `body`, or nobody, with an error instead of running it, forgets the input
 * and settles. It has no output. It may be gone afterwards.
 */
void net_connection_answer(struct net_connection *connection, struct bytes body,
                           enum status status);

/* Logs the reason (a static text) and closes. */
void net_connection_drop(struct net_connection *connection, const char *reason);
/* Logs the reason, gives a last answer, to the request `body` or to nobody, and will close. It has
 * no output. It may be gone afterwards. */
void net_connection_refuse(struct net_connection *connection, struct bytes body, enum status status,
                           const char *reason);

/* patience.c: looks at its timeouts; it may be gone afterwards. */
void net_connection_sweep(struct net_connection *connection);
/* patience.c: false when it has waited for room long enough: it was refused and may be gone. */
bool net_connection_is_patient(struct net_connection *connection);

/* Draining, nothing is due: tells the peer that no more will come, once what is unsent of refusals
 * has left. It may be gone afterwards. */
void net_connection_finish(struct net_connection *connection);

/* Moves a connection between the loop's queues. */
void net_connection_place(struct net_connection *connection, enum net_place place);
/* It is to have a turn: behind all others when that will only move part of something large. */
void net_connection_ready(struct net_connection *connection);

#endif
