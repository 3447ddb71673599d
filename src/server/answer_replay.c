/* Composes the results of replays; see answer.h. */
#include "server/answer_private.h"

#include "net/handler.h"
#include "wire/parse.h"

#include <assert.h>

uint64_t answer_replay_bytes(const struct lane *lane, const struct thread_replay_result *result)
{
    uint64_t total = WIRE_REPLAY_BYTES_MAX;
    for (uint32_t position = result->begin; position < result->end; position++) {
        enum reason missing;
        const struct step *step = thread_replay_step(lane, result, position, &missing);
        total += WIRE_STEP_BYTES_MAX;
        if (step == NULL) {
            continue;
        }
        struct step_view view;
        step_view(step, &view);
        total += view.visible.size > 0 ? WIRE_VISIBLE_BYTES_MAX : 0;
        total += view.model.size + view.response_id.size + view.tool_calls.encoded.size +
                 (uint64_t)view.tool_calls.count * WIRE_TOOL_CALL_BYTES_MAX +
                 (uint64_t)view.segment_count * WIRE_SEGMENT_BYTES_MAX;
        for (unsigned s = 0; s < view.segment_count; s++) {
            uint32_t bytes = step_segment_bytes(step, s);
            total += bytes < NET_REFER_BYTES_MIN ? bytes : 0;
        }
    }
    return total;
}

static void put_step(struct wire_writer *writer, const struct step *step, bool from_disk)
{
    struct step_view view;
    step_view(step, &view);
    wire_put_map(writer, view.visible.size > 0 ? 10 : 9);
    answer_put_u64(writer, "step", view.number);
    answer_put_u64(writer, "turn", view.turn);
    answer_put_bool(writer, "final", view.final);
    answer_put_bin_or_nil(writer, "model", view.model);
    answer_put_bin_or_nil(writer, "response_id", view.response_id);
    wire_put_text(writer, "tool_calls");
    wire_put_array(writer, view.tool_calls.count);
    struct bytes id;
    while (wire_list_next(&view.tool_calls, &id)) {
        wire_put_bin(writer, id);
    }
    answer_put_u64_or_nil(writer, "tokens", view.has_tokens, view.tokens);
    if (view.visible.size > 0) {
        answer_put_bin_or_nil(writer, "visible", view.visible);
    }
    wire_put_text(writer, "segments");
    wire_put_array(writer, view.segment_count);
    for (unsigned s = 0; s < view.segment_count; s++) {
        wire_put_array(writer, 2);
        wire_put_text(writer, wire_kind_name(step_segment_kind(step, s)));
        wire_put_u64(writer, step_segment_bytes(step, s));
    }
    answer_put_text(writer, "source", answer_tier_name(from_disk));
}

static void put_steps(struct wire_writer *writer, const struct lane *lane,
                      const struct thread_replay_result *result)
{
    wire_put_text(writer, "steps");
    wire_put_array(writer, result->listed);
    uint32_t listed = 0;
    for (uint32_t position = result->begin; position < result->end; position++) {
        enum reason missing = REASON_NONE;
        const struct step *step = thread_replay_step(lane, result, position, &missing);
        listed += step != NULL || missing != REASON_NONE;
        if (step != NULL) {
            put_step(writer, step, result->from_disk);
        } else if (missing != REASON_NONE) {
            wire_put_map(writer, 2);
            answer_put_u64(writer, "step", position);
            answer_put_text(writer, "missing", reason_name(missing));
        }
    }
    assert(listed == result->listed);
}

/* Headers of all payloads, and the payloads that go by copy. Returns the bytes that do not. */
static uint64_t put_payloads(struct wire_writer *writer, const struct lane *lane,
                             const struct thread_replay_result *result)
{
    uint64_t referred_bytes = 0;
    for (uint32_t position = result->begin; position < result->end; position++) {
        enum reason missing;
        const struct step *step = thread_replay_step(lane, result, position, &missing);
        if (step == NULL) {
            continue;
        }
        struct step_view view;
        step_view(step, &view);
        const uint8_t *payload = view.payload.data;
        for (unsigned s = 0; s < view.segment_count; s++) {
            uint32_t bytes = step_segment_bytes(step, s);
            wire_put_bin_header(writer, bytes);
            if (bytes < NET_REFER_BYTES_MIN) {
                wire_put_raw(writer, bytes_of(payload, bytes));
            } else {
                referred_bytes += bytes;
            }
            payload += bytes;
        }
        assert(view.segment_count == 0 || payload == view.payload.data + view.payload.size);
    }
    return referred_bytes;
}

/* What a replay says only where it applies: so many fields. */
static unsigned optional_fields(const struct thread_replay_result *result)
{
    return (unsigned)result->ambiguous + result->has_found + result->in_flight +
           2U * result->has_dropped + result->has_extends + result->has_first_changed;
}

static void put_optional(struct wire_writer *writer, const struct thread_replay_result *result)
{
    if (result->ambiguous) {
        answer_put_bool(writer, "ambiguous", true);
    }
    if (result->has_found) {
        answer_put_u64(writer, "found", result->found);
    }
    if (result->in_flight) {
        answer_put_bool(writer, "in_flight", true);
    }
    if (result->has_dropped) {
        answer_put_u64(writer, "kept_from", result->kept_from);
        answer_put_u64(writer, "dropped", result->dropped);
    }
    if (result->has_extends) {
        answer_put_bool(writer, "extends", result->extends);
    }
    if (result->has_first_changed) {
        answer_put_u64(writer, "first_changed", result->first_changed);
    }
}

uint8_t *answer_replay(struct wire_writer *writer, uint32_t msgid, const struct lane *lane,
                       const struct thread_replay_result *result)
{
    bool there = result->state != THREAD_MISS;
    assert(there || result->begin == result->end);
    uint8_t *frame = wire_begin_response(writer, msgid, result->segment_count);
    wire_put_map(writer,
                 answer_state_fields(result->state, result->reason) + 5U + optional_fields(result));
    answer_put_state(writer, result->state, result->reason, result->vouch_ms);
    answer_put_bin_or_nil(writer, "thread", result->thread);
    answer_put_u64_or_nil(writer, "version", there || result->version > 0, result->version);
    answer_put_u64_or_nil(writer, "head", there && result->head >= 0, (uint64_t)result->head);
    put_optional(writer, result);
    put_steps(writer, lane, result);
    answer_put_u64_or_nil(writer, "expires_in_ms", there, result->expires_in_ms);
    uint8_t *payloads = writer->at;
    uint64_t referred_bytes = put_payloads(writer, lane, result);
    wire_end_frame(writer, frame, referred_bytes);
    return payloads;
}
