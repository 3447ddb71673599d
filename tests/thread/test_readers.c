/*
 * Readers that replay while writers append, fork, rewind, forget and let expire.
 *
 * Each thread has one writer, which knows every state it will bring about and notes its fingerprint
 * before it does. Each payload names the step before it by a hash, and is followed by bytes that
 * only its own hash gives. So a replay that was never a state of its thread, or mixes two, or has a
 * byte of something else, is recognised by whoever reads it.
 */
#include "tests/lib/crew.h"
#include "tests/lib/suite.h"

enum {
    WRITERS = 2,
    READERS = 2,
    OWNED = 4, /* threads of each writer */
    LENGTH_MAX = 48,
    TTL_MS = 200,
    STATES = 1 << 22,
};

struct mark {
    uint64_t hash; /* of the other fields */
    uint64_t before;
    uint32_t number;
    uint32_t thread;
    uint64_t nonce;
    uint64_t size; /* of the whole payload */
};

struct owned {
    bool alive, remembered; /* remembered: gone as expired, so that it goes on */
    uint32_t version, length, lost;
    uint64_t hashes[LENGTH_MAX + 1];
};

static struct domain domain;
static _Atomic uint64_t *states;
static uint64_t rounds;

static uint64_t mix(uint64_t a, uint64_t b)
{
    uint64_t state = a * UINT64_C(0x9e3779b97f4a7c15) + b;
    return trial_random(&state);
}

static uint64_t mark_hash(const struct mark *mark)
{
    uint64_t hash = mix(mark->before, mark->number);
    hash = mix(hash, mark->thread);
    return mix(mix(hash, mark->nonce), mark->size) | 1;
}

static uint64_t fingerprint(uint32_t thread, uint32_t version, uint32_t length, uint32_t lost,
                            uint64_t head)
{
    return mix(mix(mix(mix(thread, version), length), lost), head) | 1;
}

static void note_state(uint64_t print)
{
    for (uint64_t at = print % STATES;; at = (at + 1) % STATES) {
        uint64_t empty = 0;
        /* Release pairs with the acquire in state_was_noted. */
        if (atomic_compare_exchange_strong_explicit(&states[at], &empty, print,
                                                    memory_order_release, memory_order_relaxed) ||
            empty == print) {
            return;
        }
    }
}

static bool state_was_noted(uint64_t print)
{
    for (uint64_t at = print % STATES;; at = (at + 1) % STATES) {
        uint64_t noted = atomic_load_explicit(&states[at], memory_order_acquire); /* as above */
        if (noted == 0 || noted == print) {
            return noted == print;
        }
    }
}

static void name_thread(char id[16], uint32_t thread)
{
    snprintf(id, 16, "thread %u", thread);
}

/* ---- writers ---- */

struct writer {
    struct mate *mate;
    struct owned owned[OWNED];
    struct ask ask;
    struct wire_error error;
    uint8_t payload[32768];
};

static uint32_t number_of(const struct writer *writer, unsigned t)
{
    return writer->mate->number * OWNED + t;
}

static void begin(struct writer *writer, enum wire_method method, char id[16], unsigned t)
{
    name_thread(id, number_of(writer, t));
    ask_begin(&writer->ask, method, bytes_text(id));
}

static void fill_payload(struct writer *writer, const struct mark *mark)
{
    uint64_t state = mark->hash;
    memcpy(writer->payload, mark, sizeof *mark);
    for (uint64_t at = sizeof *mark; at < mark->size; at++) {
        writer->payload[at] = (uint8_t)(trial_random(&state) >> 56);
    }
}

static void write_append(struct writer *writer, unsigned t)
{
    struct owned *owned = &writer->owned[t];
    struct mate *mate = writer->mate;
    struct thread_append_result result;
    char id[16];
    bool goes_on = owned->alive || owned->remembered;
    uint32_t length = goes_on ? owned->length : 0, version = goes_on ? owned->version : 0;
    uint64_t large = trial_below(&mate->random, 16) == 0 ? 30000 : 900;
    struct mark mark = {.before = length ? owned->hashes[length - 1] : 0,
                        .number = length,
                        .thread = number_of(writer, t),
                        .nonce = trial_random(&mate->random),
                        .size = sizeof mark + trial_below(&mate->random, large)};
    mark.hash = mark_hash(&mark);
    fill_payload(writer, &mark);
    begin(writer, WIRE_METHOD_APPEND, id, t);
    ask_payload(&writer->ask, bytes_of(writer->payload, mark.size));
    /* It may have expired or be about to: both outcomes are noted. */
    uint32_t number = number_of(writer, t);
    note_state(fingerprint(number, version + 1, length + 1, owned->alive ? owned->lost : length,
                           mark.hash));
    note_state(fingerprint(number, version + 1, length + 1, length, mark.hash));
    CREW_HOLDS(domain_append(mate->lane, &writer->ask, &result, &writer->error) == STATUS_OK);
    CREW_HOLDS(result.version == version + 1 && result.step == length);
    CREW_HOLDS(result.lost == length || (owned->alive && result.lost == owned->lost));
    owned->lost = (uint32_t)result.lost;
    owned->hashes[length] = mark.hash;
    owned->length = length + 1;
    owned->version = version + 1;
    owned->alive = true;
    owned->remembered = false;
}

static void found_expired(struct writer *writer, struct owned *owned)
{
    CREW_HOLDS(writer->error.status == STATUS_NOT_FOUND);
    CREW_HOLDS(writer->error.reason == REASON_EXPIRED);
    owned->alive = false;
    owned->remembered = true;
}

static void write_rewind(struct writer *writer, unsigned t)
{
    struct owned *owned = &writer->owned[t];
    struct thread_rewind_result result;
    char id[16];
    uint32_t keep = (uint32_t)trial_below(&writer->mate->random, owned->length + 1);
    uint32_t lost = owned->lost < keep ? owned->lost : keep;
    uint64_t head = keep > lost ? owned->hashes[keep - 1] : 0;
    begin(writer, WIRE_METHOD_REWIND, id, t);
    ask_set(&writer->ask, to, (int64_t)keep - 1);
    note_state(fingerprint(number_of(writer, t), owned->version + 1, keep, lost, head));
    enum status status =
        thread_rewind(writer->mate->lane, &writer->ask.request, &result, &writer->error);
    if (status == STATUS_OK) {
        owned->version++;
        owned->length = keep;
        owned->lost = lost;
        CREW_HOLDS(result.version == owned->version);
    } else if (status != STATUS_AGAIN) {
        found_expired(writer, owned);
    }
}

static void write_forget(struct writer *writer, unsigned t)
{
    struct owned *owned = &writer->owned[t];
    char id[16];
    struct thread_forget_result forgotten = {0};
    begin(writer, WIRE_METHOD_FORGET, id, t);
    enum status status =
        thread_forget(writer->mate->lane, &writer->ask.request, &forgotten, &writer->error);
    if (status == STATUS_OK) {
        owned->remembered = !forgotten.forgotten && (owned->alive || owned->remembered);
        owned->alive = false;
    }
}

static void write_fork(struct writer *writer, unsigned t, unsigned from)
{
    struct owned *owned = &writer->owned[t], *origin = &writer->owned[from];
    struct thread_fork_result result;
    char id[16], from_id[16];
    if (t == from || owned->alive || !origin->alive || origin->length == 0) {
        return;
    }
    uint32_t keep = 1 + (uint32_t)trial_below(&writer->mate->random, origin->length);
    uint32_t lost = origin->lost < keep ? origin->lost : keep;
    uint64_t head = keep > lost ? origin->hashes[keep - 1] : 0;
    begin(writer, WIRE_METHOD_FORK, id, t);
    name_thread(from_id, number_of(writer, from));
    ask_set(&writer->ask, from, bytes_text(from_id));
    ask_set(&writer->ask, at, keep - 1);
    note_state(fingerprint(number_of(writer, t), keep, keep, lost, head));
    enum status status =
        thread_fork(writer->mate->lane, &writer->ask.request, &result, &writer->error);
    if (status == STATUS_OK) {
        CREW_HOLDS(result.version == keep);
        *owned = (struct owned){.alive = true, .version = keep, .length = keep, .lost = lost};
        memcpy(owned->hashes, origin->hashes, keep * sizeof *owned->hashes);
    } else if (status != STATUS_AGAIN) {
        found_expired(writer, origin);
    }
}

static void write_on(struct mate *mate)
{
    struct writer *writer = calloc(1, sizeof *writer);
    writer->mate = mate;
    for (uint64_t i = 0; i < rounds; i++) {
        unsigned t = (unsigned)trial_below(&mate->random, OWNED);
        unsigned act = (unsigned)trial_below(&mate->random, 100);
        struct owned *owned = &writer->owned[t];
        if (owned->length >= LENGTH_MAX || act < 4) {
            write_forget(writer, t);
        } else if (act < 75 || !owned->alive) {
            write_append(writer, t);
        } else if (act < 85) {
            write_rewind(writer, t);
        } else {
            write_forget(writer, t);
            write_fork(writer, t, (unsigned)trial_below(&mate->random, OWNED));
        }
        if (owned->length >= LENGTH_MAX && owned->remembered) {
            /* Too long to go on: begin anew. */
            char id[16];
            struct thread_append_result result;
            begin(writer, WIRE_METHOD_APPEND, id, t);
            ask_set(&writer->ask, expect, 0);
            ask_set(&writer->ask, segments, (struct wire_list){0});
            struct wire_error *error = &writer->error;
            CREW_HOLDS(domain_append(mate->lane, &writer->ask, &result, error) == STATUS_OK);
            owned->alive = true;
            write_forget(writer, t);
        }
        if (trial_below(&mate->random, 8) == 0) {
            clock_driven_advance(&domain.clock, trial_below(&mate->random, TTL_MS / 4));
        }
        crew_turn(mate);
    }
    crew_done(mate);
    free(writer);
}

/* ---- readers ---- */

/* Returns the payload's own hash; every byte of it was looked at. */
static uint64_t check_payload(const struct step_view *view, uint32_t number)
{
    struct mark mark;
    CREW_HOLDS(view->payload.size >= sizeof mark);
    memcpy(&mark, view->payload.data, sizeof mark);
    CREW_HOLDS(mark.hash == mark_hash(&mark) && mark.size == view->payload.size);
    CREW_HOLDS(mark.number == number && view->number == number);
    uint64_t state = mark.hash;
    for (uint64_t at = sizeof mark; at < mark.size; at++) {
        CREW_HOLDS(view->payload.data[at] == (uint8_t)(trial_random(&state) >> 56));
    }
    return mark.hash;
}

static void check_replay(struct mate *mate, uint32_t thread,
                         const struct thread_replay_result *result)
{
    uint64_t head = 0;
    uint32_t lost = 0;
    for (uint32_t at = result->begin; at < result->end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(mate->lane, result, at, &missing);
        if (!step) {
            CREW_HOLDS(missing == REASON_EXPIRED && at == lost);
            lost++;
            continue;
        }
        struct step_view view;
        struct mark mark;
        step_view(step, &view);
        if (view.payload.size == 0) { /* the new beginning of one that was too long */
            CREW_HOLDS(at == 0 && result->end == 1 && result->version == 1);
            return;
        }
        uint64_t hash = check_payload(&view, at);
        memcpy(&mark, view.payload.data, sizeof mark);
        CREW_HOLDS(at == lost ? lost > 0 || mark.before == 0 : mark.before == head);
        head = hash;
    }
    CREW_HOLDS(result->end == result->head + 1);
    CREW_HOLDS(
        state_was_noted(fingerprint(thread, (uint32_t)result->version, result->end, lost, head)));
}

static void read_on(struct mate *mate)
{
    uint64_t states_seen = 0;
    while (crew_works(mate)) {
        struct ask ask;
        struct thread_replay_result result;
        struct wire_error error;
        char id[16];
        uint32_t thread = (uint32_t)trial_below(&mate->random, WRITERS * OWNED);
        name_thread(id, thread);
        ask_begin(&ask, WIRE_METHOD_REPLAY, bytes_text(id));
        ask_set(&ask, touch, trial_below(&mate->random, 2) == 0);
        if (trial_below(&mate->random, 2) == 0) { /* as a loop with several requests at once */
            struct thread_hint hint;
            thread_prefetch_directory(mate->lane, &ask.request, &hint);
            thread_prefetch_record(mate->lane, &ask.request, &hint);
            thread_prefetch_steps(mate->lane, &ask.request, &hint);
        }
        enum status status = thread_replay(mate->lane, &ask.request, &result, &error);
        CREW_HOLDS(status == STATUS_OK || status == STATUS_AGAIN);
        if (status == STATUS_OK && result.state != THREAD_MISS) {
            check_replay(mate, thread, &result);
            states_seen++;
        } else if (status == STATUS_OK) {
            CREW_HOLDS(result.reason == REASON_EXPIRED || result.reason == REASON_FORGOTTEN ||
                       result.reason == REASON_NEVER_SEEN);
        }
        crew_turn(mate);
    }
    CREW_HOLDS(states_seen > 0);
}

START_TEST(every_replay_is_a_state_the_thread_had)
{
    rounds = trial_count(200000);
    states = calloc(STATES, sizeof *states);
    crew_run(&domain, WRITERS, WRITERS + READERS,
             (void (*const[])(struct mate *)){write_on, write_on, read_on, read_on});
    free(states);
    ck_assert_uint_gt(domain_metric(&domain, METRIC_EXPIRED), 0);
    ck_assert_uint_gt(domain_metric(&domain, METRIC_FORKS), 0);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_EVICTED), 0);
    /* Nothing leaks: with all of them forgotten no payload is held. */
    for (uint32_t thread = 0; thread < WRITERS * OWNED; thread++) {
        struct ask ask;
        char id[16];
        struct thread_forget_result forgotten = {0};
        name_thread(id, thread);
        ask_begin(&ask, WIRE_METHOD_FORGET, bytes_text(id));
        thread_forget(domain.lane, &ask.request, &forgotten, &domain.error);
    }
    for (int tends = 0; tends < 4; tends++) {
        lane_tend_fully(domain.lane);
    }
    ck_assert_uint_eq(domain_metric(&domain, METRIC_PAYLOAD_BYTES), 0);
    ck_assert_uint_eq(domain_metric(&domain, METRIC_THREADS_LIVE), 0);
}
END_TEST

static void setup(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(1) << 29;
    settings.ttl_ms = TTL_MS;
    settings.tombstones = 1 << 16;
    settings.frame_max_bytes = 16 << 20;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    domain_close(&domain);
}

int main(void)
{
    return SUITE_RUN("readers", setup, teardown, 0, every_replay_is_a_state_the_thread_had);
}
