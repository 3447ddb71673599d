/*
 * Random replays, what must hold of them whatever the rules say, and whole histories. Private to
 * test_rules.c and test_rules_disk.c.
 */
#ifndef RETHREAD_TESTS_THREAD_RULES_PLAY_H
#define RETHREAD_TESTS_THREAD_RULES_PLAY_H

#include "tests/thread/rules_acts.h"

/* ---- replay ---- */

static void invent_policy(struct rules_query *query, const struct rules_thread *thread)
{
    bool held = thread->alive && thread->length > thread->lost;
    uint32_t highest = held ? thread->places[thread->length - 1].step->turn : 0;
    query->has_policy = !one_in(4);
    query->policy =
        query->has_policy ? (enum wire_policy)below(WIRE_POLICY_COUNT) : WIRE_POLICY_ALL;
    query->has_turns = query->has_policy && query->policy == WIRE_POLICY_LAST_TURNS;
    query->turns = query->has_turns ? 1 + below(3) : 0;
    query->has_turn = one_in(3);
    query->turn = query->has_turn ? highest + 2 - below(highest + 3 < 5 ? highest + 3 : 5) : 0;
    query->model = one_in(3) ? (int)below(RULES_MODELS) : -1;
    query->pin = one_in(4);
}

static void invent_prefixes(struct rules_query *query, const struct rules_thread *thread)
{
    for (uint32_t i = 0; i < thread->length; i++) {
        /* From either end; often the true ones. */
        uint32_t at = thread->length % 2 ? i : thread->length - 1 - i;
        if (one_in(3)) {
            continue;
        }
        int prefix = at < thread->lost ? -1 : thread->places[at].step->prefix;
        query->prefix_steps[query->prefix_count] = at + (one_in(30) ? 2 : 0);
        query->prefixes[query->prefix_count++] =
            prefix < 0 || one_in(8) ? below(RULES_IDS) : (unsigned)prefix;
    }
}

static void invent_have(struct rules_query *query, const struct rules_thread *thread)
{
    query->has_have = true;
    bool exact = one_in(2) || is_damaged(thread); /* of what is damaged the version is forgotten */
    query->have_version = exact ? thread->version : below(thread->version + 2);
    query->have_step = (int64_t)below(thread->length + 2) - 1;
    query->has_kept = !one_in(3);
    unsigned manner = below(4), from = below(thread->length + 1);
    for (int64_t at = 0; query->has_kept && at <= query->have_step; at++) {
        query->kept[at] = manner == 0 || (manner == 1 && at >= from) || (manner == 2 && one_in(2));
    }
}

static void invent_key(struct rules_query *query)
{
    query->keyed = true;
    query->kind = (enum rules_key_kind)below(RULES_KEY_KINDS);
    query->is_list = query->kind == RULES_PREFIX && one_in(2);
    query->id_count = query->is_list ? 1 + below(RULES_IDS + 1) : 1;
    for (unsigned i = 0; i < query->id_count; i++) {
        query->ids[i] = below(RULES_IDS);
    }
}

static struct rules_query invent_query(unsigned t)
{
    struct rules_query query = {
        .thread = (int)t, .max_bytes = UINT64_MAX, .max_tokens = UINT64_MAX};
    const struct rules_thread *thread = &rules.threads[t];
    query.touch = !one_in(3);
    invent_policy(&query, thread);
    if (one_in(4)) {
        invent_prefixes(&query, thread);
    }
    query.fail = one_in(4);
    return query;
}

static bool any_damaged(void)
{
    bool damaged = false;
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        damaged |= is_damaged(&rules.threads[t]);
    }
    return damaged;
}

static void check_floors(const struct rules_query *query, const struct thread_replay_result *got,
                         const struct rules_answer *want);

static void do_replay(void)
{
    unsigned t = pick();
    struct rules_query query = invent_query(t);
    if (one_in(3) && !any_damaged()) {
        invent_key(&query);
        query.thread = one_in(2) ? -1 : query.thread;
    }
    if (one_in(2)) {
        invent_have(&query, &rules.threads[t]);
    }
    query.last = one_in(6) ? 1 + below(4) : 0;
    query.max_bytes = one_in(6) ? below(20) : UINT64_MAX;
    query.max_tokens = one_in(6) ? below(12) : UINT64_MAX;
    struct thread_replay_result got;
    struct rules_answer want;
    replay_both(&query, &got, &want);
    check_floors(&query, &got, &want);
}

/* ---- what must hold whatever the rules say ---- */

/*
 * What pinned replays left out stays left out, until a rewind goes below it. Judged by the answers
 * alone; `incarnation` tells one life of a name from the next.
 */
static struct {
    unsigned incarnation;
    uint32_t below;
} pinned[RULES_THREADS];

static void follow_floors(void)
{
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        const struct rules_thread *thread = &rules.threads[t];
        if (pinned[t].incarnation != thread->incarnation) {
            pinned[t].incarnation = thread->incarnation;
            pinned[t].below = 0;
        }
        if (pinned[t].below > thread->length) {
            pinned[t].below = thread->length;
        }
    }
}

static void check_floors(const struct rules_query *query, const struct thread_replay_result *got,
                         const struct rules_answer *want)
{
    if (!query->pin || want->miss) {
        return;
    }
    uint32_t *below_it = &pinned[want->thread].below;
    for (uint32_t at = got->begin; at < got->end && at < *below_it; at++) {
        enum reason missing;
        const struct step *step = thread_replay_step(domain.lane, got, at, &missing);
        HOLDS(!step && missing == REASON_NONE);
    }
    *below_it = got->kept_from > *below_it ? got->kept_from : *below_it;
}

/*
 * A caller of each thread, who keeps a context by what the answers say, and nothing else. With
 * `extends` it only ever adds to it; else it goes back to first_changed. What it has then is what
 * it would be given if it had nothing.
 */
static struct caller {
    bool there;
    unsigned incarnation; /* the next life of a name is another thread, and told by its version only
                             by chance: the caller forgets when it hears of a miss */
    uint64_t version;
    int64_t step;
    bool has[RULES_STEPS];
    uint32_t size[RULES_STEPS];
    uint8_t payload[RULES_STEPS][RULES_PAYLOAD_BYTES];
} callers[RULES_THREADS];

static void caller_takes(struct caller *caller, const struct thread_replay_result *got,
                         bool missing_at[RULES_STEPS])
{
    for (uint32_t at = got->begin; at < got->end; at++) {
        enum reason missing;
        struct step_view view;
        const struct step *step = thread_replay_step(domain.lane, got, at, &missing);
        missing_at[at] = missing != REASON_NONE;
        if (step) {
            step_view(step, &view);
            HOLDS(!caller->has[at]);
            /* A bare step it may count among what it holds, or not. */
            caller->has[at] = view.payload_bytes > 0 || at % 2 > 0;
            caller->size[at] = view.payload_bytes;
            memcpy(caller->payload[at], view.payload.data, view.payload_bytes);
        }
    }
    caller->there = true;
    caller->version = got->version;
    caller->step = got->head;
}

/* Of what is lost or damaged the caller may have more than it would be given now. */
static void check_contexts(const struct caller *caller, const struct caller *fresh,
                           const bool missing[RULES_STEPS], const struct rules_thread *thread)
{
    for (uint32_t at = 0; at < thread->length; at++) {
        if (missing[at] && (at < thread->lost || thread->places[at].corrupt)) {
            continue;
        }
        uint32_t size = caller->has[at] ? caller->size[at] : 0;
        SAME(size, fresh->has[at] ? fresh->size[at] : 0);
        HOLDS(memcmp(caller->payload[at], fresh->payload[at], size) == 0);
    }
}

static void do_call(void)
{
    unsigned t = pick();
    struct caller *caller = &callers[t];
    struct rules_query query = invent_query(t);
    query.fail = false;
    query.max_bytes = one_in(4) ? below(30) : UINT64_MAX;
    query.max_tokens = one_in(4) ? below(15) : UINT64_MAX;
    if (is_damaged(&rules.threads[t]) && caller->version != rules.threads[t].version) {
        caller->there = false; /* as in invent_have */
        memset(caller->has, 0, sizeof caller->has);
    }
    if (caller->there) {
        query.has_have = query.has_kept = true;
        query.have_version = caller->version;
        query.have_step = caller->step;
        memcpy(query.kept, caller->has, sizeof caller->has);
    }
    struct thread_replay_result got;
    struct rules_answer want;
    bool missing[RULES_STEPS] = {false};
    replay_both(&query, &got, &want);
    check_floors(&query, &got, &want);
    if (want.miss) {
        *caller = (struct caller){0};
        return;
    }
    if (caller->there && caller->incarnation != rules.threads[t].incarnation) {
        *caller = (struct caller){0}; /* it cannot know, and did not hear of the miss */
        return;
    }
    uint32_t from = got.has_first_changed ? (uint32_t)got.first_changed : RULES_STEPS;
    HOLDS(!query.has_have || got.extends == !got.has_first_changed);
    for (uint32_t at = from; at < RULES_STEPS; at++) {
        caller->has[at] = false;
    }
    caller->incarnation = rules.threads[t].incarnation;
    caller_takes(caller, &got, missing);
    /* Whoever comes with nothing is given the same. */
    static struct caller fresh;
    fresh = (struct caller){0};
    query.has_have = query.has_kept = query.touch = false;
    replay_both(&query, &got, &want);
    SAME(got.listed + got.dropped, got.end); /* returned, missing or left out: nothing else */
    memset(missing, 0, sizeof missing);
    caller_takes(&fresh, &got, missing);
    check_contexts(caller, &fresh, missing, &rules.threads[t]);
}

/* ---- a history ---- */

struct act {
    const char *name;
    unsigned weight; /* of a hundred */
    void (*act)(void);
};

static void act(const struct act *acts, size_t count, unsigned among)
{
    unsigned at = below(among);
    for (size_t i = 0; i < count; at -= acts[i++].weight) {
        if (at < acts[i].weight) {
            acts[i].act();
            return;
        }
    }
}

static void do_something(void)
{
    static const struct act acts[] = {
        {"append", 27, do_append}, {"replay", 27, do_replay}, {"call", 14, do_call},
        {"begin", 4, do_begin},    {"chunk", 6, do_chunk},    {"commit", 4, do_commit},
        {"abort", 1, do_abort},    {"touch", 1, do_touch},    {"fork", 4, do_fork},
        {"rewind", 5, do_rewind},  {"forget", 2, do_forget},  {"wait", 4, do_wait},
        {"tend", 1, do_tend}};
    act(acts, sizeof acts / sizeof acts[0], 100);
    follow_floors();
    unsigned t = pick();
    if (!disk || one_in(4)) {
        check_stat(t);
    }
}

/* The acts that these numbers stand for. False: the worlds differ. */
static bool play(const uint64_t *numbers, unsigned count, void (*besides)(void))
{
    history++;
    tale_size = 0;
    tale[0] = '\0';
    rules_init(&rules, now_ms(), disk ? domain.settings.retention_ms : domain.settings.ttl_ms,
               CLAIM_MS);
    memset(pinned, 0, sizeof pinned);
    memset(callers, 0, sizeof callers);
    bool same = setjmp(end_of_history) == 0;
    if (same) {
        for (unsigned i = 0; i < count; i++) {
            state = numbers[i];
            if (besides && one_in(3)) {
                besides();
            } else {
                do_something();
            }
        }
        for (unsigned t = 0; t < RULES_THREADS; t++) {
            check_stat(t);
            forget(t);
        }
    } else {
        char kept_wrong[sizeof wrong];
        memcpy(kept_wrong, wrong, sizeof wrong);
        if (setjmp(end_of_history) == 0) {
            for (unsigned t = 0; t < RULES_THREADS; t++) {
                forget(t);
            }
        }
        memcpy(wrong, kept_wrong, sizeof wrong);
    }
    tend();
    return same;
}

/* Leaves out what is not needed for the worlds to differ; the tale and what is wrong stay. */
static void shorten(uint64_t *numbers, unsigned *count, void (*besides)(void))
{
    for (unsigned at = 0, width = *count / 2; width > 0; at = 0, width /= 2) {
        while (at + width <= *count) {
            uint64_t fewer[ACTS_MAX];
            memcpy(fewer, numbers, at * sizeof *fewer);
            memcpy(fewer + at, numbers + at + width, (*count - at - width) * sizeof *fewer);
            if (play(fewer, *count - width, besides)) {
                at++;
                continue;
            }
            *count -= width;
            memcpy(numbers, fewer, *count * sizeof *fewer);
        }
    }
    play(numbers, *count, besides);
}

/* RETHREAD_RULES_CASES: so many instead; RETHREAD_TEST_SEED: from that one on. */
static void play_histories(uint64_t histories, void (*besides)(void))
{
    const char *cases = getenv("RETHREAD_RULES_CASES"), *chosen = getenv("RETHREAD_TEST_SEED");
    histories = cases ? strtoull(cases, NULL, 10) : trial_count(histories);
    uint64_t seed = chosen ? strtoull(chosen, NULL, 10) : clock_read_ms(clock_wall()) << 20;
    for (uint64_t i = 0; i < histories; i++) {
        uint64_t numbers[ACTS_MAX], from = seed + i;
        unsigned count = 4 + (unsigned)trial_below(&from, ACTS_MAX - 3);
        for (unsigned n = 0; n < count; n++) {
            numbers[n] = trial_random(&from);
        }
        if (!play(numbers, count, besides)) {
            telling = true;
            shorten(numbers, &count, besides);
            ck_abort_msg("%s (RETHREAD_TEST_SEED=%lu), at the end of:\n%s", wrong,
                         (unsigned long)(seed + i), tale);
        }
    }
    printf("%lu histories, %lu replays\n", (unsigned long)histories, (unsigned long)replays);
}

/* ---- the domain ---- */

static struct threads_settings rules_settings(void)
{
    static struct profiles *profiles;
    char path[] = "/tmp/rules-XXXXXX", why[PROFILE_ERROR_BYTES];
    int file = mkstemp(path);
    ck_assert(file >= 0 && write(file, rules_profiles, strlen(rules_profiles)) ==
                               (ssize_t)strlen(rules_profiles));
    close(file);
    ck_assert_msg(profiles_load(path, &profiles, why) == STATUS_OK, "%s", why);
    unlink(path);
    struct threads_settings settings = domain_settings();
    settings.claim_timeout_ms = CLAIM_MS;
    settings.profiles = profiles; /* until the end of the process */
    settings.tombstones = 1 << 10;
    return settings;
}

#endif
