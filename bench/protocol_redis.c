/* Redis, one-step threads: SET with EX, GETEX with EX (which slides the lifetime), UNLINK. */
#include "bench/protocol_private.h"

#include <assert.h>

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    (void)slot;
    assert(item->step == 0 && item->steps <= 1);
    uint8_t *at = out;
    switch (item->op) {
    case PROTOCOL_APPEND:
        PROTOCOL_PUT(at, "*5\r\n$3\r\nSET\r\n");
        at = protocol_put_name(at, values, item->thread);
        at = protocol_put_step(at, values, item->thread, 0);
        break;
    case PROTOCOL_REPLAY:
        PROTOCOL_PUT(at, "*4\r\n$5\r\nGETEX\r\n");
        at = protocol_put_name(at, values, item->thread);
        break;
    case PROTOCOL_FORGET:
        PROTOCOL_PUT(at, "*2\r\n$6\r\nUNLINK\r\n");
        at = protocol_put_name(at, values, item->thread);
        break;
    }
    if (item->op != PROTOCOL_FORGET) {
        PROTOCOL_PUT(at, "$2\r\nEX\r\n");
        at = protocol_put_ttl(at, values);
    }
    return (size_t)(at - out);
}

static size_t reply_bytes(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size)
{
    (void)values;
    (void)item;
    return protocol_resp_bytes(in, size, 1);
}

static void judge_reply(struct protocol_judge *judge, const struct protocol_values *values,
                        const struct protocol_item *item, unsigned slot)
{
    (void)slot;
    if (item->op == PROTOCOL_APPEND) {
        PROTOCOL_JUDGE(judge, "+OK\r\n");
    } else if (item->op == PROTOCOL_FORGET) {
        PROTOCOL_JUDGE(judge, ":1\r\n");
    } else {
        uint8_t head[PROTOCOL_DECIMAL_BYTES_MAX + 3];
        uint32_t bytes = protocol_step_bytes(values, item->thread, 0);
        size_t head_size = (size_t)(protocol_put_bulk_head(head, '$', bytes) - head);
        protocol_judge_bytes(judge, head, head_size);
        protocol_judge_step(judge, values, item->thread, 0);
        PROTOCOL_JUDGE(judge, "\r\n");
    }
}

const struct protocol protocol_redis = {
    .name = "redis",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = protocol_in_order,
    .judge = judge_reply,
};
