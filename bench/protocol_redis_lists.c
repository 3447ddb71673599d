/*
 * Redis, threads of many steps: a list for each thread, the quickest way that keeps what rethread
 * keeps. An append with its keys is one transaction in one write (MULTI, RPUSH, a SET with EX for
 * each key that leads to the step, EXPIRE of the list, EXEC): without it a reader may find a key
 * whose step is not there yet, and a list may stay for ever when its client dies half-way. Without
 * keys RPUSH and EXPIRE go in one write, and a replay is LRANGE and EXPIRE in one write. A bare
 * step is an empty element, so that places in the list stay the steps' numbers.
 *
 * Redis is let off what it would have to do to be equal: a replay here slides the lifetime of the
 * list only, while the step's keys run out after their own.
 */
#include "bench/protocol_private.h"

#include <assert.h>

enum { KEYS = 3, VALUE_BYTES = PROTOCOL_NAME_BYTES + 8 };

static const enum protocol_key keys[KEYS] = {PROTOCOL_RESPONSE_ID, PROTOCOL_TOOL_CALL,
                                             PROTOCOL_PREFIX};

static uint8_t *put_key(uint8_t *at, const struct protocol_values *values, uint32_t thread,
                        uint32_t step, enum protocol_key key)
{
    uint8_t bytes[PROTOCOL_KEY_BYTES_MAX];
    size_t size = protocol_write_key(values, thread, step, key, bytes);
    at = protocol_put_bulk_head(at, '$', size);
    at = protocol_put(at, bytes, size);
    PROTOCOL_PUT(at, "\r\n");
    return at;
}

/* What a key leads to: the thread and the number of the step. */
static uint8_t *put_set(uint8_t *at, const struct protocol_values *values,
                        const struct protocol_item *item, enum protocol_key key)
{
    PROTOCOL_PUT(at, "*5\r\n$3\r\nSET\r\n");
    at = put_key(at, values, item->thread, item->step, key);
    _Static_assert(VALUE_BYTES == 32, "stands in the text");
    PROTOCOL_PUT(at, "$32\r\n");
    protocol_write_name(values, item->thread, at);
    at += PROTOCOL_NAME_BYTES;
    at += protocol_put_hex(at, item->step, 8);
    PROTOCOL_PUT(at, "\r\n$2\r\nEX\r\n");
    return protocol_put_ttl(at, values);
}

static uint8_t *put_expire(uint8_t *at, const struct protocol_values *values, uint32_t thread)
{
    PROTOCOL_PUT(at, "*3\r\n$6\r\nEXPIRE\r\n");
    at = protocol_put_name(at, values, thread);
    return protocol_put_ttl(at, values);
}

static uint8_t *put_append(uint8_t *at, const struct protocol_values *values,
                           const struct protocol_item *item)
{
    if (values->keyed) {
        PROTOCOL_PUT(at, "*1\r\n$5\r\nMULTI\r\n");
    }
    PROTOCOL_PUT(at, "*3\r\n$5\r\nRPUSH\r\n");
    at = protocol_put_name(at, values, item->thread);
    at = protocol_put_step(at, values, item->thread, item->step);
    for (unsigned i = 0; values->keyed && i < KEYS; i++) {
        at = put_set(at, values, item, keys[i]);
    }
    at = put_expire(at, values, item->thread);
    if (values->keyed) {
        PROTOCOL_PUT(at, "*1\r\n$4\r\nEXEC\r\n");
    }
    return at;
}

/* The list, and where the number of its steps is given the keys that lead to them. */
static uint32_t forgotten_keys(const struct protocol_values *values,
                               const struct protocol_item *item)
{
    return values->keyed ? item->steps * KEYS : 0;
}

static uint8_t *put_forget(uint8_t *at, const struct protocol_values *values,
                           const struct protocol_item *item)
{
    at = protocol_put_bulk_head(at, '*', 2 + (uint64_t)forgotten_keys(values, item));
    PROTOCOL_PUT(at, "$6\r\nUNLINK\r\n");
    at = protocol_put_name(at, values, item->thread);
    for (uint32_t step = 0; values->keyed && step < item->steps; step++) {
        for (unsigned i = 0; i < KEYS; i++) {
            at = put_key(at, values, item->thread, step, keys[i]);
        }
    }
    return at;
}

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    (void)slot;
    uint8_t *at = out;
    switch (item->op) {
    case PROTOCOL_APPEND:
        at = put_append(at, values, item);
        break;
    case PROTOCOL_REPLAY:
        PROTOCOL_PUT(at, "*4\r\n$6\r\nLRANGE\r\n");
        at = protocol_put_name(at, values, item->thread);
        PROTOCOL_PUT(at, "$1\r\n0\r\n$2\r\n-1\r\n");
        at = put_expire(at, values, item->thread);
        break;
    case PROTOCOL_FORGET:
        at = put_forget(at, values, item);
        break;
    }
    return (size_t)(at - out);
}

static size_t reply_bytes(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size)
{
    switch (item->op) {
    case PROTOCOL_APPEND:
        /* Of MULTI, of each command that waits, of EXEC. */
        return protocol_resp_bytes(in, size, values->keyed ? 1 + (2 + KEYS) + 1 : 2);
    case PROTOCOL_REPLAY:
        return protocol_resp_bytes(in, size, 2);
    case PROTOCOL_FORGET:
        break;
    }
    return protocol_resp_bytes(in, size, 1);
}

/* A number with its mark, as a line. */
static void judge_line(struct protocol_judge *judge, char mark, uint64_t number)
{
    uint8_t line[PROTOCOL_DECIMAL_BYTES_MAX + 3];
    protocol_judge_bytes(judge, line, (size_t)(protocol_put_bulk_head(line, mark, number) - line));
}

static void judge_append(struct protocol_judge *judge, const struct protocol_values *values,
                         const struct protocol_item *item)
{
    if (values->keyed) {
        PROTOCOL_JUDGE(judge, "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n"
                              "*5\r\n");
    }
    judge_line(judge, ':', (uint64_t)item->step + 1);
    if (values->keyed) {
        PROTOCOL_JUDGE(judge, "+OK\r\n+OK\r\n+OK\r\n");
    }
    PROTOCOL_JUDGE(judge, ":1\r\n");
}

static void judge_reply(struct protocol_judge *judge, const struct protocol_values *values,
                        const struct protocol_item *item, unsigned slot)
{
    (void)slot;
    switch (item->op) {
    case PROTOCOL_APPEND:
        judge_append(judge, values, item);
        return;
    case PROTOCOL_REPLAY:
        judge_line(judge, '*', item->steps);
        for (uint32_t step = 0; step < item->steps && !judge->wrong && judge->at <= judge->to;
             step++) {
            judge_line(judge, '$', protocol_step_bytes(values, item->thread, step));
            protocol_judge_step(judge, values, item->thread, step);
            PROTOCOL_JUDGE(judge, "\r\n");
        }
        PROTOCOL_JUDGE(judge, ":1\r\n");
        return;
    case PROTOCOL_FORGET:
        judge_line(judge, ':', 1 + (uint64_t)forgotten_keys(values, item));
        return;
    }
}

const struct protocol protocol_redis_lists = {
    .name = "redis",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = protocol_in_order,
    .judge = judge_reply,
};
