/* Step keys: the newest step wins, other threads make them shared, the gone explain themselves. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

#define P "prefix=0123456789abcdef"

START_TEST(the_newest_step_wins)
{
    SAY("append t call=c response_id=r " P " : aa", "step 0 v1 created");
    SAY("append t call=c response_id=r " P " : bb", "step 1 v2");
    SAY("append t : cc", "step 2 v3");
    SAY("replay - tool_call=c", "complete t v3 head 2: 0=aa 1=bb");
    SAY("replay - response_id=r", "complete t v3 head 2: 0=aa 1=bb");
    SAY("replay - " P, "complete t v3 head 2: 0=aa 1=bb");
    SAY("replay t tool_call=c", "complete t v3 head 2: 0=aa 1=bb");
}
END_TEST

START_TEST(kinds_do_not_mix)
{
    SAY("append t call=0123456789abcdef response_id=x : aa", "step 0 v1 created");
    SAY("append u call=x : bb", "step 0 v1 created");
    SAY("replay - " P, "miss never_seen v0");
    SAY("replay - tool_call=0123456789abcdef", "complete t v1 head 0: 0=aa");
    SAY("replay - response_id=x", "complete t v1 head 0: 0=aa");
    SAY("replay - tool_call=x", "complete u v1 head 0: 0=bb");
}
END_TEST

START_TEST(a_second_thread_makes_a_key_shared)
{
    SAY("append t call=c response_id=r " P " : aa", "step 0 v1 created");
    SAY("append u call=c response_id=r " P " : bb", "step 0 v1 created");
    SAY("replay - tool_call=c", "miss ambiguous v0");
    SAY("replay - response_id=r", "miss ambiguous v0");
    SAY("replay - " P, "complete u v1 head 0 ambiguous: 0=bb");
    SAY("replay t tool_call=c", "complete t v1 head 0: 0=aa");
    SAY("replay u response_id=r", "complete u v1 head 0: 0=bb");
    SAY("replay t " P, "complete t v1 head 0: 0=aa");
    /* It stays shared, whoever writes it next. */
    SAY("append t call=c : cc", "step 1 v2");
    SAY("replay - tool_call=c", "miss ambiguous v0");
    SAY("append t " P " : dd", "step 2 v3");
    SAY("replay - " P, "complete t v3 head 2 ambiguous: 0=aa 1=cc 2=dd");
}
END_TEST

START_TEST(forks_are_other_threads)
{
    SAY("append t call=c " P " : aa", "step 0 v1 created");
    SAY("fork f from=t", "v1");
    /* The fork wrote nothing: the key leads to its writer. */
    SAY("replay - tool_call=c", "complete t v1 head 0: 0=aa");
    SAY("replay f tool_call=c", "complete f v1 head 0: 0=aa");
    SAY("append f call=c " P " : bb", "step 1 v2");
    SAY("replay - tool_call=c", "miss ambiguous v0");
    SAY("replay - " P, "complete f v2 head 1 ambiguous: 0=aa 1=bb");
    SAY("replay f tool_call=c", "complete f v2 head 1: 0=aa 1=bb");
    SAY("replay t tool_call=c", "complete t v1 head 0: 0=aa");
}
END_TEST

START_TEST(the_newest_gone_is_never_replaced_by_an_older)
{
    SAY("append t call=c response_id=r0 : aa", "step 0 v1 created");
    SAY("append t call=c response_id=r1 : bb", "step 1 v2");
    for (int tended = 0; tended < 2; tended++) {
        if (!tended) {
            SAY("rewind t to=0", "v3 dropped 1");
        } else {
            lane_tend_fully(domain.lane);
        }
        SAY("replay - tool_call=c", tended ? "miss rewound v0" : "miss rewound v3");
        SAY("replay - response_id=r1", tended ? "miss rewound v0" : "miss rewound v3");
        SAY("replay t response_id=r1", "miss rewound v3");
        SAY("replay t tool_call=c", "complete t v3 head 0: 0=aa"); /* the newest in this thread */
        SAY("replay - response_id=r0", "complete t v3 head 0: 0=aa");
    }
    SAY("append t call=c : cc", "step 1 v4");
    SAY("replay - tool_call=c", "complete t v4 head 1: 0=aa 1=cc");
}
END_TEST

/* Whether the burial has come to the step or not, and though its thread ended after that. */
START_TEST(a_rewound_step_stays_rewound_when_its_thread_ends)
{
    for (int tended = 0; tended < 2; tended++) {
        SAY("append t expect=0 call=c call=d : aa", "step 0 v1 created");
        SAY("append t call=e : bb", "step 1 v2");
        SAY("rewind t to=0", "v3 dropped 1");
        SAY("append t : cc", "step 1 v4");
        SAY("fork f from=t", "v2");
        SAY("forget t", "forgotten");
        if (tended) {
            lane_tend_fully(domain.lane);
        }
        SAY("replay - tool_call=e", "miss rewound v0");
        SAY("replay - tool_call=c", "miss forgotten v0");
        SAY("append t expect=0 : dd", "step 0 v1 created");
        SAY("replay t tool_call=e", "miss rewound v1");
        SAY("replay t tool_call=c", "miss forgotten v1");
        SAY("forget t", "forgotten");
        SAY("forget f", "forgotten");
        lane_tend_fully(domain.lane);
        ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    }
}
END_TEST

/* What a key leads to ended as its writer did, not as the fork that had it last. */
START_TEST(the_end_of_a_fork_is_not_that_of_what_it_shared)
{
    SAY("append t call=c : aa", "step 0 v1 created");
    SAY("append t call=e : bb", "step 1 v2");
    SAY("fork f from=t", "v2");
    SAY("rewind t to=0", "v3 dropped 1");
    SAY("replay - tool_call=e", "miss rewound v3");
    SAY("replay f tool_call=e", "complete f v2 head 1: 0=aa 1=bb");
    SAY("forget f", "forgotten");
    lane_tend_fully(domain.lane);
    SAY("replay - tool_call=e", "miss rewound v0");
    SAY("replay t tool_call=e", "miss rewound v3");
    SAY("replay t tool_call=c", "complete t v3 head 0: 0=aa");

    SAY("append u call=g : aa", "step 0 v1 created");
    SAY("fork h from=u", "v1");
    SAY("touch h ttl_ms=5000", "touched");
    domain_wait(&domain, DOMAIN_TTL_MS);
    lane_tend_fully(domain.lane);
    SAY("replay - tool_call=g", "miss expired v0");
    SAY("replay h tool_call=g", "complete h v1 head 0: 0=aa");
    SAY("forget h", "forgotten");
    lane_tend_fully(domain.lane);
    SAY("replay - tool_call=g", "miss expired v0");
    SAY("append u : bb", "step 1 v2 lost 1");
    SAY("replay u tool_call=g", "miss expired v2");
}
END_TEST

START_TEST(keys_of_a_gone_thread_tell_its_reason)
{
    SAY("append t response_id=r call=c : aa", "step 0 v1 created");
    SAY("forget t", "forgotten");
    SAY("replay - response_id=r", "miss forgotten v0");
    SAY("replay t response_id=r", "miss forgotten v0");
    lane_tend_fully(domain.lane);
    SAY("replay - response_id=r", "miss forgotten v0");
    SAY("append u response_id=s : aa", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("replay - response_id=s", "miss expired v0");
    domain_wait(&domain, 200);
    lane_tend_fully(domain.lane);
    SAY("replay - response_id=s", "miss expired v0");
    SAY("append u : bb", "step 1 v2 lost 1");
    SAY("replay - response_id=s", "miss expired v0");
    SAY("replay u response_id=s", "miss expired v2");
    SAY("replay u response_id=never", "miss expired v2"); /* it may have been in what is lost */
}
END_TEST

START_TEST(tombstones_keep_shared)
{
    SAY("append t response_id=r " P " : aa", "step 0 v1 created");
    SAY("append u response_id=r " P " : bb", "step 0 v1 created");
    SAY("forget u", "forgotten");
    SAY("forget t", "forgotten");
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    SAY("replay - response_id=r", "miss ambiguous v0");
    SAY("replay - " P, "miss forgotten v0 ambiguous");
    SAY("append u response_id=r " P " : cc", "step 0 v1 created");
    SAY("replay - response_id=r", "miss ambiguous v0");
    SAY("replay - " P, "complete u v1 head 0 ambiguous: 0=cc");
    SAY("replay u response_id=r", "complete u v1 head 0: 0=cc");
}
END_TEST

START_TEST(a_tombstone_of_another_thread_makes_shared)
{
    SAY("append t response_id=r : aa", "step 0 v1 created");
    SAY("forget t", "forgotten");
    lane_tend_fully(domain.lane);
    SAY("append u response_id=r : bb", "step 0 v1 created");
    SAY("replay - response_id=r", "miss ambiguous v0");
    /* A thread that came back is the same one. */
    SAY("append v response_id=s : aa", "step 0 v1 created");
    SAY("forget v", "forgotten");
    SAY("append v response_id=s : bb", "step 0 v1 created");
    SAY("replay - response_id=s", "complete v v1 head 0: 0=bb");
    SAY("forget v", "forgotten");
    lane_tend_fully(domain.lane);
    SAY("append v response_id=s : cc", "step 0 v1 created");
    SAY("replay - response_id=s", "complete v v1 head 0: 0=cc");
}
END_TEST

START_TEST(shared_steps_and_a_gone_writer)
{
    SAY("append t response_id=r : aa", "step 0 v1 created");
    SAY("fork f from=t", "v1");
    SAY("forget t", "forgotten");
    lane_tend_fully(domain.lane);
    SAY("replay - response_id=r", "miss forgotten v0");
    SAY("replay f response_id=r", "complete f v1 head 0: 0=aa");
    SAY("append t : new", "step 0 v1 created");
    SAY("replay t response_id=r", "miss forgotten v1"); /* as it was with the life before */
    SAY("replay - response_id=r", "miss forgotten v0");
    SAY("replay f response_id=r", "complete f v1 head 0: 0=aa");
}
END_TEST

START_TEST(a_rewound_step_lives_on_in_a_fork)
{
    SAY("append t response_id=r : aa", "step 0 v1 created");
    SAY("fork f from=t", "v1");
    SAY("rewind t to=-1", "v2 dropped 1");
    lane_tend_fully(domain.lane);
    SAY("replay - response_id=r", "miss rewound v2");
    SAY("replay t response_id=r", "miss rewound v2");
    SAY("replay f response_id=r", "complete f v1 head 0: 0=aa");
    SAY("append t : bb", "step 0 v3"); /* the position is used again */
    SAY("replay - response_id=r", "miss rewound v3");
    SAY("replay t response_id=r", "miss rewound v3");
}
END_TEST

START_TEST(a_step_may_name_one_call_twice)
{
    SAY("append t call=c call=d call=c : aa", "step 0 v1 created");
    SAY("replay - tool_call=c", "complete t v1 head 0: 0=aa");
    SAY("replay - tool_call=d", "complete t v1 head 0: 0=aa");
    SAY("forget t", "forgotten");
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    SAY("replay - tool_call=c", "miss forgotten v0");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_RECORDS), 3); /* thread, c, d */
}
END_TEST

START_TEST(all_keys_a_step_may_have)
{
    struct ask ask;
    static char ids[WIRE_TOOL_CALLS_MAX][WIRE_ID_BYTES_MAX];
    struct thread_append_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
    for (unsigned i = 0; i < WIRE_TOOL_CALLS_MAX; i++) {
        memset(ids[i], 'a' + (int)(i % 26), sizeof ids[i]);
        ids[i][0] = (char)i;
        ask_call(&ask, bytes_of(ids[i], sizeof ids[i]));
    }
    ask_set(&ask, response_id, bytes_of(ids[0], WIRE_ID_BYTES_MAX));
    ask_set(&ask, prefix, bytes_of(ids[1], WIRE_PREFIX_BYTES));
    ask_set(&ask, model, bytes_of(ids[2], WIRE_ID_BYTES_MAX));
    for (unsigned i = 0; i < WIRE_PAYLOADS_MAX; i++) {
        ask_payload(&ask, bytes_of(ids[i], 1 + i));
    }
    ck_assert_int_eq(thread_append(domain.lane, &ask.request, &result, &error), STATUS_OK);
    for (unsigned i = 0; i < WIRE_TOOL_CALLS_MAX; i++) {
        struct thread_replay_result replay;
        ask_begin(&ask, WIRE_METHOD_REPLAY, (struct bytes){0});
        ask_set(&ask, tool_call, bytes_of(ids[i], sizeof ids[i]));
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &replay, &error), STATUS_OK);
        ck_assert_int_eq(replay.state, THREAD_COMPLETE);
        ck_assert_uint_eq(replay.segment_count, WIRE_PAYLOADS_MAX);
    }
    SAY("forget t", "forgotten");
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "step keys", setup, teardown, 0, the_newest_step_wins, kinds_do_not_mix,
        a_second_thread_makes_a_key_shared, forks_are_other_threads,
        the_newest_gone_is_never_replaced_by_an_older, keys_of_a_gone_thread_tell_its_reason,
        tombstones_keep_shared, a_tombstone_of_another_thread_makes_shared,
        shared_steps_and_a_gone_writer, a_rewound_step_stays_rewound_when_its_thread_ends,
        the_end_of_a_fork_is_not_that_of_what_it_shared, a_rewound_step_lives_on_in_a_fork,
        a_step_may_name_one_call_twice, all_keys_a_step_may_have);
}
