/*
 * Lanes that stream into the same few threads, time out, abort, append, rewind and forget, on
 * clocks that differ; some without a disk tier, some over one that does everything at once.
 *
 * What must hold: a commit that was answered follows on what its begin saw, with nothing in
 * between; every step that is ever replayed is one whole append or all chunks of one claim in
 * order; a claim that was refused once is refused for ever, and none before its time unless its
 * thread was forgotten; every stream ends in one way, and what it took is given back.
 */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"

enum {
    MATES = 3,
    NAMES = 4,
    TTL_MS = 40,
    CLAIM_MS = 100,
    TURN_MS = 16,
    CHUNKS_MAX = 6,
    CHUNK_BYTES_MAX = 3000,
};

static struct clock_driven wall;
static struct domain domain;
static uint64_t rounds;
static bool forgets; /* whether threads are */
static _Atomic uint64_t commits, aborts, refused;
static _Atomic uint64_t shared_claims[NAMES]; /* the last ones, for who meddles */

/* What each chunk begins with; the last segment of a committed step is one, with size 0. */
struct mark {
    uint64_t claim; /* 0: an append's */
    uint32_t index;
    uint32_t size;
};

static struct bytes name_of(unsigned n)
{
    static const char *const names[NAMES] = {"a", "b", "c", "d"};
    return bytes_text(names[n]);
}

/* Whether to try again. */
static bool put_back(struct mate *mate, enum status status, unsigned *tries)
{
    if (status != STATUS_AGAIN) {
        return false;
    }
    crew_try_again(mate, tries);
    return true;
}

static void maybe_turn(struct mate *mate)
{
    if (trial_below(&mate->random, 3) == 0) {
        if (mate->number == 0) {
            clock_driven_advance(&domain.clock, trial_below(&mate->random, TURN_MS));
            clock_driven_advance(&wall, TURN_MS / 2);
        }
        crew_turn(mate);
    }
}

static bool is_claimed(enum status status, const struct wire_error *error)
{
    CREW_HOLDS(status == STATUS_OK || status == STATUS_CONFLICT);
    CREW_HOLDS(status == STATUS_OK || strcmp(error->cause, "claimed") == 0);
    return status == STATUS_CONFLICT;
}

/* ---- streaming ---- */

struct stream {
    struct bytes name;
    struct thread_begin_result begun;
    uint32_t chunks;
    uint64_t bytes;
    uint64_t alive_ms; /* when it was kept last, at the earliest */
    bool over;         /* committed, aborted, or refused before */
};

static void ask_for(struct ask *ask, enum wire_method method, const struct stream *stream)
{
    ask_begin(ask, method, stream->name);
    ask_set(ask, claim, stream->begun.claim);
}

/* Whether the claim is over, as it then must be. */
static bool is_over(struct stream *stream, enum status status, const struct wire_error *error)
{
    if (!is_claimed(status, error)) {
        CREW_HOLDS(!stream->over);
        return false;
    }
    CREW_HOLDS(stream->over || forgets ||
               clock_read_ms(&domain.clock.clock) >= stream->alive_ms + CLAIM_MS);
    stream->over = true;
    return true;
}

/* False: the claim is over. */
static bool send_chunk(struct mate *mate, struct stream *stream)
{
    static _Thread_local uint8_t payload[CHUNK_BYTES_MAX];
    struct mark mark = {
        .claim = stream->begun.claim,
        .index = stream->chunks,
        .size =
            (uint32_t)(sizeof mark + trial_below(&mate->random, CHUNK_BYTES_MAX - sizeof mark))};
    struct thread_chunk_result got;
    struct wire_error error;
    struct ask ask;
    ask_for(&ask, WIRE_METHOD_CHUNK, stream);
    memcpy(payload, &mark, sizeof mark);
    trial_fill(payload + sizeof mark, mark.size - sizeof mark, mark.claim + mark.index);
    size_t cut = 1 + trial_below(&mate->random, mark.size - 1);
    ask_payload(&ask, bytes_of(payload, cut));
    ask_payload(&ask, bytes_of(payload + cut, mark.size - cut));
    unsigned tries = 0;
    enum status status;
    uint64_t now_ms;
    do {
        now_ms = lane_read_clock(mate->lane);
        status = thread_chunk(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    if (is_over(stream, status, &error)) {
        return false;
    }
    stream->alive_ms = now_ms;
    stream->chunks++;
    stream->bytes += mark.size;
    CREW_HOLDS(got.step_bytes == stream->bytes);
    return true;
}

static bool commit(struct mate *mate, struct stream *stream)
{
    struct mark end = {.claim = stream->begun.claim, .index = stream->chunks};
    struct thread_append_result got;
    struct wire_error error;
    struct ask ask;
    ask_for(&ask, WIRE_METHOD_COMMIT, stream);
    ask_kind(&ask, WIRE_KIND_OPAQUE);
    ask_payload(&ask, bytes_of(&end, sizeof end));
    if (trial_below(&mate->random, 2)) {
        ask_set(&ask, expect, stream->begun.version);
    }
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_commit(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    if (is_over(stream, status, &error)) {
        return false;
    }
    if (ask.request.expect > 0 || !wire_given(&ask.request, WIRE_FIELD_expect)) {
        CREW_HOLDS(got.step == stream->begun.step);
    }
    CREW_HOLDS(got.version == stream->begun.version + 1);
    stream->over = true;
    atomic_fetch_add(&commits, 1);
    return true;
}

static bool abort_stream(struct mate *mate, struct stream *stream)
{
    struct wire_error error;
    struct ask ask;
    ask_for(&ask, WIRE_METHOD_ABORT, stream);
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_abort(mate->lane, &ask.request, &error);
    } while (put_back(mate, status, &tries));
    if (is_over(stream, status, &error)) {
        return false;
    }
    stream->over = true;
    atomic_fetch_add(&aborts, 1);
    return true;
}

/* Now and for ever. */
static void check_over(struct mate *mate, struct stream *stream)
{
    for (int i = 0; i < 2; i++) {
        CREW_HOLDS(!send_chunk(mate, stream));
        CREW_HOLDS(!commit(mate, stream));
        CREW_HOLDS(!abort_stream(mate, stream));
        maybe_turn(mate);
    }
}

static void do_stream(struct mate *mate, unsigned n)
{
    struct stream stream = {.name = name_of(n)};
    struct wire_error error;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_BEGIN, stream.name);
    unsigned tries = 0;
    enum status status;
    do {
        stream.alive_ms = lane_read_clock(mate->lane);
        status = thread_begin(mate->lane, &ask.request, &stream.begun, &error);
    } while (put_back(mate, status, &tries));
    if (is_claimed(status, &error)) {
        return;
    }
    atomic_store(&shared_claims[n], stream.begun.claim);
    uint64_t chunks = trial_below(&mate->random, CHUNKS_MAX);
    for (uint64_t i = 0; i < chunks; i++) {
        if (!send_chunk(mate, &stream)) {
            atomic_fetch_add(&refused, 1);
            check_over(mate, &stream);
            return;
        }
        maybe_turn(mate);
    }
    switch (trial_below(&mate->random, 8)) {
    case 0:
        return; /* as a worker that died */
    case 1:
        (void)abort_stream(mate, &stream);
        break;
    default:
        (void)commit(mate, &stream);
    }
    check_over(mate, &stream);
}

/* ---- the others ---- */

static void do_append(struct mate *mate, unsigned n)
{
    static _Thread_local uint8_t payload[CHUNK_BYTES_MAX];
    struct mark mark = {.index = n,
                        .size = (uint32_t)(sizeof mark + trial_below(&mate->random, 90))};
    struct thread_append_result got;
    struct wire_error error;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_APPEND, name_of(n));
    memcpy(payload, &mark, sizeof mark);
    trial_fill(payload + sizeof mark, mark.size - sizeof mark, mark.index);
    ask_payload(&ask, bytes_of(payload, mark.size));
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_append(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    (void)is_claimed(status, &error);
}

static void do_change(struct mate *mate, unsigned n)
{
    struct thread_rewind_result rewound;
    struct thread_forget_result forgotten;
    struct thread_stat_result stat;
    struct wire_error error;
    enum reason missing;
    struct ask ask;
    uint64_t which = trial_below(&mate->random, 8);
    unsigned tries = 0;
    enum status status;
    ask_begin(&ask, which == 0 && forgets ? WIRE_METHOD_FORGET : WIRE_METHOD_REWIND, name_of(n));
    ask_set(&ask, to, -1);
    do {
        status = which == 0 && forgets ? thread_forget(mate->lane, &ask.request, &forgotten, &error)
                 : which < 3           ? thread_rewind(mate->lane, &ask.request, &rewound, &error)
                 : which < 6           ? thread_touch(mate->lane, name_of(n), false, 0, &missing)
                                       : thread_stat(mate->lane, &ask.request, &stat, &error);
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK || status == STATUS_NOT_FOUND || status == STATUS_CONFLICT);
}

/* Keeps a claim that another holds, or tries to with one that is over. */
static void do_meddle(struct mate *mate, unsigned n)
{
    struct thread_chunk_result got;
    struct wire_error error;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_CHUNK, name_of(n));
    ask_set(&ask, claim, atomic_load(&shared_claims[n]) + 1 - trial_below(&mate->random, 2));
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_chunk(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    (void)is_claimed(status, &error);
}

static void check_step(const struct step *step)
{
    struct step_view view;
    struct mark mark;
    step_view(step, &view);
    const uint8_t *at = view.payload.data, *end = at + view.payload.size;
    for (uint32_t index = 0;; index++) {
        CREW_HOLDS((size_t)(end - at) >= sizeof mark);
        memcpy(&mark, at, sizeof mark);
        if (mark.claim == 0) {
            CREW_HOLDS(index == 0 && at + mark.size == end && view.segment_count == 1);
            return;
        }
        CREW_HOLDS(mark.index == index);
        if (mark.size == 0) {
            CREW_HOLDS(at + sizeof mark == end && view.segment_count == (index > 0 ? 2 : 1));
            return;
        }
        uint64_t claim = mark.claim;
        CREW_HOLDS(mark.size >= sizeof mark && at + mark.size < end);
        CREW_HOLDS(trial_holds(at + sizeof mark, mark.size - sizeof mark, mark.claim + mark.index));
        at += mark.size;
        memcpy(&mark, at, sizeof mark);
        CREW_HOLDS(mark.claim == claim);
    }
}

static void do_replay(struct mate *mate, unsigned n)
{
    struct thread_replay_result got;
    struct wire_error error;
    struct ask ask;
    ask_begin(&ask, WIRE_METHOD_REPLAY, name_of(n));
    ask_set(&ask, touch, trial_below(&mate->random, 2) != 0);
    unsigned tries = 0;
    enum status status;
    do {
        status = thread_replay(mate->lane, &ask.request, &got, &error);
    } while (put_back(mate, status, &tries));
    CREW_HOLDS(status == STATUS_OK);
    for (uint32_t at = got.begin; at < got.end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(mate->lane, &got, at, &missing);
        if (step) {
            check_step(step);
        }
    }
}

static void stream_and_meddle(struct mate *mate)
{
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned n = (unsigned)trial_below(&mate->random, NAMES);
        switch (trial_below(&mate->random, 8)) {
        case 0:
            do_append(mate, n);
            break;
        case 1:
            do_change(mate, n);
            break;
        case 2:
            do_meddle(mate, n);
            break;
        case 3:
        case 4:
            do_replay(mate, n);
            break;
        default:
            do_stream(mate, n);
        }
        maybe_turn(mate);
    }
    crew_done(mate);
}

/* `charge_bytes`: of the budget, that others take. */
static void race(struct threads_settings settings, int64_t charge_bytes)
{
    forgets = charge_bytes == 0;
    static void (*const work[MATES])(struct mate *) = {stream_and_meddle, stream_and_meddle,
                                                       stream_and_meddle};
    settings.ttl_ms = TTL_MS;
    settings.claim_timeout_ms = CLAIM_MS;
    domain_open(&domain, settings);
    lane_charge(domain.lane, charge_bytes);
    crew_run(&domain, MATES, MATES, work);
    for (int i = 0; i < 30; i++) { /* what was just loaded stays for a second */
        domain_wait(&domain, CLAIM_MS);
        lane_tend_fully(domain.lane);
    }
    CREW_HOLDS(atomic_load(&commits) > rounds / 10 && atomic_load(&aborts) > rounds / 100);
    CREW_HOLDS(!forgets || atomic_load(&refused) > 0);
    /* Every stream has ended, in one way. */
    uint64_t timed_out = domain_metric(&domain, METRIC_STREAMS_TIMED_OUT);
    CREW_HOLDS(timed_out > 0);
    CREW_HOLDS(domain_metric(&domain, METRIC_STREAMS) ==
               atomic_load(&commits) + atomic_load(&aborts) + timed_out);
    CREW_HOLDS(domain_metric(&domain, METRIC_STREAMING_BYTES) == 0);
    CREW_HOLDS(domain_metric(&domain, METRIC_PAYLOAD_BYTES) == 0);
    CREW_HOLDS(domain_metric(&domain, METRIC_THREADS_LIVE) == 0);
    CREW_HOLDS(charge_bytes == 0 || domain_metric(&domain, METRIC_EVICTED) > rounds / 100);
    lane_charge(domain.lane, -charge_bytes);
    domain_close(&domain);
}

START_TEST(every_stream_is_whole_or_nothing)
{
    rounds = trial_count(40000);
    clock_driven_init(&wall, 1700000000000);
    race(domain_settings(), 0);
}
END_TEST

/* The hand takes whatever it may, all the time. */
START_TEST(nor_when_memory_is_short)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = 64 << 20;
    rounds = trial_count(8000);
    clock_driven_init(&wall, 1700000000000);
    race(settings, 61 << 20);
}
END_TEST

START_TEST(nor_by_way_of_the_disk)
{
    struct threads_settings settings = domain_settings();
    clock_driven_init(&wall, 1700000000000);
    struct tier_model_settings tier = {.wall = &wall.clock, .at_once = true};
    struct tier_model *model = tier_model_create(&tier);
    settings.tier = tier_model_tier(model);
    settings.hash_secret = tier_model_secret(model);
    settings.wall = &wall.clock;
    settings.retention_ms = 1000 * 1000;
    rounds = trial_count(25000);
    race(settings, 0);
    tier_model_destroy(model);
}
END_TEST

int main(void)
{
    return SUITE_RUN("stream: races", NULL, NULL, 120, every_stream_is_whole_or_nothing,
                     nor_when_memory_is_short, nor_by_way_of_the_disk);
}
