/* Expiry on the driven clock, and eviction within a small budget. */
#include "thread/sweep.h"

#include "tests/lib/crew.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "thread/lane.h"

enum { BUDGET = 16 << 20, SLACK = 2 << 20, STEP_BYTES = 8000, MANY = 6000, PINNED = 250 };

static struct domain domain;

static void open_with(uint64_t memory_bytes, uint64_t ttl_ms)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = memory_bytes;
    settings.ttl_ms = ttl_ms;
    settings.tombstones = 1 << 15;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&domain, settings);
}

static void setup(void)
{
    open_with(BUDGET, DOMAIN_TTL_MS);
}

static void teardown(void)
{
    domain_close(&domain);
}

/* ---- expiry ---- */

START_TEST(ticks_come_after_deadlines)
{
    for (uint64_t now_ms = 0; now_ms < (UINT64_C(1) << 23) * 2; now_ms += 77777) {
        for (uint64_t ttl_ms = 1; ttl_ms < 10000000; ttl_ms = ttl_ms * 3 + 1) {
            uint16_t tick = sweep_tick(now_ms, now_ms + ttl_ms);
            uint16_t now_tick = (uint16_t)(now_ms / SWEEP_TICK_MS);
            uint64_t ahead = (uint16_t)(tick - now_tick);
            ck_assert_uint_ne(tick, 0);
            ck_assert_uint_ge(ahead, 1);
            ck_assert_uint_le(ahead, INDEX_TICKS_AHEAD_MAX);
            uint64_t due_ms = (now_ms / SWEEP_TICK_MS + ahead) * SWEEP_TICK_MS;
            bool capped = ahead >= INDEX_TICKS_AHEAD_MAX - 1;
            ck_assert(capped || due_ms > now_ms + ttl_ms);
            ck_assert(capped || due_ms <= now_ms + ttl_ms + 2 * SWEEP_TICK_MS);
        }
    }
}
END_TEST

/* At the deadline and not a millisecond before, whatever asks and whether or not it was swept. */
START_TEST(gone_exactly_at_the_deadline)
{
    static const char *const asks[] = {"replay t", "replay t touch=0", "stat t",
                                       "touch t",  "fork f from=t",    "rewind t to=0",
                                       "forget t", "append t : more",  "replay - response_id=r"};
    static const char *const there[] = {"complete t v1 head 0: 0=x",
                                        "complete t v1 head 0: 0=x",
                                        "complete v1 steps 1 bytes 1 tokens 0",
                                        "touched",
                                        "v1",
                                        "v2 dropped 0",
                                        "forgotten",
                                        "step 1 v2",
                                        "complete t v1 head 0: 0=x"};
    static const char *const gone[] = {
        "miss expired v1", "miss expired v1",        "miss expired v1",
        "missing expired", "not_found from expired", "not_found thread expired",
        "nothing",         "step 1 v2 lost 1",       "miss expired v0"};
    static const uint64_t ttls_ms[] = {1, 2, 127, 128, 129, 1000, 300000};
    for (size_t i = 0; i < sizeof asks / sizeof *asks; i++) {
        for (size_t k = 0; k < 2 * sizeof ttls_ms / sizeof *ttls_ms; k++) {
            for (int late = 0; late < 2; late++) {
                char line[64];
                uint64_t ttl_ms = ttls_ms[k / 2];
                snprintf(line, sizeof line, "append t ttl_ms=%lu response_id=r expect=0 : x",
                         (unsigned long)ttl_ms);
                ck_assert_str_eq(domain_say(&domain, line), "step 0 v1 created");
                domain_wait(&domain, ttl_ms - 1);
                if (k % 2) {
                    lane_tend_fully(domain.lane);
                }
                domain_wait(&domain, (uint64_t)late);
                ck_assert_str_eq(domain_say(&domain, asks[i]), late ? gone[i] : there[i]);
                domain_say(&domain, "forget t");
                domain_say(&domain, "forget f");
            }
        }
    }
}
END_TEST

START_TEST(uses_refresh_and_looks_do_not)
{
    static const struct {
        const char *ask;
        bool refreshes;
    } uses[] = {{"append t : y", true},
                {"replay t", true},
                {"replay t last=1", true},
                {"replay t policy=none", true},
                {"replay t have=1,0", true},
                {"touch t", true},
                {"replay - response_id=r", true},
                {"replay t touch=1", true},
                {"replay t touch=0", false},
                {"replay - response_id=r touch=0", false},
                {"stat t", false},
                {"fork f from=t", false},
                {"rewind t to=0", false},
                {"append t expect=77 : y", false}};
    for (size_t i = 0; i < sizeof uses / sizeof *uses; i++) {
        SAY("append t response_id=r : x", "step 0 v1 created");
        domain_wait(&domain, DOMAIN_TTL_MS - 1);
        domain_say(&domain, uses[i].ask);
        domain_say(&domain, "forget f");
        domain_wait(&domain, 1);
        lane_tend_fully(domain.lane);
        bool there = strncmp(domain_say(&domain, "replay t touch=0"), "complete", 8) == 0;
        ck_assert_msg(there == uses[i].refreshes, "%s", uses[i].ask);
        if (there) {
            domain_wait(&domain, DOMAIN_TTL_MS - 2);
            ck_assert_int_eq(strncmp(domain_say(&domain, "replay t touch=0"), "complete", 8), 0);
            domain_wait(&domain, 1);
            ck_assert_int_eq(strncmp(domain_say(&domain, "replay t touch=0"), "miss expired", 12),
                             0);
        }
        SAY("append t expect=0 : z", "step 0 v1 created");
        SAY("forget t", "forgotten");
    }
}
END_TEST

START_TEST(the_sweep_frees_what_nobody_asks_for)
{
    char line[64];
    for (int i = 0; i < 1000; i++) {
        snprintf(line, sizeof line, "append t%d ttl_ms=%d : x*1000", i, 100 + i % 900);
        domain_say(&domain, line);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 1000000);
    uint64_t live = 1000;
    while (live > 0) {
        domain_wait(&domain, 50);
        for (int turns = 0; turns < 10; turns++) {
            lane_tend(domain.lane);
        }
        uint64_t now_live = domain_metric(&domain, METRIC_THREADS_LIVE);
        ck_assert_uint_le(now_live, live);
        live = now_live;
        /* A pass takes half a second, a tick an eighth: nobody stays two seconds too long. */
        ck_assert_uint_lt(clock_read_ms(&domain.clock.clock), DOMAIN_START_MS + 1000 + 2000);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EXPIRED), 1000);
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

START_TEST(a_shortened_ttl_is_swept_in_time)
{
    SAY("append t ttl_ms=30000000 : x", "step 0 v1 created");
    SAY("append u ttl_ms=30000000 : x", "step 0 v1 created");
    SAY("touch t ttl_ms=100", "touched");
    SAY("append u ttl_ms=100 : y", "step 1 v2");
    domain_wait(&domain, 100 + 2 * SWEEP_TICK_MS);
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}
END_TEST

START_TEST(far_deadlines_are_kept_and_met)
{
    const uint64_t day_ms = 24 * 3600 * 1000;
    SAY("append t ttl_ms=864000000 : x", "step 0 v1 created"); /* ten days */
    for (uint64_t waited_ms = 0; waited_ms < 10 * day_ms - 1800000; waited_ms += 1800000) {
        domain_wait(&domain, 1800000);
        lane_tend_fully(domain.lane);
        ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 1);
    }
    domain_wait(&domain, 1800000 - 1);
    SAY("replay t touch=0", "complete t v1 head 0: 0=x");
    domain_wait(&domain, 1 + 2 * SWEEP_TICK_MS);
    lane_tend_fully(domain.lane);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}
END_TEST

/* ---- eviction ---- */

struct filled {
    uint32_t thread;
    uint32_t number;
    uint8_t rest[STEP_BYTES - 8];
};

static void fill(struct filled *filled, uint32_t thread, uint32_t number)
{
    filled->thread = thread;
    filled->number = number;
    memset(filled->rest, (int)(thread * 31 + number), sizeof filled->rest);
}

static bool is_filled(const struct step_view *view, uint32_t thread, uint32_t number)
{
    struct filled want;
    fill(&want, thread, number);
    return bytes_equal(view->payload, bytes_of(&want, sizeof want));
}

static uint64_t append_filled(struct lane *lane, uint32_t thread)
{
    struct ask ask;
    struct filled filled;
    struct thread_append_result result;
    struct thread_stat_result stat;
    struct wire_error error;
    char id[16];
    snprintf(id, sizeof id, "%u", thread);
    ask_begin(&ask, WIRE_METHOD_STAT, bytes_text(id));
    thread_stat(lane, &ask.request, &stat, &error);
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
    fill(&filled, thread,
         stat.state == THREAD_MISS ? (uint32_t)stat.version : (uint32_t)stat.step_count);
    ask_payload(&ask, bytes_of(&filled, sizeof filled));
    enum status status = domain_append(lane, &ask, &result, &error);
    CREW_HOLDS(status == STATUS_OK);
    return result.lost;
}

/* True: there, and exact; false: gone as evicted. */
static bool check_thread(struct lane *lane, uint32_t thread, bool touch)
{
    struct ask ask;
    struct thread_replay_result result;
    struct wire_error error;
    char id[16];
    snprintf(id, sizeof id, "%u", thread);
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
    ask_set(&ask, touch, touch);
    CREW_HOLDS(domain_replay(lane, &ask, &result, &error) == STATUS_OK);
    if (result.state == THREAD_MISS) {
        CREW_HOLDS(result.reason == REASON_EVICTED || result.version == 0);
        return false;
    }
    for (uint32_t at = result.begin; at < result.end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(lane, &result, at, &missing);
        CREW_HOLDS(step || missing == REASON_EVICTED || missing == REASON_BUDGET);
        if (step) {
            struct step_view view;
            step_view(step, &view);
            CREW_HOLDS(is_filled(&view, thread, at));
        }
    }
    return true;
}

START_TEST(the_budget_is_kept_and_the_evicted_say_so)
{
    enum { HOT = 10 };
    unsigned there = 0, evicted = 0;
    for (uint32_t thread = 0; thread < MANY; thread++) {
        append_filled(domain.lane, thread);
        if (thread % 16 == 0) {
            for (uint32_t hot = 0; hot < HOT && hot < thread; hot++) {
                ck_assert(check_thread(domain.lane, hot, true)); /* used ones stay */
            }
            lane_tend(domain.lane);
        }
        ck_assert_uint_le(domain_metric(&domain, METRIC_USED_BYTES), BUDGET + SLACK);
    }
    for (uint32_t thread = 0; thread < MANY; thread++) {
        bool is_there = check_thread(domain.lane, thread, false);
        there += is_there;
        evicted += !is_there;
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EVICTED), evicted);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), there);
    /* Not more than needed: most of the budget is in use. */
    ck_assert_uint_gt(there, BUDGET / STEP_BYTES / 2);
    SAY("append gone : x", "step 0 v1 created");
}
END_TEST

START_TEST(the_evicted_continue)
{
    uint32_t thread = 0;
    do {
        append_filled(domain.lane, thread++);
        lane_tend(domain.lane);
    } while (check_thread(domain.lane, 0, false));
    SAY("replay 0", "miss evicted v1");
    ck_assert_uint_eq(append_filled(domain.lane, 0), 1);
    SAY("stat 0", "partial v2 steps 2 bytes 8000 tokens 0");
    ck_assert(check_thread(domain.lane, 0, false));
}
END_TEST

START_TEST(large_steps_find_room)
{
    char line[64];
    for (int i = 0; i < 60; i++) {
        struct ask ask;
        struct thread_append_result result;
        static uint8_t payload[7 << 20];
        size_t size = i % 3 == 0 ? sizeof payload : i % 3 == 1 ? 100000 : 3 << 20;
        snprintf(line, sizeof line, "large%d", i);
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(line));
        ask_payload(&ask, bytes_of(payload, size));
        ck_assert_int_eq(domain_append(domain.lane, &ask, &result, &domain.error), STATUS_OK);
        ck_assert_uint_le(domain_metric(&domain, METRIC_USED_BYTES), BUDGET + SLACK);
        lane_tend(domain.lane);
    }
}
END_TEST

/* A pinned step's bytes stay for as long as the pin, whatever comes in their place. */
START_TEST(pins_keep_bytes_until_unpinned)
{
    struct ask ask;
    struct thread_replay_result result;
    struct step_view view;
    const struct step *pinned[PINNED];
    enum reason missing;
    for (uint32_t thread = 0; thread < PINNED; thread++) {
        char id[16];
        append_filled(domain.lane, thread);
        snprintf(id, sizeof id, "%u", thread);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error), 0);
        pinned[thread] = thread_replay_step(domain.lane, &result, 0, &missing);
        step_pin(pinned[thread]);
        step_pin(pinned[thread]);
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
        struct thread_forget_result forgotten = {0};
        thread_forget(domain.lane, &ask.request, &forgotten, &domain.error);
    }
    for (uint32_t thread = PINNED; thread < MANY; thread++) {
        lane_offline(domain.lane);
        lane_online(domain.lane);
        append_filled(domain.lane, thread);
        lane_tend(domain.lane);
    }
    for (unsigned unpins = 0; unpins < 2; unpins++) {
        lane_offline(domain.lane);
        for (uint32_t thread = 0; thread < PINNED; thread++) {
            step_view(pinned[thread], &view); /* offline: the pin alone holds it */
            ck_assert(is_filled(&view, thread, 0));
            step_unpin(pinned[thread]);
        }
        lane_online(domain.lane);
        for (int tends = 0; unpins == 0 && tends < 8; tends++) {
            lane_tend_fully(domain.lane);
        }
    }
    for (uint32_t thread = PINNED; thread < MANY; thread++) {
        char line[32];
        snprintf(line, sizeof line, "forget %u", thread);
        domain_say(&domain, line);
    }
    for (int tends = 0; tends < 8; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

/* ---- eviction while others read ---- */

static _Atomic uint32_t written;

static void write_many(struct mate *mate)
{
    uint32_t count = (uint32_t)trial_count(2 * MANY);
    for (uint32_t i = 0; i < count; i++) {
        append_filled(mate->lane, mate->number * 1000000 + i * 2 / 3);
        atomic_store_explicit(&written, i, memory_order_release); /* for readers */
        uint64_t values[METRIC_COUNT];
        threads_metrics(mate->lane, values);
        CREW_HOLDS(values[METRIC_USED_BYTES] <= BUDGET + SLACK);
        crew_turn(mate);
    }
    crew_done(mate);
}

static void read_many(struct mate *mate)
{
    const struct step *pinned = NULL;
    uint32_t pinned_thread = 0;
    while (crew_works(mate)) {
        uint32_t last = atomic_load_explicit(&written, memory_order_acquire) + 1; /* as above */
        uint32_t near = (uint32_t)trial_below(&mate->random, last < 2000 ? last : 2000);
        uint32_t thread = (uint32_t)trial_below(&mate->random, 2) * 1000000 + (last - near) * 2 / 3;
        check_thread(mate->lane, thread, trial_below(&mate->random, 4) == 0);
        if (pinned) {
            struct step_view view;
            step_view(pinned, &view);
            CREW_HOLDS(is_filled(&view, pinned_thread, view.number));
            step_unpin(pinned);
            pinned = NULL;
        }
        struct ask ask;
        struct thread_replay_result result;
        struct wire_error error;
        char id[16];
        snprintf(id, sizeof id, "%u", thread);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        enum reason missing;
        if (thread_replay(mate->lane, &ask.request, &result, &error) == STATUS_OK &&
            result.end > result.begin) {
            pinned = thread_replay_step(mate->lane, &result, result.end - 1, &missing);
            pinned_thread = thread;
            step_pin(pinned);
        }
        for (int turns = 0; turns < 20; turns++) {
            crew_turn(mate);
        }
    }
    if (pinned) {
        step_unpin(pinned);
    }
}

START_TEST(readers_see_whole_threads_or_evicted)
{
    crew_run(&domain, 2, 4,
             (void (*const[])(struct mate *)){write_many, write_many, read_many, read_many});
    ck_assert_uint_gt(domain_metric(&domain, METRIC_EVICTED), 0);
}
END_TEST

/* ---- The books ---- */

static void say_random(uint64_t *random)
{
    char line[128];
    unsigned t = (unsigned)trial_below(random, 12), u = (unsigned)trial_below(random, 12);
    switch (trial_below(random, 10)) {
    case 0:
        snprintf(line, sizeof line, "fork t%u from=t%u", t, u);
        break;
    case 1:
        snprintf(line, sizeof line, "rewind t%u to=%d", t, (int)trial_below(random, 5) - 1);
        break;
    case 2:
        snprintf(line, sizeof line, "forget t%u", t);
        break;
    case 3:
        snprintf(line, sizeof line, "append t%u ttl_ms=1 call=c%u : short", t, u);
        break;
    default:
        snprintf(line, sizeof line, "append t%u call=c%u call=d%u response_id=r%u : word*%u", t, u,
                 u, t, (unsigned)trial_below(random, 300) + 1);
    }
    domain_say(&domain, line);
}

/* What eviction counts as leaving is gone when it has left: anything else would mislead for ever.
 */
START_TEST(nothing_stays_counted_as_leaving)
{
    uint64_t random = 5;
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 500; i++) {
            say_random(&random);
            if (trial_below(&random, 20) == 0) {
                domain_wait(&domain, 1);
                lane_tend(domain.lane);
            }
        }
        ck_assert_int_ge(atomic_load(&domain.lane->leaving_bytes), 0);
        lane_tend_fully(domain.lane);
        ck_assert_int_eq(atomic_load(&domain.lane->leaving_bytes), 0);
        ck_assert_uint_eq(domain.lane->burial_steps, 0);
    }
    domain_wait(&domain, DOMAIN_TTL_MS);
    lane_tend_fully(domain.lane);
    ck_assert_int_eq(atomic_load(&domain.lane->payload_bytes), 0);
    ck_assert_int_eq(atomic_load(&domain.lane->leaving_bytes), 0);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("sweep", setup, teardown, 0, ticks_come_after_deadlines,
                     gone_exactly_at_the_deadline, uses_refresh_and_looks_do_not,
                     the_sweep_frees_what_nobody_asks_for, a_shortened_ttl_is_swept_in_time,
                     far_deadlines_are_kept_and_met, the_budget_is_kept_and_the_evicted_say_so,
                     the_evicted_continue, large_steps_find_room, pins_keep_bytes_until_unpinned,
                     readers_see_whole_threads_or_evicted, nothing_stays_counted_as_leaving);
}
