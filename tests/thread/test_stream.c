/* Streamed steps in memory: every rule of begin, chunk, commit and abort. */
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

/* ---- the life of a stream ---- */

START_TEST(a_step_is_streamed)
{
    SAY("begin t", "begun 0 v0");
    ck_assert_uint_eq(domain.expires_in_ms, CLAIM_MS);
    METRIC_IS(STREAMS, 1);
    SAY("chunk t : one two", "bytes 6");
    SAY("chunk t", "bytes 6");
    SAY("chunk t : three*1000", "bytes 5006");
    METRIC_IS(THREADS_LIVE, 0);
    METRIC_IS(PAYLOAD_BYTES, 0);
    SAY("commit t response_id=r call=c1 turn=3 tokens=9 model=m kind=opaque : sig",
        "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    METRIC_IS(STREAMING_BYTES, 0);
    METRIC_IS(THREADS_LIVE, 1);
    METRIC_IS(THREADS_CREATED, 1);
    METRIC_IS(APPENDS, 1);
    METRIC_IS(PAYLOAD_BYTES, 5009);
    METRIC_IS(STREAMS_TIMED_OUT, 0);
    SAY("replay t", "complete t v1 head 0: 0=o*5006|opaque'sig");
    SAY("replay - response_id=r", "complete t v1 head 0: 0=o*5006|opaque'sig");
    SAY("replay - tool_call=c1", "complete t v1 head 0: 0=o*5006|opaque'sig");
    SAY("stat t", "complete v1 steps 1 bytes 5009 tokens 9");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : abc def", "bytes 6");
    SAY("stat t", "complete v1 steps 1 bytes 5009 tokens 9 in_flight");
    SAY("commit t final=1", "step 1 v2");
    SAY("replay t last=1", "complete t v2 head 1: 1=abcdef");
    SAY("append t : more", "step 2 v3");
}
END_TEST

START_TEST(until_the_commit_nobody_sees_it)
{
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : one", "bytes 3");
    SAY("replay t", "miss never_seen v0 in_flight");
    SAY("stat t", "miss never_seen v0 in_flight");
    SAY("touch t", "missing never_seen");
    SAY("rewind t to=-1", "not_found thread never_seen");
    SAY("fork f from=t", "not_found from never_seen");
    static struct thread_list_result list;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_LIST, (struct bytes){0});
    ck_assert_int_eq(thread_list(domain.lane, &ask.request, &list, &domain.error), STATUS_OK);
    ck_assert_uint_eq(list.count, 0);
    SAY("commit t", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : two", "bytes 3");
    SAY("replay t", "complete t v1 head 0 in_flight: 0=one");
    SAY("fork f from=t", "v1");
    SAY("replay f", "complete f v1 head 0: 0=one");
    SAY("touch t", "touched");
    SAY("commit t", "step 1 v2");
    SAY("replay t", "complete t v2 head 1: 0=one 1=two");
    SAY("replay f", "complete f v1 head 0: 0=one");
}
END_TEST

START_TEST(a_begin_may_expect_a_version)
{
    SAY("begin t expect=1", "conflict version v0");
    SAY("begin t expect=0", "begun 0 v0");
    SAY("chunk t : one", "bytes 3");
    SAY("commit t expect=0", "step 0 v1 created");
    SAY("begin t expect=0", "conflict exists v1");
    SAY("begin t expect=2", "conflict version v1");
    SAY("begin t expect=1", "begun 1 v1");
    SAY("begin t expect=9", "conflict claimed v1"); /* whose claim it is matters more */
    SAY("abort t", "aborted");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("begin t expect=2", "conflict version v1");
    SAY("begin t expect=1", "begun 1 v1");
    SAY("abort t", "aborted");
    SAY("begin t expect=0", "begun 0 v0");
    SAY("chunk t : two", "bytes 3");
    SAY("commit t expect=1", "conflict version v0"); /* begin said that there is none */
    SAY("commit t", "step 0 v1 created");
    SAY("replay t", "complete t v1 head 0: 0=two");
}
END_TEST

START_TEST(an_abort_leaves_nothing)
{
    uint64_t before = live_bytes();
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : x*100000", "bytes 100000");
    SAY("abort t", "aborted");
    METRIC_IS(STREAMING_BYTES, 0);
    METRIC_IS(STREAMS_TIMED_OUT, 0);
    METRIC_IS(TOMBSTONES, 0);
    METRIC_IS(RECORDS, 0);
    ck_assert_uint_eq(live_bytes(), before);
    SAY("replay t", "miss never_seen v0");
    SAY("abort t", "conflict claimed v0");
    SAY("append t : one", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : two", "bytes 3");
    domain_wait(&domain, DOMAIN_TTL_MS + 5);
    SAY("abort t", "aborted"); /* and it is a use: the thread's own ttl was over */
    SAY("replay t", "complete t v1 head 0: 0=one");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
}
END_TEST

/* What was there before is there again, and counts for who goes on with it. */
START_TEST(what_is_gone_stays_as_gone_as_it_was)
{
    static const char *const ends[] = {"abort t", "forget t", "wait"};
    for (unsigned i = 0; i < 3; i++) {
        SAY("append t : one", i == 0 ? "step 0 v1 created" : "step 1 v2 lost 1");
        if (i > 0) {
            SAY("forget t", "forgotten");
            SAY("append t : one", "step 0 v1 created");
        }
        domain_wait(&domain, DOMAIN_TTL_MS);
        SAY("replay t", "miss expired v1");
        SAY("begin t", "begun 1 v1");
        SAY("chunk t : two", "bytes 3");
        SAY("replay t", "miss expired v1 in_flight");
        if (strcmp(ends[i], "wait") == 0) {
            domain_wait(&domain, CLAIM_MS);
        } else {
            SAY(ends[i], i == 0 ? "aborted" : "nothing");
        }
        SAY("replay t", "miss expired v1");
        tend();
        SAY("replay t", "miss expired v1");
        SAY("chunk t : two", "conflict claimed v1");
    }
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : two", "bytes 3");
    SAY("commit t", "step 1 v2 lost 1");
    SAY("replay t", "partial t v2 head 1: 0?expired 1=two");
    SAY("forget t", "forgotten");
    SAY("begin t", "begun 0 v0"); /* afresh */
    SAY("replay t", "miss forgotten v0 in_flight");
    SAY("append t : x", "conflict claimed v0");
    SAY("abort t", "aborted");
    SAY("replay t", "miss forgotten v0");
    SAY("begin t", "begun 0 v0");
    SAY("commit t : x", "step 0 v1 created");
}
END_TEST

/* ---- claims ---- */

START_TEST(others_are_in_conflict_meanwhile)
{
    SAY("append t key=k : one", "step 0 v1 created");
    SAY("append o : other", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("begin u claim=U", "begun 0 v0");
    SAY("append t : x", "conflict claimed v1");
    SAY("append t expect=1 : x", "conflict claimed v1");
    SAY("append t expect=0 : x", "conflict claimed v1");
    SAY("append t expect=7 : x", "conflict claimed v1");
    SAY("append t key=other : x", "conflict claimed v1");
    SAY("append t key=other expect=7 : x", "conflict claimed v1");
    SAY("append t key=k : one", "step 0 v1 created duplicate"); /* it was there before */
    SAY("append t key=k : two", "conflict key v1");
    SAY("begin t claim=B", "conflict claimed v1");
    SAY("rewind t to=-1", "conflict claimed v1");
    SAY("rewind t to=0", "conflict claimed v1");
    SAY("append u : x", "conflict claimed v0");
    SAY("append u expect=0 : x", "conflict claimed v0");
    SAY("append u expect=3 key=k : x", "conflict claimed v0");
    SAY("begin u claim=B", "conflict claimed v0");
    SAY("fork u from=o", "conflict claimed v0");
    SAY("fork t from=o", "conflict thread exists v1");
    SAY("commit t : x", "step 1 v2");
    SAY("commit u claim=U : x", "step 0 v1 created");
    METRIC_IS(STREAMS, 2);
}
END_TEST

START_TEST(a_claim_is_for_one_step_of_one_thread)
{
    SAY("begin t claim=T", "begun 0 v0");
    SAY("begin u claim=U", "begun 0 v0");
    SAY("chunk t claim=U : x", "conflict claimed v0");
    SAY("commit t claim=U : x", "conflict claimed v0");
    SAY("abort t claim=U", "conflict claimed v0");
    SAY("chunk none claim=T : x", "conflict claimed v0");
    SAY("commit none claim=T : x", "conflict claimed v0");
    SAY("abort none claim=T", "conflict claimed v0");
    SAY("chunk t claim=T : one", "bytes 3");
    SAY("commit t claim=T", "step 0 v1 created");
    SAY("chunk t claim=T : x", "conflict claimed v1");
    SAY("commit t claim=T : x", "conflict claimed v1");
    SAY("abort t claim=T", "conflict claimed v1");
    SAY("begin t claim=V", "begun 1 v1");
    SAY("commit t claim=T : x", "conflict claimed v1");
    SAY("commit t claim=V : two", "step 1 v2");
    SAY("replay t", "complete t v2 head 1: 0=one 1=two");
    SAY("abort u claim=U", "aborted");
}
END_TEST

START_TEST(a_claim_ends_exactly_when_its_time_is_over)
{
    SAY("append t ttl_ms=3600000 : one", "step 0 v1 created");
    for (int swept = 0; swept < 2; swept++) {
        SAY("begin t", "begun 1 v1");
        SAY("begin u claim=U", "begun 0 v0");
        domain_wait(&domain, CLAIM_MS / 2);
        SAY("chunk t", "bytes 0");
        SAY("chunk u claim=U : xyz", "bytes 3");
        ck_assert_uint_eq(domain.expires_in_ms, CLAIM_MS);
        domain_wait(&domain, CLAIM_MS - 1);
        SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0 in_flight");
        SAY("stat u", "miss never_seen v0 in_flight");
        SAY("append t : x", "conflict claimed v1");
        domain_wait(&domain, 1);
        if (swept) {
            tend();
            METRIC_IS(STREAMS_TIMED_OUT, 4);
            METRIC_IS(STREAMING_BYTES, 0);
        }
        SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0");
        SAY("replay t", "complete t v1 head 0: 0=one");
        SAY("stat u", "miss never_seen v0");
        SAY("chunk t : x", "conflict claimed v1");
        SAY("commit t : x", "conflict claimed v1");
        SAY("abort t", "conflict claimed v1");
        SAY("chunk u claim=U : x", "conflict claimed v0");
        METRIC_IS(STREAMS_TIMED_OUT, (uint64_t)swept * 2 + 2);
        METRIC_IS(STREAMING_BYTES, 0);
    }
    SAY("append t : two", "step 1 v2");
    SAY("append u : two", "step 0 v1 created");
}
END_TEST

/* Whoever comes after the time is over needs no sweep. */
START_TEST(others_go_on_when_the_time_is_over)
{
    static const struct {
        const char *act, *answer, *late, *gone;
        unsigned begun;
    } cases[] = {
        {"append t : x", "step 1 v2", "conflict claimed v2", "miss forgotten v0", 0},
        {"append t expect=1 : x", "step 1 v2", "conflict claimed v2", "miss forgotten v0", 0},
        {"rewind t to=-1", "v2 dropped 1", "conflict claimed v2", "miss forgotten v0", 0},
        {"commit t key=k : x", "conflict claimed v1", "conflict claimed v1", "miss forgotten v0",
         0},
        {"begin t claim=B", "begun 1 v1", "conflict claimed v1", "miss forgotten v0", 1},
    };
    unsigned timed_out = 0;
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        SAY("append t ttl_ms=3600000 : one", "step 0 v1 created");
        SAY("begin t", "begun 1 v1");
        SAY("chunk t : lost", "bytes 4");
        domain_wait(&domain, CLAIM_MS);
        SAY(cases[i].act, cases[i].answer);
        METRIC_IS(STREAMS_TIMED_OUT, ++timed_out);
        SAY("chunk t : x", cases[i].late);
        SAY("forget t", "forgotten");
        SAY("replay t", cases[i].gone);
        timed_out += cases[i].begun; /* which went with the thread */
        METRIC_IS(STREAMS_TIMED_OUT, timed_out);
    }
}
END_TEST

START_TEST(the_setting_says_how_long)
{
    struct threads_settings settings = domain_settings();
    settings.claim_timeout_ms = 50;
    close_and_open(settings);
    SAY("begin t", "begun 0 v0");
    ck_assert_uint_eq(domain.expires_in_ms, 50);
    domain_wait(&domain, 49);
    SAY("chunk t : one", "bytes 3");
    ck_assert_uint_eq(domain.expires_in_ms, 50);
    domain_wait(&domain, 50);
    SAY("chunk t : one", "conflict claimed v0");
}
END_TEST

/* ---- what a claim keeps alive, and what ends it ---- */

START_TEST(a_claim_keeps_the_thread_alive)
{
    SAY("append t ttl_ms=10 : one", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    domain_wait(&domain, CLAIM_MS - 1);
    tend();
    SAY("replay t touch=0", "complete t v1 head 0 in_flight: 0=one");
    ck_assert_uint_eq(domain.expires_in_ms, 1);
    SAY("chunk t : two", "bytes 3");
    SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0 in_flight");
    ck_assert_uint_eq(domain.expires_in_ms, 10); /* since the commit may come at once */
    ck_assert_uint_eq(domain.stat.idle_ms, 0);
    domain_wait(&domain, CLAIM_MS - 1);
    SAY("commit t", "step 1 v2");
    ck_assert_uint_eq(domain.expires_in_ms, 10);
    domain_wait(&domain, 9);
    SAY("replay t touch=0", "complete t v2 head 1: 0=one 1=two");
    domain_wait(&domain, 1);
    SAY("replay t", "miss expired v2");
    SAY("append u ttl_ms=10 : one", "step 0 v1 created");
    SAY("begin u", "begun 1 v1");
    domain_wait(&domain, CLAIM_MS);
    SAY("replay u", "miss expired v1"); /* with its claim */
    SAY("chunk u : x", "conflict claimed v1");
    METRIC_IS(EXPIRED, 2);
    METRIC_IS(STREAMS_TIMED_OUT, 1);
}
END_TEST

START_TEST(the_maximum_age_wins)
{
    struct threads_settings settings = domain_settings();
    settings.max_age_ms = 2 * CLAIM_MS;
    settings.ttl_ms = 10 * CLAIM_MS;
    close_and_open(settings);
    SAY("append t : one", "step 0 v1 created");
    domain_wait(&domain, CLAIM_MS);
    SAY("begin t", "begun 1 v1");
    domain_wait(&domain, CLAIM_MS / 2);
    SAY("chunk t : two", "bytes 3");
    ck_assert_uint_eq(domain.expires_in_ms, CLAIM_MS / 2);
    domain_wait(&domain, CLAIM_MS / 2);
    SAY("chunk t : two", "conflict claimed v1");
    SAY("replay t", "miss max_age v1");
    /* What is not a thread yet has no age. */
    SAY("begin u", "begun 0 v0");
    for (int i = 0; i < 6; i++) {
        domain_wait(&domain, CLAIM_MS - 1);
        SAY("chunk u : x", i == 0   ? "bytes 1"
                           : i == 1 ? "bytes 2"
                           : i == 2 ? "bytes 3"
                           : i == 3 ? "bytes 4"
                           : i == 4 ? "bytes 5"
                                    : "bytes 6");
    }
    SAY("commit u", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, 2 * CLAIM_MS);
}
END_TEST

START_TEST(forget_ends_it)
{
    uint64_t before = live_bytes();
    SAY("append t : one", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : x*100000", "bytes 100000");
    SAY("begin u claim=U", "begun 0 v0");
    SAY("chunk u claim=U : x*100000", "bytes 100000");
    SAY("forget t", "forgotten");
    SAY("forget u", "nothing"); /* there was no thread, but what there was is gone */
    METRIC_IS(STREAMING_BYTES, 0);
    METRIC_IS(STREAMS_TIMED_OUT, 2);
    SAY("chunk t : x", "conflict claimed v0");
    SAY("commit t", "conflict claimed v0");
    SAY("chunk u claim=U : x", "conflict claimed v0");
    SAY("replay t", "miss forgotten v0");
    SAY("replay u", "miss never_seen v0");
    uint64_t tombstone = 48;
    ck_assert_uint_le(live_bytes(), before + tombstone);
}
END_TEST

/* ---- chunks and commits ---- */

START_TEST(segments_of_a_commit)
{
    SAY("begin t segment=tokens", "begun 0 v0");
    SAY("chunk t : abc", "bytes 3");
    SAY("commit t", "bad_request segment");
    SAY("commit t kind=opaque : sig", "bad_request segment");
    SAY("chunk t : defgh", "bytes 8");
    SAY("commit t kind=opaque kind=text : sig more", "step 0 v1 created");
    SAY("begin t segment=opaque", "begun 1 v1");
    SAY("commit t", "bad_request segments"); /* nothing at all wants to be said */
    SAY("commit t bare=1", "step 1 v2");
    SAY("begin t segment=opaque", "begun 2 v2");
    SAY("commit t : only", "step 2 v3"); /* a segment without bytes does not exist */
    SAY("begin t segment=opaque", "begun 3 v3");
    SAY("chunk t : a", "bytes 1");
    SAY("commit t : b c", "step 3 v4");
    SAY("begin t segment=tokens", "begun 4 v4");
    SAY("chunk t : word", "bytes 4");
    SAY("commit t bare=1", "step 4 v5");
    SAY("replay t", "complete t v5 head 4: 0=tokens'abcdefgh|opaque'sig|more 1= 2=only "
                    "3=opaque'a|b|c 4=tokens'word");
}
END_TEST

START_TEST(no_more_than_64_segments)
{
    char with_64[] = "commit t : x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x "
                     "x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x x";
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : y", "bytes 1");
    SAY(with_64, "bad_request segments");
    with_64[strlen(with_64) - 2] = '\0';
    SAY(with_64, "step 0 v1 created");
    with_64[strlen(with_64)] = ' ';
    SAY("begin t", "begun 1 v1");
    SAY(with_64, "step 1 v2");
}
END_TEST

START_TEST(a_commit_that_fails_may_be_mended)
{
    SAY("append t turn=5 : one", "step 0 v1 created");
    SAY("begin t", "begun 1 v1");
    SAY("chunk t : two", "bytes 3");
    SAY("commit t turn=4", "bad_request turn");
    SAY("commit t expect=2", "conflict version v1");
    SAY("commit t expect=0", "conflict exists v1");
    SAY("commit t ack=1", "bad_request ack");
    SAY("stat t", "complete v1 steps 1 bytes 3 tokens 0 in_flight");
    SAY("chunk t : more", "bytes 7");
    SAY("commit t expect=1", "step 1 v2");
    SAY("replay t", "complete t v2 head 1: 0=one 1=twomore");
    SAY("begin u", "begun 0 v0");
    SAY("chunk u : one", "bytes 3");
    SAY("commit u expect=1", "conflict version v0");
    SAY("commit u expect=0", "step 0 v1 created");
    domain_wait(&domain, DOMAIN_TTL_MS);
    SAY("begin u", "begun 1 v1");
    SAY("chunk u : two", "bytes 3");
    SAY("commit u expect=0", "step 0 v1 created"); /* afresh, which only the commit says */
    SAY("replay u", "complete u v1 head 0: 0=two");
}
END_TEST

START_TEST(a_commit_may_be_sent_again_with_its_key)
{
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : one", "bytes 3");
    SAY("commit t key=k kind=opaque : sig", "step 0 v1 created");
    SAY("commit t key=k kind=opaque : sig", "step 0 v1 created duplicate");
    SAY("commit t key=k : sig", "conflict key v1");
    SAY("commit t key=k kind=opaque : other", "conflict key v1");
    SAY("commit t key=other kind=opaque : sig", "conflict claimed v1");
    SAY("append t key=k kind=opaque : sig", "conflict key v1");
    SAY("begin t claim=B", "begun 1 v1");
    SAY("commit t key=k kind=opaque : sig", "step 0 v1 created duplicate");
    SAY("commit t claim=B key=k kind=opaque : sig", "conflict key v1"); /* another step's */
    SAY("chunk t claim=B : two", "bytes 3");
    SAY("commit t claim=B key=l", "step 1 v2");
    SAY("commit t claim=B key=l", "step 1 v2 duplicate");
    SAY("append t key=m : x", "step 2 v3");
    METRIC_IS(DUPLICATES, 3);
    METRIC_IS(APPENDS, 3);
    SAY("rewind t to=-1", "v4 dropped 3");
    SAY("commit t key=k kind=opaque : sig", "conflict key v4");
}
END_TEST

START_TEST(lifetimes_come_with_the_commit)
{
    SAY("begin t", "begun 0 v0");
    SAY("chunk t : one", "bytes 3");
    SAY("commit t ttl_ms=77777", "step 0 v1 created");
    ck_assert_uint_eq(domain.expires_in_ms, 77777);
    SAY("begin t", "begun 1 v1");
    domain_wait(&domain, 7);
    SAY("commit t ttl_ms=5 : two", "step 1 v2"); /* the latest value wins */
    ck_assert_uint_eq(domain.expires_in_ms, 5);
    domain_wait(&domain, 5);
    SAY("replay t", "miss expired v2");
}
END_TEST

int main(void)
{
    return SUITE_RUN("stream", setup, teardown, 60, a_step_is_streamed,
                     until_the_commit_nobody_sees_it, a_begin_may_expect_a_version,
                     an_abort_leaves_nothing, what_is_gone_stays_as_gone_as_it_was,
                     others_are_in_conflict_meanwhile, a_claim_is_for_one_step_of_one_thread,
                     a_claim_ends_exactly_when_its_time_is_over, others_go_on_when_the_time_is_over,
                     the_setting_says_how_long, a_claim_keeps_the_thread_alive,
                     the_maximum_age_wins, forget_ends_it, segments_of_a_commit,
                     no_more_than_64_segments, a_commit_that_fails_may_be_mended,
                     a_commit_may_be_sent_again_with_its_key, lifetimes_come_with_the_commit);
}
