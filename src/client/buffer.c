/* A growing run of bytes. */
#include "client/buffer.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

enum {
    CAPACITY_MIN = 512,
    CAPACITY_KEPT = 256 * 1024,
};

bool client_buffer_reserve(struct client_buffer *buffer, size_t size)
{
    assert(buffer->begin <= buffer->end && buffer->end <= buffer->capacity);
    if (buffer->capacity - buffer->end >= size)
        return true;
    size_t held = client_buffer_size(buffer);
    /* Moving at most half of the memory keeps the cost of a byte constant. */
    if (held <= buffer->capacity / 2 && buffer->capacity - held >= size) {
        memmove(buffer->data, buffer->data + buffer->begin, held);
        buffer->begin = 0;
        buffer->end = held;
        return true;
    }
    if (size > SIZE_MAX / 2 - held)
        return false;
    size_t capacity = held + size;
    if (capacity < held + held / 2)
        capacity = held + held / 2;
    if (capacity < CAPACITY_MIN)
        capacity = CAPACITY_MIN;
    uint8_t *data = malloc(capacity);
    if (data == NULL)
        return false;
    if (held > 0)
        memcpy(data, buffer->data + buffer->begin, held);
    free(buffer->data);
    *buffer = (struct client_buffer){.data = data, .end = held, .capacity = capacity};
    return true;
}

bool client_buffer_append(struct client_buffer *buffer, const void *bytes, size_t size)
{
    if (size == 0)
        return true;
    if (!client_buffer_reserve(buffer, size))
        return false;
    memcpy(buffer->data + buffer->end, bytes, size);
    buffer->end += size;
    return true;
}

void client_buffer_consume(struct client_buffer *buffer, size_t size)
{
    assert(size <= client_buffer_size(buffer));
    buffer->begin += size;
    if (buffer->begin < buffer->end)
        return;
    buffer->begin = 0;
    buffer->end = 0;
    if (buffer->capacity > CAPACITY_KEPT)
        client_buffer_clear(buffer);
}

void client_buffer_clear(struct client_buffer *buffer)
{
    free(buffer->data);
    *buffer = (struct client_buffer){.data = NULL};
}
