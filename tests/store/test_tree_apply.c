/* Groups in the tree: what they make of it, and what one that was broken off leaves. */
#include "tests/store/test_tree.h"
#include "tests/store/test_young.h"

/* ---- Puts ---------------------------------------------------------------------------------- */

START_TEST(a_thread_comes_back_as_it_was_put)
{
    const struct step *steps[] = {make_step(0, 1, "r0", 10), make_step(1, 2, "r1", 50000),
                                  make_step(2, 3, NULL, 0)};
    struct recall_entry recalls[] = {{.key = {1, 2}, .ordinal = 3, .version = 3, .step = 2},
                                     {.key = {3, 4}, .ordinal = 70, .created = true}};
    struct tier_head head = head_of(5, "t", 3, 3);
    head.payload_bytes = 50010;
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head,
                                 .steps = steps,
                                 .step_count = 3,
                                 .recalls = recalls,
                                 .recall_count = 2};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    reopen_tree();
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    const struct tier_image *image = load.image;
    ck_assert_uint_eq(image->head.uid, 5);
    ck_assert_uint_eq(image->head.payload_bytes, 50010);
    ck_assert_uint_eq(image->head.used_ms, WALL_START_MS);
    ck_assert_uint_eq(image->step_count, 3);
    for (unsigned i = 0; i < 3; i++) {
        struct step_parts parts;
        step_parts(steps[i], &parts);
        check_parts(&image->steps[i], &parts);
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
    ck_assert_uint_eq(image->recall_count, 2);
    free(load.image);
    append(5, "t", 3, "r3");
    load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 4);
    ck_assert(!load.image->steps[3].corrupt && !load.image->steps[0].corrupt);
    ck_assert_uint_eq(load.image->recall_count, 2);
    free(load.image);
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    ck_assert_uint_eq(tree_numbers(tree).names, 4);
    ck_assert_uint_eq(names_told, 4);
    ck_assert_uint_eq(tree_next_uid(tree), 6);
    ck_assert_uint_eq(tree_applied(tree), 2);
    KEY("r1", "found 5/1 v2");
    check_tree();
}
END_TEST

START_TEST(a_rewind_takes_steps_and_their_keys)
{
    for (uint32_t i = 0; i < 4; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        append(1, "t", i, id);
    }
    append(1, "t", 4, "r1"); /* the key moves on to a newer step, which the rewind takes as well */
    put(head_of(1, "t", 2, 6), 2, REASON_REWOUND, NULL, 0);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 2);
    free(load.image);
    KEY("r0", "found 1/0 v1");
    KEY("r1", "gone rewound");
    KEY("r2", "gone rewound");
    ck_assert_uint_eq(count_of(TREE_DATA), 2 + 2); /* head, armed, two steps */
    /* Written again by the same thread: the tombstone goes, nothing is shared. */
    const struct step *step = make_step(2, 7, "r2", 10);
    put(head_of(1, "t", 3, 7), 2, REASON_NONE, &step, 1);
    KEY("r2", "found 1/2 v7");
    append(2, "other", 0, "r3");
    KEY("r3", "found 2/0 v1 shared");
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 1);
    check_tree();
}
END_TEST

START_TEST(a_key_is_shared_once_two_threads_wrote_it)
{
    append(1, "t", 0, "k");
    KEY("k", "found 1/0 v1");
    append(1, "t", 1, "k");
    KEY("k", "found 1/1 v2");
    append(2, "other", 0, "k");
    KEY("k", "found 2/0 v1 shared");
    append(1, "t", 2, "k");
    KEY("k", "found 1/2 v3 shared");
    append(1, "t", 3, "k");
    KEY("k", "found 1/3 v4 shared");
    erase(2, "other", REASON_EXPIRED); /* another's key is not touched */
    KEY("k", "found 1/3 v4 shared");
    erase(1, "t", REASON_EXPIRED);
    KEY("k", "gone expired shared");
    append(3, "t", 0, "k");
    KEY("k", "found 3/0 v1 shared");
    /* A thread that came back is the same one. */
    append(4, "u", 0, "l");
    erase(4, "u", REASON_FORGOTTEN);
    KEY("l", "gone forgotten");
    append(5, "u", 0, "l");
    KEY("l", "found 5/0 v1");
    append(6, "u", 0, "l");
    KEY("l", "found 6/0 v1");
    erase(5, "u", REASON_EXPIRED);
    KEY("l", "found 6/0 v1");
    check_tree();
}
END_TEST

START_TEST(a_fork_does_not_take_the_keys_of_its_origin)
{
    append(1, "t", 0, "r0");
    append(1, "t", 1, "r1");
    const struct step *steps[] = {make_step(0, 1, "r0", 100), make_step(1, 2, "r1", 100),
                                  make_step(2, 3, "r2", 100)};
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head_of(2, "fork", 3, 3),
                                 .inherited = 2,
                                 .steps = steps,
                                 .step_count = 3};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    for (unsigned i = 0; i < 3; i++) {
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
    KEY("r0", "found 1/0 v1");
    KEY("r2", "found 2/2 v3");
    erase(2, "fork", REASON_EXPIRED);
    KEY("r1", "found 1/1 v2");
    KEY("r2", "gone expired");
    check_tree();
}
END_TEST

START_TEST(a_whole_put_again_leaves_its_keys_alone)
{
    append(1, "old", 0, "r0");
    append(2, "t", 0, "r0");
    append(2, "t", 1, "r1");
    const struct step *steps[] = {make_step(0, 1, "r0", 100), make_step(1, 5, "r1", 100)};
    struct recall_entry recall = {.key = {1, 2}, .ordinal = 3};
    struct tier_change change = {.kind = TIER_PUT,
                                 .head = head_of(2, "t", 2, 5),
                                 .steps = steps,
                                 .step_count = 2,
                                 .recalls = &recall,
                                 .recall_count = 1};
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    KEY("r0", "found 2/0 v1 shared");
    KEY("r1", "found 2/1 v5");
    change.recall_count = 0;
    ck_assert_int_eq(apply_change(&change), STATUS_OK);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->recall_count, 0);
    free(load.image);
    check_tree();
    for (unsigned i = 0; i < 2; i++) {
        step_discard(domain.lane, (struct step *)(uintptr_t)steps[i]);
    }
}
END_TEST

/* ---- Erasure ------------------------------------------------------------------------------- */

START_TEST(an_erasure_leaves_a_tombstone_or_nothing)
{
    append(1, "t", 0, "r0");
    append(2, "u", 0, "r1");
    erase(1, "t", REASON_EVICTED);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_TOMBSTONE);
    ck_assert_int_eq(load.tombstone.reason, REASON_EVICTED);
    ck_assert_uint_eq(load.tombstone.version, 9);
    ck_assert_uint_eq(load.tombstone.steps, 7);
    KEY("r0", "gone evicted");
    ck_assert_int_eq(find_thread("u"), TIER_FOUND);
    check_tree();
    /* It comes back, and its tombstone goes. */
    append(3, "t", 0, NULL);
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 1);
    ck_assert_int_eq(find_thread("t"), TIER_FOUND);
    erase(3, "t", REASON_NONE);
    erase(2, "u", REASON_NONE);
    ck_assert_int_eq(find_thread("t"), TIER_ABSENT);
    KEY("r1", "absent");
    ck_assert_uint_eq(tree_numbers(tree).threads, 0);
    ck_assert_uint_eq(tree_numbers(tree).records, 2); /* the tombstone of r0 */
    ck_assert_uint_eq(count_of(TREE_DUE), 0);
    check_tree();
}
END_TEST

START_TEST(an_erasure_of_the_older_thread_leaves_the_younger)
{
    append(1, "t", 0, "r0");
    append(2, "t", 0, "r1");
    ck_assert_uint_eq(tree_numbers(tree).threads, 2);
    erase(1, "t", REASON_EXPIRED);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    ck_assert_uint_eq(load.image->head.uid, 2);
    free(load.image);
    KEY("r0", "gone expired");
    KEY("r1", "found 2/0 v1");
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 1); /* none for the name */
    erase(1, "t", REASON_EXPIRED);                       /* of one that is gone: nothing */
    ck_assert_int_eq(find_thread("t"), TIER_FOUND);
    check_tree();
}
END_TEST

/* What the tree asked for may be done late, or twice: by then it knows better. */
START_TEST(an_erasure_that_was_asked_for_goes_by_what_is_there)
{
    uint64_t used_ms = head_of(1, "t", 1, 1).used_ms;
    append(1, "t", 0, "r0");
    erase_asked(1, "t", used_ms - 1); /* it was used since */
    ck_assert_int_eq(find_thread("t"), TIER_FOUND);
    KEY("r0", "found 1/0 v1");
    append(1, "t", 1, NULL);
    erase_asked(1, "t", used_ms);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_TOMBSTONE);
    ck_assert_uint_eq(load.tombstone.version, 2); /* its own */
    ck_assert_uint_eq(load.tombstone.steps, 2);
    KEY("r0", "gone expired");
    append(2, "t", 0, "r1"); /* a later life, which ends */
    erase(2, "t", REASON_FORGOTTEN);
    erase_asked(1, "t", used_ms);
    load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_TOMBSTONE);
    ck_assert_int_eq(load.tombstone.reason, REASON_FORGOTTEN);
    ck_assert_uint_eq(load.tombstone.version, 9);
    ck_assert_uint_eq(tree_numbers(tree).threads, 0);
    check_tree();
}
END_TEST

START_TEST(tombstones_are_bounded_and_vouched_for)
{
    close_tree();
    settings.tombstones = 5;
    open_tree();
    ck_assert_uint_eq(tree_numbers(tree).vouch_since_ms, WALL_START_MS);
    for (uint32_t i = 0; i < 8; i++) {
        char id[8];
        snprintf(id, sizeof id, "t%u", i);
        append(i + 1, id, 0, NULL);
        clock_driven_advance(&wall, 1000);
        erase(i + 1, id, REASON_EXPIRED);
    }
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 5);
    ck_assert_int_eq(find_thread("t2"), TIER_ABSENT);
    ck_assert_int_eq(find_thread("t3"), TIER_TOMBSTONE);
    ck_assert_uint_eq(tree_numbers(tree).vouch_since_ms, WALL_START_MS + 3001);
    check_tree();
    settings.tombstones = 2;
    reopen_tree();
    append(20, "x", 0, NULL);
    erase(20, "x", REASON_EXPIRED);
    ck_assert_uint_eq(tree_numbers(tree).tombstones, 2);
    ck_assert_int_eq(find_thread("x"), TIER_TOMBSTONE);
    check_tree();
}
END_TEST

/* ---- Large groups -------------------------------------------------------------------------- */

START_TEST(a_long_thread_is_erased_in_several_transactions)
{
    const struct step *steps[STEPS_MAX];
    uint32_t length = 0;
    while (length < 20 * STEPS_MAX) {
        for (uint32_t i = 0; i < STEPS_MAX; i++) {
            steps[i] = make_step(length + i, length + i + 1, NULL, 20);
        }
        length += STEPS_MAX;
        put(head_of(1, "t", length, length), length - STEPS_MAX, REASON_NONE, steps, STEPS_MAX);
    }
    append(2, "u", 0, "r");
    uint64_t before = tree_numbers(tree).commits;
    erase(1, "t", REASON_EXPIRED);
    uint64_t commits = tree_numbers(tree).commits - before;
    ck_assert_uint_ge(commits, length / 2000);
    ck_assert_uint_le(commits, length / 2000 + 2);
    ck_assert_uint_eq(count_of(TREE_DATA), 3);
    check_tree();
}
END_TEST

/* What the groups below are about: three threads, then one group that is large for its
 * transaction. */
static void put_base(void)
{
    append(1, "t", 0, "r0");
    append(2, "u", 0, "r1");
    for (uint32_t i = 1; i < 12; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        append(1, "t", i, id);
    }
    append(2, "u", 1, "r5");
}

enum { BIG_GROUPS = 5 };

static enum status big_group(unsigned which)
{
    const struct step *steps[16];
    uint32_t first = which == 1 ? 5 : which == 3 ? 12 : 0;
    uint32_t count = which == 1 ? 3 : which == 3 ? 9 : 14;
    switch (which) {
    case 0: /* a rewind of most */
        return try_put(head_of(1, "t", 2, 20), 2, REASON_REWOUND, NULL, 0);
    case 4:
        return try_erase(1, "t", REASON_EXPIRED);
    default: /* other steps from the middle, the whole thread anew, many steps behind */
        for (uint32_t i = 0; i < count; i++) {
            char id[8];
            snprintf(id, sizeof id, "r%u", (first + i) % 7);
            uint32_t version = which == 2 && i < 6 ? i + 1 : 30 + i;
            steps[i] = make_step(first + i, version, id, 9000);
        }
        return try_put(head_of(1, "t", first + count, 50), first,
                       which == 1 ? REASON_REWOUND : REASON_NONE, steps, count);
    }
}

/* Whoever reads between two transactions finds a thread whole, or not at all. */
static void check_between(void)
{
    static const char *const ids[] = {"t", "u"};
    for (unsigned i = 0; i < 2; i++) {
        struct tier_load load = load_thread(ids[i]);
        ck_assert(load.found == TIER_FOUND || (i == 0 && load.found != TIER_CORRUPT));
        for (unsigned s = 0; load.image && s < load.image->step_count; s++) {
            ck_assert(!load.image->steps[s].corrupt);
            ck_assert_uint_eq(load.image->steps[s].number, s);
        }
        free(load.image);
    }
    for (unsigned i = 0; i < 14; i++) {
        char id[8];
        snprintf(id, sizeof id, "r%u", i);
        ck_assert_str_ne(key_of(id), "trouble");
    }
}

/* Breaks the group off wherever the map gets full, with transactions of a few records. */
START_TEST(a_group_that_was_broken_off_is_done_again)
{
    unsigned broken = 0;
    unsigned within = 0;
    put_base();
    close_tree();
    struct bytes base = read_file("tree.mdb");
    uint64_t base_sequence = sequence;
    for (unsigned which = 0; which < BIG_GROUPS; which++) {
        uint64_t bytes;
        close_tree();
        write_file("tree.mdb", base);
        sequence = base_sequence;
        open_tree();
        ck_assert_int_eq(big_group(which), STATUS_OK);
        uint64_t meant = sum_tree(&bytes);
        check_tree();
        for (size_t pages = 24;; pages++) {
            close_tree();
            write_file("tree.mdb", base);
            sequence = base_sequence;
            size_t map = pages * (size_t)sysconf(_SC_PAGESIZE);
            ck_assert_int_eq(tree_open_mapped(directory, &settings, map, &tree, &trouble),
                             STATUS_OK);
            tree->txn_cost = 12;
            uint64_t commits = tree_numbers(tree).commits;
            uint64_t applied = tree_applied(tree);
            enum status status = big_group(which);
            if (status) {
                ck_assert_int_eq(trouble.error, ENOSPC);
                ck_assert(!tree_numbers(tree).broken);
                ck_assert_uint_eq(tree_applied(tree), applied);
                broken++;
                within += tree_numbers(tree).commits > commits;
                check_between();
                reopen_tree();
                check_between();
                tree->txn_cost = 12;
                ck_assert_int_eq(big_group(which), STATUS_OK);
            }
            ck_assert_uint_eq(tree_applied(tree), applied + 1);
            ck_assert_msg(sum_tree(&bytes) == meant, "group %u at %zu pages", which, pages);
            check_tree();
            if (status == STATUS_OK) {
                break;
            }
        }
    }
    ck_assert_uint_gt(broken, 20);
    ck_assert_uint_gt(within, 10);
    let_go(base);
}
END_TEST

START_TEST(a_batch_is_applied_once_and_in_order)
{
    struct record_buffer buffer = {0};
    struct tree_group groups[40];
    size_t at[41];
    for (uint32_t i = 0; i < 40; i++) {
        const struct step *step = make_step(i, i + 1, i % 2 ? "odd" : "even", 3000);
        struct tier_change change = {.kind = TIER_PUT,
                                     .head = head_of(1, "t", i + 1, i + 1),
                                     .drop_from = i,
                                     .steps = &step,
                                     .step_count = 1};
        at[i] = buffer.size;
        ck_assert(record_put_group(&buffer, &change, secret, RECORD_ZSTD));
        step_discard(domain.lane, (struct step *)(uintptr_t)step);
    }
    at[40] = buffer.size;
    for (uint32_t i = 0; i < 40; i++) {
        groups[i] = (struct tree_group){.bytes = bytes_of(buffer.data + at[i], at[i + 1] - at[i]),
                                        .sequence = i + 1};
    }
    size_t taken;
    tree->txn_cost = 50;
    ck_assert_int_eq(tree_apply(tree, groups, 30, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 30);
    ck_assert_uint_gt(tree_numbers(tree).commits, 2);
    uint64_t before = tree_numbers(tree).commits;
    ck_assert_int_eq(tree_apply(tree, groups, 30, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 30);
    ck_assert_uint_eq(tree_numbers(tree).commits, before);
    /* A damaged group: those before it are in, those behind it are not. */
    struct bytes whole = groups[35].bytes;
    groups[35].bytes.size--;
    ck_assert_int_eq(tree_apply(tree, groups, 40, &taken, tell, NULL, &trouble), STATUS_INTERNAL);
    ck_assert_uint_eq(taken, 35);
    ck_assert_uint_eq(tree_applied(tree), 35);
    ck_assert(!tree_numbers(tree).broken);
    groups[35].bytes = whole;
    ck_assert_int_eq(tree_apply(tree, groups + 35, 5, &taken, tell, NULL, &trouble), STATUS_OK);
    ck_assert_uint_eq(taken, 5);
    KEY("odd", "found 1/39 v40");
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, 40);
    free(load.image);
    record_buffer_free(&buffer);
    check_tree();
}
END_TEST

START_TEST(a_full_map_is_lack_of_space_and_no_more)
{
    close_tree();
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    ck_assert_int_eq(tree_open_mapped(directory, &settings, 64 * page, &tree, &trouble), STATUS_OK);
    enum status status = STATUS_OK;
    uint32_t length = 0;
    while (status == STATUS_OK) {
        ck_assert_uint_lt(length, 64);
        const struct step *step = make_step(length, length + 1, NULL, 6000);
        status = try_put(head_of(1, "t", length + 1, length + 1), length, REASON_NONE, &step, 1);
        length += status == STATUS_OK;
    }
    ck_assert_int_eq(trouble.error, ENOSPC);
    ck_assert(!tree_numbers(tree).broken);
    ck_assert_uint_gt(length, 5);
    struct tier_load load = load_thread("t");
    ck_assert_uint_eq(load.image->step_count, length);
    free(load.image);
    check_tree();
    reopen_tree(); /* with more room */
    append(1, "t", length, NULL);
    check_tree();
}
END_TEST

/* ---- Damage -------------------------------------------------------------------------------- */

static void damage_name(enum tree_table home, struct index_hash name)
{
    struct name_place place = place_of(tree, home, name);
    damage_record(place.table, tree_val(place.key, place.key_bytes));
}

static void check_damaged_records(bool home)
{
    append(1, "t", 0, "r");
    if (home) {
        bring_home(tree);
    }
    struct tree_data_key armed = tree_data_key(1, 0, TREE_CHUNK_ARMED);
    struct tree_data_key head = tree_data_key(1, 0, TREE_CHUNK_HEAD);
    damage_name(TREE_NAMES, named(RECORD_THREAD, "t"));
    damage_name(TREE_KEYS, named(RECORD_RESPONSE_ID, "r"));
    damage_record(TREE_DATA, tree_val(&armed, sizeof armed));
    damage_record(TREE_DATA, tree_val(&head, sizeof head));
    append(1, "t", 1, "r");
    uint64_t damaged = tree_numbers(tree).damaged; /* some are read twice */
    ck_assert_uint_ge(damaged, 4);
    ck_assert_uint_eq(tree_numbers(tree).threads, 1);
    struct tier_load load = load_thread("t");
    ck_assert_int_eq(load.found, TIER_FOUND);
    ck_assert_uint_eq(load.image->step_count, 2);
    free(load.image);
    KEY("r", "found 1/1 v2 shared"); /* nobody knows who had it */
    struct tree_data_key chunk = tree_data_key(1, 1, 0);
    damage_record(TREE_DATA, tree_val(&chunk, sizeof chunk));
    erase(1, "t", REASON_EXPIRED);
    ck_assert_uint_gt(tree_numbers(tree).damaged, damaged);
    ck_assert_int_eq(find_thread("t"), TIER_TOMBSTONE);
    ck_assert_uint_eq(count_of(TREE_DATA), 0);
}

START_TEST(damaged_records_are_replaced_by_what_is_put)
{
    check_damaged_records(false);
}
END_TEST

START_TEST(damaged_records_at_home_are_replaced_by_what_is_put)
{
    check_damaged_records(true);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "tree_apply", setup_tree, teardown_tree, 60, a_thread_comes_back_as_it_was_put,
        a_rewind_takes_steps_and_their_keys, a_key_is_shared_once_two_threads_wrote_it,
        a_fork_does_not_take_the_keys_of_its_origin, a_whole_put_again_leaves_its_keys_alone,
        an_erasure_leaves_a_tombstone_or_nothing, an_erasure_of_the_older_thread_leaves_the_younger,
        an_erasure_that_was_asked_for_goes_by_what_is_there, tombstones_are_bounded_and_vouched_for,
        a_long_thread_is_erased_in_several_transactions, a_group_that_was_broken_off_is_done_again,
        a_batch_is_applied_once_and_in_order, a_full_map_is_lack_of_space_and_no_more,
        damaged_records_are_replaced_by_what_is_put,
        damaged_records_at_home_are_replaced_by_what_is_put);
}
