/* A Feistel network over two halves: any round function makes it a permutation. */
#include "thread/cursor.h"

#include <xxhash.h>

enum { ROUNDS = 8 };

struct halves {
    uint64_t left, right;
};

static uint64_t mix(const struct threads *threads, uint64_t half, uint64_t round)
{
    const uint64_t words[2] = {half, round};
    return XXH3_64bits_withSecret(words, sizeof words, threads->cursor_secret,
                                  sizeof threads->cursor_secret);
}

void cursor_seal(const struct threads *threads, const struct index_scan *scan,
                 uint8_t cursor[THREAD_CURSOR_BYTES])
{
    static_assert(THREAD_CURSOR_BYTES == sizeof(struct halves), "two halves");
    struct halves at = {.left = scan->position, .right = scan->after};
    for (uint64_t round = 0; round < ROUNDS; round++) {
        at = (struct halves){.left = at.right, .right = at.left ^ mix(threads, at.right, round)};
    }
    bytes_store_be64(cursor, at.left);
    bytes_store_be64(cursor + 8, at.right);
}

bool cursor_open(const struct threads *threads, struct bytes cursor, struct index_scan *scan)
{
    if (cursor.size != THREAD_CURSOR_BYTES) {
        return false;
    }
    struct halves at = {.left = bytes_load_be64(cursor.data),
                        .right = bytes_load_be64(cursor.data + 8)};
    for (uint64_t round = ROUNDS; round-- > 0;) {
        at = (struct halves){.left = at.right ^ mix(threads, at.left, round), .right = at.left};
    }
    *scan = (struct index_scan){.position = at.left, .after = (uint32_t)at.right};
    return at.right <= UINT32_MAX;
}
