/*
 * Responses to bytes: a small MessagePack writer over a buffer that the caller owns.
 *
 * The writer never allocates and never writes past its end: a caller sizes the buffer with the
 * bounds below, and `overflow` tells of a bug there. Payloads are not written through it: the
 * caller sends them by reference after the bin header that wire_put_bin_header wrote.
 */
#ifndef RETHREAD_WIRE_COMPOSE_H
#define RETHREAD_WIRE_COMPOSE_H

#include "wire/request.h"

struct wire_writer {
    uint8_t *at;
    uint8_t *end;
    bool overflow;
};

static inline struct wire_writer wire_writer_on(void *buffer, size_t size_bytes)
{
    return (struct wire_writer){.at = buffer, .end = (uint8_t *)buffer + size_bytes};
}

/* One byte: an item, or the mark of one. Inline, as are the items that fit it. */
static inline void wire_put_byte(struct wire_writer *writer, unsigned byte)
{
    if (writer->overflow || writer->at == writer->end) {
        writer->overflow = true;
        return;
    }
    *writer->at++ = (uint8_t)byte;
}

static inline void wire_put_nil(struct wire_writer *writer)
{
    wire_put_byte(writer, 0xC0);
}

static inline void wire_put_bool(struct wire_writer *writer, bool value)
{
    wire_put_byte(writer, value ? 0xC3 : 0xC2);
}

void wire_put_wide_u64(struct wire_writer *writer, uint64_t value);
static inline void wire_put_u64(struct wire_writer *writer, uint64_t value)
{
    if (value < 0x80) {
        wire_put_byte(writer, (unsigned)value);
    } else {
        wire_put_wide_u64(writer, value);
    }
}

void wire_put_i64(struct wire_writer *writer, int64_t value);
void wire_put_any_text(struct wire_writer *writer, struct bytes text);     /* str */
void wire_put_bin(struct wire_writer *writer, struct bytes value);         /* header and bytes */
void wire_put_bin_header(struct wire_writer *writer, uint64_t size_bytes); /* shortest form */

void wire_put_wide_array(struct wire_writer *writer, uint32_t count);
static inline void wire_put_array(struct wire_writer *writer, uint32_t count)
{
    if (count < 16) {
        wire_put_byte(writer, 0x90 | count);
    } else {
        wire_put_wide_array(writer, count);
    }
}

void wire_put_wide_map(struct wire_writer *writer, uint32_t count);
static inline void wire_put_map(struct wire_writer *writer, uint32_t count)
{
    if (count < 16) {
        wire_put_byte(writer, 0x80 | count);
    } else {
        wire_put_wide_map(writer, count);
    }
}

void wire_put_raw(struct wire_writer *writer, struct bytes encoded); /* MessagePack as it is */

enum {
    WIRE_SCALAR_BYTES_MAX = 9,
    WIRE_CONTAINER_BYTES_MAX = 5,
    WIRE_ERROR_FRAME_BYTES_MAX = 1024, /* whole frame of any wire_put_error */

    /*
     * What a replay's reply takes beside the bytes of its ids, models and payloads: the frame and
     * everything but the steps; each step; the hash of its visible message; each segment, with the
     * header of its payload; each tool call. Who selects steps for a frame counts by these.
     */
    WIRE_REPLAY_BYTES_MAX = 640,
    WIRE_STEP_BYTES_MAX = 112,
    WIRE_VISIBLE_BYTES_MAX = 28,
    WIRE_SEGMENT_BYTES_MAX = 18,
    WIRE_TOOL_CALL_BYTES_MAX = 2,
};

enum { WIRE_SHORT_TEXT_BYTES_MAX = 31 };

/* A str, NUL-terminated. Inline, so that names known to the compiler become a store or two. */
static inline void wire_put_text(struct wire_writer *writer, const char *text)
{
    size_t size = strlen(text);
    if (size <= WIRE_SHORT_TEXT_BYTES_MAX && !writer->overflow &&
        (size_t)(writer->end - writer->at) > size) {
        writer->at[0] = (uint8_t)(0xA0 | size);
        memcpy(writer->at + 1, text, size);
        writer->at += 1 + size;
    } else {
        wire_put_any_text(writer, bytes_of(text, size));
    }
}

/*
 * Frame and envelope of a successful response: leaves room for the 5-byte header, writes
 * [1, msgid, nil, [ with 1 + payload_count items in the inner array; the result map follows.
 * Returns where the frame starts; wire_end_frame then fills in its length, `payload_bytes` being
 * what the caller sends by reference or appended behind (bin headers not counted, they went
 * through the writer).
 */
uint8_t *wire_begin_response(struct wire_writer *writer, uint32_t msgid, unsigned payload_count);
void wire_end_frame(struct wire_writer *writer, uint8_t *frame, uint64_t payload_bytes);

/* A whole error response frame: {code, message, option?, version?, cause?, reason?}. */
void wire_put_error(struct wire_writer *writer, bool has_msgid, uint32_t msgid,
                    const struct wire_error *error);

#endif
