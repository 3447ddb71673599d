/*
 * Threads over a disk tier: what a review of them found, each as the schedule that showed it.
 *
 * NOW is what a lane answers at this moment ("again": it is put back), IS what the answer comes to
 * when everything that is under way is brought to its end.
 */
#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"
#include "thread/records.h"

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

#define NOW(line, answer) ck_assert_str_eq(domain_say(&domain, line), answer)
#define IS(line, answer)  ck_assert_str_eq(say(line), answer)

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

static void start_over(void)
{
    teardown();
    open_model();
    domain_open(&domain, settings);
}

static void turn(void)
{
    lane_offline(domain.lane);
    lane_online(domain.lane);
    lane_tend(domain.lane);
}

/* Everything under way comes to its end. */
static void run(void)
{
    for (int i = 0; i < 4; i++) {
        tier_model_run(model);
        turn();
    }
}

static const char *say(const char *line)
{
    const char *answer = domain_say(&domain, line);
    for (int rounds = 0; strcmp(answer, "again") == 0 && rounds < ROUNDS_MAX; rounds++) {
        run();
        answer = domain_say(&domain, line);
    }
    return answer;
}

static void sweep(void)
{
    for (int i = 0; i < 4; i++) {
        lane_tend_fully(domain.lane);
        run();
    }
}

static void demote_all(void)
{
    run();
    domain_wait(&domain, 2 * DOMAIN_TTL_MS);
    sweep();
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}

/* Time goes by as in a loop: in small steps, each with its tending. */
static void live_ms(uint64_t by_ms)
{
    for (uint64_t gone_ms = 0; gone_ms < by_ms; gone_ms += 50) {
        domain_wait(&domain, 50);
        tier_model_run(model);
        turn();
    }
}

static uint64_t wall_ms(void)
{
    return clock_read_ms(&wall.clock);
}

/* The ids that list gives, from the first page to the last, each with a blank in front. */
static const char *listed(void)
{
    static char text[4096];
    static struct thread_list_result result;
    struct ask ask;
    size_t size = 0;
    text[0] = '\0';
    ask_begin(&ask, WIRE_METHOD_LIST, (struct bytes){0});
    for (int pages = 0; pages < 100; pages++) {
        enum status status = thread_list(domain.lane, &ask.request, &result, &domain.error);
        if (status == STATUS_AGAIN) {
            run();
            continue;
        }
        ck_assert_int_eq(status, STATUS_OK);
        for (unsigned i = 0; i < result.count; i++) {
            int put =
                snprintf(text + size, sizeof text - size, " %.*s", (int)result.listed[i].id.size,
                         (const char *)result.listed[i].id.data);
            size += (size_t)put;
        }
        if (!result.more) {
            return text;
        }
        static uint8_t cursor[THREAD_CURSOR_BYTES];
        memcpy(cursor, result.cursor, sizeof cursor);
        ask_set(&ask, cursor, bytes_of(cursor, sizeof cursor));
    }
    ck_abort_msg("list does not end");
    return NULL;
}

/* ---- Memory and disk disagree ---- */

START_TEST(what_retention_0_took_from_the_disk_is_listed)
{
    NOW("append t : a", "step 0 v1 created");
    run();
    NOW("append t retention_ms=0 : b", "step 1 v2 pending");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 0);
    ck_assert_str_eq(listed(), " t");
}
END_TEST

START_TEST(ack_disk_of_a_duplicate_that_never_was_on_disk)
{
    NOW("append t retention_ms=0 key=k : a", "step 0 v1 created");
    NOW("append t ack=1 key=k : a", "bad_request ack");
}
END_TEST

/* Of the damaged step's version nothing is known: who holds what it replaced must learn of it. */
START_TEST(a_damaged_step_may_be_a_new_one)
{
    NOW("append t : a0", "step 0 v1 created");
    NOW("append t : a1", "step 1 v2");
    NOW("rewind t to=-1", "v3 dropped 2");
    NOW("append t : b0", "step 0 v4");
    NOW("append t : b1", "step 1 v5");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), 0));
    IS("replay t have=2,1", "partial t v5 head 1 first_changed 0 disk: 0?corrupt 1=b1");
    NOW("replay t have=5,1", "complete t v5 head 1:");
}
END_TEST

START_TEST(a_damaged_step_hides_no_turn)
{
    NOW("append t turn=1 : a", "step 0 v1 created");
    NOW("append t turn=3 : b", "step 1 v2");
    NOW("append t turn=3 : c", "step 2 v3");
    demote_all();
    ck_assert(tier_model_damage(model, bytes_text("t"), 2));
    IS("append t turn=2 : d", "bad_request turn");
    IS("append t turn=3 : d", "step 3 v4");
}
END_TEST

/* The change that is on its way still reads its steps when memory has let go of them. */
START_TEST(a_step_stays_itself_for_as_long_as_it_is_pinned)
{
    NOW("append t key=k : a", "step 0 v1 created");
    NOW("rewind t to=-1", "v2 dropped 1");
    for (int i = 0; i < 8; i++) {
        lane_tend_fully(domain.lane);
        turn();
    }
    /* The power goes after the first of the two. */
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_LOG, 1), 1);
    tier_model_fail(model);
    tier_model_run(model);
    turn();
    close_domain();
    tier_model_heal(model);
    domain_open(&domain, settings);
    IS("append t key=k : a", "step 0 v1 created duplicate");
}
END_TEST

START_TEST(a_whole_put_remembers_the_newest_keys)
{
    char line[64];
    for (int i = 1; i <= 300; i++) {
        bool keyed = i % 4 == 0;
        snprintf(line, sizeof line, "append t %s%.0d : x", keyed ? "key=k" : "", keyed ? i : 0);
        domain_say(&domain, line);
        run();
    }
    tier_model_fail(model);
    turn();
    NOW("append t : y", "step 300 v301");
    tier_model_heal(model);
    turn();
    demote_all();
    IS("append t key=k300 : x", "step 299 v300 duplicate");
    IS("append t key=k240 : x", "step 239 v240 duplicate");
}
END_TEST

/* ---- Erasing ---- */

/* An erasure that the disk refused is asked for later, when the name is somebody else's. */
START_TEST(what_is_due_under_a_name_that_goes_on)
{
    NOW("append t : a", "step 0 v1 created");
    run();
    tier_model_fail(model);
    domain_wait(&domain, RETENTION_MS + 1);
    sweep();
    tier_model_heal(model);
    turn();
    NOW("append t : b", "step 1 v2 lost 1");
    run();
    ck_assert_uint_eq(tier_model_threads(model), 2);
    domain_wait(&domain, RETENTION_MS / 64 + 1);
    ck_assert_uint_eq(tier_model_due(model), 1);
    run(); /* in memory */
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("replay t", "partial t v2 head 1: 0?expired 1=b");
    demote_all();
    IS("replay t", "partial t v2 head 1 disk: 0?expired 1=b");
}
END_TEST

START_TEST(what_is_due_under_a_name_that_went_to_disk)
{
    NOW("append t : a", "step 0 v1 created");
    run();
    tier_model_fail(model);
    domain_wait(&domain, RETENTION_MS + 1);
    sweep();
    tier_model_heal(model);
    turn();
    NOW("append t : b", "step 1 v2 lost 1");
    demote_all();
    ck_assert_uint_eq(tier_model_threads(model), 2);
    ck_assert_uint_eq(tier_model_due(model), 1);
    run();
    ck_assert_uint_eq(tier_model_threads(model), 1);
    IS("replay t", "partial t v2 head 1 disk: 0?expired 1=b");
}
END_TEST

START_TEST(the_end_of_a_thread_on_a_disk_that_takes_no_writes)
{
    NOW("append t : a", "step 0 v1 created");
    demote_all();
    tier_model_fail(model);
    domain_wait(&domain, RETENTION_MS);
    IS("replay t", "miss expired v1");
    IS("append t : b", "step 1 v2 lost 1");
}
END_TEST

/* What was read before the erasure arrives after it, and no tombstone is left to speak up. */
START_TEST(a_load_that_was_overtaken_by_an_erasure)
{
    char line[64];
    settings.tombstones = 64;
    start_over();
    NOW("append t : a", "step 0 v1 created");
    run();
    NOW("forget t", "forgotten pending");
    for (int i = 0; i < 200; i++) {
        snprintf(line, sizeof line, "append u%d retention_ms=0 : x", i);
        domain_say(&domain, line);
        snprintf(line, sizeof line, "forget u%d", i);
        NOW(line, "forgotten");
    }
    NOW("replay t", "again");
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_READ, 1), 1);
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_LOG, 1), 1);
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_TREE, 1), 1);
    turn();
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_ANSWER, 1), 1);
    turn();
    IS("replay t", "miss forgotten v0");
}
END_TEST

/* ---- Step keys ---- */

START_TEST(a_key_of_an_earlier_life)
{
    NOW("append t response_id=r : a", "step 0 v1 created");
    demote_all();
    IS("replay - response_id=r", "complete t v1 head 0 disk: 0=a");
    NOW("forget t", "forgotten pending");
    run();
    IS("append t : other", "step 0 v1 created");
    IS("replay - response_id=r", "miss rewound v1");
}
END_TEST

START_TEST(a_damaged_key_may_have_been_anybodys)
{
    NOW("append a call=c : one", "step 0 v1 created");
    demote_all();
    ck_assert(tier_model_damage_key(model, RECORD_TOOL_CALL, bytes_text("c")));
    IS("append b call=c : two", "step 0 v1 created");
    IS("replay - tool_call=c", "miss ambiguous v0");
}
END_TEST

/* ---- Pressure and trouble ---- */

START_TEST(read_only_memory_is_served_however_much_waits)
{
    tier_settings.lag_max_bytes = 1;
    start_over();
    NOW("append t : a", "step 0 v1 created");
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_LOG, 1), 1);
    tier_model_fail(model);
    NOW("append u : b", "step 0 v1 created");
    NOW("append u ack=1 : c", "read_only ack");
    run();
}
END_TEST

START_TEST(what_was_refused_is_put_soon_after_it_heals)
{
    NOW("append t ttl_ms=50000 : a", "step 0 v1 created");
    tier_model_fail(model);
    turn();
    live_ms(500);
    tier_model_heal(model);
    live_ms(3000);
    ck_assert_uint_eq(tier_model_threads(model), 1);
}
END_TEST

START_TEST(the_disk_learns_of_uses_within_their_share_of_the_retention)
{
    struct tier_head head;
    NOW("append t ttl_ms=1000000 : a", "step 0 v1 created");
    live_ms(10000);
    for (int i = 0; i < 10; i++) {
        NOW("replay t", "complete t v1 head 0: 0=a");
        live_ms(2000);
    }
    ck_assert(tier_model_head(model, bytes_text("t"), &head));
    ck_assert_uint_ge(head.used_ms + 2000 + RETENTION_MS / 64, wall_ms());
}
END_TEST

START_TEST(a_closing_lane_tells_the_last_uses)
{
    struct tier_head head;
    NOW("append t ttl_ms=1000000 : a", "step 0 v1 created");
    run();
    domain_wait(&domain, 600);
    NOW("replay t", "complete t v1 head 0: 0=a");
    uint64_t used_ms = wall_ms();
    lane_offline(domain.lane);
    lane_settle(domain.lane);
    lane_online(domain.lane);
    close_domain();
    domain_open(&domain, settings);
    ck_assert(tier_model_head(model, bytes_text("t"), &head));
    ck_assert_uint_eq(head.used_ms, used_ms);
}
END_TEST

START_TEST(who_loads_gets_to_see_it_under_pressure)
{
    char line[64], answer[64];
    settings.memory_bytes = 4 << 20;
    start_over();
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "append t%d : x*65536", i);
        IS(line, "step 0 v1 created");
    }
    for (int i = 0; i < 300; i++) {
        snprintf(line, sizeof line, "replay t%d", i);
        snprintf(answer, sizeof answer, "complete t%d v1 head 0 disk: 0=x*65536", i);
        const char *said = say(line);
        ck_assert_msg(strncmp(said, "complete", 8) == 0, "%s: %s", line, said);
    }
}
END_TEST

/* Making room must not become a write of everything there is. */
START_TEST(pressure_asks_for_no_more_than_it_needs)
{
    char line[64];
    settings.memory_bytes = 32 << 20;
    start_over();
    for (int i = 0; i < 400; i++) {
        snprintf(line, sizeof line, "append t%d ttl_ms=1000000 : x*65536", i);
        IS(line, "step 0 v1 created");
    }
    run();
    domain_wait(&domain, 10);
    for (int i = 0; i < 400; i++) {
        snprintf(line, sizeof line, "touch t%d", i);
        IS(line, "touched");
    }
    uint64_t before = domain_metric(&domain, METRIC_DISK_CHANGES);
    for (int i = 400; i < 600; i++) {
        snprintf(line, sizeof line, "append t%d ttl_ms=1000000 : x*65536", i);
        NOW(line, "step 0 v1 created");
        if (domain_metric(&domain, METRIC_USED_BYTES) > UINT64_C(31) << 20) {
            break;
        }
    }
    turn();
    unsigned asked = tier_model_waiting(model, TIER_MODEL_LOG);
    ck_assert_uint_gt(domain_metric(&domain, METRIC_DISK_CHANGES) + asked, before);
    /* A sixteenth of the budget are 32 of these. */
    ck_assert_uint_lt(asked, 200);
    run();
}
END_TEST

START_TEST(time_before_the_machine_was_started)
{
    settings.max_age_ms = 100 * DOMAIN_START_MS;
    start_over();
    NOW("append t retention_ms=50000000 : a", "step 0 v1 created");
    run();
    close_domain();
    clock_driven_advance(&wall, 20 * DOMAIN_START_MS);
    domain_open(&domain, settings); /* its clock has only just begun */
    IS("stat t", "complete v1 steps 1 bytes 1 tokens 0 disk");
    ck_assert_uint_eq(domain.stat.age_ms, 20 * DOMAIN_START_MS);
    ck_assert_uint_eq(domain.stat.idle_ms, 20 * DOMAIN_START_MS);
    ck_assert_uint_eq(domain.expires_in_ms, 50000000 - 20 * DOMAIN_START_MS);
}
END_TEST

int main(void)
{
    return SUITE_RUN(
        "review_disk", setup, teardown, 30, what_retention_0_took_from_the_disk_is_listed,
        ack_disk_of_a_duplicate_that_never_was_on_disk, a_damaged_step_may_be_a_new_one,
        a_damaged_step_hides_no_turn, a_step_stays_itself_for_as_long_as_it_is_pinned,
        a_whole_put_remembers_the_newest_keys, what_is_due_under_a_name_that_goes_on,
        what_is_due_under_a_name_that_went_to_disk,
        the_end_of_a_thread_on_a_disk_that_takes_no_writes, a_load_that_was_overtaken_by_an_erasure,
        a_key_of_an_earlier_life, a_damaged_key_may_have_been_anybodys,
        read_only_memory_is_served_however_much_waits, what_was_refused_is_put_soon_after_it_heals,
        the_disk_learns_of_uses_within_their_share_of_the_retention,
        a_closing_lane_tells_the_last_uses, who_loads_gets_to_see_it_under_pressure,
        pressure_asks_for_no_more_than_it_needs, time_before_the_machine_was_started);
}
