/* Frames and envelopes of requests, payloads, and the rules that span several options. */
#include "wire/parse.h"
#include "wire/options.h"

#include <assert.h>

enum wire_frame wire_frame_next(struct bytes input, uint64_t frame_max, struct bytes *body,
                                uint64_t *need)
{
    *need = 0;
    if (input.size > 0 && input.data[0] != WIRE_HEADER_MARK) {
        return WIRE_FRAME_BROKEN;
    }
    if (input.size < WIRE_HEADER_BYTES) {
        return WIRE_FRAME_PARTIAL;
    }
    uint64_t size = bytes_load_be32(input.data + 1);
    *need = size + WIRE_HEADER_BYTES;
    if (size > frame_max) {
        return WIRE_FRAME_TOO_LARGE;
    }
    if (input.size < *need) {
        return WIRE_FRAME_PARTIAL;
    }
    *body = bytes_of(input.data + WIRE_HEADER_BYTES, (size_t)size);
    return WIRE_FRAME_WHOLE;
}

static bool method_of(struct bytes name, enum wire_method *method)
{
    if (name.size == 0) {
        return false;
    }
    static const struct {
        const char *text;
        size_t size;
    } methods[WIRE_METHOD_COUNT] = {
#define METHOD(name, text, summary) [WIRE_METHOD_##name] = {text, sizeof text - 1},
#include "schema/methods.def"
#undef METHOD
    };
    for (unsigned m = 0; m < WIRE_METHOD_COUNT; m++) {
        if (methods[m].size == name.size && methods[m].text[0] == (char)name.data[0] &&
            memcmp(methods[m].text, name.data, name.size) == 0) {
            *method = (enum wire_method)m;
            return true;
        }
    }
    return false;
}

/* [0, msgid, method, and the header of the last item, of which *items follow. */
static enum status take_envelope(struct wire_cursor *cursor, struct wire_request *request,
                                 bool *has_msgid, uint32_t *items, struct wire_error *error)
{
    static const char shape[] =
        "a request is one MessagePack array [0, msgid, method, [options, payload...]]";
    struct wire_item envelope;
    struct wire_item item;
    struct wire_item type;
    if (!wire_take(cursor, &envelope) || envelope.type != WIRE_ITEM_ARRAY ||
        !wire_take(cursor, &type) || !wire_take(cursor, &item)) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "%s", shape);
    }
    if (item.type != WIRE_ITEM_UINT || item.number > UINT32_MAX || envelope.count < 2) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "msgid is expected to be a 32-bit integer");
    }
    request->msgid = (uint32_t)item.number;
    *has_msgid = true;
    if (type.type != WIRE_ITEM_UINT || type.number != 0) {
        return wire_fail(error, STATUS_BAD_REQUEST, "",
                         "the first item is expected to be 0: only requests are taken");
    }
    if (envelope.count != 4 || !wire_take(cursor, &item) || item.type != WIRE_ITEM_STR) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "%s", shape);
    }
    if (!method_of(item.bytes, &request->method)) {
        return wire_fail(error, STATUS_UNKNOWN_METHOD, "",
                         "no such method; `rethread-server --describe` lists them");
    }
    if (!wire_take(cursor, &item) || item.type != WIRE_ITEM_ARRAY || item.count == 0) {
        return wire_fail(error, STATUS_BAD_REQUEST, "",
                         "the fourth item is expected to be [options, payload...]");
    }
    *items = item.count;
    return STATUS_OK;
}

static enum status take_payloads(struct wire_cursor *cursor, struct wire_request *request,
                                 uint32_t count, struct wire_error *error)
{
    bool takes_payloads = request->method == WIRE_METHOD_APPEND ||
                          request->method == WIRE_METHOD_CHUNK ||
                          request->method == WIRE_METHOD_COMMIT;
    if (count > 0 && !takes_payloads) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "%s takes no payloads",
                         wire_method_name(request->method));
    }
    if (count > WIRE_PAYLOADS_MAX) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "%s takes at most %d payloads",
                         wire_method_name(request->method), WIRE_PAYLOADS_MAX);
    }
    for (uint32_t i = 0; i < count; i++) {
        struct wire_item item;
        if (!wire_take(cursor, &item) || item.type != WIRE_ITEM_BIN || item.bytes.size == 0) {
            return wire_fail(error, STATUS_BAD_REQUEST, "",
                             "payload %u is expected to be bin of at least 1 byte", (unsigned)i);
        }
        request->payloads[i] = item.bytes;
        request->payload_bytes += item.bytes.size;
    }
    request->payload_count = count;
    if (wire_left(cursor) != 0) {
        return wire_fail(error, STATUS_BAD_REQUEST, "", "bytes follow the request in its frame");
    }
    return STATUS_OK;
}

static enum status check_segments(const struct wire_request *request, struct wire_error *error)
{
    if (!wire_given(request, WIRE_FIELD_segments)) {
        return STATUS_OK;
    }
    if (request->segments.count != request->payload_count) {
        return wire_fail(error, STATUS_BAD_REQUEST, "segments",
                         "segments names %u kinds for %u payloads",
                         (unsigned)request->segments.count, request->payload_count);
    }
    struct wire_list kinds = request->segments;
    enum wire_kind kind;
    for (unsigned i = 0; wire_kind_next(&kinds, &kind); i++) {
        if (kind == WIRE_KIND_TOKENS && request->payloads[i].size % 4 != 0) {
            return wire_fail(
                error, STATUS_BAD_REQUEST, "segments",
                "segments: payload %u is of kind tokens, its size is expected to be a multiple "
                "of 4 bytes",
                i);
        }
    }
    return STATUS_OK;
}

static enum status check_append(const struct wire_request *request, struct wire_error *error)
{
    if (!wire_given(request, WIRE_FIELD_segments) && request->payload_count == 0) {
        return wire_fail(error, STATUS_BAD_REQUEST, "segments",
                         "append needs payloads, or segments: [] for a bare step");
    }
    return check_segments(request, error);
}

static enum status check_turns(const struct wire_request *request, struct wire_error *error)
{
    bool needed =
        wire_given(request, WIRE_FIELD_policy) && request->policy == WIRE_POLICY_LAST_TURNS;
    if (needed == wire_given(request, WIRE_FIELD_turns)) {
        return STATUS_OK;
    }
    return wire_fail(error, STATUS_BAD_REQUEST, "turns",
                     needed ? "policy last_turns needs turns: how many"
                            : "turns goes with policy last_turns only");
}

static enum status check_replay(const struct wire_request *request, struct wire_error *error)
{
    static const struct {
        enum wire_field field;
        const char *name;
    } keys[] = {{WIRE_FIELD_response_id, "response_id"},
                {WIRE_FIELD_tool_call, "tool_call"},
                {WIRE_FIELD_prefix, "prefix"}};
    unsigned given = 0;
    for (unsigned i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        if (wire_given(request, keys[i].field) && ++given > 1) {
            return wire_fail(error, STATUS_BAD_REQUEST, keys[i].name,
                             "replay takes only one of response_id, tool_call and prefix");
        }
    }
    if (given == 0 && !wire_given(request, WIRE_FIELD_thread)) {
        return wire_fail(error, STATUS_BAD_REQUEST, "thread",
                         "replay needs thread, or one of response_id, tool_call and prefix");
    }
    return check_turns(request, error);
}

enum status wire_parse(struct bytes body, struct wire_request *request, bool *has_msgid,
                       struct wire_error *error)
{
    struct wire_cursor cursor = wire_cursor_on(body);
    uint32_t items = 0;
    /* The payload table is large and is filled as far as it is used. */
    memset(request, 0, offsetof(struct wire_request, payloads));
    request->touch = true;
    *has_msgid = false;
    enum status status = take_envelope(&cursor, request, has_msgid, &items, error);
    if (status == STATUS_OK) {
        status = wire_options_take(&cursor, request, error);
    }
    if (status == STATUS_OK) {
        status = take_payloads(&cursor, request, items - 1, error);
    }
    if (status != STATUS_OK) {
        return status;
    }
    assert(*has_msgid && (unsigned)request->method < WIRE_METHOD_COUNT);
    switch (request->method) {
    case WIRE_METHOD_APPEND:
        if (!wire_given(request, WIRE_FIELD_final)) {
            request->final = request->tool_calls.count == 0;
        }
        return check_append(request, error);
    case WIRE_METHOD_COMMIT:
        if (!wire_given(request, WIRE_FIELD_final)) {
            request->final = request->tool_calls.count == 0;
        }
        return check_segments(request, error);
    case WIRE_METHOD_REPLAY:
        return check_replay(request, error);
    default:
        return STATUS_OK;
    }
}
