/*
 * Answers that come later: what net/handler.h promises of net_reply_later, for the files of this
 * room. A struct net_later is its loop's. It belongs to its connection's `waiting` until it is
 * sent, then to its `answered` until the socket takes it; when the connection closes first, what
 * waits goes to the loop's `orphans`, so that its memory counts on until its handler lets it go.
 */
#ifndef RETHREAD_NET_LATER_H
#define RETHREAD_NET_LATER_H

#include "net/connection.h"

enum { NET_LATERS_MAX = 1024 }; /* reserved and not yet sent, of one connection */

/* The connection has as many as it may have: its next request waits until one is sent. */
static inline bool net_later_is_full(const struct net_connection *connection)
{
    return connection->later_count >= NET_LATERS_MAX;
}

/* Sends what was answered as far as the socket takes it, and settles. It may be gone afterwards. */
void net_later_give(struct net_connection *connection);

/* Gives for all connections that were answered since the last time; online, between turns. */
void net_later_flush(struct net_loop *loop);

/* The connection closes. */
void net_later_abandon(struct net_connection *connection);

/* The loop ends, and its connections have closed: what still waits no longer refers to it. */
void net_later_detach(struct net_loop *loop);

#endif
