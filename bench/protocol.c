/* Names and steps, the same for every protocol; see protocol.h. */
#include "bench/protocol.h"

#include "base/bytes.h"

#include <assert.h>
#include <string.h>

static void write_hex(uint64_t number, unsigned digits, uint8_t *out)
{
    for (unsigned i = 0; i < digits; i++) {
        out[i] = (uint8_t) "0123456789abcdef"[number >> 4 * (digits - 1 - i) & 15];
    }
}

static uint64_t number_of(uint32_t thread, uint32_t step)
{
    return (uint64_t)step << 32 | thread;
}

uint32_t protocol_step_bytes(const struct protocol_values *values, uint32_t thread, uint32_t step)
{
    return values->size_of != NULL ? values->size_of(values->shape, thread, step)
                                   : values->value_bytes;
}

void protocol_write_name(const struct protocol_values *values, uint32_t thread,
                         uint8_t out[PROTOCOL_NAME_BYTES])
{
    write_hex(values->series, 16, out);
    write_hex(thread, 8, out + 16);
}

static const uint8_t *pool_at(const struct protocol_values *values, uint32_t thread, uint32_t step)
{
    uint64_t place = protocol_mix(number_of(thread, step) ^ values->series);
    return values->pool + (place & (values->pool_bytes - 1));
}

static uint64_t stamp_of(const struct protocol_values *values, uint32_t thread, uint32_t step)
{
    return protocol_mix(values->series) + number_of(thread, step);
}

void protocol_write_step(const struct protocol_values *values, uint32_t thread, uint32_t step,
                         uint8_t *out)
{
    uint32_t size = protocol_step_bytes(values, thread, step);
    assert(size >= PROTOCOL_STAMP_BYTES);
    bytes_store_be64(out, stamp_of(values, thread, step));
    memcpy(out + PROTOCOL_STAMP_BYTES, pool_at(values, thread, step), size - PROTOCOL_STAMP_BYTES);
}

bool protocol_step_is_right(const struct protocol_values *values, uint32_t thread, uint32_t step,
                            const uint8_t *bytes)
{
    uint32_t size = protocol_step_bytes(values, thread, step);
    return bytes_load_be64(bytes) == stamp_of(values, thread, step) &&
           memcmp(bytes + PROTOCOL_STAMP_BYTES, pool_at(values, thread, step),
                  size - PROTOCOL_STAMP_BYTES) == 0;
}
