/*
 * The fields of results: what each result's map may hold, and how it gets into the public structs.
 *
 * Reads bytes that wire_walk has passed; allocates in the result only.
 */
#ifndef RETHREAD_CLIENT_FIELDS_H
#define RETHREAD_CLIENT_FIELDS_H

#include "client/items.h"
#include "client/result.h"

struct client_decoder {
    struct wire_cursor cursor;
    struct rethread_result *result;
    bool no_memory; /* why a function returned false; otherwise the bytes are to blame */
};

/* Zeroed memory of the result; NULL sets no_memory. */
void *client_decoder_alloc(struct client_decoder *decoder, size_t count, size_t size);

/* A copy in the result, with a NUL behind it. */
bool client_copy_text(struct client_decoder *decoder, struct rethread_bytes text,
                      const char **copy);

/* Reads the map under the cursor into the result, by its method. */
bool client_read_result(struct client_decoder *decoder);

/* Reads {section: {name: number}}; anything else in it is passed over. */
bool client_read_info(struct client_decoder *decoder, struct rethread_info_result *info);

/* Reads the map under the cursor as an error. */
bool client_read_error(struct client_decoder *decoder);

#endif
