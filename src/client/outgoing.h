/*
 * Bytes on their way out: encoded requests, with large payloads borrowed from the caller in
 * between.
 *
 * A connection owns one. Bytes that are borrowed stay the caller's; they are here only during the
 * synchronous call that brought them, which ends with client_outgoing_settle.
 */
#ifndef RETHREAD_CLIENT_OUTGOING_H
#define RETHREAD_CLIENT_OUTGOING_H

#include "client/buffer.h"
#include "rethread.h"

#include <sys/uio.h>

enum {
    CLIENT_BORROWED_MAX = RETHREAD_PAYLOADS_MAX,
    CLIENT_BORROW_BYTES_MIN = 4096, /* below it a copy costs less than a piece of its own */
    CLIENT_PIECES_MAX = 2 * CLIENT_BORROWED_MAX + 1,
};

struct client_outgoing {
    struct client_buffer own;
    /* In order; each is sent after `after` bytes of its own that follow the one before. */
    struct {
        size_t after;
        struct rethread_bytes bytes;
    } borrowed[CLIENT_BORROWED_MAX];
    size_t first; /* borrowed[first..count) are unsent */
    size_t count;
    size_t borrowed_bytes; /* unsent */
    size_t own_after_last; /* bytes of own behind the last borrowed piece */
};

static inline size_t client_outgoing_size(const struct client_outgoing *outgoing)
{
    return client_buffer_size(&outgoing->own) + outgoing->borrowed_bytes;
}

/* Appends a copy; false: no memory. */
bool client_outgoing_copy(struct client_outgoing *outgoing, const void *bytes, size_t size);

/* Appends by reference; false: no piece is left, copy instead. */
bool client_outgoing_borrow(struct client_outgoing *outgoing, struct rethread_bytes bytes);

/* Where the end is now, and back to it: what was appended since is gone. */
struct client_outgoing_mark {
    size_t size;
    size_t count;
    size_t own_size;
    size_t own_after_last;
};
struct client_outgoing_mark client_outgoing_mark(const struct client_outgoing *outgoing);
void client_outgoing_rewind(struct client_outgoing *outgoing, struct client_outgoing_mark mark);

/* Describes what is unsent, from the start; returns how many pieces. */
int client_outgoing_pieces(const struct client_outgoing *outgoing,
                           struct iovec pieces[CLIENT_PIECES_MAX]);

/* Drops what was sent. */
void client_outgoing_sent(struct client_outgoing *outgoing, size_t size);

/* Copies what is still borrowed, so that the caller's bytes are free; false: no memory. */
bool client_outgoing_settle(struct client_outgoing *outgoing);

/* Drops everything. */
void client_outgoing_clear(struct client_outgoing *outgoing);

#endif
