/*
 * What a loop asks of whoever answers requests: the seam between sockets and the domain.
 *
 * Each loop has a struct net_handler of its own, whose context only that loop uses; nothing in it
 * is locked. The loop calls online when it wakes, offline before it waits, and everything but pin
 * and unpin in between. Bytes referred to by a reply live until offline; what the socket has not
 * taken by then must be copied or pinned before.
 */
#ifndef RETHREAD_NET_HANDLER_H
#define RETHREAD_NET_HANDLER_H

#include "base/bytes.h"
#include "base/status.h"
#include "thread/threads.h" /* enum metric */

#include <stdbool.h>
#include <stdint.h>

struct net_reply;

enum {
    NET_BATCH_MAX = 64,           /* bodies that are prepared together, or served */
    NET_REPLY_SMALL_BYTES = 1024, /* room that any answer but a replay, list or info fits */
    /* Payloads from here on go by reference. Those of 2 to 4 KiB are most of what conversations
     * hold, and copying them cost a tenth of a turn; from 1 KiB on it cost more again. */
    NET_REFER_BYTES_MIN = 2048,
};

/* How long a connection's first request has been put off. */
struct net_deferral {
    unsigned attempts; /* so often; 0: it is new */
    uint64_t time_ms;  /* since the first of them */
    bool draining;     /* what has arrived is to be answered soon, if only with an error */
};

struct net_handler {
    void *context;

    /*
     * A hint, may be NULL: the bodies that the next serves will be given, by parts of this array
     * and in its order, if at all (1 <= count <= NET_BATCH_MAX). Array and bodies stay as they are
     * until those serves are over.
     */
    void (*prepare)(void *context, const struct bytes *bodies, unsigned count);

    /*
     * Runs the whole frame bodies of one connection in order (1 <= count <= NET_BATCH_MAX) and
     * appends their responses to `reply`. Returns how many it consumed. When that is fewer than
     * count, the next body was not touched:
     *   *deferred      it waits for another loop or for memory: offer it (and what follows) again
     *                  on a later turn, with one attempt more;
     *   not *deferred  net_reply_is_full said so, net_reply_room had none, or this was work enough
     *                  for a turn: offer it again, as new, once replies have drained.
     * `deferral` is that of bodies[0]; when it has lasted too long the request is answered with an
     * error instead. *deferred is always set.
     */
    unsigned (*serve)(void *context, struct net_reply *reply, const struct bytes *bodies,
                      unsigned count, struct net_deferral deferral, bool *deferred);

    /*
     * Answers one request with an error and runs nothing: STATUS_SHUTTING_DOWN for what arrives
     * while draining, STATUS_TOO_LARGE for a frame beyond frame_max, STATUS_BUSY,
     * STATUS_OVER_BUDGET for one that no buffer can hold, or STATUS_BAD_REQUEST for lost framing.
     * `body` may be cut short. An empty body, or one without a readable msgid, gets a
     * nil msgid. False: net_reply_room had no room.
     */
    bool (*refuse)(void *context, struct net_reply *reply, struct bytes body, enum status status);

    /* From any loop; pin only while online, with an object referred to since it came online. */
    void (*pin)(const void *object);
    void (*unpin)(const void *object);

    void (*online)(void *context); /* reads the clock too */
    void (*offline)(void *context);
    void (*read_clock)(void *context); /* before each group of turns */
    /* Each iteration, at least every 50 ms, and at once after net_wake; true: call again soon. */
    bool (*tend)(void *context);
    void (*charge)(void *context, int64_t bytes);                  /* buffers grown or shrunk */
    void (*count)(void *context, enum metric metric, uint64_t by); /* this loop's counters */
};

/*
 * The reply under construction, for handlers; net/reply.c has it.
 *
 * room: contiguous scratch of at least `size_bytes`, NULL when buffers may not grow. Asking again
 * replaces what was not committed. Committed bytes stay put until the turn ends.
 * commit: the next `used_bytes` of the room are part of the reply. One room may be committed in
 * several pieces with refers in between; they go out in the order of these calls.
 * refer: `data` goes out by reference; it belongs to `object`, to be pinned if it must outlive the
 * online period. A pin keeps the whole object, `object_bytes`: so much counts against the cap until
 * the last piece of the object is sent.
 * is_full: this connection has enough replies for now; asked before each request but the first.
 * hurry: what was just run took long: answers that wait to be sent together wait for no more.
 * be_patient: what the request is deferred for takes long, and comes for all who wait for it at
 * once: one of them looks now and then, the others when that one had success, or at the next tick.
 */
uint8_t *net_reply_room(struct net_reply *reply, size_t size_bytes);
void net_reply_commit(struct net_reply *reply, size_t used_bytes);
void net_reply_refer(struct net_reply *reply, const void *data, size_t size_bytes,
                     const void *object, size_t object_bytes);
bool net_reply_is_full(const struct net_reply *reply);
void net_reply_hurry(struct net_reply *reply);
void net_reply_be_patient(struct net_reply *reply);

/*
 * An answer that comes later, and out of order; net/later.c has it.
 *
 * net_reply_later reserves one for the request that serve is at, with `size_bytes` of room, at most
 * NET_REPLY_SMALL_BYTES: before the request is run, so that it can be answered whatever comes.
 * NULL: the connection awaits as many as it may, or the buffers may not grow; the request is then
 * to be left as after a net_reply_room without room. Either cancel or send ends it.
 *
 * room: memory for any use, aligned for any type, until then; also when the connection has gone.
 * send: `frame`, which may lie in the room and be no larger, is copied and goes out when the loop's
 * turn or tend is over; nobody gets it when the connection has gone. Called like all of these from
 * the loop's own operating-system thread, online; once the loop has ended, from any.
 */
struct net_later;

struct net_later *net_reply_later(struct net_reply *reply, size_t size_bytes);
void *net_later_room(struct net_later *later);
void net_later_cancel(struct net_later *later);
void net_later_send(struct net_later *later, const void *frame, size_t size_bytes);

#endif
