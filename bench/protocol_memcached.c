/*
 * memcached, one-step threads, by the meta protocol: `ms` and `mg` with T, which slides the
 * lifetime, as `gat` does. It serves memcached best: replies do not repeat the key and have no END,
 * and a store is acknowledged by two letters.
 */
#include "bench/protocol_private.h"

#include <assert.h>

static uint8_t *put_ttl(uint8_t *at, const struct protocol_values *values)
{
    PROTOCOL_PUT(at, " T");
    return at + protocol_put_decimal(at, values->ttl_s);
}

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    static const char *const words[] = {
        [PROTOCOL_APPEND] = "ms ", [PROTOCOL_REPLAY] = "mg ", [PROTOCOL_FORGET] = "md "};
    (void)slot;
    assert(item->step == 0 && item->steps <= 1);
    uint8_t *at = protocol_put(out, words[item->op], 3);
    protocol_write_name(values, item->thread, at);
    at += PROTOCOL_NAME_BYTES;
    uint32_t bytes = 0;
    if (item->op == PROTOCOL_APPEND) {
        bytes = protocol_step_bytes(values, item->thread, 0);
        *at++ = ' ';
        at += protocol_put_decimal(at, bytes);
        at = put_ttl(at, values);
    } else if (item->op == PROTOCOL_REPLAY) {
        PROTOCOL_PUT(at, " v");
        at = put_ttl(at, values);
    }
    PROTOCOL_PUT(at, "\r\n");
    if (item->op == PROTOCOL_APPEND) {
        protocol_write_step(values, item->thread, 0, at);
        at += bytes;
        PROTOCOL_PUT(at, "\r\n");
    }
    return (size_t)(at - out);
}

static size_t reply_bytes(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size)
{
    (void)values;
    (void)item;
    size_t line = protocol_line_bytes(in, size);
    if (line == 0 || line == PROTOCOL_BROKEN || line < 3 || memcmp(in, "VA ", 3) != 0) {
        return line;
    }
    size_t bytes = protocol_read_decimal(in + 3, line - 3);
    return bytes > UINT32_MAX ? PROTOCOL_BROKEN : line + bytes + 2;
}

static void judge_reply(struct protocol_judge *judge, const struct protocol_values *values,
                        const struct protocol_item *item, unsigned slot)
{
    (void)slot;
    if (item->op != PROTOCOL_REPLAY) {
        PROTOCOL_JUDGE(judge, "HD\r\n");
        return;
    }
    uint8_t head[PROTOCOL_DECIMAL_BYTES_MAX + 5];
    uint8_t *at = protocol_put(head, "VA ", 3);
    at += protocol_put_decimal(at, protocol_step_bytes(values, item->thread, 0));
    PROTOCOL_PUT(at, "\r\n");
    protocol_judge_bytes(judge, head, (size_t)(at - head));
    protocol_judge_step(judge, values, item->thread, 0);
    PROTOCOL_JUDGE(judge, "\r\n");
}

const struct protocol protocol_memcached = {
    .name = "memcached",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = protocol_in_order,
    .judge = judge_reply,
};
