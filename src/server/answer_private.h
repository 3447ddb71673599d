/* Fields of result maps, shared by the answer*.c. Private to them. */
#ifndef RETHREAD_SERVER_ANSWER_PRIVATE_H
#define RETHREAD_SERVER_ANSWER_PRIVATE_H

#include "server/answer.h"

#include <assert.h>

/*
 * What is answered most often is written by these, which return where they end: the room is made
 * sure before, once for all. Names and short values are known to the compiler: a store or two.
 */
#define ANSWER_PUT(at, text) (memcpy((at), (text), sizeof(text) - 1), (at) + sizeof(text) - 1)

static inline uint8_t *answer_at_u32(uint8_t *at, uint32_t value)
{
    if (value < 0x80) {
        *at++ = (uint8_t)value;
    } else if (value <= UINT8_MAX) {
        *at++ = 0xCC;
        *at++ = (uint8_t)value;
    } else if (value <= UINT16_MAX) {
        *at++ = 0xCD;
        bytes_store_be16(at, (uint16_t)value);
        at += 2;
    } else {
        *at++ = 0xCE;
        bytes_store_be32(at, value);
        at += 4;
    }
    return at;
}

static inline uint8_t *answer_at_u64(uint8_t *at, uint64_t value)
{
    if (value <= UINT32_MAX) {
        return answer_at_u32(at, (uint32_t)value);
    }
    *at++ = 0xCF;
    bytes_store_be64(at, value);
    return at + 8;
}

static inline uint8_t *answer_at_bool(uint8_t *at, bool value)
{
    *at = value ? 0xC3 : 0xC2;
    return at + 1;
}

/* Of ids and names: at most 255 bytes. */
static inline uint8_t *answer_at_bin(uint8_t *at, struct bytes value)
{
    assert(value.size <= UINT8_MAX);
    *at++ = 0xC4;
    *at++ = (uint8_t)value.size;
    memcpy(at, value.data, value.size);
    return at + value.size;
}

static inline uint8_t *answer_at_bin_or_nil(uint8_t *at, struct bytes value)
{
    if (value.size > 0) {
        return answer_at_bin(at, value);
    }
    *at++ = 0xC0;
    return at;
}

/* Through the writer, which sees to the room itself. */
static inline void answer_put_text(struct wire_writer *writer, const char *name, const char *value)
{
    wire_put_text(writer, name);
    wire_put_text(writer, value);
}

static inline void answer_put_text_or_nil(struct wire_writer *writer, const char *name,
                                          const char *value)
{
    wire_put_text(writer, name);
    if (value != NULL) {
        wire_put_text(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void answer_put_u64(struct wire_writer *writer, const char *name, uint64_t value)
{
    wire_put_text(writer, name);
    wire_put_u64(writer, value);
}

static inline void answer_put_bool(struct wire_writer *writer, const char *name, bool value)
{
    wire_put_text(writer, name);
    wire_put_bool(writer, value);
}

/* nil when there is nothing to say. */
static inline void answer_put_u64_or_nil(struct wire_writer *writer, const char *name, bool known,
                                         uint64_t value)
{
    wire_put_text(writer, name);
    if (known) {
        wire_put_u64(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void answer_put_bin_or_nil(struct wire_writer *writer, const char *name,
                                         struct bytes value)
{
    wire_put_text(writer, name);
    if (value.size > 0) {
        wire_put_bin(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

/* status, reason? and vouch_ms?, with which replay and stat begin: so many fields. */
unsigned answer_state_fields(enum thread_state state, enum reason reason);
void answer_put_state(struct wire_writer *writer, enum thread_state state, enum reason reason,
                      uint64_t vouch_ms);

const char *answer_tier_name(bool on_disk);

#endif
