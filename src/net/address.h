/*
 * Addresses that people write, ADDR:PORT with a numeric IPv4 or bracketed IPv6 address, and back.
 * No names are resolved. No state; any operating-system thread may call.
 */
#ifndef RETHREAD_NET_ADDRESS_H
#define RETHREAD_NET_ADDRESS_H

#include <stdbool.h>
#include <sys/socket.h>

enum { NET_ADDRESS_TEXT_BYTES = 128 };

struct net_address {
    struct sockaddr_storage storage;
    socklen_t size;
};

/* 127.0.0.1:7411, [::1]:7411; false, and *address undefined, for anything else. */
bool net_address_parse(const char *text, struct net_address *address);

/* Takes unix sockets too ("unix:/run/rethread.sock", "unix" when unnamed). Returns `text`. */
const char *net_address_format(const struct net_address *address,
                               char text[NET_ADDRESS_TEXT_BYTES]);

/* True when only this machine can reach it: 127/8, ::1 or a unix socket. */
bool net_address_is_local(const struct net_address *address);

#endif
