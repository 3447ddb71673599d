/* Append: numbering, expect, idempotency keys, turns, life after death, limits. */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"

#include <stdio.h>

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

START_TEST(steps_are_numbered_and_versions_grow)
{
    SAY("append t : one", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    SAY("append t : two", "step 1 v2");
    SAY("append t kind=text kind=opaque kind=tokens : a bb cccc", "step 2 v3");
    SAY("append t", "step 3 v4");
    SAY("replay t", "complete t v4 head 3: 0=one 1=two 2=a|opaque'bb|tokens'cccc 3=");
}
END_TEST

START_TEST(expect_must_be_the_version)
{
    SAY("append t expect=1 : one", "conflict version v0");
    SAY("append t expect=0 : one", "step 0 v1 created");
    SAY("append t expect=0 : one", "conflict exists v1");
    SAY("append t expect=2 : two", "conflict version v1");
    SAY("append t expect=1 : two", "step 1 v2");
    SAY("rewind t to=-1", "v3 dropped 2");
    SAY("append t expect=2 : two", "conflict version v3");
    SAY("append t expect=3 : again", "step 0 v4");
    SAY("replay t", "complete t v4 head 0: 0=again");
}
END_TEST

START_TEST(expired_continues_with_lost_steps)
{
    SAY("append t : one", "step 0 v1 created");
    SAY("append t : two", "step 1 v2");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t : three", "step 2 v3 lost 2");
    SAY("append t : four", "step 3 v4 lost 2");
    SAY("replay t", "partial t v4 head 3: 0?expired 1?expired 2=three 3=four");
    SAY("replay t last=2", "complete t v4 head 3: 2=three 3=four");
    SAY("stat t", "partial v4 steps 4 bytes 9 tokens 0");
    domain_wait(&domain, DOMAIN_TTL_MS);
    lane_tend_fully(domain.lane);
    SAY("append t expect=3 : five", "conflict version v4");
    SAY("append t expect=4 : five", "step 4 v5 lost 4");
    SAY("append t expect=5 : six", "step 5 v6 lost 4");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t expect=0 : afresh", "step 0 v1 created");
    SAY("replay t", "complete t v1 head 0: 0=afresh");
}
END_TEST

START_TEST(forgotten_and_never_seen_start_afresh)
{
    SAY("append t : one", "step 0 v1 created");
    SAY("append t : two", "step 1 v2");
    SAY("forget t", "forgotten");
    SAY("append t expect=2 : three", "conflict version v0");
    SAY("append t : three", "step 0 v1 created");
    SAY("replay t", "complete t v1 head 0: 0=three");
    SAY("forget t", "forgotten");
    SAY("append t expect=0 : four", "step 0 v1 created");
}
END_TEST

START_TEST(rewound_thread_continues_its_versions_after_expiry)
{
    SAY("append t : one", "step 0 v1 created");
    SAY("append t : two", "step 1 v2");
    SAY("rewind t to=0", "v3 dropped 1");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t expect=3 : three", "step 1 v4 lost 1");
    SAY("rewind t to=-1", "v5 dropped 2");
    SAY("replay t", "complete t v5 head -1:");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t : four", "step 0 v6");
    SAY("replay t", "complete t v6 head 0: 0=four");
}
END_TEST

START_TEST(same_key_same_bytes_is_a_duplicate)
{
    SAY("append t key=k : one", "step 0 v1 created");
    SAY("append t key=k : one", "step 0 v1 created duplicate");
    SAY("append t : two", "step 1 v2");
    SAY("append t key=l : three", "step 2 v3");
    SAY("append t key=k : one", "step 0 v1 created duplicate");
    SAY("append t key=l : three", "step 2 v3 duplicate");
    /* The key is looked at before expect. */
    SAY("append t key=l expect=2 : three", "step 2 v3 duplicate");
    SAY("append t key=l expect=0 : three", "step 2 v3 duplicate");
    SAY("append t key=l expect=99 : three", "step 2 v3 duplicate");
    SAY("append t key=m expect=2 : four", "conflict version v3");
    SAY("replay t", "complete t v3 head 2: 0=one 1=two 2=three");
    ck_assert_uint_eq(domain_metric(&domain, METRIC_DUPLICATES), 6);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_APPENDS), 3);
}
END_TEST

START_TEST(same_key_other_bytes_is_a_conflict)
{
    SAY("append t key=k : onetwo", "step 0 v1 created");
    SAY("append t key=k : onetwp", "conflict key v1");
    SAY("append t key=k : one two", "conflict key v1");
    SAY("append t key=k kind=opaque : onetwo", "conflict key v1");
    SAY("append t key=k", "conflict key v1");
    SAY("append t key=k expect=0 : other", "conflict key v1");
    SAY("append t key=k kind=text : onetwo", "step 0 v1 created duplicate");
    SAY("append u key=k : other", "step 0 v1 created");
    SAY("append b key=k", "step 0 v1 created");
    SAY("append b key=k", "step 0 v1 created duplicate");
}
END_TEST

START_TEST(segments_cut_differently_are_different)
{
    SAY("append t key=k : ab c", "step 0 v1 created");
    SAY("append t key=k : a bc", "conflict key v1");
    SAY("append t key=k : abc", "conflict key v1");
    SAY("append t key=k kind=text kind=tokens : ab c", "conflict key v1");
    SAY("append t key=k : ab c", "step 0 v1 created duplicate");
}
END_TEST

START_TEST(key_of_a_rewound_step_is_a_conflict)
{
    SAY("append t : zero", "step 0 v1 created");
    SAY("append t key=k : one", "step 1 v2");
    SAY("rewind t to=0", "v3 dropped 1");
    SAY("append t key=k : one", "conflict key v3");
    /* The position is used again by another step. */
    SAY("append t : other", "step 1 v4");
    SAY("append t key=k : one", "conflict key v4");
    SAY("append t : more", "step 2 v5");
    SAY("append t key=k : one", "conflict key v5");
}
END_TEST

START_TEST(sixty_four_appends_are_remembered)
{
    char line[64], answer[64];
    SAY("append t key=first : x", "step 0 v1 created");
    for (int i = 1; i < 64; i++) {
        snprintf(line, sizeof line, "append t key=k%d : x%d", i, i);
        snprintf(answer, sizeof answer, "step %d v%d", i, i + 1);
        SAY(line, answer);
    }
    SAY("append t key=first : x", "step 0 v1 created duplicate");
    SAY("append t key=k63 : x63", "step 63 v64 duplicate");
    SAY("append t : unkeyed", "step 64 v65"); /* counts as well */
    SAY("append t key=k1 : x1", "step 1 v2 duplicate");
    SAY("append t key=first : x", "step 65 v66");
    SAY("append t key=first : x", "step 65 v66 duplicate");
    SAY("append t key=k1 : x1", "step 66 v67");
    SAY("append t key=k3 : x3", "step 3 v4 duplicate");
    SAY("append t key=k2 : x2", "step 67 v68");
    for (int i = 0; i < 200; i++) {
        snprintf(line, sizeof line, "append t key=n%d : y", i);
        snprintf(answer, sizeof answer, "step %d v%d", 68 + i, 69 + i);
        SAY(line, answer);
        snprintf(answer, sizeof answer, "step %d v%d duplicate", 68 + i, 69 + i);
        SAY(line, answer);
    }
    SAY("append t key=n136 : y", "step 204 v205 duplicate");
    SAY("append t key=n135 : y", "step 268 v269");
}
END_TEST

START_TEST(forks_do_not_inherit_keys)
{
    SAY("append t key=k : one", "step 0 v1 created");
    SAY("fork f from=t", "v1");
    SAY("append f key=k : one", "step 1 v2");
    SAY("append f key=k : one", "step 1 v2 duplicate");
    SAY("append t key=k : one", "step 0 v1 created duplicate");
    SAY("append f key=k : other", "conflict key v2");
}
END_TEST

START_TEST(duplicate_of_a_continued_thread_tells_lost)
{
    SAY("append t : one", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t key=k : two", "step 1 v2 lost 1");
    SAY("append t key=k : two", "step 1 v2 duplicate lost 1");
}
END_TEST

START_TEST(duplicate_refreshes_but_sets_no_ttl)
{
    SAY("append t key=k ttl_ms=500 : one", "step 0 v1 created");
    domain_wait(&domain, 400);
    SAY("append t key=k ttl_ms=100 : one", "step 0 v1 created duplicate");
    ck_assert_uint_eq(domain.expires_in_ms, 500);
    SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 500);
    domain_wait(&domain, 499);
    SAY("append t key=k ttl_ms=9000 : one", "step 0 v1 created duplicate");
    SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 500);
}
END_TEST

START_TEST(turn_never_falls)
{
    SAY("append t turn=2 : one", "step 0 v1 created");
    SAY("append t turn=1 : two", "bad_request turn");
    SAY("replay t", "complete t v1 head 0: 0=one");
    SAY("append t : two", "step 1 v2"); /* default: 2 again */
    SAY("append t turn=1 : three", "bad_request turn");
    SAY("append t turn=2 : three", "step 2 v3");
    SAY("append t turn=4294967295 : four", "step 3 v4");
    SAY("append t turn=4294967294 : five", "bad_request turn");
    SAY("rewind t to=-1", "v5 dropped 4");
    SAY("append t turn=0 : one", "step 0 v6");
    SAY("append t turn=7 : two", "step 1 v7");
    SAY("rewind t to=0", "v8 dropped 1");
    SAY("append t turn=3 : two", "step 1 v9");
    /* A fork goes on from the step it shares last. */
    SAY("fork f from=t", "v2");
    SAY("append f turn=2 : x", "bad_request turn");
    SAY("append f turn=3 : x", "step 2 v3");
    /* What the lost steps' turn was is not known. */
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("append t turn=1 : three", "step 2 v10 lost 2");
}
END_TEST

START_TEST(refused_appends_leave_nothing)
{
    SAY("append t turn=5 call=c response_id=r : one", "step 0 v1 created");
    uint64_t records = domain_metric(&domain, METRIC_RECORDS);
    SAY("append t turn=1 call=c2 response_id=r2 : two", "bad_request turn");
    SAY("append t expect=7 call=c2 response_id=r2 : two", "conflict version v1");
    SAY("append u expect=7 call=c2 response_id=r2 : two", "conflict version v0");
    SAY("replay - response_id=r2", "miss never_seen v0");
    SAY("replay u", "miss never_seen v0");
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_RECORDS), records);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 3);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 1);
}
END_TEST

START_TEST(a_step_beyond_half_the_budget_is_over_budget)
{
    SAY("append t : x*40000000", "over_budget");
    SAY("replay t", "miss never_seen v0");
    SAY("append t : x*900000", "step 0 v1 created");
    SAY("append t : x*40000000", "over_budget");
    SAY("replay t", "complete t v1 head 0: 0=x*900000");
}
END_TEST

START_TEST(ttl_comes_with_append_and_stays)
{
    SAY("append t ttl_ms=50 : one", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, 50);
    SAY("append t : two", "step 1 v2");
    ck_assert_uint_eq(domain.expires_in_ms, 50);
    SAY("append t ttl_ms=7000 : three", "step 2 v3");
    ck_assert_uint_eq(domain.expires_in_ms, 7000);
    SAY("append t ttl_ms=20 : four", "step 3 v4"); /* sooner than it was */
    ck_assert_uint_eq(domain.expires_in_ms, 20);
    domain_wait(&domain, 19);
    SAY("stat t", "complete v4 steps 4 bytes 15 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 1);
    domain_wait(&domain, 1);
    SAY("stat t", "miss expired v4");
}
END_TEST

START_TEST(retention_is_nothing_without_a_disk)
{
    SAY("append t retention_ms=0 : one", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    SAY("append t retention_ms=5 : two", "step 1 v2");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    domain_wait(&domain, DOMAIN_TTL_MS - 1);
    SAY("replay t", "complete t v2 head 1: 0=one 1=two");
}
END_TEST

START_TEST(refused_appends_do_not_refresh)
{
    SAY("append t turn=3 key=k : one", "step 0 v1 created");
    domain_wait(&domain, 600);
    SAY("append t expect=9 : two", "conflict version v1");
    SAY("append t expect=0 : two", "conflict exists v1");
    SAY("append t turn=1 : two", "bad_request turn");
    SAY("append t key=k : other", "conflict key v1");
    SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0");
    ck_assert_uint_eq(domain.expires_in_ms, 400);
}
END_TEST

START_TEST(long_threads_keep_every_step)
{
    char line[64], answer[96];
    for (int i = 0; i < 3000; i++) {
        snprintf(line, sizeof line, "append t expect=%d tokens=2 : s%d", i, i);
        snprintf(answer, sizeof answer, "step %d v%d%s", i, i + 1, i ? "" : " created");
        SAY(line, answer);
    }
    SAY("replay t last=1", "complete t v3000 head 2999: 2999=s2999");
    for (int i = 0; i < 3000; i += 7) {
        snprintf(line, sizeof line, "fork f%d from=t at=%d", i, i);
        snprintf(answer, sizeof answer, "v%d", i + 1);
        SAY(line, answer);
        snprintf(line, sizeof line, "replay f%d last=1", i);
        snprintf(answer, sizeof answer, "complete f%d v%d head %d: %d=s%d", i, i + 1, i, i, i);
        SAY(line, answer);
    }
    SAY("stat t", "complete v3000 steps 3000 bytes 13890 tokens 6000");
}
END_TEST

START_TEST(errors_hold_no_ids_and_no_payloads)
{
    static const char *const lines[] = {
        "append canarythread turn=3 : canarypayload",
        "append canarythread turn=1 : canarypayload",
        "append canarythread expect=9 key=canarykey : canarypayload",
        "append canarythread expect=0 : canarypayload",
        "append canarythread key=canarykey : canarypayload",
        "append canarythread key=canarykey : canaryother",
        "append canarythread : canary*10000000",
        "rewind canarynone to=0",
        "rewind canarythread to=99",
        "fork canaryfork from=canarynone",
        "fork canarythread from=canarythread",
        "fork canaryfork from=canarythread at=99",
    };
    unsigned errors = 0;
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++) {
        domain.error = (struct wire_error){.cause = ""};
        domain_say(&domain, lines[i]);
        errors += domain.error.status != STATUS_OK;
        ck_assert_ptr_null(strstr(domain.error.message, "canary"));
        ck_assert_ptr_null(strstr(domain.error.option, "canary"));
        ck_assert(!domain.error.cause || !strstr(domain.error.cause, "canary"));
    }
    ck_assert_uint_eq(errors, 10);
}
END_TEST

int main(void)
{
    return SUITE_RUN("append", setup, teardown, 0, steps_are_numbered_and_versions_grow,
                     expect_must_be_the_version, expired_continues_with_lost_steps,
                     forgotten_and_never_seen_start_afresh,
                     rewound_thread_continues_its_versions_after_expiry, turn_never_falls,
                     refused_appends_leave_nothing, a_step_beyond_half_the_budget_is_over_budget,
                     ttl_comes_with_append_and_stays, retention_is_nothing_without_a_disk,
                     refused_appends_do_not_refresh, long_threads_keep_every_step,
                     errors_hold_no_ids_and_no_payloads, same_key_same_bytes_is_a_duplicate,
                     same_key_other_bytes_is_a_conflict, segments_cut_differently_are_different,
                     key_of_a_rewound_step_is_a_conflict, sixty_four_appends_are_remembered,
                     forks_do_not_inherit_keys, duplicate_of_a_continued_thread_tells_lost,
                     duplicate_refreshes_but_sets_no_ttl);
}
