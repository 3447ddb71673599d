/*
 * Layout of a blob, for the two that write and read it. Private.
 */
#ifndef RETHREAD_STORE_RECORD_BLOB_H
#define RETHREAD_STORE_RECORD_BLOB_H

#include "store/record_private.h"
#include "wire/request.h"

/* Places in a blob. */
enum {
    BLOB_SUM = 0, /* XXH3-64 over all that follows */
    BLOB_FLAGS = 8,
    BLOB_SEGMENTS = 9,
    BLOB_TOOL_CALLS = 10,
    BLOB_RESPONSE_ID_BYTES = 11,
    BLOB_MODEL_BYTES = 12,
    BLOB_KEYS = 13,
    BLOB_TOOL_CALL_BYTES = 14,
    BLOB_NUMBER = 16,
    BLOB_VERSION = 20,
    BLOB_TURN = 24,
    BLOB_TOKENS = 28,
    BLOB_PAYLOAD_BYTES = 32,
    BLOB_KEY = 36,
};

/* BLOB_FLAGS. */
enum {
    FLAG_FINAL = 1,
    FLAG_HAS_TOKENS = 2,
    FLAG_HAS_PREFIX = 4,
    FLAG_INHERITED = 8,
    FLAG_CORRUPT = 16,
    FLAG_ZSTD = 32,
    FLAG_HAS_VISIBLE = 64,
    FLAG_PACKED = 128,
};

enum {
    KEY_BYTES = 17, /* kind, name */
    KEYS_MAX = WIRE_TOOL_CALLS_MAX + 2,
    SEGMENT_BYTES = 4,
    SEGMENT_KIND_SHIFT = 30,
    SEGMENT_BYTES_MAX = (1 << SEGMENT_KIND_SHIFT) - 1,
};

#endif
