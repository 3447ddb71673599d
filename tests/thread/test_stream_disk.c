/* Streamed steps of threads that a disk tier keeps: nothing of a draft is ever told to it. */
#include "tests/thread/disk.h"

#include "thread/lookup.h"
#include "thread/stream.h"
#include "thread/thread.h"

enum { CLAIM_MS = 10 * 1000 };

static void setup_streams(void)
{
    setup();
    settings.claim_timeout_ms = CLAIM_MS;
    start_over();
}

/* The disk has the thread at this version, with so many steps. */
static void disk_has(const char *id, uint32_t version, uint32_t length)
{
    struct tier_head head;
    ck_assert(tier_model_head(model, bytes_text(id), &head));
    ck_assert_uint_eq(head.version, version);
    ck_assert_uint_eq(head.length, length);
}

static void disk_lacks(const char *id)
{
    struct tier_head head;
    ck_assert(!tier_model_head(model, bytes_text(id), &head));
}

START_TEST(only_the_commit_reaches_the_disk)
{
    NOW("begin t", "begun 0 v0");
    for (int i = 0; i < 5; i++) { /* longer than anything the sweep waits for */
        NOW("chunk t : part*1000", i == 0   ? "bytes 4000"
                                   : i == 1 ? "bytes 8000"
                                   : i == 2 ? "bytes 12000"
                                   : i == 3 ? "bytes 16000"
                                            : "bytes 20000");
        wait_ms(CLAIM_MS - 1);
        sweep();
        due();
        lane_offline(domain.lane);
        lane_settle(domain.lane); /* as at the end of the process */
        lane_online(domain.lane);
        run();
        ck_assert_uint_eq(tier_model_threads(model), 0);
        ck_assert_uint_eq(tier_model_waiting(model, TIER_MODEL_LOG), 0);
    }
    NOW("commit t ack=1 key=k response_id=r : end", "step 0 v1 created pending");
    ck_assert_uint_eq(domain.expires_in_ms, RETENTION_MS);
    run();
    ck_assert_int_eq(domain.told, STATUS_OK);
    disk_has("t", 1, 1);
    NOW("begin t", "begun 1 v1");
    NOW("chunk t : more", "bytes 4");
    lane_offline(domain.lane);
    lane_settle(domain.lane);
    lane_online(domain.lane);
    sweep();
    disk_has("t", 1, 1);
    restart(); /* in the middle of it */
    IS("replay t", "complete t v1 head 0 disk: 0=p*20000|end");
    NOW("chunk t : more", "conflict claimed v1");
    NOW("commit t", "conflict claimed v1");
    IS("replay - response_id=r", "complete t v1 head 0: 0=p*20000|end");
}
END_TEST

START_TEST(a_commit_is_answered_again_after_a_restart)
{
    NOW("begin t", "begun 0 v0");
    NOW("chunk t : one", "bytes 3");
    NOW("commit t key=k ack=1 : two", "step 0 v1 created pending");
    run();
    restart();
    IS("commit t key=k ack=1 : two", "step 0 v1 created duplicate");
    IS("commit t key=k : three", "conflict key v1");
    IS("commit t key=l : two", "conflict claimed v1");
    IS("replay t", "complete t v1 head 0 disk: 0=one|two");
}
END_TEST

START_TEST(begin_on_a_thread_that_is_on_disk)
{
    NOW("append t response_id=r : one", "step 0 v1 created");
    demote_all();
    NOW("begin t", "again");
    IS("begin t", "begun 1 v1");
    METRIC_IS(PROMOTIONS, 1);
    NOW("replay t", "complete t v1 head 0 in_flight: 0=one");
    NOW("chunk t : two", "bytes 3");
    wait_ms(DOMAIN_TTL_MS * 5); /* far beyond its ttl */
    sweep();
    due();
    METRIC_IS(THREADS_LIVE, 1);
    METRIC_IS(DEMOTIONS, 1);
    NOW("commit t call=c : sig", "step 1 v2");
    demote_all();
    METRIC_IS(DEMOTIONS, 2);
    IS("replay - tool_call=c", "complete t v2 head 1 disk: 0=one 1=two|sig");
    demote_all();
    IS("chunk t : late", "conflict claimed v2");
    demote_all();
    IS("abort t", "conflict claimed v2");
}
END_TEST

/* The keys of what is committed may have been written before, by threads that are on disk. */
START_TEST(a_commit_asks_for_its_keys)
{
    NOW("append other response_id=r call=c prefix=0123456789abcdef : one", "step 0 v1 created");
    demote_all();
    NOW("begin t", "begun 0 v0");
    NOW("chunk t : two", "bytes 3");
    wait_ms(6000); /* what is remembered of other answers is forgotten */
    sweep();
    NOW("commit t response_id=r call=c prefix=0123456789abcdef", "again");
    NOW("replay t", "miss never_seen v0 in_flight");
    IS("commit t response_id=r call=c prefix=0123456789abcdef", "step 0 v1 created");
    IS("replay - response_id=r", "miss ambiguous v0");
    IS("replay - tool_call=c", "miss ambiguous v0");
    IS("replay - prefix=0123456789abcdef", "complete t v1 head 0 ambiguous: 0=two");
}
END_TEST

START_TEST(eviction_and_demotion_wait_for_the_claim)
{
    settings.memory_bytes = 16 << 20;
    settings.retention_ms = 3600000;
    start_over();
    NOW("append t : one", "step 0 v1 created");
    run();
    NOW("begin t", "begun 1 v1");
    NOW("chunk t : two", "bytes 3");
    NOW("begin u claim=U", "begun 0 v0");
    NOW("chunk u claim=U : new", "bytes 3");
    char line[60];
    for (unsigned i = 0; i < 150; i++) {
        snprintf(line, sizeof line, "append f%u : x*300000", i);
        const char *answer = say(&domain, line);
        for (int tries = 0; tries < 50 && strcmp(answer, "step 0 v1 created") != 0; tries++) {
            wait_ms(20);
            turn(&domain);
            run();
            answer = say(&domain, line);
        }
        ck_assert_str_eq(answer, "step 0 v1 created");
        run();
        if (i % 10 == 0) {
            NOW("chunk t", "bytes 3");
            NOW("chunk u claim=U", "bytes 3");
        }
    }
    ck_assert_uint_gt(domain_metric(&domain, METRIC_DEMOTIONS), 80);
    NOW("commit t", "step 1 v2");
    NOW("commit u claim=U", "step 0 v1 created");
    METRIC_IS(PROMOTIONS, 0);
    METRIC_IS(STREAMS_TIMED_OUT, 0);
}
END_TEST

START_TEST(its_time_is_over_and_the_thread_goes_to_the_disk)
{
    NOW("append t : one", "step 0 v1 created");
    run();
    NOW("begin t", "begun 1 v1");
    NOW("chunk t : x*100000", "bytes 100000");
    NOW("begin u claim=U", "begun 0 v0");
    wait_ms(CLAIM_MS - 1);
    sweep();
    METRIC_IS(THREADS_LIVE, 1);
    METRIC_IS(RECORDS, 2);
    wait_ms(1);
    sweep();
    wait_ms(200); /* the sweep's coarse time */
    sweep();
    METRIC_IS(THREADS_LIVE, 0);
    METRIC_IS(RECORDS, 0);
    METRIC_IS(DEMOTIONS, 1);
    METRIC_IS(EXPIRED, 0);
    METRIC_IS(STREAMS_TIMED_OUT, 2);
    METRIC_IS(STREAMING_BYTES, 0);
    IS("chunk t : late", "conflict claimed v1"); /* its owner still sends */
    IS("commit t : late", "conflict claimed v1");
    IS("replay t", "complete t v1 head 0 disk: 0=one");
    IS("commit u claim=U : late", "conflict claimed v0");
    IS("replay u", "miss never_seen v0");
}
END_TEST

START_TEST(forget_while_it_streams)
{
    NOW("append t : one", "step 0 v1 created");
    run();
    NOW("begin t", "begun 1 v1");
    NOW("chunk t : two", "bytes 3");
    NOW("forget t", "forgotten pending");
    NOW("commit t", "conflict claimed v0"); /* before the disk has forgotten it, too */
    run();
    ck_assert_int_eq(domain.told, STATUS_OK);
    disk_lacks("t");
    NOW("chunk t : two", "conflict claimed v0");
    NOW("begin t", "begun 0 v0");
    NOW("replay t", "miss forgotten v0 in_flight");
    NOW("forget t", "nothing");
    NOW("commit t : two", "conflict claimed v0");
    restart();
    IS("replay t", "miss forgotten v0");
    IS("begin t", "begun 0 v0");
    NOW("abort t", "aborted");
    IS("replay t", "miss forgotten v0");
}
END_TEST

/* What the disk knows of the gone, a begin goes on with, and leaves as it was. */
START_TEST(after_the_retention)
{
    NOW("append t : one", "step 0 v1 created");
    NOW("append t : two", "step 1 v2");
    demote_all();
    wait_ms(RETENTION_MS + RETENTION_MS / 32);
    due();
    disk_lacks("t");
    restart();
    IS("begin t", "begun 2 v2");
    NOW("replay t", "miss expired v2 in_flight");
    NOW("abort t", "aborted");
    IS("replay t", "miss expired v2");
    IS("begin t", "begun 2 v2");
    NOW("chunk t : three", "bytes 5");
    NOW("commit t", "step 2 v3 lost 2");
    demote_all();
    disk_has("t", 3, 3);
    IS("replay t", "partial t v3 head 2 disk: 0?expired 1?expired 2=three");
}
END_TEST

/* A thread ended in memory while the disk took no writes, and its name is streamed to anew. */
START_TEST(an_earlier_life_is_erased_meanwhile)
{
    NOW("append t ttl_ms=3600000 : one", "step 0 v1 created");
    run();
    tier_model_fail(model);
    turn(&domain);
    NOW("append t : two", "step 1 v2"); /* which the disk never hears of */
    wait_ms(RETENTION_MS);
    NOW("replay t", "miss expired v2");
    run();
    NOW("begin t", "begun 2 v2");
    NOW("chunk t : three", "bytes 5");
    tier_model_heal(model);
    run();
    NOW("replay t", "miss expired v2 in_flight");
    wait_ms(RETENTION_MS / 32);
    NOW("chunk t", "bytes 5");
    disk_has("t", 1, 1);
    due();
    disk_lacks("t");
    NOW("abort t", "aborted");
    IS("replay t", "miss expired v2");
    restart();
    IS("replay t", "miss expired v2"); /* and not v1 */
}
END_TEST

START_TEST(retention_0_is_known_with_the_commit)
{
    NOW("begin t", "begun 0 v0");
    NOW("chunk t : one", "bytes 3");
    NOW("commit t retention_ms=0 ack=1", "bad_request ack");
    NOW("commit t retention_ms=0", "step 0 v1 created");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    NOW("begin t", "begun 1 v1");
    NOW("commit t retention_ms=9 : two", "bad_request retention_ms");
    NOW("commit t : two", "step 1 v2");
    ck_assert_uint_eq(domain.expires_in_ms, DOMAIN_TTL_MS);
    NOW("append u : one", "step 0 v1 created");
    run();
    NOW("begin u", "begun 1 v1");
    NOW("commit u retention_ms=0 : two", "step 1 v2 pending"); /* what is there goes first */
    run();
    ck_assert_int_eq(domain.told, STATUS_OK);
    disk_lacks("u");
    NOW("begin u", "begun 2 v2");
    wait_ms(CLAIM_MS - 1);
    sweep();
    NOW("replay u touch=0", "complete u v2 head 1 in_flight: 0=one 1=two");
    wait_ms(1);
    NOW("replay u", "miss expired v2");
}
END_TEST

START_TEST(a_disk_that_takes_no_writes)
{
    NOW("begin t", "begun 0 v0");
    NOW("chunk t : one", "bytes 3");
    tier_model_fail(model);
    turn(&domain);
    NOW("commit t ack=1 key=k", "read_only ack");
    NOW("stat t", "miss never_seen v0 in_flight"); /* nothing was done */
    NOW("chunk t : two", "bytes 6");
    NOW("begin u claim=U", "begun 0 v0");
    NOW("commit u claim=U : x", "step 0 v1 created");
    tier_model_heal(model);
    NOW("commit t ack=1 key=k", "step 0 v1 created pending");
    tier_model_fail(model); /* before it is durable */
    turn(&domain);
    ck_assert_int_eq(domain.told, STATUS_READ_ONLY);
    tier_model_heal(model);
    NOW("commit t ack=1 key=k", "step 0 v1 created duplicate pending");
    run();
    ck_assert_int_eq(domain.told, STATUS_OK);
    disk_has("t", 1, 1);
}
END_TEST

START_TEST(what_is_damaged_is_not_streamed_to)
{
    NOW("append t : one", "step 0 v1 created");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), -1));
    IS("begin t", "conflict version v0");
    IS("append t expect=0 : afresh", "step 0 v1 created");
    NOW("begin t", "begun 1 v1");
    NOW("abort t", "aborted");
}
END_TEST

/* ---- two lanes ---- */

static const char *other(const char *line)
{
    return say(&second, line);
}

#define OTHER(line, answer) ck_assert_str_eq(other(line), answer)

START_TEST(any_lane_may_go_on_with_it)
{
    open_second();
    NOW("begin t", "begun 0 v0");
    OTHER("chunk t : one", "bytes 3");
    OTHER("append t : x", "conflict claimed v0");
    NOW("chunk t : two", "bytes 6");
    OTHER("commit t", "step 0 v1 created");
    NOW("replay t", "complete t v1 head 0: 0=onetwo");
    NOW("chunk t : x", "conflict claimed v1");
    close_second();
}
END_TEST

/* A lane that sees the end first ends it for the other, whose clock is behind. */
START_TEST(clocks_that_differ)
{
    open_second();
    NOW("append t ttl_ms=3600000 : one", "step 0 v1 created");
    NOW("begin t", "begun 1 v1");
    NOW("begin u claim=U", "begun 0 v0");
    domain_wait(&domain, CLAIM_MS - 1);
    lane_read_clock(second.lane);
    domain_wait(&domain, 1); /* the second lane is a millisecond behind */
    OTHER("chunk t", "bytes 0");
    OTHER("chunk u claim=U", "bytes 0");
    NOW("stat t", "complete v1 steps 1 bytes 3 tokens 0 in_flight"); /* for a minute less 1 ms */
    NOW("stat u", "miss never_seen v0 in_flight");
    domain_wait(&domain, CLAIM_MS - 2);
    lane_read_clock(second.lane);
    domain_wait(&domain, 1);
    NOW("append t : two", "step 1 v2");
    NOW("append u : two", "step 0 v1 created");
    OTHER("stat t", "complete v2 steps 2 bytes 6 tokens 0");
    OTHER("chunk t : x", "conflict claimed v2");
    OTHER("chunk u claim=U : x", "conflict claimed v1");
    close_second();
}
END_TEST

/* The word that a kill replaces vouches for the claim: begun between the look and the kill. */
START_TEST(a_kill_that_looked_before_the_begin_fails)
{
    NOW("append t ttl_ms=1 retention_ms=1 : one", "step 0 v1 created");
    run();
    struct lookup found = lookup_thread(domain.lane, bytes_text("t"));
    ck_assert_ptr_nonnull(found.thread);
    uint64_t before = life_load(found.thread);
    NOW("begin t", "begun 1 v1"); /* in the same millisecond: the same deadline */
    uint64_t after = life_load(found.thread);
    ck_assert_uint_eq(before & LIFE_DEADLINE, after & LIFE_DEADLINE);
    ck_assert_uint_ne(before, after);
    NOW("chunk t", "bytes 0");
    ck_assert_uint_ne(after, life_load(found.thread));
    ck_assert(!life_kill(found.thread, (after & LIFE_DEADLINE) + 1, REASON_EXPIRED));
    ck_assert(!life_evict(found.thread, (after & LIFE_DEADLINE) + 1));
    ck_assert(life_kill(found.thread, UINT64_MAX, REASON_FORGOTTEN)); /* but forget does */
    ck_assert(!life_evict(found.thread, UINT64_MAX));
    thread_bury(domain.lane, found.thread, REASON_FORGOTTEN);
}
END_TEST

int main(void)
{
    return SUITE_RUN("stream: disk", setup_streams, teardown, 60, only_the_commit_reaches_the_disk,
                     a_commit_is_answered_again_after_a_restart, begin_on_a_thread_that_is_on_disk,
                     a_commit_asks_for_its_keys, eviction_and_demotion_wait_for_the_claim,
                     its_time_is_over_and_the_thread_goes_to_the_disk, forget_while_it_streams,
                     after_the_retention, an_earlier_life_is_erased_meanwhile,
                     retention_0_is_known_with_the_commit, a_disk_that_takes_no_writes,
                     what_is_damaged_is_not_streamed_to, any_lane_may_go_on_with_it,
                     clocks_that_differ, a_kill_that_looked_before_the_begin_fails);
}
