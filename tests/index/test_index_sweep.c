/* The sweep and the scan: what they visit, in which share or order, and that nothing is missed. */
#include "tests/index/test_index_visits.h"

START_TEST(test_ticks)
{
    static const struct {
        uint16_t tick;
        uint16_t now;
        bool due;
    } cases[] = {
        {0, 0, false},           {0, 1, false},          {0, 0x9000, false},
        {1, 0, false},           {1, 1, true},           {1, 2, true},
        {1, 0x8000, true},       {1, 0x8001, false},     {0xffff, 0, true},
        {0xffff, 0xfffe, false}, {0x8000, 0xffff, true}, {0x8001, 0, true},
        {10, 5, false},          {0x7fff, 0xfffe, true}, {0x7fff, 0xffff, false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct world world = world_create();
        struct epoch_member *member = world_join(&world);
        struct visits visits = visits_create(&world, member, 1);
        ck_assert_ptr_nonnull(world_insert_at(&world, member, 0, 99, cases[i].tick));
        ck_assert_msg(pass(&visits, false, cases[i].now) == cases[i].due, "case %zu", i);
        ck_assert_uint_eq(pass(&visits, true, cases[i].now), 1);
        free(visits.counts);
        world_leave(member);
        world_destroy(&world);
    }
}
END_TEST

START_TEST(test_next_tick)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 3000;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        ck_assert_ptr_nonnull(
            world_insert_at(&world, member, k, world_hash(&world, k).low, k % 2 ? 10 : 20));
    }
    visits.next_tick = 30;
    ck_assert_uint_eq(pass(&visits, false, 9), 0);
    ck_assert_uint_eq(pass(&visits, false, 10), keys / 2);
    ck_assert_uint_eq(pass(&visits, false, 10), 0);
    ck_assert_uint_eq(pass(&visits, false, 29), keys / 2);
    visits.next_tick = 0;
    ck_assert_uint_eq(pass(&visits, false, 30), keys);
    ck_assert_uint_eq(pass(&visits, false, 0x7fff), 0);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(visits.counts[k] == 2);
    }
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* What `due` does to the record wins over the tick it returns. */
START_TEST(test_due_acts)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 1000;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        ck_assert_ptr_nonnull(world_insert(&world, member, k));
    }
    visits.action = REPLACE;
    visits.next_tick = 5;
    ck_assert_uint_eq(pass(&visits, true, 1), keys);
    visits.action = LET_BE;
    ck_assert_uint_eq(pass(&visits, false, 76), 0);
    ck_assert_uint_eq(pass(&visits, false, 77), keys);
    visits.action = REMOVE;
    ck_assert_uint_eq(pass(&visits, true, 1), keys);
    ck_assert_uint_eq(pass(&visits, true, 1), 0);
    ck_assert_uint_eq(index_stats(world.index).records, 0);
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Every record is in one share; a call visits about as many slots as it was told. */
START_TEST(test_shares)
{
    static const unsigned all_shares[] = {1, 2, 3, 8, 64, 100};
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = trial_count(50000);
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert(&world, member, k) != NULL);
    }
    for (size_t i = 0; i < sizeof all_shares / sizeof *all_shares; i++) {
        visits_clear(&visits);
        for (unsigned share = 0; share < all_shares[i]; share++) {
            struct index_cursor cursor = {0};
            uint64_t before;
            do {
                before = visits.total;
                if (index_sweep(world.index, member, &cursor, share, all_shares[i], 50, true, 1,
                                visit_due, &visits)) {
                    break;
                }
                MUST(visits.total - before <= 50 + 60);
            } while (true);
            ck_assert(cursor.segment == 0 && cursor.bucket == 0);
        }
        for (uint64_t k = 0; k < keys; k++) {
            MUST(visits.counts[k] == 1);
        }
    }
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Sweepers go round while the index grows under them: no pass misses what was there all along. */
START_TEST(test_sweep_growth)
{
    enum { SHARES = 3 };
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = trial_count(300000);
    uint64_t inserted = 0;
    struct visits visits = visits_create(&world, member, keys);
    visits.next_tick = 1;
    struct index_cursor cursors[SHARES] = {{0}};
    while (inserted < keys) {
        uint64_t there = inserted;
        visits_clear(&visits);
        for (unsigned open = (1u << SHARES) - 1; open != 0;) {
            for (unsigned share = 0; share < SHARES; share++) {
                if ((open >> share & 1) != 0 &&
                    index_sweep(world.index, member, &cursors[share], share, SHARES,
                                20 + 30 * share, false, 1, visit_due, &visits)) {
                    open &= ~(1u << share);
                }
            }
            for (unsigned k = 0; k < 10 + there / 500 && inserted < keys; k++) {
                MUST(world_insert(&world, member, inserted) != NULL);
                inserted++;
            }
        }
        for (uint64_t k = 0; k < there; k++) {
            MUST(visits.counts[k] >= 1);
        }
        world_turn(member);
    }
    ck_assert_uint_gt(index_stats(world.index).splits, keys / 1000);
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

static bool visit_scan(void *context, struct index_record *record)
{
    struct visits *visits = context;
    const struct item *item = item_of(record);
    MUST(item->check == ~item->key && item->key < visits->keys);
    visits->counts[item->key]++;
    visits->total++;
    visits->last_key = item->key;
    return visits->total != visits->stop_after;
}

START_TEST(test_scan)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = trial_count(30000);
    struct visits visits = visits_create(&world, member, keys);
    struct index_scan scan = {0};
    ck_assert(index_scan(world.index, &scan, 10, visit_scan, &visits));
    ck_assert_uint_eq(visits.total, 0);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert(&world, member, k) != NULL);
    }
    static const unsigned limits[] = {1, 7, 64, 65, 1000, 1000000};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
        visits_clear(&visits);
        scan = (struct index_scan){0};
        bool end;
        do {
            uint64_t before = visits.total;
            end = index_scan(world.index, &scan, limits[i], visit_scan, &visits);
            MUST(visits.total - before <= limits[i]);
        } while (!end);
        for (uint64_t k = 0; k < keys; k++) {
            MUST(visits.counts[k] == 1);
        }
        ck_assert(index_scan(world.index, &scan, limits[i], visit_scan, &visits));
        ck_assert_uint_eq(visits.total, keys);
    }
    /* Stopping after a record: the next call goes on behind it. */
    visits_clear(&visits);
    scan = (struct index_scan){0};
    visits.stop_after = 100;
    ck_assert(!index_scan(world.index, &scan, 1000, visit_scan, &visits));
    ck_assert_uint_eq(visits.total, 100);
    while (!index_scan(world.index, &scan, 1000, visit_scan, &visits)) {
    }
    ck_assert_uint_eq(visits.total, keys);
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* From nothing to many while scans of all step sizes are under way; some leave, most stay. */
START_TEST(test_scan_growth)
{
    enum { SCANS = 8 };
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = trial_count(100000);
    uint64_t inserted = 0;
    for (unsigned s = 0; s < SCANS; s++) {
        uint64_t there = inserted;
        struct visits visits = visits_create(&world, member, keys);
        struct index_scan scan = {0};
        while (!index_scan(world.index, &scan, 1 + s * 5, visit_scan, &visits)) {
            for (unsigned k = 0; k < 60 && inserted < (s + 1) * keys / SCANS; k++) {
                MUST(world_insert(&world, member, inserted) != NULL);
                inserted++;
            }
            if (inserted > there + 10 && inserted % 3 == 0) {
                struct item *newest = world_find(&world, inserted - 1);
                MUST(newest == NULL || world_remove(&world, member, newest));
            }
            world_turn(member);
        }
        for (uint64_t k = 0; k < keys; k++) {
            bool stayed = k < there && world_find(&world, k) != NULL;
            MUST(visits.counts[k] <= 1);
            MUST(!stayed || visits.counts[k] == 1);
        }
        for (; inserted < (s + 1) * keys / SCANS; inserted++) {
            MUST(world_insert(&world, member, inserted) != NULL);
        }
        free(visits.counts);
    }
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Records of one and the same hash, more than fit into what a scan gathers at a time. */
START_TEST(test_scan_equal_hashes)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 300;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert_at(&world, member, k, 0xfedcba9876543210u, 1) != NULL);
    }
    struct index_scan scan = {0};
    while (!index_scan(world.index, &scan, 7, visit_scan, &visits)) {
    }
    for (uint64_t k = 0; k < keys; k++) {
        MUST(visits.counts[k] == 1);
    }
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* Any cursor is safe, and sees nothing twice. */
START_TEST(test_garbage_cursors)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 3000;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert(&world, member, k) != NULL);
    }
    uint64_t seed = 7;
    for (unsigned i = 0; i < 300; i++) {
        visits_clear(&visits);
        struct index_scan scan = {.position = trial_random(&seed) >> (i % 64),
                                  .after = (uint32_t)trial_random(&seed)};
        if (i % 3 == 0) {
            scan.position = ~scan.position;
        }
        while (!index_scan(world.index, &scan, 200, visit_scan, &visits)) {
        }
        for (uint64_t k = 0; k < keys; k++) {
            MUST(visits.counts[k] <= 1);
        }
        struct index_cursor cursor = {.segment = (uint32_t)trial_random(&seed) >> (i % 32),
                                      .bucket = (uint32_t)trial_random(&seed) >> (i % 32)};
        while (
            !index_sweep(world.index, member, &cursor, 0, 1, 1000, true, 1, visit_due, &visits)) {
        }
        ck_assert_uint_eq(pass(&visits, true, 1), keys);
    }
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* After everything has left, a call does not go over the whole hollow index at once. */
START_TEST(test_hollow)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 100000;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert(&world, member, k) != NULL);
    }
    visits.action = REMOVE;
    ck_assert_uint_eq(pass(&visits, true, 1), keys);
    struct index_scan scan = {0};
    unsigned calls = 1;
    while (!index_scan(world.index, &scan, 1000, visit_scan, &visits)) {
        calls++;
    }
    ck_assert_uint_ge(calls, index_stats(world.index).splits / 64);
    ck_assert_uint_gt(calls, 2);
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("index sweep");
    TCase *tcase = tcase_create("sweep");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_ticks);
    tcase_add_test(tcase, test_next_tick);
    tcase_add_test(tcase, test_due_acts);
    tcase_add_test(tcase, test_shares);
    tcase_add_test(tcase, test_sweep_growth);
    tcase = tcase_create("scan");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_scan);
    tcase_add_test(tcase, test_scan_growth);
    tcase_add_test(tcase, test_scan_equal_hashes);
    tcase_add_test(tcase, test_garbage_cursors);
    tcase_add_test(tcase, test_hollow);
    return suite_main(suite);
}
