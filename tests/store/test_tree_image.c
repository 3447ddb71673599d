/* Threads as loaded: what was put, step by step; a step that is damaged is corrupt, and alone. */
#include "tests/store/test_hands.h"

START_TEST(threads_come_back)
{
    enum { THREADS = 30 };
    static struct sample samples[THREADS];
    static struct ask ask;
    uint64_t state = 5;
    for (unsigned i = 0; i < THREADS; i++) {
        char id[16];
        snprintf(id, sizeof id, "thread %u", i);
        sample_begin(&samples[i], id, 1 + i * 3);
        for (uint64_t steps = trial_below(&state, 12); steps > 0; steps--) {
            ask_any(&ask, &state);
            sample_add(&samples[i], &ask);
        }
        if (i % 5 == 0) {
            sample_say(&samples[i], "big", NULL, bytes_of(noise, 300000));
        }
        sample_put(&samples[i]);
    }
    for (unsigned i = 0; i < THREADS; i++) {
        check_loads(&samples[i], 0, 0);
    }
    tree_close(image.tree);
    image_reopen();
    for (unsigned i = 0; i < THREADS; i++) {
        check_loads(&samples[i], 0, 0);
    }
}
END_TEST

START_TEST(chunks_of_every_size)
{
    static struct sample sample;
    sample_begin(&sample, "t", 1);
    /* Around the ends of chunks, whatever the blob adds. */
    for (size_t more = 0; more < SAMPLE_STEPS_MAX; more++) {
        sample_say(&sample, NULL, NULL, bytes_of(noise, TREE_BODY_MAX - SAMPLE_STEPS_MAX + more));
    }
    sample_put(&sample);
    check_loads(&sample, 0, 0);
}
END_TEST

START_TEST(appends_and_rewinds)
{
    static struct sample sample;
    sample_begin(&sample, "t", 9);
    for (unsigned i = 0; i < 6; i++) {
        sample_say(&sample, NULL, NULL, bytes_of(noise + i, 5000));
        sample_put_last(&sample);
        check_loads(&sample, 0, 0);
    }
    sample_rewind(&sample, 2);
    sample_put_rewound(&sample);
    check_loads(&sample, 0, 0);
    sample_say(&sample, NULL, NULL, bytes_text("short"));
    sample_put_last(&sample);
    check_loads(&sample, 0, 0);
}
END_TEST

START_TEST(what_is_lost_and_what_was_corrupt)
{
    static struct sample sample;
    sample_begin(&sample, "t", 9);
    for (unsigned i = 0; i < 6; i++) {
        sample_say(&sample, NULL, NULL, bytes_of(noise + i, 50));
    }
    sample.head.lost = 2;
    sample.head.lost_base = 2;
    sample.head.lost_reason = REASON_EXPIRED;
    sample.steps[0] = sample.steps[1] = sample.steps[4] = NULL;
    sample_put(&sample);
    check_loads(&sample, 0, 0);
    ck_assert(is_corrupt("t", 2));
}
END_TEST

START_TEST(recalls_come_by_ordinal)
{
    static struct sample sample;
    sample_begin(&sample, "t", 1);
    sample_say(&sample, NULL, NULL, bytes_text("x"));
    for (uint32_t i = 0; i < TIER_RECALL_MAX; i++) {
        sample.recalls[i] =
            (struct recall_entry){.key = {i, 1}, .ordinal = 100 + i, .step = i, .created = i == 0};
    }
    sample.recall_count = TIER_RECALL_MAX;
    sample_put(&sample);
    ck_assert_int_eq(LOAD("t"), TIER_FOUND);
    ck_assert_uint_eq(load.image->recall_count, TIER_RECALL_MAX);
    for (uint32_t i = 0; i < TIER_RECALL_MAX; i++) {
        ck_assert(is_same_recall(&load.image->recalls[i], &sample.recalls[i]));
    }
    free(load.image);
}
END_TEST

START_TEST(a_damaged_chunk_is_one_corrupt_step)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    for (uint32_t chunk = 0; chunk < 3; chunk++) {
        meddle_data(1, TREE_PART_STEPS + 2, chunk, spoil);
        check_loads(&sample, 1, 1);
        ck_assert(is_corrupt("t", 2));
        meddle_data(1, TREE_PART_STEPS + 2, chunk, spoil); /* and back */
        check_loads(&sample, 0, 0);
    }
    meddle_data(1, TREE_PART_STEPS + 0, 0, spoil);
    meddle_data(1, TREE_PART_STEPS + 3, 0, spoil);
    check_loads(&sample, 2, 2);
    ck_assert(!tree_is_broken(image.tree)); /* values, not pages */
}
END_TEST

START_TEST(a_missing_chunk_is_one_corrupt_step)
{
    for (uint32_t chunk = 0; chunk < 3; chunk++) {
        static struct sample sample;
        sample_four(&sample, "t", 1 + chunk);
        meddle_data(1 + chunk, TREE_PART_STEPS + 2, chunk, NULL);
        check_loads(&sample, 1, 1);
        ck_assert(is_corrupt("t", 2));
    }
}
END_TEST

START_TEST(a_chunk_too_many_is_one_corrupt_step)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    put_data(1, TREE_PART_STEPS + 1, 1, RECORD_CHUNK, bytes_text("more"));
    put_data(1, TREE_PART_STEPS + 2, 3, RECORD_CHUNK, bytes_text("more"));
    check_loads(&sample, 2, 2);
}
END_TEST

/* A sound value under a key that is not its own. */
START_TEST(a_chunk_of_another_is_never_taken)
{
    static struct sample one, two;
    sample_four(&one, "one", 1);
    sample_four(&two, "two", 2);
    copy_value(tree_data_key(2, TREE_PART_STEPS + 1, 0), tree_data_key(1, TREE_PART_STEPS + 1, 0));
    check_loads(&one, 1, 1);
    copy_value(tree_data_key(1, TREE_PART_STEPS + 3, 0), tree_data_key(1, TREE_PART_STEPS + 0, 0));
    check_loads(&one, 2, 2);
    copy_value(tree_data_key(2, 0, TREE_CHUNK_HEAD), tree_data_key(1, 0, TREE_CHUNK_HEAD));
    ck_assert_int_eq(LOAD("one"), TIER_CORRUPT);
    check_loads(&two, 0, 0);
}
END_TEST

/* A whole blob that passes its own checksum, of another position or of a time to come. */
START_TEST(a_step_that_does_not_fit_is_corrupt)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    struct record_buffer buffer = {0};
    struct step_parts parts;
    struct record_namer namer = {.secret = tree_secret(image.tree)};
    step_parts(sample.steps[1], &parts);
    parts.number = 3;
    ck_assert(record_put_step(&buffer, &parts, namer, RECORD_PLAIN));
    put_data(1, TREE_PART_STEPS + 1, 0, RECORD_CHUNK, bytes_of(buffer.data, buffer.size));
    check_loads(&sample, 1, 1);
    static const uint32_t versions[] = {5, 4, 0};
    for (unsigned i = 0; i < 3; i++) {
        buffer.size = 0;
        step_parts(sample.steps[1], &parts);
        parts.version = versions[i];
        ck_assert(record_put_step(&buffer, &parts, namer, RECORD_PLAIN));
        put_data(1, TREE_PART_STEPS + 1, 0, RECORD_CHUNK, bytes_of(buffer.data, buffer.size));
        ck_assert_int_eq(LOAD("t"), TIER_FOUND);
        ck_assert_uint_ge(damaged, 1);
        free(load.image);
    }
    record_buffer_free(&buffer);
}
END_TEST

START_TEST(a_head_that_promises_too_much)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    struct tier_head head = sample.head;
    head.length = UINT32_MAX - 1;
    put_head(&head);
    ck_assert_int_eq(LOAD("t"), TIER_CORRUPT);
    head.length = 6; /* two more than there are */
    put_head(&head);
    ck_assert_int_eq(LOAD("t"), TIER_FOUND);
    ck_assert_uint_eq(load.image->step_count, 6);
    ck_assert(load.image->steps[4].corrupt && load.image->steps[5].corrupt);
    ck_assert(!load.image->steps[3].corrupt);
    ck_assert_uint_eq(damaged, 2);
    free(load.image);
}
END_TEST

START_TEST(a_damaged_recall)
{
    static struct sample sample;
    sample_four(&sample, "t", 1);
    meddle_data(1, 0, TREE_CHUNK_RECALLS + 2, spoil);
    ck_assert_int_eq(LOAD("t"), TIER_FOUND);
    ck_assert_uint_eq(check_image(load.image, &sample), 0);
    ck_assert_uint_eq(load.image->recall_count, 1);
    ck_assert(is_same_recall(&load.image->recalls[0], &sample.recalls[1]));
    ck_assert_uint_eq(damaged, 1);
    free(load.image);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_image", image_open, image_close, 60, threads_come_back,
                     chunks_of_every_size, appends_and_rewinds, what_is_lost_and_what_was_corrupt,
                     recalls_come_by_ordinal, a_damaged_chunk_is_one_corrupt_step,
                     a_missing_chunk_is_one_corrupt_step, a_chunk_too_many_is_one_corrupt_step,
                     a_chunk_of_another_is_never_taken, a_step_that_does_not_fit_is_corrupt,
                     a_head_that_promises_too_much, a_damaged_recall);
}
