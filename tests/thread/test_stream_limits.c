/* Streamed steps and memory: what they may take, what they keep, what they give back. */
#include "thread/stream.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "thread/operations.h"

#include <stdio.h>

enum { CLAIM_MS = 60 * 1000 };

static struct domain domain;

static void open_with(struct threads_settings settings)
{
    domain_open(&domain, settings);
}

static void setup(void)
{
    open_with(domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

static void close_and_open(struct threads_settings settings)
{
    domain_close(&domain);
    open_with(settings);
}

#define METRIC_IS(metric, value) ck_assert_uint_eq(domain_metric(&domain, METRIC_##metric), value)

/* All that is due goes, and its memory comes back. */
static void tend(void)
{
    for (int i = 0; i < 4; i++) {
        lane_tend_fully(domain.lane);
    }
}

static uint64_t live_bytes(void)
{
    tend();
    return arena_live_bytes(domain.lane->threads->arena);
}

START_TEST(a_step_that_cannot_be_kept_is_refused_as_it_comes)
{
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : x*1000000", "bytes 1000000");
    SAY("chunk t : x*60000", "too_large"); /* a frame takes 1 MiB */
    SAY("chunk t : x*1000", "bytes 1001000");
    SAY("commit t : x*60000", "too_large");
    SAY("commit t", "step 0 v1 created");
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 16 << 20;
    settings.frame_max_bytes = 64 << 20;
    close_and_open(settings);
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : x*4000000", "bytes 4000000");
    SAY("chunk t : x*500000", "over_budget"); /* a quarter, for all of them */
    SAY("begin u claim=U", "begun 0 v0");
    SAY("chunk u claim=U : x*500000", "over_budget");
    SAY("chunk u claim=U : x*50000", "bytes 50000");
    SAY("chunk t", "bytes 4000000");
    SAY("commit t", "step 0 v1 created");
    SAY("chunk u claim=U : x*500000", "bytes 550000");
    SAY("commit u claim=U", "step 0 v1 created");
    METRIC_IS(STREAMING_BYTES, 0);
}
END_TEST

/* Streams that are begun and left alone are bounded too. */
START_TEST(nobody_can_begin_without_end)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 16 << 20;
    close_and_open(settings);
    char line[40];
    unsigned begun = 0;
    const char *answer = "begun 0 v0";
    while (strcmp(answer, "begun 0 v0") == 0 && begun < 100000) {
        snprintf(line, sizeof line, "begin t%u", begun++);
        answer = domain_say(&domain, line);
        if (begun % 1000 == 0) {
            lane_tend(domain.lane);
        }
    }
    ck_assert_str_eq(answer, "over_budget");
    ck_assert_uint_gt(begun, 5000);
    SAY("append other : x*1000000", "step 0 v1 created");
    METRIC_IS(EVICTED, 0);
    domain_wait(&domain, CLAIM_MS);
    tend();
    METRIC_IS(STREAMING_BYTES, 0);
    METRIC_IS(RECORDS, 1); /* the other's tombstone */
    METRIC_IS(STREAMS_TIMED_OUT, begun - 1);
    SAY("begin t1", "begun 0 v0");
}
END_TEST

START_TEST(eviction_leaves_streams_alone)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 16 << 20;
    settings.ttl_ms = 10 * CLAIM_MS;
    close_and_open(settings);
    SAY("append t : one", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : x*100000", "bytes 100000");
    SAY("begin u claim=U", "begun 0 v0");
    SAY("chunk u claim=U : x*100000", "bytes 100000");
    char line[60];
    for (unsigned round = 0; round < 2; round++) {
        for (unsigned i = 0; i < 100; i++) {
            snprintf(line, sizeof line, "append f%u-%u : x*500000", round, i);
            for (int tries = 0; tries < 50 && strncmp(domain_say(&domain, line), "step", 4) != 0;
                 tries++) {
                lane_tend(domain.lane);
                lane_offline(domain.lane);
                lane_online(domain.lane);
                domain_wait(&domain, 20);
            }
            lane_tend(domain.lane);
        }
        ck_assert_uint_gt(domain_metric(&domain, METRIC_EVICTED), 50);
        if (round == 0) {
            SAY("chunk t : y", "bytes 100001");
            SAY("chunk u claim=U : y", "bytes 100001");
            domain_wait(&domain, CLAIM_MS); /* now it may have them */
        }
    }
    SAY("replay t", "miss evicted v1");
    SAY("chunk t : y", "conflict claimed v1");
    SAY("replay u", "miss never_seen v0");
    METRIC_IS(STREAMS_TIMED_OUT, 2);
    METRIC_IS(STREAMING_BYTES, 0);
}
END_TEST

/* Begun, filled, ended in each way: what there was is given back to the byte. */
START_TEST(memory_is_given_back)
{
    static const char *const ends[] = {"abort t", "forget t", "commit t"};
    struct threads_settings settings = domain_settings();
    settings.tombstones = 64;
    close_and_open(settings);
    uint64_t steady = 0;
    for (unsigned i = 0; i < 300; i++) {
        domain_say(&domain, "begin t");
        domain_say(&domain, "chunk t : some*3000 more*100");
        domain_say(&domain, "chunk t : some*30000 more*100");
        ck_assert_uint_gt(domain_metric(&domain, METRIC_STREAMING_BYTES), 130000);
        domain_say(&domain, ends[i % 3]);
        METRIC_IS(STREAMING_BYTES, 0);
        domain_say(&domain, "begin t");
        domain_say(&domain, "chunk t : some*3000 more*100");
        domain_wait(&domain, CLAIM_MS);
        uint64_t now = live_bytes();
        METRIC_IS(STREAMING_BYTES, 0);
        METRIC_IS(PAYLOAD_BYTES, 0);
        steady = i == 200 ? now : steady; /* the ring of tombstones is full */
        ck_assert(i < 200 || now <= steady);
    }
}
END_TEST

/* ---- turns ---- */

static bool in_tool_turn(uint32_t number)
{
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_nonnull(found.thread);
    struct snapshot now = spine_snapshot(domain.lane, found.thread);
    ck_assert_uint_lt(number, now.length);
    return (spine_step(domain.lane, now.spine, number)->flags & STEP_IN_TOOL_TURN) != 0;
}

START_TEST(steps_know_whether_their_turn_called_a_tool)
{
    SAY("append t turn=0 : plain", "step 0 v1 created");
    SAY("append t turn=0 : again", "step 1 v2");
    SAY("append t turn=1 call=c : tool", "step 2 v3");
    SAY("append t : last", "step 3 v4"); /* of the same turn */
    SAY("begin t", "begun 4 v4");
    SAY("commit t : streamed", "step 4 v5");
    SAY("append t turn=2 : next", "step 5 v6");
    SAY("append t final=0 : not", "step 6 v7");
    static const bool expected[] = {false, false, true, true, true, false, true};
    for (uint32_t i = 0; i < 7; i++) {
        ck_assert_int_eq(in_tool_turn(i), expected[i]);
    }
    SAY("rewind t to=1", "v8 dropped 5");
    SAY("append t : after", "step 2 v9");
    ck_assert(!in_tool_turn(2));
}
END_TEST

int main(void)
{
    return SUITE_RUN("stream: limits", setup, teardown, 60,
                     a_step_that_cannot_be_kept_is_refused_as_it_comes,
                     nobody_can_begin_without_end, eviction_leaves_streams_alone,
                     memory_is_given_back, steps_know_whether_their_turn_called_a_tool);
}
