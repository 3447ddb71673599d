/* rethread_unweave: a transcript becomes its visible part and the steps to append. */
#include "client/weave_options.h"
#include "client/weave_pieces.h"

#include <assert.h>
#include <stdlib.h>

struct rethread_unwoven {
    enum rethread_status status;
    struct weave_error error;
    struct weave_transcript transcript; /* the steps point into it */
    struct weave_text json;
    struct rethread_append_options *steps;
    struct rethread_segment *segments; /* of all steps, one behind the other */
    size_t segment_count;
    size_t segment_room;
    struct weave_text *envelopes;
    size_t envelope_count;
    size_t envelope_room;
};

/* One unweaving under way. */
struct parting {
    struct rethread_unwoven *unwoven;
    struct weave_json json;
    json_t *list; /* the visible one */
};

/* ---- Segments ---------------------------------------------------------------------------------
 */

static bool add_segment(struct rethread_unwoven *unwoven, enum rethread_kind kind,
                        struct rethread_bytes bytes)
{
    assert(bytes.size > 0);
    if (!weave_json_grow((void **)&unwoven->segments, &unwoven->segment_room,
                         unwoven->segment_count, sizeof *unwoven->segments))
        return false;
    unwoven->segments[unwoven->segment_count++] = (struct rethread_segment){kind, bytes};
    return true;
}

static bool is_among(const json_t *blocks)
{
    for (size_t i = 0; i < json_array_size(blocks); i++)
        if (json_integer_value(json_object_get(json_array_get(blocks, i), "at")) > 0)
            return true;
    return false;
}

/* Takes the list of blocks over; they become one opaque segment. `parts`: the visible ones, which
 * weaving wants to find again if blocks stand among them. */
static bool add_envelope(struct parting *parting, json_t *blocks, size_t parts)
{
    struct rethread_unwoven *unwoven = parting->unwoven;
    struct weave_text text = {0};
    json_t *envelope = json_object();
    bool made = envelope != NULL && blocks != NULL &&
                json_object_set_new(envelope, "rethread", json_string("blocks")) == 0 &&
                json_object_set(envelope, "blocks", blocks) == 0 &&
                (!is_among(blocks) ||
                 json_object_set_new(envelope, "of", json_integer((json_int_t)parts)) == 0) &&
                weave_json_print(&parting->json, envelope, 0, &text) &&
                weave_json_grow((void **)&unwoven->envelopes, &unwoven->envelope_room,
                                unwoven->envelope_count, sizeof *unwoven->envelopes);
    json_decref(envelope);
    json_decref(blocks);
    if (!made) {
        free(text.data);
        return false;
    }
    unwoven->envelopes[unwoven->envelope_count++] = text;
    assert(strncmp(text.data, WEAVE_ENVELOPE_START, strlen(WEAVE_ENVELOPE_START)) == 0);
    return add_segment(unwoven, RETHREAD_KIND_OPAQUE,
                       (struct rethread_bytes){text.data, text.size});
}

/* Adds {"at": at, "block": block} to the list of an envelope. */
static bool add_block(json_t *blocks, size_t at, json_t *block)
{
    json_t *entry = json_object();
    bool made = blocks != NULL && entry != NULL &&
                json_object_set_new(entry, "at", json_integer((json_int_t)at)) == 0 &&
                json_object_set(entry, "block", block) == 0 &&
                json_array_append(blocks, entry) == 0;
    json_decref(entry);
    return made;
}

/* ---- Chat -------------------------------------------------------------------------------------
 */

static bool add_field(json_t *blocks, const char *name, json_t *value)
{
    json_t *block = json_object();
    bool made = block != NULL && json_object_set_new(block, "field", json_string(name)) == 0 &&
                json_object_set(block, "value", value) == 0 && add_block(blocks, 0, block);
    json_decref(block);
    return made;
}

/* One string in the very field that weaving would put it in. */
static bool is_plain_chat(const struct weave_transcript *transcript, const json_t *message)
{
    const json_t *value = json_object_get(message, transcript->field);
    const char *name;
    json_t *other;
    if (!json_is_string(value) || json_string_length(value) == 0)
        return false;
    json_object_foreach((json_t *)message, name, other)
    {
        if (other != value && weave_transcript_hides(name, transcript->field))
            return false;
    }
    return true;
}

static bool part_chat(struct parting *parting, const struct weave_call *call)
{
    const struct weave_transcript *transcript = &parting->unwoven->transcript;
    json_t *message = json_array_get(transcript->list, call->first);
    bool plain = is_plain_chat(transcript, message);
    json_t *shown = json_object();
    json_t *blocks = json_array();
    bool made = shown != NULL && blocks != NULL;
    const char *name;
    json_t *value;
    json_object_foreach(message, name, value)
    {
        if (!made)
            break;
        if (!weave_transcript_hides(name, transcript->field))
            made = json_object_set(shown, name, value) == 0;
        else if (plain)
            made = add_segment(parting->unwoven, RETHREAD_KIND_TEXT, weave_json_bytes(value));
        else
            made = add_field(blocks, name, value);
    }
    made = made && json_array_append(parting->list, shown) == 0 &&
           (plain || add_envelope(parting, json_incref(blocks), call->parts));
    json_decref(shown);
    json_decref(blocks);
    return made;
}

/* ---- Blocks and items -------------------------------------------------------------------------
 */

static bool is_plain_string(const json_t *string, bool opaque)
{
    return json_string_length(string) > 0 && !(opaque && json_string_value(string)[0] == '{');
}

/* Exactly the members that weaving writes; says how many segments. 0: no. */
static size_t plain_segments(const json_t *block)
{
    const json_t *signature = json_object_get(block, "signature");
    const json_t *data = json_object_get(block, "data");
    if (strcmp(json_string_value(json_object_get(block, "type")), "thinking") == 0)
        return json_object_size(block) == 3 && is_plain_string(signature, true) &&
                       is_plain_string(json_object_get(block, "thinking"), false)
                   ? 2
                   : 0;
    return json_object_size(block) == 2 && is_plain_string(data, true) ? 1 : 0;
}

/* Whether all hidden blocks come first, and each is plain. */
static bool is_plain_anthropic(const json_t *content)
{
    size_t segments = 0;
    bool shown = false;
    for (size_t i = 0; i < json_array_size(content); i++) {
        const json_t *block = json_array_get(content, i);
        size_t more = 0;
        if (!weave_transcript_is_hidden(RETHREAD_ANTHROPIC, block)) {
            shown = true;
            continue;
        }
        more = plain_segments(block);
        if (shown || more == 0)
            return false;
        segments += more;
    }
    return segments <= RETHREAD_PAYLOADS_MAX;
}

static bool add_plain_block(struct rethread_unwoven *unwoven, const json_t *block)
{
    const json_t *data = json_object_get(block, "data");
    if (data != NULL)
        return add_segment(unwoven, RETHREAD_KIND_OPAQUE, weave_json_bytes(data));
    return add_segment(unwoven, RETHREAD_KIND_TEXT,
                       weave_json_bytes(json_object_get(block, "thinking"))) &&
           add_segment(unwoven, RETHREAD_KIND_OPAQUE,
                       weave_json_bytes(json_object_get(block, "signature")));
}

/* Parts an array of blocks or items: what is visible goes into `shown`. */
static bool part_blocks(struct parting *parting, const json_t *parts, size_t first, size_t count,
                        json_t *shown, bool plain)
{
    struct rethread_unwoven *unwoven = parting->unwoven;
    json_t *blocks = json_array();
    bool made = blocks != NULL && shown != NULL;
    size_t at = 0;
    for (size_t i = first; made && i < first + count; i++) {
        json_t *part = json_array_get(parts, i);
        if (!weave_transcript_is_hidden(unwoven->transcript.as, part)) {
            made = json_array_append(shown, part) == 0;
            at++;
        } else if (plain) {
            made = add_plain_block(unwoven, part);
        } else {
            made = add_block(blocks, at, part);
        }
    }
    made = made && (plain || add_envelope(parting, json_incref(blocks), at));
    json_decref(blocks);
    return made;
}

static bool part_anthropic(struct parting *parting, const struct weave_call *call)
{
    json_t *message =
        weave_json_copy(json_array_get(parting->unwoven->transcript.list, call->first));
    const json_t *content = json_object_get(message, "content");
    json_t *shown = json_array();
    bool made = message != NULL &&
                part_blocks(parting, content, 0, json_array_size(content), shown,
                            is_plain_anthropic(content)) &&
                json_object_set(message, "content", shown) == 0 &&
                json_array_append(parting->list, message) == 0;
    json_decref(shown);
    json_decref(message);
    return made;
}

/* ---- Call by call -----------------------------------------------------------------------------
 */

/* Adds items as they are. */
static bool pass(struct parting *parting, size_t first, size_t count)
{
    for (size_t i = first; i < first + count; i++)
        if (json_array_append(parting->list,
                              json_array_get(parting->unwoven->transcript.list, i)) != 0)
            return false;
    return true;
}

static bool part_call(struct parting *parting, const struct weave_call *call)
{
    const struct weave_transcript *transcript = &parting->unwoven->transcript;
    if (!call->hidden)
        return pass(parting, call->first, call->count);
    if (transcript->as == RETHREAD_CHAT)
        return part_chat(parting, call);
    if (transcript->as == RETHREAD_ANTHROPIC)
        return part_anthropic(parting, call);
    return part_blocks(parting, transcript->list, call->first, call->count, parting->list, false);
}

static void fill_step(struct rethread_append_options *step,
                      const struct weave_transcript *transcript, const struct weave_call *call,
                      size_t segment_count, struct rethread_bytes model)
{
    *step = (struct rethread_append_options){
        .model = model.size > 0 ? model : (struct rethread_bytes){0},
        .turn = rethread_u64(call->turn),
        .final = rethread_bool(call->final),
        .visible = {call->visible, RETHREAD_VISIBLE_BYTES},
        .bare = segment_count == 0,
        .segments.count = segment_count,
    };
    if (call->id_count > 0)
        step->tool_calls =
            (struct rethread_ids){weave_transcript_ids(transcript, call), call->id_count};
}

static bool part_calls(struct parting *parting, struct rethread_bytes model)
{
    struct rethread_unwoven *unwoven = parting->unwoven;
    const struct weave_transcript *transcript = &unwoven->transcript;
    size_t next = 0;
    unwoven->steps = calloc(transcript->call_count + 1, sizeof *unwoven->steps);
    if (unwoven->steps == NULL)
        return false;
    for (size_t i = 0; i < transcript->call_count; i++) {
        const struct weave_call *call = &transcript->calls[i];
        size_t before = unwoven->segment_count;
        if (!pass(parting, next, call->first - next) || !part_call(parting, call))
            return false;
        fill_step(&unwoven->steps[i], transcript, call, unwoven->segment_count - before, model);
        next = call->first + call->count;
    }
    /* The array of segments stays where it is from now on. */
    const struct rethread_segment *segments = unwoven->segments;
    for (size_t i = 0; i < transcript->call_count; i++) {
        struct rethread_segments *of = &unwoven->steps[i].segments;
        if (of->count > 0) {
            of->items = segments;
            segments += of->count;
        }
    }
    return pass(parting, next, json_array_size(transcript->list) - next);
}

static enum rethread_status run(struct parting *parting,
                                const struct rethread_weave_options *options,
                                struct rethread_bytes text)
{
    struct rethread_unwoven *unwoven = parting->unwoven;
    enum rethread_status status = weave_options_transcript(options, text, &parting->json,
                                                           &unwoven->transcript, &unwoven->error);
    if (status != RETHREAD_OK)
        return status;
    parting->list = json_array();
    if (parting->list == NULL || !part_calls(parting, options->model))
        return RETHREAD_NO_MEMORY;
    json_t *root = unwoven->transcript.list == NULL
                       ? json_incref(unwoven->transcript.root)
                       : weave_transcript_with(&unwoven->transcript, json_incref(parting->list));
    bool printed = root != NULL && weave_json_print(&parting->json, root, 0, &unwoven->json);
    json_decref(root);
    return printed ? RETHREAD_OK : RETHREAD_NO_MEMORY;
}

enum rethread_status rethread_unweave(const struct rethread_weave_options *options,
                                      struct rethread_bytes transcript,
                                      struct rethread_unwoven **unwoven)
{
    if (unwoven == NULL)
        return RETHREAD_INVALID_ARGUMENT;
    *unwoven = NULL;
    if (options == NULL || (transcript.data == NULL && transcript.size > 0))
        return RETHREAD_INVALID_ARGUMENT;
    struct rethread_unwoven *made = calloc(1, sizeof *made);
    if (made == NULL)
        return RETHREAD_NO_MEMORY;
    struct parting parting = {.unwoven = made};
    made->status = run(&parting, options, transcript);
    json_decref(parting.list);
    weave_json_free(&parting.json);
    if (made->status == RETHREAD_NO_MEMORY) {
        rethread_unwoven_free(made);
        return RETHREAD_NO_MEMORY;
    }
    *unwoven = made;
    return made->status;
}

/* ---- Results ----------------------------------------------------------------------------------
 */

void rethread_unwoven_free(struct rethread_unwoven *unwoven)
{
    if (unwoven == NULL)
        return;
    for (size_t i = 0; i < unwoven->envelope_count; i++)
        free(unwoven->envelopes[i].data);
    free(unwoven->envelopes);
    free(unwoven->segments);
    free(unwoven->steps);
    free(unwoven->json.data);
    weave_transcript_free(&unwoven->transcript);
    free(unwoven);
}

const char *rethread_unwoven_error(const struct rethread_unwoven *unwoven)
{
    return unwoven->status != RETHREAD_OK ? unwoven->error.text : NULL;
}

struct rethread_bytes rethread_unwoven_json(const struct rethread_unwoven *unwoven)
{
    if (unwoven->status != RETHREAD_OK)
        return (struct rethread_bytes){NULL, 0};
    return (struct rethread_bytes){unwoven->json.data, unwoven->json.size};
}

const struct rethread_append_options *rethread_unwoven_steps(const struct rethread_unwoven *unwoven,
                                                             size_t *count)
{
    *count = unwoven->status == RETHREAD_OK ? unwoven->transcript.call_count : 0;
    return unwoven->steps;
}

uint64_t rethread_unwoven_turn(const struct rethread_unwoven *unwoven)
{
    return unwoven->status == RETHREAD_OK ? unwoven->transcript.users : 0;
}
