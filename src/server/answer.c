/* Composes result maps. Knows the contract's field names; runs no operation, owns nothing. */
#include "server/answer.h"

#include "base/version.h"
#include "net/handler.h"
#include "wire/parse.h"

#include <assert.h>

static inline void put_text_field(struct wire_writer *writer, const char *name, const char *value)
{
    wire_put_text(writer, name);
    wire_put_text(writer, value);
}

static inline void put_text_or_nil(struct wire_writer *writer, const char *name, const char *value)
{
    wire_put_text(writer, name);
    if (value != NULL) {
        wire_put_text(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void put_u64_field(struct wire_writer *writer, const char *name, uint64_t value)
{
    wire_put_text(writer, name);
    wire_put_u64(writer, value);
}

static inline void put_bool_field(struct wire_writer *writer, const char *name, bool value)
{
    wire_put_text(writer, name);
    wire_put_bool(writer, value);
}

/* nil when there is nothing to say. */
static inline void put_u64_or_nil(struct wire_writer *writer, const char *name, bool known,
                                  uint64_t value)
{
    wire_put_text(writer, name);
    if (known) {
        wire_put_u64(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static inline void put_bin_or_nil(struct wire_writer *writer, const char *name, struct bytes value)
{
    wire_put_text(writer, name);
    if (value.size > 0) {
        wire_put_bin(writer, value);
    } else {
        wire_put_nil(writer);
    }
}

static const char *state_name(enum thread_state state)
{
    static const char *const names[] = {
        [THREAD_COMPLETE] = "complete",
        [THREAD_PARTIAL] = "partial",
        [THREAD_MISS] = "miss",
    };
    assert((unsigned)state < sizeof names / sizeof names[0]);
    return names[state];
}

static const char *tier_name(bool on_disk)
{
    return on_disk ? "disk" : "memory";
}

void answer_hello(struct wire_writer *writer, uint32_t msgid, uint64_t frame_max_bytes)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 5);
    put_u64_field(writer, "protocol", 1);
    put_text_field(writer, "server", "rethread");
    put_text_field(writer, "version", VERSION_TEXT);
    put_text_field(writer, "tenant", "default");
    put_u64_field(writer, "frame_max", frame_max_bytes);
    wire_end_frame(writer, frame, 0);
}

void answer_ping(struct wire_writer *writer, uint32_t msgid)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 0);
    wire_end_frame(writer, frame, 0);
}

void answer_append(struct wire_writer *writer, const struct wire_request *request,
                   const struct thread_append_result *result)
{
    uint8_t *frame = wire_begin_response(writer, request->msgid, 0);
    wire_put_map(writer, 7);
    put_bin_or_nil(writer, "thread", request->thread);
    put_u64_field(writer, "step", result->step);
    put_u64_field(writer, "version", result->version);
    put_bool_field(writer, "created", result->created);
    put_bool_field(writer, "duplicate", result->duplicate);
    put_u64_field(writer, "lost", result->lost);
    put_u64_field(writer, "expires_in_ms", result->expires_in_ms);
    wire_end_frame(writer, frame, 0);
}

/* status, reason? and vouch_ms?, with which replay and stat begin: so many fields. */
static unsigned state_fields(enum thread_state state, enum reason reason)
{
    return state != THREAD_MISS ? 1 : reason == REASON_NEVER_SEEN ? 3 : 2;
}

static void put_state(struct wire_writer *writer, enum thread_state state, enum reason reason,
                      uint64_t vouch_ms)
{
    put_text_field(writer, "status", state_name(state));
    if (state != THREAD_MISS) {
        return;
    }
    assert(reason != REASON_NONE);
    put_text_field(writer, "reason", reason_name(reason));
    if (reason == REASON_NEVER_SEEN) {
        put_u64_field(writer, "vouch_ms", vouch_ms);
    }
}

void answer_stat(struct wire_writer *writer, uint32_t msgid,
                 const struct thread_stat_result *result)
{
    bool there = result->state != THREAD_MISS;
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, state_fields(result->state, result->reason) + 8);
    put_state(writer, result->state, result->reason, result->vouch_ms);
    put_u64_or_nil(writer, "version", there || result->version > 0, result->version);
    put_u64_or_nil(writer, "step_count", there, result->step_count);
    put_u64_or_nil(writer, "bytes", there, result->payload_bytes);
    put_u64_or_nil(writer, "tokens", there, result->tokens);
    put_u64_or_nil(writer, "age_ms", there, result->age_ms);
    put_u64_or_nil(writer, "idle_ms", there, result->idle_ms);
    put_u64_or_nil(writer, "expires_in_ms", there, result->expires_in_ms);
    put_text_or_nil(writer, "tier", there ? tier_name(result->on_disk) : NULL);
    wire_end_frame(writer, frame, 0);
}

void answer_fork(struct wire_writer *writer, const struct wire_request *request,
                 const struct thread_fork_result *result)
{
    uint8_t *frame = wire_begin_response(writer, request->msgid, 0);
    wire_put_map(writer, 2);
    put_bin_or_nil(writer, "thread", request->thread);
    put_u64_field(writer, "version", result->version);
    wire_end_frame(writer, frame, 0);
}

void answer_rewind(struct wire_writer *writer, uint32_t msgid,
                   const struct thread_rewind_result *result)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    put_u64_field(writer, "version", result->version);
    put_u64_field(writer, "dropped", result->dropped);
    wire_end_frame(writer, frame, 0);
}

void answer_forget(struct wire_writer *writer, uint32_t msgid, bool forgotten)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 1);
    put_bool_field(writer, "forgotten", forgotten);
    wire_end_frame(writer, frame, 0);
}

uint8_t *answer_touch_begin(struct wire_writer *writer, uint32_t msgid, uint64_t touched,
                            uint32_t missing)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    put_u64_field(writer, "touched", touched);
    wire_put_text(writer, "missing");
    wire_put_array(writer, missing);
    return frame;
}

void answer_touch_missing(struct wire_writer *writer, struct bytes id, enum reason reason)
{
    assert(reason != REASON_NONE);
    wire_put_array(writer, 2);
    wire_put_bin(writer, id);
    wire_put_text(writer, reason_name(reason));
}

size_t answer_list_bytes(const struct thread_list_result *result)
{
    size_t bytes = NET_REPLY_SMALL_BYTES;
    for (unsigned i = 0; i < result->count; i++) {
        bytes += ANSWER_LISTED_BYTES_MAX + result->listed[i].id.size;
    }
    return bytes;
}

void answer_list(struct wire_writer *writer, uint32_t msgid,
                 const struct thread_list_result *result)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    wire_put_text(writer, "threads");
    wire_put_array(writer, result->count);
    for (unsigned i = 0; i < result->count; i++) {
        const struct thread_listed *listed = &result->listed[i];
        wire_put_map(writer, 5);
        put_bin_or_nil(writer, "thread", listed->id);
        put_u64_field(writer, "version", listed->version);
        put_u64_field(writer, "bytes", listed->payload_bytes);
        put_u64_field(writer, "idle_ms", listed->idle_ms);
        put_text_field(writer, "tier", tier_name(listed->on_disk));
    }
    put_bin_or_nil(writer, "cursor",
                   bytes_of(result->cursor, result->more ? THREAD_CURSOR_BYTES : 0));
    wire_end_frame(writer, frame, 0);
}

static const struct metric_row {
    const char *section;
    const char *name;
} metric_rows[METRIC_COUNT] = {
#define METRIC(section, name, section_text, name_text, type, unit, summary)                        \
    [METRIC_##name] = {section_text, name_text},
#include "schema/metrics.def"
#undef METRIC
};

size_t answer_info_bytes(void)
{
    return NET_REPLY_SMALL_BYTES + (size_t)METRIC_COUNT * ANSWER_METRIC_BYTES_MAX;
}

/* One past the last row of the section that begins at `row`; the rows of one lie together. */
static unsigned section_end(unsigned row)
{
    unsigned end = row;
    while (end < METRIC_COUNT && strcmp(metric_rows[end].section, metric_rows[row].section) == 0) {
        end++;
    }
    return end;
}

void answer_info(struct wire_writer *writer, uint32_t msgid, const uint64_t values[METRIC_COUNT])
{
    unsigned sections = 0;
    for (unsigned row = 0; row < METRIC_COUNT; row = section_end(row)) {
        sections++;
    }
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, sections);
    for (unsigned row = 0; row < METRIC_COUNT;) {
        unsigned end = section_end(row);
        wire_put_text(writer, metric_rows[row].section);
        wire_put_map(writer, end - row);
        for (; row < end; row++) {
            put_u64_field(writer, metric_rows[row].name, values[row]);
        }
    }
    wire_end_frame(writer, frame, 0);
}

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
    wire_put_map(writer, 9);
    put_u64_field(writer, "step", view.number);
    put_u64_field(writer, "turn", view.turn);
    put_bool_field(writer, "final", view.final);
    put_bin_or_nil(writer, "model", view.model);
    put_bin_or_nil(writer, "response_id", view.response_id);
    wire_put_text(writer, "tool_calls");
    wire_put_array(writer, view.tool_calls.count);
    struct bytes id;
    while (wire_list_next(&view.tool_calls, &id)) {
        wire_put_bin(writer, id);
    }
    put_u64_or_nil(writer, "tokens", view.has_tokens, view.tokens);
    wire_put_text(writer, "segments");
    wire_put_array(writer, view.segment_count);
    for (unsigned s = 0; s < view.segment_count; s++) {
        wire_put_array(writer, 2);
        wire_put_text(writer, wire_kind_name(step_segment_kind(step, s)));
        wire_put_u64(writer, step_segment_bytes(step, s));
    }
    put_text_field(writer, "source", tier_name(from_disk));
}

static void put_steps(struct wire_writer *writer, const struct lane *lane,
                      const struct thread_replay_result *result)
{
    wire_put_text(writer, "steps");
    wire_put_array(writer, result->end - result->begin);
    for (uint32_t position = result->begin; position < result->end; position++) {
        enum reason missing = REASON_NONE;
        const struct step *step = thread_replay_step(lane, result, position, &missing);
        if (step != NULL) {
            put_step(writer, step, result->from_disk);
        } else {
            assert(missing != REASON_NONE);
            wire_put_map(writer, 2);
            put_u64_field(writer, "step", position);
            put_text_field(writer, "missing", reason_name(missing));
        }
    }
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

uint8_t *answer_replay(struct wire_writer *writer, uint32_t msgid, const struct lane *lane,
                       const struct thread_replay_result *result)
{
    bool there = result->state != THREAD_MISS;
    assert(there || result->begin == result->end);
    uint8_t *frame = wire_begin_response(writer, msgid, result->segment_count);
    wire_put_map(writer, state_fields(result->state, result->reason) + 5U + result->ambiguous +
                             result->has_first_changed);
    put_state(writer, result->state, result->reason, result->vouch_ms);
    put_bin_or_nil(writer, "thread", result->thread);
    put_u64_or_nil(writer, "version", there || result->version > 0, result->version);
    put_u64_or_nil(writer, "head", there && result->head >= 0, (uint64_t)result->head);
    if (result->ambiguous) {
        put_bool_field(writer, "ambiguous", true);
    }
    if (result->has_first_changed) {
        put_u64_field(writer, "first_changed", result->first_changed);
    }
    put_steps(writer, lane, result);
    put_u64_or_nil(writer, "expires_in_ms", there, result->expires_in_ms);
    uint8_t *payloads = writer->at;
    uint64_t referred_bytes = put_payloads(writer, lane, result);
    wire_end_frame(writer, frame, referred_bytes);
    return payloads;
}
