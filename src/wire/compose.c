/* Writes MessagePack in its shortest form. Touches nothing but the writer's buffer. */
#include "wire/compose.h"

#include <assert.h>

/* Room for `size` bytes, or NULL: the writer then writes nothing any more. */
static uint8_t *reserve(struct wire_writer *writer, size_t size)
{
    if (writer->overflow || (size_t)(writer->end - writer->at) < size) {
        writer->overflow = true;
        return NULL;
    }
    uint8_t *room = writer->at;
    writer->at += size;
    return room;
}

/* Inline, so that `size` is known where it is stored by. */
static inline void put_marked(struct wire_writer *writer, unsigned mark, unsigned size,
                              uint64_t value)
{
    uint8_t *p = reserve(writer, 1 + (size_t)size);
    if (p == NULL) {
        return;
    }
    *p++ = (uint8_t)mark;
    switch (size) {
    case 1:
        *p = (uint8_t)value;
        break;
    case 2:
        bytes_store_be16(p, (uint16_t)value);
        break;
    case 4:
        bytes_store_be32(p, (uint32_t)value);
        break;
    default:
        assert(size == 8);
        bytes_store_be64(p, value);
        break;
    }
}

void wire_put_wide_u64(struct wire_writer *writer, uint64_t value)
{
    assert(value >= 0x80);
    if (value <= UINT8_MAX) {
        put_marked(writer, 0xCC, 1, value);
    } else if (value <= UINT16_MAX) {
        put_marked(writer, 0xCD, 2, value);
    } else if (value <= UINT32_MAX) {
        put_marked(writer, 0xCE, 4, value);
    } else {
        put_marked(writer, 0xCF, 8, value);
    }
}

void wire_put_i64(struct wire_writer *writer, int64_t value)
{
    if (value >= 0) {
        wire_put_u64(writer, (uint64_t)value);
    } else if (value >= -32) {
        wire_put_byte(writer, (uint8_t)value);
    } else if (value >= INT8_MIN) {
        put_marked(writer, 0xD0, 1, (uint64_t)value);
    } else if (value >= INT16_MIN) {
        put_marked(writer, 0xD1, 2, (uint64_t)value);
    } else if (value >= INT32_MIN) {
        put_marked(writer, 0xD2, 4, (uint64_t)value);
    } else {
        put_marked(writer, 0xD3, 8, (uint64_t)value);
    }
}

void wire_put_raw(struct wire_writer *writer, struct bytes encoded)
{
    uint8_t *p = reserve(writer, encoded.size);
    if (p != NULL && encoded.size > 0) {
        memcpy(p, encoded.data, encoded.size);
    }
}

void wire_put_any_text(struct wire_writer *writer, struct bytes bytes)
{
    if (bytes.size <= WIRE_SHORT_TEXT_BYTES_MAX) {
        wire_put_byte(writer, 0xA0 | (unsigned)bytes.size);
    } else if (bytes.size <= UINT8_MAX) {
        put_marked(writer, 0xD9, 1, bytes.size);
    } else {
        assert(bytes.size <= UINT16_MAX); /* names and messages of ours */
        put_marked(writer, 0xDA, 2, bytes.size);
    }
    wire_put_raw(writer, bytes);
}

void wire_put_bin_header(struct wire_writer *writer, uint64_t size_bytes)
{
    assert(size_bytes <= UINT32_MAX);
    if (size_bytes <= UINT8_MAX) {
        put_marked(writer, 0xC4, 1, size_bytes);
    } else if (size_bytes <= UINT16_MAX) {
        put_marked(writer, 0xC5, 2, size_bytes);
    } else {
        put_marked(writer, 0xC6, 4, size_bytes);
    }
}

void wire_put_bin(struct wire_writer *writer, struct bytes value)
{
    wire_put_bin_header(writer, value.size);
    wire_put_raw(writer, value);
}

void wire_put_wide_array(struct wire_writer *writer, uint32_t count)
{
    assert(count >= 16);
    if (count <= UINT16_MAX) {
        put_marked(writer, 0xDC, 2, count);
    } else {
        put_marked(writer, 0xDD, 4, count);
    }
}

void wire_put_wide_map(struct wire_writer *writer, uint32_t count)
{
    assert(count >= 16);
    if (count <= UINT16_MAX) {
        put_marked(writer, 0xDE, 2, count);
    } else {
        put_marked(writer, 0xDF, 4, count);
    }
}

/* Frame header, filled in by wire_end_frame, and [1, msgid, ... */
static inline uint8_t *begin_frame(struct wire_writer *writer, bool has_msgid, uint32_t msgid)
{
    uint8_t *frame = reserve(writer, WIRE_HEADER_BYTES + 2);
    if (frame == NULL) {
        return writer->at;
    }
    frame[0] = WIRE_HEADER_MARK;
    frame[WIRE_HEADER_BYTES] = 0x94;
    frame[WIRE_HEADER_BYTES + 1] = 1;
    if (has_msgid) {
        wire_put_u64(writer, msgid);
    } else {
        wire_put_nil(writer);
    }
    return frame;
}

uint8_t *wire_begin_response(struct wire_writer *writer, uint32_t msgid, unsigned payload_count)
{
    uint8_t *frame = begin_frame(writer, true, msgid);
    wire_put_nil(writer);
    wire_put_array(writer, 1 + payload_count);
    return frame;
}

void wire_end_frame(struct wire_writer *writer, uint8_t *frame, uint64_t payload_bytes)
{
    if (writer->overflow) {
        return;
    }
    uint64_t size = (uint64_t)(writer->at - frame) - WIRE_HEADER_BYTES + payload_bytes;
    assert(frame[0] == WIRE_HEADER_MARK && size <= UINT32_MAX);
    bytes_store_be32(frame + 1, (uint32_t)size);
}

void wire_put_error(struct wire_writer *writer, bool has_msgid, uint32_t msgid,
                    const struct wire_error *error)
{
    assert(error->status != STATUS_OK && error->status != STATUS_AGAIN);
    bool has_option = error->option[0] != '\0';
    bool has_version = error->version >= 0;
    bool has_cause = error->cause != NULL && error->cause[0] != '\0';
    bool has_reason = error->reason != REASON_NONE;
    uint8_t *frame = begin_frame(writer, has_msgid, msgid);
    wire_put_map(writer, 2U + has_option + has_version + has_cause + has_reason);
    wire_put_text(writer, "code");
    wire_put_text(writer, status_code(error->status));
    wire_put_text(writer, "message");
    wire_put_text(writer, error->message);
    if (has_option) {
        wire_put_text(writer, "option");
        wire_put_text(writer, error->option);
    }
    if (has_version) {
        wire_put_text(writer, "version");
        wire_put_i64(writer, error->version);
    }
    if (has_cause) {
        wire_put_text(writer, "cause");
        wire_put_text(writer, error->cause);
    }
    if (has_reason) {
        wire_put_text(writer, "reason");
        wire_put_text(writer, reason_name(error->reason));
    }
    wire_put_nil(writer);
    wire_end_frame(writer, frame, 0);
}
