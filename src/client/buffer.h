/*
 * A growing run of bytes, filled at its end and taken from its start.
 *
 * The one who embeds it owns it. Growth is by what is asked for, at least by half of what is there.
 */
#ifndef RETHREAD_CLIENT_BUFFER_H
#define RETHREAD_CLIENT_BUFFER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct client_buffer {
    uint8_t *data; /* NULL at first */
    size_t begin;  /* the bytes held are data[begin..end) */
    size_t end;
    size_t capacity;
};

static inline size_t client_buffer_size(const struct client_buffer *buffer)
{
    return buffer->end - buffer->begin;
}

/* Makes room for `size` more bytes after end; false: no memory, and nothing has changed. */
bool client_buffer_reserve(struct client_buffer *buffer, size_t size);

/* As above, and appends them. */
bool client_buffer_append(struct client_buffer *buffer, const void *bytes, size_t size);

/* Drops bytes from the start; memory beyond what an idle connection needs goes back when empty. */
void client_buffer_consume(struct client_buffer *buffer, size_t size);

/* Frees the memory and leaves the buffer empty, ready for use. */
void client_buffer_clear(struct client_buffer *buffer);

#endif
