/* rethread_weave: a visible transcript and a replay become the transcript that a model needs. */
#include "client/weave_match.h"
#include "client/weave_options.h"
#include "client/weave_pieces.h"

#include <assert.h>
#include <stdlib.h>

struct rethread_woven {
    enum rethread_status status;
    struct weave_error error;
    struct weave_text json;
    struct rethread_woven_step *steps;
    size_t step_count;
    size_t *unmatched;
    size_t unmatched_count;
    size_t call_count;
};

/* One weaving under way. */
struct loom {
    const struct rethread_replay_result *replay;
    struct rethread_woven *woven;
    struct weave_transcript transcript;
    struct weave_matches matches;
    struct weave_json json;
    json_t *list;                 /* the new one */
    struct rethread_bytes *names; /* sorted: of reasoning that the transcript has or refers to */
    size_t name_count;
};

/* ---- Putting pieces in ------------------------------------------------------------------------
 */

/* Appends the parts with the pieces between them, each at its place. */
static bool mix(json_t *out, const json_t *parts, size_t first, size_t count,
                struct weave_pieces *pieces)
{
    bool added = true;
    size_t next = 0;
    weave_pieces_settle(pieces, count);
    for (size_t i = 0; added && i <= count; i++) {
        for (; added && next < pieces->count && pieces->items[next].at == i; next++)
            added = json_array_append(out, pieces->items[next].value) == 0;
        if (added && i < count)
            added = json_array_append(out, json_array_get(parts, first + i)) == 0;
    }
    return added;
}

/* The blocks that the content of a message of Anthropic is; a string is one. NULL: no memory. */
static json_t *blocks_of(json_t *content)
{
    if (json_is_array(content))
        return json_incref(content);
    json_t *blocks = json_array();
    if (blocks == NULL || json_string_length(content) == 0)
        return blocks;
    json_t *block = json_object();
    bool made = block != NULL && json_object_set_new(block, "type", json_string("text")) == 0 &&
                json_object_set(block, "text", content) == 0 &&
                json_array_append(blocks, block) == 0;
    json_decref(block);
    if (made)
        return blocks;
    json_decref(blocks);
    return NULL;
}

static bool weave_anthropic(json_t *message, struct weave_pieces *pieces)
{
    json_t *blocks = blocks_of(json_object_get(message, "content"));
    json_t *mixed = json_array();
    bool made = blocks != NULL && mixed != NULL &&
                mix(mixed, blocks, 0, json_array_size(blocks), pieces) &&
                json_object_set(message, "content", mixed) == 0;
    json_decref(blocks);
    json_decref(mixed);
    return made;
}

static bool weave_chat(json_t *message, const struct weave_pieces *pieces)
{
    for (size_t i = 0; i < pieces->count; i++)
        if (json_object_set(message, pieces->items[i].field, pieces->items[i].value) != 0)
            return false;
    return true;
}

/* Adds a call's items to the new list, the pieces among them. */
static bool add_call(struct loom *loom, const struct weave_call *call, struct weave_pieces *pieces)
{
    const struct weave_transcript *transcript = &loom->transcript;
    if (transcript->as == RETHREAD_RESPONSES || pieces->count == 0)
        return mix(loom->list, transcript->list, call->first, call->count, pieces);
    json_t *message = weave_json_copy(json_array_get(transcript->list, call->first));
    bool made = message != NULL &&
                (transcript->as == RETHREAD_CHAT ? weave_chat(message, pieces)
                                                 : weave_anthropic(message, pieces)) &&
                json_array_append(loom->list, message) == 0;
    json_decref(message);
    return made;
}

/* ---- Call by call -----------------------------------------------------------------------------
 */

static enum rethread_woven_outcome outcome_of(const struct weave_pieces *pieces)
{
    return pieces->count > 0 ? RETHREAD_WOVEN : pieces->why;
}

static int compare_strings(const void *a, const void *b)
{
    struct rethread_bytes x = *(const struct rethread_bytes *)a;
    struct rethread_bytes y = *(const struct rethread_bytes *)b;
    if (x.size != y.size)
        return x.size < y.size ? -1 : 1;
    return x.size == 0 ? 0 : memcmp(x.data, y.data, x.size);
}

/* Gathers the ids of reasoning that the transcript has, or refers to. */
static bool gather_names(struct loom *loom)
{
    const json_t *list = loom->transcript.list;
    size_t room = 0;
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        if (!weave_transcript_names(&loom->transcript, item))
            continue;
        if (!weave_json_grow((void **)&loom->names, &room, loom->name_count, sizeof *loom->names))
            return false;
        loom->names[loom->name_count++] = weave_json_bytes(json_object_get(item, "id"));
    }
    if (loom->name_count > 0)
        qsort(loom->names, loom->name_count, sizeof *loom->names, compare_strings);
    return true;
}

/* Whether the transcript has one of them elsewhere: no id may be there twice. */
static bool is_named(const struct loom *loom, const struct weave_pieces *pieces)
{
    for (size_t i = 0; loom->name_count > 0 && i < pieces->count; i++) {
        const json_t *id = json_object_get(pieces->items[i].value, "id");
        struct rethread_bytes name = weave_json_bytes(id);
        if (json_is_string(id) && bsearch(&name, loom->names, loom->name_count, sizeof *loom->names,
                                          compare_strings) != NULL)
            return true;
    }
    return false;
}

/* Whether the call has reasoning already; in its text, unless that is how it was recorded. */
static bool is_occupied(const struct weave_call *call, const struct rethread_step *step)
{
    bool as_recorded = step->visible.data != NULL && step->visible.size == RETHREAD_VISIBLE_BYTES &&
                       memcmp(step->visible.data, call->visible, RETHREAD_VISIBLE_BYTES) == 0;
    return call->occupied || (call->thinks && !as_recorded);
}

/* The pieces for a call, if its step is there and may be woven in; the report says what became. */
static enum rethread_status find_pieces(struct loom *loom, size_t number,
                                        struct weave_pieces *pieces)
{
    size_t index = loom->matches.step_of_call[number];
    if (index == WEAVE_NONE) {
        loom->woven->unmatched[loom->woven->unmatched_count++] = number;
        return RETHREAD_OK;
    }
    const struct rethread_step *step = &loom->replay->steps[index];
    struct rethread_woven_step *entry = &loom->woven->steps[index];
    if (entry->outcome == RETHREAD_WOVEN_MISSING)
        return RETHREAD_OK;
    entry->outcome = RETHREAD_WOVEN_BARE;
    if (step->segments.count == 0)
        return RETHREAD_OK;
    if (is_occupied(&loom->transcript.calls[number], step)) {
        entry->outcome = RETHREAD_WOVEN_ALREADY;
        return RETHREAD_OK;
    }
    enum rethread_status status = weave_pieces_read(
        pieces, loom->transcript.as, loom->transcript.field, loom->transcript.calls[number].parts,
        step->segments, &loom->json, &loom->woven->error);
    entry->outcome = outcome_of(pieces);
    entry->left_out = pieces->left_out;
    if (status == RETHREAD_OK && is_named(loom, pieces)) {
        weave_pieces_free(pieces);
        entry->outcome = RETHREAD_WOVEN_ALREADY;
        entry->left_out = 0;
    }
    return status;
}

static enum rethread_status add_calls(struct loom *loom)
{
    const struct weave_transcript *transcript = &loom->transcript;
    struct weave_pieces nothing = {0};
    size_t next = 0;
    for (size_t i = 0; i < transcript->call_count; i++) {
        const struct weave_call *call = &transcript->calls[i];
        struct weave_pieces pieces = {0};
        enum rethread_status status = find_pieces(loom, i, &pieces);
        if (status == RETHREAD_OK &&
            !(mix(loom->list, transcript->list, next, call->first - next, &nothing) &&
              add_call(loom, call, &pieces)))
            status = RETHREAD_NO_MEMORY;
        weave_pieces_free(&pieces);
        if (status != RETHREAD_OK)
            return status;
        next = call->first + call->count;
    }
    size_t rest = json_array_size(transcript->list) - next;
    return mix(loom->list, transcript->list, next, rest, &nothing) ? RETHREAD_OK
                                                                   : RETHREAD_NO_MEMORY;
}

/* The report before anything is woven: what is missing, and who belongs to whom. */
static bool begin_report(struct loom *loom)
{
    const struct rethread_replay_result *replay = loom->replay;
    struct rethread_woven *woven = loom->woven;
    woven->steps = calloc(replay->step_count + 1, sizeof *woven->steps);
    woven->unmatched = calloc(loom->transcript.call_count + 1, sizeof *woven->unmatched);
    if (woven->steps == NULL || woven->unmatched == NULL)
        return false;
    woven->step_count = replay->step_count;
    woven->call_count = loom->transcript.call_count;
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = &replay->steps[i];
        size_t call = loom->matches.call_of_step[i];
        woven->steps[i] = (struct rethread_woven_step){.step = step->step,
                                                       .by = loom->matches.by_of_step[i],
                                                       .outcome = RETHREAD_WOVEN_UNMATCHED,
                                                       .reason = step->missing};
        if (call != WEAVE_NONE)
            woven->steps[i].call = rethread_u64(call);
        if (step->missing != RETHREAD_REASON_NONE)
            woven->steps[i].outcome = RETHREAD_WOVEN_MISSING;
    }
    return true;
}

static enum rethread_status finish(struct loom *loom)
{
    json_t *root = loom->transcript.list == NULL
                       ? json_incref(loom->transcript.root)
                       : weave_transcript_with(&loom->transcript, json_incref(loom->list));
    bool printed = root != NULL && weave_json_print(&loom->json, root, 0, &loom->woven->json);
    json_decref(root);
    return printed ? RETHREAD_OK : RETHREAD_NO_MEMORY;
}

static enum rethread_status run(struct loom *loom, const struct rethread_weave_options *options,
                                struct rethread_bytes visible)
{
    enum rethread_status status = weave_options_transcript(options, visible, &loom->json,
                                                           &loom->transcript, &loom->woven->error);
    if (status != RETHREAD_OK)
        return status;
    loom->list = json_array();
    if (loom->list == NULL || !weave_match_steps(&loom->transcript, loom->replay, &loom->matches) ||
        !gather_names(loom) || !begin_report(loom))
        return RETHREAD_NO_MEMORY;
    weave_json_limit(&loom->json, WEAVE_ENVELOPE_DEPTH_MAX, WEAVE_ENVELOPES_VALUES_MAX);
    status = add_calls(loom);
    return status == RETHREAD_OK ? finish(loom) : status;
}

enum rethread_status rethread_weave(const struct rethread_weave_options *options,
                                    struct rethread_bytes visible,
                                    const struct rethread_replay_result *replay,
                                    struct rethread_woven **woven)
{
    if (woven == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    *woven = NULL;
    if (options == NULL || replay == NULL || (visible.data == NULL && visible.size > 0))
        return RETHREAD_INVALID_ARGUMENT;
    struct rethread_woven *made = calloc(1, sizeof *made);
    if (made == NULL)
        return RETHREAD_NO_MEMORY;
    struct loom loom = {.replay = replay, .woven = made};
    made->status = run(&loom, options, visible);
    json_decref(loom.list);
    free(loom.names);
    weave_match_free(&loom.matches);
    weave_transcript_free(&loom.transcript);
    weave_json_free(&loom.json);
    if (made->status == RETHREAD_NO_MEMORY) {
        rethread_woven_free(made);
        return RETHREAD_NO_MEMORY;
    }
    *woven = made;
    return made->status;
}

/* ---- Results ----------------------------------------------------------------------------------
 */

void rethread_woven_free(struct rethread_woven *woven)
{
    if (woven == NULL)
        return;
    free(woven->json.data);
    free(woven->steps);
    free(woven->unmatched);
    free(woven);
}

const char *rethread_woven_error(const struct rethread_woven *woven)
{
    return woven->status != RETHREAD_OK ? woven->error.text : NULL;
}

struct rethread_bytes rethread_woven_json(const struct rethread_woven *woven)
{
    if (woven->status != RETHREAD_OK)
        return (struct rethread_bytes){NULL, 0};
    return (struct rethread_bytes){woven->json.data, woven->json.size};
}

const struct rethread_woven_step *rethread_woven_steps(const struct rethread_woven *woven,
                                                       size_t *count)
{
    *count = woven->status == RETHREAD_OK ? woven->step_count : 0;
    return woven->steps;
}

const size_t *rethread_woven_unmatched(const struct rethread_woven *woven, size_t *count)
{
    *count = woven->status == RETHREAD_OK ? woven->unmatched_count : 0;
    return woven->unmatched;
}

size_t rethread_woven_call_count(const struct rethread_woven *woven)
{
    return woven->status == RETHREAD_OK ? woven->call_count : 0;
}

const char *rethread_woven_by_name(enum rethread_woven_by by)
{
    static const char *const names[] = {"", "tool_call", "visible", "position"};
    return (unsigned)by < sizeof names / sizeof *names ? names[by] : "";
}

const char *rethread_woven_outcome_name(enum rethread_woven_outcome outcome)
{
    static const char *const names[] = {"woven",     "bare",      "already", "missing",
                                        "unmatched", "unsigned",  "opaque",  "tokens",
                                        "foreign",   "malformed", "moved"};
    return (unsigned)outcome < sizeof names / sizeof *names ? names[outcome] : "";
}
