/*
 * Payloads on disk: text, token ids and opaque blocks as they were, in every mixture; the ids in
 * fewer bytes; and sizes that do not fit together refused.
 */
#include "tests/store/test_record.h"

#include "store/tokens.h"

enum { SEGMENTS_MAX = 8 };

static struct record_buffer buffer;
static const struct record_namer namer = {.secret = secret, .tenant = 1};

/* A payload with its table; `parts` leads into it. */
struct mixed {
    struct step_parts parts;
    uint32_t table[SEGMENTS_MAX];
    uint8_t *bytes;
};

static void begin(struct mixed *mixed)
{
    *mixed = (struct mixed){.parts = {.number = 1, .version = 2}};
    mixed->parts.segments.data = (const uint8_t *)mixed->table;
    mixed->bytes = malloc(8 << 20);
    ck_assert_ptr_nonnull(mixed->bytes);
    mixed->parts.payload.data = mixed->bytes;
}

static void add(struct mixed *mixed, enum wire_kind kind, struct bytes segment)
{
    struct step_parts *parts = &mixed->parts;
    ck_assert_uint_lt(parts->segment_count, SEGMENTS_MAX);
    mixed->table[parts->segment_count++] = (uint32_t)segment.size | (uint32_t)kind << 30;
    parts->segments.size += sizeof *mixed->table;
    record_put_bytes(mixed->bytes + parts->payload.size, segment);
    parts->payload.size += segment.size;
}

static void end(struct mixed *mixed)
{
    free(mixed->bytes);
}

static struct bytes write_blob(const struct mixed *mixed, enum record_compression compression)
{
    buffer.size = 0;
    ck_assert(record_put_step(&buffer, &mixed->parts, namer, compression));
    return bytes_of(buffer.data, buffer.size);
}

static bool is_packed(struct bytes blob)
{
    return (blob.data[BLOB_FLAGS] & FLAG_PACKED) != 0;
}

static bool is_compressed(struct bytes blob)
{
    return (blob.data[BLOB_FLAGS] & FLAG_ZSTD) != 0;
}

static struct bytes some_ids(size_t count)
{
    return bytes_of(narrow_ids, count * TOKENS_ID_BYTES);
}

/* All of them comes back, in an allocation of its own, packed or not. */
static struct bytes check(const struct mixed *mixed, enum record_compression compression)
{
    struct bytes blob = write_blob(mixed, compression), alone = snug(blob);
    ck_assert(read_step(alone, &mixed->parts));
    let_go(alone);
    return blob;
}

START_TEST(ids_take_their_width)
{
    static const size_t counts[] = {1, 2, 3, 10, 1024, 1025, 5000, 200000};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        struct mixed mixed;
        begin(&mixed);
        add(&mixed, WIRE_KIND_TOKENS, some_ids(counts[i]));
        struct bytes blob = check(&mixed, RECORD_PLAIN);
        unsigned width = tokens_width(some_ids(counts[i]));
        size_t packed = tokens_packed_bytes(counts[i], width) + 1;
        ck_assert_uint_le(width, 18);
        ck_assert_int_eq(is_packed(blob), packed < 4 * counts[i]);
        ck_assert_uint_eq(blob.size, BLOB_KEY + 4 + (is_packed(blob) ? packed : 4 * counts[i]));
        ck_assert_uint_eq(bytes_load_be32(blob.data + BLOB_PAYLOAD_BYTES), 4 * counts[i]);
        ck_assert_uint_le(check(&mixed, RECORD_ZSTD).size, blob.size);
        end(&mixed);
    }
    record_buffer_free(&buffer);
}
END_TEST

/* Ids that repeat: what is packed still compresses. */
START_TEST(packed_ids_are_compressed)
{
    struct mixed mixed;
    begin(&mixed);
    for (unsigned i = 0; i < SEGMENTS_MAX; i++) {
        add(&mixed, WIRE_KIND_TOKENS, some_ids(1500));
    }
    struct bytes blob = check(&mixed, RECORD_ZSTD);
    ck_assert(is_packed(blob) && is_compressed(blob));
    ck_assert_uint_lt(blob.size, 1500 * 3);
    end(&mixed);
    record_buffer_free(&buffer);
}
END_TEST

/* What no packing can make smaller stays exact: ids of all 32 bits, and those that are none. */
START_TEST(wide_ids_and_parts_of_ids_stay_as_they_are)
{
    struct mixed mixed;
    begin(&mixed);
    add(&mixed, WIRE_KIND_TOKENS, bytes_of(noise, 4000));
    ck_assert(!is_packed(check(&mixed, RECORD_PLAIN)));
    check(&mixed, RECORD_ZSTD);
    end(&mixed);
    begin(&mixed);
    add(&mixed, WIRE_KIND_TOKENS, some_ids(100));
    add(&mixed, WIRE_KIND_TOKENS, bytes_of(noise, 4001));
    ck_assert(!is_packed(check(&mixed, RECORD_PLAIN)));
    check(&mixed, RECORD_ZSTD);
    end(&mixed);
    begin(&mixed);
    add(&mixed, WIRE_KIND_TEXT, bytes_of(prose, 4000));
    ck_assert(!is_packed(check(&mixed, RECORD_PLAIN)));
    end(&mixed);
    begin(&mixed);
    ck_assert(!is_packed(check(&mixed, RECORD_ZSTD)));
    end(&mixed);
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(mixtures_come_back)
{
    uint64_t state = 41, packed = 0, both = 0;
    for (uint64_t i = 0; i < trial_count(4000); i++) {
        struct mixed mixed;
        begin(&mixed);
        size_t most = trial_below(&state, 10) ? 400 : 40000;
        for (uint64_t left = trial_below(&state, SEGMENTS_MAX + 1); left > 0; left--) {
            enum wire_kind kind = (enum wire_kind)trial_below(&state, WIRE_KIND_COUNT);
            add(&mixed, kind, some_payload(kind, trial_below(&state, 40) == 0, most, &state));
        }
        check(&mixed, RECORD_PLAIN);
        struct bytes blob = check(&mixed, RECORD_ZSTD);
        packed += is_packed(blob);
        both += is_packed(blob) && is_compressed(blob);
        end(&mixed);
    }
    ck_assert_uint_gt(both, 0);
    ck_assert_uint_gt(packed, both);
    record_buffer_free(&buffer);
}
END_TEST

/* A packed blob with one field changed and its checksum made right again. */
static void refuse(struct bytes blob, size_t at, uint8_t value)
{
    struct bytes hurt = snug(blob);
    uint8_t *data = (uint8_t *)(uintptr_t)hurt.data;
    ck_assert_uint_ne(data[at], value);
    data[at] = value;
    resum(data, hurt.size);
    ck_assert(!read_step(hurt, NULL));
    let_go(hurt);
}

START_TEST(sizes_that_do_not_fit_are_refused)
{
    for (int compression = RECORD_PLAIN; compression <= RECORD_ZSTD; compression++) {
        struct mixed mixed;
        begin(&mixed);
        add(&mixed, WIRE_KIND_TOKENS, some_ids(1100));
        add(&mixed, WIRE_KIND_TEXT, bytes_of(prose, 5000));
        struct bytes blob = check(&mixed, (enum record_compression)compression);
        ck_assert(is_packed(blob));
        ck_assert_int_eq(is_compressed(blob), compression == RECORD_ZSTD);
        size_t width_at = BLOB_KEY + 2 * SEGMENT_BYTES;
        ck_assert_uint_eq(blob.data[width_at], 18);
        for (unsigned width = 0; width < 256; width++) {
            if (width != 18) {
                refuse(blob, width_at, (uint8_t)width);
            }
        }
        /* Without the flag, the width is a byte of the payload. */
        refuse(blob, BLOB_FLAGS, blob.data[BLOB_FLAGS] & (uint8_t)~FLAG_PACKED);
        refuse(blob, BLOB_KEY + 3, blob.data[BLOB_KEY + 3] ^ 1); /* bytes of the token segment */
        refuse(blob, BLOB_KEY + 7, blob.data[BLOB_KEY + 7] ^ 4);
        refuse(blob, BLOB_KEY + 4, 0x40); /* the text as token ids */
        refuse(blob, BLOB_KEY, 0);        /* and they as text */
        refuse(blob, BLOB_PAYLOAD_BYTES + 3, blob.data[BLOB_PAYLOAD_BYTES + 3] ^ 4);
        end(&mixed);
    }
    record_buffer_free(&buffer);
}
END_TEST

/* A table that differs and still adds up, packed and unpacked: 1,101 ids at 18 bits take just as
 * much as 1,100 and 3 bytes. What is left of the last id would be nobody's bytes. */
START_TEST(a_part_of_an_id_is_refused)
{
    for (int compression = RECORD_PLAIN; compression <= RECORD_ZSTD; compression++) {
        struct mixed mixed;
        begin(&mixed);
        add(&mixed, WIRE_KIND_TOKENS, some_ids(1101));
        add(&mixed, WIRE_KIND_TEXT, bytes_of(prose, 5000));
        struct bytes hurt = snug(check(&mixed, (enum record_compression)compression));
        uint8_t *data = (uint8_t *)(uintptr_t)hurt.data;
        ck_assert_uint_eq(tokens_packed_bytes(1101, 18), tokens_packed_bytes(1100, 18) + 3);
        bytes_store_be32(data + BLOB_KEY, (uint32_t)WIRE_KIND_TOKENS << 30 | (4404 - 3));
        bytes_store_be32(data + BLOB_KEY + 4, 5000 + 3);
        resum(data, hurt.size);
        ck_assert(!read_step(hurt, NULL));
        let_go(hurt);
        end(&mixed);
    }
    record_buffer_free(&buffer);
}
END_TEST

/* Whatever the table says, what is read is there, and what is written has room. */
START_TEST(damage_behind_a_right_checksum_is_survived)
{
    uint64_t state = 42, taken = 0;
    for (uint64_t i = 0; i < trial_count(600); i++) {
        struct mixed mixed;
        begin(&mixed);
        for (unsigned left = 4; left > 0; left--) {
            enum wire_kind kind = left % 2 ? WIRE_KIND_TOKENS : WIRE_KIND_OPAQUE;
            add(&mixed, kind, some_payload(kind, false, 3000, &state));
        }
        struct bytes blob = write_blob(&mixed, trial_below(&state, 2) ? RECORD_PLAIN : RECORD_ZSTD);
        for (unsigned round = 0; round < 40; round++) {
            struct bytes hurt = snug(blob);
            uint8_t *data = (uint8_t *)(uintptr_t)hurt.data;
            damage(data, &hurt.size, &state);
            struct bytes cut = snug(hurt);
            if (cut.size > BLOB_FLAGS && trial_below(&state, 2)) {
                ((uint8_t *)(uintptr_t)cut.data)[BLOB_FLAGS] |= FLAG_PACKED;
            }
            resum((uint8_t *)(uintptr_t)cut.data, cut.size);
            taken += read_step(cut, NULL);
            let_go(hurt);
            let_go(cut);
        }
        end(&mixed);
    }
    ck_assert_uint_gt(taken, 0);
    record_buffer_free(&buffer);
}
END_TEST

int main(void)
{
    return SUITE_RUN("record_payload", setup, teardown, 120, ids_take_their_width,
                     packed_ids_are_compressed, wide_ids_and_parts_of_ids_stay_as_they_are,
                     mixtures_come_back, sizes_that_do_not_fit_are_refused,
                     a_part_of_an_id_is_refused, damage_behind_a_right_checksum_is_survived);
}
