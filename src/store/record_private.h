/*
 * What the record_*.c share: a cursor over untrusted bytes, and how a buffer grows. Private.
 *
 * A cursor is a struct bytes of what is left.
 */
#ifndef RETHREAD_STORE_RECORD_PRIVATE_H
#define RETHREAD_STORE_RECORD_PRIVATE_H

#include "store/record.h"

/* The next `size` bytes; false leaves the cursor where it was. */
static inline bool record_take(struct bytes *rest, size_t size, struct bytes *taken)
{
    if (rest->size < size) {
        return false;
    }
    *taken = bytes_of(rest->data, size);
    if (size > 0) {
        *rest = bytes_of(rest->data + size, rest->size - size);
    }
    return true;
}

static inline bool record_take_be32(struct bytes *rest, uint32_t *value)
{
    struct bytes taken;
    if (!record_take(rest, sizeof *value, &taken)) {
        return false;
    }
    *value = bytes_load_be32(taken.data);
    return true;
}

/* Returns where to go on. */
static inline uint8_t *record_put_bytes(uint8_t *at, struct bytes bytes)
{
    if (bytes.size > 0) {
        memcpy(at, bytes.data, bytes.size);
    }
    return at + bytes.size;
}

/* Where `size` more bytes may be written (valid until the next call); NULL: no memory. Does not
 * move buffer->size. */
uint8_t *record_reserve(struct record_buffer *buffer, size_t size);

/* What names a step's keys. */
struct record_namer {
    const uint8_t *secret;
    uint16_t tenant;
};

/* Appends the blob of a step; false: no memory. */
bool record_put_step(struct record_buffer *buffer, const struct step_parts *parts,
                     struct record_namer namer, enum record_compression compression);

/* How a payload lies on disk. */
struct record_payload {
    struct bytes stored;
    size_t size;        /* of all segments, as they were given */
    size_t packed_size; /* the same but that token ids are packed */
    unsigned width;     /* of the token ids; 0: they are not packed */
    bool compressed;
};

/*
 * Appends the payload of a step, behind its width when its token ids are packed. False: no memory.
 * Fills in all of *written but `stored`.
 */
bool record_put_payload(struct record_buffer *buffer, const struct step_parts *parts,
                        enum record_compression compression, struct record_payload *written);
/* Writes the payload, compressed by the buffer's compressor, to `at`. The size; 0: it does not gain
 * enough, or there is no memory for it. */
size_t record_compress(struct record_buffer *buffer, uint8_t *at, struct bytes payload);
/* Whether the stored bytes can be what the rest says. */
bool record_is_payload(const struct record_payload *payload);
/* Writes payload->size bytes to `at`. `segments`: as in struct step_parts, and adding up to the
 * sizes. False: damaged. */
bool record_open_payload(const struct record_payload *payload, struct bytes segments, uint8_t *at);

/* Opens a blob's front (see record_step_keys) and looks over the rest as well. */
bool record_survey_step(struct bytes blob, struct record_step *step);

#endif
