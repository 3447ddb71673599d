/* Steps: built from an append, read by replays, let go with their keys. */
#include "thread/lookup.h"
#include "thread/steps.h"
#include "wire/parse.h"

static_assert(STEP_FULL_BYTES == 40, "a thread has many, so that each byte of it counts");

static const uint32_t segment_bytes_mask = (UINT32_C(1) << 30) - 1;

/* Where the parts of a step begin, and how large it is. */
struct layout {
    unsigned keys;
    size_t tokens, table, response_id, prefix, visible, model, tool_calls, payload, size;
};

/* Of its tokens. */
static size_t tokens_bytes(bool has_tokens)
{
    return has_tokens ? sizeof(uint32_t) : 0;
}

static size_t table_bytes(unsigned segment_count, bool is_text)
{
    return is_text ? 0 : segment_count * sizeof(uint32_t);
}

static size_t keys_end(unsigned keys)
{
    return keys > 0 ? STEP_KEYS_OFFSET + keys * sizeof(struct step_key) : STEP_FULL_BYTES;
}

/* `is_text`: it is one text. */
static struct layout layout_of(const struct step_parts *parts, size_t payload_bytes, bool is_text)
{
    struct layout layout = {0};
    layout.keys = parts->tool_call_count + (parts->response_id.size > 0 ? 1u : 0u) +
                  (parts->prefix.size > 0 ? 1u : 0u);
    size_t at = keys_end(layout.keys);
    layout.tokens = at;
    layout.table = at += tokens_bytes(parts->has_tokens);
    layout.response_id = at += table_bytes(parts->segment_count, is_text);
    layout.prefix = at += parts->response_id.size;
    layout.visible = at += parts->prefix.size;
    layout.model = at += parts->visible.size;
    layout.tool_calls = at += parts->model.size;
    layout.payload = at += parts->tool_calls.size;
    layout.size = at + payload_bytes;
    return layout;
}

/* What an append says of its step, but for the payloads. */
static struct step_parts parts_of(const struct wire_request *request)
{
    bool tokens = wire_given(request, WIRE_FIELD_tokens);
    return (struct step_parts){
        .turn = (uint32_t)request->turn,
        .tokens = tokens ? (uint32_t)request->tokens : 0,
        .final =
            wire_given(request, WIRE_FIELD_final) ? request->final : request->tool_calls.count == 0,
        .has_tokens = tokens,
        .segment_count = (uint8_t)request->payload_count,
        .tool_call_count = (uint8_t)request->tool_calls.count,
        .response_id = request->response_id,
        .prefix = wire_given(request, WIRE_FIELD_prefix) ? request->prefix : bytes_of(NULL, 0),
        .visible = wire_given(request, WIRE_FIELD_visible) ? request->visible : bytes_of(NULL, 0),
        .model = request->model,
        .tool_calls = request->tool_calls.encoded,
    };
}

static bool one_text(const struct wire_request *request)
{
    struct wire_list kinds = request->segments;
    enum wire_kind kind = WIRE_KIND_TEXT;
    return request->payload_count == 1 &&
           (!wire_given(request, WIRE_FIELD_segments) ||
            (wire_kind_next(&kinds, &kind) && kind == WIRE_KIND_TEXT));
}

/* The same of what was stored. */
static bool stored_one_text(const struct step_parts *parts)
{
    uint32_t entry;
    if (parts->segment_count != 1) {
        return false;
    }
    memcpy(&entry, parts->segments.data, sizeof entry);
    return (enum wire_kind)(entry >> 30) == WIRE_KIND_TEXT;
}

uint64_t step_size_bytes(const struct wire_request *request)
{
    struct step_parts parts = parts_of(request);
    return layout_of(&parts, request->payload_bytes, one_text(request)).size;
}

static uint8_t *at_offset(struct step *step, size_t offset)
{
    return (uint8_t *)step + offset;
}

static void put_bytes(struct step *step, size_t offset, struct bytes bytes)
{
    if (bytes.size > 0 && bytes.data) {
        memcpy(at_offset(step, offset), bytes.data, bytes.size);
    }
}

/* The hash is filled in by step_publish_keys: an append that fails needs none. */
static void put_key(struct step *step, enum record_kind kind, size_t offset, size_t size)
{
    struct index_record *record = &step_keys(step)[step->key_count++].record;
    size_t back = (size_t)((uint8_t *)record - (uint8_t *)step) / ARENA_UNIT_BYTES;
    assert(size <= 0xff && offset < 1 << 24);
    *record = (struct index_record){
        .kind = (uint8_t)kind, .small = (uint16_t)back, .word = (uint32_t)(offset << 8 | size)};
}

static void put_keys(struct step *step, const struct layout *layout)
{
    if (step->response_id_size > 0) {
        put_key(step, RECORD_RESPONSE_ID, layout->response_id, step->response_id_size);
    }
    if (step->flags & STEP_HAS_PREFIX) {
        put_key(step, RECORD_PREFIX, layout->prefix, WIRE_PREFIX_BYTES);
    }
    struct wire_list list = {
        .encoded = bytes_of(at_offset(step, layout->tool_calls), step_rest(step)->tool_calls_bytes),
        .count = step_rest(step)->tool_call_count};
    struct bytes id;
    while (wire_list_next(&list, &id)) {
        put_key(step, RECORD_TOOL_CALL, (size_t)(id.data - (uint8_t *)step), id.size);
    }
    assert(step->key_count == layout->keys);
}

static void put_segments(struct step *step, const struct layout *layout,
                         const struct wire_request *request)
{
    struct wire_list kinds = request->segments;
    size_t at = layout->payload;
    for (unsigned i = 0; i < request->payload_count; i++) {
        enum wire_kind kind = WIRE_KIND_TEXT;
        if (wire_given(request, WIRE_FIELD_segments)) {
            bool more = wire_kind_next(&kinds, &kind);
            assert(more);
        }
        uint32_t entry = (uint32_t)request->payloads[i].size | (uint32_t)kind << 30;
        assert(!step->is_text || kind == WIRE_KIND_TEXT);
        if (!step->is_text) {
            memcpy(at_offset(step, layout->table + i * sizeof entry), &entry, sizeof entry);
        }
        put_bytes(step, at, request->payloads[i]);
        at += request->payloads[i].size;
    }
    assert(at == layout->size);
}

/* Everything but segment table and payload. */
static struct step *build(struct lane *lane, const struct step_parts *parts,
                          const struct layout *layout, size_t payload_bytes, bool is_text)
{
    assert(payload_bytes <= segment_bytes_mask);
    struct step *step = lane_alloc(lane, layout->size);
    if (!step) {
        return NULL;
    }
    *step = (struct step){
        .turn = parts->turn,
        .payload_bytes = (uint32_t)payload_bytes,
        .segment_count = parts->segment_count & 0x7FU,
        .is_text = is_text,
        .response_id_size = (uint8_t)parts->response_id.size,
        .flags =
            (uint8_t)((parts->final ? STEP_FINAL : 0) | (parts->has_tokens ? STEP_HAS_TOKENS : 0) |
                      (parts->prefix.size > 0 ? STEP_HAS_PREFIX : 0) |
                      (parts->visible.size > 0 ? STEP_HAS_VISIBLE : 0)),
    };
    *step_rest(step) = (struct step_rest){
        .number = parts->number,
        .version = parts->version,
        .tool_calls_bytes = (uint16_t)parts->tool_calls.size,
        .tool_call_count = parts->tool_call_count,
        .model_size = (uint8_t)parts->model.size,
    };
    atomic_init(&step_rest(step)->holds, 1);
    if (parts->has_tokens) {
        memcpy(at_offset(step, layout->tokens), &parts->tokens, sizeof parts->tokens);
    }
    put_bytes(step, layout->response_id, parts->response_id);
    put_bytes(step, layout->prefix, parts->prefix);
    put_bytes(step, layout->visible, parts->visible);
    put_bytes(step, layout->model, parts->model);
    put_bytes(step, layout->tool_calls, parts->tool_calls);
    put_keys(step, layout);
    return step;
}

struct step *step_create(struct lane *lane, const struct wire_request *request)
{
    struct step_parts parts = parts_of(request);
    bool is_text = one_text(request);
    struct layout layout = layout_of(&parts, request->payload_bytes, is_text);
    struct step *step = build(lane, &parts, &layout, request->payload_bytes, is_text);
    if (step) {
        put_segments(step, &layout, request);
    }
    return step;
}

struct step *step_rebuild(struct lane *lane, const struct step_parts *parts)
{
    static const struct step_parts nothing;
    struct step_parts place = nothing;
    place.number = parts->number;
    place.version = parts->version;
    place.turn = parts->turn;
    const struct step_parts *whole = parts->corrupt ? &place : parts;
    bool is_text = stored_one_text(whole);
    struct layout layout = layout_of(whole, whole->payload.size, is_text);
    struct step *step = build(lane, whole, &layout, whole->payload.size, is_text);
    if (!step) {
        return NULL;
    }
    if (parts->corrupt) {
        step->flags = STEP_CORRUPT;
    } else if (parts->inherited) {
        step->flags |= STEP_INHERITED;
    }
    if (!is_text) {
        put_bytes(step, layout.table, whole->segments);
    }
    put_bytes(step, layout.payload, whole->payload);
    return step;
}

void step_discard(struct lane *lane, struct step *step)
{
    arena_free(lane->cache, step);
}

static size_t table_offset(const struct step *step)
{
    return keys_end(step->key_count) + tokens_bytes((step->flags & STEP_HAS_TOKENS) != 0);
}

static size_t response_id_offset(const struct step *step)
{
    return table_offset(step) + table_bytes(step->segment_count, step->is_text);
}

uint32_t step_tokens_given(const struct step *step)
{
    uint32_t tokens = 0;
    if (step->flags & STEP_HAS_TOKENS) {
        memcpy(&tokens, (const uint8_t *)step + keys_end(step->key_count), sizeof tokens);
    }
    return tokens;
}

static struct bytes part(const struct step *step, size_t offset, size_t size)
{
    return bytes_of((const uint8_t *)step + offset, size);
}

/* Of an ordinary step. */
static size_t payload_offset(const struct step *step)
{
    const struct step_rest *rest = step_rest(step);
    return response_id_offset(step) + step->response_id_size +
           (step->flags & STEP_HAS_PREFIX ? WIRE_PREFIX_BYTES : 0) +
           (step->flags & STEP_HAS_VISIBLE ? WIRE_PREFIX_BYTES : 0) + rest->model_size +
           rest->tool_calls_bytes;
}

static struct bytes payload_of(const struct step *step)
{
    if (step_is_compact(step)) {
        struct bytes id = thread_id(thread_of_compact(step));
        return bytes_of(id.data + id.size, step->payload_bytes);
    }
    return part(step, payload_offset(step), step->payload_bytes);
}

uint8_t *step_payload_room(struct step *step)
{
    return at_offset(step, payload_offset(step));
}

struct bytes step_prefix(const struct step *step)
{
    return step->flags & STEP_HAS_PREFIX
               ? part(step, response_id_offset(step) + step->response_id_size, WIRE_PREFIX_BYTES)
               : bytes_of(NULL, 0);
}

/* Where the parts behind the prefix begin. */
static size_t visible_offset(const struct step *step)
{
    return response_id_offset(step) + step->response_id_size +
           (step->flags & STEP_HAS_PREFIX ? WIRE_PREFIX_BYTES : 0);
}

static size_t model_offset(const struct step *step)
{
    return visible_offset(step) + (step->flags & STEP_HAS_VISIBLE ? WIRE_PREFIX_BYTES : 0);
}

struct bytes step_model(const struct step *step)
{
    return step_is_compact(step) ? bytes_of(NULL, 0)
                                 : part(step, model_offset(step), step_rest(step)->model_size);
}

void step_view(const struct step *step, struct step_view *view)
{
    view->turn = step->turn;
    view->final = (step->flags & STEP_FINAL) != 0;
    view->segment_count = step->segment_count;
    view->payload_bytes = step->payload_bytes;
    if (step_is_compact(step)) {
        struct bytes none = bytes_of(NULL, 0);
        view->number = 0;
        view->has_tokens = false;
        view->tokens = 0;
        view->model = view->response_id = view->prefix = view->visible = none;
        view->tool_calls = (struct wire_list){0};
        view->payload = payload_of(step);
        return;
    }
    /* In the order in which they lie there, see layout_of. */
    const struct step_rest *rest = step_rest(step);
    const uint8_t *at = (const uint8_t *)step + response_id_offset(step);
    size_t prefix_size = step->flags & STEP_HAS_PREFIX ? WIRE_PREFIX_BYTES : 0;
    size_t visible_size = step->flags & STEP_HAS_VISIBLE ? WIRE_PREFIX_BYTES : 0;
    view->number = rest->number;
    view->has_tokens = (step->flags & STEP_HAS_TOKENS) != 0;
    view->tokens = step_tokens_given(step);
    view->response_id = bytes_of(at, step->response_id_size);
    at += step->response_id_size;
    view->prefix = bytes_of(at, prefix_size);
    at += prefix_size;
    view->visible = bytes_of(at, visible_size);
    at += visible_size;
    view->model = bytes_of(at, rest->model_size);
    at += rest->model_size;
    view->tool_calls = (struct wire_list){.encoded = bytes_of(at, rest->tool_calls_bytes),
                                          .count = rest->tool_call_count};
    at += rest->tool_calls_bytes;
    view->payload = bytes_of(at, step->payload_bytes);
}

void step_parts(const struct step *step, struct step_parts *parts)
{
    struct step_view view;
    step_view(step, &view);
    *parts = (struct step_parts){
        .number = step_rest(step)->number,
        .version = step_rest(step)->version,
        .turn = step->turn,
        .tokens = view.tokens,
        .final = view.final,
        .has_tokens = view.has_tokens,
        .segment_count = step->segment_count,
        .tool_call_count = step_rest(step)->tool_call_count,
        .only = step->payload_bytes | (uint32_t)WIRE_KIND_TEXT << 30,
        .segments = step->is_text
                        ? bytes_of(&parts->only, sizeof parts->only)
                        : part(step, table_offset(step), step->segment_count * sizeof(uint32_t)),
        .response_id = view.response_id,
        .prefix = view.prefix,
        .visible = view.visible,
        .model = view.model,
        .tool_calls = view.tool_calls.encoded,
        .payload = view.payload,
    };
}

static uint32_t segment_entry(const struct step *step, unsigned segment)
{
    uint32_t entry;
    assert(segment < step->segment_count);
    if (step->is_text) {
        return step->payload_bytes | (uint32_t)WIRE_KIND_TEXT << 30;
    }
    memcpy(&entry, (const uint8_t *)step + table_offset(step) + segment * sizeof entry,
           sizeof entry);
    return entry;
}

enum wire_kind step_segment_kind(const struct step *step, unsigned segment)
{
    return (enum wire_kind)(segment_entry(step, segment) >> 30);
}

uint32_t step_segment_bytes(const struct step *step, unsigned segment)
{
    return segment_entry(step, segment) & segment_bytes_mask;
}

bool step_has_key(const struct step *step, enum record_kind kind, struct bytes id)
{
    for (unsigned i = 0; i < step->key_count; i++) {
        const struct index_record *record = &step_keys(step)[i].record;
        if (record->kind == (uint8_t)kind && bytes_equal(step_key_id(step, record), id)) {
            return true;
        }
    }
    return false;
}

struct bytes step_key_id(const struct step *step, const struct index_record *record)
{
    return part(step, record->word >> 8, record->word & 0xff);
}

struct step *step_of_key(const struct index_record *record)
{
    return (struct step *)((uintptr_t)record - (size_t)record->small * ARENA_UNIT_BYTES);
}

void step_pin(const struct step *step)
{
    /* Pairs with the acquire in step_reclaim: while online the step cannot be reclaimed yet. */
    atomic_fetch_add_explicit(&((struct step *)(uintptr_t)step)->pins, 1, memory_order_relaxed);
}

void step_unpin(const struct step *step)
{
    /* Release: our reads of the bytes come before their reuse. Pairs as above. */
    uint32_t pins =
        atomic_fetch_sub_explicit(&((struct step *)(uintptr_t)step)->pins, 1, memory_order_release);
    assert(pins > 0);
}
