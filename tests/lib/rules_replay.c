/* What the contract makes of a replay: which steps, in which order, or why not. */
#include "tests/lib/rules.h"

#include <assert.h>
#include <string.h>

/* The names, as a file of profiles would have them; the last row stands for all others. */
const char *const rules_models[RULES_MODELS] = {"alpha-1", "beta-1",   "beta-2",
                                                "gamma",   "delta-v1", "someone/Epsilon-9"};
const char rules_profiles[] = "alpha*   current_turn  reasoning         anyone\n"
                              "beta*    tool_turns    reasoning_content itself\n"
                              "gamma    last_turns:2  thinking          itself\n"
                              "delta*   since_final   thinking          anyone\n"
                              "epsilon* none          reasoning         itself\n"
                              "*        all           reasoning         itself\n";

static const struct {
    enum wire_policy policy;
    uint64_t turns;
    bool anyone;
} profiles[RULES_MODELS] = {
    {WIRE_POLICY_CURRENT_TURN, 0, true}, {WIRE_POLICY_TOOL_TURNS, 0, false},
    {WIRE_POLICY_TOOL_TURNS, 0, false},  {WIRE_POLICY_LAST_TURNS, 2, false},
    {WIRE_POLICY_SINCE_FINAL, 0, true},  {WIRE_POLICY_NONE, 0, false},
};

/* The positions asked for, as the rules below look at them. */
struct view {
    const struct rules_thread *thread;
    uint32_t end;
    const struct rules_query *query;
    bool kept[RULES_STEPS]; /* by policy and floor */
    uint32_t mismatch_from;
    uint32_t spent_until; /* with `kept` the budgets are for all that is kept: none below fits */
};

static const struct rules_step *step_at(const struct view *view, uint32_t at)
{
    return at < view->thread->lost || view->thread->places[at].corrupt
               ? NULL
               : view->thread->places[at].step;
}

/* ---- policies ---- */

static bool any_turn(const struct view *view, uint64_t *highest)
{
    bool any = false;
    for (uint32_t at = 0; at < view->end; at++) {
        const struct rules_step *step = step_at(view, at);
        if (step) {
            *highest = step->turn; /* they never fall */
            any = true;
        }
    }
    return any;
}

static bool keeps_current_turn(const struct view *view, const struct rules_step *step)
{
    uint64_t turn = view->query->turn;
    if (!view->query->has_turn) {
        any_turn(view, &turn);
    }
    return step->turn >= turn;
}

static bool keeps_since_final(const struct view *view, const struct rules_step *step)
{
    for (uint32_t at = step->number; at < view->end; at++) {
        if (step_at(view, at) && step_at(view, at)->final) {
            return false;
        }
    }
    return true;
}

/* What is damaged may have called a tool, and in either of the turns that it lies between. */
static bool keeps_tool_turns(const struct view *view, const struct rules_step *step)
{
    for (uint32_t at = 0; at < view->end; at++) {
        if (step_at(view, at) && step_at(view, at)->turn == step->turn &&
            !step_at(view, at)->final) {
            return true;
        }
    }
    for (int way = -1; way <= 1; way += 2) {
        for (int64_t at = (int64_t)step->number + way; at >= 0 && at < view->end; at += way) {
            if (at >= view->thread->lost && view->thread->places[at].corrupt) {
                return true;
            }
            if (!step_at(view, (uint32_t)at) || step_at(view, (uint32_t)at)->turn != step->turn) {
                break;
            }
        }
    }
    return false;
}

static bool keeps_last_turns(const struct view *view, const struct rules_step *step, uint64_t turns)
{
    uint64_t above = 0, turn = step->turn;
    for (uint32_t at = step->number; at < view->end; at++) {
        if (step_at(view, at) && step_at(view, at)->turn != turn) {
            turn = step_at(view, at)->turn;
            above++;
        }
    }
    return above < turns;
}

static bool keeps(const struct view *view, const struct rules_step *step, enum wire_policy policy,
                  uint64_t turns)
{
    switch (policy) {
    case WIRE_POLICY_CURRENT_TURN:
        return keeps_current_turn(view, step);
    case WIRE_POLICY_SINCE_FINAL:
        return keeps_since_final(view, step);
    case WIRE_POLICY_TOOL_TURNS:
        return keeps_tool_turns(view, step);
    case WIRE_POLICY_LAST_TURNS:
        return keeps_last_turns(view, step, turns);
    default:
        return policy != WIRE_POLICY_NONE;
    }
}

static enum wire_policy resolve(const struct view *view, uint64_t *turns)
{
    const struct rules_query *query = view->query;
    enum wire_policy policy = query->has_policy ? query->policy : WIRE_POLICY_ALL;
    *turns = query->turns;
    if (policy != WIRE_POLICY_AUTO) {
        return policy;
    }
    int model = query->model;
    for (uint32_t at = view->end; model < 0 && at-- > 0;) {
        model = step_at(view, at) ? step_at(view, at)->model : -1;
    }
    if (model < 0) {
        return WIRE_POLICY_ALL; /* the profile of all others */
    }
    *turns = profiles[model].turns;
    return profiles[model].policy;
}

/*
 * Of what is lost or damaged neither turn nor final is known: it is kept, and will be missing,
 * unless a step behind it is left out by a policy that leaves out all before a boundary.
 */
static void apply_policy(struct view *view)
{
    uint64_t turns;
    enum wire_policy policy = resolve(view, &turns);
    bool bounded = policy != WIRE_POLICY_ALL && policy != WIRE_POLICY_TOOL_TURNS;
    bool behind_kept = policy != WIRE_POLICY_NONE;
    for (uint32_t at = view->end; at-- > 0;) {
        const struct rules_step *step = step_at(view, at);
        view->kept[at] = step ? keeps(view, step, policy, turns) : !bounded || behind_kept;
        behind_kept &= !step || view->kept[at];
    }
}

static uint32_t first_kept(const struct view *view)
{
    uint32_t at = 0;
    while (at < view->end && !view->kept[at]) {
        at++;
    }
    return at;
}

static void apply_floor(struct view *view, uint32_t floor)
{
    for (uint32_t at = 0; at < view->end && at < floor; at++) {
        view->kept[at] = false;
    }
}

/* ---- binding ---- */

static uint32_t mismatch_from(const struct view *view)
{
    uint32_t from = view->end;
    for (unsigned i = 0; i < view->query->prefix_count; i++) {
        uint32_t at = view->query->prefix_steps[i];
        const struct rules_step *step = at < from ? step_at(view, at) : NULL;
        if (step && step->prefix >= 0 && step->prefix != (int)view->query->prefixes[i]) {
            from = at;
        }
    }
    return from;
}

static bool may_read(int writer, int reader)
{
    return writer < 0 || reader < 0 || writer == reader || profiles[writer].anyone;
}

/* Why a position that is kept cannot be given; NONE: it can. */
static enum reason why_not(const struct view *view, uint32_t at)
{
    if (at < view->thread->lost) {
        return view->thread->lost_reason;
    }
    if (view->thread->places[at].corrupt) {
        return REASON_CORRUPT;
    }
    if (at >= view->mismatch_from) {
        return REASON_PREFIX_MISMATCH;
    }
    if (!may_read(step_at(view, at)->model, view->query->model)) {
        return REASON_MODEL_MISMATCH;
    }
    return at < view->spent_until ? REASON_BUDGET : REASON_NONE;
}

static bool is_mismatch(enum reason reason)
{
    return reason == REASON_PREFIX_MISMATCH || reason == REASON_MODEL_MISMATCH;
}

/* ---- what the caller has ---- */

/* The version at which a position became what it is, as the thread counts. */
static uint32_t position_since(const struct rules_thread *thread, unsigned t, uint32_t at)
{
    if (at < thread->lost) {
        return thread->fork_version ? thread->fork_version : thread->lost_base + at + 1;
    }
    const struct rules_step *step = thread->places[at].step;
    bool own = step->writer == t && step->incarnation == thread->incarnation;
    return own ? step->version : thread->fork_version;
}

/* How many of the thread's first positions are what they were at the caller's version. */
static uint32_t unchanged(const struct view *view, unsigned t)
{
    const struct rules_thread *thread = view->thread;
    uint32_t at = 0;
    while (view->query->have_version <= thread->version && at < thread->length &&
           position_since(thread, t, at) <= view->query->have_version) {
        at++;
    }
    return at;
}

/*
 * The caller's context has the reasoning of position `at`, or has not: is that as it would be given
 * now? What is lost or damaged cannot be given: who has it may go on with it, who has not goes on
 * without. A bare step has no reasoning that could be missed or be too much.
 */
static bool differs(const struct view *view, uint32_t at, uint32_t same)
{
    bool ours = at < view->end && view->kept[at];
    enum reason reason = ours ? why_not(view, at) : REASON_NONE;
    bool bare = at >= view->thread->lost && at < view->end && !view->thread->places[at].corrupt &&
                step_at(view, at)->size == 0;
    if (view->query->kept[at]) {
        return at >= same || (!bare && (!ours || is_mismatch(reason) || reason == REASON_BUDGET));
    }
    return ours && !bare && reason == REASON_NONE;
}

/* Neither the caller has the reasoning of position `at`, nor can it be given. */
static bool is_hole(const struct view *view, uint32_t at)
{
    enum reason reason = at < view->end && view->kept[at] ? why_not(view, at) : REASON_NONE;
    return !view->query->kept[at] && reason != REASON_NONE;
}

/* The first position to answer with. */
static uint32_t skip_held(const struct view *view, unsigned t, struct rules_answer *answer)
{
    const struct rules_query *query = view->query;
    if (!query->has_have) {
        return 0;
    }
    uint32_t beyond = (uint32_t)(query->have_step + 1), same = unchanged(view, t), changed = same;
    if (query->has_kept) {
        for (changed = 0; changed < beyond && !differs(view, changed, same); changed++) {
            answer->partial |= is_hole(view, changed);
        }
        answer->has_extends = true;
        answer->extends = changed >= beyond;
    } else if (view->mismatch_from < view->end && view->mismatch_from < changed) {
        changed = view->mismatch_from;
    }
    answer->has_first_changed = changed < beyond;
    answer->first_changed = changed < beyond ? changed : 0;
    uint32_t first = changed < same ? changed : same;
    return first < beyond ? first : beyond;
}

/* ---- the selection ---- */

static uint64_t tokens_of(const struct rules_step *step)
{
    return step->has_tokens ? step->tokens : (step->size + 3) / 4;
}

/*
 * The newest that fit are given; with the first that does not, all older ones are over budget. A
 * failure tells what is wrong with the oldest.
 */
static void list(const struct view *view, uint32_t begin, struct rules_answer *answer)
{
    uint64_t bytes = view->query->max_bytes, tokens = view->query->max_tokens;
    uint64_t last = view->query->last ? view->query->last : UINT64_MAX;
    bool spent = false;
    struct rules_entry newest_first[RULES_STEPS] = {0};
    for (uint32_t at = view->end; at-- > begin && answer->listed < last;) {
        if (!view->kept[at]) {
            continue;
        }
        const struct rules_step *step = step_at(view, at);
        struct rules_entry entry = {.position = at, .missing = why_not(view, at)};
        if (view->query->fail && is_mismatch(entry.missing)) {
            answer->miss = true;
            answer->reason = entry.missing;
        }
        if (entry.missing == REASON_NONE) {
            spent |= step->size > bytes || tokens_of(step) > tokens;
            bytes -= spent ? 0 : step->size;
            tokens -= spent ? 0 : tokens_of(step);
            entry.step = spent ? NULL : step;
            entry.missing = spent ? REASON_BUDGET : REASON_NONE;
        }
        answer->partial |= entry.missing != REASON_NONE;
        newest_first[answer->listed++] = entry;
    }
    answer->listed = answer->miss ? 0 : answer->listed;
    for (uint32_t i = 0; i < answer->listed; i++) {
        answer->entries[i] = newest_first[answer->listed - 1 - i];
    }
}

/* The position behind the newest step that no longer fits the budgets; 0: all do. */
static uint32_t spent_until(const struct view *view)
{
    uint64_t bytes = 0, tokens = 0;
    for (uint32_t at = view->end; at-- > 0;) {
        if (view->kept[at] && why_not(view, at) == REASON_NONE) {
            bytes += step_at(view, at)->size;
            tokens += tokens_of(step_at(view, at));
            if (bytes > view->query->max_bytes || tokens > view->query->max_tokens) {
                return at + 1;
            }
        }
    }
    return 0;
}

static void select_steps(struct rules *rules, unsigned t, uint32_t end,
                         const struct rules_query *query, struct rules_answer *answer)
{
    struct rules_thread *thread = &rules->threads[t];
    struct view view = {.thread = thread, .end = end, .query = query};
    answer->thread = (int)t;
    answer->version = thread->version;
    answer->head = (int64_t)thread->length - 1;
    answer->end = end;
    view.mismatch_from = mismatch_from(&view);
    apply_policy(&view);
    uint32_t floor = thread->floor;
    if (query->pin) {
        floor = first_kept(&view) > floor ? first_kept(&view) : floor;
        apply_floor(&view, floor);
        floor = first_kept(&view) > floor ? first_kept(&view) : floor;
    }
    answer->has_dropped = query->pin || (query->has_policy && query->policy != WIRE_POLICY_ALL);
    answer->kept_from = answer->has_dropped ? first_kept(&view) : 0;
    for (uint32_t at = 0; at < end; at++) {
        answer->dropped += !view.kept[at];
    }
    view.spent_until = query->has_have && query->has_kept ? spent_until(&view) : 0;
    list(&view, skip_held(&view, t, answer), answer);
    if (!answer->miss) {
        thread->floor = floor; /* a miss gives nothing: nothing was dropped by it */
    }
}

/* ---- finding it ---- */

static void use(const struct rules *rules, struct rules_thread *thread)
{
    thread->deadline_ms = rules->now_ms + rules->keep_ms;
    thread->used_last_ms = thread->deadline_ms;
}

/* The position behind the newest step of the thread that carries the key; 0: none. */
static uint32_t find_in_thread(const struct rules_thread *thread, enum rules_key_kind kind,
                               unsigned id)
{
    for (uint32_t at = thread->length; at-- > thread->lost;) {
        if (!thread->places[at].corrupt && rules_step_carries(thread->places[at].step, kind, id)) {
            return at + 1;
        }
    }
    return 0;
}

/* Where the newest step that carried the key is, if it is still there. */
static uint32_t find_anywhere(struct rules *rules, const struct rules_key *key, unsigned *t)
{
    const struct rules_step *newest = key->newest;
    const struct rules_thread *writer = newest ? &rules->threads[newest->writer] : NULL;
    if (!newest || !writer->alive || writer->incarnation != newest->incarnation ||
        newest->number >= writer->length || newest->number < writer->lost ||
        writer->places[newest->number].step != newest) {
        return 0;
    }
    *t = newest->writer;
    return newest->number + 1;
}

static void by_key(struct rules *rules, const struct rules_query *query,
                   struct rules_answer *answer)
{
    bool scoped = query->thread >= 0;
    unsigned t = scoped ? (unsigned)query->thread : 0;
    for (uint32_t i = 0; i < query->id_count; i++) {
        const struct rules_key *key = &rules->keys[query->kind][query->ids[i]];
        if (!scoped && key->shared && query->kind != RULES_PREFIX) {
            answer->miss = true;
            answer->reason = REASON_AMBIGUOUS;
            return;
        }
        uint32_t end = scoped ? find_in_thread(&rules->threads[t], query->kind, query->ids[i])
                              : find_anywhere(rules, key, &t);
        if (end > 0) {
            answer->ambiguous = !scoped && key->shared;
            answer->has_found = query->is_list;
            answer->found = query->is_list ? i : 0;
            answer->in_flight = rules->threads[t].draft.lives;
            if (query->touch) {
                use(rules, &rules->threads[t]);
            }
            select_steps(rules, t, end, query, answer);
            return;
        }
    }
    answer->miss = true;
    answer->any_reason = true;
}

void rules_replay(struct rules *rules, const struct rules_query *query, struct rules_answer *answer)
{
    *answer = (struct rules_answer){.thread = -1, .head = -1};
    assert(query->thread >= 0 || query->keyed);
    if (query->thread < 0) {
        by_key(rules, query, answer);
        return;
    }
    struct rules_thread *thread = &rules->threads[query->thread];
    answer->in_flight = thread->draft.lives;
    answer->version = thread->version;
    if (!thread->alive) {
        answer->miss = true;
        answer->reason = thread->reason;
        return;
    }
    if (query->touch) {
        use(rules, thread);
    }
    if (query->keyed) {
        by_key(rules, query, answer);
    } else {
        select_steps(rules, (unsigned)query->thread, thread->length, query, answer);
    }
}
