/*
 * Lanes that stream, append, pin, fork, rewind and forget over a disk tier that answers when
 * another gets round to it, and that takes no writes at times.
 *
 * What must hold: of a thread that nobody ends or rewinds each answered step is there to the last
 * byte, once, at the position that was answered, wherever the thread was meanwhile; the same commit
 * sent again with its key is answered with it; what was pinned stays pinned; nothing of a stream
 * that was given up, or refused, is ever seen, in any thread.
 */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"

enum {
    MATES = 4, /* the last one drives the disk */
    NAMES = 4,
    STAYS = 0, /* the name that nobody ends or rewinds */
    TTL_MS = 40,
    CLAIM_MS = 60,
    TURN_MS = 8,
    PAUSE_MS = 2000,
    PAUSE_TURNS = 40,
    CHUNKS_MAX = 4,
    CHUNK_BYTES_MAX = 60 << 10, /* where memory is short; else, and in STAYS: */
    CHUNK_BYTES_SMALL = 600,
    SHORT_BYTES = 5 << 20,
    ROUNDS_MIN = 5000,
    ROUNDS_MAX = 20000,
    STREAMS_MAX = 1 << 16, /* above MATES - 1 in each round */
};

static struct clock_driven wall;
static struct tier_model *model;
static struct domain domain;
static uint64_t rounds;
static bool is_short; /* of memory; then the disk does not fail, or what it lacks is evicted */
static _Atomic bool quiet;
static _Atomic uint64_t drives;             /* turns of the driver */
static _Atomic uint32_t taken;              /* streams and appends, numbered from 1 */
static _Atomic uint8_t over[STREAMS_MAX];   /* given up or refused, and never to be seen */
static _Atomic uint32_t stays[STREAMS_MAX]; /* by position: whose step that was answered */
static _Atomic uint32_t stays_count;
static _Atomic uint32_t pinned; /* the floor of STAYS is at least that */
static _Atomic uint64_t commits, duplicates, timeouts;

struct mark {
    uint32_t number; /* of the stream or append */
    uint32_t index;  /* of the chunk; of an append and at the end UINT32_MAX */
    uint32_t size;
};

static struct bytes name_of(unsigned n)
{
    static const char *const names[NAMES] = {"stays", "b", "c", "d"};
    return bytes_text(names[n]);
}

static bool put_back(struct mate *mate, enum status status, unsigned *tries)
{
    if (status != STATUS_AGAIN) {
        return false;
    }
    crew_try_again(mate, tries);
    return true;
}

#define UNTIL_DONE(mate, status, call)                                                             \
    do {                                                                                           \
        unsigned tries_ = 0;                                                                       \
        do {                                                                                       \
            (status) = (call);                                                                     \
        } while (put_back((mate), (status), &tries_));                                             \
    } while (0)

static void pass_time(uint64_t by_ms)
{
    clock_driven_advance(&domain.clock, by_ms);
    clock_driven_advance(&wall, by_ms);
}

/* Nobody does anything for so long that what is in memory leaves it, if the disk lets it. */
static void pause_all(struct mate *mate)
{
    atomic_store(&quiet, true);
    for (int i = 0; i < PAUSE_TURNS; i++) {
        uint64_t before = atomic_load(&drives);
        pass_time(PAUSE_MS / PAUSE_TURNS);
        do {
            crew_turn(mate);
        } while (atomic_load(&drives) < before + 4);
    }
    atomic_store(&quiet, false);
}

static void maybe_turn(struct mate *mate)
{
    if (trial_below(&mate->random, 3) > 0) {
        return;
    }
    do {
        crew_turn(mate);
    } while (atomic_load(&quiet));
    if (mate->number == 0) {
        pass_time(trial_below(&mate->random, TURN_MS));
        if (trial_below(&mate->random, 100) == 0) {
            pause_all(mate);
        }
    }
}

static void is_there(unsigned n, uint32_t step, uint32_t number)
{
    if (n == STAYS) {
        CREW_HOLDS(atomic_exchange(&stays[step], number) == 0);
        atomic_fetch_add(&stays_count, 1);
    }
}

static void claimed_or_done(enum status status, const struct wire_error *error)
{
    CREW_HOLDS(status == STATUS_OK || (is_short && status == STATUS_OVER_BUDGET) ||
               (status == STATUS_CONFLICT && strcmp(error->cause, "claimed") == 0));
}

/* ---- acts ---- */

static enum status chunk(struct mate *mate, unsigned n, uint64_t claim, struct mark mark)
{
    static _Thread_local uint8_t payload[CHUNK_BYTES_MAX];
    struct thread_chunk_result got;
    struct wire_error error;
    struct ask ask;
    enum status status;
    memcpy(payload, &mark, sizeof mark);
    trial_fill(payload + sizeof mark, mark.size - sizeof mark, mark.number + mark.index);
    ask_begin(&ask, WIRE_METHOD_CHUNK, name_of(n));
    ask_set(&ask, claim, claim);
    ask_payload(&ask, bytes_of(payload, mark.size));
    UNTIL_DONE(mate, status, thread_chunk(mate->lane, &ask.request, &got, &error));
    claimed_or_done(status, &error);
    return status;
}

static void commit(struct mate *mate, unsigned n, const struct thread_begin_result *begun,
                   uint32_t number)
{
    struct mark end = {.number = number, .index = UINT32_MAX, .size = sizeof end};
    struct thread_append_result got, again;
    struct wire_error error;
    struct ask ask;
    enum status status;
    ask_begin(&ask, WIRE_METHOD_COMMIT, name_of(n));
    ask_set(&ask, claim, begun->claim);
    ask_set(&ask, key, bytes_of((const uint8_t *)&end, sizeof end));
    ask_payload(&ask, bytes_of((const uint8_t *)&end, sizeof end));
    UNTIL_DONE(mate, status, thread_commit(mate->lane, &ask.request, &got, &error));
    claimed_or_done(status, &error);
    if (status) {
        atomic_store(&over[number], 1);
        return;
    }
    CREW_HOLDS(!got.duplicate && got.step == begun->step && got.version == begun->version + 1);
    is_there(n, got.step, number);
    uint64_t before = atomic_load(&stays_count);
    atomic_fetch_add(&commits, 1);
    maybe_turn(mate);
    UNTIL_DONE(mate, status, thread_commit(mate->lane, &ask.request, &again, &error));
    /* Keys of so many appends are remembered; each other mate may have done one not yet counted. */
    bool forgotten = n != STAYS || atomic_load(&stays_count) + MATES - before >= TIER_RECALL_MAX;
    CREW_HOLDS(status == STATUS_OK || (forgotten && status == STATUS_CONFLICT));
    if (status == STATUS_OK) {
        CREW_HOLDS(again.duplicate && again.step == got.step && again.version == got.version);
        atomic_fetch_add(&duplicates, 1);
    }
}

static void do_stream(struct mate *mate, unsigned n)
{
    struct thread_begin_result begun;
    struct wire_error error;
    struct ask ask;
    enum status status;
    ask_begin(&ask, WIRE_METHOD_BEGIN, name_of(n));
    UNTIL_DONE(mate, status, thread_begin(mate->lane, &ask.request, &begun, &error));
    claimed_or_done(status, &error);
    if (status) {
        return;
    }
    uint32_t number = atomic_fetch_add(&taken, 1) + 1;
    CREW_HOLDS(number < STREAMS_MAX);
    uint64_t bytes_max = is_short && n != STAYS ? CHUNK_BYTES_MAX : CHUNK_BYTES_SMALL;
    uint64_t chunks = 1 + trial_below(&mate->random, CHUNKS_MAX);
    for (uint32_t i = 0; i < chunks; i++) {
        struct mark mark = {.number = number, .index = i};
        mark.size = (uint32_t)(sizeof mark + trial_below(&mate->random, bytes_max - sizeof mark));
        if (chunk(mate, n, begun.claim, mark)) {
            atomic_store(&over[number], 1);
            atomic_fetch_add(&timeouts, 1);
            return;
        }
        maybe_turn(mate);
    }
    if (trial_below(&mate->random, 6) > 0) {
        commit(mate, n, &begun, number);
        return;
    }
    atomic_store(&over[number], 1);
    if (trial_below(&mate->random, 2)) {
        ask_begin(&ask, WIRE_METHOD_ABORT, name_of(n));
        ask_set(&ask, claim, begun.claim);
        UNTIL_DONE(mate, status, thread_abort(mate->lane, &ask.request, &error));
        claimed_or_done(status, &error);
    }
}

static void do_append(struct mate *mate, unsigned n)
{
    uint32_t number = atomic_fetch_add(&taken, 1) + 1;
    struct mark mark = {.number = number, .index = UINT32_MAX, .size = sizeof mark};
    struct thread_append_result got;
    struct wire_error error;
    struct ask ask;
    enum status status;
    CREW_HOLDS(number < STREAMS_MAX);
    ask_begin(&ask, WIRE_METHOD_APPEND, name_of(n));
    ask_payload(&ask, bytes_of((const uint8_t *)&mark, sizeof mark));
    if (trial_below(&mate->random, 2)) {
        ask_set(&ask, key, bytes_of((const uint8_t *)&mark, sizeof mark));
    }
    UNTIL_DONE(mate, status, thread_append(mate->lane, &ask.request, &got, &error));
    claimed_or_done(status, &error);
    if (status) {
        atomic_store(&over[number], 1);
    } else {
        is_there(n, got.step, number);
    }
}

/* Returns whose it is. */
static uint32_t check_step(const struct step *step)
{
    struct step_view view;
    struct mark mark;
    step_view(step, &view);
    const uint8_t *at = view.payload.data, *end = at + view.payload.size;
    uint32_t number = 0;
    for (uint32_t index = 0; at < end; index++) {
        CREW_HOLDS((size_t)(end - at) >= sizeof mark);
        memcpy(&mark, at, sizeof mark);
        CREW_HOLDS(number == 0 || mark.number == number);
        CREW_HOLDS(mark.size >= sizeof mark && mark.size <= (size_t)(end - at));
        number = mark.number;
        if (mark.index != UINT32_MAX) {
            CREW_HOLDS(mark.index == index);
            CREW_HOLDS(trial_holds(at + sizeof mark, mark.size - sizeof mark, number + index));
        }
        at += mark.size;
    }
    CREW_HOLDS(number > 0 && mark.index == UINT32_MAX && view.segment_count <= 2);
    CREW_HOLDS(!atomic_load(&over[number]));
    return number;
}

static void do_replay(struct mate *mate, unsigned n)
{
    struct thread_replay_result got;
    struct wire_error error;
    struct ask ask;
    enum status status;
    bool pin = trial_below(&mate->random, 4) == 0;
    uint32_t floor = atomic_load(&pinned), count = atomic_load(&stays_count);
    ask_begin(&ask, WIRE_METHOD_REPLAY, name_of(n));
    ask_set(&ask, touch, trial_below(&mate->random, 2) != 0);
    ask_set(&ask, last, 8);
    if (pin) {
        ask_set(&ask, pin, true);
        ask_set(&ask, policy, WIRE_POLICY_SINCE_FINAL);
    }
    UNTIL_DONE(mate, status, thread_replay(mate->lane, &ask.request, &got, &error));
    CREW_HOLDS(status == STATUS_OK);
    for (uint32_t at = got.begin; at < got.end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(mate->lane, &got, at, &missing);
        uint32_t number = step ? check_step(step) : 0;
        if (n == STAYS) {
            uint32_t answered = atomic_load(&stays[at]);
            CREW_HOLDS(step && (answered == 0 || answered == number));
        }
    }
    if (n == STAYS && count > 0) {
        CREW_HOLDS(got.state == THREAD_COMPLETE && got.head + 1 >= (int64_t)count);
        CREW_HOLDS(!pin || got.kept_from >= floor);
        while (pin && got.kept_from > floor &&
               !atomic_compare_exchange_weak(&pinned, &floor, got.kept_from)) {
        }
    }
}

static void do_rewind(struct mate *mate, unsigned n, int64_t to)
{
    struct thread_rewind_result rewound;
    struct wire_error error;
    struct ask ask;
    enum status status;
    ask_begin(&ask, WIRE_METHOD_REWIND, name_of(n));
    ask_set(&ask, to, to);
    UNTIL_DONE(mate, status, thread_rewind(mate->lane, &ask.request, &rewound, &error));
}

static void do_change(struct mate *mate, unsigned n)
{
    struct thread_forget_result forgotten;
    struct thread_fork_result forked;
    struct wire_error error;
    struct ask ask;
    enum status status;
    switch (trial_below(&mate->random, 4)) {
    case 0:
        ask_begin(&ask, WIRE_METHOD_FORGET, name_of(n));
        UNTIL_DONE(mate, status, thread_forget(mate->lane, &ask.request, &forgotten, &error));
        break;
    case 1:
        do_rewind(mate, n, (int64_t)trial_below(&mate->random, 4) - 1);
        break;
    default:
        ask_begin(&ask, WIRE_METHOD_FORK, name_of(n));
        ask_set(&ask, from, name_of((unsigned)trial_below(&mate->random, NAMES)));
        UNTIL_DONE(mate, status, thread_fork(mate->lane, &ask.request, &forked, &error));
    }
}

static void work(struct mate *mate)
{
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned n = (unsigned)trial_below(&mate->random, NAMES);
        uint64_t what = trial_below(&mate->random, 10);
        if (is_short && n != STAYS && trial_below(&mate->random, 3) == 0) {
            do_rewind(mate, n, -1); /* or it grows larger than memory */
        }
        if (what < 4) {
            do_stream(mate, n);
        } else if (what < 5) {
            do_append(mate, n);
        } else if (what < 6 && n != STAYS) {
            do_change(mate, n);
        } else {
            do_replay(mate, n);
        }
        maybe_turn(mate);
    }
    crew_done(mate);
}

static void drive(struct mate *mate)
{
    bool failed = false;
    while (crew_works(mate)) {
        uint64_t what = trial_below(&mate->random, 2000);
        if (what == 0 && !failed && !is_short) {
            tier_model_fail(model);
            failed = true;
        } else if (failed && what < 50) {
            tier_model_heal(model);
            failed = false;
        } else if (what < 60) {
            tier_model_fail_loads(model, 1);
        } else if (what < 70) {
            (void)tier_model_due(model);
        }
        (void)tier_model_advance(model, (enum tier_model_stage)trial_below(&mate->random, 4),
                                 1 + (unsigned)trial_below(&mate->random, 3));
        crew_turn(mate);
        atomic_fetch_add(&drives, 1);
    }
    if (failed) {
        tier_model_heal(model);
    }
    tier_model_set_at_once(model, true);
    tier_model_run(model);
}

static void open_all(void)
{
    struct tier_model_settings tier = {.wall = &wall.clock};
    struct threads_settings settings = domain_settings();
    clock_driven_init(&wall, 1700000000000);
    model = tier_model_create(&tier);
    settings.tier = tier_model_tier(model);
    settings.hash_secret = tier_model_secret(model);
    settings.wall = &wall.clock;
    settings.retention_ms = UINT64_C(1000) * 1000 * 1000;
    settings.ttl_ms = TTL_MS;
    settings.claim_timeout_ms = CLAIM_MS;
    settings.frame_max_bytes = 64 << 20;
    settings.memory_bytes = is_short ? SHORT_BYTES : settings.memory_bytes;
    domain_open(&domain, settings);
}

static void close_all(void)
{
    domain_close(&domain);
    tier_model_destroy(model);
}

/* All that was answered, in its place, as it comes back from the disk. */
static void check_stays(void)
{
    struct thread_replay_result got;
    struct thread_stat_result stat;
    struct wire_error error;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_REPLAY, name_of(STAYS));
    CREW_HOLDS(domain_replay(domain.lane, &ask, &got, &error) == STATUS_OK);
    CREW_HOLDS(got.state == THREAD_COMPLETE && got.begin == 0);
    CREW_HOLDS(got.head + 1 == (int64_t)atomic_load(&stays_count));
    for (uint32_t at = 0; at < got.end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(domain.lane, &got, at, &missing);
        CREW_HOLDS(step && check_step(step) == atomic_load(&stays[at]));
    }
    ask_begin(&ask, WIRE_METHOD_STAT, name_of(STAYS));
    CREW_HOLDS(thread_stat(domain.lane, &ask.request, &stat, &error) == STATUS_OK);
    CREW_HOLDS(stat.floor == atomic_load(&pinned) && stat.floor > 0);
}

static void race(void)
{
    static void (*const works[MATES])(struct mate *) = {work, work, work, drive};
    rounds = trial_count(15000);
    rounds = rounds < ROUNDS_MIN ? ROUNDS_MIN : rounds > ROUNDS_MAX ? ROUNDS_MAX : rounds;
    open_all();
    crew_run(&domain, MATES - 1, MATES, works);
    /* A small race on a busy machine may be over before anything was idle for long enough. */
    CREW_HOLDS(trial_count(100) < 100 || domain_metric(&domain, METRIC_DEMOTIONS) > 0);
    CREW_HOLDS(atomic_load(&commits) > rounds / 10 && atomic_load(&duplicates) > rounds / 10);
    CREW_HOLDS(atomic_load(&timeouts) > 0);
    for (int i = 0; i < 10; i++) {
        domain_wait(&domain, 1000 + TTL_MS);
        lane_tend_fully(domain.lane);
    }
    CREW_HOLDS(domain_metric(&domain, METRIC_STREAMING_BYTES) == 0);
    CREW_HOLDS(domain_metric(&domain, METRIC_THREADS_LIVE) == 0);
    check_stays();
    close_all();
}

START_TEST(answered_is_there_and_refused_is_not)
{
    race();
}
END_TEST

START_TEST(also_when_memory_is_short)
{
    is_short = true;
    race();
}
END_TEST

int main(void)
{
    return SUITE_RUN("review: stream, lanes", NULL, NULL, 200, answered_is_there_and_refused_is_not,
                     also_when_memory_is_short);
}
