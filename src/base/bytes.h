/*
 * A borrowed run of bytes, and big-endian loads and stores.
 *
 * A struct bytes owns nothing: who hands one out says how long it stays valid.
 */
#ifndef RETHREAD_BASE_BYTES_H
#define RETHREAD_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct bytes {
    const uint8_t *data; /* may be NULL when size is 0 */
    size_t size;
};

static inline struct bytes bytes_of(const void *data, size_t size)
{
    return (struct bytes){.data = data, .size = size};
}

static inline struct bytes bytes_text(const char *text)
{
    return bytes_of(text, strlen(text));
}

static inline bool bytes_equal(struct bytes a, struct bytes b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}

static inline bool bytes_start_with(struct bytes whole, struct bytes start)
{
    return whole.size >= start.size &&
           (start.size == 0 || memcmp(whole.data, start.data, start.size) == 0);
}

static inline uint16_t bytes_load_be16(const uint8_t *p)
{
    return (uint16_t)((unsigned)p[0] << 8 | p[1]);
}

static inline uint32_t bytes_load_be32(const uint8_t *p)
{
    return (uint32_t)bytes_load_be16(p) << 16 | bytes_load_be16(p + 2);
}

static inline uint64_t bytes_load_be64(const uint8_t *p)
{
    return (uint64_t)bytes_load_be32(p) << 32 | bytes_load_be32(p + 4);
}

static inline void bytes_store_be16(uint8_t *p, uint16_t value)
{
    p[0] = (uint8_t)(value >> 8);
    p[1] = (uint8_t)value;
}

static inline void bytes_store_be32(uint8_t *p, uint32_t value)
{
    bytes_store_be16(p, (uint16_t)(value >> 16));
    bytes_store_be16(p + 2, (uint16_t)value);
}

static inline void bytes_store_be64(uint8_t *p, uint64_t value)
{
    bytes_store_be32(p, (uint32_t)(value >> 32));
    bytes_store_be32(p + 4, (uint32_t)value);
}

#endif
