/*
 * Payloads on disk: all segments back to back, their token ids packed (store/tokens.h) where that
 * gains something, all of it compressed where that does. Owns nothing but the compressor that a
 * buffer keeps.
 */
#include "store/record_blob.h"
#include "store/tokens.h"

#include <assert.h>
#include <zstd.h>

enum { COMPRESS_BYTES_MIN = 64, COMPRESS_LEVEL = 1 };

/* ---- Segments ------------------------------------------------------------------------------ */

struct segment {
    size_t size;
    bool is_tokens;
};

/* The next of a table as in struct step_parts; false: no more. */
static bool next_segment(struct bytes *table, struct segment *segment)
{
    uint32_t entry;
    struct bytes taken;
    if (!record_take(table, sizeof entry, &taken)) {
        return false;
    }
    memcpy(&entry, taken.data, sizeof entry);
    *segment = (struct segment){.size = entry & SEGMENT_BYTES_MAX,
                                .is_tokens = entry >> SEGMENT_KIND_SHIFT == WIRE_KIND_TOKENS};
    return true;
}

/* ---- Writing ------------------------------------------------------------------------------- */

/* Bits of the widest token id; 0: a run of token ids has a part of one. Nobody may send such, and
 * it is kept as it is. */
static unsigned width_of(const struct step_parts *parts)
{
    struct bytes table = parts->segments, rest = parts->payload, bytes;
    struct segment segment;
    unsigned width = TOKENS_WIDTH_MIN;
    while (next_segment(&table, &segment)) {
        bool taken = record_take(&rest, segment.size, &bytes);
        assert(taken);
        if (segment.is_tokens && segment.size % TOKENS_ID_BYTES != 0) {
            return 0;
        }
        unsigned widest = segment.is_tokens ? tokens_width(bytes) : 0;
        width = widest > width ? widest : width;
    }
    assert(rest.size == 0);
    return width;
}

static size_t packed_size_of(struct bytes table, unsigned width)
{
    size_t sum = 0;
    for (struct segment segment; next_segment(&table, &segment);) {
        sum += segment.is_tokens ? tokens_packed_bytes(segment.size / TOKENS_ID_BYTES, width)
                                 : segment.size;
    }
    return sum;
}

/* Decides whether token ids are packed. */
static struct record_payload plan(const struct step_parts *parts)
{
    struct record_payload plan = {.size = parts->payload.size, .packed_size = parts->payload.size};
    unsigned width = width_of(parts);
    size_t packed_size = width > 0 ? packed_size_of(parts->segments, width) : plan.size;
    if (packed_size + 1 < plan.size) { /* the width takes a byte */
        plan.width = width;
        plan.packed_size = packed_size;
    }
    return plan;
}

static void pack(uint8_t *at, const struct step_parts *parts, unsigned width)
{
    struct bytes table = parts->segments, rest = parts->payload, bytes;
    struct segment segment;
    while (next_segment(&table, &segment)) {
        bool taken = record_take(&rest, segment.size, &bytes);
        assert(taken);
        at = segment.is_tokens ? tokens_pack(at, bytes, width) : record_put_bytes(at, bytes);
    }
}

size_t record_compress(struct record_buffer *buffer, uint8_t *at, struct bytes payload)
{
    if (payload.size < COMPRESS_BYTES_MIN) {
        return 0;
    }
    if (!buffer->compressor) {
        buffer->compressor = ZSTD_createCCtx();
        if (!buffer->compressor) {
            return 0;
        }
    }
    size_t room = payload.size - (payload.size + 7) / 8;
    size_t size =
        ZSTD_compressCCtx(buffer->compressor, at, room, payload.data, payload.size, COMPRESS_LEVEL);
    return ZSTD_isError(size) ? 0 : size;
}

bool record_put_payload(struct record_buffer *buffer, const struct step_parts *parts,
                        enum record_compression compression, struct record_payload *written)
{
    *written = plan(parts);
    size_t packed_size = written->packed_size;
    bool packs = written->width > 0;
    /* What is packed lies behind its place until it is compressed. */
    size_t behind = packs && compression == RECORD_ZSTD ? packed_size : 0;
    uint8_t *at = record_reserve(buffer, packs + packed_size + behind);
    if (!at) {
        return false;
    }
    struct bytes plain = parts->payload;
    if (packs) {
        *at++ = (uint8_t)written->width;
        pack(at + behind, parts, written->width);
        plain = bytes_of(at + behind, packed_size);
    }
    size_t stored = compression == RECORD_ZSTD ? record_compress(buffer, at, plain) : 0;
    written->compressed = stored > 0;
    if (stored == 0 && plain.size > 0) {
        memmove(at, plain.data, plain.size);
    }
    buffer->size += packs + (stored > 0 ? stored : packed_size);
    return true;
}

/* ---- Reading ------------------------------------------------------------------------------- */

bool record_is_payload(const struct record_payload *payload)
{
    struct bytes stored = payload->stored;
    return payload->compressed
               ? ZSTD_getFrameContentSize(stored.data, stored.size) == payload->packed_size &&
                     /* No block takes less than 4 bytes, nor gives more than its maximum. */
                     payload->packed_size / ZSTD_BLOCKSIZE_MAX <= stored.size / 4
               : stored.size == payload->packed_size;
}

/* `packed` may be the end of what is written: a segment never gets smaller by unpacking. */
static void unpack(uint8_t *at, struct bytes packed, struct bytes table, unsigned width)
{
    struct bytes bytes;
    struct segment segment;
    while (next_segment(&table, &segment)) {
        size_t count = segment.size / TOKENS_ID_BYTES;
        bool taken = record_take(
            &packed, segment.is_tokens ? tokens_packed_bytes(count, width) : segment.size, &bytes);
        assert(taken);
        if (segment.is_tokens) {
            tokens_unpack(at, count, bytes.data, width);
        } else if (bytes.size > 0) {
            memmove(at, bytes.data, bytes.size);
        }
        at += segment.size;
    }
    assert(packed.size == 0);
}

bool record_open_payload(const struct record_payload *payload, struct bytes segments, uint8_t *at)
{
    struct bytes packed = payload->stored;
    assert(payload->packed_size <= payload->size);
    if (payload->compressed) {
        uint8_t *end = at + (payload->size - payload->packed_size);
        size_t size = ZSTD_decompress(end, payload->packed_size, packed.data, packed.size);
        if (ZSTD_isError(size) || size != payload->packed_size) {
            return false;
        }
        packed = bytes_of(end, size);
    }
    if (payload->width > 0) {
        unpack(at, packed, segments, payload->width);
    } else if (!payload->compressed) {
        record_put_bytes(at, packed);
    }
    return true;
}
