/*
 * Blobs, written: a step as it lies on disk. A fixed part, the names of its keys, the table of
 * segments, texts and tool calls, the payload last. The keys come early, so that the first chunk
 * has them all. Owns nothing.
 */
#include "store/record_blob.h"
#include "wire/parse.h"

#include <assert.h>
#include <xxhash.h>

/* These numbers are on disk. */
static_assert(RECORD_RESPONSE_ID == 2 && RECORD_TOOL_CALL == 3 && RECORD_PREFIX == 4, "format");
static_assert(WIRE_KIND_TEXT == 0 && WIRE_KIND_TOKENS == 1 && WIRE_KIND_OPAQUE == 2, "format");
static_assert(BLOB_KEY + KEYS_MAX * KEY_BYTES <= RECORD_VALUE_MAX - RECORD_SEAL_BYTES,
              "the first chunk holds all keys");

struct key_list {
    unsigned count;
    struct record_key keys[KEYS_MAX];
};

static void add_key(struct key_list *list, struct record_namer namer, enum record_kind kind,
                    struct bytes id)
{
    struct record_key key = {.name = index_hash_with(namer.secret, namer.tenant, (uint8_t)kind, id),
                             .kind = (uint8_t)kind};
    for (unsigned i = 0; i < list->count; i++) {
        const struct record_key *other = &list->keys[i];
        if (other->kind == key.kind && other->name.low == key.name.low &&
            other->name.high == key.name.high) {
            return; /* the step names one tool call twice */
        }
    }
    assert(list->count < KEYS_MAX);
    list->keys[list->count++] = key;
}

static void collect_keys(const struct step_parts *parts, struct record_namer namer,
                         struct key_list *list)
{
    list->count = 0;
    if (parts->response_id.size > 0) {
        add_key(list, namer, RECORD_RESPONSE_ID, parts->response_id);
    }
    if (parts->prefix.size > 0) {
        add_key(list, namer, RECORD_PREFIX, parts->prefix);
    }
    struct wire_list calls = {.encoded = parts->tool_calls, .count = parts->tool_call_count};
    struct bytes id;
    while (wire_list_next(&calls, &id)) {
        add_key(list, namer, RECORD_TOOL_CALL, id);
    }
}

static uint8_t flags_of(const struct step_parts *parts)
{
    return (uint8_t)((parts->final ? FLAG_FINAL : 0) | (parts->has_tokens ? FLAG_HAS_TOKENS : 0) |
                     (parts->prefix.size > 0 ? FLAG_HAS_PREFIX : 0) |
                     (parts->visible.size > 0 ? FLAG_HAS_VISIBLE : 0) |
                     (parts->inherited ? FLAG_INHERITED : 0) | (parts->corrupt ? FLAG_CORRUPT : 0));
}

static void put_fixed(uint8_t *at, const struct step_parts *parts, unsigned key_count)
{
    assert(parts->segment_count <= WIRE_PAYLOADS_MAX);
    assert(parts->tool_call_count <= WIRE_TOOL_CALLS_MAX);
    assert(parts->segments.size == (size_t)parts->segment_count * SEGMENT_BYTES);
    assert(parts->prefix.size == 0 || parts->prefix.size == WIRE_PREFIX_BYTES);
    assert(parts->visible.size == 0 || parts->visible.size == WIRE_PREFIX_BYTES);
    assert(parts->response_id.size <= WIRE_ID_BYTES_MAX && parts->model.size <= WIRE_ID_BYTES_MAX);
    assert(parts->tool_calls.size <= UINT16_MAX && parts->payload.size <= SEGMENT_BYTES_MAX);
    at[BLOB_FLAGS] = flags_of(parts);
    at[BLOB_SEGMENTS] = parts->segment_count;
    at[BLOB_TOOL_CALLS] = parts->tool_call_count;
    at[BLOB_RESPONSE_ID_BYTES] = (uint8_t)parts->response_id.size;
    at[BLOB_MODEL_BYTES] = (uint8_t)parts->model.size;
    at[BLOB_KEYS] = (uint8_t)key_count;
    bytes_store_be16(at + BLOB_TOOL_CALL_BYTES, (uint16_t)parts->tool_calls.size);
    bytes_store_be32(at + BLOB_NUMBER, parts->number);
    bytes_store_be32(at + BLOB_VERSION, parts->version);
    bytes_store_be32(at + BLOB_TURN, parts->turn);
    bytes_store_be32(at + BLOB_TOKENS, parts->tokens);
    bytes_store_be32(at + BLOB_PAYLOAD_BYTES, (uint32_t)parts->payload.size);
}

static uint8_t *put_keys(uint8_t *at, const struct key_list *list)
{
    for (unsigned i = 0; i < list->count; i++) {
        at[0] = list->keys[i].kind;
        bytes_store_be64(at + 1, list->keys[i].name.low);
        bytes_store_be64(at + 9, list->keys[i].name.high);
        at += KEY_BYTES;
    }
    return at;
}

static uint8_t *put_segments(uint8_t *at, const struct step_parts *parts)
{
    for (unsigned i = 0; i < parts->segment_count; i++) {
        uint32_t entry;
        memcpy(&entry, parts->segments.data + i * sizeof entry, sizeof entry);
        bytes_store_be32(at, entry);
        at += SEGMENT_BYTES;
    }
    return at;
}

/* All but the payload, to `at`; returns the end. */
static uint8_t *put_meta(uint8_t *at, const struct step_parts *parts, const struct key_list *list)
{
    put_fixed(at, parts, list->count);
    at = put_keys(at + BLOB_KEY, list);
    at = put_segments(at, parts);
    at = record_put_bytes(at, parts->response_id);
    at = record_put_bytes(at, parts->prefix);
    at = record_put_bytes(at, parts->visible);
    at = record_put_bytes(at, parts->model);
    return record_put_bytes(at, parts->tool_calls);
}

bool record_put_step(struct record_buffer *buffer, const struct step_parts *parts,
                     struct record_namer namer, enum record_compression compression)
{
    struct key_list list;
    collect_keys(parts, namer, &list);
    size_t begin = buffer->size;
    size_t meta_bytes = BLOB_KEY + (size_t)list.count * KEY_BYTES + parts->segments.size +
                        parts->response_id.size + parts->prefix.size + parts->visible.size +
                        parts->model.size + parts->tool_calls.size;
    uint8_t *blob = record_reserve(buffer, meta_bytes);
    if (!blob) {
        return false;
    }
    uint8_t *end = put_meta(blob, parts, &list);
    assert(end == blob + meta_bytes);
    buffer->size += meta_bytes;
    struct record_payload payload;
    if (!record_put_payload(buffer, parts, compression, &payload)) {
        buffer->size = begin;
        return false;
    }
    blob = buffer->data + begin;
    blob[BLOB_FLAGS] |=
        (uint8_t)((payload.compressed ? FLAG_ZSTD : 0) | (payload.width > 0 ? FLAG_PACKED : 0));
    bytes_store_be64(blob + BLOB_SUM,
                     XXH3_64bits(blob + BLOB_FLAGS, buffer->size - begin - BLOB_FLAGS));
    return true;
}
