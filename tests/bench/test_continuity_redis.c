/* Who an exact LRU of that size would have kept, by hand. */
#include "bench/continuity_redis.h"

#include "tests/lib/suite.h"

enum { MINUTE_MS = 60000 };

/* Three threads of three turns; each turn's list takes 100 bytes more. */
static struct trace_turn turns[9];
static uint64_t bytes[9];
static struct trace trace = {.turns = turns, .turn_count = 9, .thread_count = 3};
static const struct continuity_redis redis = {
    .trace = &trace, .empty_bytes = 50, .bytes_behind = bytes};
static struct continuity_counts counts;

/* Thread t comes at minutes t, t + 10, t + 20. */
static void setup(void)
{
    for (uint32_t i = 0; i < 9; i++) {
        uint64_t before = i % 3 == 0 ? i / 3 : 10;
        turns[i] = (struct trace_turn){i / 3, i, 100, before * MINUTE_MS};
        bytes[i] = 100 * (i % 3 + 1);
    }
}

START_TEST(test_all_fit)
{
    ck_assert(continuity_redis_play(&redis, 950, 24 * 60 * MINUTE_MS, &counts));
    ck_assert_uint_eq(counts.follow_ups, 6);
    ck_assert_uint_eq(counts.complete, 6);
}
END_TEST

START_TEST(test_ttl)
{
    ck_assert(continuity_redis_play(&redis, 10000, 10 * MINUTE_MS, &counts));
    ck_assert_uint_eq(counts.follow_ups, 6);
    ck_assert_uint_eq(counts.complete, 0);
    ck_assert(continuity_redis_play(&redis, 10000, 10 * MINUTE_MS + 1, &counts));
    ck_assert_uint_eq(counts.complete, 6);
}
END_TEST

/*
 * 350 after the first round. At 10 and 11 the first two grow, to 550; so at 12 the one used longest
 * ago goes, which is the third. At 20 it is 550 again and the first goes; the second is whole at
 * 21; at 22 the third goes once more.
 */
START_TEST(test_oldest_goes)
{
    ck_assert(continuity_redis_play(&redis, 500, 24 * 60 * MINUTE_MS, &counts));
    ck_assert_uint_eq(counts.follow_ups, 6);
    ck_assert_uint_eq(counts.complete, 3);
}
END_TEST

START_TEST(test_nothing_fits)
{
    ck_assert(continuity_redis_play(&redis, 10, 24 * 60 * MINUTE_MS, &counts));
    ck_assert_uint_eq(counts.follow_ups, 6);
    ck_assert_uint_eq(counts.complete, 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("continuity_redis", setup, NULL, 0, test_all_fit, test_ttl, test_oldest_goes,
                     test_nothing_fits);
}
