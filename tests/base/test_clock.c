/* The monotonic clock, the wall's, and the driven one. */
#include "base/clock.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <pthread.h>
#include <time.h>

START_TEST(monotonic_clock_follows_the_machine)
{
    struct clock *clock = clock_monotonic();
    ck_assert_ptr_eq(clock, clock_monotonic());
    uint64_t first = clock_read_ms(clock), last = first;
    ck_assert_uint_ge(first, 1);
    for (unsigned i = 0; i < 10000; i++) {
        uint64_t now = clock_read_ms(clock);
        ck_assert_uint_ge(now, last);
        last = now;
    }
    struct timespec before, after, pause = {.tv_nsec = 30 * 1000000};
    uint64_t start = clock_read_ms(clock);
    clock_gettime(CLOCK_MONOTONIC, &before);
    nanosleep(&pause, NULL);
    clock_gettime(CLOCK_MONOTONIC, &after);
    uint64_t end = clock_read_ms(clock);
    /* Whole milliseconds of the difference: rounded part by part it may come out as one more. */
    int64_t slept_ns =
        (int64_t)(after.tv_sec - before.tv_sec) * 1000000000 + (after.tv_nsec - before.tv_nsec);
    uint64_t slept = (uint64_t)slept_ns / 1000000;
    ck_assert_uint_ge(end - start, slept);
    ck_assert_uint_ge(end - start, 30);
}
END_TEST

START_TEST(wall_clock_tells_the_time_of_day)
{
    struct clock *clock = clock_wall();
    ck_assert_ptr_eq(clock, clock_wall());
    time_t before = time(NULL); /* it may lag by a tick of the kernel */
    uint64_t now = clock_read_ms(clock);
    time_t after = time(NULL);
    ck_assert_uint_ge(now / 1000, (uint64_t)before);
    ck_assert_uint_le(now / 1000, (uint64_t)after + 1);
}
END_TEST

START_TEST(driven_clock_stands_still_until_told)
{
    struct clock_driven driven;
    clock_driven_init(&driven, 1000);
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(clock_read_ms(&driven.clock), 1000);
    }
    clock_driven_advance(&driven, 0);
    ck_assert_uint_eq(clock_read_ms(&driven.clock), 1000);
    clock_driven_advance(&driven, 299999);
    ck_assert_uint_eq(clock_read_ms(&driven.clock), 300999);
    clock_driven_advance(&driven, UINT64_C(1) << 40);
    ck_assert_uint_eq(clock_read_ms(&driven.clock), (UINT64_C(1) << 40) + 300999);
}
END_TEST

struct driven_pair {
    struct clock_driven driven;
    uint64_t written; /* plain: the clock orders it */
    uint64_t steps;
};

static void *drive(void *context)
{
    struct driven_pair *pair = context;
    pair->written = 77;
    for (uint64_t i = 0; i < pair->steps; i++) {
        clock_driven_advance(&pair->driven, 1);
    }
    return NULL;
}

START_TEST(driven_clock_is_shared)
{
    struct driven_pair pair = {.steps = trial_count(200000)};
    clock_driven_init(&pair.driven, 1);
    pthread_t driver;
    ck_assert_int_eq(pthread_create(&driver, NULL, drive, &pair), 0);
    uint64_t last = 1;
    while (last < 1 + pair.steps) {
        uint64_t now = clock_read_ms(&pair.driven.clock);
        ck_assert_uint_ge(now, last);
        last = now;
    }
    ck_assert_uint_eq(pair.written, 77);
    pthread_join(driver, NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("base/clock");
    TCase *clocks = tcase_create("clocks");
    tcase_add_test(clocks, monotonic_clock_follows_the_machine);
    tcase_add_test(clocks, wall_clock_tells_the_time_of_day);
    tcase_add_test(clocks, driven_clock_stands_still_until_told);
    tcase_add_test(clocks, driven_clock_is_shared);
    suite_add_tcase(suite, clocks);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed != 0;
}
