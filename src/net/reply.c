/* Builds, sends and keeps replies. */
#include "net/reply.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

enum {
    CHUNK_BASE_BYTES = NET_HEAVY_BYTES + NET_QUOTA_BYTES,
    CHUNK_MORE_BYTES = 64 * 1024,
    PIECES_FIRST = NET_HEAVY_PIECES + NET_PIECES_FULL,
    IOV_PIECES_MAX = 1024,
};

struct net_chunk {
    struct net_chunk *next;
    size_t capacity;
    size_t used;
    uint8_t bytes[];
};

/* ---- Building ----------------------------------------------------------------------------- */

size_t net_reply_fixed_bytes(void)
{
    return CHUNK_BASE_BYTES + sizeof(struct net_chunk) + PIECES_FIRST * sizeof(struct net_piece);
}

static struct net_chunk *chunk_create(size_t capacity)
{
    struct net_chunk *chunk = malloc(sizeof *chunk + capacity);
    if (chunk) {
        chunk->next = NULL;
        chunk->capacity = capacity;
        chunk->used = 0;
    }
    return chunk;
}

static void chunks_free(struct net_chunk *chunk, struct net_account *account)
{
    while (chunk) {
        struct net_chunk *next = chunk->next;
        net_account_give(account, chunk->capacity);
        free(chunk);
        chunk = next;
    }
}

bool net_reply_create(struct net_reply *reply, const struct net_handler *handler,
                      struct net_account *account)
{
    *reply = (struct net_reply){.handler = handler, .account = account};
    reply->base = chunk_create(CHUNK_BASE_BYTES);
    reply->newest = reply->base;
    reply->pieces = malloc(PIECES_FIRST * sizeof *reply->pieces);
    reply->piece_capacity = PIECES_FIRST;
    if (!reply->base || !reply->pieces) {
        net_reply_destroy(reply);
        return false;
    }
    return true;
}

void net_reply_destroy(struct net_reply *reply)
{
    if (reply->base) {
        net_reply_reset(reply);
    }
    free(reply->pieces);
    free(reply->base);
    *reply = (struct net_reply){.handler = NULL};
}

void net_reply_reset(struct net_reply *reply)
{
    struct net_chunk *chunk = reply->newest;
    while (chunk != reply->base) {
        struct net_chunk *next = chunk->next;
        net_account_give(reply->account, chunk->capacity);
        free(chunk);
        chunk = next;
    }
    reply->newest = reply->base;
    reply->base->used = 0;
    reply->piece_count = 0;
    reply->whole_bytes = 0;
    reply->hurries = false;
    net_reply_begin(reply);
    if (reply->piece_capacity > PIECES_FIRST) {
        struct net_piece *fewer = realloc(reply->pieces, PIECES_FIRST * sizeof *fewer);
        if (fewer) {
            reply->pieces = fewer;
            reply->piece_capacity = PIECES_FIRST;
        }
    }
}

void net_reply_begin(struct net_reply *reply)
{
    reply->room_bytes = 0;
    reply->part_first = reply->piece_count;
    reply->size_bytes = 0;
    reply->patient = false;
    reply->failed = false;
}

struct net_part net_reply_part(const struct net_reply *reply)
{
    return (struct net_part){.first = reply->part_first,
                             .end = reply->piece_count,
                             .is_long = reply->size_bytes > 2 * NET_QUOTA_BYTES,
                             .failed = reply->failed};
}

bool net_reply_is_heavy(const struct net_reply *reply)
{
    return reply->hurries || reply->newest != reply->base ||
           reply->whole_bytes >= NET_HEAVY_BYTES || reply->piece_count >= NET_HEAVY_PIECES;
}

uint8_t *net_reply_room(struct net_reply *reply, size_t size_bytes)
{
    struct net_chunk *chunk = reply->newest;
    reply->room_bytes = 0;
    if (chunk->capacity - chunk->used < size_bytes) {
        size_t capacity = size_bytes > CHUNK_MORE_BYTES ? size_bytes : CHUNK_MORE_BYTES;
        if (!net_account_take(reply->account, capacity, reply->now_ms)) {
            return NULL;
        }
        chunk = chunk_create(capacity);
        if (!chunk) {
            net_account_give(reply->account, capacity);
            return NULL;
        }
        chunk->next = reply->newest;
        reply->newest = chunk;
    }
    reply->room_bytes = size_bytes;
    return chunk->bytes + chunk->used;
}

static void add_piece(struct net_reply *reply, struct net_piece piece)
{
    if (reply->piece_count == reply->piece_capacity) {
        unsigned capacity = reply->piece_capacity * 2;
        struct net_piece *more = realloc(reply->pieces, capacity * sizeof *more);
        if (!more) {
            reply->failed = true;
            return;
        }
        reply->pieces = more;
        reply->piece_capacity = capacity;
    }
    reply->pieces[reply->piece_count++] = piece;
}

void net_reply_commit(struct net_reply *reply, size_t used_bytes)
{
    assert(used_bytes <= reply->room_bytes);
    if (used_bytes == 0) {
        return;
    }
    struct net_chunk *chunk = reply->newest;
    const uint8_t *data = chunk->bytes + chunk->used;
    chunk->used += used_bytes;
    reply->room_bytes -= used_bytes;
    reply->size_bytes += used_bytes;
    reply->whole_bytes += used_bytes;
    bool has_last = reply->piece_count > reply->part_first;
    struct net_piece *last = has_last ? &reply->pieces[reply->piece_count - 1] : NULL;
    if (last && !last->object && last->data + last->size == data) {
        last->size += used_bytes;
    } else {
        add_piece(reply, (struct net_piece){.data = data, .size = used_bytes});
    }
}

void net_reply_refer(struct net_reply *reply, const void *data, size_t size_bytes,
                     const void *object, size_t object_bytes)
{
    assert(object && object_bytes >= size_bytes);
    if (size_bytes == 0) {
        return;
    }
    reply->size_bytes += size_bytes;
    reply->whole_bytes += size_bytes;
    add_piece(reply, (struct net_piece){.data = data,
                                        .size = size_bytes,
                                        .object = object,
                                        .object_bytes = object_bytes});
}

void net_reply_hurry(struct net_reply *reply)
{
    reply->hurries = true;
}

void net_reply_be_patient(struct net_reply *reply)
{
    reply->patient = true;
}

bool net_reply_is_full(const struct net_reply *reply)
{
    size_t quota =
        net_buffers_have_room(reply->account->buffers) ? NET_QUOTA_BYTES : NET_FLOOR_BYTES;
    return reply->size_bytes >= quota || reply->piece_count - reply->part_first >= NET_PIECES_FULL;
}

/* ---- Sending ------------------------------------------------------------------------------ */

/* One call for pieces that are one run of bytes: the kernel then has no list to take over. */
static ssize_t send_one(const struct net_piece *piece, int fd, size_t most)
{
    size_t size = piece->size < most ? piece->size : most;
    return send(fd, piece->data, size, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t send_many(const struct net_piece *pieces, unsigned count, int fd, size_t most)
{
    struct iovec iov[IOV_PIECES_MAX];
    unsigned used = 0;
    size_t left = most;
    for (unsigned i = 0; i < count && used < IOV_PIECES_MAX && left > 0; i++, used++) {
        size_t size = pieces[i].size < left ? pieces[i].size : left;
        iov[used] = (struct iovec){.iov_base = (void *)(uintptr_t)pieces[i].data, .iov_len = size};
        left -= size;
    }
    struct msghdr message = {.msg_iov = iov, .msg_iovlen = used};
    return sendmsg(fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* One call of at most `most` bytes from pieces[*first] on; trims and steps over what went out. */
static enum net_sent send_pieces(struct net_piece *pieces, unsigned *first, unsigned count, int fd,
                                 size_t most, uint64_t *sent_bytes)
{
    ssize_t sent;
    do {
        const struct net_piece *next = &pieces[*first];
        sent = count - *first == 1 ? send_one(next, fd, most)
                                   : send_many(next, count - *first, fd, most);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0) {
        return errno == EAGAIN || errno == EWOULDBLOCK ? NET_SENT_PART : NET_SENT_FAILED;
    }
    *sent_bytes += (uint64_t)sent;
    size_t done = (size_t)sent;
    while (*first < count && done >= pieces[*first].size) {
        done -= pieces[*first].size;
        (*first)++;
    }
    if (*first < count) {
        pieces[*first].data += done;
        pieces[*first].size -= done;
        return NET_SENT_PART;
    }
    assert(done == 0);
    return NET_SENT_ALL;
}

enum net_sent net_reply_send(struct net_reply *reply, struct net_part *part, int fd,
                             size_t share_bytes, uint64_t *sent_bytes)
{
    if (part->failed) {
        errno = ENOMEM;
        return NET_SENT_FAILED;
    }
    if (part->first == part->end) {
        return NET_SENT_ALL;
    }
    return send_pieces(reply->pieces, &part->first, part->end, fd,
                       part->is_long ? share_bytes : NET_QUOTA_BYTES, sent_bytes);
}

/* A pinned object is in memory whole until here, however much of it was sent. */
static void unpin_pieces(struct net_output *output, unsigned from, unsigned to,
                         const struct net_handler *handler, struct net_account *account)
{
    for (unsigned i = from; i < to; i++) {
        const struct net_piece *piece = &output->pieces[i];
        if (piece->object) {
            handler->unpin(piece->object);
            assert(output->held_bytes >= piece->object_bytes);
            output->held_bytes -= piece->object_bytes;
            net_account_release(account, piece->object_bytes);
        }
    }
}

enum net_sent net_output_send(struct net_output *output, const struct net_handler *handler,
                              struct net_account *account, int fd, size_t share_bytes,
                              uint64_t *sent_bytes)
{
    unsigned first = output->first;
    enum net_sent outcome =
        send_pieces(output->pieces, &output->first, output->count, fd, share_bytes, sent_bytes);
    unpin_pieces(output, first, output->first, handler, account);
    return outcome;
}

/* ---- Keeping ------------------------------------------------------------------------------ */

static bool in_chunk(const struct net_chunk *chunk, const uint8_t *data)
{
    return data >= chunk->bytes && data < chunk->bytes + chunk->capacity;
}

struct net_output *net_reply_keep(struct net_reply *reply, const struct net_part *part)
{
    unsigned count = part->end - part->first;
    size_t copied_bytes = 0;
    for (unsigned i = part->first; i < part->end; i++) {
        bool copied = in_chunk(reply->base, reply->pieces[i].data);
        copied_bytes += copied ? reply->pieces[i].size : 0;
    }
    size_t own_bytes = sizeof(struct net_output) + count * sizeof(struct net_piece);
    struct net_output *output = malloc(own_bytes);
    struct net_chunk *copies = chunk_create(copied_bytes);
    if (!output || !copies) {
        free(output);
        free(copies);
        return NULL;
    }
    *output = (struct net_output){.count = count, .owned_bytes = own_bytes};
    const void *kept = NULL;
    for (unsigned i = count; i > 0; i--) {
        struct net_piece *piece = &output->pieces[i - 1];
        *piece = reply->pieces[part->first + i - 1];
        if (in_chunk(reply->base, piece->data)) {
            memcpy(copies->bytes + copies->used, piece->data, piece->size);
            piece->data = copies->bytes + copies->used;
            copies->used += piece->size;
        } else if (piece->object && piece->object == kept) {
            piece->object = NULL; /* a later piece keeps it, and counts it once */
        } else if (piece->object) {
            kept = piece->object;
            reply->handler->pin(kept);
            output->held_bytes += piece->object_bytes;
        }
    }
    net_account_force(reply->account, own_bytes + copies->capacity);
    net_account_hold(reply->account, output->held_bytes);
    output->chunks = copies;
    bool is_last = part->end == reply->piece_count;
    while (is_last && reply->newest != reply->base) {
        struct net_chunk *taken = reply->newest;
        reply->newest = taken->next;
        taken->next = output->chunks;
        output->chunks = taken;
    }
    return output;
}

size_t net_output_bytes(const struct net_output *output)
{
    size_t sum = output->owned_bytes + output->held_bytes;
    for (const struct net_chunk *chunk = output->chunks; chunk; chunk = chunk->next) {
        sum += chunk->capacity;
    }
    return sum;
}

void net_output_free(struct net_output *output, const struct net_handler *handler,
                     struct net_account *account)
{
    unpin_pieces(output, output->first, output->count, handler, account);
    assert(output->held_bytes == 0);
    net_account_give(account, output->owned_bytes);
    chunks_free(output->chunks, account);
    free(output);
}
