/*
 * Sound frames that are larger than all buffers together may be: with a small memory budget they
 * are within frame_max and still cannot be stored.
 */
#ifndef RETHREAD_NET_OVERSIZE_H
#define RETHREAD_NET_OVERSIZE_H

#include "net/connection.h"

/*
 * True: `view` begins with such a frame. Its request, whose msgid is among its first bytes, was
 * answered over_budget, and what is still to come of it will be received into nothing
 * (skip_bytes), so that the connection goes on behind it. The connection may be gone.
 */
bool net_oversize_refuse(struct net_connection *connection, struct bytes view);

/* A turn of a connection whose skip_bytes are not 0. It may be gone afterwards. */
void net_oversize_skip(struct net_connection *connection);

#endif
