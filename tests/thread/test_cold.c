/* What is not in memory but on disk: its keys, and loads that race with everything else. */
#include "tests/thread/disk.h"

/* ---- Keys ---- */

START_TEST(step_keys_of_demoted_threads)
{
    NOW("append t response_id=r call=c prefix=pppppppppppppppp : one", "step 0 v1 created");
    NOW("append t : two", "step 1 v2");
    demote_all();
    NOW("replay - response_id=r", "again");
    IS("replay - response_id=r", "complete t v2 head 1 disk: 0=one");
    demote_all();
    IS("replay - tool_call=c", "complete t v2 head 1 disk: 0=one");
    demote_all();
    IS("replay - prefix=pppppppppppppppp", "complete t v2 head 1 disk: 0=one");
    IS("replay t tool_call=c", "complete t v2 head 1: 0=one");
    IS("replay t tool_call=d", "miss never_seen v2");
    IS("replay - tool_call=d", "miss never_seen v0");
}
END_TEST

START_TEST(keys_are_shared_across_demotion)
{
    NOW("append t call=c response_id=r prefix=pppppppppppppppp : one", "step 0 v1 created");
    demote_all();
    NOW("append u call=c : two", "again"); /* whose was it? */
    IS("append u call=c : two", "step 0 v1 created");
    IS("replay - tool_call=c", "miss ambiguous v0");
    IS("append u prefix=pppppppppppppppp : three", "step 1 v2");
    IS("replay - prefix=pppppppppppppppp", "complete u v2 head 1 ambiguous: 0=two 1=three");
    demote_all();
    IS("replay - tool_call=c", "miss ambiguous v0");
    IS("replay - prefix=pppppppppppppppp", "complete u v2 head 1 ambiguous disk: 0=two 1=three");
    IS("replay t tool_call=c", "complete t v1 head 0 disk: 0=one");
    IS("replay u tool_call=c", "complete u v2 head 1: 0=two");
    /* A thread by itself does not share with itself. */
    IS("append t response_id=r : four", "step 1 v2");
    demote_all();
    IS("replay - response_id=r", "complete t v2 head 1 disk: 0=one 1=four");
    /* It sticks when both are gone. */
    IS("forget t", "forgotten pending");
    IS("forget u", "forgotten pending");
    run();
    restart();
    IS("replay - tool_call=c", "miss ambiguous v0");
    IS("replay - prefix=pppppppppppppppp", "miss forgotten v0 ambiguous");
    IS("append v call=c : five", "step 0 v1 created");
    IS("replay - tool_call=c", "miss ambiguous v0");
}
END_TEST

START_TEST(the_newest_step_has_the_key_across_demotion)
{
    NOW("append t call=c : one", "step 0 v1 created");
    demote_all();
    IS("append t call=c : two", "step 1 v2");
    demote_all();
    IS("replay - tool_call=c", "complete t v2 head 1 disk: 0=one 1=two");
    IS("rewind t to=0", "v3 dropped 1");
    NOW("replay - tool_call=c", "miss rewound v3"); /* before the disk knows */
    demote_all();
    wait_ms(10000);
    sweep();
    IS("replay - tool_call=c", "miss rewound v0"); /* never an older step */
    IS("replay t tool_call=c", "complete t v3 head 0 disk: 0=one");
}
END_TEST

START_TEST(an_answer_from_disk_is_not_believed_for_long)
{
    IS("replay t", "miss never_seen v0");
    tier_model_set_false_positives(model, true);
    NOW("replay t", "again");
    IS("replay t", "miss never_seen v0");
    NOW("replay - response_id=r", "again");
    IS("replay - response_id=r", "miss never_seen v0");
    IS("append t response_id=r : one", "step 0 v1 created"); /* in the place of the answers */
    NOW("replay t", "complete t v1 head 0: 0=one");
    NOW("replay - response_id=r", "complete t v1 head 0: 0=one");
    demote_all();
    IS("replay - response_id=r", "complete t v1 head 0 disk: 0=one");
    IS("fork f from=u", "not_found from never_seen");
    IS("rewind u to=-1", "not_found thread never_seen");
    IS("forget u", "nothing");
    IS("touch u", "missing never_seen");
    IS("stat u", "miss never_seen v0");
}
END_TEST

/* ---- Loads ---- */

START_TEST(two_lanes_load_one_thread)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    open_second();
    uint64_t loads = tier_model_loads(model);
    NOW("replay t", "again");
    ck_assert_str_eq(domain_say(&second, "replay t"), "again");
    ck_assert_str_eq(domain_say(&second, "append t expect=1 : two"), "again");
    ck_assert_uint_eq(tier_model_loads(model), loads + 1);
    tier_model_run(model);
    turn(&second); /* the event is the first lane's */
    ck_assert_str_eq(domain_say(&second, "replay t"), "again");
    turn(&domain);
    ck_assert_str_eq(domain_say(&second, "replay t"), "complete t v1 head 0 disk: 0=one");
    NOW("append t expect=1 : two", "step 1 v2");
    ck_assert_str_eq(domain_say(&second, "append t expect=1 : other"), "conflict version v2");
    ck_assert_uint_eq(tier_model_loads(model), loads + 1);
    METRIC_IS(PROMOTIONS, 1);
    close_second();
}
END_TEST

/* The second lane's event loop is behind: it has read an old state of the disk. */
START_TEST(what_was_read_before_is_not_taken_for_new)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    open_second();
    ck_assert_str_eq(domain_say(&second, "replay t"), "again");
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_READ, 1), 1);
    for (int i = 0; i < 5; i++) { /* nobody gets past it */
        NOW("append t : two", "again");
        NOW("forget t", "again");
        NOW("rewind t to=-1", "again");
        NOW("fork f from=t", "again");
        turn(&domain);
    }
    tier_model_run(model);
    turn(&second);
    NOW("append t : two", "step 1 v2");
    ck_assert_str_eq(domain_say(&second, "replay t"), "complete t v2 head 1: 0=one 1=two");
    close_second();
}
END_TEST

START_TEST(forget_during_a_load)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    demote_all();
    NOW("replay t", "again");
    tier_model_advance(model, TIER_MODEL_READ, 1);
    NOW("forget t", "again");
    IS("forget t", "forgotten pending");
    NOW("replay t", "miss forgotten v0");
    run();
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_OK);
    ck_assert_uint_eq(tier_model_threads(model), 0);
    IS("replay t", "miss forgotten v0");
    IS("replay - response_id=r", "miss forgotten v0");
}
END_TEST

/* Forgotten, and the erasure is under way: nobody may load it back. */
START_TEST(a_load_during_an_erasure)
{
    NOW("append t call=c : one", "step 0 v1 created");
    demote_all();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    NOW("forget t", "forgotten pending");
    NOW("append t expect=0 call=d : two", "step 0 v1 created"); /* another life, meanwhile */
    NOW("replay - tool_call=c", "again");
    tier_model_advance(model, TIER_MODEL_READ, 1); /* the disk has the key still */
    tier_model_advance(model, TIER_MODEL_ANSWER, 1);
    turn(&domain);
    NOW("replay - tool_call=c", "again"); /* and is not believed */
    run();
    IS("replay - tool_call=c", "miss forgotten v0");
    NOW("replay t", "complete t v1 head 0: 0=two");
    demote_all();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("replay t", "complete t v1 head 0 disk: 0=two");
}
END_TEST

START_TEST(the_retention_ends_during_a_load)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    NOW("replay t", "again");
    tier_model_advance(model, TIER_MODEL_READ, 1);
    wait_ms(RETENTION_MS);
    tier_model_advance(model, TIER_MODEL_ANSWER, 1);
    turn(&domain);
    IS("replay t", "miss expired v1");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    restart();
    IS("replay t", "miss expired v1");
    IS("append t expect=1 : two", "step 1 v2 lost 1");
    demote_all();
    IS("replay t", "partial t v2 head 1 disk: 0?expired 1=two");
}
END_TEST

START_TEST(the_tier_asks_during_a_load)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    wait_ms(RETENTION_MS - 3 * DOMAIN_TTL_MS);
    NOW("replay t", "again");
    tier_model_advance(model, TIER_MODEL_READ, 1);
    ck_assert_uint_eq(tier_model_evict(model, 1), 1);
    turn(&domain); /* it is being loaded: asked again later */
    tier_model_run(model);
    turn(&domain);
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    due();
    wait_ms(RETENTION_MS - DOMAIN_TTL_MS);
    due(); /* the disk knows of the first use only, memory of the last */
    IS("replay t", "complete t v1 head 0: 0=one");
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

START_TEST(a_demotion_during_a_replay)
{
    NOW("append t : one", "step 0 v1 created");
    NOW("append t : x*5000", "step 1 v2");
    run();
    open_second();
    struct ask ask;
    struct thread_replay_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
    ask_set(&ask, touch, false);
    ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &error), STATUS_OK);
    clock_driven_advance(&domain.clock, 2 * DOMAIN_TTL_MS);
    clock_driven_advance(&wall, 2 * DOMAIN_TTL_MS);
    for (int i = 0; i < 6; i++) {
        lane_tend_fully(second.lane);
        tier_model_run(model);
    }
    uint64_t values[METRIC_COUNT];
    threads_metrics(second.lane, values);
    if (values[METRIC_THREADS_LIVE] != 0) { /* of the other lane's share */
        lane_close((lane_offline(second.lane), second.lane));
        second.lane = lane_open(domain.threads, 0, 1);
        lane_online(second.lane);
        for (int i = 0; i < 6; i++) {
            lane_tend_fully(second.lane);
            tier_model_run(model);
        }
        threads_metrics(second.lane, values);
    }
    ck_assert_uint_eq(values[METRIC_THREADS_LIVE], 0);
    /* What the first lane holds stays as it was until it goes offline. */
    enum reason missing;
    struct step_view view;
    ck_assert_uint_eq(result.end, 2);
    step_view(thread_replay_step(domain.lane, &result, 0, &missing), &view);
    ck_assert(bytes_equal(view.payload, bytes_text("one")));
    const struct step *step = thread_replay_step(domain.lane, &result, 1, &missing);
    step_pin(step); /* and what is pinned, beyond */
    run();
    lane_tend_fully(domain.lane);
    lane_tend_fully(second.lane);
    step_view(step, &view);
    ck_assert_uint_eq(view.payload.size, 5000);
    ck_assert_int_eq(view.payload.data[4999], 'x');
    step_unpin(step);
    IS("replay t", "complete t v2 head 1 disk: 0=one 1=x*5000");
    close_second();
}
END_TEST

START_TEST(a_load_that_fails_is_tried_again)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    demote_all();
    tier_model_fail_loads(model, 3);
    for (int i = 0; i < 3; i++) {
        NOW("replay t", "again");
        tier_model_run(model);
        turn(&domain);
    }
    NOW("replay t", "again");
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    demote_all();
    tier_model_fail_loads(model, 2);
    IS("replay - response_id=r", "complete t v1 head 0 disk: 0=one");
}
END_TEST

START_TEST(hints_ask_for_what_is_not_in_memory)
{
    static const char *const names[] = {"there", "gone", "left"};
    NOW("append gone : one", "step 0 v1 created");
    NOW("append left : two", "step 0 v1 created");
    demote_all();
    NOW("append there : three", "step 0 v1 created");
    uint64_t loads = tier_model_loads(model);
    struct ask asks[3];
    struct thread_hint hints[3];
    for (int i = 0; i < 3; i++) {
        ask_begin(&asks[i], WIRE_METHOD_REPLAY, bytes_text(names[i]));
        thread_prefetch_directory(domain.lane, &asks[i].request, &hints[i]);
        thread_prefetch_bucket(domain.lane, &hints[i]);
    }
    for (int i = 0; i < 3; i++) {
        thread_prefetch_record(domain.lane, &asks[i].request, &hints[i]);
    }
    ck_assert_uint_eq(tier_model_loads(model), loads + 2);
}
END_TEST

START_TEST(too_many_loads_are_put_back)
{
    tier_settings.loads_max = 1;
    start_over();
    NOW("append t : one", "step 0 v1 created");
    NOW("append u : two", "step 0 v1 created");
    demote_all();
    NOW("replay t", "again");
    NOW("replay u", "again");
    ck_assert_uint_eq(tier_model_waiting(model, TIER_MODEL_READ), 1);
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    IS("replay u", "complete u v1 head 0 disk: 0=two");
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "cold", setup, teardown, 60, step_keys_of_demoted_threads, keys_are_shared_across_demotion,
        the_newest_step_has_the_key_across_demotion, an_answer_from_disk_is_not_believed_for_long,
        two_lanes_load_one_thread, what_was_read_before_is_not_taken_for_new, forget_during_a_load,
        a_load_during_an_erasure, the_retention_ends_during_a_load, the_tier_asks_during_a_load,
        a_demotion_during_a_replay, a_load_that_fails_is_tried_again,
        hints_ask_for_what_is_not_in_memory, too_many_loads_are_put_back);
}
