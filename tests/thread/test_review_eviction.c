/* Eviction takes what is in excess and no more, and goes on while slow readers hold what is gone.
 */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

static struct domain domain;
static uint8_t payload[1 << 20];

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.ttl_ms = 1000000;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    domain_close(&domain);
}

static void turn(void)
{
    lane_tend(domain.lane);
    lane_offline(domain.lane);
    lane_online(domain.lane);
    lane_read_clock(domain.lane);
}

/* size_bytes 0: a bare step. */
static enum status put(const char *id, size_t size_bytes)
{
    struct ask ask;
    struct thread_append_result result;
    static const struct wire_list none;
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
    if (size_bytes > 0) {
        ask_payload(&ask, bytes_of(payload, size_bytes));
    } else {
        ask_set(&ask, segments, none);
    }
    enum status status = STATUS_AGAIN;
    for (int attempt = 0; status == STATUS_AGAIN && attempt < 1000; attempt++) {
        if (attempt > 0) {
            turn();
        }
        status = thread_append(domain.lane, &ask.request, &result, &domain.error);
    }
    return status;
}

static bool forget(const char *id)
{
    struct ask ask;
    struct thread_forget_result forgotten = {0};
    ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
    thread_forget(domain.lane, &ask.request, &forgotten, &domain.error);
    return forgotten.forgotten;
}

/* Readers that took a part of a big step keep it pinned after its thread is gone. */
START_TEST(pinned_steps_do_not_stop_eviction)
{
    enum { PINNED = 8 };
    const struct step *pinned[PINNED];
    char id[16];
    for (int i = 0; i < PINNED; i++) {
        struct ask ask;
        struct thread_replay_result result;
        enum reason missing;
        snprintf(id, sizeof id, "pinned%d", i);
        ck_assert_int_eq(put(id, sizeof payload), STATUS_OK);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        ck_assert_int_eq(thread_replay(domain.lane, &ask.request, &result, &domain.error),
                         STATUS_OK);
        pinned[i] = thread_replay_step(domain.lane, &result, 0, &missing);
        step_pin(pinned[i]);
        ck_assert(forget(id));
    }
    unsigned refused = 0;
    for (int i = 0; i < 40000 && refused == 0; i++) {
        snprintf(id, sizeof id, "t%d", i);
        refused += put(id, 2000) != STATUS_OK;
        if (i % 64 == 0) {
            turn();
        }
    }
    uint64_t evicted = domain_metric(&domain, METRIC_EVICTED);
    for (int i = 0; i < PINNED; i++) {
        step_unpin(pinned[i]);
    }
    ck_assert_uint_eq(refused, 0);
    ck_assert_uint_gt(evicted, 0);
}
END_TEST

/* A long thread's steps are let go over many turns: what waits for that is on its way out. */
START_TEST(what_waits_for_burial_is_not_evicted_twice)
{
    char id[16];
    enum { LONG_STEPS = 100000, FULL_BYTES = 60 << 20, BURST_BYTES = 3 << 20 };
    bool full = false;
    for (int i = 0; !full; i++) {
        snprintf(id, sizeof id, "long%d", i / LONG_STEPS);
        ck_assert_int_eq(put(id, 0), STATUS_OK);
        if (i % 1024 == 0) {
            turn();
            full = domain_metric(&domain, METRIC_USED_BYTES) > FULL_BYTES - (512 << 10);
        }
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EVICTED), 0);
    for (size_t bytes = 0; bytes < BURST_BYTES; bytes += sizeof payload) {
        ck_assert_int_eq(put("burst", sizeof payload), STATUS_OK);
    }
    for (int i = 0; i < 5000; i++) {
        turn();
    }
    /* Some 3 MB are in excess, and a long thread has some 5 MB. */
    ck_assert_uint_le(domain_metric(&domain, METRIC_EVICTED), 3);
}
END_TEST

/* Short-lived forks of a long thread: some hundred bytes of requests. */
START_TEST(forgotten_forks_do_not_evict_others)
{
    char id[16];
    enum { LONG_STEPS = 300000, OTHERS = 5000, FORKS = 32 };
    for (int i = 0; i < LONG_STEPS; i++) {
        ck_assert_int_eq(put("long", 0), STATUS_OK);
        if (i % 1024 == 0) {
            turn();
        }
    }
    for (int i = 0; i < OTHERS; i++) {
        snprintf(id, sizeof id, "t%d", i);
        ck_assert_int_eq(put(id, 2000), STATUS_OK);
    }
    for (int i = 0; i < 8; i++) {
        turn();
    }
    for (int i = 0; i < FORKS; i++) {
        struct ask ask;
        struct thread_fork_result result;
        ask_begin(&ask, WIRE_METHOD_FORK, bytes_text("fork"));
        ask_set(&ask, from, bytes_text("long"));
        if (thread_fork(domain.lane, &ask.request, &result, &domain.error) == STATUS_OK) {
            ck_assert(forget("fork"));
        }
    }
    for (int i = 0; i < 20000; i++) {
        turn();
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EVICTED), 0);
}
END_TEST

int main(void)
{
    return SUITE_RUN("review_eviction", setup, teardown, 60, pinned_steps_do_not_stop_eviction,
                     what_waits_for_burial_is_not_evicted_twice,
                     forgotten_forks_do_not_evict_others);
}
