/*
 * Requests without the wire: what wire_parse would make of one, built by hand.
 *
 * A struct ask points into itself: it stays where it is. Ids and payloads are borrowed. Header
 * only.
 */
#ifndef RETHREAD_TESTS_LIB_ASK_H
#define RETHREAD_TESTS_LIB_ASK_H

#include "wire/parse.h"

#include <assert.h>

enum { ASK_LIST_MAX = 512 }; /* items of the lists of a replay */

struct ask {
    struct wire_request request;
    size_t calls_bytes;
    size_t kinds_bytes;
    size_t kept_bytes;
    size_t pairs_bytes;
    size_t prefixes_bytes;
    uint8_t calls[WIRE_TOOL_CALLS_MAX * (2 + WIRE_ID_BYTES_MAX)];
    uint8_t kinds[WIRE_PAYLOADS_MAX * 8];
    uint8_t kept[ASK_LIST_MAX * 5];
    uint8_t pairs[ASK_LIST_MAX * (6 + 2 + WIRE_PREFIX_BYTES)];
    uint8_t prefixes[ASK_LIST_MAX * (2 + WIRE_PREFIX_BYTES)];
};

/* ask_set(&ask, turn, 3): the option is given. */
#define ask_set(ask, field, value)                                                                 \
    ((ask)->request.field = (value), ask_mark((ask), WIRE_FIELD_##field))

static inline void ask_mark(struct ask *ask, enum wire_field field)
{
    ask->request.given |= UINT64_C(1) << field;
}

static inline void ask_begin(struct ask *ask, enum wire_method method, struct bytes thread)
{
    ask->request = (struct wire_request){.method = method};
    ask->calls_bytes = ask->kinds_bytes = 0;
    ask->kept_bytes = ask->pairs_bytes = ask->prefixes_bytes = 0;
    if (thread.size > 0) {
        ask_set(ask, thread, thread);
    }
}

static inline void ask_call(struct ask *ask, struct bytes id)
{
    assert(id.size >= 1 && id.size <= WIRE_ID_BYTES_MAX);
    uint8_t *at = ask->calls + ask->calls_bytes;
    at[0] = 0xC4; /* bin 8 */
    at[1] = (uint8_t)id.size;
    memcpy(at + 2, id.data, id.size);
    ask->calls_bytes += 2 + id.size;
    uint32_t count = ask->request.tool_calls.count + 1;
    struct wire_list list = {.encoded = bytes_of(ask->calls, ask->calls_bytes), .count = count};
    ask_set(ask, tool_calls, list);
}

static inline void ask_kind(struct ask *ask, enum wire_kind kind)
{
    const char *name = wire_kind_name(kind);
    uint8_t *at = ask->kinds + ask->kinds_bytes;
    at[0] = (uint8_t)(0xA0 | strlen(name)); /* fixstr */
    memcpy(at + 1, name, strlen(name));
    ask->kinds_bytes += 1 + strlen(name);
    uint32_t count = ask->request.segments.count + 1;
    struct wire_list list = {.encoded = bytes_of(ask->kinds, ask->kinds_bytes), .count = count};
    ask_set(ask, segments, list);
}

static inline uint8_t *ask_put_step(uint8_t *at, uint32_t step)
{
    at[0] = 0xCE; /* uint 32 */
    for (int i = 0; i < 4; i++) {
        at[1 + i] = (uint8_t)(step >> (24 - 8 * i));
    }
    return at + 5;
}

static inline uint8_t *ask_put_prefix(uint8_t *at, struct bytes prefix)
{
    assert(prefix.size == WIRE_PREFIX_BYTES);
    at[0] = 0xC4; /* bin 8 */
    at[1] = WIRE_PREFIX_BYTES;
    memcpy(at + 2, prefix.data, prefix.size);
    return at + 2 + prefix.size;
}

/* One more of have.kept, ascending; `have` is set before. */
static inline void ask_kept(struct ask *ask, uint32_t step)
{
    struct wire_have *have = &ask->request.have;
    assert(have->kept.count < ASK_LIST_MAX && (int64_t)step <= have->step);
    uint8_t *end = ask_put_step(ask->kept + ask->kept_bytes, step);
    ask->kept_bytes = (size_t)(end - ask->kept);
    have->has_kept = true;
    have->kept.encoded = bytes_of(ask->kept, ask->kept_bytes);
    have->kept.count++;
}

/* One more of `prefixes`. */
static inline void ask_binding(struct ask *ask, uint32_t step, struct bytes prefix)
{
    uint32_t count = ask->request.prefixes.count + 1;
    assert(count <= ASK_LIST_MAX);
    uint8_t *at = ask->pairs + ask->pairs_bytes;
    *at++ = 0x92; /* an array of two */
    at = ask_put_prefix(ask_put_step(at, step), prefix);
    ask->pairs_bytes = (size_t)(at - ask->pairs);
    struct wire_list list = {.encoded = bytes_of(ask->pairs, ask->pairs_bytes), .count = count};
    ask_set(ask, prefixes, list);
}

/* One more of a replay's list of prefixes, newest first. */
static inline void ask_prefix(struct ask *ask, struct bytes prefix)
{
    struct wire_request *request = &ask->request;
    uint32_t count = request->prefix_list.count + 1;
    assert(count <= ASK_LIST_MAX);
    uint8_t *end = ask_put_prefix(ask->prefixes + ask->prefixes_bytes, prefix);
    ask->prefixes_bytes = (size_t)(end - ask->prefixes);
    if (count == 1) {
        ask_set(ask, prefix, bytes_of(ask->prefixes + 2, WIRE_PREFIX_BYTES));
    }
    request->prefix_is_list = true;
    request->prefix_list = (struct wire_list){bytes_of(ask->prefixes, ask->prefixes_bytes), count};
}

static inline void ask_payload(struct ask *ask, struct bytes payload)
{
    struct wire_request *request = &ask->request;
    assert(request->payload_count < WIRE_PAYLOADS_MAX && payload.size > 0);
    request->payloads[request->payload_count++] = payload;
    request->payload_bytes += payload.size;
}

#endif
