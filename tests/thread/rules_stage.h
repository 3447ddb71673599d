/*
 * Where histories are played on the real domain and on the model of the rules (tests/lib/rules.h):
 * the two worlds, the tale of the present history, and how a difference ends it. Private to
 * test_rules.c and test_rules_disk.c.
 */
#ifndef RETHREAD_TESTS_THREAD_RULES_STAGE_H
#define RETHREAD_TESTS_THREAD_RULES_STAGE_H

#include "tests/lib/domain.h"
#include "tests/lib/rules.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"
#include "tests/lib/trial.h"
#include "wire/profile.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <unistd.h>

enum { CLAIM_MS = 700, ACTS_MAX = 48, TALE_BYTES = 1 << 16 };

static struct domain domain;
static struct tier_model *disk; /* NULL: memory only */
static struct clock_driven wall;
static struct rules rules;
static struct wire_error error;
static struct ask ask;
static uint64_t state;   /* of the random numbers */
static uint64_t history; /* names are of one history each, and so are keys */
static uint64_t replays; /* compared */

/* What happened in this history, line by line, and what was wrong with it at last. It is told only
 * once something was wrong: telling takes longer than doing. */
static bool telling;
static char tale[TALE_BYTES];
static size_t tale_size;
static char wrong[512];
static jmp_buf end_of_history;

__attribute__((format(printf, 1, 2))) static inline void tell(const char *format, ...)
{
    if (!telling) {
        return;
    }
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(tale + tale_size, TALE_BYTES - tale_size, format, arguments);
    va_end(arguments);
    tale_size += (size_t)size;
    tale_size = tale_size < TALE_BYTES ? tale_size : TALE_BYTES - 1;
}

static inline _Noreturn void differ(const char *what, int64_t got, int64_t want)
{
    snprintf(wrong, sizeof wrong, "%s is %ld, the rules say %ld", what, (long)got, (long)want);
    longjmp(end_of_history, 1);
}

#define SAME(ours, theirs)                                                                         \
    do {                                                                                           \
        int64_t got_ = (int64_t)(ours), want_ = (int64_t)(theirs);                                 \
        if (got_ != want_) {                                                                       \
            differ(#ours, got_, want_);                                                            \
        }                                                                                          \
    } while (0)
#define HOLDS(what) SAME(!!(what), true)

static inline unsigned below(unsigned limit)
{
    return (unsigned)trial_below(&state, limit);
}

static inline bool one_in(unsigned n)
{
    return below(n) == 0;
}

/* ---- names ---- */

enum { NAME_BYTES = WIRE_PREFIX_BYTES };

/* 16 bytes: the kind, the number, and the history's in digits. The same until the history ends. */
static inline struct bytes name_of(char kind, unsigned i)
{
    static char buffers['z' + 1][RULES_THREADS + RULES_IDS][NAME_BYTES];
    char *buffer = buffers[(unsigned char)kind][i];
    buffer[0] = kind;
    buffer[1] = (char)('0' + i);
    uint64_t rest = history;
    for (int at = NAME_BYTES - 1; at >= 2; at--, rest /= 10) {
        buffer[at] = (char)('0' + rest % 10);
    }
    return bytes_of(buffer, NAME_BYTES);
}

static inline struct bytes thread_name(unsigned t)
{
    return name_of('t', t);
}

static const char *const key_names[RULES_KEY_KINDS] = {"r", "c", "p"};

/* ---- time and turns ---- */

static inline uint64_t now_ms(void)
{
    return clock_read_ms(disk ? &wall.clock : &domain.clock.clock);
}

static inline void tend(void)
{
    lane_offline(domain.lane);
    lane_online(domain.lane);
    lane_tend(domain.lane);
}

/* Whether the operation is to be done again; what it waits for does a little. */
static inline bool put_back(enum status status)
{
    static unsigned tries;
    if (status != STATUS_AGAIN) {
        tries = 0;
        return false;
    }
    HOLDS(++tries < 1000);
    for (unsigned steps = disk ? 1 + tries % 4 : 0; steps > 0; steps--) {
        tier_model_step(disk);
    }
    tend();
    return true;
}

static inline struct thread_stat_result look_at(unsigned t)
{
    struct ask look;
    struct thread_stat_result got;
    ask_begin(&look, WIRE_METHOD_STAT, thread_name(t));
    enum status status;
    do {
        status = thread_stat(domain.lane, &look.request, &got, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    return got;
}

/* What ended a claim leaves open when the thread ends: it tells. */
static inline void settle(void)
{
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        if (rules.threads[t].unsettled) {
            struct thread_stat_result got = look_at(t);
            bool alive = got.state != THREAD_MISS;
            HOLDS(rules_settle(&rules, t, alive, now_ms() + got.expires_in_ms));
        }
    }
}

/* All of a thread that stat tells. */
static inline void check_stat(unsigned t)
{
    const struct rules_thread *thread = &rules.threads[t];
    struct thread_stat_result stat = look_at(t);
    SAME(stat.state == THREAD_MISS, !thread->alive);
    SAME(stat.version, thread->version);
    SAME(stat.in_flight, thread->draft.lives);
    if (!thread->alive) {
        SAME(stat.reason, thread->reason);
        return;
    }
    bool damaged = false;
    uint64_t bytes = 0, tokens = 0;
    for (uint32_t at = thread->lost; at < thread->length; at++) {
        const struct rules_step *step = thread->places[at].step;
        damaged |= thread->places[at].corrupt;
        bytes += step->size;
        tokens += step->has_tokens ? step->tokens : 0;
    }
    SAME(stat.step_count, thread->length);
    SAME(stat.floor, thread->floor);
    if (!damaged) {
        SAME(stat.payload_bytes, bytes);
        SAME(stat.tokens, tokens);
    }
    if (!thread->draft.lives) {
        SAME(stat.expires_in_ms, thread->deadline_ms - now_ms());
    }
}

/* ---- comparing a replay ---- */

static inline void check_step(const struct step *got, const struct rules_step *want)
{
    struct step_view view;
    step_view(got, &view);
    SAME(view.number, want->number);
    SAME(view.turn, want->turn);
    SAME(view.final, want->final);
    SAME(view.has_tokens, want->has_tokens);
    SAME(view.tokens, want->has_tokens ? want->tokens : 0);
    HOLDS(want->model < 0 ? view.model.size == 0
                          : bytes_equal(view.model, bytes_text(rules_models[want->model])));
    HOLDS(want->response < 0
              ? view.response_id.size == 0
              : bytes_equal(view.response_id, name_of('r', (unsigned)want->response)));
    HOLDS(want->visible < 0 ? view.visible.size == 0
                            : bytes_equal(view.visible, name_of('v', (unsigned)want->visible)));
    SAME(view.tool_calls.count, want->call_count);
    struct bytes id;
    for (unsigned i = 0; wire_list_next(&view.tool_calls, &id); i++) {
        HOLDS(bytes_equal(id, name_of('c', want->calls[i])));
    }
    SAME(view.segment_count, want->segment_count);
    for (unsigned i = 0; i < want->segment_count; i++) {
        SAME(step_segment_kind(got, i), want->kinds[i]);
        SAME(step_segment_bytes(got, i), want->sizes[i]);
    }
    HOLDS(bytes_equal(view.payload, bytes_of(want->payload, want->size)));
}

static inline void check_entries(const struct thread_replay_result *got,
                                 const struct rules_answer *want)
{
    uint32_t listed = 0;
    uint64_t bytes = 0, segments = 0;
    for (uint32_t at = got->begin; at < got->end; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(domain.lane, got, at, &missing);
        if (!step && missing == REASON_NONE) {
            continue;
        }
        if (listed >= want->listed) {
            differ("listed, beyond the rules' last, step", at, -1);
        }
        const struct rules_entry *entry = &want->entries[listed++];
        SAME(at, entry->position);
        SAME(missing, entry->missing);
        SAME(step != NULL, entry->step != NULL);
        if (step) {
            check_step(step, entry->step);
            bytes += entry->step->size;
            segments += entry->step->segment_count;
        }
    }
    SAME(listed, want->listed);
    SAME(got->listed, want->listed);
    SAME(got->payload_bytes, bytes);
    SAME(got->segment_count, segments);
}

static inline void check_miss(const struct thread_replay_result *got,
                              const struct rules_answer *want)
{
    HOLDS(!got->extends && got->reason != REASON_NONE);
    SAME(got->listed, 0);
    SAME(got->end - got->begin, 0);
    SAME(got->payload_bytes, 0);
    SAME(got->segment_count, 0);
    if (!want->any_reason) {
        SAME(got->reason, want->reason);
        SAME(got->in_flight, want->in_flight);
        SAME(got->version, want->version);
        return;
    }
    HOLDS(got->reason == REASON_NEVER_SEEN || got->reason == REASON_REWOUND ||
          got->reason == REASON_EXPIRED || got->reason == REASON_FORGOTTEN);
}

static inline void check_answer(const struct thread_replay_result *got,
                                const struct rules_answer *want)
{
    SAME(got->state, want->miss ? THREAD_MISS : want->partial ? THREAD_PARTIAL : THREAD_COMPLETE);
    if (want->miss) {
        check_miss(got, want);
        return;
    }
    SAME(got->reason, REASON_NONE);
    SAME(got->vouch_ms, 0);
    HOLDS(bytes_equal(got->thread, thread_name((unsigned)want->thread)));
    SAME(got->version, want->version);
    SAME(got->head, want->head);
    SAME(got->ambiguous, want->ambiguous);
    SAME(got->has_found, want->has_found);
    SAME(got->found, want->found);
    SAME(got->in_flight, want->in_flight);
    SAME(got->has_dropped, want->has_dropped);
    if (want->has_dropped) {
        SAME(got->kept_from, want->kept_from);
        SAME(got->dropped, want->dropped);
    }
    SAME(got->has_extends, want->has_extends);
    SAME(got->extends, want->extends);
    SAME(got->has_first_changed, want->has_first_changed);
    if (want->has_first_changed) {
        SAME(got->first_changed, want->first_changed);
    }
    const struct rules_thread *thread = &rules.threads[want->thread];
    if (!thread->draft.lives) {
        SAME(got->expires_in_ms, thread->deadline_ms - now_ms());
    }
    check_entries(got, want);
}

/* What a key led to may or may not have been used, when it was not the answer: the threads tell. */
static inline void adopt_uses(void)
{
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        struct rules_thread *thread = &rules.threads[t];
        if (thread->alive && thread->draft.lives) {
            thread->used_last_ms = now_ms() + rules.keep_ms; /* it tells when its claim has ended */
        } else if (thread->alive) {
            uint64_t left_ms = look_at(t).expires_in_ms;
            if (left_ms != thread->deadline_ms - now_ms()) {
                SAME(left_ms, rules.keep_ms);
                rules_touch(&rules, t);
            }
        }
    }
}

/* ---- asking ---- */

static inline void tell_query(const struct rules_query *query)
{
    tell("replay");
    if (query->thread >= 0) {
        tell(" t%d", query->thread);
    }
    for (unsigned i = 0; query->keyed && i < query->id_count; i++) {
        tell(" %s%s%u", key_names[query->kind], query->is_list ? "[]" : "", query->ids[i]);
    }
    if (query->has_policy) {
        tell(" policy=%d", query->policy);
    }
    if (query->has_turns) {
        tell(" turns=%lu", (unsigned long)query->turns);
    }
    if (query->has_turn) {
        tell(" turn=%lu", (unsigned long)query->turn);
    }
    if (query->model >= 0) {
        tell(" model=%s", rules_models[query->model]);
    }
    for (unsigned i = 0; i < query->prefix_count; i++) {
        tell("%s%u:p%u", i ? "," : " prefixes=", query->prefix_steps[i], query->prefixes[i]);
    }
    if (query->has_have) {
        tell(" have=v%lu,%ld", (unsigned long)query->have_version, (long)query->have_step);
    }
    for (int64_t at = 0; query->has_kept && at <= query->have_step; at++) {
        tell("%s%c", at ? "" : " kept=", query->kept[at] ? '1' : '0');
    }
    if (query->last) {
        tell(" last=%lu", (unsigned long)query->last);
    }
    if (query->max_bytes != UINT64_MAX) {
        tell(" max_bytes=%lu", (unsigned long)query->max_bytes);
    }
    if (query->max_tokens != UINT64_MAX) {
        tell(" max_tokens=%lu", (unsigned long)query->max_tokens);
    }
    tell("%s%s%s\n", query->fail ? " fail" : "", query->pin ? " pin" : "",
         query->touch ? "" : " touch=0");
}

static inline void ask_by_key(const struct rules_query *query)
{
    if (query->is_list) {
        for (unsigned i = 0; i < query->id_count; i++) {
            ask_prefix(&ask, name_of('p', query->ids[i]));
        }
    } else if (query->kind == RULES_RESPONSE) {
        ask_set(&ask, response_id, name_of('r', query->ids[0]));
    } else if (query->kind == RULES_CALL) {
        ask_set(&ask, tool_call, name_of('c', query->ids[0]));
    } else {
        ask_set(&ask, prefix, name_of('p', query->ids[0]));
    }
}

static inline void ask_what_is_held(const struct rules_query *query)
{
    struct wire_have have = {.version = query->have_version, .step = query->have_step};
    have.has_kept = query->has_kept;
    ask_set(&ask, have, have);
    for (int64_t at = 0; query->has_kept && at <= query->have_step; at++) {
        if (query->kept[at]) {
            ask_kept(&ask, (uint32_t)at);
        }
    }
}

static inline void ask_selection(const struct rules_query *query)
{
    if (query->has_policy) {
        ask_set(&ask, policy, query->policy);
    }
    if (query->has_turns) {
        ask_set(&ask, turns, query->turns);
    }
    if (query->has_turn) {
        ask_set(&ask, turn, query->turn);
    }
    if (query->model >= 0) {
        ask_set(&ask, model, bytes_text(rules_models[query->model]));
    }
    for (unsigned i = 0; i < query->prefix_count; i++) {
        ask_binding(&ask, query->prefix_steps[i], name_of('p', query->prefixes[i]));
    }
    if (query->fail) {
        ask_set(&ask, on_mismatch, WIRE_MISMATCH_FAIL);
    }
    if (query->last) {
        ask_set(&ask, last, query->last);
    }
    if (query->max_bytes != UINT64_MAX) {
        ask_set(&ask, max_bytes, query->max_bytes);
    }
    if (query->max_tokens != UINT64_MAX) {
        ask_set(&ask, max_tokens, query->max_tokens);
    }
}

/* The same of both, compared. The results stay until the lane goes offline. */
static inline void replay_both(const struct rules_query *query, struct thread_replay_result *got,
                               struct rules_answer *want)
{
    tell_query(query);
    struct bytes name =
        query->thread >= 0 ? thread_name((unsigned)query->thread) : (struct bytes){0};
    ask_begin(&ask, WIRE_METHOD_REPLAY, name);
    if (query->keyed) {
        ask_by_key(query);
    }
    if (query->has_have) {
        ask_what_is_held(query);
    }
    ask_selection(query);
    if (query->pin) {
        ask_set(&ask, pin, true);
    }
    if (!query->touch) {
        ask_set(&ask, touch, false);
    }
    enum status status;
    do {
        status = thread_replay(domain.lane, &ask.request, got, &error);
    } while (put_back(status));
    SAME(status, STATUS_OK);
    rules_replay(&rules, query, want);
    replays++;
    check_answer(got, want);
    if ((want->miss || query->is_list) && query->touch) {
        adopt_uses();
    }
}

#endif
