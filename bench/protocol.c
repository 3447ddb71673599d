/* Names, steps and keys, the same for every protocol, and judging by pieces; see protocol.h. */
#include "bench/protocol_private.h"

#include "base/bytes.h"

#include <assert.h>

size_t protocol_put_hex(uint8_t *out, uint64_t number, unsigned digits)
{
    for (unsigned i = 0; i < digits; i++) {
        out[i] = (uint8_t) "0123456789abcdef"[number >> 4 * (digits - 1 - i) & 15];
    }
    return digits;
}

size_t protocol_put_decimal(uint8_t *out, uint64_t number)
{
    uint8_t digits[PROTOCOL_DECIMAL_BYTES_MAX];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    for (size_t i = 0; i < count; i++) {
        out[i] = digits[count - 1 - i];
    }
    return count;
}

/* ---- What a series of threads holds ---- */

void protocol_write_name(const struct protocol_values *values, uint32_t thread,
                         uint8_t out[PROTOCOL_NAME_BYTES])
{
    protocol_put_hex(out, values->series, 16);
    protocol_put_hex(out + 16, thread, 8);
}

/* No two steps of a series have the same. */
static uint64_t step_number(uint32_t thread, uint32_t step)
{
    return (uint64_t)step << 32 | thread;
}

uint32_t protocol_step_bytes(const struct protocol_values *values, uint32_t thread, uint32_t step)
{
    uint32_t bytes = values->size_of != NULL ? values->size_of(values->shape, thread, step)
                                             : values->value_bytes;
    assert(bytes == 0 || bytes >= PROTOCOL_STAMP_BYTES);
    return bytes;
}

static const uint8_t *pool_at(const struct protocol_values *values, uint32_t thread, uint32_t step)
{
    uint64_t place = protocol_mix(step_number(thread, step) ^ values->series);
    return values->pool + (place & (values->pool_bytes - 1));
}

static void write_stamp(const struct protocol_values *values, uint32_t thread, uint32_t step,
                        uint8_t out[PROTOCOL_STAMP_BYTES])
{
    bytes_store_be64(out, protocol_mix(values->series) + step_number(thread, step));
}

void protocol_write_step(const struct protocol_values *values, uint32_t thread, uint32_t step,
                         uint8_t *out)
{
    uint32_t bytes = protocol_step_bytes(values, thread, step);
    if (bytes > 0) {
        write_stamp(values, thread, step, out);
        memcpy(out + PROTOCOL_STAMP_BYTES, pool_at(values, thread, step),
               bytes - PROTOCOL_STAMP_BYTES);
    }
}

bool protocol_step_is_right(const struct protocol_values *values, uint32_t thread, uint32_t step,
                            const uint8_t *bytes)
{
    struct protocol_judge judge = {.reply = bytes, .to = protocol_step_bytes(values, thread, step)};
    protocol_judge_step(&judge, values, thread, step);
    return !judge.wrong;
}

size_t protocol_write_key(const struct protocol_values *values, uint32_t thread, uint32_t step,
                          enum protocol_key key, uint8_t out[PROTOCOL_KEY_BYTES_MAX])
{
    uint64_t high = protocol_mix(step_number(thread, step) ^ values->series);
    uint64_t low = protocol_mix(values->series) ^ step_number(thread, step);
    if (key == PROTOCOL_PREFIX) {
        bytes_store_be64(out, high);
        bytes_store_be64(out + 8, low);
        return 16;
    }
    memcpy(out, key == PROTOCOL_RESPONSE_ID ? "rs" : "tc", 2);
    protocol_put_hex(out + 2, high, 16);
    protocol_put_hex(out + 18, low, 8);
    return 26;
}

/* ---- Judging ---- */

void protocol_judge_bytes(struct protocol_judge *judge, const void *data, size_t size)
{
    size_t begin = judge->at > judge->from ? judge->at : judge->from;
    size_t end = judge->at + size < judge->to ? judge->at + size : judge->to;
    if (begin < end && memcmp(judge->reply + begin, (const uint8_t *)data + (begin - judge->at),
                              end - begin) != 0) {
        judge->wrong = true;
    }
    judge->at += size;
}

void protocol_judge_step(struct protocol_judge *judge, const struct protocol_values *values,
                         uint32_t thread, uint32_t step)
{
    uint32_t bytes = protocol_step_bytes(values, thread, step);
    if (bytes > 0) {
        uint8_t stamp[PROTOCOL_STAMP_BYTES];
        write_stamp(values, thread, step, stamp);
        protocol_judge_bytes(judge, stamp, sizeof stamp);
        protocol_judge_bytes(judge, pool_at(values, thread, step), bytes - PROTOCOL_STAMP_BYTES);
    }
}

bool protocol_part_is_right(const struct protocol *protocol, const struct protocol_values *values,
                            const struct protocol_item *item, unsigned slot, const uint8_t *reply,
                            size_t from, size_t to)
{
    struct protocol_judge judge = {.reply = reply, .from = from, .to = to, .partial = true};
    protocol->judge(&judge, values, item, slot);
    return judge.at >= to && !judge.wrong;
}

bool protocol_reply_is_right(const struct protocol *protocol, const struct protocol_values *values,
                             const struct protocol_item *item, unsigned slot, const uint8_t *reply,
                             size_t from, size_t size)
{
    struct protocol_judge judge = {.reply = reply, .from = from, .to = size};
    protocol->judge(&judge, values, item, slot);
    return judge.at == size && !judge.wrong;
}

/* ---- Lines of text ---- */

unsigned protocol_in_order(const uint8_t *reply, unsigned next)
{
    (void)reply;
    return next;
}

size_t protocol_line_bytes(const uint8_t *in, size_t size)
{
    size_t seen = size < PROTOCOL_LINE_BYTES_MAX ? size : PROTOCOL_LINE_BYTES_MAX;
    const uint8_t *end = seen > 0 ? memchr(in, '\n', seen) : NULL;
    if (end != NULL) {
        return (size_t)(end - in) + 1;
    }
    return seen < PROTOCOL_LINE_BYTES_MAX ? 0 : PROTOCOL_BROKEN;
}

size_t protocol_read_decimal(const uint8_t *line, size_t size)
{
    size_t number = 0;
    size_t at = 0;
    for (; at < size && line[at] >= '0' && line[at] <= '9' && number < UINT32_MAX; at++) {
        number = number * 10 + (size_t)(line[at] - '0');
    }
    return at > 0 ? number : PROTOCOL_BROKEN;
}
