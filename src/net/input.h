/*
 * A connection's unfinished input: data[start..end), owned, empty most of the time.
 *
 * It grows with what was received, never with what a frame declares: a buffer is at most double
 * what it holds while a frame is received into it, at most four times that once requests were
 * taken out of it, or NET_SMALL_BYTES.
 */
#ifndef RETHREAD_NET_INPUT_H
#define RETHREAD_NET_INPUT_H

#include "base/bytes.h"
#include "net/buffers.h"

enum {
    /* Up to here input is copied before the next receive, so that frames behind it lie together;
     * more is received straight into its place. */
    NET_INPUT_COPIED_BYTES = 16 * 1024,
};

struct net_input {
    uint8_t *data;
    size_t start;
    size_t end;
    size_t capacity;
};

static inline size_t net_input_size(const struct net_input *input)
{
    return input->end - input->start;
}

static inline struct bytes net_input_view(const struct net_input *input)
{
    return input->data ? bytes_of(input->data + input->start, net_input_size(input))
                       : bytes_of(NULL, 0);
}

/*
 * Room behind the input, where *at points: 0 when it may not grow. `need` is the size of the frame
 * that the input begins with; the buffer never grows beyond it.
 */
size_t net_input_grow(struct net_input *input, struct net_account *account, uint64_t need,
                      uint64_t now_ms, uint8_t **at);
void net_input_received(struct net_input *input, size_t size_bytes);

/*
 * Keeps `view` without its first `used` bytes. The view is the input itself, or the input and more
 * in other memory. What arrived must be kept, so this may exceed the cap. False: no memory.
 */
bool net_input_keep(struct net_input *input, struct net_account *account, struct bytes view,
                    size_t used);

void net_input_clear(struct net_input *input, struct net_account *account);

#endif
