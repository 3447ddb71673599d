/*
 * JSON for weaving: jansson, with limits, sentences that quote nothing, and numbers kept as
 * written.
 *
 * jansson holds numbers as 64-bit integers and doubles: it refuses 12345678901234567890 and 1e400,
 * and writes 0.1 back with other digits. So each number that is no plain integer of at most 18
 * digits is a *literal*: before jansson sees the text its place is taken by a real that is the
 * literal's number in a table, and after jansson has written it is put back. Trees that share a
 * table may be mixed. A literal points into the text that was read, which must live as long.
 */
#ifndef RETHREAD_CLIENT_WEAVE_JSON_H
#define RETHREAD_CLIENT_WEAVE_JSON_H

#include "rethread_weave.h"

#include <jansson.h>

enum {
    WEAVE_TRANSCRIPT_DEPTH_MAX = 256,
    WEAVE_TRANSCRIPT_VALUES_MAX = 1 << 20,
    WEAVE_TRANSCRIPT_BYTES_MAX = 256 << 20,
    WEAVE_ENVELOPE_DEPTH_MAX = 512,
    WEAVE_ENVELOPES_VALUES_MAX = 4 << 20, /* of all envelopes of a replay together */
    WEAVE_ERROR_BYTES = 200,
};

/* No call, no step, no segment. */
#define WEAVE_NONE SIZE_MAX

/* One sentence; "" for none. */
struct weave_error {
    char text[WEAVE_ERROR_BYTES];
};

void weave_error_set(struct weave_error *error, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* Bytes that grow; the owner frees data. A NUL that is not counted stands behind them. */
struct weave_text {
    char *data;
    size_t size;
    size_t room;
};

/* False: no memory. */
bool weave_text_add(struct weave_text *text, const void *bytes, size_t size);

/* Makes room for one more item of an array. False: no memory, and the array is as it was. */
bool weave_json_grow(void **items, size_t *room, size_t count, size_t item_bytes);

struct weave_literal {
    const char *text;
    size_t size;
};

/* The table of literals, and what may be read. Starts zeroed. */
struct weave_json {
    size_t depth_max;
    size_t values_max; /* members, elements, containers; of all texts since the limit was set */
    size_t values;
    struct weave_literal *literals;
    size_t literal_count;
    size_t literal_room;
};

void weave_json_limit(struct weave_json *json, size_t depth_max, size_t values_max);
void weave_json_free(struct weave_json *json);

/*
 * Reads any JSON value into *root, the caller's. INVALID_ARGUMENT: it is none, or has a member
 * twice, or a NUL in a member's name. TOO_LARGE: it is beyond the limits. NO_MEMORY.
 */
enum rethread_status weave_json_read(struct weave_json *json, struct rethread_bytes text,
                                     json_t **root, struct weave_error *error);

/* Adds compact JSON to `out`. False: no memory. */
bool weave_json_print(const struct weave_json *json, const json_t *value, size_t flags,
                      struct weave_text *out);

/* A shallow copy of an object, whole or NULL: jansson's own loses members for want of memory. */
json_t *weave_json_copy(json_t *object);

/* Whether a JSON string can hold the bytes. */
bool weave_json_is_utf8(struct rethread_bytes bytes);

/* The bytes of a string; absent when it is none. */
struct rethread_bytes weave_json_bytes(const json_t *string);

#endif
