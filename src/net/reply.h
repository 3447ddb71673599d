/*
 * Replies on their way out: built in a loop's scratch, sent by one call a turn, and what the
 * socket did not take kept with the connection.
 *
 * struct net_reply is the loop's: replies as a list of pieces. Small bytes lie in chunks (the first
 * is the loop's for good, more come and go under the cap), large ones are referred to where they
 * are stored. One connection's replies of one turn are a part of it, so that several connections
 * can be answered together; bytes in a chunk that is not the loop's for good belong to the last
 * part. struct net_output is a connection's: the pieces left over, its own copy of what lay in the
 * loop's chunk, and pins on the objects it refers to.
 */
#ifndef RETHREAD_NET_REPLY_H
#define RETHREAD_NET_REPLY_H

#include "net/buffers.h"
#include "net/handler.h"

enum {
    NET_QUOTA_BYTES = 256 * 1024, /* of input, and of replies, for one connection in one turn */
    /* Of one call for a reply that takes several anyhow, while others are served too. They wait for
     * it: copying so much into a socket, and through the kernel to a receiver on the same machine,
     * takes 20 us. */
    NET_SHARE_BYTES = 64 * 1024,
    NET_PIECES_FULL = 960, /* a turn's replies fit one sendmsg: at most IOV_MAX pieces */
    /* Parts before the last, and the pieces of them, that wait to be sent. */
    NET_HEAVY_BYTES = 64 * 1024,
    NET_HEAVY_PIECES = 64,
};

struct net_piece {
    const uint8_t *data;
    size_t size;
    const void *object;  /* to pin; NULL: in a chunk, or a later piece pins its object too */
    size_t object_bytes; /* what a pin keeps in memory */
};

struct net_chunk;
struct net_connection;

struct net_reply {
    const struct net_handler *handler;
    struct net_account *account;
    struct net_connection *connection; /* whose request is being served; NULL: nobody's */
    uint64_t now_ms;                   /* the loop keeps it up to date */
    struct net_chunk *base;            /* first chunk, reused for ever */
    struct net_chunk *newest; /* chunks of this turn, linked to the one before, base last */
    size_t room_bytes;        /* handed out by net_reply_room and not yet committed */
    struct net_piece *pieces;
    unsigned piece_count;
    unsigned piece_capacity;
    size_t whole_bytes;  /* of all parts */
    unsigned part_first; /* its first piece, of the part under construction, as are the next */
    size_t size_bytes;
    bool hurries; /* net_reply_hurry */
    bool patient; /* net_reply_be_patient, of the part under construction */
    bool failed;  /* out of memory for pieces: the part is incomplete, drop the connection */
};

/* Pieces first..end-1 of a net_reply; those before `first` are sent. */
struct net_part {
    unsigned first;
    unsigned end;
    bool is_long; /* several calls, however much one takes */
    bool failed;
};

struct net_output {
    struct net_chunk *chunks;
    size_t owned_bytes; /* of this struct; chunks come on top */
    size_t held_bytes;  /* of the objects that are pinned, each whole */
    unsigned first;
    unsigned count;
    struct net_piece pieces[];
};

enum net_sent { NET_SENT_ALL, NET_SENT_PART, NET_SENT_FAILED };

bool net_reply_create(struct net_reply *reply, const struct net_handler *handler,
                      struct net_account *account);
void net_reply_destroy(struct net_reply *reply);

/* Bytes that a reply owns between turns: to be charged once. */
size_t net_reply_fixed_bytes(void);

/* Empties it, when all parts are sent or kept, and begins a part. */
void net_reply_reset(struct net_reply *reply);

/* Begins another part. */
void net_reply_begin(struct net_reply *reply);
/* The part under construction, as it is. */
struct net_part net_reply_part(const struct net_reply *reply);

/* No other part is to be begun before these are sent: then each finds NET_QUOTA_BYTES of room,
 * whatever the cap says, and what is answered waits for no more. */
bool net_reply_is_heavy(const struct net_reply *reply);

/* One call of at most NET_QUOTA_BYTES, or `share_bytes` of what is long; adds what went out to
 * *sent_bytes. */
enum net_sent net_reply_send(struct net_reply *reply, struct net_part *part, int fd,
                             size_t share_bytes, uint64_t *sent_bytes);

/* Copies, takes over and pins what is unsent. NULL: no memory, drop the connection. Only online. */
struct net_output *net_reply_keep(struct net_reply *reply, const struct net_part *part);

/* What it owns and what it holds. */
size_t net_output_bytes(const struct net_output *output);

/* One call of at most `share_bytes`; unpins what is sent. */
enum net_sent net_output_send(struct net_output *output, const struct net_handler *handler,
                              struct net_account *account, int fd, size_t share_bytes,
                              uint64_t *sent_bytes);
void net_output_free(struct net_output *output, const struct net_handler *handler,
                     struct net_account *account);

#endif
