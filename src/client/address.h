/* Addresses to connected sockets. Keeps nothing. */
#ifndef RETHREAD_CLIENT_ADDRESS_H
#define RETHREAD_CLIENT_ADDRESS_H

#include "rethread.h"

enum {
    CLIENT_HOST_BYTES_MAX = 255, /* of a name in the DNS */
};

struct client_address {
    bool is_unix;
    bool is_numeric;  /* it came in brackets: no name to look up */
    const char *path; /* is_unix: within the text parsed */
    char host[CLIENT_HOST_BYTES_MAX + 1];
    char port[6];
};

/* "host:port", "[IPv6]:port" or "unix:/path"; false: it is none of these. */
bool client_address_parse(const char *text, struct client_address *address);

/*
 * A connected, non-blocking socket, by the deadline on the monotonic clock (UINT64_MAX: none).
 * NO_MEMORY, INVALID_ARGUMENT, UNRESOLVED, UNREACHABLE (errno says why), TIMEOUT.
 */
enum rethread_status client_address_connect(const struct client_address *address,
                                            uint64_t deadline_ms, int *fd);

/* Sends small requests at once, on sockets that know of such a thing. */
void client_address_no_delay(int fd);

/* How long poll may wait for a deadline: -1 without one. */
int client_address_left_ms(uint64_t deadline_ms);

#endif
