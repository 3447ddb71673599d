/*
 * How long a test tries, and with which numbers: counts follow RETHREAD_TEST_SCALE (percent), and
 * random choices come from a seed, so that a failure comes back.
 */
#ifndef RETHREAD_TESTS_LIB_TRIAL_H
#define RETHREAD_TESTS_LIB_TRIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

/* `count` times the scale, at least 1. */
static inline uint64_t trial_count(uint64_t count)
{
    const char *text = getenv("RETHREAD_TEST_SCALE");
    long percent = text != NULL ? strtol(text, NULL, 10) : 100;
    uint64_t scaled = count * (uint64_t)(percent > 0 ? percent : 100) / 100;
    return scaled > 0 ? scaled : 1;
}

/* The next number of the sequence that starts at *state (any value). */
static inline uint64_t trial_random(uint64_t *state)
{
    uint64_t x = *state += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

/* A number below `limit`. */
static inline uint64_t trial_below(uint64_t *state, uint64_t limit)
{
    return trial_random(state) % limit;
}

/* Fills an object with bytes that only (size, seed) gives; checks them. */
static inline void trial_fill(uint8_t *at, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        at[i] = (uint8_t)(seed + i * 7);
    }
}

static inline bool trial_holds(const uint8_t *at, size_t size, uint64_t seed)
{
    for (size_t i = 0; i < size; i++) {
        if (at[i] != (uint8_t)(seed + i * 7)) {
            return false;
        }
    }
    return true;
}

#endif
