/*
 * The server's sockets: listeners, loops and connections, behind one object.
 *
 * The caller's operating-system thread is the *front*: it accepts, hands connections round-robin to
 * the loops, and takes signals. Each loop is an operating-system thread with an event base of its
 * own and a struct net_handler (net/handler.h) that answers its requests. Nothing outside this room
 * sees libevent.
 *
 * Life: create (binds and listens; logs what fails), start (loops run), run (the front runs until
 * the drain is over), destroy. net_stop may be called from any operating-system thread, at any time
 * between create and destroy, and begins the drain:
 *   - listeners close; what a connection had sent until then is answered, and its replies are
 *     flushed, those that come later (net/handler.h) included; meanwhile, and for a moment at the
 * least, a frame that is whole only afterwards gets shutting_down; then all is closed;
 *   - after the settings' drain_ms whatever is left is dropped.
 * With `catch_signals`, SIGTERM and SIGINT begin the drain, and a second one breaks it off: all is
 * closed at once. Only one server of a process may catch
 * signals.
 */
#ifndef RETHREAD_NET_NET_H
#define RETHREAD_NET_NET_H

#include "base/clock.h"
#include "net/address.h"
#include "net/handler.h"

enum {
    NET_LOOPS_MAX = 64,
    NET_LISTENERS_MAX = 17, /* 16 addresses and a unix socket */
    NET_STALL_MS = 30000,   /* unfinished request or unsent reply without any progress */
    NET_NO_ROOM_MS = 5000,  /* waiting for room */
    NET_HOARD_MS = 3000,  /* holding much while others wait for it: who waits sees the end of it */
    NET_LINGER_MS = 2000, /* reading on after a last answer, so that it arrives */
};

struct net_settings {
    const struct net_address *listen;
    unsigned listen_count;
    const char *unix_path; /* NULL or "": none */
    unsigned loops;        /* 1..NET_LOOPS_MAX */
    uint64_t frame_max_bytes;
    uint64_t buffers_max_bytes; /* cap of unfinished requests and unsent replies; > NET_SPARE_BYTES:
                                   a frame that would not leave so much of it is refused */
    uint64_t connections_max;
    uint64_t idle_timeout_ms; /* 0: never */
    uint64_t drain_ms;        /* the longest that a drain waits for answers and their readers */
    struct clock *clock;
    bool catch_signals;
};

struct net;

/* handlers[loops] must outlive it. NULL: a listener or a resource could not be had; logged. */
struct net *net_create(const struct net_settings *settings, const struct net_handler *handlers);
bool net_start(struct net *net); /* false: no operating-system thread to be had; logged */
void net_run(struct net *net);   /* after net_start; returns when every loop has ended */
void net_stop(struct net *net);
/* From any operating-system thread, between create and destroy: that loop tends soon, and requests
 * that were put off have their turn after it. Cheap while an earlier call is under way. */
void net_wake(struct net *net, unsigned loop);
void net_destroy(struct net *net); /* after net_run, or without net_start */

/* Where listener `number` really listens (port 0 resolved), in the order of the settings with the
 * unix socket last; false beyond the last. */
bool net_listening(const struct net *net, unsigned number, struct net_address *address);

uint64_t net_connections(const struct net *net);  /* open now; any operating-system thread */
uint64_t net_buffer_bytes(const struct net *net); /* under the cap now; likewise */

#endif
