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

/* "$", the length and the end of the line. */
static size_t put_head(uint8_t *out, size_t length)
{
    uint8_t digits[20];
    size_t count = 0;
    do {
        digits[count++] = (uint8_t)('0' + length % 10);
        length /= 10;
    } while (length != 0);
    uint8_t *at = out;
    *at++ = '$';
    while (count > 0) {
        *at++ = digits[--count];
    }
    *at++ = '\r';
    *at++ = '\n';
    return (size_t)(at - out);
}

static size_t request(const struct protocol_values *values, enum protocol_op op, unsigned slot,
                      uint64_t key, uint8_t *out)
{
    static const char *const heads[] = {
        [PROTOCOL_APPEND] = "*5\r\n$3\r\nSET\r\n$24\r\n",
        [PROTOCOL_REPLAY] = "*4\r\n$5\r\nGETEX\r\n$24\r\n",
        [PROTOCOL_FORGET] = "*2\r\n$6\r\nUNLINK\r\n$24\r\n",
    };
    (void)slot;
    _Static_assert(PROTOCOL_KEY_BYTES == 24 && PROTOCOL_TTL_S == 300, "both stand in the texts");
    size_t at = put(out, heads[op]);
    protocol_write_key(values, key, out + at);
    at += PROTOCOL_KEY_BYTES;
    at += put(out + at, "\r\n");
    if (op == PROTOCOL_APPEND) {
        at += put_head(out + at, values->value_bytes);
        protocol_write_value(values, key, out + at);
        at += values->value_bytes;
        at += put(out + at, "\r\n");
    }
    if (op != PROTOCOL_FORGET) {
        at += put(out + at, "$2\r\nEX\r\n$3\r\n300\r\n");
    }
    return at;
}

static size_t reply_bytes(const uint8_t *in, size_t size)
{
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

static bool reply_is_right(const struct protocol_values *values, enum protocol_op op, unsigned slot,
                           uint64_t key, const uint8_t *reply, size_t size)
{
    (void)slot;
    if (op != PROTOCOL_REPLAY) {
        return is_text(reply, size, op == PROTOCOL_APPEND ? "+OK\r\n" : ":1\r\n");
    }
    uint8_t head[HEAD_MAX];
    size_t at = put_head(head, values->value_bytes);
    return size == at + values->value_bytes + 2 && memcmp(reply, head, at) == 0 &&
           memcmp(reply + size - 2, "\r\n", 2) == 0 &&
           protocol_value_is_right(values, key, reply + at);
}

const struct protocol protocol_redis = {
    .name = "redis",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = reply_slot,
    .reply_is_right = reply_is_right,
};
