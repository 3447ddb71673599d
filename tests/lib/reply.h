/*
 * A net_reply that keeps what is committed and referred to, for tests of handlers without sockets.
 *
 * Header only, and it defines the functions that net/handler.h declares: include it once in a
 * program, which then does not take them from net/.
 */
#ifndef RETHREAD_TESTS_LIB_REPLY_H
#define RETHREAD_TESTS_LIB_REPLY_H

#include "net/handler.h"

#include <assert.h>
#include <stdlib.h>

struct net_reply {
    uint8_t *out; /* all frames so far, as a socket would get them */
    size_t size;
    uint8_t *room;
    size_t room_size;
    size_t room_used;
    size_t room_max; /* larger ones are refused; 0: no limit */
    bool full;
    bool hurries;
    bool patient;
    unsigned refers;
    const void *referred; /* the object last referred to, and its bytes */
    const uint8_t *referred_data;
    bool no_laters;  /* none is to be had */
    unsigned laters; /* neither sent nor cancelled, as far as asked of this reply */
};

struct net_later {
    struct net_reply *reply;
    size_t room_size;
    void *room;
};

static void reply_append(struct net_reply *reply, const void *data, size_t size)
{
    reply->out = realloc(reply->out, reply->size + size);
    memcpy(reply->out + reply->size, data, size);
    reply->size += size;
}

static void reply_reset(struct net_reply *reply)
{
    free(reply->out);
    free(reply->room);
    *reply = (struct net_reply){.room_max = reply->room_max,
                                .full = reply->full,
                                .no_laters = reply->no_laters,
                                .laters = reply->laters};
}

uint8_t *net_reply_room(struct net_reply *reply, size_t size_bytes)
{
    if (reply->room_max > 0 && size_bytes > reply->room_max) {
        return NULL;
    }
    free(reply->room); /* exact, and anew each time, for AddressSanitizer to watch */
    reply->room = malloc(size_bytes);
    reply->room_size = size_bytes;
    reply->room_used = 0;
    return reply->room;
}

void net_reply_commit(struct net_reply *reply, size_t used_bytes)
{
    assert(reply->room != NULL && reply->room_used + used_bytes <= reply->room_size);
    reply_append(reply, reply->room + reply->room_used, used_bytes);
    reply->room_used += used_bytes;
}

void net_reply_refer(struct net_reply *reply, const void *data, size_t size_bytes,
                     const void *object, size_t object_bytes)
{
    assert(object_bytes >= size_bytes);
    reply_append(reply, data, size_bytes);
    reply->refers++;
    reply->referred = object;
    reply->referred_data = data;
}

bool net_reply_is_full(const struct net_reply *reply)
{
    return reply->full;
}

void net_reply_hurry(struct net_reply *reply)
{
    reply->hurries = true;
}

void net_reply_be_patient(struct net_reply *reply)
{
    reply->patient = true;
}

struct net_later *net_reply_later(struct net_reply *reply, size_t size_bytes)
{
    if (reply->no_laters) {
        return NULL;
    }
    struct net_later *later = malloc(sizeof *later);
    *later = (struct net_later){reply, size_bytes, malloc(size_bytes)};
    reply->laters++;
    return later;
}

void *net_later_room(struct net_later *later)
{
    return later->room;
}

void net_later_cancel(struct net_later *later)
{
    later->reply->laters--;
    free(later->room);
    free(later);
}

/* The frame joins what is out by then. */
void net_later_send(struct net_later *later, const void *frame, size_t size_bytes)
{
    assert(size_bytes > 0 && size_bytes <= later->room_size);
    reply_append(later->reply, frame, size_bytes);
    net_later_cancel(later);
}

#endif
