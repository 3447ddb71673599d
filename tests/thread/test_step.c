/* A step's layout: what goes in comes out, whatever is there and however large. */
#include "thread/steps.h"

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <stdlib.h>

static struct domain domain;

static void setup(void)
{
    domain_open(&domain, domain_settings());
}

static void teardown(void)
{
    domain_close(&domain);
}

static uint8_t noise[1 << 18];

/* Some bytes of `noise`, from anywhere in it. */
static struct bytes some(uint64_t *state, size_t least, size_t most)
{
    size_t size = least + (size_t)trial_below(state, most - least + 1);
    return bytes_of(noise + trial_below(state, sizeof noise - size), size);
}

static void ask_anything(struct ask *ask, uint64_t *state)
{
    ask_begin(ask, WIRE_METHOD_APPEND, bytes_text("t"));
    unsigned segments = (unsigned)trial_below(state, 5) ? 1 + (unsigned)trial_below(state, 4)
                                                        : (unsigned)trial_below(state, 65);
    bool plain = trial_below(state, 4) == 0; /* kinds are not said: text */
    for (unsigned i = 0; i < segments; i++) {
        if (!plain) {
            ask_kind(ask, (enum wire_kind)trial_below(state, WIRE_KIND_COUNT));
        }
        ask_payload(ask, some(state, 1, trial_below(state, 9) ? 40 : 100000));
    }
    if (segments == 0) {
        ask_set(ask, segments, (struct wire_list){0});
    }
    for (uint64_t i = trial_below(state, 3) ? 0 : trial_below(state, 129); i > 0; i--) {
        ask_call(ask, some(state, 1, WIRE_ID_BYTES_MAX));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, response_id, some(state, 1, WIRE_ID_BYTES_MAX));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, prefix, some(state, WIRE_PREFIX_BYTES, WIRE_PREFIX_BYTES));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, visible, some(state, WIRE_PREFIX_BYTES, WIRE_PREFIX_BYTES));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, model, some(state, 1, WIRE_ID_BYTES_MAX));
    }
    if (trial_below(state, 2)) {
        ask_set(ask, tokens, trial_below(state, 9) ? trial_below(state, UINT32_MAX) + 1 : 0);
    }
    if (trial_below(state, 2)) {
        ask_set(ask, final, trial_below(state, 2) == 0);
    }
}

static void check_view(const struct step *step, const struct wire_request *request)
{
    struct step_view view;
    step_view(step, &view);
    bool final =
        wire_given(request, WIRE_FIELD_final) ? request->final : request->tool_calls.count == 0;
    ck_assert_int_eq(view.final, final);
    ck_assert_int_eq(view.has_tokens, wire_given(request, WIRE_FIELD_tokens));
    ck_assert_uint_eq(view.tokens, view.has_tokens ? request->tokens : 0);
    ck_assert(bytes_equal(view.model, request->model));
    ck_assert(bytes_equal(step_model(step), request->model));
    ck_assert(bytes_equal(view.response_id, request->response_id));
    ck_assert(bytes_equal(view.prefix, request->prefix));
    ck_assert(bytes_equal(view.visible, request->visible));
    ck_assert(bytes_equal(step_prefix(step), request->prefix));
    ck_assert(bytes_equal(view.tool_calls.encoded, request->tool_calls.encoded));
    ck_assert_uint_eq(view.tool_calls.count, request->tool_calls.count);
    ck_assert_uint_eq(view.segment_count, request->payload_count);
    ck_assert_uint_eq(view.payload_bytes, request->payload_bytes);
    ck_assert_uint_eq(view.payload.size, request->payload_bytes);
    struct wire_list kinds = request->segments;
    const uint8_t *at = view.payload.data;
    for (unsigned i = 0; i < view.segment_count; i++) {
        enum wire_kind kind = WIRE_KIND_TEXT;
        if (kinds.count > 0) {
            wire_kind_next(&kinds, &kind);
        }
        ck_assert_int_eq(step_segment_kind(step, i), kind);
        ck_assert_uint_eq(step_segment_bytes(step, i), request->payloads[i].size);
        ck_assert(bytes_equal(bytes_of(at, step_segment_bytes(step, i)), request->payloads[i]));
        at += step_segment_bytes(step, i);
    }
}

/* By way of what the disk is told of it. */
static void check_rebuilt(const struct step *step, const struct wire_request *request)
{
    struct step_parts parts;
    step_parts(step, &parts);
    ck_assert_uint_eq(parts.segments.size, parts.segment_count * sizeof(uint32_t));
    struct step *again = step_rebuild(domain.lane, &parts);
    ck_assert_ptr_nonnull(again);
    ck_assert_uint_eq(arena_size(domain.lane->threads->arena, again),
                      arena_size(domain.lane->threads->arena, step));
    ck_assert_uint_eq(again->key_count, step->key_count);
    check_view(again, request);
    step_discard(domain.lane, again);
    parts.corrupt = true;
    again = step_rebuild(domain.lane, &parts);
    ck_assert_ptr_nonnull(again);
    struct step_view view;
    step_view(again, &view);
    ck_assert_uint_eq(view.segment_count + view.payload.size + view.tool_calls.count, 0);
    ck_assert(!view.has_tokens);
    step_discard(domain.lane, again);
}

/* By way of a stream, whose bytes come last. */
static void check_filled_in(const struct wire_request *request)
{
    static struct wire_request hollow;
    if (request->payload_count == 0) {
        return;
    }
    hollow = *request;
    hollow.payloads[0].data = NULL;
    struct step *step = step_create(domain.lane, &hollow);
    ck_assert_ptr_nonnull(step);
    memcpy(step_payload_room(step), request->payloads[0].data, request->payloads[0].size);
    check_view(step, request);
    step_discard(domain.lane, step);
}

START_TEST(what_goes_in_comes_out)
{
    static struct ask ask;
    uint64_t state = 1;
    for (size_t i = 0; i < sizeof noise; i++) {
        noise[i] = (uint8_t)trial_random(&state);
    }
    for (uint64_t i = 0; i < trial_count(3000); i++) {
        ask_anything(&ask, &state);
        struct step *step = step_create(domain.lane, &ask.request);
        ck_assert_ptr_nonnull(step);
        ck_assert_uint_ge(arena_size(domain.lane->threads->arena, step),
                          step_size_bytes(&ask.request));
        check_view(step, &ask.request);
        check_rebuilt(step, &ask.request);
        check_filled_in(&ask.request);
        struct wire_list calls = ask.request.tool_calls;
        struct bytes id;
        while (wire_list_next(&calls, &id)) {
            ck_assert(step_has_key(step, RECORD_TOOL_CALL, id));
            ck_assert(!step_has_key(step, RECORD_TOOL_CALL, bytes_of(id.data, id.size - 1)) ||
                      calls.count > 0 || ask.request.tool_calls.count > 1);
        }
        bool response = wire_given(&ask.request, WIRE_FIELD_response_id);
        bool prefix = wire_given(&ask.request, WIRE_FIELD_prefix);
        ck_assert(step_has_key(step, RECORD_RESPONSE_ID, ask.request.response_id) == response);
        ck_assert(step_has_key(step, RECORD_PREFIX, ask.request.prefix) == prefix);
        for (unsigned k = 0; k < step->key_count; k++) {
            ck_assert_ptr_eq(step_of_key(&step_keys(step)[k].record), step);
        }
        step_discard(domain.lane, step);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("step", setup, teardown, 0, what_goes_in_comes_out);
}
