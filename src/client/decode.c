/* Bytes to results: envelopes, payloads, and what both must agree on. */
#include "client/decode.h"

#include "client/fields.h"

#include <assert.h>

enum {
    MESSAGE_RESPONSE = 1,
};

/* Takes the next item, which must be a map, as raw bytes, and leaves the reader behind it. */
static bool take_map(struct wire_cursor *cursor, struct rethread_bytes *map)
{
    const uint8_t *start = cursor->at;
    struct wire_cursor probe = *cursor;
    uint32_t pairs;
    if (!client_take_map(&probe, &pairs) || !wire_skip(cursor))
        return false;
    *map = (struct rethread_bytes){start, (size_t)(cursor->at - start)};
    return true;
}

static bool read_payloads(struct client_decoder *decoder, size_t count)
{
    struct rethread_result *result = decoder->result;
    if (count > wire_left(&decoder->cursor))
        return false;
    result->payloads = client_decoder_alloc(decoder, count, sizeof *result->payloads);
    if (result->payloads == NULL)
        return false;
    for (size_t i = 0; i < count; i++)
        if (!client_take_bytes(&decoder->cursor, &result->payloads[i]))
            return false;
    result->payload_count = count;
    return true;
}

/*
 * Gives each segment its payload. A replay in which the two do not match to the byte, or that calls
 * itself complete with a step missing, is refused: better none than a wrong one.
 */
static bool join_payloads(struct rethread_result *result)
{
    const struct rethread_replay_result *replay = &result->of.replay;
    size_t next = 0;
    for (size_t i = 0; i < replay->step_count; i++) {
        const struct rethread_step *step = &replay->steps[i];
        if (step->missing != RETHREAD_REASON_NONE && replay->status == RETHREAD_COMPLETE)
            return false;
        /* The array was made here; only the caller sees it as constant. */
        struct rethread_segment *segments =
            (struct rethread_segment *)(uintptr_t)step->segments.items;
        for (size_t j = 0; j < step->segments.count; j++, next++) {
            if (next == result->payload_count ||
                result->payloads[next].size != segments[j].bytes.size)
                return false;
            segments[j].bytes = result->payloads[next];
        }
    }
    return next == result->payload_count;
}

/* ---- Responses --------------------------------------------------------------------------------*/

/* [1, msgid or nil, … up to the error. */
static bool read_envelope(struct wire_cursor *cursor, struct client_envelope *envelope)
{
    uint32_t count;
    uint64_t number;
    if (!client_take_array(cursor, &count) || count != 4 || !client_take_u64(cursor, &number) ||
        number != MESSAGE_RESPONSE)
        return false;
    envelope->has_msgid = !client_take_nil(cursor);
    if (!envelope->has_msgid)
        return true;
    if (!client_take_u64(cursor, &number) || number > UINT32_MAX)
        return false;
    envelope->msgid = (uint32_t)number;
    return true;
}

bool client_decode_envelope(struct rethread_bytes body, struct client_envelope *envelope)
{
    struct wire_cursor cursor = client_cursor_on(body);
    return wire_walk(bytes_of(body.data, body.size)) && read_envelope(&cursor, envelope);
}

static bool read_success(struct client_decoder *decoder)
{
    struct rethread_result *result = decoder->result;
    uint32_t count;
    if (!client_take_array(&decoder->cursor, &count) || count == 0 ||
        !take_map(&decoder->cursor, &result->map) || !read_payloads(decoder, count - 1))
        return false;
    decoder->cursor = client_cursor_on(result->map);
    if (!client_read_result(decoder))
        return false;
    return result->method != RETHREAD_METHOD_REPLAY || join_payloads(result);
}

static bool read_response(struct client_decoder *decoder)
{
    struct rethread_result *result = decoder->result;
    struct client_envelope envelope;
    if (!read_envelope(&decoder->cursor, &envelope))
        return false;
    if (client_take_nil(&decoder->cursor))
        return envelope.has_msgid && read_success(decoder);
    if (!take_map(&decoder->cursor, &result->map) || !client_take_nil(&decoder->cursor))
        return false;
    decoder->cursor = client_cursor_on(result->map);
    return client_read_error(decoder);
}

enum rethread_status client_decode(struct rethread_bytes body, enum rethread_method method,
                                   struct rethread_result **result)
{
    struct client_decoder decoder = {
        .cursor = client_cursor_on(body),
        .result = client_result_new(body),
    };
    *result = NULL;
    if (decoder.result == NULL)
        return RETHREAD_NO_MEMORY;
    decoder.result->method = method;
    if (!read_response(&decoder)) {
        rethread_result_free(decoder.result);
        return decoder.no_memory ? RETHREAD_NO_MEMORY : RETHREAD_PROTOCOL_VIOLATION;
    }
    *result = decoder.result;
    return RETHREAD_OK;
}
