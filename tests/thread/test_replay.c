/* Replay: selections, incremental replay, models, budgets, and what it does to the deadline. */
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

START_TEST(misses_say_why)
{
    domain_wait(&domain, 77);
    SAY("replay t", "miss never_seen v0");
    ck_assert_uint_eq(domain.vouch_ms, 77);
    three_steps();
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("replay t", "miss expired v3");
    lane_tend_fully(domain.lane);
    SAY("replay t", "miss expired v3");
    SAY("append t expect=0 : x", "step 0 v1 created");
    SAY("forget t", "forgotten");
    SAY("replay t", "miss forgotten v0");
    SAY("replay tt", "miss never_seen v0");
}
END_TEST

START_TEST(last_keeps_the_newest)
{
    three_steps();
    SAY("replay t last=1", "complete t v3 head 2: 2=cccc");
    SAY("replay t last=2", "complete t v3 head 2: 1=bbb 2=cccc");
    SAY("replay t last=3", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    SAY("replay t last=4294967295", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    SAY("replay t policy=none", "complete t v3 head 2 kept_from 3 dropped 3:");
}
END_TEST

START_TEST(max_bytes_keeps_the_newest_whole_steps)
{
    three_steps();
    SAY("replay t max_bytes=9", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    SAY("replay t max_bytes=8", "partial t v3 head 2: 0?budget 1=bbb 2=cccc");
    SAY("replay t max_bytes=7", "partial t v3 head 2: 0?budget 1=bbb 2=cccc");
    SAY("replay t max_bytes=6", "partial t v3 head 2: 0?budget 1?budget 2=cccc");
    SAY("replay t max_bytes=3", "partial t v3 head 2: 0?budget 1?budget 2?budget");
    SAY("replay t max_bytes=0", "partial t v3 head 2: 0?budget 1?budget 2?budget");
    SAY("replay t last=1 max_bytes=4", "complete t v3 head 2: 2=cccc");
    SAY("append t", "step 3 v4");
    SAY("replay t max_bytes=0", "partial t v4 head 3: 0?budget 1?budget 2?budget 3=");
    /* No holes: what is older than the first left out is left out too. */
    SAY("append u : a", "step 0 v1 created");
    SAY("append u : bbbbbb", "step 1 v2");
    SAY("append u : c", "step 2 v3");
    SAY("replay u max_bytes=4", "partial u v3 head 2: 0?budget 1?budget 2=c");
}
END_TEST

START_TEST(a_frame_is_an_implicit_max_bytes)
{
    SAY("append t : x*300000", "step 0 v1 created");
    SAY("append t : y*300000", "step 1 v2");
    SAY("append t : z*300000", "step 2 v3");
    SAY("replay t", "complete t v3 head 2: 0=x*300000 1=y*300000 2=z*300000");
    SAY("append t : u*300000", "step 3 v4");
    SAY("replay t", "partial t v4 head 3: 0?budget 1=y*300000 2=z*300000 3=u*300000");
    SAY("replay t max_bytes=300000", "partial t v4 head 3: 0?budget 1?budget 2?budget 3=u*300000");
    SAY("replay t last=3", "complete t v4 head 3: 1=y*300000 2=z*300000 3=u*300000");
}
END_TEST

START_TEST(have_an_older_version_gets_the_new)
{
    three_steps();
    SAY("replay t have=3,2", "complete t v3 head 2:");
    SAY("replay t have=2,1", "complete t v3 head 2: 2=cccc");
    SAY("replay t have=1,0", "complete t v3 head 2: 1=bbb 2=cccc");
    SAY("replay t have=0,-1", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    SAY("replay t have=3,-1", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    /* Holds less than its version would allow. */
    SAY("replay t have=3,0", "complete t v3 head 2: 1=bbb 2=cccc");
    /* Claims a step that its version did not have: it was replaced or never there. */
    SAY("replay t have=1,2", "complete t v3 head 2 first_changed 1: 1=bbb 2=cccc");
    SAY("replay t have=0,2", "complete t v3 head 2 first_changed 0: 0=aa 1=bbb 2=cccc");
    SAY("replay t have=3,9", "complete t v3 head 2 first_changed 3:");
    /* A version ahead of ours is another thread's history: all of it again. */
    SAY("replay t have=4,2", "complete t v3 head 2 first_changed 0: 0=aa 1=bbb 2=cccc");
    SAY("replay t have=4294967300,2", "complete t v3 head 2 first_changed 0: 0=aa 1=bbb 2=cccc");
    SAY("replay t have=1,0 last=1", "complete t v3 head 2: 2=cccc");
    SAY("replay t have=2,1 policy=none", "complete t v3 head 2 kept_from 3 dropped 3:");
}
END_TEST

START_TEST(have_across_a_rewind)
{
    three_steps();
    SAY("rewind t to=0", "v4 dropped 2");
    SAY("replay t have=3,2", "complete t v4 head 0 first_changed 1:");
    SAY("replay t have=3,0", "complete t v4 head 0:");
    SAY("append t : dd", "step 1 v5");
    SAY("append t : ee", "step 2 v6");
    SAY("replay t have=3,2", "complete t v6 head 2 first_changed 1: 1=dd 2=ee");
    SAY("replay t have=3,1", "complete t v6 head 2 first_changed 1: 1=dd 2=ee");
    SAY("replay t have=3,0", "complete t v6 head 2: 1=dd 2=ee");
    SAY("replay t have=4,0", "complete t v6 head 2: 1=dd 2=ee");
    SAY("replay t have=5,1", "complete t v6 head 2: 2=ee");
    SAY("replay t have=6,2", "complete t v6 head 2:");
    SAY("rewind t to=-1", "v7 dropped 3");
    SAY("replay t have=6,2", "complete t v7 head -1 first_changed 0:");
    SAY("append t : ff", "step 0 v8");
    SAY("replay t have=6,2", "complete t v8 head 0 first_changed 0: 0=ff");
    SAY("replay t have=7,-1", "complete t v8 head 0: 0=ff");
}
END_TEST

START_TEST(have_in_a_fork)
{
    three_steps();
    SAY("append t : dddd", "step 3 v4");
    SAY("rewind t to=1", "v5 dropped 2");
    SAY("append t : zz", "step 2 v6");
    SAY("fork f from=t", "v3");
    /* Steps it shares are as old as the fork itself, whatever version committed them there. */
    SAY("replay f have=3,2", "complete f v3 head 2:");
    SAY("replay f have=3,1", "complete f v3 head 2: 2=zz");
    SAY("replay f have=2,2", "complete f v3 head 2 first_changed 0: 0=aa 1=bbb 2=zz");
    SAY("append f : own", "step 3 v4");
    SAY("replay f have=3,2", "complete f v4 head 3: 3=own");
    SAY("replay f have=4,3", "complete f v4 head 3:");
    SAY("rewind f to=0", "v5 dropped 3");
    SAY("append f : new", "step 1 v6");
    SAY("replay f have=4,3", "complete f v6 head 1 first_changed 1: 1=new");
    SAY("replay f have=3,0", "complete f v6 head 1: 1=new");
    SAY("fork g from=f", "v2");
    SAY("replay g have=2,1", "complete g v2 head 1:");
    SAY("append g : gg", "step 2 v3");
    SAY("replay g have=2,1", "complete g v3 head 2: 2=gg");
}
END_TEST

START_TEST(have_of_lost_steps)
{
    three_steps();
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t : dd", "step 3 v4 lost 3");
    /* Who held them as of the version that was lost still holds them. */
    SAY("replay t have=3,2", "complete t v4 head 3: 3=dd");
    SAY("replay t have=4,3", "complete t v4 head 3:");
    SAY("replay t have=3,1", "partial t v4 head 3: 2?expired 3=dd");
    SAY("replay t have=3,3", "complete t v4 head 3 first_changed 3: 3=dd");
    /* As of an older version: what was committed by then. */
    SAY("replay t have=2,1", "partial t v4 head 3: 2?expired 3=dd");
    SAY("replay t have=1,1", "partial t v4 head 3 first_changed 1: 1?expired 2?expired 3=dd");
    SAY("replay t have=9,2",
        "partial t v4 head 3 first_changed 0: 0?expired 1?expired 2?expired 3=dd");
    SAY("rewind t to=1", "v5 dropped 2");
    SAY("replay t have=4,3", "complete t v5 head 1 first_changed 2:");
    SAY("append t : ee", "step 2 v6 lost 2");
    SAY("replay t have=4,3", "complete t v6 head 2 first_changed 2: 2=ee");
    SAY("replay t have=3,1", "complete t v6 head 2: 2=ee");
    SAY("replay t", "partial t v6 head 2: 0?expired 1?expired 2=ee");
    /* A fork of it knows no version before its own. */
    SAY("fork f from=t", "v3");
    SAY("replay f", "partial f v3 head 2: 0?expired 1?expired 2=ee");
    SAY("replay f have=3,2", "complete f v3 head 2:");
    SAY("replay f have=2,1", "partial f v3 head 2 first_changed 0: 0?expired 1?expired 2=ee");
    SAY("append f : ff", "step 3 v4 lost 2");
}
END_TEST

START_TEST(another_models_steps_are_mismatched)
{
    SAY("append t model=m1 : aa", "step 0 v1 created");
    SAY("append t : bb", "step 1 v2");
    SAY("append t model=m2 : cc", "step 2 v3");
    SAY("replay t", "complete t v3 head 2: 0=aa 1=bb 2=cc");
    SAY("replay t model=m1", "partial t v3 head 2: 0=aa 1=bb 2?model_mismatch");
    SAY("replay t model=m2", "partial t v3 head 2: 0?model_mismatch 1=bb 2=cc");
    SAY("replay t model=m", "partial t v3 head 2: 0?model_mismatch 1=bb 2?model_mismatch");
    SAY("replay t model=m2 last=2", "complete t v3 head 2: 1=bb 2=cc");
    /* Mismatched bytes do not use up max_bytes. */
    SAY("replay t model=m1 max_bytes=4", "partial t v3 head 2: 0=aa 1=bb 2?model_mismatch");
}
END_TEST

START_TEST(touch_false_leaves_the_deadline)
{
    three_steps();
    domain_wait(&domain, 300);
    SAY("replay t touch=0", "complete t v3 head 2: 0=aa 1=bbb 2=cccc");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS - 300);
    domain_wait(&domain, 699);
    SAY("replay t touch=0 last=1", "complete t v3 head 2: 2=cccc");
    ck_assert_uint_eq(domain.expires_in_ms, 1);
    SAY("replay t touch=1 last=1", "complete t v3 head 2: 2=cccc");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("replay t touch=0", "miss expired v3");
}
END_TEST

START_TEST(by_key_ends_at_the_step)
{
    SAY("append t response_id=r0 : aa", "step 0 v1 created");
    SAY("append t response_id=r1 call=c1 call=c2 : bb", "step 1 v2");
    SAY("append t response_id=r2 prefix=0123456789abcdef : cc", "step 2 v3");
    SAY("replay - response_id=r1", "complete t v3 head 2: 0=aa 1=bb");
    SAY("replay - response_id=r0", "complete t v3 head 2: 0=aa");
    SAY("replay - tool_call=c2", "complete t v3 head 2: 0=aa 1=bb");
    SAY("replay - prefix=0123456789abcdef", "complete t v3 head 2: 0=aa 1=bb 2=cc");
    SAY("replay - response_id=r1 last=1", "complete t v3 head 2: 1=bb");
    SAY("replay - response_id=r1 have=1,0", "complete t v3 head 2: 1=bb");
    SAY("replay - response_id=r1 have=3,2", "complete t v3 head 2:");
    SAY("replay - response_id=r1 max_bytes=2", "partial t v3 head 2: 0?budget 1=bb");
    SAY("replay t response_id=r0", "complete t v3 head 2: 0=aa");
    SAY("replay t tool_call=nope", "miss never_seen v3");
    SAY("replay - tool_call=r1", "miss never_seen v0");
    SAY("replay - response_id=t", "miss never_seen v0");
}
END_TEST

START_TEST(by_key_refreshes)
{
    SAY("append t response_id=r : aa", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS - 1);
    SAY("replay - response_id=r touch=0", "complete t v1 head 0: 0=aa");
    ck_assert_uint_eq(domain.expires_in_ms, 1);
    SAY("replay - response_id=r", "complete t v1 head 0: 0=aa");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("replay - response_id=r", "miss expired v0");
    SAY("replay t response_id=r", "miss expired v1");
    lane_tend_fully(domain.lane);
    SAY("replay - response_id=r", "miss expired v0");
    SAY("replay t response_id=r", "miss expired v1");
}
END_TEST

START_TEST(lists_that_fit_no_frame_are_too_large)
{
    domain_close(&domain);
    struct threads_settings settings = domain_settings();
    settings.frame_max_bytes = 65536;
    domain_open(&domain, settings);
    for (int i = 0; i < 1400; i++) {
        domain_say(&domain, "append t");
    }
    SAY("replay t", "too_large");
    SAY("replay t last=1", "complete t v1400 head 1399: 1399=");
    SAY("replay t have=1400,1398", "complete t v1400 head 1399: 1399=");
}
END_TEST

int main(void)
{
    return SUITE_RUN("replay", setup, teardown, 0, misses_say_why, last_keeps_the_newest,
                     max_bytes_keeps_the_newest_whole_steps, a_frame_is_an_implicit_max_bytes,
                     have_an_older_version_gets_the_new, have_across_a_rewind, have_in_a_fork,
                     have_of_lost_steps, another_models_steps_are_mismatched,
                     touch_false_leaves_the_deadline, by_key_ends_at_the_step, by_key_refreshes,
                     lists_that_fit_no_frame_are_too_large);
}
