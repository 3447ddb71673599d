/* Stores what a turn could not use up. */
#include "net/input.h"

#include <assert.h>
#include <stdlib.h>

enum { ROUND_BYTES = 64 };

void net_input_clear(struct net_input *input, struct net_account *account)
{
    if (input->data) {
        net_account_give(account, input->capacity);
        free(input->data);
    }
    *input = (struct net_input){.data = NULL};
}

size_t net_input_grow(struct net_input *input, struct net_account *account, uint64_t need,
                      uint64_t now_ms, uint8_t **at)
{
    size_t size = net_input_size(input);
    assert(size > 0 && need > size);
    if (input->end == input->capacity && input->start > 0) {
        memmove(input->data, input->data + input->start, size);
        input->start = 0;
        input->end = size;
    }
    if (input->end == input->capacity) {
        size_t more = need - size < size ? (size_t)(need - size) : size;
        if (!net_account_take(account, more, now_ms)) {
            return 0;
        }
        uint8_t *data = realloc(input->data, input->capacity + more);
        if (!data) {
            net_account_give(account, more);
            return 0;
        }
        input->data = data;
        input->capacity += more;
    }
    *at = input->data + input->end;
    return input->capacity - input->end;
}

void net_input_received(struct net_input *input, size_t size_bytes)
{
    assert(size_bytes <= input->capacity - input->end);
    input->end += size_bytes;
}

static bool fits_well(const struct net_input *input, size_t size)
{
    return input->capacity >= size &&
           (input->capacity <= NET_SMALL_BYTES || input->capacity / 4 <= size);
}

bool net_input_keep(struct net_input *input, struct net_account *account, struct bytes view,
                    size_t used)
{
    assert(used <= view.size);
    const uint8_t *rest = view.data + used;
    size_t size = view.size - used;
    bool in_place = input->data && view.data == input->data + input->start;
    if (size == 0) {
        net_input_clear(input, account);
        return true;
    }
    if (in_place && fits_well(input, size)) {
        input->start += used;
        return true;
    }
    if (in_place || !fits_well(input, size)) {
        size_t capacity = (size + ROUND_BYTES - 1) / ROUND_BYTES * ROUND_BYTES;
        uint8_t *data = malloc(capacity);
        if (!data) {
            return false;
        }
        memcpy(data, rest, size);
        net_input_clear(input, account);
        net_account_force(account, capacity);
        *input = (struct net_input){.data = data, .end = size, .capacity = capacity};
        return true;
    }
    memcpy(input->data, rest, size);
    input->start = 0;
    input->end = size;
    return true;
}
