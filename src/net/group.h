/*
 * A group: what connections of one iteration have received, made ready together, run one connection
 * after the other, and answered together.
 *
 * Together, because the caches can then be warmed for all of it, and because receiving, running and
 * sending each go faster in a row than in turns. At most NET_BATCH_MAX requests wait in a group, so
 * that none waits for long. It belongs to its loop. A connection in a group has its turn: nothing
 * else touches it, and neither its input nor the scratch below `scratch_bytes` changes until the
 * group has run. Outside of net_group_run the loop's reply is empty.
 */
#ifndef RETHREAD_NET_GROUP_H
#define RETHREAD_NET_GROUP_H

#include "net/handler.h"
#include "net/reply.h"

struct net_connection;
struct net_loop;

struct net_member {
    struct net_connection *connection; /* NULL: it was closed */
    struct bytes view;                 /* its input, from the first body on */
    unsigned first;                    /* in bodies, its own, as are the next */
    unsigned count;
    bool stuck; /* its first request could not be run, for want of room */
    struct net_part part;
};

struct net_group {
    struct bytes bodies[NET_BATCH_MAX];
    size_t ends[NET_BATCH_MAX]; /* of each body, from the start of its member's view */
    unsigned body_count;
    struct net_member members[NET_BATCH_MAX];
    unsigned member_count;
    size_t scratch_bytes; /* of the loop's, that members' input lies in */
    uint64_t moved_bytes; /* received and sent by the loop when the first member came */
};

enum { NET_SCRATCH_BYTES = 2 * NET_QUOTA_BYTES };

/* Room for NET_QUOTA_BYTES of input in the loop's scratch. */
uint8_t *net_group_scratch(struct net_loop *loop);

/*
 * Adds the requests that `view` begins with; it is all the input of the connection and lies in the
 * room that net_group_scratch gave, or in the connection. Without a whole request the connection is
 * answered or settled at once. It may be gone afterwards, as may others, if the group had to run.
 */
void net_group_add(struct net_connection *connection, struct bytes view);

/* Runs and answers whatever is in the group. */
void net_group_run(struct net_loop *loop);

/* Between turns: the same, if others have moved a turn's worth of bytes while the group waited. */
void net_group_hasten(struct net_loop *loop);

#endif
