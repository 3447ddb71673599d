/* Groups: a change comes back as it was submitted, and damage never leads out of its bytes. */
#include "tests/store/test_record.h"

#include <sys/resource.h>

enum { STEPS_MAX = 6 };

static struct record_buffer buffer;
static struct ask ask;

/* A change with random steps, recalls and head; its pieces live here. */
struct sample {
    struct tier_change change;
    struct recall_entry recalls[TIER_RECALL_MAX];
    struct step *made[STEPS_MAX];
    const struct step *steps[STEPS_MAX];
};

static void make_sample(struct sample *sample, uint64_t *state)
{
    *sample = (struct sample){0};
    struct tier_change *change = &sample->change;
    uint64_t *words = (uint64_t *)(void *)sample->recalls;
    change->kind = TIER_PUT;
    change->reason = (enum reason)trial_below(state, REASON_COUNT);
    change->drop_from = (uint32_t)trial_random(state);
    change->recall_count = (uint32_t)trial_below(state, trial_below(state, 4) ? 3 : 65);
    for (size_t i = 0; i < change->recall_count * sizeof *sample->recalls / sizeof *words; i++) {
        words[i] = trial_random(state);
    }
    for (size_t i = 0; i < change->recall_count; i++) {
        sample->recalls[i].created = trial_below(state, 2) != 0;
    }
    change->recalls = sample->recalls;
    change->step_count = (uint32_t)trial_below(state, STEPS_MAX + 1);
    uint32_t first = (uint32_t)trial_below(state, 1000);
    change->head = (struct tier_head){.uid = trial_random(state),
                                      .name = {trial_random(state), trial_random(state)},
                                      .id = some_of(noise, state, 0, 255),
                                      .tenant = (uint16_t)trial_random(state),
                                      .length = first + change->step_count,
                                      .version = (uint32_t)trial_random(state),
                                      .lost = (uint32_t)trial_below(state, first + 1),
                                      .lost_reason = REASON_REWOUND,
                                      .floor = (uint32_t)trial_random(state),
                                      .ttl_ms = UINT64_MAX,
                                      .retention_ms = 1};
    if (trial_below(state, 3) == 0) {
        change->head.shared = first + 500; /* not where the inherited ones end */
        change->inherited = first + 2;
    }
    for (uint32_t i = 0; i < change->step_count; i++) {
        if (trial_below(state, 5)) {
            ask_any(&ask, state);
            sample->made[i] = step_of(&ask, first + i, (uint32_t)trial_random(state));
        }
        sample->steps[i] = sample->made[i];
    }
    change->steps = sample->steps;
}

static void free_sample(struct sample *sample)
{
    for (unsigned i = 0; i < STEPS_MAX; i++) {
        if (sample->made[i]) {
            step_discard(domain.lane, sample->made[i]);
        }
    }
}

static void check_step(const struct record_step *step, const struct tier_change *change, uint32_t i)
{
    uint32_t number = change->head.length - change->step_count + i;
    bool inherited = number < change->inherited;
    struct step_parts meant = {.number = number, .corrupt = true};
    if (change->steps[i]) {
        step_parts(change->steps[i], &meant);
    }
    if (inherited) {
        meant.inherited = true;
        meant.version = change->head.shared;
    }
    ck_assert_uint_eq(step->number, number);
    ck_assert_uint_eq(step->version, meant.version);
    ck_assert_int_eq(step->inherited, inherited);
    ck_assert_int_eq(step->corrupt, change->steps[i] == NULL);
    ck_assert(read_step(step->blob, &meant));
    struct record_step keys;
    ck_assert(record_step_keys(step->blob, &keys));
    ck_assert_uint_eq(keys.key_count, step->key_count);
    ck_assert(bytes_equal(keys.keys, step->keys));
}

static void check_group(struct bytes bytes, const struct tier_change *change)
{
    struct record_group group;
    ck_assert(record_open_group(bytes, &group));
    ck_assert_int_eq(group.kind, change->kind);
    ck_assert_int_eq(group.reason, change->reason);
    ck_assert_uint_eq(group.drop_from, change->drop_from);
    ck_assert_uint_eq(group.head.uid, change->head.uid);
    ck_assert_uint_eq(group.head.name.low, change->head.name.low);
    ck_assert_uint_eq(group.head.name.high, change->head.name.high);
    ck_assert_uint_eq(group.head.tenant, change->head.tenant);
    ck_assert_uint_eq(group.head.length, change->head.length);
    ck_assert_uint_eq(group.head.version, change->head.version);
    ck_assert_uint_eq(group.head.lost, change->head.lost);
    ck_assert_uint_eq(group.head.shared, change->head.shared);
    ck_assert_uint_eq(group.head.ttl_ms, change->head.ttl_ms);
    ck_assert_uint_eq(group.head.floor, change->head.floor);
    ck_assert(bytes_equal(group.head.id, change->head.id));
    ck_assert_uint_eq(group.recall_count, change->recall_count);
    ck_assert_uint_eq(group.step_count, change->step_count);
    struct recall_entry entry;
    for (uint32_t i = 0; i < change->recall_count; i++) {
        const struct recall_entry *meant = &change->recalls[i];
        ck_assert(record_next_recall(&group, &entry));
        ck_assert_uint_eq(entry.key.low, meant->key.low);
        ck_assert_uint_eq(entry.digest[1], meant->digest[1]);
        ck_assert_uint_eq(entry.ordinal, meant->ordinal);
        ck_assert_int_eq(entry.created, meant->created);
    }
    ck_assert(!record_next_recall(&group, &entry));
    struct record_step step;
    for (uint32_t i = 0; i < change->step_count; i++) {
        ck_assert(record_next_step(&group, &step));
        check_step(&step, change, i);
    }
    ck_assert(!record_next_step(&group, &step));
}

static struct bytes write_group(const struct tier_change *change)
{
    buffer.size = 0;
    ck_assert(record_put_group(&buffer, change, secret, RECORD_ZSTD));
    return bytes_of(buffer.data, buffer.size);
}

START_TEST(changes_come_back)
{
    uint64_t state = 21;
    static struct sample sample;
    for (uint64_t i = 0; i < trial_count(800); i++) {
        make_sample(&sample, &state);
        struct bytes group = snug(write_group(&sample.change));
        check_group(group, &sample.change);
        let_go(group);
        free_sample(&sample);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(groups_lie_behind_one_another)
{
    uint64_t state = 22;
    static struct sample samples[20];
    size_t ends[20];
    for (unsigned i = 0; i < 20; i++) {
        make_sample(&samples[i], &state);
        ck_assert(record_put_group(&buffer, &samples[i].change, secret, RECORD_PLAIN));
        ends[i] = buffer.size;
    }
    for (unsigned i = 0; i < 20; i++) {
        size_t begin = i > 0 ? ends[i - 1] : 0;
        check_group(bytes_of(buffer.data + begin, ends[i] - begin), &samples[i].change);
        free_sample(&samples[i]);
    }
    record_buffer_free(&buffer);
}
END_TEST

/* Of a thread that is erased nothing is written but who it was. */
START_TEST(erasures_say_only_who)
{
    uint64_t state = 23;
    static struct sample sample;
    make_sample(&sample, &state);
    sample.change.kind = TIER_ERASE;
    sample.change.head.lost = UINT32_MAX; /* does not count */
    struct bytes bytes = write_group(&sample.change);
    struct record_group group;
    ck_assert(record_open_group(bytes, &group));
    ck_assert_int_eq(group.kind, TIER_ERASE);
    ck_assert_int_eq(group.reason, sample.change.reason);
    ck_assert_uint_eq(group.recall_count + group.step_count, 0);
    ck_assert_uint_eq(group.head.uid, sample.change.head.uid);
    ck_assert_uint_eq(group.head.length, sample.change.head.length);
    ck_assert_uint_eq(group.head.version, sample.change.head.version);
    ck_assert_uint_eq(group.head.ttl_ms + group.head.lost + group.head.floor, 0);
    ck_assert(bytes_equal(group.head.id, sample.change.head.id));
    free_sample(&sample);
    record_buffer_free(&buffer);
}
END_TEST

/* No memory: what was there stays, and nothing half-written is left behind it. */
START_TEST(want_of_memory_leaves_the_buffer_as_it_was)
{
    uint64_t state = 24;
    static struct sample sample;
    make_sample(&sample, &state);
    size_t size = write_group(&sample.change).size;
    ck_assert_ptr_null(record_reserve(&buffer, SIZE_MAX / 2));
    ck_assert(buffer.failed);
    ck_assert(!record_put_group(&buffer, &sample.change, secret, RECORD_ZSTD));
    ck_assert_uint_eq(buffer.size, size);
    check_group(bytes_of(buffer.data, buffer.size), &sample.change);
    buffer.failed = false;
    ck_assert(record_put_group(&buffer, &sample.change, secret, RECORD_ZSTD));
    check_group(bytes_of(buffer.data + size, buffer.size - size), &sample.change);
    free_sample(&sample);
    record_buffer_free(&buffer);
}
END_TEST

#if defined(__has_feature) /* clang */
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED
#endif
#elif defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED
#endif

#ifndef SANITIZED
/* The same when memory runs out amid a group: its head found room, its step does not. */
START_TEST(a_group_begun_in_vain_is_taken_back)
{
    uint64_t state = 30;
    static struct sample sample;
    do {
        free_sample(&sample);
        make_sample(&sample, &state);
    } while (sample.change.step_count > 0);
    size_t size = write_group(&sample.change).size;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    ask_payload(&ask, bytes_of(noise, sizeof noise));
    struct step *step = step_of(&ask, 0, 1);
    const struct step *steps[] = {step};
    const struct tier_change large = {.kind = TIER_PUT,
                                      .head = {.id = bytes_text("t"), .length = 1},
                                      .step_count = 1,
                                      .steps = steps};
    struct rlimit was, none;
    getrlimit(RLIMIT_AS, &was);
    none = (struct rlimit){.rlim_cur = 0, .rlim_max = was.rlim_max};
    setrlimit(RLIMIT_AS, &none);
    bool done = record_put_group(&buffer, &large, secret, RECORD_ZSTD);
    setrlimit(RLIMIT_AS, &was);
    ck_assert(!done && buffer.failed);
    ck_assert_uint_eq(buffer.size, size);
    check_group(bytes_of(buffer.data, buffer.size), &sample.change);
    buffer.failed = false;
    ck_assert(record_put_group(&buffer, &large, secret, RECORD_ZSTD));
    check_group(bytes_of(buffer.data + size, buffer.size - size), &large);
    step_discard(domain.lane, step);
    record_buffer_free(&buffer);
}
END_TEST
#else
/* The sanitizers need address space of their own. */
START_TEST(a_group_begun_in_vain_is_taken_back)
{
}
END_TEST
#endif

/* Walks all of it; whether it was taken. */
static bool read_group(struct bytes bytes)
{
    struct record_group group;
    struct recall_entry entry;
    struct record_step step;
    struct record_key key;
    if (!record_open_group(bytes, &group)) {
        return false;
    }
    read_bytes(group.head.id);
    uint32_t recalls = 0, steps = 0;
    while (record_next_recall(&group, &entry)) {
        recalls++;
    }
    while (record_next_step(&group, &step)) {
        steps++;
        read_step(step.blob, NULL);
        while (record_next_key(&step, &key)) {
        }
    }
    ck_assert_uint_eq(recalls, group.recall_count);
    ck_assert_uint_eq(steps, group.step_count);
    return true;
}

START_TEST(every_truncation_is_refused)
{
    uint64_t state = 25;
    static struct sample sample;
    for (uint64_t i = 0; i < trial_count(8); i++) {
        make_sample(&sample, &state);
        struct bytes group = write_group(&sample.change);
        for (size_t cut = 0; cut < group.size; cut += cut < 3000 ? 1 : 97) {
            struct bytes less = snug(bytes_of(group.data, cut));
            ck_assert(!read_group(less));
            let_go(less);
        }
        free_sample(&sample);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(longer_groups_are_refused)
{
    uint64_t state = 26;
    static struct sample sample;
    for (uint64_t i = 0; i < 20; i++) {
        make_sample(&sample, &state);
        write_group(&sample.change);
        *record_reserve(&buffer, 1) = 0;
        ck_assert(!read_group(bytes_of(buffer.data, buffer.size + 1)));
        free_sample(&sample);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(every_changed_byte_is_survived)
{
    uint64_t state = 27;
    static struct sample sample;
    for (uint64_t i = 0; i < trial_count(4); i++) {
        make_sample(&sample, &state);
        struct bytes group = snug(write_group(&sample.change));
        uint8_t *data = (uint8_t *)(uintptr_t)group.data;
        for (size_t at = 0; at < group.size && at < 2000; at++) {
            uint8_t was = data[at];
            for (unsigned bit = 0; bit < 8; bit++) {
                data[at] = (uint8_t)(was ^ 1U << bit);
                read_group(group);
            }
            data[at] = was;
        }
        let_go(group);
        free_sample(&sample);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(wrong_numbers_are_refused)
{
    uint64_t state = 28;
    static struct sample sample;
    do {
        make_sample(&sample, &state);
        if (sample.change.step_count < 2) {
            free_sample(&sample);
        }
    } while (sample.change.step_count < 2);
    struct bytes group = write_group(&sample.change);
    struct record_group opened;
    struct record_step step;
    ck_assert(record_open_group(group, &opened));
    ck_assert(record_next_step(&opened, &step));
    uint8_t *number = buffer.data + (step.blob.data - buffer.data) + BLOB_NUMBER;
    bytes_store_be32(number, step.number + 1);
    ck_assert(!read_group(group));
    bytes_store_be32(number, step.number);
    ck_assert(read_group(group));
    for (unsigned format = 0; format < 256; format++) {
        buffer.data[0] = (uint8_t)format;
        ck_assert_int_eq(read_group(group), format == RECORD_FORMAT); /* its head has a floor */
    }
    free_sample(&sample);
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(damage_is_survived)
{
    uint64_t state = 29, taken = 0;
    static struct sample sample;
    for (uint64_t i = 0; i < trial_count(600); i++) {
        make_sample(&sample, &state);
        struct bytes group = write_group(&sample.change);
        for (unsigned round = 0; round < 50; round++) {
            size_t size = group.size;
            struct bytes hurt = snug(group);
            damage((uint8_t *)(uintptr_t)hurt.data, &size, &state);
            struct bytes cut = snug(bytes_of(hurt.data, size));
            taken += read_group(cut);
            let_go(hurt);
            let_go(cut);
        }
        free_sample(&sample);
    }
    ck_assert_uint_gt(taken, 0);
    record_buffer_free(&buffer);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "record_group", setup, teardown, 120, changes_come_back, groups_lie_behind_one_another,
        erasures_say_only_who, want_of_memory_leaves_the_buffer_as_it_was,
        a_group_begun_in_vain_is_taken_back, every_truncation_is_refused, longer_groups_are_refused,
        every_changed_byte_is_survived, wrong_numbers_are_refused, damage_is_survived);
}
