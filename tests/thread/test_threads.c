/* The domain as a whole: lanes that come and go, counters, and memory as the system sees it. */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

#include <unistd.h>

/* Shadow memory makes the process's size another thing. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define HAS_SHADOW 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define HAS_SHADOW 1
#endif
#endif
#ifndef HAS_SHADOW
#define HAS_SHADOW 0
#endif

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

static uint64_t resident_bytes(void)
{
    unsigned long whole = 0, resident = 0;
    FILE *statm = fopen("/proc/self/statm", "r");
    CREW_HOLDS(statm && fscanf(statm, "%lu %lu", &whole, &resident) == 2);
    fclose(statm);
    return (uint64_t)resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

START_TEST(metrics_say_what_happened)
{
    SAY("append t : aaaa", "step 0 v1 created");
    SAY("append t key=k : bb", "step 1 v2");
    SAY("append t key=k : bb", "step 1 v2 duplicate");
    SAY("fork f from=t", "v2");
    SAY("append f : c", "step 2 v3");
    SAY("rewind f to=0", "v4 dropped 2");
    SAY("append g : dddddd", "step 0 v1 created");
    SAY("forget g", "forgotten");
    SAY("append h ttl_ms=10 : e", "step 0 v1 created");
    domain_wait(&domain, 10);
    SAY("stat h", "miss expired v1");
    for (int tends = 0; tends < 3; tends++) {
        lane_tend_fully(domain.lane);
    }
    static const struct {
        enum metric metric;
        uint64_t value;
    } want[] = {{METRIC_APPENDS, 5},
                {METRIC_DUPLICATES, 1},
                {METRIC_FORKS, 1},
                {METRIC_REWINDS, 1},
                {METRIC_FORGOTTEN, 1},
                {METRIC_EXPIRED, 1},
                {METRIC_EVICTED, 0},
                {METRIC_THREADS_CREATED, 4},
                {METRIC_THREADS_LIVE, 2},
                {METRIC_TOMBSTONES, 2},
                {METRIC_PAYLOAD_BYTES, 6},
                {METRIC_VOUCH_MS, 10},
                {METRIC_BUDGET_BYTES, 64 << 20}};
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        ck_assert_msg(domain_metric(&domain, want[i].metric) == want[i].value, "metric %d is %lu",
                      (int)want[i].metric, (unsigned long)domain_metric(&domain, want[i].metric));
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_USED_BYTES),
                      domain_metric(&domain, METRIC_PAYLOAD_BYTES) +
                          domain_metric(&domain, METRIC_OVERHEAD_BYTES));
}
END_TEST

START_TEST(charges_count_and_come_back)
{
    uint64_t before = domain_metric(&domain, METRIC_USED_BYTES);
    lane_charge(domain.lane, 5 << 20);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_USED_BYTES), before + (5 << 20));
    lane_charge(domain.lane, -(5 << 20));
    ck_assert_uint_eq(domain_metric(&domain, METRIC_USED_BYTES), before);
}
END_TEST

START_TEST(lanes_are_bounded_and_come_again)
{
    struct lane *lanes[16];
    for (int round = 0; round < 3; round++) {
        unsigned opened = 0;
        while (opened < 16 && (lanes[opened] = lane_open(domain.threads, 0, 1))) {
            lane_online(lanes[opened]);
            lane_count(lanes[opened], METRIC_REQUESTS, 1);
            lane_offline(lanes[opened]);
            opened++;
        }
        ck_assert_uint_eq(opened, 7);
        while (opened > 0) {
            lane_close(lanes[--opened]);
        }
        ck_assert_uint_eq(domain_metric(&domain, METRIC_REQUESTS), 7 * ((uint64_t)round + 1));
    }
}
END_TEST

/* A lane that leaves with burials and retired steps passes them on. */
START_TEST(what_a_closed_lane_left_is_reclaimed)
{
    for (int round = 0; round < 20; round++) {
        struct lane *other = lane_open(domain.threads, 0, 1);
        struct ask ask;
        struct thread_append_result result;
        struct thread_forget_result forgotten = {0};
        lane_online(other);
        lane_read_clock(other);
        for (int i = 0; i < 100; i++) {
            ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text("t"));
            ask_payload(&ask, bytes_text("payload"));
            ck_assert_int_eq(thread_append(other, &ask.request, &result, &domain.error), STATUS_OK);
        }
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text("t"));
        ck_assert_int_eq(thread_forget(other, &ask.request, &forgotten, &domain.error), STATUS_OK);
        lane_offline(other);
        lane_close(other);
    }
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

/* A reply that is never sent must not keep the domain from being taken down. */
START_TEST(the_last_lane_closes_over_a_pin)
{
    struct lane *other = lane_open(domain.threads, 0, 1);
    struct ask ask;
    struct thread_replay_result result;
    enum reason missing;
    lane_offline(domain.lane);
    lane_close(domain.lane);
    domain.lane = other;
    lane_online(other);
    lane_read_clock(other);
    SAY("append t : x", "step 0 v1 created");
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text("t"));
    ck_assert_int_eq(thread_replay(other, &ask.request, &result, &domain.error), STATUS_OK);
    step_pin(thread_replay_step(other, &result, 0, &missing));
    SAY("forget t", "forgotten");
}
END_TEST

static void open_and_close(struct mate *mate)
{
    for (uint64_t i = 0; i < trial_count(1500); i++) {
        struct lane *lane = lane_open(mate->crew->domain->threads, 0, 1);
        struct ask ask;
        struct thread_append_result result;
        struct wire_error error;
        struct thread_forget_result forgotten = {0};
        char id[16];
        if (!lane) {
            continue;
        }
        lane_online(lane);
        lane_read_clock(lane);
        snprintf(id, sizeof id, "lane%u", mate->number);
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
        ask_payload(&ask, bytes_text(id));
        CREW_HOLDS(domain_append(lane, &ask, &result, &error) == STATUS_OK);
        CREW_HOLDS(result.created && result.step == 0);
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
        CREW_HOLDS(thread_forget(lane, &ask.request, &forgotten, &error) == STATUS_OK);
        lane_offline(lane);
        lane_close(lane);
        crew_turn(mate);
    }
    crew_done(mate);
}

START_TEST(lanes_open_while_others_close)
{
    domain_close(&domain);
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(1) << 30; /* tombstones hold spans of caches that closed */
    domain_open(&domain, settings);
    crew_run(&domain, 3, 3,
             (void (*const[])(struct mate *)){open_and_close, open_and_close, open_and_close});
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

/* ---- memory as the system sees it ---- */

START_TEST(used_bytes_follow_the_process)
{
    enum { MIB = 1 << 20, STEPS = 60000 };
    domain_close(&domain);
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(1) << 30;
    domain_open(&domain, settings);
    static uint8_t payload[16384];
    struct ask ask;
    struct thread_append_result result;
    uint64_t steps = trial_count(STEPS), sum = 0;
    uint64_t resident = resident_bytes(), used = domain_metric(&domain, METRIC_USED_BYTES);
    memset(payload, 0x5a, sizeof payload);
    for (uint64_t i = 0; i < steps; i++) {
        char id[16];
        size_t size = 100 + (size_t)(i * 7919 % 7000);
        snprintf(id, sizeof id, "t%lu", (unsigned long)(i % 5000));
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
        ask_payload(&ask, bytes_of(payload, size));
        ck_assert_int_eq(thread_append(domain.lane, &ask.request, &result, &domain.error), 0);
        sum += size;
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), sum);
    int64_t grown = (int64_t)(resident_bytes() - resident);
    int64_t counted = (int64_t)(domain_metric(&domain, METRIC_USED_BYTES) - used);
    int64_t apart = grown > counted ? grown - counted : counted - grown;
    ck_assert_msg(HAS_SHADOW || apart < counted / 10 + 4 * MIB, "grew by %ld, counted %ld",
                  (long)grown, (long)counted);
    ck_assert_int_gt(counted, (int64_t)sum);
    /* And it is not wasteful: a fourth, and a span of each size class that was begun. */
    ck_assert_int_lt(counted, (int64_t)(sum + sum / 4 + settings.memory_bytes / 64));
    for (uint64_t t = 0; t < 5000; t++) {
        char line[32];
        snprintf(line, sizeof line, "forget t%lu", (unsigned long)t);
        domain_say(&domain, line);
    }
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    counted = (int64_t)(domain_metric(&domain, METRIC_USED_BYTES) - used);
    ck_assert_int_lt(counted, 6 * MIB);
    ck_assert(HAS_SHADOW ||
              resident_bytes() < resident + 10 * MIB + domain_metric(&domain, METRIC_STOCK_BYTES));
}
END_TEST

/* Records, spines, steps, recalled keys and tombstones: all of it comes free. */
START_TEST(coming_and_going_leaves_nothing)
{
    uint64_t used = 0, rounds = trial_count(40000);
    for (uint64_t i = 0; i < rounds + 10000; i++) {
        if (i == 10000) { /* the ring is full by now */
            used = domain_metric(&domain, METRIC_USED_BYTES);
        }
        domain_say(&domain, "append t key=k response_id=r : x");
        domain_say(&domain, "append t key=l call=c : x");
        for (int more = 0; more < 20; more++) { /* the spine grows */
            domain_say(&domain, "append t : x");
        }
        domain_say(&domain, "fork f from=t");
        domain_say(&domain, "append f : x");
        domain_say(&domain, "rewind t to=0");
        domain_say(&domain, "forget t");
        domain_say(&domain, "forget f");
        if (i % 16 == 0) {
            lane_tend(domain.lane);
        }
    }
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_le(domain_metric(&domain, METRIC_USED_BYTES), used + rounds * 16);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("threads", setup, teardown, 0, metrics_say_what_happened,
                     charges_count_and_come_back, lanes_are_bounded_and_come_again,
                     what_a_closed_lane_left_is_reclaimed, the_last_lane_closes_over_a_pin,
                     lanes_open_while_others_close, used_bytes_follow_the_process,
                     coming_and_going_leaves_nothing);
}
