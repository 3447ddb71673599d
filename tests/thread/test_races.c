/* Writers that race on one thread, on its creation, on its deadline and on step keys. */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

static struct domain domain;

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(1) << 30;
    settings.tombstones = 1 << 20;
    settings.frame_max_bytes = 64 << 20;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    domain_close(&domain);
}

/* ---- two writers, one thread ---- */

enum { VERSIONS_AT_ONCE = 5000 }; /* of one thread; then the next one */

struct bid {
    uint32_t round, version, writer;
};

static uint64_t races;
static _Atomic uint32_t *winners; /* writer + 1 by race */

static void ask_bid(struct ask *ask, char id[16], const struct bid *bid)
{
    snprintf(id, 16, "race%u", bid->round);
    ask_begin(ask, WIRE_METHOD_APPEND, bytes_text(id));
    ask_payload(ask, bytes_of(bid, sizeof *bid));
}

static void race_with_expect(struct mate *mate)
{
    struct ask ask;
    char id[16];
    for (uint32_t round = 0; (uint64_t)round * VERSIONS_AT_ONCE < races; round++) {
        for (uint32_t version = 0; version < VERSIONS_AT_ONCE;) {
            struct bid bid = {round, version, mate->number};
            struct thread_append_result result;
            struct wire_error error;
            ask_bid(&ask, id, &bid);
            ask_set(&ask, expect, version);
            enum status status = thread_append(mate->lane, &ask.request, &result, &error);
            if (status == STATUS_OK) {
                uint64_t race = (uint64_t)round * VERSIONS_AT_ONCE + version;
                CREW_HOLDS(result.version == version + 1 && result.step == version);
                CREW_HOLDS(result.created == (version == 0));
                /* Relaxed: read after the join. */
                CREW_HOLDS(atomic_exchange_explicit(&winners[race], mate->number + 1,
                                                    memory_order_relaxed) == 0);
                version++;
            } else if (status == STATUS_CONFLICT && strcmp(error.cause, "claimed") != 0) {
                CREW_HOLDS(strcmp(error.cause, version ? "version" : "exists") == 0);
                CREW_HOLDS(error.version > version);
                version = (uint32_t)error.version;
            } else {
                CREW_HOLDS(status == STATUS_CONFLICT || status == STATUS_AGAIN);
            }
            if (version % 64 == 0) {
                crew_turn(mate);
            }
        }
    }
    crew_done(mate);
}

START_TEST(exactly_one_wins_each_version)
{
    races = trial_count(100000);
    races = (races + VERSIONS_AT_ONCE - 1) / VERSIONS_AT_ONCE * VERSIONS_AT_ONCE;
    winners = calloc(races, sizeof *winners);
    crew_run(&domain, 2, 2, (void (*const[])(struct mate *)){race_with_expect, race_with_expect});
    unsigned won[2] = {0};
    for (uint32_t round = 0; (uint64_t)round * VERSIONS_AT_ONCE < races; round++) {
        struct ask ask;
        struct thread_replay_result result;
        char id[16];
        snprintf(id, sizeof id, "race%u", round);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        ck_assert_int_eq(domain_replay(domain.lane, &ask, &result, &domain.error), STATUS_OK);
        ck_assert_int_eq(result.state, THREAD_COMPLETE);
        ck_assert_uint_eq(result.version, VERSIONS_AT_ONCE);
        ck_assert_uint_eq(result.end, VERSIONS_AT_ONCE);
        for (uint32_t at = 0; at < result.end; at++) {
            enum reason missing;
            struct step_view view;
            struct bid bid;
            step_view(thread_replay_step(domain.lane, &result, at, &missing), &view);
            ck_assert_uint_eq(view.payload.size, sizeof bid);
            memcpy(&bid, view.payload.data, sizeof bid);
            uint32_t winner = winners[(uint64_t)round * VERSIONS_AT_ONCE + at];
            ck_assert_uint_eq(bid.round, round);
            ck_assert_uint_eq(bid.version, at);
            ck_assert_uint_eq(bid.writer + 1, winner);
            won[bid.writer]++;
        }
    }
    ck_assert_uint_eq(won[0] + won[1], races);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_APPENDS), races);
    free(winners);
}
END_TEST

static _Atomic unsigned created;

/* Without expect: on each thread a few appends, the first of which race to create it. */
static void race_without_expect(struct mate *mate)
{
    struct ask ask;
    char id[16];
    for (uint32_t i = 0; i < races; i++) {
        struct bid bid = {i / 4, i, mate->number};
        struct thread_append_result result;
        struct wire_error error;
        ask_bid(&ask, id, &bid);
        CREW_HOLDS(domain_append(mate->lane, &ask, &result, &error) == STATUS_OK);
        CREW_HOLDS(result.created == (result.step == 0));
        atomic_fetch_add_explicit(&created, result.created, memory_order_relaxed);
        if (i % 16 == 0) {
            crew_turn(mate);
        }
    }
    crew_done(mate);
}

START_TEST(without_expect_none_is_lost)
{
    races = trial_count(60000) / 4 * 4;
    atomic_store(&created, 0);
    crew_run(&domain, 3, 3,
             (void (*const[])(struct mate *)){race_without_expect, race_without_expect,
                                              race_without_expect});
    ck_assert_uint_eq(atomic_load(&created), races / 4);
    for (uint32_t round = 0; round < races / 4; round++) {
        struct ask ask;
        struct thread_replay_result result;
        char id[16];
        uint32_t next[3] = {round * 4, round * 4, round * 4};
        snprintf(id, sizeof id, "race%u", round);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        ck_assert_int_eq(domain_replay(domain.lane, &ask, &result, &domain.error), STATUS_OK);
        ck_assert_int_eq(result.state, THREAD_COMPLETE);
        ck_assert_uint_eq(result.end, 12);
        ck_assert_uint_eq(result.version, 12);
        for (uint32_t at = 0; at < result.end; at++) {
            enum reason missing;
            struct step_view view;
            struct bid bid;
            step_view(thread_replay_step(domain.lane, &result, at, &missing), &view);
            memcpy(&bid, view.payload.data, sizeof bid);
            ck_assert_uint_eq(bid.version, next[bid.writer]++); /* each one's own order */
        }
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), races / 4);
}
END_TEST

/* ---- use against the sweep ---- */

enum { USED = 4, USE_TTL_MS = 64, CLOCK_STEP_MS = 16 };

static uint64_t uses;

/* The clock after an answer: if that is before the deadline, the thread had to be there. */
static uint64_t clock_now(void)
{
    return clock_read_ms(&domain.clock.clock);
}

static void check_there(struct mate *mate, struct bytes id, uint64_t deadline_ms, uint64_t version)
{
    struct ask ask;
    struct thread_replay_result result;
    struct wire_error error;
    ask_begin(&ask, WIRE_METHOD_REPLAY, id);
    ask_set(&ask, touch, false);
    lane_read_clock(mate->lane);
    CREW_HOLDS(domain_replay(mate->lane, &ask, &result, &error) == STATUS_OK);
    if (result.state != THREAD_MISS) {
        enum reason missing;
        struct step_view view;
        uint64_t kept;
        CREW_HOLDS(result.version == version && result.head + 1 == (int64_t)version);
        step_view(thread_replay_step(mate->lane, &result, (uint32_t)result.head, &missing), &view);
        memcpy(&kept, view.payload.data, sizeof kept);
        CREW_HOLDS(kept == version);
    } else {
        CREW_HOLDS(result.reason == REASON_EXPIRED && result.version == version);
        CREW_HOLDS(clock_now() >= deadline_ms);
    }
}

/* Only this mate appends: each answer must go on from the one before, whatever expired between. */
static void use_at_the_deadline(struct mate *mate)
{
    struct ask ask;
    struct wire_error error;
    struct thread_append_result appended;
    uint64_t versions[USED] = {0}, deadlines[USED] = {0};
    char ids[USED][16];
    for (unsigned t = 0; t < USED; t++) {
        snprintf(ids[t], sizeof ids[t], "use%u", t);
    }
    for (uint64_t i = 0; i < uses; i++) {
        unsigned t = (unsigned)trial_below(&mate->random, USED);
        struct bytes id = bytes_text(ids[t]);
        if (trial_below(&mate->random, 4) == 0) { /* some deadlines pass in any case */
            clock_driven_advance(&domain.clock, CLOCK_STEP_MS);
        }
        uint64_t now_ms = lane_read_clock(mate->lane);
        if (versions[t] == 0 || trial_below(&mate->random, 8) == 0) {
            uint64_t version = versions[t] + 1;
            ask_begin(&ask, WIRE_METHOD_APPEND, id);
            ask_set(&ask, ttl_ms, USE_TTL_MS);
            ask_payload(&ask, bytes_of(&version, sizeof version));
            CREW_HOLDS(domain_append(mate->lane, &ask, &appended, &error) == STATUS_OK);
            CREW_HOLDS(appended.version == version && appended.step == version - 1);
            CREW_HOLDS(appended.lost < version && appended.created == (version == 1));
            versions[t] = version;
            deadlines[t] = now_ms + USE_TTL_MS;
            check_there(mate, id, deadlines[t], version);
        } else {
            enum reason missing;
            enum status status = thread_touch(mate->lane, id, false, 0, &missing);
            CREW_HOLDS(status == STATUS_OK); /* nobody else claims it */
            if (missing) {
                CREW_HOLDS(missing == REASON_EXPIRED && clock_now() >= deadlines[t]);
            } else {
                deadlines[t] = now_ms + USE_TTL_MS;
                check_there(mate, id, deadlines[t], versions[t]);
            }
        }
        if (versions[t] > 2000) { /* a new life, lest its spine grow without end */
            ask_begin(&ask, WIRE_METHOD_FORGET, id);
            struct thread_forget_result forgotten = {0};
            CREW_HOLDS(thread_forget(mate->lane, &ask.request, &forgotten, &error) == STATUS_OK);
            snprintf(ids[t], sizeof ids[t], "use%u.%lu", t, (unsigned long)i % 1000000);
            versions[t] = 0;
        }
        if (i % 32 == 0) {
            crew_turn(mate);
        }
    }
    crew_done(mate);
}

static void sweep_on_and_on(struct mate *mate)
{
    while (crew_works(mate)) {
        clock_driven_advance(&domain.clock, CLOCK_STEP_MS);
        lane_tend_fully(mate->lane);
        for (unsigned t = 0; t < USED; t++) { /* who looks buries the overdue as well */
            struct ask ask;
            struct thread_stat_result result;
            struct wire_error error;
            char id[16];
            snprintf(id, sizeof id, "use%u", t);
            ask_begin(&ask, WIRE_METHOD_STAT, bytes_text(id));
            lane_read_clock(mate->lane);
            thread_stat(mate->lane, &ask.request, &result, &error);
        }
        crew_turn(mate);
    }
}

START_TEST(what_was_answered_is_never_dropped_early)
{
    uses = trial_count(1000000);
    crew_run(&domain, 1, 2, (void (*const[])(struct mate *)){use_at_the_deadline, sweep_on_and_on});
    ck_assert_uint_gt(domain_metric(&domain, METRIC_EXPIRED), 0);
}
END_TEST

/* ---- step keys ---- */

enum { KEY_FORGET_EVERY = 37 };

static uint64_t key_rounds;
static _Atomic uint64_t key_newest[2];

static void write_keys(struct mate *mate)
{
    struct ask ask;
    struct thread_append_result result;
    struct wire_error error;
    char id[2] = {(char)('a' + mate->number), 0}, key[32], payload[64];
    for (uint64_t i = 0; i < key_rounds; i++) {
        snprintf(key, sizeof key, "key%lu", (unsigned long)i);
        snprintf(payload, sizeof payload, "%s %s", id, key);
        ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
        ask_set(&ask, response_id, bytes_text(key));
        ask_call(&ask, bytes_text(key));
        ask_payload(&ask, bytes_text(payload));
        CREW_HOLDS(domain_append(mate->lane, &ask, &result, &error) == STATUS_OK);
        atomic_store_explicit(&key_newest[mate->number], i, memory_order_release); /* for readers */
        if (i % KEY_FORGET_EVERY == mate->number) {
            struct thread_forget_result forgotten = {0};
            ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
            CREW_HOLDS(thread_forget(mate->lane, &ask.request, &forgotten, &error) == STATUS_OK);
            CREW_HOLDS(forgotten.forgotten);
        } else if (i % KEY_FORGET_EVERY == 5) {
            struct thread_rewind_result rewound;
            ask_begin(&ask, WIRE_METHOD_REWIND, bytes_text(id));
            ask_set(&ask, to, (int64_t)result.step - 2 < -1 ? -1 : (int64_t)result.step - 2);
            enum status status = thread_rewind(mate->lane, &ask.request, &rewound, &error);
            CREW_HOLDS(status == STATUS_OK || status == STATUS_AGAIN);
        }
        crew_turn(mate);
    }
    crew_done(mate);
}

/* What a key led to must end with it and be one thread's alone. */
static void check_led(struct mate *mate, const char *key, const struct thread_replay_result *result,
                      bool scoped)
{
    if (result->state == THREAD_MISS) {
        return;
    }
    CREW_HOLDS(result->end > result->begin && result->state == THREAD_COMPLETE);
    CREW_HOLDS(result->thread.size == 1 && !(scoped && result->ambiguous));
    for (uint32_t at = result->begin; at < result->end; at++) {
        enum reason missing;
        struct step_view view;
        char payload[64];
        step_view(thread_replay_step(mate->lane, result, at, &missing), &view);
        CREW_HOLDS(view.payload.data[0] == result->thread.data[0]);
        snprintf(payload, sizeof payload, "%c %.*s", view.payload.data[0],
                 (int)view.response_id.size, (const char *)view.response_id.data);
        CREW_HOLDS(bytes_equal(view.payload, bytes_text(payload)));
        CREW_HOLDS(at + 1 < result->end || bytes_equal(view.response_id, bytes_text(key)));
    }
}

static void read_keys(struct mate *mate)
{
    struct ask ask;
    struct thread_replay_result result;
    struct wire_error error;
    char key[32];
    while (crew_works(mate)) {
        uint64_t at = atomic_load_explicit(&key_newest[trial_below(&mate->random, 2)],
                                           memory_order_acquire); /* as above */
        uint64_t back = trial_below(&mate->random, 4);
        snprintf(key, sizeof key, "key%lu", (unsigned long)(at + 1 > back ? at + 1 - back : 0));
        bool scoped = trial_below(&mate->random, 3) == 0;
        ask_begin(&ask, WIRE_METHOD_REPLAY, scoped ? bytes_text("b") : (struct bytes){0});
        if (trial_below(&mate->random, 2)) {
            ask_set(&ask, response_id, bytes_text(key));
        } else {
            ask_set(&ask, tool_call, bytes_text(key));
        }
        CREW_HOLDS(domain_replay(mate->lane, &ask, &result, &error) == STATUS_OK);
        check_led(mate, key, &result, scoped);
        crew_turn(mate);
    }
}

START_TEST(step_keys_never_lead_to_another_thread)
{
    key_rounds = trial_count(30000);
    crew_run(&domain, 2, 3, (void (*const[])(struct mate *)){write_keys, write_keys, read_keys});
    /* Two threads wrote each key, so it is shared, whoever came first and whoever is gone. */
    for (uint64_t i = 0; i < key_rounds; i++) {
        char line[64];
        snprintf(line, sizeof line, "replay - response_id=key%lu", (unsigned long)i);
        ck_assert_str_eq(domain_say(&domain, line), "miss ambiguous v0");
        snprintf(line, sizeof line, "replay - tool_call=key%lu", (unsigned long)i);
        ck_assert_str_eq(domain_say(&domain, line), "miss ambiguous v0");
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("races", setup, teardown, 0, exactly_one_wins_each_version,
                     without_expect_none_is_lost, what_was_answered_is_never_dropped_early,
                     step_keys_never_lead_to_another_thread);
}
