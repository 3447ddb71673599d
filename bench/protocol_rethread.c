/*
 * rethread's protocol 1: append of one step to a new thread, replay of it, forget. The expected
 * replies stand here as the contract gives them (schema/wire.md); only the time until expiry may
 * vary, within the ttl.
 */
#include "bench/protocol.h"

#include "base/bytes.h"

#include <assert.h>
#include <string.h>

enum { FRAME_MARK = 0xce, FRAME_HEAD = 5, MSGID_AT = 7 };

struct writer {
    uint8_t *at;
};

static void put(struct writer *writer, const void *data, size_t size)
{
    memcpy(writer->at, data, size);
    writer->at += size;
}

/* String literals with MessagePack inside; their last 0 is left out. */
#define PUT(writer, literal) put((writer), (literal), sizeof(literal) - 1)

static void put_byte(struct writer *writer, unsigned byte)
{
    *writer->at++ = (uint8_t)byte;
}

static void put_uint(struct writer *writer, uint64_t value)
{
    if (value < 128) {
        put_byte(writer, (unsigned)value);
    } else if (value < 256) {
        PUT(writer, "\xcc");
        put_byte(writer, (unsigned)value);
    } else if (value < 65536) {
        PUT(writer, "\xcd");
        bytes_store_be16(writer->at, (uint16_t)value);
        writer->at += 2;
    } else {
        PUT(writer, "\xce");
        bytes_store_be32(writer->at, (uint32_t)value);
        writer->at += 4;
    }
}

static void put_bin_head(struct writer *writer, size_t size)
{
    if (size < 256) {
        PUT(writer, "\xc4");
        put_byte(writer, (unsigned)size);
    } else if (size < 65536) {
        PUT(writer, "\xc5");
        bytes_store_be16(writer->at, (uint16_t)size);
        writer->at += 2;
    } else {
        PUT(writer, "\xc6");
        bytes_store_be32(writer->at, (uint32_t)size);
        writer->at += 4;
    }
}

static void put_frame(uint8_t *out, size_t size)
{
    out[0] = FRAME_MARK;
    bytes_store_be32(out + 1, (uint32_t)(size - FRAME_HEAD));
}

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    assert(slot < PROTOCOL_IN_FLIGHT_MAX);
    struct writer writer = {.at = out + FRAME_HEAD};
    PUT(&writer, "\x94\x00");
    put_byte(&writer, slot);
    switch (item->op) {
    case PROTOCOL_APPEND:
        PUT(&writer, "\xa6"
                     "append"
                     "\x92");
        break;
    case PROTOCOL_REPLAY:
        PUT(&writer, "\xa6"
                     "replay"
                     "\x91");
        break;
    case PROTOCOL_FORGET:
        PUT(&writer, "\xa6"
                     "forget"
                     "\x91");
        break;
    }
    PUT(&writer, "\x81\xa6"
                 "thread"
                 "\xb8");
    protocol_write_name(values, item->thread, writer.at);
    writer.at += PROTOCOL_NAME_BYTES;
    if (item->op == PROTOCOL_APPEND) {
        uint32_t value_bytes = protocol_step_bytes(values, item->thread, 0);
        put_bin_head(&writer, value_bytes);
        protocol_write_step(values, item->thread, 0, writer.at);
        writer.at += value_bytes;
    }
    size_t size = (size_t)(writer.at - out);
    put_frame(out, size);
    return size;
}

static size_t reply_bytes(const struct protocol_values *values, const struct protocol_item *item,
                          const uint8_t *in, size_t size)
{
    (void)values;
    (void)item;
    if (size > 0 && in[0] != FRAME_MARK) {
        return PROTOCOL_BROKEN;
    }
    if (size < FRAME_HEAD) {
        return 0;
    }
    uint32_t length = bytes_load_be32(in + 1);
    return length <= MSGID_AT - FRAME_HEAD ? PROTOCOL_BROKEN : length + (size_t)FRAME_HEAD;
}

static unsigned reply_slot(const uint8_t *reply, unsigned next)
{
    (void)next;
    return reply[MSGID_AT];
}

static void put_thread(struct writer *writer, const struct protocol_values *values, uint32_t thread)
{
    PUT(writer, "\xa6"
                "thread"
                "\xc4\x18");
    protocol_write_name(values, thread, writer->at);
    writer->at += PROTOCOL_NAME_BYTES;
}

static void put_replay(struct writer *writer, const struct protocol_values *values, uint32_t thread)
{
    PUT(writer, "\xc0\x92\x86"
                "\xa6"
                "status"
                "\xa8"
                "complete");
    put_thread(writer, values, thread);
    PUT(writer, "\xa7"
                "version"
                "\x01"
                "\xa4"
                "head"
                "\x00"
                "\xa5"
                "steps"
                "\x91\x89");
    PUT(writer, "\xa4"
                "step"
                "\x00"
                "\xa4"
                "turn"
                "\x00"
                "\xa5"
                "final"
                "\xc3");
    PUT(writer, "\xa5"
                "model"
                "\xc0"
                "\xab"
                "response_id"
                "\xc0");
    PUT(writer, "\xaa"
                "tool_calls"
                "\x90"
                "\xa6"
                "tokens"
                "\xc0");
    PUT(writer, "\xa8"
                "segments"
                "\x91\x92"
                "\xa4"
                "text");
    put_uint(writer, protocol_step_bytes(values, thread, 0));
    PUT(writer, "\xa6"
                "source"
                "\xa6"
                "memory"
                "\xad"
                "expires_in_ms");
}

/* The reply up to the time until expiry, or up to its end when it has none. */
static size_t expect_head(const struct protocol_values *values, const struct protocol_item *item,
                          unsigned slot, uint8_t *out)
{
    struct writer writer = {.at = out + FRAME_HEAD};
    PUT(&writer, "\x94\x01");
    put_byte(&writer, slot);
    switch (item->op) {
    case PROTOCOL_APPEND:
        PUT(&writer, "\xc0\x91\x87");
        put_thread(&writer, values, item->thread);
        PUT(&writer, "\xa4"
                     "step"
                     "\x00"
                     "\xa7"
                     "version"
                     "\x01"
                     "\xa7"
                     "created"
                     "\xc3");
        PUT(&writer, "\xa9"
                     "duplicate"
                     "\xc2"
                     "\xa4"
                     "lost"
                     "\x00"
                     "\xad"
                     "expires_in_ms");
        break;
    case PROTOCOL_REPLAY:
        put_replay(&writer, values, item->thread);
        break;
    case PROTOCOL_FORGET:
        PUT(&writer, "\xc0\x91\x81"
                     "\xa9"
                     "forgotten"
                     "\xc3");
        break;
    }
    return (size_t)(writer.at - out);
}

/* Reads an unsigned integer; returns its length, 0 when there is none. */
static size_t read_uint(const uint8_t *in, size_t size, uint64_t *value)
{
    if (size >= 1 && in[0] < 128) {
        *value = in[0];
        return 1;
    }
    if (size >= 2 && in[0] == 0xcc) {
        *value = in[1];
        return 2;
    }
    if (size >= 3 && in[0] == 0xcd) {
        *value = bytes_load_be16(in + 1);
        return 3;
    }
    if (size >= 5 && in[0] == 0xce) {
        *value = bytes_load_be32(in + 1);
        return 5;
    }
    return 0;
}

static bool reply_is_right(const struct protocol_values *values, const struct protocol_item *item,
                           unsigned slot, const uint8_t *reply, size_t size)
{
    uint8_t head[PROTOCOL_SLACK_BYTES];
    size_t at = expect_head(values, item, slot, head);
    assert(at <= sizeof head);
    put_frame(head, size);
    if (size < at || memcmp(reply, head, at) != 0) {
        return false;
    }
    if (item->op == PROTOCOL_FORGET) {
        return size == at;
    }
    uint64_t expires_ms = 0;
    size_t used = read_uint(reply + at, size - at, &expires_ms);
    if (used == 0 || expires_ms == 0 || expires_ms > values->ttl_s * UINT64_C(1000)) {
        return false;
    }
    at += used;
    if (item->op == PROTOCOL_APPEND) {
        return size == at;
    }
    struct writer writer = {.at = head};
    uint32_t value_bytes = protocol_step_bytes(values, item->thread, 0);
    put_bin_head(&writer, value_bytes);
    used = (size_t)(writer.at - head);
    return size == at + used + value_bytes && memcmp(reply + at, head, used) == 0 &&
           protocol_step_is_right(values, item->thread, 0, reply + at + used);
}

const struct protocol protocol_rethread = {
    .name = "rethread",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = reply_slot,
    .reply_is_right = reply_is_right,
};
