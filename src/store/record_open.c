/* Blobs, read: every length is looked at before it is used. Owns nothing. */
#include "store/record_blob.h"
#include "store/tokens.h"
#include "wire/cursor.h"

#include <xxhash.h>

/* A blob whose lengths fit together. `parts` leads into it, but for the segments, which are still
 * as they lie there, and the payload, which is apart. */
struct opened {
    struct step_parts parts;
    uint8_t flags;
    struct record_payload payload;
    struct bytes keys;
};

static bool are_keys(struct bytes keys)
{
    for (size_t at = 0; at < keys.size; at += KEY_BYTES) {
        uint8_t kind = keys.data[at];
        if (kind != RECORD_RESPONSE_ID && kind != RECORD_TOOL_CALL && kind != RECORD_PREFIX) {
            return false;
        }
    }
    return true;
}

/* The fixed part and the keys; *rest is what comes behind them. */
static bool open_front(struct bytes blob, struct opened *opened, struct bytes *rest)
{
    struct bytes fixed;
    if (!record_take(&blob, BLOB_KEY, &fixed)) {
        return false;
    }
    const uint8_t *at = fixed.data;
    uint8_t flags = at[BLOB_FLAGS];
    *opened = (struct opened){
        .flags = flags,
        .payload = {.size = bytes_load_be32(at + BLOB_PAYLOAD_BYTES),
                    .compressed = (flags & FLAG_ZSTD) != 0},
        .parts = {.number = bytes_load_be32(at + BLOB_NUMBER),
                  .version = bytes_load_be32(at + BLOB_VERSION),
                  .turn = bytes_load_be32(at + BLOB_TURN),
                  .tokens = bytes_load_be32(at + BLOB_TOKENS),
                  .final = (flags & FLAG_FINAL) != 0,
                  .has_tokens = (flags & FLAG_HAS_TOKENS) != 0,
                  .corrupt = (flags & FLAG_CORRUPT) != 0,
                  .inherited = (flags & FLAG_INHERITED) != 0,
                  .segment_count = at[BLOB_SEGMENTS],
                  .tool_call_count = at[BLOB_TOOL_CALLS]},
    };
    if (at[BLOB_SEGMENTS] > WIRE_PAYLOADS_MAX || at[BLOB_TOOL_CALLS] > WIRE_TOOL_CALLS_MAX ||
        at[BLOB_KEYS] > KEYS_MAX || opened->payload.size > SEGMENT_BYTES_MAX ||
        !record_take(&blob, (size_t)at[BLOB_KEYS] * KEY_BYTES, &opened->keys)) {
        return false;
    }
    *rest = blob;
    return are_keys(opened->keys);
}

/* Whether they add up to the payload. Fills in its size when it is packed. */
static bool are_segments(struct bytes segments, struct record_payload *payload)
{
    uint64_t sum = 0;
    payload->packed_size = 0;
    for (size_t at = 0; at < segments.size; at += SEGMENT_BYTES) {
        uint32_t entry = bytes_load_be32(segments.data + at);
        uint32_t kind = entry >> SEGMENT_KIND_SHIFT, size = entry & SEGMENT_BYTES_MAX;
        bool packed = payload->width > 0 && kind == WIRE_KIND_TOKENS;
        if (kind >= WIRE_KIND_COUNT || (packed && size % TOKENS_ID_BYTES != 0)) {
            return false;
        }
        sum += size;
        payload->packed_size +=
            packed ? tokens_packed_bytes(size / TOKENS_ID_BYTES, payload->width) : size;
    }
    return sum == payload->size;
}

/* Whoever walks the list later trusts it. */
static bool are_ids(struct bytes encoded, unsigned count)
{
    struct wire_cursor cursor = wire_cursor_on(encoded);
    struct wire_item item;
    for (unsigned i = 0; i < count; i++) {
        if (!wire_take(&cursor, &item) ||
            (item.type != WIRE_ITEM_STR && item.type != WIRE_ITEM_BIN) || item.bytes.size == 0 ||
            item.bytes.size > WIRE_ID_BYTES_MAX) {
            return false;
        }
    }
    return wire_left(&cursor) == 0;
}

/* The width of packed token ids and what is behind it, the payload; false: no such width. */
static bool take_payload(struct opened *opened, struct bytes rest)
{
    struct record_payload *payload = &opened->payload;
    if (opened->flags & FLAG_PACKED) {
        struct bytes width;
        if (!record_take(&rest, 1, &width) || *width.data < TOKENS_WIDTH_MIN ||
            *width.data > TOKENS_WIDTH_MAX) {
            return false;
        }
        payload->width = *width.data;
    }
    payload->stored = rest;
    return are_segments(opened->parts.segments, payload) && record_is_payload(payload);
}

static bool open_blob(struct bytes blob, struct opened *opened)
{
    struct bytes rest;
    if (!open_front(blob, opened, &rest)) {
        return false;
    }
    struct step_parts *parts = &opened->parts;
    if (parts->corrupt) {
        *parts = (struct step_parts){.number = parts->number,
                                     .version = parts->version,
                                     .corrupt = true,
                                     .inherited = parts->inherited};
        return blob.size == BLOB_KEY && opened->payload.size == 0;
    }
    size_t segment_bytes = (size_t)parts->segment_count * SEGMENT_BYTES;
    size_t prefix_bytes = opened->flags & FLAG_HAS_PREFIX ? WIRE_PREFIX_BYTES : 0;
    size_t visible_bytes = opened->flags & FLAG_HAS_VISIBLE ? WIRE_PREFIX_BYTES : 0;
    if (!record_take(&rest, segment_bytes, &parts->segments) ||
        !record_take(&rest, blob.data[BLOB_RESPONSE_ID_BYTES], &parts->response_id) ||
        !record_take(&rest, prefix_bytes, &parts->prefix) ||
        !record_take(&rest, visible_bytes, &parts->visible) ||
        !record_take(&rest, blob.data[BLOB_MODEL_BYTES], &parts->model) ||
        !record_take(&rest, bytes_load_be16(blob.data + BLOB_TOOL_CALL_BYTES),
                     &parts->tool_calls)) {
        return false;
    }
    return are_ids(parts->tool_calls, parts->tool_call_count) && take_payload(opened, rest);
}

/* At least 1, since 0 means damaged. */
static size_t scratch_bytes_of(const struct opened *opened)
{
    const struct step_parts *parts = &opened->parts;
    return 1 + parts->segments.size + parts->response_id.size + parts->prefix.size +
           parts->visible.size + parts->model.size + parts->tool_calls.size + opened->payload.size;
}

size_t record_step_bytes(struct bytes blob)
{
    struct opened opened;
    return open_blob(blob, &opened) ? scratch_bytes_of(&opened) : 0;
}

static uint8_t *move_bytes(uint8_t *at, struct bytes *bytes)
{
    uint8_t *end = record_put_bytes(at, *bytes);
    *bytes = bytes_of(at, bytes->size);
    return end;
}

static uint8_t *move_segments(uint8_t *at, struct step_parts *parts)
{
    struct bytes stored = parts->segments;
    for (size_t i = 0; i < stored.size; i += SEGMENT_BYTES) {
        uint32_t entry = bytes_load_be32(stored.data + i);
        memcpy(at + i, &entry, sizeof entry);
    }
    parts->segments = bytes_of(at, stored.size);
    return at + stored.size;
}

static bool is_sum_right(struct bytes blob)
{
    return bytes_load_be64(blob.data + BLOB_SUM) ==
           XXH3_64bits(blob.data + BLOB_FLAGS, blob.size - BLOB_FLAGS);
}

bool record_open_step(struct bytes blob, uint8_t *scratch, size_t scratch_bytes,
                      struct step_parts *parts)
{
    struct opened opened;
    if (!open_blob(blob, &opened) || scratch_bytes < scratch_bytes_of(&opened) ||
        !is_sum_right(blob)) {
        return false;
    }
    *parts = opened.parts;
    uint8_t *at = move_segments(scratch, parts);
    at = move_bytes(at, &parts->response_id);
    at = move_bytes(at, &parts->prefix);
    at = move_bytes(at, &parts->visible);
    at = move_bytes(at, &parts->model);
    at = move_bytes(at, &parts->tool_calls);
    parts->payload = bytes_of(at, opened.payload.size);
    return record_open_payload(&opened.payload, parts->segments, at);
}

struct bytes record_compress_step(struct record_buffer *buffer, struct bytes blob)
{
    struct opened opened;
    if (!open_blob(blob, &opened) || opened.parts.corrupt || opened.payload.compressed ||
        !is_sum_right(blob)) {
        return blob;
    }
    buffer->size = 0;
    uint8_t *at = record_reserve(buffer, blob.size);
    if (!at) {
        buffer->failed = false;
        return blob;
    }
    size_t front = blob.size - opened.payload.stored.size;
    size_t stored = record_compress(buffer, at + front, opened.payload.stored);
    if (stored == 0) {
        return blob;
    }
    memcpy(at, blob.data, front);
    at[BLOB_FLAGS] |= FLAG_ZSTD;
    buffer->size = front + stored;
    bytes_store_be64(at + BLOB_SUM, XXH3_64bits(at + BLOB_FLAGS, buffer->size - BLOB_FLAGS));
    return bytes_of(at, buffer->size);
}

static void show_front(const struct opened *opened, struct bytes blob, struct record_step *step)
{
    *step = (struct record_step){.number = opened->parts.number,
                                 .version = opened->parts.version,
                                 .corrupt = opened->parts.corrupt,
                                 .inherited = opened->parts.inherited,
                                 .key_count = (unsigned)(opened->keys.size / KEY_BYTES),
                                 .keys = opened->keys,
                                 .blob = blob};
}

bool record_step_keys(struct bytes blob, struct record_step *keys)
{
    struct opened opened;
    struct bytes rest;
    if (!open_front(blob, &opened, &rest)) {
        return false;
    }
    show_front(&opened, blob, keys);
    return true;
}

bool record_survey_step(struct bytes blob, struct record_step *step)
{
    struct opened opened;
    if (!open_blob(blob, &opened)) {
        return false;
    }
    show_front(&opened, blob, step);
    return true;
}

bool record_next_key(struct record_step *step, struct record_key *key)
{
    struct bytes taken;
    if (!record_take(&step->keys, KEY_BYTES, &taken)) {
        return false;
    }
    *key = (struct record_key){
        .kind = taken.data[0],
        .name = {.low = bytes_load_be64(taken.data + 1), .high = bytes_load_be64(taken.data + 9)}};
    return true;
}
