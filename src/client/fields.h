/*
 * The fields of results: what each result's map may hold, and how it gets into the public structs.
 *
 * Reads bytes that wire_walk has passed; allocates in the result only.
 */
#ifndef RETHREAD_CLIENT_FIELDS_H
#define RETHREAD_CLIENT_FIELDS_H

#include "client/result.h"
#include "wire/cursor.h"

struct client_decoder {
    struct wire_cursor cursor;
    struct rethread_result *result;
    bool no_memory; /* why a function returned false; otherwise the bytes are to blame */
};

static inline struct wire_cursor client_cursor_on(struct rethread_bytes bytes)
{
    return wire_cursor_on(bytes_of(bytes.data, bytes.size));
}

/* Each takes the next item; false at the end, and when the item is of another type. */
bool client_take_array(struct wire_cursor *cursor, uint32_t *count);
bool client_take_map(struct wire_cursor *cursor, uint32_t *count);
bool client_take_bytes(struct wire_cursor *cursor, struct rethread_bytes *bytes); /* str or bin */
bool client_take_u64(struct wire_cursor *cursor, uint64_t *value);
bool client_take_bool(struct wire_cursor *cursor, bool *value);

/* Takes a nil if one is next; otherwise leaves the cursor where it is. */
bool client_take_nil(struct wire_cursor *cursor);

/* Zeroed memory of the result; NULL sets no_memory. */
void *client_decoder_alloc(struct client_decoder *decoder, size_t count, size_t size);

/* Reads the map under the cursor into the result, by its method. */
bool client_read_result(struct client_decoder *decoder);

/* Reads the map under the cursor as an error. */
bool client_read_error(struct client_decoder *decoder);

#endif
