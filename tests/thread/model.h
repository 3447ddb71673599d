/*
 * The model of the contract that test_model.c compares the domain with: its state and what changes
 * it. Private to that test and test_model_disk.c. Histories are plain arrays, looked through by
 * walking them.
 */
#ifndef RETHREAD_TESTS_THREAD_MODEL_H
#define RETHREAD_TESTS_THREAD_MODEL_H

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"
#include "tests/lib/trial.h"

#include <stdlib.h>

enum {
    THREADS = 6,
    IDS = 5, /* of each kind */
    STEPS_MAX = 400,
    SEGMENTS_MAX = 3,
    CALLS_MAX = 3,
    RECALLED = 64,
    SIZE_MAX_BYTES = 3000,
};

enum key_kind { KEY_RESPONSE, KEY_CALL, KEY_PREFIX, KEY_KINDS };

struct model_step {
    unsigned writer;      /* thread */
    unsigned incarnation; /* of it */
    uint32_t number, version, turn, tokens;
    bool final, has_tokens;
    int model, response, prefix; /* -1: none */
    unsigned call_count;
    unsigned calls[CALLS_MAX];
    unsigned segment_count;
    enum wire_kind kinds[SEGMENTS_MAX];
    uint32_t sizes[SEGMENTS_MAX];
    uint32_t size;
    uint8_t *payload;
    unsigned holds;
    enum reason lost_first; /* how its writer lost it */
    unsigned lost_any;      /* how its holders lost it: bits by reason */
    bool was_shared;        /* a fork ever held it */
    struct model_step *made_before;
};

struct recalled {
    unsigned key;
    const struct model_step *step;
    uint32_t lost;
    bool created;
};

struct model_thread {
    bool alive;
    enum reason reason; /* when not alive */
    unsigned incarnation;
    uint32_t version, length, lost, fork_version;
    uint32_t lost_base; /* lost position p was there by version lost_base + p + 1 at the latest */
    enum reason lost_reason;
    uint64_t ttl_ms, deadline_ms, created_ms;
    struct model_step *steps[STEPS_MAX];
    unsigned appends;
    struct recalled recalled[RECALLED]; /* by append, modulo; step NULL: had no key */
    bool carried[KEY_KINDS][IDS];       /* ever, in any incarnation, forks' shared steps too */
};

/* Who wrote a key: the newest step, and whether more than one thread did. */
struct model_key {
    struct model_step *newest;
    bool shared;
};

static struct domain domain;
static struct model_thread threads[THREADS];
static struct model_key keys[KEY_KINDS][IDS];
static struct model_step *made_last; /* all there ever were: keys lead to the gone, too */
static uint64_t payload_held;        /* bytes */
static uint64_t seed, state, operation;
static const char *doing;

static const char *const thread_names[THREADS] = {"t", "tt", "thread two", "t3", "0", "\xff\x01x"};
static const char *const prefixes[IDS] = {"0123456789abcdef", "0123456789abcdeg",
                                          "aaaaaaaaaaaaaaaa", "bbbbbbbbbbbbbbbb",
                                          "cccccccccccccccc"};
static const char *const ids[IDS] = {"a", "b", "call_1", "call_2", "ab"};

#define SAME(ours, theirs)                                                                         \
    do {                                                                                           \
        int64_t got_ = (int64_t)(ours), want_ = (int64_t)(theirs);                                 \
        ck_assert_msg(got_ == want_, "%s: %s is %ld, model says %ld (seed %lu, operation %lu)",    \
                      doing, #ours, (long)got_, (long)want_, (unsigned long)seed,                  \
                      (unsigned long)operation);                                                   \
    } while (0)
#define HOLDS(what) SAME(!!(what), true)

static unsigned below(unsigned limit)
{
    return (unsigned)trial_below(&state, limit);
}

static bool one_in(unsigned n)
{
    return below(n) == 0;
}

/*
 * Over a tier a thread lives for its retention, which takes the place of the ttl here: what is said
 * of ttl_ms below is true of it. The ttl itself is a moment, so that threads leave memory all the
 * time, which no answer may show.
 */
static struct tier_model *disk; /* NULL: memory only */
static struct clock_driven wall;
static uint64_t keep_ms; /* of threads that name no other */
/* The disk is read-only now and then. It does not learn of a key that a thread wrote and lost in
 * that time, and what is put whole after it takes its keys back from whoever wrote them since: of
 * keys that several threads wrote little is known then. */
static bool in_trouble;

static uint64_t now_ms(void)
{
    return clock_read_ms(disk ? &wall.clock : &domain.clock.clock);
}

static void tend(void)
{
    lane_offline(domain.lane);
    lane_online(domain.lane);
    lane_tend(domain.lane);
}

/* Whether the operation is to be done again: it waits for the disk, which does a little. */
static bool put_back(enum status status)
{
    static unsigned tries;
    if (!disk || status != STATUS_AGAIN) {
        tries = 0;
        return false;
    }
    HOLDS(++tries < 1000);
    if (tries > 100 && tier_model_tier(disk)->calls->is_read_only(tier_model_tier(disk))) {
        tier_model_heal(disk); /* it waits for an erasure */
    }
    for (unsigned steps = below(4); steps > 0; steps--) {
        tier_model_step(disk);
    }
    tend();
    return true;
}

static struct bytes name_of(unsigned thread)
{
    return bytes_text(thread_names[thread]);
}

/* ---- the model ---- */

static void step_drop(struct model_thread *thread, struct model_step *step, enum reason reason)
{
    if (step->writer == (unsigned)(thread - threads) && step->incarnation == thread->incarnation) {
        step->lost_first = reason;
    }
    step->lost_any |= 1U << reason;
    if (--step->holds == 0) {
        payload_held -= step->size;
        free(step->payload);
        step->payload = NULL; /* the step itself stays: it may be a key's newest */
    }
}

static void thread_drop(struct model_thread *thread, uint32_t keep, enum reason reason)
{
    for (uint32_t at = thread->lost > keep ? thread->lost : keep; at < thread->length; at++) {
        step_drop(thread, thread->steps[at], reason);
    }
}

static void thread_end(struct model_thread *thread, enum reason reason)
{
    thread_drop(thread, 0, reason);
    thread->alive = false;
    thread->reason = reason;
    if (reason != REASON_EXPIRED) {
        thread->version = 0; /* what follows starts afresh */
    }
}

static void expire_all(void)
{
    for (unsigned t = 0; t < THREADS; t++) {
        if (threads[t].alive && threads[t].deadline_ms <= now_ms()) {
            thread_end(&threads[t], REASON_EXPIRED);
        }
    }
}

static void use(struct model_thread *thread)
{
    uint64_t deadline_ms = now_ms() + thread->ttl_ms;
    if (deadline_ms > thread->deadline_ms) {
        thread->deadline_ms = deadline_ms;
    }
}

static bool step_carries(const struct model_step *step, enum key_kind kind, unsigned id)
{
    for (unsigned i = 0; kind == KEY_CALL && i < step->call_count; i++) {
        if (step->calls[i] == id) {
            return true;
        }
    }
    return (kind == KEY_RESPONSE && step->response == (int)id) ||
           (kind == KEY_PREFIX && step->prefix == (int)id);
}

static void write_keys(struct model_thread *thread, struct model_step *step)
{
    for (enum key_kind kind = 0; kind < KEY_KINDS; kind++) {
        for (unsigned id = 0; id < IDS; id++) {
            struct model_key *key = &keys[kind][id];
            if (step_carries(step, kind, id)) {
                key->shared |= key->newest && key->newest->writer != step->writer;
                key->newest = step;
                thread->carried[kind][id] = true;
            }
        }
    }
}

/* The version at which a position became what it is, as the thread counts. */
static uint32_t position_since(const struct model_thread *thread, uint32_t at)
{
    if (at < thread->lost) {
        return thread->fork_version ? thread->fork_version : thread->lost_base + at + 1;
    }
    const struct model_step *step = thread->steps[at];
    bool own =
        step->writer == (unsigned)(thread - threads) && step->incarnation == thread->incarnation;
    return own ? step->version : thread->fork_version;
}

static bool same_bytes(const struct model_step *a, const struct model_step *b)
{
    return a->segment_count == b->segment_count && a->size == b->size &&
           memcmp(a->sizes, b->sizes, a->segment_count * sizeof *a->sizes) == 0 &&
           memcmp(a->kinds, b->kinds, a->segment_count * sizeof *a->kinds) == 0 &&
           (a->size == 0 || memcmp(a->payload, b->payload, a->size) == 0);
}

/* ---- what is asked ---- */

static struct ask ask;
static struct wire_error error;

static struct model_step *invent_step(void)
{
    static uint8_t again[64]; /* now and then the same bytes as before */
    struct model_step *step = calloc(1, sizeof *step);
    step->segment_count = one_in(8) ? 0 : 1 + below(SEGMENTS_MAX);
    for (unsigned i = 0; i < step->segment_count; i++) {
        step->kinds[i] = (enum wire_kind)(one_in(3) ? below(WIRE_KIND_COUNT) : WIRE_KIND_TEXT);
        step->sizes[i] = 1 + (one_in(20) ? below(SIZE_MAX_BYTES / SEGMENTS_MAX) : below(3));
        step->size += step->sizes[i];
    }
    step->payload = malloc(step->size + 1);
    for (uint32_t i = 0; i < step->size; i++) {
        step->payload[i] = (uint8_t)trial_random(&state);
    }
    if (step->size <= sizeof again && one_in(2)) {
        memcpy(step->payload, again, step->size);
    }
    step->tokens = below(100);
    step->has_tokens = one_in(2);
    step->model = one_in(2) ? -1 : (int)below(2);
    step->response = one_in(2) ? -1 : (int)below(IDS);
    step->prefix = one_in(2) ? -1 : (int)below(IDS);
    step->call_count = one_in(2) ? 0 : below(CALLS_MAX + 1);
    for (unsigned i = 0; i < step->call_count; i++) {
        step->calls[i] = below(IDS);
    }
    step->final = step->call_count == 0;
    return step;
}

static void ask_append(unsigned thread, struct model_step *step)
{
    const uint8_t *at = step->payload;
    bool all_text = true;
    ask_begin(&ask, WIRE_METHOD_APPEND, name_of(thread));
    for (unsigned i = 0; i < step->segment_count; i++) {
        all_text &= step->kinds[i] == WIRE_KIND_TEXT;
        ask_payload(&ask, bytes_of(at, step->sizes[i]));
        at += step->sizes[i];
    }
    if (step->segment_count == 0) {
        ask_set(&ask, segments, (struct wire_list){0});
    } else if (!all_text || one_in(2)) {
        for (unsigned i = 0; i < step->segment_count; i++) {
            ask_kind(&ask, step->kinds[i]);
        }
    }
    if (step->has_tokens) {
        ask_set(&ask, tokens, step->tokens);
    }
    if (step->model >= 0) {
        ask_set(&ask, model, bytes_text(ids[step->model]));
    }
    if (step->response >= 0) {
        ask_set(&ask, response_id, bytes_text(ids[step->response]));
    }
    if (step->prefix >= 0) {
        ask_set(&ask, prefix, bytes_text(prefixes[step->prefix]));
    }
    for (unsigned i = 0; i < step->call_count; i++) {
        ask_call(&ask, bytes_text(ids[step->calls[i]]));
    }
    if (one_in(4)) {
        step->final = one_in(2);
        ask_set(&ask, final, step->final);
    }
}

static void step_free(struct model_step *step)
{
    free(step->payload);
    free(step);
}

/* ---- append ---- */

static void check_conflict(enum status status, const char *cause, uint32_t version)
{
    SAME(status, STATUS_CONFLICT);
    SAME(strcmp(error.cause, cause), 0);
    SAME(error.version, version);
}

static struct recalled *recall_find(struct model_thread *thread, unsigned key)
{
    for (unsigned back = 1; back <= RECALLED && back <= thread->appends; back++) {
        struct recalled *entry = &thread->recalled[(thread->appends - back) % RECALLED];
        if (entry->step && entry->key == key) {
            return entry;
        }
    }
    return NULL;
}

/* A thread that is not there begins, or goes on where what is known of it ended. */
static void thread_starts(struct model_thread *thread, bool afresh)
{
    bool goes_on = !afresh && thread->reason == REASON_EXPIRED;
    thread->lost = goes_on ? thread->length : 0;
    thread->version = goes_on ? thread->version : 0;
    thread->lost_base = thread->version - thread->lost;
    thread->lost_reason = thread->reason;
    thread->length = thread->lost;
    thread->fork_version = 0;
    thread->alive = true;
    thread->incarnation++;
    thread->ttl_ms = keep_ms;
    thread->created_ms = now_ms();
    thread->deadline_ms = 0;
    thread->appends = 0;
}

static void check_answer(const struct thread_append_result *got, const struct recalled *want,
                         bool duplicate, uint64_t expires_in_ms)
{
    SAME(got->step, want->step->number);
    SAME(got->version, want->step->version);
    SAME(got->created, want->created);
    SAME(got->lost, want->lost);
    SAME(got->duplicate, duplicate);
    SAME(got->expires_in_ms, expires_in_ms);
}

static void commit(unsigned t, struct model_step *step, bool created, int key, uint64_t ttl_ms,
                   const struct thread_append_result *got)
{
    struct model_thread *thread = &threads[t];
    uint32_t previous = thread->length > thread->lost ? thread->steps[thread->length - 1]->turn : 0;
    step->turn = wire_given(&ask.request, WIRE_FIELD_turn) ? (uint32_t)ask.request.turn : previous;
    step->writer = t;
    step->incarnation = thread->incarnation;
    step->number = thread->length;
    step->version = ++thread->version;
    step->holds = 1;
    step->made_before = made_last;
    made_last = step;
    payload_held += step->size;
    thread->steps[thread->length++] = step;
    struct recalled *entry = &thread->recalled[thread->appends++ % RECALLED];
    *entry = (struct recalled){(unsigned)key, step, thread->lost, created};
    check_answer(got, entry, false, ttl_ms ? ttl_ms : thread->ttl_ms);
    if (key < 0) {
        entry->step = NULL;
    }
    if (ttl_ms) {
        thread->ttl_ms = ttl_ms;
        thread->deadline_ms = now_ms() + ttl_ms;
    } else {
        use(thread);
    }
    write_keys(thread, step);
}

static void do_append(void)
{
    unsigned t = below(THREADS);
    struct model_thread *thread = &threads[t];
    if (thread->length + 1 >= STEPS_MAX) {
        return;
    }
    struct model_step *step = invent_step();
    uint64_t ttl_ms = one_in(6) ? 1 + below(2 * (unsigned)keep_ms) : 0;
    int key = one_in(3) ? (int)below(IDS) : -1;
    uint32_t known = thread->version;
    uint32_t last_turn = thread->alive && thread->length > thread->lost
                             ? thread->steps[thread->length - 1]->turn
                             : 0;
    ask_append(t, step);
    bool has_expect = one_in(2);
    if (has_expect) {
        ask_set(&ask, expect, one_in(8) ? below(8) : one_in(10) ? 0 : known);
    }
    if (one_in(3)) {
        ask_set(&ask, turn, last_turn + below(3) - (last_turn > 0 && one_in(4)));
    }
    if (ttl_ms && disk) {
        ask_set(&ask, retention_ms, ttl_ms);
    } else if (ttl_ms) {
        ask_set(&ask, ttl_ms, ttl_ms);
    }
    if (key >= 0) {
        ask_set(&ask, key, bytes_text(ids[key]));
    }
    struct thread_append_result got;
    enum status status;
    do {
        status = thread_append(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct recalled *first = thread->alive && key >= 0 ? recall_find(thread, (unsigned)key) : NULL;
    if (first) {
        const struct model_step *old = first->step;
        bool there = old->number < thread->length && thread->steps[old->number] == old;
        if (there && same_bytes(old, step)) {
            SAME(status, STATUS_OK);
            check_answer(&got, first, true, thread->ttl_ms);
            use(thread);
        } else {
            check_conflict(status, "key", thread->version);
        }
        step_free(step);
        return;
    }
    bool afresh = has_expect && ask.request.expect == 0;
    if (afresh && thread->alive) {
        check_conflict(status, "exists", thread->version);
    } else if (has_expect && !afresh && ask.request.expect != known) {
        check_conflict(status, "version", known);
    } else if (wire_given(&ask.request, WIRE_FIELD_turn) && ask.request.turn < last_turn) {
        SAME(status, STATUS_BAD_REQUEST);
        SAME(strcmp(error.option, "turn"), 0);
    } else {
        SAME(status, STATUS_OK);
        bool created = !thread->alive && (afresh || thread->reason != REASON_EXPIRED);
        if (!thread->alive) {
            thread_starts(thread, afresh);
        }
        commit(t, step, created, key, ttl_ms, &got);
        return;
    }
    step_free(step);
}

#endif
