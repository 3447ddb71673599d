/* How steps are written: which keys they name, when their payload is compressed. */
#include "tests/store/test_record.h"

#include "thread/records.h"
#include "wire/parse.h"

static struct record_buffer buffer;
static const struct record_namer namer = {.secret = secret, .tenant = 0x0102};

/* The blob alone in the buffer. */
static struct bytes write_step(const struct step_parts *parts, enum record_compression compression)
{
    buffer.size = 0;
    ck_assert(record_put_step(&buffer, parts, namer, compression));
    return bytes_of(buffer.data, buffer.size);
}

/* The payload of one text segment; its segment table must outlive the parts. */
static struct step_parts parts_of(struct bytes payload, uint32_t *segment)
{
    *segment = (uint32_t)payload.size;
    return (struct step_parts){.number = 7,
                               .version = 9,
                               .segment_count = 1,
                               .segments = bytes_of(segment, sizeof *segment),
                               .payload = payload};
}

static bool is_compressed(struct bytes blob)
{
    return (blob.data[BLOB_FLAGS] & FLAG_ZSTD) != 0;
}

START_TEST(what_shrinks_is_compressed)
{
    static const size_t sizes[] = {256, 2000, 30000, 1 << 20};
    uint32_t segment;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct step_parts parts = parts_of(bytes_of(prose, sizes[i]), &segment);
        struct bytes blob = write_step(&parts, RECORD_ZSTD);
        ck_assert(is_compressed(blob));
        ck_assert_uint_le(blob.size, BLOB_KEY + 4 + sizes[i] - sizes[i] / 8);
        ck_assert(read_step(blob, &parts));
        blob = write_step(&parts, RECORD_PLAIN);
        ck_assert(!is_compressed(blob));
        ck_assert_uint_eq(blob.size, BLOB_KEY + 4 + sizes[i]);
        ck_assert(read_step(blob, &parts));
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(what_does_not_shrink_stays_plain)
{
    static const size_t sizes[] = {1, 63, 64, 2000, 1 << 20};
    uint32_t segment;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct step_parts parts = parts_of(bytes_of(noise, sizes[i]), &segment);
        struct bytes blob = write_step(&parts, RECORD_ZSTD);
        ck_assert(!is_compressed(blob));
        ck_assert_uint_eq(blob.size, BLOB_KEY + 4 + sizes[i]);
        ck_assert(bytes_equal(bytes_of(blob.data + BLOB_KEY + 4, sizes[i]), parts.payload));
        ck_assert(read_step(blob, &parts));
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(small_payloads_stay_plain)
{
    static const uint8_t zeros[64];
    uint32_t segment;
    struct step_parts parts = parts_of(bytes_of(zeros, 63), &segment);
    ck_assert(!is_compressed(write_step(&parts, RECORD_ZSTD)));
    parts = parts_of(bytes_of(zeros, 64), &segment);
    ck_assert(is_compressed(write_step(&parts, RECORD_ZSTD)));
    record_buffer_free(&buffer);
}
END_TEST

/* A part of noise, the rest zeros: the gain is about the share of the zeros. */
START_TEST(an_eighth_decides)
{
    static uint8_t mixed[16384];
    uint32_t segment;
    for (unsigned sixteenths = 0; sixteenths <= 4; sixteenths++) {
        size_t quiet = sizeof mixed / 16 * sixteenths;
        memset(mixed, 0, quiet);
        memcpy(mixed + quiet, noise, sizeof mixed - quiet);
        struct step_parts parts = parts_of(bytes_of(mixed, sizeof mixed), &segment);
        struct bytes blob = write_step(&parts, RECORD_ZSTD);
        if (sixteenths != 2) {
            ck_assert_int_eq(is_compressed(blob), sixteenths > 2);
        }
        ck_assert_uint_le(blob.size, BLOB_KEY + 4 + sizeof mixed);
    }
    record_buffer_free(&buffer);
}
END_TEST

static bool has_name(struct bytes blob, enum record_kind kind, struct bytes id)
{
    struct index_hash name = index_hash_with(secret, namer.tenant, (uint8_t)kind, id);
    struct record_step step;
    struct record_key key;
    unsigned hits = 0;
    ck_assert(record_step_keys(blob, &step));
    while (record_next_key(&step, &key)) {
        hits += key.kind == kind && key.name.low == name.low && key.name.high == name.high;
    }
    ck_assert_uint_le(hits, 1);
    return hits == 1;
}

START_TEST(keys_are_named_once)
{
    static struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_set(&ask, response_id, bytes_text("same"));
    ask_set(&ask, prefix, bytes_of(noise, 16));
    ask_call(&ask, bytes_text("same"));
    ask_call(&ask, bytes_text("other"));
    ask_call(&ask, bytes_text("same"));
    struct step *step = step_of(&ask, 3, 4);
    struct step_parts parts;
    step_parts(step, &parts);
    struct bytes blob = write_step(&parts, RECORD_ZSTD);
    struct record_step keys;
    ck_assert(record_step_keys(blob, &keys));
    ck_assert_uint_eq(keys.key_count, 4);
    ck_assert_uint_eq(keys.number, 3);
    ck_assert_uint_eq(keys.version, 4);
    ck_assert(!keys.inherited && !keys.corrupt);
    ck_assert(has_name(blob, RECORD_RESPONSE_ID, bytes_text("same")));
    ck_assert(has_name(blob, RECORD_TOOL_CALL, bytes_text("same")));
    ck_assert(has_name(blob, RECORD_TOOL_CALL, bytes_text("other")));
    ck_assert(has_name(blob, RECORD_PREFIX, bytes_of(noise, 16)));
    ck_assert(!has_name(blob, RECORD_RESPONSE_ID, bytes_text("other")));
    ck_assert(read_step(blob, &parts)); /* all three tool calls are still there */
    step_discard(domain.lane, step);
    record_buffer_free(&buffer);
}
END_TEST

/* The most keys a step can have, and ids of 255 bytes: still all in the first chunk. */
START_TEST(the_first_chunk_has_all_keys)
{
    static struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_set(&ask, response_id, bytes_of(noise, 255));
    ask_set(&ask, prefix, bytes_of(noise, 16));
    for (size_t i = 0; i < WIRE_TOOL_CALLS_MAX; i++) {
        ask_call(&ask, bytes_of(noise + 1000 + i, 255));
    }
    for (size_t i = 0; i < WIRE_PAYLOADS_MAX; i++) {
        ask_kind(&ask, (enum wire_kind)(i % WIRE_KIND_COUNT));
        ask_payload(&ask, bytes_of(noise, 1 + i * 100));
    }
    struct step *step = step_of(&ask, UINT32_MAX, UINT32_MAX);
    struct step_parts parts;
    step_parts(step, &parts);
    struct bytes blob = write_step(&parts, RECORD_ZSTD);
    struct bytes chunk = snug(bytes_of(blob.data, RECORD_VALUE_MAX - RECORD_SEAL_BYTES));
    struct record_step keys;
    struct record_key key;
    unsigned count = 0;
    ck_assert(record_step_keys(chunk, &keys));
    while (record_next_key(&keys, &key)) {
        count++;
    }
    ck_assert_uint_eq(count, WIRE_TOOL_CALLS_MAX + 2);
    ck_assert(has_name(chunk, RECORD_TOOL_CALL, bytes_of(noise + 1127, 255)));
    ck_assert(read_step(blob, &parts));
    let_go(chunk);
    step_discard(domain.lane, step);
    record_buffer_free(&buffer);
}
END_TEST

int main(void)
{
    return SUITE_RUN("record_step", setup, teardown, 60, what_shrinks_is_compressed,
                     what_does_not_shrink_stays_plain, small_payloads_stay_plain, an_eighth_decides,
                     keys_are_named_once, the_first_chunk_has_all_keys);
}
