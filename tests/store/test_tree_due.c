/* What is due, by what the disk knows. */
#include "tests/store/test_tree.h"

static unsigned due_at(uint64_t now_ms, bool victims, struct tier_due **due, unsigned limit)
{
    unsigned count;
    ck_assert_int_eq(tree_due(tree, now_ms, victims, due, limit, &count, &trouble), STATUS_OK);
    return count;
}

static unsigned count_due(uint64_t now_ms)
{
    struct tier_due *due[16];
    unsigned count = due_at(now_ms, false, due, 16);
    for (unsigned i = 0; i < count; i++) {
        free(due[i]);
    }
    return count;
}

#define idle_ms (RETENTION_MS + tier_slack_ms(RETENTION_MS))

START_TEST(a_thread_is_due_when_its_retention_is_over)
{
    append(1, "t", 0, NULL);
    append(2, "u", 0, NULL);
    clock_driven_advance(&wall, 60000);
    append(2, "u", 1, NULL); /* found at its old place, and moved */
    ck_assert_uint_eq(count_of(TREE_DUE), 2);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms - 1), 0);
    struct tier_due *due[4];
    ck_assert_uint_eq(due_at(WALL_START_MS + idle_ms + 1000, false, due, 4), 1);
    ck_assert_uint_eq(due[0]->uid, 1);
    ck_assert_int_eq(due[0]->event.kind, TIER_DUE);
    ck_assert_int_eq(due[0]->reason, REASON_EXPIRED);
    ck_assert_uint_eq(due[0]->length, 1);
    ck_assert_uint_eq(due[0]->version, 1);
    ck_assert(tree_same_name(due[0]->name, named(RECORD_THREAD, "t")));
    ck_assert(bytes_equal(bytes_of(due[0]->id, due[0]->id_size), bytes_text("t")));
    free(due[0]);
    /* Asked for once in a while until it is gone. */
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 2000), 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 12000), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 61000), 2);
    erase(1, "t", REASON_EXPIRED);
    erase(2, "u", REASON_EXPIRED);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 99000), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 0);
    check_tree();
}
END_TEST

START_TEST(an_earlier_deadline_is_known_at_once)
{
    append(1, "t", 0, NULL);
    struct tier_head head = head_of(1, "t", 1, 1);
    head.retention_ms = 6400;
    put(head, 1, REASON_NONE, NULL, 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + 6499), 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + 7000), 1);
    head.used_ms += 100000;
    put(head, 1, REASON_NONE, NULL, 0);
    ck_assert_uint_eq(count_due(WALL_START_MS + 20000), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + 107000), 1);
    check_tree();
}
END_TEST

START_TEST(no_thread_outlives_its_max_age)
{
    settings.max_age_ms = 10000;
    reopen_tree();
    append(1, "t", 0, NULL);
    clock_driven_advance(&wall, 9000);
    append(1, "t", 1, NULL);
    struct tier_due *due[1];
    ck_assert_uint_eq(count_due(WALL_START_MS + 9999), 0);
    ck_assert_uint_eq(due_at(WALL_START_MS + 10000, false, due, 1), 1);
    ck_assert_int_eq(due[0]->reason, REASON_MAX_AGE);
    free(due[0]);
}
END_TEST

START_TEST(many_due_threads_come_in_portions)
{
    for (uint32_t i = 0; i < 30; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
    }
    uint64_t seen = 0;
    uint64_t now_ms = WALL_START_MS + idle_ms + 5000;
    for (unsigned i = 0; i < 4; i++) {
        struct tier_due *due[10];
        unsigned count = due_at(now_ms, false, due, 10);
        ck_assert_uint_eq(count, i < 3 ? 10 : 0);
        for (unsigned j = 0; j < count; j++) {
            seen |= UINT64_C(1) << due[j]->uid;
            free(due[j]);
        }
    }
    ck_assert_uint_eq(seen, (UINT64_C(1) << 31) - 2);
}
END_TEST

START_TEST(victims_are_those_whose_time_is_up_first)
{
    for (uint32_t i = 0; i < 6; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
        clock_driven_advance(&wall, 10000);
    }
    append(1, "t0", 1, NULL); /* used again: no longer the first */
    struct tier_due *due[2];
    ck_assert_uint_eq(due_at(clock_read_ms(&wall.clock), true, due, 2), 2);
    ck_assert_uint_eq(due[0]->uid, 2);
    ck_assert_uint_eq(due[1]->uid, 3);
    ck_assert_int_eq(due[0]->reason, REASON_EVICTED);
    free(due[0]);
    free(due[1]);
    ck_assert_uint_eq(count_due(clock_read_ms(&wall.clock)), 0);
    check_tree();
}
END_TEST

START_TEST(a_damaged_head_is_left_where_it_is)
{
    append(1, "t", 0, "r");
    append(2, "u", 0, NULL);
    struct tree_data_key key = tree_data_key(1, 0, TREE_CHUNK_HEAD);
    damage_record(TREE_DATA, tree_val(&key, sizeof key));
    uint64_t later = WALL_START_MS + idle_ms + 1000;
    ck_assert_uint_eq(count_due(later), 1);
    ck_assert_uint_eq(tree_numbers(tree).damaged, 1);
    ck_assert_uint_eq(count_of(TREE_DUE), 2);
    ck_assert_uint_eq(count_due(later + 20000), 1); /* the other one, again */
    ck_assert_uint_eq(tree_numbers(tree).damaged, 1);
    count_due(later + 25 * 3600 * 1000);
    ck_assert_uint_eq(tree_numbers(tree).damaged, 2);
    /* It can still be erased, or be put anew. */
    erase(1, "t", REASON_NONE);
    erase(2, "u", REASON_NONE);
    ck_assert_uint_eq(tree_numbers(tree).records, 0);
    ck_assert_uint_eq(tree_numbers(tree).threads, 0);
    ck_assert_uint_eq(tree_numbers(tree).live_bytes, 0);
}
END_TEST

START_TEST(an_entry_that_leads_to_no_thread_goes)
{
    append(1, "t", 0, NULL);
    struct tree_due_key key = tree_due_key(5, 77);
    uint8_t value[RECORD_SEAL_BYTES];
    record_seal(value, sizeof value, bytes_of(key.bytes, sizeof key.bytes), RECORD_META);
    put_raw(TREE_DUE, tree_val(&key, sizeof key), value, sizeof value);
    ck_assert_uint_eq(count_due(WALL_START_MS), 0);
    ck_assert_uint_eq(count_of(TREE_DUE), 1);
    ck_assert_uint_eq(count_due(WALL_START_MS + idle_ms + 1000), 1);
}
END_TEST

int main(void)
{
    return SUITE_RUN("tree_due", setup_tree, teardown_tree, 60,
                     a_thread_is_due_when_its_retention_is_over,
                     an_earlier_deadline_is_known_at_once, no_thread_outlives_its_max_age,
                     many_due_threads_come_in_portions, victims_are_those_whose_time_is_up_first,
                     a_damaged_head_is_left_where_it_is, an_entry_that_leads_to_no_thread_goes);
}
