/* Changes of threads on their way to the disk: acknowledged, refused, failed, healed. */
#include "tests/thread/disk.h"

/* ---- Acknowledgement and trouble ---- */

START_TEST(ack_disk_waits_for_the_log)
{
    NOW("append t ack=1 : one", "step 0 v1 created pending");
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 1);
    NOW("replay t", "complete t v1 head 0: 0=one");
    tier_model_advance(model, TIER_MODEL_LOG, 1);
    ck_assert_uint_eq(domain.waiting, 1); /* told when the lane is tended */
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_OK);
    NOW("append t : two", "step 1 v2");
    NOW("append t ack=1 : three", "step 2 v3 pending");
    tier_model_advance(model, TIER_MODEL_LOG, 1);
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 1); /* that was the second's */
    run();
    ck_assert_uint_eq(domain.waiting, 0);
    /* A duplicate is as durable as its first. */
    NOW("append t key=k ack=0 : four", "step 3 v4");
    NOW("append t key=k ack=1 : four", "step 3 v4 duplicate pending");
    run();
    ck_assert_int_eq(domain.told, STATUS_OK);
    NOW("append t key=k ack=1 : four", "step 3 v4 duplicate");
}
END_TEST

START_TEST(read_only_keeps_everything_in_memory_until_it_heals)
{
    NOW("append t response_id=r0 : one", "step 0 v1 created");
    demote_all();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    NOW("append t : two", "step 1 v2");
    NOW("append t ack=1 response_id=r2 : three", "step 2 v3 pending");
    tier_model_advance(model, TIER_MODEL_LOG, 1); /* one is durable, the other is not */
    tier_model_fail(model);
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_READ_ONLY);
    NOW("append t ack=1 : four", "read_only ack");
    NOW("append t : four", "step 3 v4"); /* memory goes on */
    NOW("append u : five", "step 0 v1 created");
    NOW("forget t", "read_only");
    run();
    wait_ms(10 * DOMAIN_TTL_MS);
    sweep();
    METRIC_IS(THREADS_LIVE, 2); /* what the disk does not have stays */
    NOW("replay t", "complete t v4 head 3: 0=one 1=two 2=three 3=four");
    NOW("rewind t to=1", "v5 dropped 2");
    NOW("append t response_id=r5 : six", "step 2 v6");
    tier_model_heal(model);
    demote_all();
    IS("replay t", "complete t v6 head 2 disk: 0=one 1=two 2=six");
    IS("replay u", "complete u v1 head 0 disk: 0=five");
    demote_all();
    restart();
    IS("replay - response_id=r0", "complete t v6 head 2 disk: 0=one");
    IS("replay - response_id=r5", "complete t v6 head 2: 0=one 1=two 2=six");
}
END_TEST

START_TEST(a_rewind_while_read_only)
{
    NOW("append t call=c : one", "step 0 v1 created");
    NOW("append t call=d key=k : two", "step 1 v2");
    NOW("append u call=d : other", "step 0 v1 created");
    NOW("append t call=d : three", "step 2 v3");
    run();
    tier_model_fail(model);
    NOW("rewind t to=0", "v4 dropped 2");
    tier_model_heal(model);
    demote_all();
    restart();
    IS("replay t", "complete t v4 head 0 disk: 0=one");
    IS("replay - tool_call=c", "complete t v4 head 0: 0=one");
    IS("replay - tool_call=d", "miss ambiguous v0"); /* it was shared, and that sticks */
    IS("replay t tool_call=d", "miss rewound v4");
    IS("append t key=k : two", "conflict key v4");
}
END_TEST

START_TEST(durable_changes_survive_the_trouble)
{
    NOW("append t ack=1 : one", "step 0 v1 created pending");
    tier_model_advance(model, TIER_MODEL_LOG, 1);
    tier_model_fail(model);
    turn(&domain);
    ck_assert_int_eq(domain.told, STATUS_OK);
    run();
    tier_model_heal(model);
    restart();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
}
END_TEST

START_TEST(a_forget_under_way_when_it_fails)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    NOW("forget t", "forgotten pending");
    tier_model_fail(model);
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_READ_ONLY);
    NOW("replay t", "miss forgotten v0");
    tier_model_heal(model);
    run(); /* it is done all the same */
    ck_assert_uint_eq(tier_model_threads(model), 0);
    restart();
    IS("replay t", "miss forgotten v0");
}
END_TEST

START_TEST(when_too_much_waits_appends_are_put_back)
{
    tier_settings.lag_max_bytes = 5000;
    start_over();
    NOW("append t : x*3000", "step 0 v1 created");
    NOW("append t : x*3000", "step 1 v2");
    NOW("append t : x*3000", "again");
    NOW("append u : y", "again");
    NOW("fork f from=t", "again");
    NOW("rewind t to=-1", "again");
    NOW("replay t last=1", "complete t v2 head 1: 1=x*3000"); /* reading goes on */
    IS("append t : x*3000", "step 2 v3");
    demote_all();
    IS("replay t", "complete t v3 head 2 disk: 0=x*3000 1=x*3000 2=x*3000");
}
END_TEST

int main(void)
{
    return SUITE_RUN("journal", setup, teardown, 60, ack_disk_waits_for_the_log,
                     read_only_keeps_everything_in_memory_until_it_heals, a_rewind_while_read_only,
                     durable_changes_survive_the_trouble, a_forget_under_way_when_it_fails,
                     when_too_much_waits_appends_are_put_back);
}
