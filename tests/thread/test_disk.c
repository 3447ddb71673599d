/* Lifetimes of threads on disk, and what a restart finds. */
#include "tests/thread/disk.h"

#include "thread/lookup.h"

/* ---- Lifetimes ---- */

START_TEST(the_retention_really_ends)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    demote_all();
    wait_ms(RETENTION_MS - 3 * DOMAIN_TTL_MS);
    due();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    wait_ms(2 * DOMAIN_TTL_MS + RETENTION_MS / 64);
    due();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    IS("replay t", "miss expired v1");
    IS("replay - response_id=r", "miss expired v0");
    restart();
    IS("replay t", "miss expired v1");
    IS("replay - response_id=r", "miss expired v0");
    IS("append t : two", "step 1 v2 lost 1");
}
END_TEST

START_TEST(the_retention_ends_in_memory)
{
    NOW("append t ttl_ms=3600000 : one", "step 0 v1 created"); /* a ttl beyond the retention */
    ck_assert_uint_eq(domain.expires_in_ms, RETENTION_MS);
    run();
    wait_ms(RETENTION_MS - 1);
    sweep();
    METRIC_IS(THREADS_LIVE, 1); /* its ttl is not over */
    NOW("replay t touch=0", "complete t v1 head 0: 0=one");
    wait_ms(1);
    NOW("replay t", "miss expired v1");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    restart();
    IS("replay t", "miss expired v1");
}
END_TEST

START_TEST(retention_0_never_touches_the_disk)
{
    settings.retention_ms = 0;
    start_over();
    NOW("append t response_id=r : one", "step 0 v1 created");
    NOW("fork f from=t", "v1");
    NOW("rewind t to=-1", "v2 dropped 1");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    ck_assert_uint_eq(tier_model_waiting(model, TIER_MODEL_LOG), 0);
    NOW("append t ack=1 : two", "bad_request ack");
    NOW("append t retention_ms=5 : two", "bad_request retention_ms");
    NOW("append u retention_ms=60000 ack=1 : two", "step 0 v1 created pending");
    run();
    wait_ms(2 * DOMAIN_TTL_MS);
    sweep();
    METRIC_IS(DEMOTIONS, 1);
    METRIC_IS(EXPIRED, 2);
    NOW("replay t", "miss expired v2");
    IS("replay u", "complete u v1 head 0 disk: 0=two");
    NOW("forget f", "nothing");
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

START_TEST(retention_0_erases_before_the_answer)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    demote_all();
    IS("append t retention_ms=0 : two", "step 1 v2 pending");
    ck_assert_uint_eq(domain.waiting, 1);
    tier_model_advance(model, TIER_MODEL_LOG, 9);
    turn(&domain);
    ck_assert_uint_eq(domain.waiting, 1); /* durable is not erased */
    run();
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_OK);
    ck_assert_uint_eq(tier_model_threads(model), 0);
    NOW("replay t", "complete t v2 head 1: 0=one 1=two");
    NOW("append t retention_ms=60000 : three", "bad_request retention_ms");
    NOW("append t : three", "step 2 v3");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    wait_ms(DOMAIN_TTL_MS);
    NOW("replay t", "miss expired v3");
    restart();
    IS("replay t", "miss never_seen v0");
}
END_TEST

/* Its end does not undo that: the steps that were never to reach a disk go on. */
START_TEST(retention_0_outlives_the_thread)
{
    NOW("append t retention_ms=0 : one", "step 0 v1 created");
    wait_ms(DOMAIN_TTL_MS); /* seen as overdue, not yet buried */
    NOW("append t retention_ms=60000 : two", "bad_request retention_ms");
    NOW("append t ack=1 : two", "bad_request ack");
    NOW("append t : two", "step 1 v2 lost 1");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    wait_ms(DOMAIN_TTL_MS);
    sweep();
    NOW("append t expect=2 : three", "step 2 v3 lost 2");
    run();
    wait_ms(DOMAIN_TTL_MS);
    sweep();
    NOW("begin t", "begun 3 v3");
    NOW("chunk t : four", "bytes 4");
    NOW("commit t retention_ms=9", "bad_request retention_ms");
    NOW("abort t", "aborted");
    NOW("begin t", "begun 3 v3");
    NOW("chunk t : four", "bytes 4");
    NOW("commit t", "step 3 v4 lost 3");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    wait_ms(DOMAIN_TTL_MS);
    sweep();
    NOW("append t expect=0 : anew", "step 0 v1 created");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

START_TEST(retention_0_is_known_before_the_burial)
{
    NOW("append t retention_ms=0 : one", "step 0 v1 created");
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert(life_kill(found.thread, UINT64_MAX, REASON_EVICTED));
    NOW("append t : two", "step 1 v2 lost 1");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
}
END_TEST

START_TEST(another_retention_counts)
{
    NOW("append t retention_ms=5000 : one", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, 5000);
    demote_all();
    IS("append t retention_ms=600000 : two", "step 1 v2");
    demote_all();
    wait_ms(RETENTION_MS * 5);
    due();
    IS("replay t", "complete t v2 head 1 disk: 0=one 1=two");
    IS("append t retention_ms=3000 ttl_ms=1 : three", "step 2 v3");
    run();
    wait_ms(100);
    sweep();
    wait_ms(3000);
    due();
    IS("replay t", "miss expired v3");
}
END_TEST

START_TEST(touch_reaches_the_disk)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    wait_ms(RETENTION_MS / 2);
    NOW("touch t", "again");
    IS("touch t", "touched");
    demote_all();
    wait_ms(RETENTION_MS - 5 * DOMAIN_TTL_MS);
    due();
    IS("touch t ttl_ms=20000", "touched");
    run();
    wait_ms(10000);
    sweep();
    METRIC_IS(THREADS_LIVE, 1);
    wait_ms(10000);
    sweep();
    METRIC_IS(THREADS_LIVE, 0);
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    run();
    wait_ms(10000);
    sweep();
    METRIC_IS(THREADS_LIVE, 1); /* the ttl that the touch gave came back as well */
}
END_TEST

START_TEST(the_max_age_ends_it_wherever_it_is)
{
    settings.max_age_ms = tier_settings.max_age_ms = 3 * RETENTION_MS;
    start_over();
    NOW("append t : one", "step 0 v1 created");               /* in memory all the time */
    NOW("append u response_id=r : two", "step 0 v1 created"); /* and on disk */
    wait_ms(10000);
    IS("fork f from=u", "v1"); /* inherits its age */
    for (int i = 0; i < 5; i++) {
        demote_all();
        wait_ms(RETENTION_MS / 2 - 2 * DOMAIN_TTL_MS);
        IS("replay u", "complete u v1 head 0 disk: 0=two");
        IS("replay f", "complete f v1 head 0 disk: 0=two");
        IS("replay t", "complete t v1 head 0 disk: 0=one");
    }
    /* 160 of 180 s. */
    ck_assert_uint_eq(domain.expires_in_ms, 3 * RETENTION_MS - 160000);
    wait_ms(domain.expires_in_ms);
    NOW("replay t", "miss max_age v1");
    due();
    IS("replay u", "miss max_age v1");
    IS("replay f", "miss max_age v1");
    IS("replay - response_id=r", "miss max_age v0");
    ck_assert_uint_eq(tier_model_threads(model), 0);
    restart();
    IS("replay u", "miss max_age v1");
    IS("append u : three", "step 1 v2 lost 1");
}
END_TEST

/* An erasure was refused; the name has begun another life since, which is on disk as well. */
START_TEST(an_old_life_that_is_due_leaves_the_young_one_alone)
{
    NOW("append t response_id=r : old", "step 0 v1 created");
    NOW("append t : older", "step 1 v2");
    run();
    wait_ms(RETENTION_MS - 1);
    tier_model_fail(model);
    wait_ms(1);
    NOW("replay t", "miss expired v2"); /* the disk could not be told */
    tier_model_heal(model);
    NOW("append t expect=0 response_id=s : young", "step 0 v1 created");
    demote_all();
    ck_assert_uint_eq(tier_model_threads(model), 2);
    wait_ms(DOMAIN_TTL_MS);
    due();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("replay t", "complete t v1 head 0 disk: 0=young");
    IS("replay - response_id=r", "miss expired v0");
    IS("replay - response_id=s", "complete t v1 head 0: 0=young");
}
END_TEST

START_TEST(the_disk_budget_evicts)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    wait_ms(10);
    NOW("append u : two", "step 0 v1 created");
    demote_all();
    ck_assert_uint_eq(tier_model_evict(model, 1), 1);
    run();
    IS("replay t", "miss evicted v1");
    IS("replay - response_id=r", "miss evicted v0");
    IS("replay u", "complete u v1 head 0 disk: 0=two");
    IS("append t : three", "step 1 v2 lost 1");
}
END_TEST

/* ---- Restart ---- */

START_TEST(a_restart_finds_everything)
{
    NOW("append t response_id=r key=k : one", "step 0 v1 created");
    NOW("append t call=c : two", "step 1 v2");
    NOW("append u : three", "step 0 v1 created");
    NOW("append v : four", "step 0 v1 created");
    NOW("append w call=d : five", "step 0 v1 created");
    NOW("append w call=e : six", "step 1 v2");
    NOW("rewind w to=0", "v3 dropped 1");
    NOW("forget v", "forgotten pending");
    restart(); /* from memory, nothing was demoted */
    METRIC_IS(THREADS_LIVE, 0);
    IS("replay t", "complete t v2 head 1 disk: 0=one 1=two");
    IS("append t key=k : one", "step 0 v1 created duplicate");
    IS("replay - tool_call=c", "complete t v2 head 1: 0=one 1=two");
    IS("replay u", "complete u v1 head 0 disk: 0=three");
    IS("replay v", "miss forgotten v0");
    IS("replay w", "complete w v3 head 0 disk: 0=five");
    IS("replay - tool_call=e", "miss rewound v0");
    IS("append u expect=1 : seven", "step 1 v2");
    IS("append v expect=0 : eight", "step 0 v1 created");
    IS("append t expect=1 : nine", "conflict version v2");
    restart();
    IS("replay u", "complete u v2 head 1 disk: 0=three 1=seven");
    IS("replay v", "complete v v1 head 0 disk: 0=eight");
}
END_TEST

START_TEST(never_seen_is_vouched_for_across_restarts)
{
    wait_ms(5000);
    IS("replay t", "miss never_seen v0");
    ck_assert_uint_eq(domain.vouch_ms, 5000);
    restart();
    wait_ms(1000);
    IS("replay t", "miss never_seen v0");
    ck_assert_uint_ge(domain.vouch_ms, 1000);
    ck_assert_uint_le(domain.vouch_ms, 6000);
}
END_TEST

START_TEST(used_time_goes_on_while_it_is_down)
{
    NOW("append t : one", "step 0 v1 created");
    NOW("append u retention_ms=600000 : two", "step 0 v1 created");
    run();
    close_domain();
    clock_driven_advance(&wall, 2 * RETENTION_MS);
    domain_open(&domain, settings);
    IS("replay t", "miss expired v1");
    IS("replay u touch=0", "complete u v1 head 0 disk: 0=two");
    ck_assert_uint_eq(domain.expires_in_ms, 600000 - 2 * RETENTION_MS);
    IS("stat u", "complete v1 steps 1 bytes 3 tokens 0 disk");
    ck_assert_uint_eq(domain.stat.age_ms, 2 * RETENTION_MS);
}
END_TEST

int main(void)
{
    return SUITE_RUN("disk", setup, teardown, 60, the_retention_really_ends,
                     the_retention_ends_in_memory, retention_0_never_touches_the_disk,
                     retention_0_erases_before_the_answer, retention_0_outlives_the_thread,
                     retention_0_is_known_before_the_burial, another_retention_counts,
                     touch_reaches_the_disk, the_max_age_ends_it_wherever_it_is,
                     an_old_life_that_is_due_leaves_the_young_one_alone, the_disk_budget_evicts,
                     a_restart_finds_everything, never_seen_is_vouched_for_across_restarts,
                     used_time_goes_on_while_it_is_down);
}
