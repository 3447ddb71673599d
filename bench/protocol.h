/*
 * What the load generator must know of a protocol: how to write a request and how to judge a reply.
 * Requests are written by hand, so that the generator costs little.
 *
 * Every key is 24 bytes; every value begins with its key's number, and the rest is a piece of one
 * random pool at a place that follows from the key: so a reply for another key never passes.
 */
#ifndef RETHREAD_BENCH_PROTOCOL_H
#define RETHREAD_BENCH_PROTOCOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    PROTOCOL_KEY_BYTES = 24,
    PROTOCOL_STAMP_BYTES = 8,   /* smallest value */
    PROTOCOL_SLACK_BYTES = 320, /* a request or a reply beyond its value */
    PROTOCOL_IN_FLIGHT_MAX = 128,
    PROTOCOL_TTL_S = 300, /* of every key on every side */
};

enum protocol_op { PROTOCOL_APPEND, PROTOCOL_REPLAY, PROTOCOL_FORGET };

/* The values of one series of keys. */
struct protocol_values {
    const uint8_t *pool; /* pool_bytes + value_bytes long */
    size_t pool_bytes;   /* a power of two */
    size_t value_bytes;
    uint64_t series; /* tells the keys of one round, and of one run, from all others */
};

#define PROTOCOL_BROKEN SIZE_MAX

struct protocol {
    const char *name;
    /* Writes the request for `key`, which the reply will name `slot`; returns its length. */
    size_t (*request)(const struct protocol_values *values, enum protocol_op op, unsigned slot,
                      uint64_t key, uint8_t *out);
    /* The length of the reply that `in` begins with, 0 while that is unknown; PROTOCOL_BROKEN. */
    size_t (*reply_bytes)(const uint8_t *in, size_t size);
    /* Which request the whole reply answers; `next` is the oldest one that is not answered. */
    unsigned (*reply_slot)(const uint8_t *reply, unsigned next);
    /* Whether each byte of the reply is the right one. */
    bool (*reply_is_right)(const struct protocol_values *values, enum protocol_op op, unsigned slot,
                           uint64_t key, const uint8_t *reply, size_t size);
};

extern const struct protocol protocol_rethread;
extern const struct protocol protocol_redis;

/* Spreads the bits of a number over all 64; no two numbers give the same. */
static inline uint64_t protocol_mix(uint64_t number)
{
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    number = (number ^ number >> 27) * UINT64_C(0x94d049bb133111eb);
    return number ^ number >> 31;
}

void protocol_write_key(const struct protocol_values *values, uint64_t key,
                        uint8_t out[PROTOCOL_KEY_BYTES]);
void protocol_write_value(const struct protocol_values *values, uint64_t key, uint8_t *out);
bool protocol_value_is_right(const struct protocol_values *values, uint64_t key,
                             const uint8_t *value);

#endif
