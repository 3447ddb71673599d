/*
 * Listening sockets. A unix socket's file belongs to its listener: a stale one (nobody listens) is
 * replaced, its own is removed at close, anything else at that path is left alone. The file is for
 * its owner only (0600).
 */
#ifndef RETHREAD_NET_LISTENER_H
#define RETHREAD_NET_LISTENER_H

#include "net/address.h"

#include <sys/types.h>

struct net_listener {
    int fd;
    struct net_address address; /* port 0 resolved */
    dev_t device;               /* of the unix socket's file, to remove only our own */
    ino_t inode;
};

/* Non-blocking, close-on-exec. False: logged, and nothing is left behind. */
bool net_listener_open(struct net_listener *listener, const struct net_address *address);
bool net_listener_open_unix(struct net_listener *listener, const char *path);
void net_listener_close(struct net_listener *listener); /* may be called again */

#endif
