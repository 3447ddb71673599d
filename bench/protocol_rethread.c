/*
 * rethread's protocol 1: append, replay and forget. The expected replies stand here as the contract
 * gives them (schema/wire.md); only the time until expiry may vary, within what was promised.
 */
#include "bench/protocol_private.h"

#include "base/bytes.h"

#include <assert.h>

enum {
    FRAME_MARK = 0xce,
    FRAME_HEAD = 5,
    MSGID_AT = 7,
    PIECE_BYTES = 320, /* of a reply: all of it but its steps, or a step without its bytes */
    UINT_BYTES_MAX = 5,
    MAX_AGE_S = 30 * 24 * 3600,
    LOOPS_APART_MS = 1000, /* a lifetime slid by a loop whose reading of the clock is newer */
};

/* ---- MessagePack
 * --------------------------------------------------------------------------------- */

static uint8_t *put_uint(uint8_t *at, uint64_t value)
{
    if (value < 128) {
        *at++ = (uint8_t)value;
    } else if (value < 256) {
        *at++ = 0xcc;
        *at++ = (uint8_t)value;
    } else if (value < 65536) {
        *at++ = 0xcd;
        bytes_store_be16(at, (uint16_t)value);
        at += 2;
    } else {
        assert(value <= UINT32_MAX);
        *at++ = 0xce;
        bytes_store_be32(at, (uint32_t)value);
        at += 4;
    }
    return at;
}

static uint8_t *put_bin_head(uint8_t *at, size_t size)
{
    if (size < 256) {
        *at++ = 0xc4;
        *at++ = (uint8_t)size;
    } else if (size < 65536) {
        *at++ = 0xc5;
        bytes_store_be16(at, (uint16_t)size);
        at += 2;
    } else {
        *at++ = 0xc6;
        bytes_store_be32(at, (uint32_t)size);
        at += 4;
    }
    return at;
}

static uint8_t *put_array_head(uint8_t *at, uint32_t count)
{
    if (count < 16) {
        *at++ = (uint8_t)(0x90 | count);
    } else {
        assert(count < 65536);
        *at++ = 0xdc;
        bytes_store_be16(at, (uint16_t)count);
        at += 2;
    }
    return at;
}

/* A key's head and bytes; ids come back as bin. */
static uint8_t *put_key(uint8_t *at, const struct protocol_values *values, uint32_t thread,
                        uint32_t step, enum protocol_key key)
{
    uint8_t bytes[PROTOCOL_KEY_BYTES_MAX];
    size_t size = protocol_write_key(values, thread, step, key, bytes);
    at = put_bin_head(at, size);
    return protocol_put(at, bytes, size);
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

/* ---- Requests
 * ------------------------------------------------------------------------------------ */

static uint8_t *put_append(uint8_t *at, const struct protocol_values *values,
                           const struct protocol_item *item)
{
    uint32_t bytes = protocol_step_bytes(values, item->thread, item->step);
    unsigned options =
        1U + values->ttl_sent + (values->keyed ? 3 : 0) + values->durable + (bytes == 0);
    PROTOCOL_PUT(at, "\xa6"
                     "append");
    *at++ = bytes > 0 ? 0x92 : 0x91;
    *at++ = (uint8_t)(0x80 | options);
    PROTOCOL_PUT(at, "\xa6"
                     "thread"
                     "\xb8");
    protocol_write_name(values, item->thread, at);
    at += PROTOCOL_NAME_BYTES;
    if (values->ttl_sent) {
        PROTOCOL_PUT(at, "\xa6"
                         "ttl_ms");
        at = put_uint(at, (uint64_t)values->ttl_s * 1000);
    }
    if (values->keyed) {
        PROTOCOL_PUT(at, "\xab"
                         "response_id");
        at = put_key(at, values, item->thread, item->step, PROTOCOL_RESPONSE_ID);
        PROTOCOL_PUT(at, "\xaa"
                         "tool_calls"
                         "\x91");
        at = put_key(at, values, item->thread, item->step, PROTOCOL_TOOL_CALL);
        PROTOCOL_PUT(at, "\xa6"
                         "prefix");
        at = put_key(at, values, item->thread, item->step, PROTOCOL_PREFIX);
    }
    if (values->durable) {
        PROTOCOL_PUT(at, "\xa3"
                         "ack"
                         "\xa4"
                         "disk");
    }
    if (bytes == 0) {
        PROTOCOL_PUT(at, "\xa8"
                         "segments"
                         "\x90");
        return at;
    }
    at = put_bin_head(at, bytes);
    protocol_write_step(values, item->thread, item->step, at);
    return at + bytes;
}

static size_t request(const struct protocol_values *values, const struct protocol_item *item,
                      unsigned slot, uint8_t *out)
{
    assert(slot < PROTOCOL_IN_FLIGHT_MAX);
    _Static_assert(PROTOCOL_IN_FLIGHT_MAX <= 128, "a slot is one byte");
    uint8_t *at = out + FRAME_HEAD;
    PROTOCOL_PUT(at, "\x94\x00");
    *at++ = (uint8_t)slot;
    if (item->op == PROTOCOL_APPEND) {
        at = put_append(at, values, item);
    } else {
        at = protocol_put(at,
                          item->op == PROTOCOL_REPLAY ? "\xa6replay"
                                                      : "\xa6"
                                                        "forget",
                          7);
        PROTOCOL_PUT(at, "\x91\x81\xa6"
                         "thread"
                         "\xb8");
        protocol_write_name(values, item->thread, at);
        at += PROTOCOL_NAME_BYTES;
    }
    out[0] = FRAME_MARK;
    bytes_store_be32(out + 1, (uint32_t)(at - out - FRAME_HEAD));
    return (size_t)(at - out);
}

/* ---- Replies
 * ------------------------------------------------------------------------------------- */

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

/* What a piece was written into, up to `end`, comes next in the reply. */
static void judge_piece(struct protocol_judge *judge, const uint8_t piece[PIECE_BYTES],
                        const uint8_t *end)
{
    size_t size = (size_t)(end - piece);
    assert(size <= PIECE_BYTES);
    protocol_judge_bytes(judge, piece, size);
}

static uint8_t *put_thread(uint8_t *at, const struct protocol_values *values, uint32_t thread)
{
    PROTOCOL_PUT(at, "\xa6"
                     "thread"
                     "\xc4\x18");
    protocol_write_name(values, thread, at);
    return at + PROTOCOL_NAME_BYTES;
}

/* How long it lasts: as long as may be promised at most, and never nothing. */
static void judge_expiry(struct protocol_judge *judge, const struct protocol_values *values)
{
    PROTOCOL_JUDGE(judge, "\xad"
                          "expires_in_ms");
    uint64_t expires_ms = 0;
    size_t left = judge->at < judge->to ? judge->to - judge->at : 0;
    if (judge->partial && left < UINT_BYTES_MAX) {
        judge->at += UINT_BYTES_MAX;
        return; /* maybe not all of it is here */
    }
    size_t used = left > 0 ? read_uint(judge->reply + judge->at, left, &expires_ms) : 0;
    uint64_t most_s = values->retained || values->durable ? MAX_AGE_S : values->ttl_s;
    if (used == 0 || expires_ms == 0 || expires_ms > most_s * 1000 + LOOPS_APART_MS) {
        judge->wrong = true;
    }
    judge->at += used;
}

static void judge_append(struct protocol_judge *judge, const struct protocol_values *values,
                         const struct protocol_item *item)
{
    uint8_t piece[PIECE_BYTES];
    uint8_t *at = piece;
    PROTOCOL_PUT(at, "\xc0\x91\x87");
    at = put_thread(at, values, item->thread);
    PROTOCOL_PUT(at, "\xa4"
                     "step");
    at = put_uint(at, item->step);
    PROTOCOL_PUT(at, "\xa7"
                     "version");
    at = put_uint(at, (uint64_t)item->step + 1);
    PROTOCOL_PUT(at, "\xa7"
                     "created");
    *at++ = item->step == 0 ? 0xc3 : 0xc2;
    PROTOCOL_PUT(at, "\xa9"
                     "duplicate"
                     "\xc2"
                     "\xa4"
                     "lost"
                     "\x00");
    judge_piece(judge, piece, at);
    judge_expiry(judge, values);
}

static uint8_t *put_step(uint8_t *at, const struct protocol_values *values, uint32_t thread,
                         uint32_t step, uint32_t bytes)
{
    PROTOCOL_PUT(at, "\x89"
                     "\xa4"
                     "step");
    at = put_uint(at, step);
    PROTOCOL_PUT(at, "\xa4"
                     "turn"
                     "\x00"
                     "\xa5"
                     "final");
    *at++ = values->keyed ? 0xc2 : 0xc3;
    PROTOCOL_PUT(at, "\xa5"
                     "model"
                     "\xc0"
                     "\xab"
                     "response_id");
    if (values->keyed) {
        at = put_key(at, values, thread, step, PROTOCOL_RESPONSE_ID);
        PROTOCOL_PUT(at, "\xaa"
                         "tool_calls"
                         "\x91");
        at = put_key(at, values, thread, step, PROTOCOL_TOOL_CALL);
    } else {
        PROTOCOL_PUT(at, "\xc0\xaa"
                         "tool_calls"
                         "\x90");
    }
    PROTOCOL_PUT(at, "\xa6"
                     "tokens"
                     "\xc0"
                     "\xa8"
                     "segments");
    if (bytes > 0) {
        PROTOCOL_PUT(at, "\x91\x92\xa4"
                         "text");
        at = put_uint(at, bytes);
    } else {
        *at++ = 0x90;
    }
    PROTOCOL_PUT(at, "\xa6"
                     "source"
                     "\xa6"
                     "memory");
    return at;
}

static void judge_payloads(struct protocol_judge *judge, const struct protocol_values *values,
                           const struct protocol_item *item)
{
    for (uint32_t step = 0; step < item->steps && !judge->wrong && judge->at <= judge->to; step++) {
        uint32_t bytes = protocol_step_bytes(values, item->thread, step);
        if (bytes > 0) {
            uint8_t piece[PIECE_BYTES];
            judge_piece(judge, piece, put_bin_head(piece, bytes));
            protocol_judge_step(judge, values, item->thread, step);
        }
    }
}

static uint32_t count_payloads(const struct protocol_values *values,
                               const struct protocol_item *item)
{
    uint32_t count = 0;
    for (uint32_t step = 0; step < item->steps; step++) {
        count += protocol_step_bytes(values, item->thread, step) > 0;
    }
    return count;
}

static void judge_replay(struct protocol_judge *judge, const struct protocol_values *values,
                         const struct protocol_item *item)
{
    assert(item->steps > 0);
    uint8_t piece[PIECE_BYTES];
    uint8_t *at = piece;
    *at++ = 0xc0;
    at = put_array_head(at, 1 + count_payloads(values, item));
    PROTOCOL_PUT(at, "\x86"
                     "\xa6"
                     "status"
                     "\xa8"
                     "complete");
    at = put_thread(at, values, item->thread);
    PROTOCOL_PUT(at, "\xa7"
                     "version");
    at = put_uint(at, item->steps);
    PROTOCOL_PUT(at, "\xa4"
                     "head");
    at = put_uint(at, item->steps - 1);
    PROTOCOL_PUT(at, "\xa5"
                     "steps");
    at = put_array_head(at, item->steps);
    judge_piece(judge, piece, at);
    for (uint32_t step = 0; step < item->steps && !judge->wrong && judge->at <= judge->to; step++) {
        uint32_t bytes = protocol_step_bytes(values, item->thread, step);
        judge_piece(judge, piece, put_step(piece, values, item->thread, step, bytes));
    }
    judge_expiry(judge, values);
    judge_payloads(judge, values, item);
}

/* All but the frame's length. */
static void judge_reply(struct protocol_judge *judge, const struct protocol_values *values,
                        const struct protocol_item *item, unsigned slot)
{
    if (!judge->partial) {
        uint8_t frame[FRAME_HEAD] = {FRAME_MARK};
        bytes_store_be32(frame + 1, (uint32_t)(judge->to - FRAME_HEAD));
        judge->wrong = memcmp(judge->reply, frame, FRAME_HEAD) != 0;
    }
    judge->at = FRAME_HEAD;
    const uint8_t head[] = {0x94, 0x01, (uint8_t)slot};
    protocol_judge_bytes(judge, head, sizeof head);
    switch (item->op) {
    case PROTOCOL_APPEND:
        judge_append(judge, values, item);
        return;
    case PROTOCOL_REPLAY:
        judge_replay(judge, values, item);
        return;
    case PROTOCOL_FORGET:
        PROTOCOL_JUDGE(judge, "\xc0\x91\x81"
                              "\xa9"
                              "forgotten"
                              "\xc3");
        return;
    }
}

const struct protocol protocol_rethread = {
    .name = "rethread",
    .request = request,
    .reply_bytes = reply_bytes,
    .reply_slot = reply_slot,
    .judge = judge_reply,
};
