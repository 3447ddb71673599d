/*
 * Lanes that race over a disk tier which an operating-system thread of its own drives: threads that
 * leave memory and come back all the time, small memory, trouble now and then. Each thread has one
 * writer, whose ledger knows what was acknowledged; everybody reads everything.
 *
 * What must hold: what was acknowledged is in every later replay, byte for byte, or is said to be
 * missing for a reason that this test gave; no version ever goes back.
 */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"

#include <time.h>

enum {
    WRITERS = 3,
    OWNED = 12, /* threads of each writer */
    NAMED = WRITERS * OWNED,
    STEPS_MAX = 40, /* of a thread; then it is forgotten */
    TTL_MS = 20,
    RETENTION_MS = 1000 * 1000 * 1000,
    TURN_MS = 30,
    PAYLOAD_MAX = 30000,
    MOVES_LEAST = 50, /* to disk, and back */
};

static struct clock_driven wall;
static struct tier_model *model;
static struct domain domain;
static uint64_t rounds;
static _Atomic bool driving;
static bool with_trouble;
static _Atomic bool troubling; /* until the first writer has done its rounds */
static _Atomic bool calm;      /* the driver's answer: no trouble any more */

/*
 * What everybody may rely on: the last life of thread t that was acknowledged, and how far it came.
 * A life is numbered from 1; 0: none. life << 32 | version.
 */
static _Atomic uint64_t told[NAMED];

/* What only its writer knows. */
struct ledger {
    uint32_t life;    /* 0: forgotten */
    uint32_t lives;   /* so far */
    uint32_t version; /* of this life */
    uint32_t length;
    uint32_t seeds[STEPS_MAX]; /* of its steps */
    uint32_t versions[STEPS_MAX];
};

static struct ledger ledgers[NAMED];

/* What a payload begins with. */
struct mark {
    uint32_t thread, life, step, version, seed, size;
};

static void name_of(char id[16], unsigned t)
{
    snprintf(id, 16, "race%u", t);
}

static void fill(uint8_t *payload, struct mark mark)
{
    memcpy(payload, &mark, sizeof mark);
    trial_fill(payload + sizeof mark, mark.size - sizeof mark, mark.seed);
}

static struct mark check_payload(struct bytes payload)
{
    struct mark mark;
    CREW_HOLDS(payload.size >= sizeof mark);
    memcpy(&mark, payload.data, sizeof mark);
    CREW_HOLDS(mark.size == payload.size);
    CREW_HOLDS(trial_holds(payload.data + sizeof mark, mark.size - sizeof mark, mark.seed));
    return mark;
}

/* ---- turns ---- */

static void turn_over(struct mate *mate)
{
    crew_turn(mate);
    struct timespec moment = {.tv_nsec = 20000};
    nanosleep(&moment, NULL);
}

/* Whether to try again. */
static bool put_back(struct mate *mate, enum status status, unsigned *tries)
{
    if (status != STATUS_AGAIN) {
        return false;
    }
    turn_over(mate);
    crew_try_again(mate, tries);
    return true;
}

/* ---- writing ---- */

static void do_append(struct mate *mate, unsigned t, struct ledger *ledger)
{
    static _Thread_local uint8_t payload[PAYLOAD_MAX];
    struct ask ask;
    struct thread_append_result got;
    struct wire_error error;
    char id[16], key[24], call[24];
    name_of(id, t);
    struct mark mark = {
        .thread = t,
        .life = ledger->life ? ledger->life : ledger->lives + 1,
        .step = ledger->length,
        .version = ledger->version + 1,
        .seed = (uint32_t)trial_random(&mate->random),
        .size = (uint32_t)(sizeof mark + trial_below(&mate->random, PAYLOAD_MAX - sizeof mark))};
    fill(payload, mark);
    ask_begin(&ask, WIRE_METHOD_APPEND, bytes_text(id));
    ask_payload(&ask, bytes_of(payload, mark.size));
    snprintf(key, sizeof key, "%u.%u", mark.life, mark.version);
    ask_set(&ask, key, bytes_text(key));
    snprintf(call, sizeof call, "call%u.%u", t, mark.step);
    ask_call(&ask, bytes_text(call));
    if (trial_below(&mate->random, 2)) {
        ask_set(&ask, expect, (uint64_t)ledger->version);
    }
    unsigned tries = 0;
    bool again = false;
    do {
        enum status status;
        do {
            status = thread_append(mate->lane, &ask.request, &got, &error);
            if (status == STATUS_CONFLICT && strcmp(error.cause, "claimed") == 0) {
                status = STATUS_AGAIN; /* the sweep has it for a moment */
            }
        } while (put_back(mate, status, &tries));
        CREW_HOLDS(status == STATUS_OK);
        CREW_HOLDS(got.step == mark.step && got.version == mark.version);
        CREW_HOLDS(got.lost == 0 && got.duplicate == again);
        CREW_HOLDS(got.created == (ledger->life == 0 && got.step == 0));
        again = !again && trial_below(&mate->random, 8) == 0; /* the same key once more */
        if (again) {
            turn_over(mate);
        }
    } while (again);
    if (!ledger->life) {
        ledger->life = ++ledger->lives;
    }
    ledger->seeds[ledger->length] = mark.seed;
    ledger->versions[ledger->length] = mark.version;
    ledger->length++;
    ledger->version++;
}

static void do_rewind(struct mate *mate, unsigned t, struct ledger *ledger)
{
    struct ask ask;
    struct thread_rewind_result got;
    struct wire_error error;
    char id[16];
    name_of(id, t);
    ask_begin(&ask, WIRE_METHOD_REWIND, bytes_text(id));
    uint32_t keep = (uint32_t)trial_below(&mate->random, ledger->length + 1);
    if (keep == ledger->length) {
        return;
    }
    ask_set(&ask, to, (int64_t)keep - 1);
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_rewind(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK);
    CREW_HOLDS(got.version == ledger->version + 1 && got.dropped == ledger->length - keep);
    ledger->version++;
    ledger->length = keep;
}

static void do_forget(struct mate *mate, unsigned t, struct ledger *ledger);

/* ---- reading ---- */

static void check_own(struct mate *mate, unsigned t, const struct ledger *ledger)
{
    struct ask ask;
    struct thread_replay_result got;
    struct wire_error error;
    char id[16];
    name_of(id, t);
    ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
    if (trial_below(&mate->random, 2)) {
        ask_set(&ask, touch, false);
    }
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_replay(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK);
    if (ledger->life == 0) {
        CREW_HOLDS(got.state == THREAD_MISS);
        CREW_HOLDS(got.reason == (ledger->lives ? REASON_FORGOTTEN : REASON_NEVER_SEEN));
        return;
    }
    CREW_HOLDS(got.state == THREAD_COMPLETE);
    CREW_HOLDS(got.version == ledger->version && got.begin == 0 && got.end == ledger->length);
    for (uint32_t at = 0; at < got.end; at++) {
        enum reason missing;
        struct step_view view;
        const struct step *step = thread_replay_step(mate->lane, &got, at, &missing);
        CREW_HOLDS(step);
        step_view(step, &view);
        struct mark mark = check_payload(view.payload);
        CREW_HOLDS(mark.thread == t && mark.life == ledger->life && mark.step == at);
        CREW_HOLDS(mark.version == ledger->versions[at] && mark.seed == ledger->seeds[at]);
    }
}

static void do_forget(struct mate *mate, unsigned t, struct ledger *ledger)
{
    struct ask ask;
    struct thread_forget_result got;
    struct wire_error error;
    char id[16];
    name_of(id, t);
    ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_forget(mate->lane, &ask.request, &got, &error);
        if (status == STATUS_READ_ONLY) {
            CREW_HOLDS(with_trouble);
            status = STATUS_AGAIN;
        }
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK);
    CREW_HOLDS(got.forgotten == (ledger->life != 0));
    ledger->life = 0;
    ledger->version = ledger->length = 0;
}

static void tell(unsigned t, const struct ledger *ledger)
{
    /* Release pairs with the acquire in read_others: what was told was acknowledged before. */
    atomic_store_explicit(&told[t], (uint64_t)ledger->life << 32 | ledger->version,
                          memory_order_release);
}

/* What was refused is done before anything is closed: erasures by the lane that began them, in its
 * next turn; what threads lack by whoever settles at the end. */
static void end_trouble(struct mate *mate)
{
    atomic_store_explicit(&troubling, false, memory_order_relaxed);
    for (unsigned tries = 0; !atomic_load_explicit(&calm, memory_order_acquire);) {
        crew_try_again(mate, &tries);
    }
    crew_turn(mate);
}

/* Many have left memory and come back: otherwise nothing has been raced over. */
static bool have_moved(struct mate *mate)
{
    uint64_t values[METRIC_COUNT];
    threads_metrics(mate->lane, values);
    return values[METRIC_DEMOTIONS] > MOVES_LEAST && values[METRIC_PROMOTIONS] > MOVES_LEAST;
}

static void write_round(struct mate *mate)
{
    unsigned t = mate->number * OWNED + (unsigned)trial_below(&mate->random, OWNED);
    struct ledger *ledger = &ledgers[t];
    uint64_t what = trial_below(&mate->random, 100);
    if (ledger->length == STEPS_MAX || what < 3) {
        /* Readers must not expect it any more. */
        struct ledger none = {0};
        tell(t, &none);
        do_forget(mate, t, ledger);
    } else if (what < 10 && ledger->life) {
        do_rewind(mate, t, ledger);
    } else if (what < 55) {
        do_append(mate, t, ledger);
    } else {
        check_own(mate, t, ledger);
    }
    tell(t, ledger);
    if (what % 8 == 0) {
        crew_turn(mate);
    }
}

static void write_own(struct mate *mate)
{
    for (uint64_t round = 0; round < rounds; round++) {
        write_round(mate);
    }
    /* The driver may have been kept off its processor all the while. */
    for (unsigned tries = 0; !have_moved(mate); crew_try_again(mate, &tries)) {
        write_round(mate);
    }
    end_trouble(mate);
    crew_done(mate);
}

/* Reads what others write: by name, by key, by fork. */
static void check_others(struct mate *mate, unsigned t)
{
    struct ask ask;
    struct thread_replay_result got;
    struct wire_error error;
    char id[16], call[24];
    name_of(id, t);
    /* Pairs with the release in tell. */
    uint64_t before = atomic_load_explicit(&told[t], memory_order_acquire);
    bool keyed = trial_below(&mate->random, 4) == 0;
    unsigned number = (unsigned)trial_below(&mate->random, STEPS_MAX);
    ask_begin(&ask, WIRE_METHOD_REPLAY, keyed ? (struct bytes){0} : bytes_text(id));
    if (keyed) {
        snprintf(call, sizeof call, "call%u.%u", t, number);
        ask_set(&ask, tool_call, bytes_text(call));
    }
    if (trial_below(&mate->random, 2)) {
        ask_set(&ask, touch, false);
    }
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_replay(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK);
    uint64_t after = atomic_load_explicit(&told[t], memory_order_acquire);
    uint32_t life = 0;
    if (got.state == THREAD_MISS) {
        CREW_HOLDS(keyed || before >> 32 == 0 || before >> 32 != after >> 32);
        return;
    }
    CREW_HOLDS(got.state == THREAD_COMPLETE);
    uint32_t last = 0;
    for (uint32_t at = got.begin; at < got.end; at++) {
        enum reason missing;
        struct step_view view;
        const struct step *step = thread_replay_step(mate->lane, &got, at, &missing);
        CREW_HOLDS(step);
        step_view(step, &view);
        struct mark mark = check_payload(view.payload);
        CREW_HOLDS(mark.thread == t && mark.step == at);
        CREW_HOLDS(life == 0 || mark.life == life); /* never two lives in one answer */
        CREW_HOLDS(mark.version > last && mark.version <= got.version);
        life = mark.life;
        last = mark.version;
    }
    if (keyed) {
        CREW_HOLDS(got.end == number + 1);
    }
    if (before >> 32 != 0 && before >> 32 == after >> 32) {
        CREW_HOLDS(life == 0 || life == before >> 32);
        CREW_HOLDS(got.version >= (uint32_t)before);
        CREW_HOLDS(got.version <= (uint32_t)after + 1);
    }
}

static void read_others(struct mate *mate)
{
    uint64_t round = 0;
    while (crew_works(mate)) {
        check_others(mate, (unsigned)trial_below(&mate->random, NAMED));
        if (++round % 4 == 0) {
            crew_turn(mate);
        }
    }
}

/* ---- the disk ---- */

static void *drive(void *nothing)
{
    uint64_t random = 99;
    struct timespec moment = {.tv_nsec = 50000};
    while (atomic_load_explicit(&driving, memory_order_relaxed)) {
        bool trouble = atomic_load_explicit(&troubling, memory_order_relaxed);
        /* Release pairs with the acquire in end_trouble: the last trouble is over, and healed. */
        atomic_store_explicit(&calm, !trouble, memory_order_release);
        enum tier_model_stage stage = (enum tier_model_stage)trial_below(&random, 4);
        unsigned moved = tier_model_advance(model, stage, (unsigned)trial_below(&random, 32));
        uint64_t what = trial_below(&random, 4000);
        if (what % 4 == 0) { /* time goes by, whether anybody gets on or not */
            clock_driven_advance(&domain.clock, TURN_MS);
            clock_driven_advance(&wall, TURN_MS);
        }
        if (what < 4) {
            tier_model_due(model);
        } else if (what == 4) {
            tier_model_fail_loads(model, 3);
        } else if (what < 8 && trouble) {
            tier_model_fail(model);
            for (int i = 0; i < 20; i++) {
                tier_model_advance(model, TIER_MODEL_TREE, 4);
                tier_model_advance(model, TIER_MODEL_READ, 4);
                tier_model_advance(model, TIER_MODEL_ANSWER, 4);
                nanosleep(&moment, NULL);
            }
            tier_model_heal(model);
        }
        if (moved == 0) {
            nanosleep(&moment, NULL);
        }
    }
    tier_model_set_at_once(model, true);
    return nothing;
}

static void race(uint64_t memory_bytes, uint64_t count, bool trouble)
{
    pthread_t driver;
    clock_driven_init(&wall, 1700000000000);
    struct tier_model_settings tier = {.wall = &wall.clock, .loads_max = 16};
    model = tier_model_create(&tier);
    struct threads_settings settings = domain_settings();
    settings.tier = tier_model_tier(model);
    settings.hash_secret = tier_model_secret(model);
    settings.wall = &wall.clock;
    settings.ttl_ms = TTL_MS;
    settings.retention_ms = RETENTION_MS;
    settings.memory_bytes = memory_bytes;
    rounds = trial_count(count);
    with_trouble = trouble;
    atomic_store(&troubling, trouble);
    atomic_store(&calm, false);
    memset(ledgers, 0, sizeof ledgers);
    memset(told, 0, sizeof told);
    domain_open(&domain, settings);
    atomic_store(&driving, true);
    CREW_HOLDS(pthread_create(&driver, NULL, drive, NULL) == 0);
    crew_run(&domain, WRITERS, WRITERS + 1,
             (void (*const[])(struct mate *)){write_own, write_own, write_own, read_others});
    atomic_store(&driving, false);
    pthread_join(driver, NULL);
    if (trouble) {
        lane_settle(domain.lane); /* as at the end of the process */
        lane_online(domain.lane);
    }
    /* Once more from the disk alone. */
    domain_close(&domain);
    domain_open(&domain, settings);
    struct mate alone = {.lane = domain.lane, .random = 5};
    for (unsigned t = 0; t < NAMED; t++) {
        check_own(&alone, t, &ledgers[t]);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EVICTED), 0);
    domain_close(&domain);
    tier_model_destroy(model);
}

START_TEST(nothing_acknowledged_is_lost_between_memory_and_disk)
{
    race(64 << 20, 1000, false);
}
END_TEST

START_TEST(nor_in_little_memory)
{
    race(8 << 20, 1000, false);
}
END_TEST

START_TEST(nor_by_a_disk_that_fails_and_heals)
{
    race(64 << 20, 1000, true);
}
END_TEST

int main(void)
{
    return SUITE_RUN("disk_races", NULL, NULL, 300,
                     nothing_acknowledged_is_lost_between_memory_and_disk, nor_in_little_memory,
                     nor_by_a_disk_that_fails_and_heals);
}
