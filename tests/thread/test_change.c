/* Fork, rewind, forget and touch. */
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

static void three_steps(void)
{
    SAY("append t : aa", "step 0 v1 created");
    SAY("append t : bbb", "step 1 v2");
    SAY("append t : cccc", "step 2 v3");
}

START_TEST(fork_shares_up_to_at)
{
    three_steps();
    SAY("fork f0 from=t at=0", "v1");
    SAY("fork f1 from=t at=1", "v2");
    SAY("fork f2 from=t at=2", "v3");
    SAY("fork fd from=t", "v3");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    SAY("fork fx from=t at=3", "bad_request at");
    SAY("replay fx", "miss never_seen v0");
    SAY("replay f0", "complete f0 v1 head 0: 0=aa");
    SAY("replay f1", "complete f1 v2 head 1: 0=aa 1=bbb");
    SAY("replay fd", "complete fd v3 head 2: 0=aa 1=bbb 2=cccc");
    SAY("append f0 expect=1 : xx", "step 1 v2");
    SAY("append t expect=3 : dd", "step 3 v4");
    SAY("replay f0", "complete f0 v2 head 1: 0=aa 1=xx");
    SAY("replay t", "complete t v4 head 3: 0=aa 1=bbb 2=cccc 3=dd");
    /* Shared payloads are held once. */
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 13);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_FORKS), 4);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 5);
}
END_TEST

START_TEST(fork_wants_a_source_and_a_free_name)
{
    three_steps();
    SAY("append u : x", "step 0 v1 created");
    SAY("append u : y", "step 1 v2");
    SAY("fork u from=t", "conflict thread exists v2");
    SAY("fork t from=t", "conflict thread exists v3");
    SAY("fork f from=none", "not_found from never_seen");
    SAY("forget u", "forgotten");
    SAY("fork f from=u", "not_found from forgotten");
    SAY("fork u from=t", "v3"); /* over a tombstone */
    SAY("replay u", "complete u v3 head 2: 0=aa 1=bbb 2=cccc");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("fork f from=t", "not_found from expired");
}
END_TEST

START_TEST(fork_has_the_ttl_of_its_origin_and_a_deadline_of_its_own)
{
    SAY("append t ttl_ms=300 : aa", "step 0 v1 created");
    domain_wait(&domain, 200);
    SAY("fork f from=t", "v1");
    ck_assert_uint_eq(domain.expires_in_ms, 300);
    SAY("stat t", "complete v1 steps 1 bytes 2 tokens 0"); /* a fork is no use of it */
    ck_assert_uint_eq(domain.expires_in_ms, 100);
    SAY("stat f", "complete v1 steps 1 bytes 2 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 300);
    ck_assert_uint_eq(domain.stat.age_ms, 200); /* max age counts from the origin's creation */
    ck_assert_uint_eq(domain.stat.idle_ms, 0);
    domain_wait(&domain, 100);
    SAY("replay t", "miss expired v1");
    SAY("replay f", "complete f v1 head 0: 0=aa");
}
END_TEST

START_TEST(shared_steps_outlive_their_origin)
{
    static const char *const ends[] = {"forget", "expire", "rewind"};
    for (unsigned i = 0; i < 3; i++) {
        SAY("append t ttl_ms=100 : x*5000", "step 0 v1 created");
        SAY("append t : y*5000", "step 1 v2");
        SAY("append t : z*5000", "step 2 v3");
        SAY("fork f from=t at=1", "v2");
        SAY("touch f ttl_ms=5000", "touched");
        SAY("fork g from=f at=0", "v1");
        SAY("append g : own", "step 1 v2");
        SAY("touch g ttl_ms=5000", "touched");
        if (strcmp(ends[i], "forget") == 0) {
            SAY("forget t", "forgotten");
        } else if (strcmp(ends[i], "rewind") == 0) {
            SAY("rewind t to=-1", "v4 dropped 3");
        }
        domain_wait(&domain, 100 + 128); /* the sweep comes within a tick after the deadline */
        for (int tends = 0; tends < 4; tends++) {
            lane_tend_fully(domain.lane);
        }
        ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 10003);
        /* What is freed is used again: shared steps must not be among it. */
        for (int fill = 0; fill < 50; fill++) {
            domain_say(&domain, "append filler expect=0 ttl_ms=1 : q*5000");
            domain_say(&domain, "forget filler");
        }
        SAY("replay f", "complete f v2 head 1: 0=x*5000 1=y*5000");
        SAY("replay g", "complete g v2 head 1: 0=x*5000 1=own");
        SAY("append f : more", "step 2 v3");
        SAY("append t expect=0 ttl_ms=100 : x", "step 0 v1 created");
        SAY("forget t", "forgotten");
        SAY("forget f", "forgotten");
        lane_tend_fully(domain.lane);
        SAY("replay g", "complete g v2 head 1: 0=x*5000 1=own");
        SAY("forget g", "forgotten");
        lane_tend_fully(domain.lane);
        ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    }
}
END_TEST

START_TEST(rewind_drops_and_positions_are_used_again)
{
    three_steps();
    SAY("rewind t to=3", "bad_request to");
    SAY("rewind none to=0", "not_found thread never_seen");
    SAY("rewind t to=2", "v4 dropped 0");
    SAY("rewind t to=0", "v5 dropped 2");
    SAY("append t : new", "step 1 v6");
    SAY("replay t", "complete t v6 head 1: 0=aa 1=new");
    SAY("stat t", "complete v6 steps 2 bytes 5 tokens 0");
    SAY("rewind t to=-1", "v7 dropped 2");
    SAY("rewind t to=-1", "v8 dropped 0");
    SAY("rewind t to=0", "bad_request to");
    SAY("replay t", "complete t v8 head -1:");
    SAY("stat t", "complete v8 steps 0 bytes 0 tokens 0");
    SAY("fork f from=t", "v0");
    SAY("replay f", "complete f v0 head -1:");
    SAY("append f : x", "step 0 v1");
    SAY("append t expect=8 : y", "step 0 v9");
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 2);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_REWINDS), 4);
}
END_TEST

START_TEST(rewind_does_not_refresh)
{
    three_steps();
    domain_wait(&domain, 900);
    SAY("rewind t to=0", "v4 dropped 2");
    SAY("stat t", "complete v4 steps 1 bytes 2 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 100);
    domain_wait(&domain, 100);
    SAY("rewind t to=0", "not_found thread expired");
}
END_TEST

START_TEST(rewind_of_lost_steps)
{
    three_steps();
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t : dd", "step 3 v4 lost 3");
    SAY("fork f from=t at=1", "v2");
    SAY("replay f", "partial f v2 head 1: 0?expired 1?expired");
    SAY("rewind t to=2", "v5 dropped 1");
    SAY("replay t", "partial t v5 head 2: 0?expired 1?expired 2?expired");
    SAY("rewind t to=0", "v6 dropped 2");
    SAY("append t : ee", "step 1 v7 lost 1");
    SAY("replay t", "partial t v7 head 1: 0?expired 1=ee");
    SAY("rewind t to=-1", "v8 dropped 2");
    SAY("append t : ff", "step 0 v9");
    SAY("replay t", "complete t v9 head 0: 0=ff");
}
END_TEST

START_TEST(forget_is_told_once)
{
    three_steps();
    SAY("forget none", "nothing");
    SAY("forget t", "forgotten");
    SAY("forget t", "nothing");
    SAY("replay t", "miss forgotten v0");
    SAY("stat t", "miss forgotten v0");
    SAY("touch t", "missing forgotten");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_FORGOTTEN), 1);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

START_TEST(touch_refreshes_and_sets_the_ttl)
{
    three_steps();
    domain_wait(&domain, 400);
    SAY("touch t", "touched");
    SAY("stat t", "complete v3 steps 3 bytes 9 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    SAY("touch t ttl_ms=50", "touched"); /* sooner */
    SAY("stat t", "complete v3 steps 3 bytes 9 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 50);
    domain_wait(&domain, 49);
    SAY("touch t", "touched");
    domain_wait(&domain, 49);
    SAY("touch t ttl_ms=31536000000", "touched");
    SAY("stat t", "complete v3 steps 3 bytes 9 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, UINT64_C(31536000000));
    SAY("touch t ttl_ms=1", "touched");
    domain_wait(&domain, 1);
    SAY("touch t ttl_ms=1000", "missing expired");
    SAY("touch none", "missing never_seen");
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "change", setup, teardown, 0, fork_shares_up_to_at, fork_wants_a_source_and_a_free_name,
        fork_has_the_ttl_of_its_origin_and_a_deadline_of_its_own, shared_steps_outlive_their_origin,
        rewind_drops_and_positions_are_used_again, rewind_does_not_refresh, rewind_of_lost_steps,
        forget_is_told_once, touch_refreshes_and_sets_the_ttl);
}
