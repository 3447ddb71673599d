/* Keys and values, the same for every protocol; see protocol.h. */
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

void protocol_write_key(const struct protocol_values *values, uint64_t key,
                        uint8_t out[PROTOCOL_KEY_BYTES])
{
    assert(key <= UINT32_MAX);
    write_hex(values->series, 16, out);
    write_hex(key, 8, out + 16);
}

static const uint8_t *pool_at(const struct protocol_values *values, uint64_t key)
{
    return values->pool + (protocol_mix(key ^ values->series) & (values->pool_bytes - 1));
}

static uint64_t stamp_of(const struct protocol_values *values, uint64_t key)
{
    return protocol_mix(values->series) + key;
}

void protocol_write_value(const struct protocol_values *values, uint64_t key, uint8_t *out)
{
    assert(values->value_bytes >= PROTOCOL_STAMP_BYTES);
    bytes_store_be64(out, stamp_of(values, key));
    memcpy(out + PROTOCOL_STAMP_BYTES, pool_at(values, key),
           values->value_bytes - PROTOCOL_STAMP_BYTES);
}

bool protocol_value_is_right(const struct protocol_values *values, uint64_t key,
                             const uint8_t *value)
{
    return bytes_load_be64(value) == stamp_of(values, key) &&
           memcmp(value + PROTOCOL_STAMP_BYTES, pool_at(values, key),
                  values->value_bytes - PROTOCOL_STAMP_BYTES) == 0;
}
