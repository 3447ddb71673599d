/* Composes result maps. Knows the contract's field names; runs no operation, owns nothing. */
#include "server/answer.h"
#include "server/answer_private.h"

#include "base/version.h"
#include "net/handler.h"
#include "wire/parse.h"

#include <assert.h>

enum { APPEND_BYTES_MAX = WIRE_ID_BYTES_MAX + 160 }; /* an append's answer */
static_assert((int)APPEND_BYTES_MAX <= (int)NET_REPLY_SMALL_BYTES, "it is a small one");

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

const char *answer_tier_name(bool on_disk)
{
    return on_disk ? "disk" : "memory";
}

void answer_hello(struct wire_writer *writer, uint32_t msgid, uint64_t frame_max_bytes)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 5);
    answer_put_u64(writer, "protocol", 1);
    answer_put_text(writer, "server", "rethread");
    answer_put_text(writer, "version", VERSION_TEXT);
    answer_put_text(writer, "tenant", "default");
    answer_put_u64(writer, "frame_max", frame_max_bytes);
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
    if (writer->overflow || (size_t)(writer->end - writer->at) < APPEND_BYTES_MAX) {
        writer->overflow = true;
        return;
    }
    uint8_t *frame = wire_begin_response(writer, request->msgid, 0);
    uint8_t *at = ANSWER_PUT(writer->at, "\x87\xA6thread");
    at = answer_at_bin_or_nil(at, request->thread);
    at = answer_at_u32(ANSWER_PUT(at, "\xA4step"), result->step);
    at = answer_at_u64(ANSWER_PUT(at, "\xA7version"), result->version);
    at = answer_at_bool(ANSWER_PUT(at, "\xA7"
                                       "created"),
                        result->created);
    at = answer_at_bool(ANSWER_PUT(at, "\xA9"
                                       "duplicate"),
                        result->duplicate);
    at = answer_at_u64(ANSWER_PUT(at, "\xA4lost"), result->lost);
    writer->at = answer_at_u64(ANSWER_PUT(at, "\xAD"
                                              "expires_in_ms"),
                               result->expires_in_ms);
    wire_end_frame(writer, frame, 0);
}

void answer_begin(struct wire_writer *writer, const struct wire_request *request,
                  const struct thread_begin_result *result)
{
    uint8_t *frame = wire_begin_response(writer, request->msgid, 0);
    wire_put_map(writer, 5);
    answer_put_bin_or_nil(writer, "thread", request->thread);
    answer_put_u64(writer, "step", result->step);
    answer_put_u64(writer, "version", result->version);
    answer_put_u64(writer, "claim", result->claim);
    answer_put_u64(writer, "claim_expires_in_ms", result->claim_expires_in_ms);
    wire_end_frame(writer, frame, 0);
}

void answer_chunk(struct wire_writer *writer, uint32_t msgid,
                  const struct thread_chunk_result *result)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    answer_put_u64(writer, "bytes", result->step_bytes);
    answer_put_u64(writer, "claim_expires_in_ms", result->claim_expires_in_ms);
    wire_end_frame(writer, frame, 0);
}

void answer_abort(struct wire_writer *writer, uint32_t msgid)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 1);
    answer_put_bool(writer, "aborted", true);
    wire_end_frame(writer, frame, 0);
}

unsigned answer_state_fields(enum thread_state state, enum reason reason)
{
    return state != THREAD_MISS ? 1 : reason == REASON_NEVER_SEEN ? 3 : 2;
}

void answer_put_state(struct wire_writer *writer, enum thread_state state, enum reason reason,
                      uint64_t vouch_ms)
{
    answer_put_text(writer, "status", state_name(state));
    if (state != THREAD_MISS) {
        return;
    }
    assert(reason != REASON_NONE);
    answer_put_text(writer, "reason", reason_name(reason));
    if (reason == REASON_NEVER_SEEN) {
        answer_put_u64(writer, "vouch_ms", vouch_ms);
    }
}

void answer_stat(struct wire_writer *writer, uint32_t msgid,
                 const struct thread_stat_result *result)
{
    bool there = result->state != THREAD_MISS;
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, answer_state_fields(result->state, result->reason) + 8U +
                             result->in_flight + (result->floor > 0));
    answer_put_state(writer, result->state, result->reason, result->vouch_ms);
    answer_put_u64_or_nil(writer, "version", there || result->version > 0, result->version);
    answer_put_u64_or_nil(writer, "step_count", there, result->step_count);
    answer_put_u64_or_nil(writer, "bytes", there, result->payload_bytes);
    answer_put_u64_or_nil(writer, "tokens", there, result->tokens);
    answer_put_u64_or_nil(writer, "age_ms", there, result->age_ms);
    answer_put_u64_or_nil(writer, "idle_ms", there, result->idle_ms);
    answer_put_u64_or_nil(writer, "expires_in_ms", there, result->expires_in_ms);
    answer_put_text_or_nil(writer, "tier", there ? answer_tier_name(result->on_disk) : NULL);
    if (result->in_flight) {
        answer_put_bool(writer, "in_flight", true);
    }
    if (result->floor > 0) {
        answer_put_u64(writer, "floor", result->floor);
    }
    wire_end_frame(writer, frame, 0);
}

void answer_fork(struct wire_writer *writer, const struct wire_request *request,
                 const struct thread_fork_result *result)
{
    uint8_t *frame = wire_begin_response(writer, request->msgid, 0);
    wire_put_map(writer, 2);
    answer_put_bin_or_nil(writer, "thread", request->thread);
    answer_put_u64(writer, "version", result->version);
    wire_end_frame(writer, frame, 0);
}

void answer_rewind(struct wire_writer *writer, uint32_t msgid,
                   const struct thread_rewind_result *result)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    answer_put_u64(writer, "version", result->version);
    answer_put_u64(writer, "dropped", result->dropped);
    wire_end_frame(writer, frame, 0);
}

void answer_forget(struct wire_writer *writer, uint32_t msgid, bool forgotten)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 1);
    answer_put_bool(writer, "forgotten", forgotten);
    wire_end_frame(writer, frame, 0);
}

uint8_t *answer_touch_begin(struct wire_writer *writer, uint32_t msgid, uint64_t touched,
                            uint32_t missing)
{
    uint8_t *frame = wire_begin_response(writer, msgid, 0);
    wire_put_map(writer, 2);
    answer_put_u64(writer, "touched", touched);
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
        answer_put_bin_or_nil(writer, "thread", listed->id);
        answer_put_u64(writer, "version", listed->version);
        answer_put_u64(writer, "bytes", listed->payload_bytes);
        answer_put_u64(writer, "idle_ms", listed->idle_ms);
        answer_put_text(writer, "tier", answer_tier_name(listed->on_disk));
    }
    answer_put_bin_or_nil(writer, "cursor",
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
            answer_put_u64(writer, metric_rows[row].name, values[row]);
        }
    }
    wire_end_frame(writer, frame, 0);
}
