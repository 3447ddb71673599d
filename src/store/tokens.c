/* Token ids, packed and unpacked, block by block. */
#include "store/tokens.h"

#include <assert.h>

enum {
    LOW_BYTES = 2,
    LOW_BITS = 16,
    BLOCK_BYTES_MAX = TOKENS_BLOCK * TOKENS_ID_BYTES,
};

static_assert(TOKENS_BLOCK % 8 == 0, "the upper bits of a whole block end at a byte");
static_assert((int)TOKENS_WIDTH_MIN == LOW_BITS && (int)TOKENS_WIDTH_MAX == 2 * LOW_BITS, "halves");

static uint32_t load_id(const uint8_t *at)
{
    return (uint32_t)at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static void store_id(uint8_t *at, uint32_t id)
{
    at[0] = (uint8_t)id;
    at[1] = (uint8_t)(id >> 8);
    at[2] = (uint8_t)(id >> 16);
    at[3] = (uint8_t)(id >> 24);
}

unsigned tokens_width(struct bytes ids)
{
    uint32_t all = 0;
    unsigned width = TOKENS_WIDTH_MIN;
    assert(ids.size % TOKENS_ID_BYTES == 0);
    for (size_t at = 0; at < ids.size; at += TOKENS_ID_BYTES) {
        all |= load_id(ids.data + at);
    }
    while (width < TOKENS_WIDTH_MAX && all >> width != 0) {
        width++;
    }
    return width;
}

size_t tokens_packed_bytes(size_t count, unsigned width)
{
    assert(width >= TOKENS_WIDTH_MIN && width <= TOKENS_WIDTH_MAX);
    assert(count <= SIZE_MAX / TOKENS_WIDTH_MAX);
    return count * LOW_BYTES + (count * (width - LOW_BITS) + 7) / 8;
}

static uint8_t *pack_upper(uint8_t *at, const uint8_t *ids, size_t count, unsigned bits)
{
    uint32_t held = 0; /* fewer than 8 bits, but for those of the id at work */
    unsigned held_bits = 0;
    for (size_t i = 0; i < count; i++) {
        uint32_t upper = load_id(ids + i * TOKENS_ID_BYTES) >> LOW_BITS;
        assert(upper >> bits == 0);
        held = held << bits | upper;
        held_bits += bits;
        while (held_bits >= 8) {
            held_bits -= 8;
            *at++ = (uint8_t)(held >> held_bits);
        }
    }
    if (held_bits > 0) {
        *at++ = (uint8_t)(held << (8 - held_bits));
    }
    return at;
}

uint8_t *tokens_pack(uint8_t *at, struct bytes ids, unsigned width)
{
    const uint8_t *end = at + tokens_packed_bytes(ids.size / TOKENS_ID_BYTES, width);
    assert(ids.size % TOKENS_ID_BYTES == 0);
    for (size_t begin = 0; begin < ids.size; begin += BLOCK_BYTES_MAX) {
        size_t size = ids.size - begin < BLOCK_BYTES_MAX ? ids.size - begin : BLOCK_BYTES_MAX;
        const uint8_t *block = ids.data + begin;
        for (size_t i = 0; i < size; i += TOKENS_ID_BYTES) {
            at[0] = block[i + 1];
            at[1] = block[i];
            at += LOW_BYTES;
        }
        at = pack_upper(at, block, size / TOKENS_ID_BYTES, width - LOW_BITS);
    }
    assert(at == end);
    return at;
}

/* A block of which nothing overlaps with what is written. */
static void unpack_block(uint8_t *at, size_t count, const uint8_t *packed, unsigned bits)
{
    const uint8_t *upper = packed + count * LOW_BYTES;
    uint32_t mask = (UINT32_C(1) << bits) - 1;
    uint32_t held = 0;
    unsigned held_bits = 0;
    for (size_t i = 0; i < count; i++) {
        while (held_bits < bits) {
            held = held << 8 | *upper++;
            held_bits += 8;
        }
        held_bits -= bits;
        uint32_t low = bytes_load_be16(packed + i * LOW_BYTES);
        store_id(at + i * TOKENS_ID_BYTES, (held >> held_bits & mask) << LOW_BITS | low);
    }
}

void tokens_unpack(uint8_t *at, size_t count, const uint8_t *packed, unsigned width)
{
    uint8_t block[BLOCK_BYTES_MAX]; /* a copy, since what it gives may be written over it */
    while (count > 0) {
        size_t now = count < TOKENS_BLOCK ? count : TOKENS_BLOCK;
        size_t size = tokens_packed_bytes(now, width);
        memcpy(block, packed, size);
        unpack_block(at, now, block, width - LOW_BITS);
        at += now * TOKENS_ID_BYTES;
        packed += size;
        count -= now;
    }
}
