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
    bool ids_repeat; /* some id is that of several calls, or of several steps */
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

/* Sorts the keys and drops what is there twice; whether several calls, or steps, share one. */
static bool sort_keys(struct keys *keys)
{
    size_t kept = 0;
    bool repeat = false;
    if (keys->count > 0)
        qsort(keys->items, keys->count, sizeof *keys->items, compare_keys);
    for (size_t i = 0; i < keys->count; i++) {
        const struct key *key = &keys->items[i];
        const struct key *last = kept > 0 ? &keys->items[kept - 1] : NULL;
        if (last != NULL && compare_keys(last, key) == 0)
            continue;
        repeat |= last != NULL && last->is_step == key->is_step &&
                  compare_bytes(last->bytes, key->bytes) == 0;
        keys->items[kept++] = *key;
    }
    keys->count = kept;
    return repeat;
}

/* Hands over each key that as many calls as steps have. */
static void each_group(struct matcher *matcher, const struct keys *keys, group_fn use)
{
    for (size_t i = 0; i < keys->count;) {
        struct group group = {.calls = &keys->items[i]};
        size_t end = i;
        for (;
             end < keys->count && compare_bytes(keys->items[i].bytes, keys->items[end].bytes) == 0;
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

/* Whether the hash that was recorded is another than the call's. */
static bool looks_other(const struct matcher *matcher, size_t call, size_t step)
{
    const struct rethread_step *of = step_at(matcher, step);
    return has_visible(of) &&
           memcmp(of->visible.data, call_at(matcher, call)->visible, RETHREAD_VISIBLE_BYTES) != 0;
}

/* Whether the hash, or without one the number, says that a repeated id means the same call. */
static bool agree(const struct matcher *matcher, size_t call, size_t step)
{
    const struct rethread_step *of = step_at(matcher, step);
    return has_visible(of) ? !looks_other(matcher, call, step) : of->step == call;
}

/* The one call and the one step with an id: it outweighs a text that was edited, no more. */
static bool is_certain(const struct matcher *matcher, size_t call, size_t step)
{
    return !looks_other(matcher, call, step) ||
           (step_at(matcher, step)->turn == call_at(matcher, call)->turn && !matcher->ids_repeat);
}

static void note_link(size_t *linked, size_t other)
{
    *linked = *linked == WEAVE_NONE || *linked == other ? other : CONFLICT;
}

static void link_group(struct matcher *matcher, const struct group *group)
{
    bool single = group->call_count == 1;
    for (size_t i = 0; i < group->call_count; i++)
        if (!(single ? is_certain : agree)(matcher, group->calls[i].index, group->steps[i].index))
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
        matcher->ids_repeat = sort_keys(&keys);
        each_group(matcher, &keys, link_group);
    }
    free(keys.items);
    for (size_t call = 0; added && call < transcript->call_count; call++) {
        size_t step = matcher->call_linked[call];
        if (step < CONFLICT && matcher->step_linked[step] == call)
            pair(matcher, call, step, RETHREAD_BY_TOOL_CALL);
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

static void pair_group(struct matcher *matcher, const struct group *group)
{
    for (size_t i = 0; i < group->call_count; i++)
        if (contradict(matcher, group->calls[i].index, group->steps[i].index))
            return;
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

static void match_positions(struct matcher *matcher)
{
    const struct rethread_replay_result *replay = matcher->replay;
    const size_t *call_of_step = matcher->matches->call_of_step;
    uint64_t thread_steps = replay->head.set ? replay->head.value + 1 : 0;
    /* A call that does not look as it did: then the others may not be what they were either. */
    bool changed = false;
    if (thread_steps != matcher->transcript->call_count)
        return;
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        bool paired = call_of_step[i] != WEAVE_NONE;
        if (paired && call_of_step[i] != step->step)
            return;
        if (paired || !is_held(step) || !fits(matcher, i))
            continue;
        if (contradict(matcher, step->step, i))
            return;
        changed |= looks_other(matcher, step->step, i);
    }
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = step_at(matcher, i);
        bool known = is_held(step) && has_visible(step);
        if (call_of_step[i] == WEAVE_NONE && fits(matcher, i) &&
            (known ? !looks_other(matcher, step->step, i) : !changed))
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
