/*
 * The one cap on what connections make the server hold: unfinished requests and unsent replies.
 *
 * A struct net_buffers is shared by all loops; a struct net_account is one loop's access to it and
 * collects what the domain's budget must be told of (net_handler.charge), to be reported once an
 * iteration. Memory that the room allocated is *owned* and charged to the domain; bytes of pinned
 * objects are *held*: they count against the cap but the domain counts them already.
 *
 * Progress. Wait-free: one read-modify-write for each change. The counter may exceed the cap by
 * what was forced (each connection's floor, and what was already received when the cap was
 * reached), and for moments by an attempt that is about to be taken back.
 */
#ifndef RETHREAD_NET_BUFFERS_H
#define RETHREAD_NET_BUFFERS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    NET_SPARE_BYTES = 65536, /* of the cap, what one request must leave for others */
    NET_FLOOR_BYTES = 4096,  /* what every connection may own, whatever the cap says */
    NET_SMALL_BYTES = 512,   /* what a connection may hold for long while others want room */
    NET_PRESSURE_MS = 2000,  /* how long one refusal counts as pressure */
};

struct net_buffers {
    uint64_t max_bytes;
    _Atomic uint64_t used_bytes;
    _Atomic uint64_t refused_ms; /* when a loop was last refused; 0: never */
};

struct net_account {
    struct net_buffers *buffers;
    int64_t uncharged_bytes; /* owned since the last report; the loop reports and clears it */
};

void net_buffers_init(struct net_buffers *buffers, uint64_t max_bytes);
/* Whether one request of this size could be stored if there were no others. */
bool net_buffers_could_hold(const struct net_buffers *buffers, uint64_t size_bytes);
bool net_buffers_have_room(const struct net_buffers *buffers);
uint64_t net_buffers_used(const struct net_buffers *buffers);
/* A connection was refused memory in the last NET_PRESSURE_MS. */
bool net_buffers_pressed(const struct net_buffers *buffers, uint64_t now_ms);

/* False: no room, nothing taken, and pressure noted. */
bool net_account_take(struct net_account *account, size_t size_bytes, uint64_t now_ms);
void net_account_force(struct net_account *account, size_t size_bytes);
void net_account_give(struct net_account *account, size_t size_bytes);

void net_account_hold(struct net_account *account, size_t size_bytes);
void net_account_release(struct net_account *account, size_t size_bytes);

/* Charges the domain with memory that is no buffer: it does not count against the cap. */
void net_account_charge(struct net_account *account, int64_t size_bytes);

/* Notes pressure for whoever found no room without asking. */
void net_account_press(struct net_account *account, uint64_t now_ms);

#endif
