/*
 * Token ids packed for the disk: as few bits each as the widest of them takes, and still so that
 * a compressor finds what repeats.
 *
 * In memory and on the wire an id is a little-endian u32. Packed, the ids of a run lie in blocks of
 * TOKENS_BLOCK, the last one shorter. A block is the low halves of its ids, 2 bytes each,
 * big-endian, and behind them what their width has above 16 bits, that many bits each without gaps,
 * the first in the highest bits, the last byte filled up with zero bits. The width belongs to the
 * run and is kept by whoever keeps the run: 16 bits at least, 32 at the most, and exact for every
 * u32.
 *
 * Why so (bytes per id on reasoning text of 6.5 million ids below 152k, ranked with noise or
 * hashed, and on uniform ones below 200k; alone, then behind zstd -1): 2.2, 2.3, 2.3, then
 * 0.88, 1.22, 2.26. u32: 4, then 1.05, 1.15, 3.1. Bits without the halves: as small alone,
 * then 1.23, 1.52, 2.26. Varints: 2.0, 2.9, 2.9, then 0.90, 1.11, 2.92. Byte planes: 3,
 * then 1.04, 1.59, 2.9.
 *
 * Pure functions over bytes; no I/O, no state.
 */
#ifndef RETHREAD_STORE_TOKENS_H
#define RETHREAD_STORE_TOKENS_H

#include "base/bytes.h"

enum {
    TOKENS_ID_BYTES = 4,
    TOKENS_WIDTH_MIN = 16,
    TOKENS_WIDTH_MAX = 32,
    TOKENS_BLOCK =
        1024, /* ids: a block's upper bits end at a byte, and unpacking in place is safe */
};

/* Bits of the widest of the ids (a multiple of 4 bytes), TOKENS_WIDTH_MIN at least. */
unsigned tokens_width(struct bytes ids);

/* Bytes of that many ids, packed; never more than unpacked. */
size_t tokens_packed_bytes(size_t count, unsigned width);

/* Writes tokens_packed_bytes of them; returns where they end. No id is wider than `width`. */
uint8_t *tokens_pack(uint8_t *at, struct bytes ids, unsigned width);

/*
 * Writes `count` ids to `at`, reads tokens_packed_bytes of them and not one byte more; any bytes
 * give some ids. `packed` may overlap with what is written if it ends where that ends, or later.
 */
void tokens_unpack(uint8_t *at, size_t count, const uint8_t *packed, unsigned width);

#endif
