/* RESP2, Redis's protocol: what one-step threads and lists have in common. */
#include "bench/protocol_private.h"

uint8_t *protocol_put_bulk_head(uint8_t *out, char mark, uint64_t number)
{
    *out++ = (uint8_t)mark;
    out += protocol_put_decimal(out, number);
    PROTOCOL_PUT(out, "\r\n");
    return out;
}

uint8_t *protocol_put_name(uint8_t *out, const struct protocol_values *values, uint32_t thread)
{
    _Static_assert(PROTOCOL_NAME_BYTES == 24, "stands in the text");
    PROTOCOL_PUT(out, "$24\r\n");
    protocol_write_name(values, thread, out);
    out += PROTOCOL_NAME_BYTES;
    PROTOCOL_PUT(out, "\r\n");
    return out;
}

uint8_t *protocol_put_ttl(uint8_t *out, const struct protocol_values *values)
{
    uint8_t digits[PROTOCOL_DECIMAL_BYTES_MAX];
    size_t count = protocol_put_decimal(digits, values->ttl_s);
    out = protocol_put_bulk_head(out, '$', count);
    out = protocol_put(out, digits, count);
    PROTOCOL_PUT(out, "\r\n");
    return out;
}

uint8_t *protocol_put_step(uint8_t *out, const struct protocol_values *values, uint32_t thread,
                           uint32_t step)
{
    uint32_t bytes = protocol_step_bytes(values, thread, step);
    out = protocol_put_bulk_head(out, '$', bytes);
    protocol_write_step(values, thread, step, out);
    out += bytes;
    PROTOCOL_PUT(out, "\r\n");
    return out;
}

size_t protocol_resp_bytes(const uint8_t *in, size_t size, unsigned count)
{
    size_t at = 0;
    for (size_t left = count; left > 0; left--) {
        size_t line = protocol_line_bytes(in + at, size - at);
        if (line == 0 || line == PROTOCOL_BROKEN) {
            return line;
        }
        const uint8_t *mark = in + at;
        at += line;
        if (*mark == '-') {
            return at;
        }
        if ((*mark != '$' && *mark != '*') || mark[1] == '-') {
            continue; /* a line is all of it, and so it is of nil */
        }
        size_t number = protocol_read_decimal(mark + 1, line - 1);
        if (number > UINT32_MAX) {
            return PROTOCOL_BROKEN;
        }
        if (*mark == '*') {
            left += number;
        } else {
            at += number + 2;
        }
        if (at > size) {
            return left > 1 ? 0 : at; /* of the last, the length is known before all is here */
        }
    }
    return at;
}
