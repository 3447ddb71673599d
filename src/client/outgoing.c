/* Bytes on their way out. */
#include "client/outgoing.h"

#include <assert.h>
#include <string.h>

bool client_outgoing_copy(struct client_outgoing *outgoing, const void *bytes, size_t size)
{
    if (!client_buffer_append(&outgoing->own, bytes, size))
        return false;
    outgoing->own_after_last += size;
    return true;
}

bool client_outgoing_borrow(struct client_outgoing *outgoing, struct rethread_bytes bytes)
{
    if (outgoing->count == CLIENT_BORROWED_MAX)
        return false;
    outgoing->borrowed[outgoing->count].after = outgoing->own_after_last;
    outgoing->borrowed[outgoing->count].bytes = bytes;
    outgoing->count++;
    outgoing->borrowed_bytes += bytes.size;
    outgoing->own_after_last = 0;
    return true;
}

struct client_outgoing_mark client_outgoing_mark(const struct client_outgoing *outgoing)
{
    return (struct client_outgoing_mark){
        .size = client_outgoing_size(outgoing),
        .count = outgoing->count,
        .own_size = client_buffer_size(&outgoing->own),
        .own_after_last = outgoing->own_after_last,
    };
}

void client_outgoing_rewind(struct client_outgoing *outgoing, struct client_outgoing_mark mark)
{
    while (outgoing->count > mark.count)
        outgoing->borrowed_bytes -= outgoing->borrowed[--outgoing->count].bytes.size;
    outgoing->own.end = outgoing->own.begin + mark.own_size;
    outgoing->own_after_last = mark.own_after_last;
    assert(client_outgoing_size(outgoing) == mark.size);
}

int client_outgoing_pieces(const struct client_outgoing *outgoing,
                           struct iovec pieces[CLIENT_PIECES_MAX])
{
    uint8_t *own = outgoing->own.data;
    int count = 0;
    if (own != NULL)
        own += outgoing->own.begin;
    for (size_t i = outgoing->first; i < outgoing->count; i++) {
        size_t after = outgoing->borrowed[i].after;
        struct rethread_bytes bytes = outgoing->borrowed[i].bytes;
        if (after > 0) {
            pieces[count++] = (struct iovec){.iov_base = own, .iov_len = after};
            own += after;
        }
        /* sendmsg only reads, whatever its type says. */
        pieces[count++] =
            (struct iovec){.iov_base = (void *)(uintptr_t)bytes.data, .iov_len = bytes.size};
    }
    if (outgoing->own_after_last > 0)
        pieces[count++] = (struct iovec){.iov_base = own, .iov_len = outgoing->own_after_last};
    assert(count <= CLIENT_PIECES_MAX);
    return count;
}

static size_t less_of(size_t a, size_t b)
{
    return a < b ? a : b;
}

void client_outgoing_sent(struct client_outgoing *outgoing, size_t size)
{
    assert(size <= client_outgoing_size(outgoing));
    while (outgoing->first < outgoing->count && size > 0) {
        size_t *after = &outgoing->borrowed[outgoing->first].after;
        struct rethread_bytes *bytes = &outgoing->borrowed[outgoing->first].bytes;
        size_t part = less_of(size, *after);
        client_buffer_consume(&outgoing->own, part);
        *after -= part;
        size -= part;
        part = less_of(size, bytes->size);
        bytes->data = (const uint8_t *)bytes->data + part;
        bytes->size -= part;
        outgoing->borrowed_bytes -= part;
        size -= part;
        if (bytes->size == 0)
            outgoing->first++;
    }
    if (outgoing->first == outgoing->count) {
        outgoing->first = 0;
        outgoing->count = 0;
    }
    client_buffer_consume(&outgoing->own, size);
    outgoing->own_after_last -= size;
}

bool client_outgoing_settle(struct client_outgoing *outgoing)
{
    if (outgoing->first == outgoing->count)
        return true;
    struct client_buffer settled = {.data = NULL};
    if (!client_buffer_reserve(&settled, client_outgoing_size(outgoing)))
        return false;
    struct iovec pieces[CLIENT_PIECES_MAX];
    int count = client_outgoing_pieces(outgoing, pieces);
    for (int i = 0; i < count; i++) {
        memcpy(settled.data + settled.end, pieces[i].iov_base, pieces[i].iov_len);
        settled.end += pieces[i].iov_len;
    }
    client_outgoing_clear(outgoing);
    outgoing->own = settled;
    outgoing->own_after_last = client_buffer_size(&settled);
    return true;
}

void client_outgoing_clear(struct client_outgoing *outgoing)
{
    client_buffer_clear(&outgoing->own);
    outgoing->first = 0;
    outgoing->count = 0;
    outgoing->borrowed_bytes = 0;
    outgoing->own_after_last = 0;
}
