/* Composes the results of replays; see answer.h. */
#include "server/answer_private.h"

#include "net/handler.h"
#include "wire/parse.h"

#include <assert.h>

enum {
    LINE_BYTES = 64,    /* of the cache */
    PAYLOADS_AHEAD = 4, /* so many steps before its turn a payload comes in whole */
};

/* ---- Looking ------------------------------------------------------------------------------ */

static uint32_t segment_bytes(const struct answer_step *at, unsigned segment)
{
    return at->view.segment_count == 1 ? at->view.payload_bytes
                                       : step_segment_bytes(at->step, segment);
}

static unsigned header_bytes(uint32_t size_bytes)
{
    return size_bytes <= UINT8_MAX ? 2 : size_bytes <= UINT16_MAX ? 3 : 5;
}

static void look(const struct answer_steps *steps, uint32_t position, struct answer_step *at)
{
    at->step = thread_replay_step(steps->lane, steps->result, position, &at->missing);
    if (at->step != NULL) {
        step_view(at->step, &at->view);
    }
}

static const struct answer_step *step_at(struct answer_steps *steps, uint32_t position)
{
    uint32_t index = position - steps->result->begin;
    if (index < ANSWER_STEPS_KEPT) {
        return &steps->kept[index];
    }
    look(steps, position, &steps->other);
    return &steps->other;
}

/* Bound on what a step's entry takes, but for its segments. */
static size_t head_bytes(const struct step_view *view)
{
    return WIRE_STEP_BYTES_MAX + (view->visible.size > 0 ? (size_t)WIRE_VISIBLE_BYTES_MAX : 0) +
           view->model.size + view->response_id.size + view->tool_calls.encoded.size +
           (size_t)view->tool_calls.count * WIRE_TOOL_CALL_BYTES_MAX;
}

uint64_t answer_replay_look(struct answer_steps *steps, const struct lane *lane,
                            const struct thread_replay_result *result)
{
    uint64_t total = WIRE_REPLAY_BYTES_MAX;
    steps->lane = lane;
    steps->result = result;
    steps->payload_bytes = 0;
    steps->position = result->begin;
    steps->segment = 0;
    for (uint32_t position = result->begin; position < result->end; position++) {
        uint32_t index = position - result->begin;
        struct answer_step *at = index < ANSWER_STEPS_KEPT ? &steps->kept[index] : &steps->other;
        look(steps, position, at);
        total += WIRE_STEP_BYTES_MAX;
        if (at->step == NULL) {
            continue;
        }
        const struct step_view *view = &at->view;
        /*
         * What will be read of the step comes in, side by side with that of others, while those are
         * looked at. Not asked for in a function of its own: the compiler takes one that only
         * prefetches for one that does nothing, and leaves out calls of it.
         */
        const uint8_t *ids = view->response_id.data;
        if (ids != NULL) {
            __builtin_prefetch(ids);
            __builtin_prefetch(ids + LINE_BYTES);
        }
        if (view->payload.size > 0) {
            __builtin_prefetch(view->payload.data);
            __builtin_prefetch(view->payload.data + LINE_BYTES);
        }
        total += head_bytes(view) - WIRE_STEP_BYTES_MAX +
                 (uint64_t)view->segment_count * WIRE_SEGMENT_BYTES_MAX;
        steps->payload_bytes += view->payload_bytes;
        for (unsigned s = 0; s < view->segment_count; s++) {
            uint32_t bytes = segment_bytes(at, s);
            total += bytes < NET_REFER_BYTES_MIN ? bytes : 0;
            steps->payload_bytes += header_bytes(bytes);
        }
    }
    return total;
}

/* ---- Writing ------------------------------------------------------------------------------ */

/* Up to its segments. */
static uint8_t *put_head(uint8_t *at, const struct step_view *view)
{
    *at++ = view->visible.size > 0 ? 0x8A : 0x89;
    at = answer_at_u32(ANSWER_PUT(at, "\xA4step"), view->number);
    at = answer_at_u32(ANSWER_PUT(at, "\xA4turn"), view->turn);
    at = answer_at_bool(ANSWER_PUT(at, "\xA5"
                                       "final"),
                        view->final);
    at = answer_at_bin_or_nil(ANSWER_PUT(at, "\xA5model"), view->model);
    at = answer_at_bin_or_nil(ANSWER_PUT(at, "\xABresponse_id"), view->response_id);
    at = ANSWER_PUT(at, "\xAAtool_calls");
    struct wire_list calls = view->tool_calls;
    if (calls.count < 16) {
        *at++ = (uint8_t)(0x90 | calls.count);
    } else {
        *at++ = 0xDC;
        bytes_store_be16(at, (uint16_t)calls.count);
        at += 2;
    }
    struct bytes id;
    while (wire_list_next(&calls, &id)) {
        at = answer_at_bin(at, id);
    }
    at = ANSWER_PUT(at, "\xA6tokens");
    if (view->has_tokens) {
        at = answer_at_u32(at, view->tokens);
    } else {
        *at++ = 0xC0;
    }
    return view->visible.size > 0 ? answer_at_bin(ANSWER_PUT(at, "\xA7visible"), view->visible)
                                  : at;
}

static uint8_t *put_segment(uint8_t *at, const struct answer_step *step, unsigned segment)
{
    enum wire_kind kind = step_segment_kind(step->step, segment);
    *at++ = 0x92;
    if (kind == WIRE_KIND_TEXT) {
        at = ANSWER_PUT(at, "\xA4text");
    } else {
        struct bytes name = bytes_text(wire_kind_name(kind));
        *at++ = (uint8_t)(0xA0 | name.size);
        memcpy(at, name.data, name.size);
        at += name.size;
    }
    return answer_at_u32(at, segment_bytes(step, segment));
}

static void put_step(struct wire_writer *writer, const struct answer_step *step, bool from_disk)
{
    const struct step_view *view = &step->view;
    size_t bound = head_bytes(view) + (size_t)view->segment_count * WIRE_SEGMENT_BYTES_MAX;
    assert(view->tool_calls.count <= WIRE_TOOL_CALLS_MAX);
    if (writer->overflow || (size_t)(writer->end - writer->at) < bound) {
        writer->overflow = true;
        return;
    }
    uint8_t *at = ANSWER_PUT(put_head(writer->at, view), "\xA8segments");
    if (view->segment_count < 16) {
        *at++ = (uint8_t)(0x90 | view->segment_count);
    } else {
        *at++ = 0xDC;
        bytes_store_be16(at, (uint16_t)view->segment_count);
        at += 2;
    }
    for (unsigned s = 0; s < view->segment_count; s++) {
        at = put_segment(at, step, s);
    }
    at = ANSWER_PUT(at, "\xA6source");
    writer->at = from_disk ? ANSWER_PUT(at, "\xA4"
                                            "disk")
                           : ANSWER_PUT(at, "\xA6memory");
}

static void put_steps(struct wire_writer *writer, struct answer_steps *steps)
{
    const struct thread_replay_result *result = steps->result;
    wire_put_array(writer, result->listed);
    uint32_t listed = 0;
    for (uint32_t position = result->begin; position < result->end; position++) {
        const struct answer_step *at = step_at(steps, position);
        listed += at->step != NULL || at->missing != REASON_NONE;
        if (at->step != NULL) {
            put_step(writer, at, result->from_disk);
        } else if (at->missing != REASON_NONE) {
            wire_put_map(writer, 2);
            answer_put_u64(writer, "step", position);
            answer_put_text(writer, "missing", reason_name(at->missing));
        }
    }
    assert(listed == result->listed);
}

/* The step whose payload is to come in before it is copied; NULL: there is none. Its first lines
 * were asked for when it was looked at. */
static const struct step_view *view_ahead(const struct answer_steps *steps)
{
    uint32_t left = steps->result->end - steps->position;
    uint32_t index = steps->position - steps->result->begin + PAYLOADS_AHEAD;
    if (left <= PAYLOADS_AHEAD || index >= ANSWER_STEPS_KEPT) {
        return NULL;
    }
    const struct answer_step *at = &steps->kept[index];
    return at->step != NULL && at->view.payload_bytes < NET_REFER_BYTES_MIN ? &at->view : NULL;
}

bool answer_payloads(struct wire_writer *writer, struct answer_steps *steps,
                     struct answer_referred *referred)
{
    for (; steps->position < steps->result->end; steps->position++, steps->segment = 0) {
        const struct answer_step *at = step_at(steps, steps->position);
        if (at->step == NULL) {
            continue;
        }
        if (steps->segment == 0) {
            steps->payload = at->view.payload.data;
            const struct step_view *ahead = view_ahead(steps);
            for (size_t line = 2 * LINE_BYTES; ahead != NULL && line < ahead->payload.size;
                 line += LINE_BYTES) {
                __builtin_prefetch(ahead->payload.data + line);
            }
        }
        while (steps->segment < at->view.segment_count) {
            uint32_t bytes = segment_bytes(at, steps->segment++);
            const uint8_t *payload = steps->payload;
            steps->payload += bytes;
            wire_put_bin_header(writer, bytes);
            if (bytes >= NET_REFER_BYTES_MIN) {
                *referred = (struct answer_referred){.step = at->step,
                                                     .data = payload,
                                                     .size_bytes = bytes,
                                                     .step_bytes = at->view.payload_bytes};
                return true;
            }
            wire_put_raw(writer, bytes_of(payload, bytes));
        }
        assert(steps->segment == 0 ||
               steps->payload == at->view.payload.data + at->view.payload.size);
    }
    return false;
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

/* Up to what a result has besides where it applies. */
static uint8_t *put_result(uint8_t *at, const struct thread_replay_result *result)
{
    at = answer_at_bin_or_nil(ANSWER_PUT(at, "\xA6thread"), result->thread);
    at = ANSWER_PUT(at, "\xA7version");
    at = result->state != THREAD_MISS || result->version > 0 ? answer_at_u64(at, result->version)
                                                             : ANSWER_PUT(at, "\xC0");
    at = ANSWER_PUT(at, "\xA4head");
    return result->state != THREAD_MISS && result->head >= 0
               ? answer_at_u64(at, (uint64_t)result->head)
               : ANSWER_PUT(at, "\xC0");
}

void answer_replay(struct wire_writer *writer, uint32_t msgid, struct answer_steps *steps)
{
    const struct thread_replay_result *result = steps->result;
    bool there = result->state != THREAD_MISS;
    assert(there || result->begin == result->end);
    if (writer->overflow || (size_t)(writer->end - writer->at) < WIRE_REPLAY_BYTES_MAX) {
        writer->overflow = true;
        return;
    }
    uint8_t *frame = wire_begin_response(writer, msgid, result->segment_count);
    unsigned optional = optional_fields(result);
    wire_put_map(writer, answer_state_fields(result->state, result->reason) + 5U + optional);
    if (result->state == THREAD_COMPLETE) {
        writer->at = ANSWER_PUT(writer->at, "\xA6status\xA8"
                                            "complete");
    } else {
        answer_put_state(writer, result->state, result->reason, result->vouch_ms);
    }
    writer->at = put_result(writer->at, result);
    if (optional > 0) {
        put_optional(writer, result);
    }
    writer->at = ANSWER_PUT(writer->at, "\xA5steps");
    put_steps(writer, steps);
    answer_put_u64_or_nil(writer, "expires_in_ms", there, result->expires_in_ms);
    wire_end_frame(writer, frame, steps->payload_bytes);
}
