/*
 * The sweep's hints: buckets without anything due are left out, and nothing that is due, whatever
 * the times between looks. That no schedule of operations leaves a hint too late is for
 * test_index_schedules.c.
 */
#include "tests/index/test_index_visits.h"

/* A call of the only sweeper; true when it ends a pass. */
static bool sweep_some(struct visits *visits, struct index_cursor *cursor, unsigned slots,
                       uint64_t now)
{
    return index_sweep(visits->world->index, visits->member, cursor, 0, 1, slots, false, now,
                       visit_due, visits);
}

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
        } while (!sweep_some(&visits, &cursor, 200, begin + passes[i].now));
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
            MUST(sweep_some(&visits, &cursor, 1000, now));
        }
        MUST(!half_way || !sweep_some(&visits, &cursor, 1, now));
        MUST(world_insert_at(&world, member, 0, 99, (uint16_t)now) != NULL);
        now += still[i % CASES];
        uint16_t far = (uint16_t)(now + INDEX_TICKS_AHEAD_MAX);
        MUST(world_insert_at(&world, member, 1, 99, far) != NULL);
        for (int passes = 0; passes < 1 + half_way; passes++) {
            MUST(sweep_some(&visits, &cursor, 1000, now));
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
            MUST(sweep_some(&visits, &cursor, 1000, now));
        }
        MUST(!sweep_some(&visits, &cursor, 1, now));
        MUST(world_insert_at(&world, member, 0, 99, (uint16_t)(now + 1)) != NULL);
        now += ticks;
        MUST(sweep_some(&visits, &cursor, 1000, now));
        now += ticks;
        uint16_t far = (uint16_t)(now + INDEX_TICKS_AHEAD_MAX);
        MUST(world_insert_at(&world, member, 1, 99, far) != NULL);
        MUST(sweep_some(&visits, &cursor, 1000, now));
        ck_assert_msg(visits.counts[0] == 1, "passes of %u ticks", ticks);
        free(visits.counts);
        world_leave(member);
        world_destroy(&world);
    }
}
END_TEST

/* A segment is copied again and again, and with more keys split at last, all of them going to the
 * second half: the hint is that of all lines. */
START_TEST(test_hints_of_copies)
{
    struct world world = world_create();
    struct epoch_member *member = world_join(&world);
    uint64_t keys = _i == 0 ? 100 : 160, now = 100000;
    struct visits visits = visits_create(&world, member, keys);
    visits.next_tick = (uint16_t)(now + 500);
    for (uint64_t k = 0; k < keys; k++) {
        MUST(world_insert_at(&world, member, k, 99, (uint16_t)(now + (k == 9 ? 1 : 400))));
    }
    ck_assert_uint_eq(index_stats(world.index).splits, (uint64_t)_i);
    struct index_cursor cursor = {.begun = now};
    MUST(sweep_some(&visits, &cursor, 100000, now + 1));
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
 * Two passes take less than half a circle, or what became due in the first is not told from what
 * is not due yet.
 */
START_TEST(test_hints_at_random)
{
    enum { HALF_CIRCLE = 0x8000 };
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
    uint64_t begun[2] = {deadlines.now, deadlines.now}; /* the pass at hand, and the one before */
    while (passes < trial_count(2000)) {
        uint64_t leap = trial_below(&seed, 20);
        uint64_t step = leap == 0   ? trial_below(&seed, 0x2800)
                        : leap == 1 ? trial_below(&seed, 0x400)
                                    : trial_below(&seed, 8);
        deadlines.now += deadlines.now + step - begun[1] < HALF_CIRCLE ? step : 0;
        for (uint64_t n = trial_below(&seed, 8); n > 0; n--) {
            deadlines_set(&deadlines, &world, member, trial_below(&seed, deadlines.keys));
        }
        unsigned slots = 1 + (unsigned)trial_below(&seed, 3000);
        if (!index_sweep(world.index, member, &cursor, 0, 1, slots, false, deadlines.now,
                         visit_deadline, &deadlines)) {
            continue;
        }
        passes++;
        begun[1] = begun[0];
        begun[0] = deadlines.now;
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

int main(void)
{
    Suite *suite = suite_create("index hints");
    TCase *tcase = tcase_create("hints");
    suite_add_tcase(suite, tcase);
    tcase_add_test(tcase, test_hints_leave_out);
    tcase_add_test(tcase, test_hints_after_a_standstill);
    tcase_add_test(tcase, test_hints_in_long_passes);
    tcase_add_loop_test(tcase, test_hints_of_copies, 0, 2);
    tcase_add_test(tcase, test_hints_at_random);
    return suite_main(suite);
}
