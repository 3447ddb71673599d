/* How steps are read: as they were written, or not at all. */
#include "tests/store/test_record.h"

static struct record_buffer buffer;
static const struct record_namer namer = {.secret = secret, .tenant = 1};
static struct ask ask;

/* A random step's blob, in an allocation of its own; `parts` leads into *step. */
static struct bytes some_blob(uint64_t *state, struct step **step, struct step_parts *parts)
{
    ask_any(&ask, state);
    *step = step_of(&ask, (uint32_t)trial_random(state), (uint32_t)trial_random(state));
    step_parts(*step, parts);
    parts->inherited = trial_below(state, 4) == 0;
    buffer.size = 0;
    ck_assert(
        record_put_step(&buffer, parts, namer, trial_below(state, 4) ? RECORD_ZSTD : RECORD_PLAIN));
    return snug(bytes_of(buffer.data, buffer.size));
}

START_TEST(steps_come_back)
{
    uint64_t state = 11;
    for (uint64_t i = 0; i < trial_count(3000); i++) {
        struct step *step;
        struct step_parts parts;
        struct bytes blob = some_blob(&state, &step, &parts);
        ck_assert(read_step(blob, &parts));
        let_go(blob);
        step_discard(domain.lane, step);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(corrupt_steps_come_back_as_such)
{
    struct step_parts parts = {.number = 77, .version = 5, .corrupt = true, .inherited = true};
    ck_assert(record_put_step(&buffer, &parts, namer, RECORD_ZSTD));
    struct bytes blob = bytes_of(buffer.data, buffer.size);
    struct record_step keys;
    ck_assert(read_step(blob, &parts));
    ck_assert(record_step_keys(blob, &keys));
    ck_assert(keys.corrupt && keys.inherited);
    ck_assert_uint_eq(keys.key_count, 0);
    ck_assert(!read_step(bytes_of(buffer.data, buffer.size - 1), NULL));
    record_buffer_free(&buffer);
}
END_TEST

/* The checksum sees every one of them. */
START_TEST(every_changed_byte_is_refused)
{
    uint64_t state = 12;
    for (uint64_t i = 0; i < trial_count(40); i++) {
        struct step *step;
        struct step_parts parts;
        struct bytes blob = some_blob(&state, &step, &parts);
        uint8_t *data = (uint8_t *)(uintptr_t)blob.data;
        size_t range = blob.size < 3000 ? blob.size : 3000;
        for (size_t at = 0; at < range; at++) {
            uint8_t was = data[at];
            data[at] ^= (uint8_t)(1 + trial_below(&state, 255));
            ck_assert(!read_step(blob, NULL));
            data[at] = was;
        }
        ck_assert(read_step(blob, &parts));
        let_go(blob);
        step_discard(domain.lane, step);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(every_truncation_is_refused)
{
    uint64_t state = 13;
    for (uint64_t i = 0; i < trial_count(40); i++) {
        struct step *step;
        struct step_parts parts;
        struct bytes blob = some_blob(&state, &step, &parts);
        for (size_t cut = 0; cut < blob.size && cut < 4000; cut++) {
            struct bytes less = snug(bytes_of(blob.data, cut));
            struct record_step keys;
            resum((uint8_t *)(uintptr_t)less.data, cut);
            ck_assert(!read_step(less, NULL));
            record_step_keys(less, &keys);
            let_go(less);
        }
        let_go(blob);
        step_discard(domain.lane, step);
    }
    record_buffer_free(&buffer);
}
END_TEST

/* Damage that the checksum does not see: whatever is said, nothing is read that is not there. */
START_TEST(damage_behind_a_right_checksum_is_survived)
{
    uint64_t state = 14, taken = 0;
    for (uint64_t i = 0; i < trial_count(2000); i++) {
        struct step *step;
        struct step_parts parts;
        struct bytes blob = some_blob(&state, &step, &parts);
        for (unsigned round = 0; round < 60; round++) {
            struct bytes hurt = snug(blob);
            uint8_t *data = (uint8_t *)(uintptr_t)hurt.data;
            damage(data, &hurt.size, &state);
            struct bytes cut = snug(hurt);
            resum((uint8_t *)(uintptr_t)cut.data, cut.size);
            struct record_step keys;
            struct record_key key;
            taken += read_step(cut, NULL);
            for (bool more = record_step_keys(cut, &keys); more;) {
                more = record_next_key(&keys, &key);
            }
            let_go(hurt);
            let_go(cut);
        }
        let_go(blob);
        step_discard(domain.lane, step);
    }
    ck_assert_uint_gt(taken, 0); /* else the damage is too coarse to get anywhere */
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(random_bytes_are_survived)
{
    uint64_t state = 15;
    for (uint64_t i = 0; i < trial_count(100000); i++) {
        struct bytes bytes = snug(some_of(noise, &state, 0, 200));
        uint8_t *data = (uint8_t *)(uintptr_t)bytes.data;
        for (size_t at = BLOB_FLAGS; at < 36 && at < bytes.size; at++) {
            data[at] = (uint8_t)(trial_below(&state, 3) ? 0 : data[at] % 40);
        }
        resum(data, bytes.size);
        read_step(bytes, NULL);
        let_go(bytes);
    }
}
END_TEST

/* A blob that says it grows to a gigabyte gets no gigabyte. */
START_TEST(declared_sizes_are_bounded)
{
    uint32_t segment = 1 << 20;
    struct step_parts parts = {.segment_count = 1,
                               .segments = bytes_of(&segment, sizeof segment),
                               .payload = bytes_of(prose, 1 << 20)};
    static const uint8_t zeros[1 << 20];
    parts.payload.data = zeros;
    ck_assert(record_put_step(&buffer, &parts, namer, RECORD_ZSTD));
    ck_assert(read_step(bytes_of(buffer.data, buffer.size), &parts));
    /* The frame's header says a size in 4 bytes, behind magic and descriptor (single segment). */
    uint8_t *frame = buffer.data + BLOB_KEY + sizeof segment;
    size_t at = 5 + ((frame[4] & 0x20) ? 0 : 1);
    ck_assert_uint_eq(frame[4] >> 6, 2);
    const uint32_t huge = SEGMENT_BYTES_MAX;
    memcpy(frame + at, &huge, sizeof huge);
    bytes_store_be32(buffer.data + BLOB_PAYLOAD_BYTES, huge);
    bytes_store_be32(buffer.data + BLOB_KEY, huge);
    resum(buffer.data, buffer.size);
    ck_assert_uint_eq(record_step_bytes(bytes_of(buffer.data, buffer.size)), 0);
    record_buffer_free(&buffer);
}
END_TEST

int main(void)
{
    return SUITE_RUN("record_open", setup, teardown, 120, steps_come_back,
                     corrupt_steps_come_back_as_such, every_changed_byte_is_refused,
                     every_truncation_is_refused, damage_behind_a_right_checksum_is_survived,
                     random_bytes_are_survived, declared_sizes_are_bounded);
}
