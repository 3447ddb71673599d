/* Pieces of a pool of words, or of one of noise, with the number in front; see content.h. */
#include "bench/content.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    PLACES = 1 << 20, /* where a piece may begin */
    HALF_BYTES = PLACES + CONTENT_BYTES_MAX,
    DOUBLINGS = 9, /* from the smallest to the largest */
};

uint64_t content_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

static void fill_words(uint8_t *at, const uint8_t *end, uint64_t *state)
{
    static const char *const words[] = {"the ",  "so ",      "check ",  "function ", "returns ",
                                        "that ", "because ", "let me ", "value ",    "is "};
    while (at < end) {
        uint64_t number = content_random(state);
        char text[24];
        const char *word = words[number % (sizeof words / sizeof *words)];
        if (number >> 32 & 1) {
            snprintf(text, sizeof text, "%u ", (unsigned)(number >> 40) & 0xffff);
            word = text;
        }
        for (; *word && at < end; word++) {
            *at++ = (uint8_t)*word;
        }
    }
}

uint8_t *content_pool(uint64_t seed)
{
    uint8_t *pool = malloc(2 * (size_t)HALF_BYTES);
    if (pool != NULL) {
        fill_words(pool, pool + HALF_BYTES, &seed);
        for (size_t at = HALF_BYTES; at < 2 * (size_t)HALF_BYTES; at += sizeof seed) {
            uint64_t number = content_random(&seed);
            memcpy(pool + at, &number, sizeof number);
        }
    }
    return pool;
}

uint32_t content_make(const uint8_t *pool, uint64_t number, uint8_t *out)
{
    uint64_t state = number;
    uint64_t random = content_random(&state);
    uint32_t low = (uint32_t)CONTENT_BYTES_MIN << (random >> 8 & 0xff) % DOUBLINGS;
    uint32_t bytes = low + (uint32_t)(random >> 16 & 0xffff) * low / 0xffff;
    bytes = bytes < CONTENT_BYTES_MAX ? bytes : CONTENT_BYTES_MAX;
    size_t half = (random & 3) == 0 ? HALF_BYTES : 0;
    memcpy(out, pool + half + (random >> 32) % PLACES, bytes);
    memcpy(out, &number, sizeof number);
    return bytes;
}
