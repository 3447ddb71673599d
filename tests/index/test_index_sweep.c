/* The sweep and the scan: what they visit, in which share or order, and that nothing is missed. */
#include "tests/index/test_index.h"

/* Counts visits by key and does what the test at hand wants done. */
struct visits {
    struct world *world;
    struct epoch_member *member;
    unsigned *counts;
    uint64_t keys;
    uint64_t total;
    uint16_t next_tick;
    enum { LET_BE, REMOVE, REPLACE } action;
    uint64_t stop_after; /* scans: 0 = never */
    uint64_t last_key;
};

static uint16_t visit_due(void *context, struct index_record *record)
{
    struct visits *visits = context;
    struct item *item = item_of(record);
    MUST(item->key < visits->keys);
    visits->counts[item->key]++;
    visits->total++;
    if (visits->action == REMOVE) {
        MUST(world_remove(visits->world, visits->member, item));
    } else if (visits->action == REPLACE) {
        struct item *fresh = item_create(visits->member, item->key, item->record.hash_low);
        MUST(index_replace(visits->world->index, visits->member, record, &fresh->record, 77));
        epoch_retire(visits->member, WORLD_KIND_ITEM, item);
    }
    return visits->next_tick;
}

static struct visits visits_create(struct world *world, struct epoch_member *member, uint64_t keys)
{
    struct visits visits = {.world = world, .member = member, .keys = keys};
    visits.counts = calloc(keys, sizeof(unsigned));
    MUST(visits.counts != NULL);
    return visits;
}

static void visits_clear(struct visits *visits)
{
    memset(visits->counts, 0, visits->keys * sizeof(unsigned));
    visits->total = 0;
}

/* A full pass by one sweeper; returns how many it visited. */
static uint64_t pass(struct visits *visits, bool all, uint64_t now)
{
    struct index_cursor cursor = {0};
    uint64_t before = visits->total;
    while (!index_sweep(visits->world->index, visits->member, &cursor, 0, 1, 100, all, now,
                        visit_due, visits)) {
    }
    return visits->total - before;
}

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

/* Looking for what is due costs next to nothing where nothing is. */
START_TEST(test_hints_leave_out)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 50000, begin = 100000;
    struct visits visits = visits_create(&world, member, keys);
    for (uint64_t k = 0; k < keys; k++) {
        uint16_t tick = (uint16_t)(begin + (k % 100 == 0 ? 10 : 100));
        MUST(world_insert_at(&world, member, k, world_hash(&world, k).low, tick) != NULL);
    }
    static const struct {
        uint64_t now, visited;
        bool few_slots;
    } passes[] = {{0, 0, false}, /* a new cursor trusts no hints for a time */
                  {1, 0, false}, {9, 0, true},  {10, 500, false},
                  {11, 0, true}, {99, 0, true}, {100, 49500, false}};
    struct index_cursor cursor = {0};
    uint64_t slots_least = UINT64_MAX;
    visits.next_tick = (uint16_t)(begin + 200);
    for (size_t i = 0; i < sizeof passes / sizeof *passes; i++) {
        uint64_t before = visits.total;
        uint64_t slots = 0;
        do {
            slots += 200;
        } while (!index_sweep(world.index, member, &cursor, 0, 1, 200, false, begin + passes[i].now,
                              visit_due, &visits));
        ck_assert_uint_eq(visits.total - before, passes[i].visited);
        /* There are some 80,000. Hints are not for nothing: calls are to stay short. Once more 500
         * buckets would be 3,000 slots. */
        slots_least = slots < slots_least ? slots : slots_least;
        ck_assert(!passes[i].few_slots || slots < slots_least + 1000);
        ck_assert(slots > 4000 && (i < 2 || slots_least < 12000));
    }
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* A record was due long ago when its bucket is given another tick, as far ahead as may be: by
 * circular comparison that one is the earlier of the two. The sweeper finds it all the same.
 */
START_TEST(test_hints_after_a_standstill)
{
    static const uint64_t still[] = {0x1dff, 0x1e00, 0x3fff, 0x4000, 0x4001, 0x5000, 0x7ffe};
    enum { CASES = sizeof still / sizeof *still };
    for (size_t i = 0; i < 2 * CASES; i++) {
        bool half_way = i >= CASES; /* the bucket has been passed by this time round */
        struct world world = world_create();
        struct epoch_member *member = world_join(&world);
        struct visits visits = visits_create(&world, member, 2);
        struct index_cursor cursor = {0};
        uint64_t now = 5000;
        for (int passes = 0; passes < 5; passes++) { /* to whom this is no standstill */
            MUST(index_sweep(world.index, member, &cursor, 0, 1, 1000, false, now, visit_due,
                             &visits));
        }
        MUST(!half_way ||
             !index_sweep(world.index, member, &cursor, 0, 1, 1, false, now, visit_due, &visits));
        MUST(world_insert_at(&world, member, 0, 99, (uint16_t)now) != NULL);
        now += still[i % CASES];
        uint16_t far = (uint16_t)(now + INDEX_TICKS_AHEAD_MAX);
        MUST(world_insert_at(&world, member, 1, 99, far) != NULL);
        for (int passes = 0; passes < 1 + half_way; passes++) {
            MUST(index_sweep(world.index, member, &cursor, 0, 1, 1000, false, now, visit_due,
                             &visits));
        }
        ck_assert_msg(visits.counts[0] == 1 && visits.counts[1] == 0, "case %zu", i);
        free(visits.counts);
        world_leave(member);
        world_destroy(&world);
    }
}
END_TEST

/* Two passes in a row, about as long as hints are trusted in: a bucket is seen at the beginning of
 * the first, and at the end of the second. */
START_TEST(test_hints_in_long_passes)
{
    for (unsigned ticks = 0x1000; ticks < 0x2400; ticks += 17) {
        struct world world = world_create();
        struct epoch_member *member = world_join(&world);
        struct visits visits = visits_create(&world, member, 2);
        struct index_cursor cursor = {0};
        uint64_t now = 200000;
        for (int passes = 0; passes < 5; passes++) {
            MUST(index_sweep(world.index, member, &cursor, 0, 1, 1000, false, now, visit_due,
                             &visits));
        }
        MUST(!index_sweep(world.index, member, &cursor, 0, 1, 1, false, now, visit_due, &visits));
        MUST(world_insert_at(&world, member, 0, 99, (uint16_t)(now + 1)) != NULL);
        now += ticks;
        MUST(index_sweep(world.index, member, &cursor, 0, 1, 1000, false, now, visit_due, &visits));
        now += ticks;
        uint16_t far = (uint16_t)(now + INDEX_TICKS_AHEAD_MAX);
        MUST(world_insert_at(&world, member, 1, 99, far) != NULL);
        MUST(index_sweep(world.index, member, &cursor, 0, 1, 1000, false, now, visit_due, &visits));
        ck_assert_msg(visits.counts[0] == 1, "passes of %u ticks", ticks);
        free(visits.counts);
        world_leave(member);
        world_destroy(&world);
    }
}
END_TEST

/* A segment is copied again and again: the hint of its copy is that of all lines. */
START_TEST(test_hints_of_copies)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = 100, now = 100000;
    struct visits visits = visits_create(&world, member, keys);
    visits.next_tick = (uint16_t)(now + 500);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert_at(&world, member, k, 99, (uint16_t)(now + (k == 9 ? 1 : 400))));
    }
    struct index_cursor cursor = {.begun = now};
    MUST(index_sweep(world.index, member, &cursor, 0, 1, 100000, false, now + 1, visit_due,
                     &visits));
    ck_assert(visits.total == 1 && visits.counts[9] == 1);
    free(visits.counts);
    world_leave(member);
    world_destroy(&world);
}
END_TEST

/* What the sweep must have visited: the tick of each key, and of what was due when a pass began. */
struct deadlines {
    uint64_t *at; /* 0: never */
    bool *awaited;
    uint64_t keys;
    uint64_t now;
    uint64_t *seed;
};

static uint16_t visit_deadline(void *context, struct index_record *record)
{
    struct deadlines *deadlines = context;
    uint64_t key = item_of(record)->key;
    MUST(deadlines->at[key] > 0 && deadlines->at[key] <= deadlines->now);
    deadlines->awaited[key] = false;
    deadlines->at[key] =
        deadlines->now + 1 + trial_below(deadlines->seed, INDEX_TICKS_AHEAD_MAX - 1);
    deadlines->at[key] += (uint16_t)deadlines->at[key] == 0 ? 1 : 0;
    return (uint16_t)deadlines->at[key];
}

static void deadlines_set(struct deadlines *deadlines, const struct world *world,
                          struct epoch_member *member, uint64_t key)
{
    uint64_t ahead = trial_below(deadlines->seed, 4) == 0 ? 10 : INDEX_TICKS_AHEAD_MAX - 1;
    uint64_t at = deadlines->now + trial_below(deadlines->seed, ahead);
    at += (uint16_t)at == 0 ? 1 : 0;
    if (deadlines->at[key] == 0) {
        MUST(world_insert_at(world, member, key, world_hash(world, key).low, (uint16_t)at));
    } else {
        index_retick(world->index, member, &world_find(world, key)->record, (uint16_t)at);
    }
    deadlines->at[key] = at;
    deadlines->awaited[key] = false;
}

/*
 * Time goes by in steps of all sizes, ticks are given in between, and calls of all sizes sweep:
 * whatever was due when a pass began, and was not given another tick, has been visited at its end.
 */
START_TEST(test_hints_at_random)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t seed = 11, passes = 0, visited = 0;
    struct deadlines deadlines = {.keys = 3000, .now = 100000, .seed = &seed};
    deadlines.at = calloc(deadlines.keys, sizeof *deadlines.at);
    deadlines.awaited = calloc(deadlines.keys, sizeof *deadlines.awaited);
    MUST(deadlines.at != NULL && deadlines.awaited != NULL);
    for (uint64_t key = 0; key < deadlines.keys; key++) {
        deadlines_set(&deadlines, &world, member, key);
    }
    struct index_cursor cursor = {0};
    while (passes < trial_count(2000)) {
        uint64_t leap = trial_below(&seed, 20);
        deadlines.now += leap == 0   ? trial_below(&seed, 0x2800)
                         : leap == 1 ? trial_below(&seed, 0x400)
                                     : trial_below(&seed, 8);
        for (uint64_t n = trial_below(&seed, 8); n > 0; n--) {
            deadlines_set(&deadlines, &world, member, trial_below(&seed, deadlines.keys));
        }
        unsigned slots = 1 + (unsigned)trial_below(&seed, 3000);
        if (!index_sweep(world.index, member, &cursor, 0, 1, slots, false, deadlines.now,
                         visit_deadline, &deadlines)) {
            continue;
        }
        passes++;
        for (uint64_t key = 0; key < deadlines.keys; key++) {
            MUST(!deadlines.awaited[key]);
            deadlines.awaited[key] = deadlines.at[key] > 0 && deadlines.at[key] <= deadlines.now;
            visited += deadlines.awaited[key];
        }
        world_turn(member);
    }
    ck_assert_uint_gt(visited, passes / 2);
    free(deadlines.at);
    free(deadlines.awaited);
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
    tcase_add_test(tcase, test_hints_leave_out);
    tcase_add_test(tcase, test_hints_after_a_standstill);
    tcase_add_test(tcase, test_hints_in_long_passes);
    tcase_add_test(tcase, test_hints_of_copies);
    tcase_add_test(tcase, test_hints_at_random);
    tcase_add_test(tcase, test_shares);
    tcase_add_test(tcase, test_sweep_growth);
    tcase = tcase_create("scan");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_scan);
    tcase_add_test(tcase, test_scan_growth);
    tcase_add_test(tcase, test_scan_equal_hashes);
    tcase_add_test(tcase, test_garbage_cursors);
    tcase_add_test(tcase, test_hollow);
    return suite_run(suite);
}
