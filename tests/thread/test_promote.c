/* Threads leave memory, stay on disk, and come back as they were. */
#include "tests/thread/disk.h"

/* ---- Demotion and promotion ---- */

START_TEST(an_idle_thread_leaves_memory_and_comes_back)
{
    NOW("append t turn=2 tokens=9 model=m response_id=r call=c kind=opaque kind=text : one two",
        "step 0 v1 created");
    NOW("append t : x*300", "step 1 v2");
    IS("replay t", "complete t v2 head 1: 0=opaque'one|two 1=x*300");
    METRIC_IS(DEMOTIONS, 0);
    demote_all();
    METRIC_IS(DEMOTIONS, 1);
    METRIC_IS(PAYLOAD_BYTES, 0);
    METRIC_IS(EXPIRED, 0);
    NOW("replay t", "again");
    IS("replay t", "complete t v2 head 1 disk: 0=opaque'one|two 1=x*300");
    ck_assert_uint_eq(domain.expires_in_ms, RETENTION_MS);
    METRIC_IS(PROMOTIONS, 1);
    NOW("replay t have=2,0", "complete t v2 head 1: 1=x*300"); /* it is in memory now */
    NOW("stat t", "complete v2 steps 2 bytes 306 tokens 9");
    NOW("append t turn=1 : low", "bad_request turn");
    NOW("append t expect=2 : three", "step 2 v3");
    demote_all();
    IS("replay t", "complete t v3 head 2 disk: 0=opaque'one|two 1=x*300 2=three");
    METRIC_IS(DEMOTIONS, 2);
}
END_TEST

START_TEST(nothing_leaves_memory_before_it_is_applied)
{
    NOW("append t : one", "step 0 v1 created");
    wait_ms(2 * DOMAIN_TTL_MS);
    for (int i = 0; i < 3; i++) {
        lane_tend_fully(domain.lane);
        turn(&domain);
    }
    METRIC_IS(THREADS_LIVE, 1);
    tier_model_advance(model, TIER_MODEL_LOG, 1); /* durable is not enough */
    turn(&domain);
    lane_tend_fully(domain.lane);
    METRIC_IS(THREADS_LIVE, 1);
    NOW("replay t touch=0", "complete t v1 head 0: 0=one");
    sweep();
    METRIC_IS(THREADS_LIVE, 0);
    IS("replay t", "complete t v1 head 0 disk: 0=one");
}
END_TEST

START_TEST(a_use_keeps_it_in_memory_and_on_disk)
{
    NOW("append t : one", "step 0 v1 created");
    for (int i = 0; i < 200; i++) { /* twice the retention */
        wait_ms(DOMAIN_TTL_MS * 6 / 10);
        NOW("replay t", "complete t v1 head 0: 0=one");
        run();
        due();
    }
    METRIC_IS(DEMOTIONS, 0);
    demote_all();
    struct tier_head head;
    ck_assert(tier_model_head(model, bytes_text("t"), &head));
    /* The disk knows of the last use, not only of the first. */
    ck_assert_uint_ge(head.used_ms + 3 * DOMAIN_TTL_MS, clock_read_ms(&wall.clock));
    wait_ms(RETENTION_MS - 5 * DOMAIN_TTL_MS);
    due();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
}
END_TEST

START_TEST(memory_pressure_demotes)
{
    settings.memory_bytes = 4 << 20;
    start_over();
    char line[100];
    char answer[200];
    for (int i = 0; i < 40; i++) {
        snprintf(line, sizeof line, "append t%d : %c*400000", i, 'a' + i % 26);
        IS(line, "step 0 v1 created");
        run();
    }
    METRIC_IS(EVICTED, 0);
    ck_assert_uint_gt(domain_metric(&domain, METRIC_DEMOTIONS), 20);
    for (int i = 0; i < 40; i++) {
        snprintf(line, sizeof line, "replay t%d", i);
        snprintf(answer, sizeof answer, "=%c*400000", 'a' + i % 26);
        const char *said = say(&domain, line);
        ck_assert_msg(strncmp(said, "complete", 8) == 0 && strstr(said, answer), "%s: %s", line,
                      said);
    }
}
END_TEST

START_TEST(touch_false_promotes_for_a_moment_only)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    IS("replay t touch=0", "complete t v1 head 0 disk: 0=one");
    ck_assert_uint_eq(domain.expires_in_ms, RETENTION_MS - 2 * DOMAIN_TTL_MS);
    demote_all();
    IS("stat t", "complete v1 steps 1 bytes 3 tokens 0 disk");
    ck_assert_uint_eq(domain.stat.idle_ms, 4 * DOMAIN_TTL_MS);
    ck_assert_uint_eq(domain.stat.age_ms, 4 * DOMAIN_TTL_MS);
}
END_TEST

START_TEST(a_rewind_then_a_reload)
{
    NOW("append t response_id=r0 : one", "step 0 v1 created");
    NOW("append t response_id=r1 : two", "step 1 v2");
    NOW("append t response_id=r2 : three", "step 2 v3");
    demote_all();
    IS("rewind t to=0", "v4 dropped 2");
    demote_all();
    IS("replay t", "complete t v4 head 0 disk: 0=one");
    IS("replay - response_id=r0", "complete t v4 head 0: 0=one");
    IS("replay - response_id=r1", "miss rewound v0");
    IS("append t response_id=r3 : new", "step 1 v5");
    demote_all();
    IS("replay t have=3,2", "complete t v5 head 1 first_changed 1 disk: 1=new");
    IS("replay - response_id=r2", "miss rewound v0");
    IS("replay - response_id=r3", "complete t v5 head 1: 0=one 1=new");
    IS("rewind t to=-1", "v6 dropped 2");
    demote_all();
    IS("replay t", "complete t v6 head -1 disk:");
    IS("append t : again", "step 0 v7");
}
END_TEST

START_TEST(a_fork_of_a_demoted_thread)
{
    NOW("append t response_id=r0 : one", "step 0 v1 created");
    NOW("append t call=c : two", "step 1 v2");
    NOW("append t : three", "step 2 v3");
    demote_all();
    NOW("fork f from=t at=1", "again");
    IS("fork f from=t at=1", "v2");
    IS("append f call=d : own", "step 2 v3");
    demote_all();
    IS("replay f", "complete f v3 head 2 disk: 0=one 1=two 2=own");
    IS("replay - tool_call=c", "complete t v3 head 2 disk: 0=one 1=two");
    IS("replay - tool_call=d", "complete f v3 head 2: 0=one 1=two 2=own");
    IS("fork t from=f", "conflict thread exists v3");
    /* Its own step where it had inherited one. */
    IS("rewind f to=0", "v4 dropped 2");
    IS("append f call=e : mine", "step 1 v5");
    demote_all();
    IS("replay - tool_call=e", "complete f v5 head 1 disk: 0=one 1=mine");
    IS("replay f have=2,1", "complete f v5 head 1 first_changed 1: 1=mine");
    IS("replay f have=1,0", "complete f v5 head 1 first_changed 0: 0=one 1=mine");
    /* What the origin loses the fork keeps. */
    IS("forget t", "forgotten pending");
    run();
    demote_all();
    IS("replay f", "complete f v5 head 1 disk: 0=one 1=mine");
    IS("replay - tool_call=c", "miss forgotten v0");
    IS("replay - response_id=r0", "miss forgotten v0");
}
END_TEST

START_TEST(a_fork_of_a_fork_from_disk)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    NOW("append t : two", "step 1 v2");
    NOW("fork f from=t", "v2");
    NOW("append f response_id=s : three", "step 2 v3");
    demote_all();
    IS("fork g from=f", "v3");
    demote_all();
    IS("rewind g to=1", "v4 dropped 1");
    IS("append g response_id=u : four", "step 2 v5");
    demote_all();
    restart();
    IS("replay g", "complete g v5 head 2 disk: 0=one 1=two 2=four");
    IS("replay - response_id=r", "complete t v2 head 1 disk: 0=one");
    IS("replay - response_id=s", "complete f v3 head 2 disk: 0=one 1=two 2=three");
    IS("replay - response_id=u", "complete g v5 head 2: 0=one 1=two 2=four");
}
END_TEST

START_TEST(idempotency_keys_outlive_memory)
{
    NOW("append t key=k1 : one", "step 0 v1 created");
    NOW("append t key=k2 : two", "step 1 v2");
    demote_all();
    IS("append t key=k1 : one", "step 0 v1 created duplicate");
    IS("append t key=k2 : other", "conflict key v2");
    IS("rewind t to=0", "v3 dropped 1");
    demote_all();
    IS("append t key=k2 : two", "conflict key v3");
    IS("rewind t to=-1", "v4 dropped 1");
    demote_all();
    IS("append t key=k1 : one", "conflict key v4"); /* its step was rewound */
    IS("append t key=k3 : three", "step 0 v5");
    demote_all();
    restart();
    IS("append t key=k3 : three", "step 0 v5 duplicate");
    IS("append t key=k2 : two", "conflict key v5");
}
END_TEST

START_TEST(the_last_64_keys_outlive_memory)
{
    char line[100];
    char answer[100];
    for (unsigned i = 0; i < 100; i++) {
        snprintf(line, sizeof line, "append t key=k%u : p", i);
        domain_say(&domain, line);
    }
    demote_all();
    IS("append t key=k36 : p", "step 36 v37 duplicate");
    IS("append t key=k35 : p", "step 100 v101"); /* forgotten: it is new */
    for (unsigned i = 37; i < 100; i++) {
        demote_all();
        snprintf(line, sizeof line, "append t key=k%u : p", i);
        snprintf(answer, sizeof answer, "step %u v%u duplicate", i, i + 1);
        IS(line, answer);
        i += 20;
    }
}
END_TEST

/* ---- Damage ---- */

START_TEST(a_damaged_step_is_corrupt_and_the_rest_is_served)
{
    NOW("append t response_id=r0 : one", "step 0 v1 created");
    NOW("append t response_id=r1 : two", "step 1 v2");
    NOW("append t response_id=r2 : three", "step 2 v3");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), 1));
    IS("replay t", "partial t v3 head 2 disk: 0=one 1?corrupt 2=three");
    IS("replay t have=3,1", "complete t v3 head 2: 2=three");
    IS("replay - response_id=r1", "partial t v3 head 2: 0=one 1?corrupt");
    IS("append t : four", "step 3 v4");
    demote_all();
    restart();
    IS("replay t", "partial t v4 head 3 disk: 0=one 1?corrupt 2=three 3=four");
    IS("fork f from=t at=2", "v3");
    IS("replay f", "partial f v3 head 2: 0=one 1?corrupt 2=three");
    demote_all();
    IS("replay f", "partial f v3 head 2 disk: 0=one 1?corrupt 2=three");
    IS("rewind t to=0", "v5 dropped 3");
    demote_all();
    IS("replay t", "complete t v5 head 0 disk: 0=one");
}
END_TEST

START_TEST(a_damaged_last_step)
{
    NOW("append t turn=7 : one", "step 0 v1 created");
    NOW("append t turn=8 : two", "step 1 v2");
    demote_all();
    tier_model_damage(model, bytes_text("t"), 1);
    IS("replay t have=1,0", "partial t v2 head 1 disk: 1?corrupt");
    IS("append t expect=2 : three", "step 2 v3");
    IS("replay t", "partial t v3 head 2: 0=one 1?corrupt 2=three");
}
END_TEST

START_TEST(a_damaged_head_is_corrupt)
{
    NOW("append t : one", "step 0 v1 created");
    NOW("append u call=c : two", "step 0 v1 created");
    demote_all();
    tier_model_damage(model, bytes_text("t"), -1);
    IS("replay t", "miss corrupt v0");
    IS("stat t", "miss corrupt v0");
    IS("rewind t to=-1", "not_found thread corrupt");
    IS("append t : again", "conflict version v0"); /* a tail must not pass for the whole */
    IS("append t expect=0 : again", "step 0 v1 created");
    demote_all();
    IS("replay t", "complete t v1 head 0 disk: 0=again");
    ck_assert_uint_eq(tier_model_threads(model), 2);  /* nothing is left of the old one */
    tier_model_damage_key(model, 3, bytes_text("c")); /* RECORD_TOOL_CALL */
    IS("replay - tool_call=c", "miss corrupt v0");
    IS("replay u tool_call=c", "complete u v1 head 0 disk: 0=two");
}
END_TEST

/* What cannot be read can be forgotten. */
START_TEST(a_damaged_head_is_forgotten)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    tier_model_damage(model, bytes_text("t"), -1);
    IS("replay t", "miss corrupt v0");
    tier_model_fail(model);
    IS("forget t", "read_only");
    tier_model_heal(model);
    IS("forget t", "forgotten pending");
    IS("stat t", "miss forgotten v0");
    ck_assert_int_eq(domain.told, STATUS_OK);
    ck_assert_uint_eq(tier_model_threads(model), 0);
    IS("replay t", "miss forgotten v0");
    IS("forget t", "nothing");
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "promote", setup, teardown, 60, an_idle_thread_leaves_memory_and_comes_back,
        nothing_leaves_memory_before_it_is_applied, a_use_keeps_it_in_memory_and_on_disk,
        memory_pressure_demotes, touch_false_promotes_for_a_moment_only, a_rewind_then_a_reload,
        a_fork_of_a_demoted_thread, a_fork_of_a_fork_from_disk, idempotency_keys_outlive_memory,
        the_last_64_keys_outlive_memory, a_damaged_step_is_corrupt_and_the_rest_is_served,
        a_damaged_last_step, a_damaged_head_is_corrupt, a_damaged_head_is_forgotten);
}
