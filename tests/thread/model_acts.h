/*
 * Random operations on a few threads, each answer compared with a small model of the contract.
 *
 * The model keeps whole histories in plain arrays and looks everything up by walking them. Where
 * the contract leaves open which of two reasons is told (a step of several holders is gone), it
 * takes either. Private to test_model.c and test_model_disk.c.
 */
#ifndef RETHREAD_TESTS_THREAD_MODEL_ACTS_H
#define RETHREAD_TESTS_THREAD_MODEL_ACTS_H

#include "tests/thread/model.h"

#include <time.h>

/* ---- replay ---- */

static void check_step(const struct step *got, const struct model_step *want)
{
    struct step_view view;
    step_view(got, &view);
    SAME(view.number, want->number);
    SAME(view.turn, want->turn);
    SAME(view.final, want->final);
    SAME(view.has_tokens, want->has_tokens);
    SAME(view.tokens, want->has_tokens ? want->tokens : 0);
    SAME(view.model.size, want->model >= 0 ? strlen(ids[want->model]) : 0);
    HOLDS(want->model < 0 || bytes_equal(view.model, bytes_text(ids[want->model])));
    SAME(view.response_id.size, want->response >= 0 ? strlen(ids[want->response]) : 0);
    HOLDS(want->response < 0 || bytes_equal(view.response_id, bytes_text(ids[want->response])));
    SAME(view.tool_calls.count, want->call_count);
    struct bytes id;
    for (unsigned i = 0; wire_list_next(&view.tool_calls, &id); i++) {
        HOLDS(bytes_equal(id, bytes_text(ids[want->calls[i]])));
    }
    SAME(view.segment_count, want->segment_count);
    for (unsigned i = 0; i < want->segment_count; i++) {
        SAME(step_segment_kind(got, i), want->kinds[i]);
        SAME(step_segment_bytes(got, i), want->sizes[i]);
    }
    HOLDS(bytes_equal(view.payload, bytes_of(want->payload, want->size)));
}

/* What a replay of the thread up to `end` selects, compared with what it did. */
static void check_selection(struct model_thread *thread, uint32_t end,
                            const struct thread_replay_result *got)
{
    const struct wire_request *request = &ask.request;
    uint32_t begin = 0, changed = 0;
    SAME(got->version, thread->version);
    SAME(got->head, (int64_t)thread->length - 1);
    HOLDS(bytes_equal(got->thread, name_of((unsigned)(thread - threads))));
    SAME(got->expires_in_ms, thread->deadline_ms - now_ms());
    bool incremental = wire_given(request, WIRE_FIELD_have) && request->have.step >= 0;
    if (incremental) {
        while (request->have.version <= thread->version && changed < thread->length &&
               position_since(thread, changed) <= request->have.version) {
            changed++;
        }
        uint32_t beyond = (uint32_t)request->have.step + 1;
        begin = changed < beyond ? changed : beyond;
        incremental = changed < beyond;
    }
    SAME(got->has_first_changed, incremental);
    HOLDS(!incremental || got->first_changed == changed);
    begin = begin < end ? begin : end;
    if (wire_given(request, WIRE_FIELD_last) && request->last < end - begin) {
        begin = end - (uint32_t)request->last;
    }
    if (wire_given(request, WIRE_FIELD_policy) && request->policy == WIRE_POLICY_NONE) {
        begin = end;
    }
    SAME(got->begin, begin);
    SAME(got->end, end);
    uint64_t left = wire_given(request, WIRE_FIELD_max_bytes) ? request->max_bytes : UINT64_MAX;
    bool whole = true, spent = false;
    uint64_t bytes = 0;
    for (uint32_t at = end; at-- > begin;) {
        const struct model_step *step = at < thread->lost ? NULL : thread->steps[at];
        bool fits = step && (request->model.size == 0 || step->model < 0 ||
                             bytes_equal(request->model, bytes_text(ids[step->model])));
        spent |= fits && step->size > left;
        enum reason want = !step   ? thread->lost_reason
                           : !fits ? REASON_MODEL_MISMATCH
                           : spent ? REASON_BUDGET
                                   : REASON_NONE;
        enum reason missing;
        const struct step *shown = thread_replay_step(domain.lane, got, at, &missing);
        SAME(missing, want);
        SAME(shown != NULL, want == REASON_NONE);
        whole &= want == REASON_NONE;
        if (shown) {
            check_step(shown, step);
            left -= step->size;
            bytes += step->size;
        }
    }
    SAME(got->state, whole ? THREAD_COMPLETE : THREAD_PARTIAL);
    SAME(got->payload_bytes, bytes);
}

/* A miss that may or may not have counted as a use: the thread itself tells. */
static void adopt_deadline(struct model_thread *thread)
{
    struct ask look;
    struct thread_stat_result got;
    ask_begin(&look, WIRE_METHOD_STAT, name_of((unsigned)(thread - threads)));
    while (put_back(thread_stat(domain.lane, &look.request, &got, &error))) {
    }
    SAME(got.state == THREAD_MISS, false);
    if (got.expires_in_ms != thread->deadline_ms - now_ms()) {
        use(thread);
        SAME(got.expires_in_ms, thread->deadline_ms - now_ms());
    }
}

/* In one thread: the newest of its steps that carries the key. */
static void check_scoped(struct model_thread *thread, enum key_kind kind, unsigned id,
                         const struct thread_replay_result *got)
{
    for (uint32_t at = thread->length; at-- > thread->lost;) {
        if (step_carries(thread->steps[at], kind, id)) {
            check_selection(thread, at + 1, got);
            return;
        }
    }
    const struct model_step *newest = keys[kind][id].newest;
    SAME(got->state, THREAD_MISS);
    SAME(got->version, thread->version);
    if (in_trouble && keys[kind][id].shared) {
        return;
    }
    if (!thread->carried[kind][id]) {
        SAME(got->reason, thread->lost ? thread->lost_reason : REASON_NEVER_SEEN);
    } else if (newest->writer == (unsigned)(thread - threads) && !newest->was_shared &&
               newest->incarnation == thread->incarnation) {
        SAME(got->reason, REASON_REWOUND);
    } else {
        HOLDS(got->reason == REASON_REWOUND || got->reason == REASON_NEVER_SEEN ||
              got->reason == REASON_EXPIRED || got->reason == REASON_FORGOTTEN);
    }
}

/* The thread that a key led to was used, whatever came of it. */
static void adopt_use(const struct thread_replay_result *got, bool touch)
{
    for (unsigned t = 0; touch && got->thread.size > 0 && t < THREADS; t++) {
        if (threads[t].alive && bytes_equal(got->thread, name_of(t))) {
            adopt_deadline(&threads[t]);
        }
    }
}

static void check_by_key(enum key_kind kind, unsigned id, bool touch,
                         const struct thread_replay_result *got)
{
    const struct model_key *key = &keys[kind][id];
    const struct model_step *newest = key->newest;
    if (!newest) {
        SAME(got->state, THREAD_MISS);
        SAME(got->reason, REASON_NEVER_SEEN);
        return;
    }
    if (in_trouble && key->shared) {
        adopt_use(got, touch);
        return;
    }
    if (key->shared && kind != KEY_PREFIX) {
        SAME(got->state, THREAD_MISS);
        SAME(got->reason, REASON_AMBIGUOUS);
        return;
    }
    SAME(got->ambiguous, key->shared);
    struct model_thread *writer = &threads[newest->writer];
    bool lives = writer->alive && writer->incarnation == newest->incarnation;
    if (lives && newest->number < writer->length && newest->number >= writer->lost &&
        writer->steps[newest->number] == newest) {
        if (touch) {
            use(writer);
        }
        check_selection(writer, newest->number + 1, got);
        return;
    }
    SAME(got->state, THREAD_MISS);
    if (disk && !lives && got->reason == REASON_REWOUND) {
        /* The disk's answer of a moment ago led to a step that the writer's next life lacks. */
        adopt_use(got, touch);
        return;
    }
    /* The last holder's reason, once it is buried: who that is depends on when it was noticed. */
    HOLDS(got->reason == newest->lost_first || (!lives && got->reason == writer->reason) ||
          (newest->holds == 0 && newest->lost_any >> got->reason & 1) ||
          (!lives && writer->incarnation != newest->incarnation &&
           (got->reason == REASON_EXPIRED || got->reason == REASON_FORGOTTEN)));
    if (lives && touch) {
        adopt_deadline(writer);
    } else if (disk) {
        adopt_use(got, touch); /* as above: what its next life has lost may be expired as well */
    }
}

static void do_replay(void)
{
    unsigned t = below(THREADS);
    struct model_thread *thread = &threads[t];
    bool keyed = one_in(2), scoped = !keyed || one_in(3), touch = !one_in(3);
    enum key_kind kind = (enum key_kind)below(KEY_KINDS);
    unsigned id = below(IDS);
    ask_begin(&ask, WIRE_METHOD_REPLAY, scoped ? name_of(t) : (struct bytes){0});
    if (keyed && kind == KEY_RESPONSE) {
        ask_set(&ask, response_id, bytes_text(ids[id]));
    } else if (keyed && kind == KEY_CALL) {
        ask_set(&ask, tool_call, bytes_text(ids[id]));
    } else if (keyed) {
        ask_set(&ask, prefix, bytes_text(prefixes[id]));
    }
    if (one_in(2)) {
        struct wire_have have = {.version = below(thread->version + 3)};
        have.step = (int64_t)below(thread->length + 3) - 1;
        ask_set(&ask, have, have);
    }
    if (one_in(4)) {
        ask_set(&ask, last, 1 + below(5));
    }
    if (one_in(4)) {
        ask_set(&ask, max_bytes, below(30));
    }
    if (one_in(4)) {
        ask_set(&ask, model, bytes_text(ids[below(3)]));
    }
    if (one_in(10)) {
        ask_set(&ask, policy, (enum wire_policy)below(2));
    }
    if (!touch || one_in(2)) {
        ask_set(&ask, touch, touch);
    }
    struct thread_replay_result got;
    enum status status;
    do {
        status = thread_replay(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    if (!scoped) {
        check_by_key(kind, id, touch, &got);
        return;
    }
    if (!thread->alive) {
        SAME(got.state, THREAD_MISS);
        SAME(got.reason, thread->reason);
        SAME(got.version, thread->version);
        return;
    }
    if (touch) {
        use(thread);
    }
    if (keyed) {
        check_scoped(thread, kind, id, &got);
    } else {
        check_selection(thread, thread->length, &got);
    }
}

/* ---- the others ---- */

static void do_stat(unsigned t)
{
    struct model_thread *thread = &threads[t];
    struct thread_stat_result got;
    uint64_t bytes = 0, tokens = 0;
    ask_begin(&ask, WIRE_METHOD_STAT, name_of(t));
    enum status status;
    do {
        status = thread_stat(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    SAME(got.version, thread->version);
    if (!thread->alive) {
        SAME(got.state, THREAD_MISS);
        SAME(got.reason, thread->reason);
        return;
    }
    for (uint32_t at = thread->lost; at < thread->length; at++) {
        bytes += thread->steps[at]->size;
        tokens += thread->steps[at]->has_tokens ? thread->steps[at]->tokens : 0;
    }
    SAME(got.state, thread->lost ? THREAD_PARTIAL : THREAD_COMPLETE);
    SAME(got.step_count, thread->length);
    SAME(got.payload_bytes, bytes);
    SAME(got.tokens, tokens);
    SAME(got.age_ms, now_ms() - thread->created_ms);
    SAME(got.expires_in_ms, thread->deadline_ms - now_ms());
}

static void do_touch(void)
{
    unsigned t = below(THREADS);
    struct model_thread *thread = &threads[t];
    bool has_ttl = one_in(2);
    uint64_t ttl_ms = 1 + below(disk ? 10 : 2 * DOMAIN_TTL_MS);
    enum reason missing = REASON_COUNT;
    enum status status;
    do {
        status = thread_touch(domain.lane, name_of(t), has_ttl, ttl_ms, &missing);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    SAME(missing, thread->alive ? REASON_NONE : thread->reason);
    if (thread->alive && has_ttl && !disk) {
        thread->ttl_ms = ttl_ms;
        thread->deadline_ms = now_ms() + ttl_ms;
    } else if (thread->alive) {
        use(thread);
    }
}

static void share(struct model_thread *to, const struct model_thread *from, uint32_t keep)
{
    unsigned incarnation = to->incarnation + 1;
    enum reason lost_reason = from->lost_reason;
    uint32_t lost = from->lost < keep ? from->lost : keep;
    memcpy(to->steps, from->steps, keep * sizeof *to->steps);
    for (uint32_t at = lost; at < keep; at++) {
        to->steps[at]->holds++;
        to->steps[at]->was_shared = true;
        for (unsigned i = 0; i < KEY_KINDS * IDS; i++) {
            to->carried[i / IDS][i % IDS] |=
                step_carries(to->steps[at], (enum key_kind)(i / IDS), i % IDS);
        }
    }
    to->alive = true;
    to->incarnation = incarnation;
    to->version = to->length = to->fork_version = keep;
    to->lost = lost;
    to->lost_reason = lost_reason;
    to->ttl_ms = from->ttl_ms;
    to->deadline_ms = now_ms() + from->ttl_ms;
    to->created_ms = from->created_ms;
    to->appends = 0;
}

static void do_fork(void)
{
    unsigned t = below(THREADS), f = below(THREADS);
    struct model_thread *to = &threads[t], *from = &threads[f];
    struct thread_fork_result got;
    ask_begin(&ask, WIRE_METHOD_FORK, name_of(t));
    ask_set(&ask, from, name_of(f));
    uint32_t keep = from->length;
    if (one_in(2)) {
        ask_set(&ask, at, below(from->length + 1));
        keep = (uint32_t)ask.request.at + 1;
    }
    enum status status;
    do {
        status = thread_fork(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    if (!from->alive) {
        SAME(status, STATUS_NOT_FOUND);
        SAME(error.reason, from->reason);
        SAME(strcmp(error.option, "from"), 0);
    } else if (to->alive) {
        check_conflict(status, "exists", to->version);
    } else if (keep > from->length) {
        SAME(status, STATUS_BAD_REQUEST);
        SAME(strcmp(error.option, "at"), 0);
    } else {
        SAME(status, STATUS_OK);
        share(to, from, keep);
        SAME(got.version, keep);
        SAME(got.expires_in_ms, to->ttl_ms);
    }
}

static void do_rewind(void)
{
    unsigned t = below(THREADS);
    struct model_thread *thread = &threads[t];
    struct thread_rewind_result got;
    ask_begin(&ask, WIRE_METHOD_REWIND, name_of(t));
    int64_t to = (int64_t)thread->length - 1 - below(4) + one_in(8);
    ask_set(&ask, to, one_in(10) || to < -1 ? -1 : to);
    enum status status;
    do {
        status = thread_rewind(domain.lane, &ask.request, &got, &error);
    } while (put_back(status));
    if (!thread->alive) {
        SAME(status, STATUS_NOT_FOUND);
        SAME(error.reason, thread->reason);
    } else if (ask.request.to >= (int64_t)thread->length) {
        SAME(status, STATUS_BAD_REQUEST);
        SAME(strcmp(error.option, "to"), 0);
    } else {
        uint32_t keep = (uint32_t)(ask.request.to + 1);
        SAME(status, STATUS_OK);
        SAME(got.version, thread->version + 1);
        SAME(got.dropped, thread->length - keep);
        thread_drop(thread, keep, REASON_REWOUND);
        thread->version++;
        thread->length = keep;
        thread->lost = thread->lost < keep ? thread->lost : keep;
    }
}

static void do_forget(void)
{
    unsigned t = below(THREADS);
    struct thread_forget_result forgotten = {.forgotten = !threads[t].alive};
    ask_begin(&ask, WIRE_METHOD_FORGET, name_of(t));
    enum status status;
    do {
        status = thread_forget(domain.lane, &ask.request, &forgotten, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    SAME(forgotten.forgotten, threads[t].alive);
    if (threads[t].alive) {
        thread_end(&threads[t], REASON_FORGOTTEN);
    }
}

static void do_wait(void)
{
    const struct model_thread *thread = &threads[below(THREADS)];
    uint64_t by_ms = below((unsigned)keep_ms / 4);
    if (thread->alive && one_in(2)) {
        by_ms = thread->deadline_ms - now_ms() - one_in(2); /* to a deadline, or just before */
    }
    domain_wait(&domain, by_ms);
    expire_all();
}

/* The totals, when everything that is due has been done. */
static void check_totals(void)
{
    uint64_t live = 0;
    for (unsigned t = 0; t < THREADS; t++) {
        do_stat(t); /* buries the overdue, whatever tick the sweep is at */
        live += threads[t].alive;
    }
    for (int tends = 0; tends < 3; tends++) {
        lane_tend_fully(domain.lane);
    }
    if (disk) {
        tier_model_run(disk);
        lane_tend_fully(domain.lane);
        /* All that live, and nothing that is gone, but for what could not be erased at once. */
        HOLDS(tier_model_threads(disk) >= live && (in_trouble || tier_model_threads(disk) == live));
        return;
    }
    SAME(domain_metric(&domain, METRIC_PAYLOAD_BYTES), payload_held);
    SAME(domain_metric(&domain, METRIC_THREADS_LIVE), live);
}

static void do_something(void)
{
    static const struct {
        const char *name;
        unsigned weight;
        void (*act)(void);
    } acts[] = {{"append", 34, do_append}, {"replay", 40, do_replay}, {"touch", 4, do_touch},
                {"fork", 5, do_fork},      {"rewind", 4, do_rewind},  {"forget", 2, do_forget},
                {"wait", 5, do_wait}};
    unsigned at = below(100);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (at < acts[i].weight) {
            doing = acts[i].name;
            acts[i].act();
            return;
        }
        at -= acts[i].weight;
    }
    doing = "stat";
    do_stat(below(THREADS));
    doing = "tend";
    lane_tend(domain.lane);
}

/* ---- all ---- */

/* `besides`: what else happens now and then; NULL: nothing. */
static void run_operations_of(uint64_t chosen, uint64_t operations, void (*besides)(void))
{
    seed = chosen;
    state = seed;
    for (unsigned t = 0; t < THREADS; t++) {
        threads[t] = (struct model_thread){.reason = REASON_NEVER_SEEN};
    }
    for (operation = 0; operation < operations; operation++) {
        do_something();
        if (besides && one_in(4)) {
            besides();
        }
        if (operation % 1000 == 999) {
            doing = "totals";
            check_totals();
        }
    }
}

static void run_operations(uint64_t operations, void (*besides)(void))
{
    const char *chosen = getenv("RETHREAD_TEST_SEED");
    run_operations_of(chosen ? strtoull(chosen, NULL, 10) : (uint64_t)time(NULL), operations,
                      besides);
}

static struct threads_settings model_settings(void)
{
    struct threads_settings settings = domain_settings();
    settings.memory_bytes = UINT64_C(1) << 30;
    settings.tombstones = 1 << 20; /* none is forgotten while the test runs */
    return settings;
}

#endif
