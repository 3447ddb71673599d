/* Streams and replays where the lanes' clocks differ, or what is asked for is large. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "thread/stream.h"

#include <stdio.h>

enum { CLAIM_MS = 10, LANES = 3, STEPS = 500, UNKNOWN = 100 };

static struct domain domain;
static struct domain others[LANES]; /* of the same threads; only the lanes are their own */

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.claim_timeout_ms = CLAIM_MS;
    settings.frame_max_bytes = 64 << 10;
    domain_open(&domain, settings);
    for (unsigned i = 0; i < LANES; i++) {
        others[i] =
            (struct domain){.threads = domain.threads, .lane = lane_open(domain.threads, i, LANES)};
        ck_assert_ptr_nonnull(others[i].lane);
        lane_online(others[i].lane);
        lane_read_clock(others[i].lane);
    }
}

static void teardown(void)
{
    for (unsigned i = 0; i < LANES; i++) {
        lane_offline(others[i].lane);
        lane_close(others[i].lane);
    }
    domain_close(&domain);
}

/* The lane's clock is by so much ahead of those that were read before. */
static void goes_ahead(struct domain *lane, uint64_t by_ms)
{
    clock_driven_advance(&domain.clock, by_ms);
    lane_read_clock(lane->lane);
}

#define ON(lane, line, answer) ck_assert_str_eq(domain_say(lane, line), answer)

/* Who was told how long a claim lasts is not to lose it by what a slow lane does for him. */
static void check_slow_chunk(uint64_t version)
{
    char conflict[40], begun[40];
    struct domain *slow = &others[0], *between = &others[1], *fast = &others[2];
    snprintf(conflict, sizeof conflict, "conflict claimed v%u", (unsigned)version);
    snprintf(begun, sizeof begun, "begun %u v%u", (unsigned)version, (unsigned)version);
    goes_ahead(between, 2 * CLAIM_MS);
    goes_ahead(fast, 3 * CLAIM_MS);
    ON(fast, "begin t", begun);
    ON(slow, "chunk t : one", "bytes 3");
    ON(between, "append t : x", conflict);
    ON(between, "begin t claim=B", conflict);
    ON(fast, "append t : x", conflict);
    ON(fast, "chunk t : two", "bytes 6");
}

START_TEST(a_slow_lane_does_not_shorten_a_claim)
{
    check_slow_chunk(0);
    ON(&others[2], "commit t", "step 0 v1 created");
    SAY("replay t", "complete t v1 head 0: 0=onetwo");
}
END_TEST

START_TEST(nor_one_on_a_thread_that_is_there)
{
    SAY("append t : zero", "step 0 v1 created");
    check_slow_chunk(1);
    ON(&others[2], "commit t", "step 1 v2");
    SAY("replay t", "complete t v2 head 1: 0=zero 1=onetwo");
}
END_TEST

/* What a policy leaves out is not listed, so it takes no room in the frame. */
START_TEST(what_is_left_out_takes_no_room)
{
    enum { MANY = 2000 };
    char line[60];
    SAY("append t turn=0 final=0 : aa", "step 0 v1 created");
    for (unsigned i = 1; i <= MANY; i++) {
        snprintf(line, sizeof line, "append t turn=%u : b", i);
        ck_assert_str_ne(domain_say(&domain, line), "again");
    }
    SAY("replay t", "too_large");
    SAY("replay t policy=tool_turns", "complete t v2001 head 2000 kept_from 0 dropped 2000: 0=aa");
    SAY("replay t policy=tool_turns have=2001,1999",
        "complete t v2001 head 2000 kept_from 0 dropped 2000:");
}
END_TEST

/* However many prefixes are asked for, a thread's steps are gone through about once. */
START_TEST(a_list_of_prefixes_costs_one_look)
{
    static char line[UNKNOWN * 8 + 100];
    int at = snprintf(line, sizeof line, "replay t prefix_list=");
    for (unsigned i = 0; i < STEPS; i++) {
        char append[60];
        snprintf(append, sizeof append, "append t prefix=s%u : b", i);
        ck_assert_str_ne(domain_say(&domain, append), "again");
    }
    /* The newest to write it is another thread, so the index does not lead into this one. */
    SAY("append other prefix=s7 : c", "step 0 v1 created");
    for (unsigned i = 0; i < UNKNOWN; i++) {
        at += snprintf(line + at, sizeof line - (size_t)at, "u%u,", i);
    }
    snprintf(line + at, sizeof line - (size_t)at, "s7,s9 last=1");
    lane_tend(domain.lane);
    SAY(line, "complete t v500 head 499 found 100: 7=b");
    ck_assert_uint_lt(lane_work(domain.lane), 4 * STEPS);
    lane_tend(domain.lane);
    snprintf(line + at, sizeof line - (size_t)at, "w");
    SAY(line, "miss never_seen v500");
    ck_assert_uint_lt(lane_work(domain.lane), 4 * STEPS);
}
END_TEST

/* What a policy goes through to find its boundary ends a turn as well. */
START_TEST(a_boundary_that_is_far_back_is_work)
{
    for (unsigned i = 0; i < STEPS; i++) {
        char line[60];
        snprintf(line, sizeof line, "append t turn=%u final=0 : b", i);
        ck_assert_str_ne(domain_say(&domain, line), "again");
    }
    lane_tend(domain.lane);
    SAY("replay t policy=since_final last=1",
        "complete t v500 head 499 kept_from 0 dropped 0: 499=b");
    ck_assert_uint_ge(lane_work(domain.lane), STEPS);
    lane_tend(domain.lane);
    SAY("replay t policy=last_turns turns=400 last=1",
        "complete t v500 head 499 kept_from 100 dropped 100: 499=b");
    ck_assert_uint_ge(lane_work(domain.lane), 400);
    lane_tend(domain.lane);
    SAY("replay t policy=current_turn",
        "complete t v500 head 499 kept_from 499 dropped 499: 499=b");
    ck_assert_uint_lt(lane_work(domain.lane), 100);
}
END_TEST

START_TEST(numbers_at_their_limits)
{
    SAY("append t : aa", "step 0 v1 created");
    SAY("append t : bb", "step 1 v2");
    SAY("replay t have=9223372036854775807,9223372036854775807",
        "complete t v2 head 1 first_changed 0: 0=aa 1=bb");
    SAY("replay t have=2,9223372036854775807", "complete t v2 head 1 first_changed 2:");
    SAY("replay t have=2,9223372036854775807,0,1", "complete t v2 head 1 extends:");
    SAY("replay t have=2,9223372036854775807,0,1,4294967295",
        "complete t v2 head 1 breaks first_changed 4294967295:");
    SAY("replay t have=2,1 last=18446744073709551615", "complete t v2 head 1:");
    SAY("replay t policy=last_turns turns=4294967295 turn=4294967295 "
        "max_tokens=9223372036854775807",
        "complete t v2 head 1 kept_from 0 dropped 0: 0=aa 1=bb");
    SAY("append t turn=4294967295 : cc", "step 2 v3");
    SAY("replay t policy=tool_turns", "complete t v3 head 2 kept_from 3 dropped 3:");
    SAY("replay t policy=current_turn turn=4294967295 pin=1",
        "complete t v3 head 2 kept_from 2 dropped 2: 2=cc");
    SAY("replay t pin=1", "complete t v3 head 2 kept_from 2 dropped 2: 2=cc");
}
END_TEST

/* More of them than verdicts are kept. */
START_TEST(steps_of_many_models)
{
    static const char *const models[] = {"qwen3-a", "grok", "glm-5", "o1", "gpt-5", "kimi-k2", "q"};
    char line[60];
    for (unsigned i = 0; i < 14; i++) {
        snprintf(line, sizeof line, "append t model=%s : b", models[i % 7]);
        ck_assert_str_ne(domain_say(&domain, line), "again");
    }
    SAY("replay t model=q",
        "partial t v14 head 13: 0=b 1?model_mismatch 2=b 3?model_mismatch 4?model_mismatch 5=b 6=b "
        "7=b 8?model_mismatch 9=b 10?model_mismatch 11?model_mismatch 12=b 13=b");
    SAY("replay t model=o1 last=7 have=14,-1",
        "partial t v14 head 13: 7=b 8?model_mismatch 9=b 10=b 11?model_mismatch 12=b "
        "13?model_mismatch");
}
END_TEST

int main(void)
{
    return SUITE_RUN("review: stream", setup, teardown, 60, a_slow_lane_does_not_shorten_a_claim,
                     nor_one_on_a_thread_that_is_there, what_is_left_out_takes_no_room,
                     a_list_of_prefixes_costs_one_look, a_boundary_that_is_far_back_is_work,
                     numbers_at_their_limits, steps_of_many_models);
}
