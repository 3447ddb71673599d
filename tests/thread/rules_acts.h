/*
 * Random acts on a few threads, each done in the domain and in the model of the rules: all but
 * replays. Private to rules_play.h.
 *
 * An act draws all it needs from its own number and the model's present state, so that a history is
 * a list of numbers, and one that shows a difference can be made shorter by leaving some out.
 */
#ifndef RETHREAD_TESTS_THREAD_RULES_ACTS_H
#define RETHREAD_TESTS_THREAD_RULES_ACTS_H

#include "tests/thread/rules_stage.h"

/* ---- append ---- */

static unsigned pick(void)
{
    return below(RULES_THREADS);
}

static bool is_damaged(const struct rules_thread *thread)
{
    for (uint32_t at = thread->lost; at < thread->length; at++) {
        if (thread->places[at].corrupt) {
            return true;
        }
    }
    return false;
}

static void invent_segments(struct rules_step *step, unsigned most)
{
    step->segment_count = one_in(6) ? 0 : 1 + below(most);
    for (unsigned i = 0; i < step->segment_count; i++) {
        step->kinds[i] = one_in(3) ? (enum wire_kind)below(WIRE_KIND_COUNT) : WIRE_KIND_TEXT;
        step->sizes[i] = one_in(4) ? 1 + below(10) : 1 + below(3);
        step->size += step->sizes[i];
    }
    for (uint32_t i = 0; i < step->size; i++) {
        step->payload[i] = (uint8_t)('a' + below(26));
    }
}

static int maybe(unsigned limit)
{
    return one_in(2) ? -1 : (int)below(limit);
}

static struct rules_append invent_append(unsigned t, unsigned segments_most)
{
    struct rules_append append = {0};
    struct rules_step *step = &append.step;
    const struct rules_thread *thread = &rules.threads[t];
    invent_segments(step, segments_most);
    step->has_tokens = one_in(2);
    step->tokens = step->has_tokens ? below(6) : 0;
    step->model = maybe(RULES_MODELS);
    step->response = maybe(RULES_IDS);
    step->prefix = maybe(RULES_IDS);
    step->visible = maybe(RULES_IDS);
    step->call_count = one_in(2) ? 0 : 1 + below(RULES_CALLS);
    for (unsigned i = 0; i < step->call_count; i++) {
        step->calls[i] = below(RULES_IDS);
    }
    step->final = one_in(4) ? one_in(2) : step->call_count == 0;
    bool held = thread->alive && thread->length > thread->lost;
    uint32_t turn = held ? thread->places[thread->length - 1].step->turn : 0;
    append.has_turn = !one_in(3) || is_damaged(thread);
    bool falls = turn > 0 && one_in(12) && !is_damaged(thread);
    step->turn = !append.has_turn ? 0 : falls ? turn - 1 : one_in(2) ? turn : turn + 1 + below(2);
    append.has_expect = one_in(4);
    append.expect = one_in(4) ? below(4) : thread->version;
    return append;
}

static void tell_append(const struct rules_append *append)
{
    const struct rules_step *step = &append->step;
    if (append->has_turn) {
        tell(" turn=%u", step->turn);
    }
    if (append->has_expect) {
        tell(" expect=%lu", (unsigned long)append->expect);
    }
    if (step->has_tokens) {
        tell(" tokens=%u", step->tokens);
    }
    if (step->model >= 0) {
        tell(" model=%s", rules_models[step->model]);
    }
    tell(" final=%d r%d p%d v%d", step->final, step->response, step->prefix, step->visible);
    for (unsigned i = 0; i < step->call_count; i++) {
        tell(" c%u", step->calls[i]);
    }
    tell(" :");
    for (unsigned i = 0, at = 0; i < step->segment_count; at += step->sizes[i++]) {
        tell(" %d'%.*s", step->kinds[i], (int)step->sizes[i], step->payload + at);
    }
}

static void ask_append(const struct rules_append *append)
{
    const struct rules_step *step = &append->step;
    const uint8_t *at = step->payload;
    for (unsigned i = 0; i < step->segment_count; i++) {
        ask_kind(&ask, step->kinds[i]);
        ask_payload(&ask, bytes_of(at, step->sizes[i]));
        at += step->sizes[i];
    }
    if (append->has_turn) {
        ask_set(&ask, turn, step->turn);
    }
    if (append->has_expect) {
        ask_set(&ask, expect, append->expect);
    }
    if (step->has_tokens) {
        ask_set(&ask, tokens, step->tokens);
    }
    if (step->model >= 0) {
        ask_set(&ask, model, bytes_text(rules_models[step->model]));
    }
    if (step->response >= 0) {
        ask_set(&ask, response_id, name_of('r', (unsigned)step->response));
    }
    if (step->prefix >= 0) {
        ask_set(&ask, prefix, name_of('p', (unsigned)step->prefix));
    }
    if (step->visible >= 0) {
        ask_set(&ask, visible, name_of('v', (unsigned)step->visible));
    }
    for (unsigned i = 0; i < step->call_count; i++) {
        ask_call(&ask, name_of('c', step->calls[i]));
    }
    if (step->final != (step->call_count == 0) || one_in(3)) {
        ask_set(&ask, final, step->final);
    }
}

/* An error is the one that the rules say; true: it went well. */
static bool check_status(enum status status, const struct rules_outcome *want)
{
    SAME(status, want->status);
    if (status == STATUS_CONFLICT && !want->any_cause) {
        SAME(strcmp(error.cause, want->cause), 0);
        SAME(error.version, want->version);
    }
    return status == STATUS_OK;
}

static void check_appended(const struct thread_append_result *got, const struct rules_outcome *want)
{
    SAME(got->step, want->step);
    SAME(got->version, want->version);
    SAME(got->lost, want->lost);
    SAME(got->created, want->created);
    SAME(got->duplicate, false);
    SAME(got->expires_in_ms, rules.keep_ms);
}

static bool is_full(unsigned t)
{
    return rules.made_count >= RULES_MADE || rules.threads[t].length >= RULES_STEPS;
}

static void do_append(void)
{
    unsigned t = pick();
    if (is_full(t)) {
        return;
    }
    struct rules_append append = invent_append(t, RULES_SEGMENTS - 1);
    tell("append t%u", t);
    tell_append(&append);
    tell("\n");
    ask_begin(&ask, WIRE_METHOD_APPEND, thread_name(t));
    ask_append(&append);
    if (append.step.segment_count == 0) {
        ask_set(&ask, segments, (struct wire_list){0});
    }
    struct thread_append_result got;
    enum status status;
    do {
        status = thread_append(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_append(&rules, t, &append);
    if (check_status(status, &want)) {
        check_appended(&got, &want);
    }
}

/* ---- streaming ---- */

static void do_begin(void)
{
    unsigned t = pick();
    enum wire_kind kind = (enum wire_kind)below(WIRE_KIND_COUNT);
    tell("begin t%u segment=%d\n", t, kind);
    ask_begin(&ask, WIRE_METHOD_BEGIN, thread_name(t));
    if (kind != WIRE_KIND_TEXT) {
        ask_set(&ask, segment, kind);
    }
    struct thread_begin_result got;
    enum status status;
    do {
        status = thread_begin(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_begin(&rules, t, kind);
    if (check_status(status, &want)) {
        SAME(got.step, want.step);
        SAME(got.version, want.version);
        HOLDS(got.claim > 0 && got.claim <= INT64_MAX);
        SAME(got.claim_expires_in_ms, CLAIM_MS);
        rules_claim(&rules, t, got.claim);
    }
}

/* A thread that is being streamed to, if there is one. */
static unsigned pick_claimed(void)
{
    unsigned t = pick();
    for (unsigned i = 0; i < RULES_THREADS && !rules.threads[t].draft.lives; i++) {
        t = (t + 1) % RULES_THREADS;
    }
    return t;
}

/* Mostly the thread's own, else an old or made-up one. */
static uint64_t pick_claim(unsigned t)
{
    uint64_t claim = rules.threads[t].draft.claim;
    return one_in(10) || claim == 0 ? 1 + below(1000) : claim;
}

static void ask_claim(enum wire_method method, unsigned t, uint64_t claim)
{
    ask_begin(&ask, method, thread_name(t));
    ask_set(&ask, claim, claim);
    tell(" t%u%s", t, claim == rules.threads[t].draft.claim ? "" : " with another claim");
}

static void do_chunk(void)
{
    unsigned t = pick_claimed();
    struct rules_step step = {0};
    invent_segments(&step, 2);
    if (rules.threads[t].draft.kind == WIRE_KIND_TOKENS && !one_in(8) && step.segment_count > 0) {
        step.segment_count = 1;
        step.size = step.sizes[0] = step.size > 4 ? step.size / 4 * 4 : 4;
        memcpy(step.payload, "TOKE", 4);
    }
    if (rules.threads[t].draft.size + step.size > RULES_PAYLOAD_BYTES / 2 || step.size == 0) {
        return;
    }
    tell("chunk");
    ask_claim(WIRE_METHOD_CHUNK, t, pick_claim(t));
    tell(" : %.*s\n", (int)step.size, step.payload);
    const uint8_t *at = step.payload;
    for (unsigned i = 0; i < step.segment_count; at += step.sizes[i++]) {
        ask_payload(&ask, bytes_of(at, step.sizes[i]));
    }
    struct thread_chunk_result got;
    enum status status;
    do {
        status = thread_chunk(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_chunk(&rules, t, ask.request.claim, step.payload, step.size);
    if (check_status(status, &want)) {
        SAME(got.step_bytes, rules.threads[t].draft.size);
        SAME(got.claim_expires_in_ms, CLAIM_MS);
    }
}

static void do_commit(void)
{
    unsigned t = pick_claimed();
    if (is_full(t)) {
        return;
    }
    struct rules_append append = invent_append(t, 2);
    if (one_in(2)) {
        append.step.segment_count = append.step.size = 0;
    }
    append.claim = pick_claim(t);
    tell("commit");
    ask_claim(WIRE_METHOD_COMMIT, t, append.claim);
    tell_append(&append);
    tell("\n");
    ask_append(&append);
    if (append.step.segment_count == 0 && rules.threads[t].draft.size == 0) {
        ask_set(&ask, segments, (struct wire_list){0});
    }
    struct thread_append_result got;
    enum status status;
    do {
        status = thread_commit(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_commit(&rules, t, &append);
    if (check_status(status, &want)) {
        check_appended(&got, &want);
    }
}

static void do_abort(void)
{
    unsigned t = pick_claimed();
    tell("abort");
    ask_claim(WIRE_METHOD_ABORT, t, pick_claim(t));
    tell("\n");
    enum status status;
    do {
        status = thread_abort(domain.lane, &ask.request, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_abort(&rules, t, ask.request.claim);
    check_status(status, &want);
    settle();
}

/* ---- the others ---- */

static void do_touch(void)
{
    unsigned t = pick();
    tell("touch t%u\n", t);
    enum reason missing = REASON_COUNT;
    enum status status;
    do {
        status = thread_touch(domain.lane, thread_name(t), false, 0, &missing);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    SAME(missing, rules_touch(&rules, t) ? REASON_NONE : rules.threads[t].reason);
}

static void do_fork(void)
{
    unsigned t = pick(), from = pick();
    bool has_at = one_in(2);
    uint32_t at = below(rules.threads[from].length + 1);
    tell("fork t%u from=t%u", t, from);
    ask_begin(&ask, WIRE_METHOD_FORK, thread_name(t));
    ask_set(&ask, from, thread_name(from));
    if (has_at) {
        tell(" at=%u", at);
        ask_set(&ask, at, at);
    }
    tell("\n");
    struct thread_fork_result got;
    enum status status;
    do {
        status = thread_fork(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_fork(&rules, t, from, has_at, at);
    if (check_status(status, &want)) {
        SAME(got.version, want.version);
    }
}

static void do_rewind(void)
{
    unsigned t = pick();
    int64_t to = (int64_t)rules.threads[t].length - 1 - below(4) + one_in(8);
    to = one_in(10) || to < -1 ? -1 : to;
    tell("rewind t%u to=%ld\n", t, (long)to);
    ask_begin(&ask, WIRE_METHOD_REWIND, thread_name(t));
    ask_set(&ask, to, to);
    struct thread_rewind_result got;
    enum status status;
    do {
        status = thread_rewind(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    struct rules_outcome want = rules_rewind(&rules, t, to);
    if (check_status(status, &want)) {
        SAME(got.version, want.version);
        SAME(got.dropped, want.dropped);
    }
}

static void forget(unsigned t)
{
    struct thread_forget_result got = {0};
    ask_begin(&ask, WIRE_METHOD_FORGET, thread_name(t));
    enum status status;
    do {
        status = thread_forget(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    /* Whether a thread that nobody has committed to was one, the contract does not say. */
    if (rules.threads[t].alive || !rules.threads[t].draft.lives) {
        SAME(got.forgotten, rules.threads[t].alive);
    }
    rules_forget(&rules, t);
}

static void do_forget(void)
{
    unsigned t = pick();
    tell("forget t%u\n", t);
    forget(t);
}

static void wait_for(uint64_t by_ms)
{
    tell("wait %lu\n", (unsigned long)by_ms);
    domain_wait(&domain, by_ms);
    rules_advance(&rules, now_ms());
    settle();
}

/* To an end, or just before, or a while. */
static void do_wait(void)
{
    const struct rules_thread *thread = &rules.threads[pick()];
    uint64_t by_ms = below((unsigned)rules.keep_ms / 4);
    if (thread->draft.lives && one_in(2)) {
        by_ms = thread->draft.until_ms - now_ms() - one_in(2);
    } else if (thread->alive && !thread->draft.lives && one_in(2)) {
        by_ms = thread->deadline_ms - now_ms() - one_in(2);
    }
    wait_for(by_ms);
}

static void do_tend(void)
{
    tell("tend\n");
    lane_tend_fully(domain.lane);
}

#endif
