/* Redis's RESP2: SET with EX, GETEX with EX (which slides the lifetime), UNLINK. */
#include "bench/protocol.h"

#include <string.h>

enum { HEAD_MAX = 64 };

static size_t put(uint8_t *out, const char *text)
{
    size_t size = strlen(text);
    memcpy(out, text, size);
    return size;
}

/* The digits; returns how many. */
static size_t put_number(uint8_t *out, size_t number)
{
    uint8_t digits[20];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    uint8_t *at = out;
    while (count > 0) {
        *at++ = digits[--count];
    }
    return (size_t)(at - out);
}

/* "$", the length and the end of the line. */
static size_t put_head(uint8_t *out, size_t length)
{
    size_t at = put(out, "$");
    at += put_number(out + at, length);
    return at + put(out + at, "\r\n");
}

static size_t put_ttl(uint8_t *out, uint32_t ttl_s)
{
    uint8_t digits[20];
    size_t count = put_number(digits, ttl_s);
    size_t at = put(out, "$2\r\nEX\r\n");
    at += put_head(out + at, count);
    memcpy(out + at, digits, count);
    at += count;
    return at + put(out + at, "\r\n");
}

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    static const char *const heads[] = {
        [PROTOCOL_APPEND] = "*5\r\n$3\r\nSET\r\n$24\r\n",
        [PROTOCOL_REPLAY] = "*4\r\n$5\r\nGETEX\r\n$24\r\n",
        [PROTOCOL_FORGET] = "*2\r\n$6\r\nUNLINK\r\n$24\r\n",
    };
    (void)slot;
    _Static_assert(PROTOCOL_NAME_BYTES == 24, "stands in the texts");
    size_t at = put(out, heads[item->op]);
    protocol_write_name(values, item->thread, out + at);
    at += PROTOCOL_NAME_BYTES;
    at += put(out + at, "\r\n");
    if (item->op == PROTOCOL_APPEND) {
        uint32_t size = protocol_step_bytes(values, item->thread, 0);
        at += put_head(out + at, size);
        protocol_write_step(values, item->thread, 0, out + at);
        at += size;
        at += put(out + at, "\r\n");
    }
    if (item->op != PROTOCOL_FORGET) {
        at += put_ttl(out + at, values->ttl_s);
    }
    return at;
}

static size_t reply_bytes(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size)
{
    (void)values;
    (void)item;
    const uint8_t *end = size > 1 ? memchr(in, '\n', size < HEAD_MAX ? size : HEAD_MAX) : NULL;
    if (end == NULL) {
        return size < HEAD_MAX ? 0 : PROTOCOL_BROKEN;
    }
    size_t head = (size_t)(end - in) + 1;
    if (in[0] != '$' || in[1] == '-') {
        return head;
    }
    size_t length = 0;
    for (const uint8_t *at = in + 1; *at >= '0' && *at <= '9' && length < UINT32_MAX; at++) {
        length = length * 10 + (size_t)(*at - '0');
    }
    return head + length + 2;
}

static unsigned reply_slot(const uint8_t *reply, unsigned next)
{
    (void)reply;
    return next;
}

static bool is_text(const uint8_t *reply, size_t size, const char *text)
{
    return size == strlen(text) && memcmp(reply, text, size) == 0;
}

static bool reply_is_right(const struct protocol_values *values, const struct protocol_item *item,
                           unsigned slot, const uint8_t *reply, size_t size)
{
    (void)slot;
    if (item->op != PROTOCOL_REPLAY) {
        return is_text(reply, size, item->op == PROTOCOL_APPEND ? "+OK\r\n" : ":1\r\n");
    }
    uint32_t value_bytes = protocol_step_bytes(values, item->thread, 0);
    uint8_t head[HEAD_MAX];
    size_t at = put_head(head, value_bytes);
    return size == at + value_bytes + 2 && memcmp(reply, head, at) == 0 &&
           memcmp(reply + size - 2, "\r\n", 2) == 0 &&
           protocol_step_is_right(values, item->thread, 0, reply + at);
}

const struct protocol protocol_redis = {
    .name = "redis",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = reply_slot,
    .reply_is_right = reply_is_right,
};
