/*
 * What the steps of traffic hold: a number gives the same bytes each time, and no other number
 * does.
 */
#ifndef RETHREAD_BENCH_CONTENT_H
#define RETHREAD_BENCH_CONTENT_H

#include <stdint.h>

enum { CONTENT_BYTES_MIN = 200, CONTENT_BYTES_MAX = 64 * 1024 };

/* The next number of the sequence that starts at *state (any value). */
uint64_t content_random(uint64_t *state);

uint8_t *content_pool(uint64_t seed); /* NULL: no memory; to be freed */

/* Writes the content of `number` to `out`, which has room for CONTENT_BYTES_MAX; returns its size.
 * Three of four are words, the others do not compress; small ones are as many as large ones. */
uint32_t content_make(const uint8_t *pool, uint64_t number, uint8_t *out);

#endif
