/*
 * Items of MessagePack, taken one by one from bytes that wire_walk has passed. Allocates nothing.
 */
#ifndef RETHREAD_CLIENT_ITEMS_H
#define RETHREAD_CLIENT_ITEMS_H

#include "rethread.h"
#include "wire/cursor.h"

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

#endif
