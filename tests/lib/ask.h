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

struct ask {
    struct wire_request request;
    size_t calls_bytes;
    size_t kinds_bytes;
    uint8_t calls[WIRE_TOOL_CALLS_MAX * (2 + WIRE_ID_BYTES_MAX)];
    uint8_t kinds[WIRE_PAYLOADS_MAX * 8];
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

static inline void ask_payload(struct ask *ask, struct bytes payload)
{
    struct wire_request *request = &ask->request;
    assert(request->payload_count < WIRE_PAYLOADS_MAX && payload.size > 0);
    request->payloads[request->payload_count++] = payload;
    request->payload_bytes += payload.size;
}

#endif
