/*
 * Threads over a disk tier, on a driven schedule: nothing becomes durable, applied or loaded before
 * the test says so.
 *
 * NOW is what a lane answers at this moment ("again": it is put back), IS what the answer comes to
 * when everything that is under way is brought to its end.
 */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"

#include <stdio.h>

enum {
    RETENTION_MS = 60000,
    ROUNDS_MAX = 50,
};

static struct clock_driven wall;
static struct tier_model *model;
static struct tier_model_settings tier_settings;
static struct threads_settings settings;
static struct domain domain;
static struct domain second; /* another lane of the same threads, when open */

#define NOW(line, answer)        ck_assert_str_eq(domain_say(&domain, line), answer)
#define IS(line, answer)         ck_assert_str_eq(say(&domain, line), answer)
#define METRIC_IS(metric, value) ck_assert_uint_eq(domain_metric(&domain, METRIC_##metric), value)

static void open_model(void)
{
    model = tier_model_create(&tier_settings);
    settings.tier = tier_model_tier(model);
    settings.hash_secret = tier_model_secret(model);
}

static void setup(void)
{
    clock_driven_init(&wall, 1700000000000);
    tier_settings = (struct tier_model_settings){.wall = &wall.clock};
    settings = domain_settings();
    settings.retention_ms = RETENTION_MS;
    settings.wall = &wall.clock;
    open_model();
    domain_open(&domain, settings);
}

static void close_domain(void)
{
    tier_model_set_at_once(model, true); /* a lane waits for what is under way */
    domain_close(&domain);
    tier_model_set_at_once(model, false);
}

static void teardown(void)
{
    close_domain();
    tier_model_destroy(model);
}

/* As after a restart of the process: other threads, the same disk. */
static void restart(void)
{
    close_domain();
    domain_open(&domain, settings);
}

/* With other settings, from the beginning. */
static void start_over(void)
{
    close_domain();
    tier_model_destroy(model);
    open_model();
    domain_open(&domain, settings);
}

static void turn(struct domain *at)
{
    lane_offline(at->lane);
    lane_online(at->lane);
    lane_tend(at->lane);
}

/* Everything under way comes to its end. */
static void run(void)
{
    for (int i = 0; i < 4; i++) {
        tier_model_run(model);
        turn(&domain);
        if (second.lane) {
            turn(&second);
        }
    }
}

static const char *say(struct domain *at, const char *line)
{
    const char *answer = domain_say(at, line);
    for (int rounds = 0; strcmp(answer, "again") == 0 && rounds < ROUNDS_MAX; rounds++) {
        run();
        answer = domain_say(at, line);
    }
    return answer;
}

/* A second lane. Only the lane is its own. */
static void open_second(void)
{
    second = (struct domain){.threads = domain.threads, .lane = lane_open(domain.threads, 1, 2)};
    ck_assert_ptr_nonnull(second.lane);
    lane_online(second.lane);
    lane_read_clock(second.lane);
}

static void close_second(void)
{
    run();
    lane_offline(second.lane);
    lane_close(second.lane);
    second.lane = NULL;
}

static void wait_ms(uint64_t by_ms)
{
    domain_wait(&domain, by_ms);
    if (second.lane) {
        lane_read_clock(second.lane);
    }
}

/* All that is due to leave memory leaves it. */
static void sweep(void)
{
    for (int i = 0; i < 4; i++) {
        lane_tend_fully(domain.lane);
        run();
    }
}

/* Nothing is used for longer than its ttl, but for less than its retention. */
static void demote_all(void)
{
    run();
    wait_ms(2 * DOMAIN_TTL_MS);
    sweep();
    METRIC_IS(THREADS_LIVE, 0);
}

/* What the tier has due, it asks for; the lanes answer. */
static void due(void)
{
    tier_model_due(model);
    run();
}

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
    NOW("replay t", "miss forgotten v1");
    run();
    ck_assert_uint_eq(domain.waiting, 0);
    ck_assert_int_eq(domain.told, STATUS_OK);
    ck_assert_uint_eq(tier_model_threads(model), 0);
    IS("replay t", "miss forgotten v1");
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
    tier_model_damage_key(model, 3, bytes_text("c")); /* RECORD_TOOL_CALL */
    IS("replay - tool_call=c", "miss corrupt v0");
    IS("replay u tool_call=c", "complete u v1 head 0 disk: 0=two");
}
END_TEST

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
    NOW("replay t", "miss forgotten v1");
    tier_model_heal(model);
    run(); /* it is done all the same */
    ck_assert_uint_eq(tier_model_threads(model), 0);
    restart();
    IS("replay t", "miss forgotten v1");
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
    IS("replay v", "miss forgotten v1");
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
    return SUITE_RUN(
        "disk", setup, teardown, 60, an_idle_thread_leaves_memory_and_comes_back,
        nothing_leaves_memory_before_it_is_applied, a_use_keeps_it_in_memory_and_on_disk,
        memory_pressure_demotes, touch_false_promotes_for_a_moment_only, a_rewind_then_a_reload,
        a_fork_of_a_demoted_thread, a_fork_of_a_fork_from_disk, idempotency_keys_outlive_memory,
        the_last_64_keys_outlive_memory, step_keys_of_demoted_threads,
        keys_are_shared_across_demotion, the_newest_step_has_the_key_across_demotion,
        an_answer_from_disk_is_not_believed_for_long, two_lanes_load_one_thread,
        what_was_read_before_is_not_taken_for_new, forget_during_a_load, a_load_during_an_erasure,
        the_retention_ends_during_a_load, the_tier_asks_during_a_load, a_demotion_during_a_replay,
        a_load_that_fails_is_tried_again, too_many_loads_are_put_back,
        a_damaged_step_is_corrupt_and_the_rest_is_served, a_damaged_last_step,
        a_damaged_head_is_corrupt, ack_disk_waits_for_the_log,
        read_only_keeps_everything_in_memory_until_it_heals, a_rewind_while_read_only,
        durable_changes_survive_the_trouble, a_forget_under_way_when_it_fails,
        when_too_much_waits_appends_are_put_back, the_retention_really_ends,
        the_retention_ends_in_memory, retention_0_never_touches_the_disk,
        retention_0_erases_before_the_answer, another_retention_counts, touch_reaches_the_disk,
        the_max_age_ends_it_wherever_it_is, the_disk_budget_evicts,
        an_old_life_that_is_due_leaves_the_young_one_alone, a_restart_finds_everything,
        never_seen_is_vouched_for_across_restarts, used_time_goes_on_while_it_is_down);
}
