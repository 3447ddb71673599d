/* Calls and steps find each other; see weave_match.h. */
#include "client/weave_match.h"

#include <assert.h>
#include <stdlib.h>

#define CONFLICT (SIZE_MAX - 1)

/* Something by which a call or a step can be found: one of its ids, or its hash. */
struct key {
    struct rethread_bytes bytes;
    size_t index; /* of the call or step */
    bool is_step;
};

struct keys {
    struct key *items;
    size_t count;
    size_t room;
};

/* Calls and steps with the same key, each in order. */
struct group {
    const struct key *calls;
    size_t call_count;
    const struct key *steps;
    size_t step_count;
};

struct matcher {
    const struct weave_transcript *transcript;
    const struct rethread_replay_result *replay;
    struct weave_matches *matches;
    size_t *step_linked; /* to a call: what ids say before conflicts are known; likewise below */
    size_t *call_linked;
    bool all_held;   /* the replay has every step of the thread */
    bool as_many;    /* the transcript has as many calls as the thread has steps */
    bool ids_repeat; /* some id is in several calls or in several steps */
    bool changed;    /* ids led to several places: the transcript is not what it was */
};

typedef void (*group_fn)(struct matcher *matcher, const struct group *group);

static const struct rethread_step *step_at(const struct matcher *matcher, size_t index)
{
    return &matcher->replay->steps[index];
}

static const struct weave_call *call_at(const struct matcher *matcher, size_t index)
{
    return &matcher->transcript->calls[index];
}

static bool is_held(const struct rethread_step *step)
{
    return step->missing == RETHREAD_REASON_NONE;
}

static bool has_visible(const struct rethread_step *step)
{
    return step->visible.data != NULL && step->visible.size == RETHREAD_VISIBLE_BYTES;
}

static bool is_open(const struct matcher *matcher, const struct key *key)
{
    const struct weave_matches *matches = matcher->matches;
    return (key->is_step ? matches->call_of_step : matches->step_of_call)[key->index] == WEAVE_NONE;
}

static void pair(struct matcher *matcher, size_t call, size_t step, enum rethread_woven_by by)
{
    struct weave_matches *matches = matcher->matches;
    assert(matches->step_of_call[call] == WEAVE_NONE && matches->call_of_step[step] == WEAVE_NONE);
    matches->step_of_call[call] = step;
    matches->call_of_step[step] = call;
    matches->by_of_step[step] = by;
}

static int compare_bytes(struct rethread_bytes a, struct rethread_bytes b)
{
    if (a.size != b.size)
        return a.size < b.size ? -1 : 1;
    return a.size == 0 ? 0 : memcmp(a.data, b.data, a.size);
}

static int compare_keys(const void *a, const void *b)
{
    const struct key *x = a;
    const struct key *y = b;
    int order = compare_bytes(x->bytes, y->bytes);
    if (order != 0)
        return order;
    if (x->is_step != y->is_step)
        return x->is_step ? 1 : -1;
    return (x->index > y->index) - (x->index < y->index);
}

static bool add_key(struct keys *keys, struct rethread_bytes bytes, size_t index, bool is_step)
{
    if (!weave_json_grow((void **)&keys->items, &keys->room, keys->count, sizeof *keys->items))
        return false;
    keys->items[keys->count++] = (struct key){bytes, index, is_step};
    return true;
}

/* Sorts the keys; each call or step has each of its keys once from then on. */
static void sort_keys(struct keys *keys)
{
    size_t kept = 0;
    if (keys->count > 0)
        qsort(keys->items, keys->count, sizeof *keys->items, compare_keys);
    for (size_t i = 0; i < keys->count; i++)
        if (kept == 0 || compare_keys(&keys->items[kept - 1], &keys->items[i]) != 0)
            keys->items[kept++] = keys->items[i];
    keys->count = kept;
}

/* Whether several calls, or several steps, have the same of the sorted keys. */
static bool repeat(const struct keys *keys)
{
    for (size_t i = 1; i < keys->count; i++)
        if (keys->items[i].is_step == keys->items[i - 1].is_step &&
            compare_bytes(keys->items[i].bytes, keys->items[i - 1].bytes) == 0)
            return true;
    return false;
}

/* Hands over each of the sorted keys that as many calls as steps have. */
static void each_group(struct matcher *matcher, const struct keys *keys, group_fn use)
{
    size_t kept = keys->count;
    for (size_t i = 0; i < kept;) {
        struct group group = {.calls = &keys->items[i]};
        size_t end = i;
        for (; end < kept && compare_bytes(keys->items[i].bytes, keys->items[end].bytes) == 0;
             end++)
            group.call_count += !keys->items[end].is_step;
        group.steps = group.calls + group.call_count;
        group.step_count = end - i - group.call_count;
        if (group.call_count == group.step_count)
            use(matcher, &group);
        i = end;
    }
}

/* ---- By tool calls ----------------------------------------------------------------------------
 */

static bool looks_the_same(const struct matcher *matcher, size_t call, size_t step)
{
    return memcmp(step_at(matcher, step)->visible.data, call_at(matcher, call)->visible,
                  RETHREAD_VISIBLE_BYTES) == 0;
}

/* Whether no other can be meant: one that looks alike, and that the replay does not have. */
static bool is_there(const struct matcher *matcher, size_t call, size_t step)
{
    return matcher->all_held || step_at(matcher, step)->step == call;
}

/* Whether, of several with the same id, the step is the call's. */
static bool agree(const struct matcher *matcher, size_t call, size_t step)
{
    if (!has_visible(step_at(matcher, step)))
        return step_at(matcher, step)->step == call;
    return looks_the_same(matcher, call, step) && is_there(matcher, call, step);
}

/* Whether all ids of one are among those of the other. */
static bool has_ids(const struct rethread_bytes *ids, size_t count, const struct rethread_bytes *of,
                    size_t of_count)
{
    for (size_t i = 0; i < count; i++) {
        size_t j = 0;
        while (j < of_count && compare_bytes(ids[i], of[j]) != 0)
            j++;
        if (j == of_count)
            return false;
    }
    return true;
}

static bool same_ids(const struct matcher *matcher, size_t call_index, size_t step)
{
    const struct weave_call *call = call_at(matcher, call_index);
    const struct rethread_bytes *ids = weave_transcript_ids(matcher->transcript, call);
    struct rethread_ids others = step_at(matcher, step)->tool_calls;
    return has_ids(ids, call->id_count, others.items, others.count) &&
           has_ids(others.items, others.count, ids, call->id_count);
}

/* Whether, of an id that one call and one step have, the step is the call's. */
static bool is_the_one(const struct matcher *matcher, size_t call, size_t step)
{
    const struct rethread_step *of = step_at(matcher, step);
    bool same = has_visible(of) && looks_the_same(matcher, call, step);
    if (matcher->ids_repeat)
        return (same && call_at(matcher, call)->has_text) || agree(matcher, call, step);
    /* Such an id outweighs a text that was edited. */
    return same || !has_visible(of) ||
           ((matcher->all_held || (matcher->as_many && of->step == call)) &&
            of->turn == call_at(matcher, call)->turn && same_ids(matcher, call, step));
}

static void note_link(size_t *linked, size_t other)
{
    *linked = *linked == WEAVE_NONE || *linked == other ? other : CONFLICT;
}

static void link_group(struct matcher *matcher, const struct group *group)
{
    if (group->call_count == 1 &&
        !is_the_one(matcher, group->calls[0].index, group->steps[0].index))
        return;
    for (size_t i = 0; group->call_count > 1 && i < group->call_count; i++)
        if (!agree(matcher, group->calls[i].index, group->steps[i].index))
            return;
    for (size_t i = 0; i < group->call_count; i++) {
        size_t call = group->calls[i].index;
        size_t step = group->steps[i].index;
        note_link(&matcher->call_linked[call], step);
        note_link(&matcher->step_linked[step], call);
    }
}

static bool match_tool_calls(struct matcher *matcher)
{
    const struct weave_transcript *transcript = matcher->transcript;
    struct keys keys = {0};
    bool added = true;
    for (size_t i = 0; added && i < transcript->call_count; i++) {
        const struct weave_call *call = call_at(matcher, i);
        const struct rethread_bytes *ids = weave_transcript_ids(transcript, call);
        for (size_t j = 0; added && j < call->id_count; j++)
            added = add_key(&keys, ids[j], i, false);
    }
    for (size_t i = 0; added && i < matcher->replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        for (size_t j = 0; added && is_held(step) && j < step->tool_calls.count; j++)
            added = add_key(&keys, step->tool_calls.items[j], i, true);
    }
    if (added) {
        sort_keys(&keys);
        matcher->ids_repeat = repeat(&keys);
        each_group(matcher, &keys, link_group);
    }
    free(keys.items);
    for (size_t call = 0; added && call < transcript->call_count; call++) {
        size_t step = matcher->call_linked[call];
        if (step < CONFLICT && matcher->step_linked[step] == call)
            pair(matcher, call, step, RETHREAD_BY_TOOL_CALL);
        else if (step != WEAVE_NONE)
            matcher->changed = true;
    }
    return added;
}

/* ---- By what was shown ------------------------------------------------------------------------
 */

/* Both have ids and share none: whatever else is alike, they are not the same call. */
static bool contradict(const struct matcher *matcher, size_t call_index, size_t step_index)
{
    const struct weave_call *call = call_at(matcher, call_index);
    const struct rethread_step *step = step_at(matcher, step_index);
    const struct rethread_bytes *ids = weave_transcript_ids(matcher->transcript, call);
    if (call->id_count == 0 || step->tool_calls.count == 0)
        return false;
    for (size_t i = 0; i < call->id_count; i++)
        for (size_t j = 0; j < step->tool_calls.count; j++)
            if (compare_bytes(ids[i], step->tool_calls.items[j]) == 0)
                return false;
    return true;
}

/* One text is known again anywhere; several, or none, where no other can be meant. */
static void pair_group(struct matcher *matcher, const struct group *group)
{
    bool sure = group->call_count == 1 && call_at(matcher, group->calls[0].index)->has_text;
    for (size_t i = 0; i < group->call_count; i++) {
        size_t call = group->calls[i].index;
        size_t step = group->steps[i].index;
        if (contradict(matcher, call, step) || !(sure || is_there(matcher, call, step)))
            return;
    }
    for (size_t i = 0; i < group->call_count; i++)
        pair(matcher, group->calls[i].index, group->steps[i].index, RETHREAD_BY_VISIBLE);
}

static bool match_visible(struct matcher *matcher)
{
    struct keys keys = {0};
    bool added = true;
    for (size_t i = 0; added && i < matcher->transcript->call_count; i++) {
        struct key key = {{call_at(matcher, i)->visible, RETHREAD_VISIBLE_BYTES}, i, false};
        if (is_open(matcher, &key))
            added = add_key(&keys, key.bytes, i, false);
    }
    for (size_t i = 0; added && i < matcher->replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        struct key key = {step->visible, i, true};
        if (is_held(step) && has_visible(step) && is_open(matcher, &key))
            added = add_key(&keys, key.bytes, i, true);
    }
    if (added) {
        sort_keys(&keys);
        each_group(matcher, &keys, pair_group);
    }
    free(keys.items);
    return added;
}

/* ---- By position ------------------------------------------------------------------------------
 */

/* Whether the step's number is that of an open call. */
static bool fits(const struct matcher *matcher, size_t index)
{
    uint64_t number = step_at(matcher, index)->step;
    return number < matcher->transcript->call_count &&
           matcher->matches->step_of_call[number] == WEAVE_NONE;
}

/* One called tools, and the other is known to have called none. */
static bool ended_otherwise(const struct matcher *matcher, size_t call_index, size_t step_index)
{
    const struct weave_call *call = call_at(matcher, call_index);
    const struct rethread_step *step = step_at(matcher, step_index);
    return (step->final && !call->final) || (step->tool_calls.count > 0 && call->id_count == 0);
}

/* Whether the user spoke elsewhere than when the steps were recorded; steps that are all of one
 * turn may have been appended without. */
static bool is_out_of_turn(const struct matcher *matcher)
{
    const struct rethread_step *first = NULL;
    bool one_turn = true;
    bool one_distance = true;
    for (size_t i = 0; i < matcher->replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        if (!is_held(step) || step->step >= matcher->transcript->call_count)
            continue;
        if (first == NULL)
            first = step;
        one_turn &= step->turn == first->turn;
        one_distance &= step->turn - call_at(matcher, step->step)->turn ==
                        first->turn - call_at(matcher, first->step)->turn;
    }
    return !one_turn && !one_distance;
}

/* Whether positions may be asked; notes what says that they are no longer what they were. */
static bool may_match_positions(struct matcher *matcher)
{
    const size_t *call_of_step = matcher->matches->call_of_step;
    matcher->changed |= is_out_of_turn(matcher);
    for (size_t i = 0; i < matcher->replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        bool paired = call_of_step[i] != WEAVE_NONE;
        if (paired && call_of_step[i] != step->step)
            return false;
        if (paired || !is_held(step) || !fits(matcher, i))
            continue;
        if (contradict(matcher, step->step, i) || ended_otherwise(matcher, step->step, i))
            return false;
        matcher->changed |= has_visible(step) && !looks_the_same(matcher, step->step, i);
    }
    return true;
}

static void match_positions(struct matcher *matcher)
{
    const struct rethread_replay_result *replay = matcher->replay;
    if (!matcher->as_many || !may_match_positions(matcher))
        return;
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        if (matcher->matches->call_of_step[i] != WEAVE_NONE || !fits(matcher, i))
            continue;
        bool same = is_held(step) && has_visible(step) && looks_the_same(matcher, step->step, i);
        if (same || !matcher->changed)
            pair(matcher, step->step, i, RETHREAD_BY_POSITION);
    }
}

/* ---- All ---------------------------------------------------------------------------------------
 */

static size_t *open_numbers(size_t count)
{
    size_t *numbers = malloc((count + 1) * sizeof *numbers);
    for (size_t i = 0; numbers != NULL && i < count; i++)
        numbers[i] = WEAVE_NONE;
    return numbers;
}

/* Whether every step of the thread is held. */
static bool has_all_steps(const struct rethread_replay_result *replay)
{
    if (!replay->head.set || replay->step_count != replay->head.value + 1)
        return false;
    for (size_t i = 0; i < replay->step_count; i++)
        if (!is_held(&replay->steps[i]) || replay->steps[i].step != i)
            return false;
    return true;
}

bool weave_match_steps(const struct weave_transcript *transcript,
                       const struct rethread_replay_result *replay, struct weave_matches *matches)
{
    struct matcher matcher = {
        .transcript = transcript,
        .replay = replay,
        .matches = matches,
        .step_linked = open_numbers(replay->step_count),
        .call_linked = open_numbers(transcript->call_count),
    };
    *matches = (struct weave_matches){
        .step_of_call = open_numbers(transcript->call_count),
        .call_of_step = open_numbers(replay->step_count),
        .by_of_step = calloc(replay->step_count + 1, sizeof *matches->by_of_step),
    };
    matcher.all_held = has_all_steps(replay);
    matcher.as_many = replay->head.set && replay->head.value + 1 == transcript->call_count;
    bool matched = matcher.step_linked != NULL && matcher.call_linked != NULL &&
                   matches->step_of_call != NULL && matches->call_of_step != NULL &&
                   matches->by_of_step != NULL && match_tool_calls(&matcher) &&
                   match_visible(&matcher);
    if (matched)
        match_positions(&matcher);
    free(matcher.step_linked);
    free(matcher.call_linked);
    return matched;
}

void weave_match_free(struct weave_matches *matches)
{
    free(matches->step_of_call);
    free(matches->call_of_step);
    free(matches->by_of_step);
    *matches = (struct weave_matches){0};
}
