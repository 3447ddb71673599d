/*
 * One request, as the wire contract defines it, after parsing: plain data.
 *
 * Every option of schema/options.def is a field of the same name; `given` tells which ones came.
 * All bytes are borrowed from the frame and live as long as it. Lists stay MessagePack, already
 * validated, and are walked with wire_list_next.
 */
#ifndef RETHREAD_WIRE_REQUEST_H
#define RETHREAD_WIRE_REQUEST_H

#include "base/bytes.h"
#include "base/status.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    WIRE_HEADER_BYTES = 5,
    WIRE_HEADER_MARK = 0xCE,
    WIRE_DEPTH_MAX = 8,
    WIRE_PAYLOADS_MAX = 64,
    WIRE_PREFIX_BYTES = 16,
    WIRE_ID_BYTES_MAX = 255,
    WIRE_TOOL_CALLS_MAX = 128,
    WIRE_KEPT_MAX = 65536, /* steps in wire_have.kept */
};

enum wire_method {
#define METHOD(name, text, summary) WIRE_METHOD_##name,
#include "schema/methods.def"
#undef METHOD
    WIRE_METHOD_COUNT
};

enum wire_kind { WIRE_KIND_TEXT, WIRE_KIND_TOKENS, WIRE_KIND_OPAQUE, WIRE_KIND_COUNT };
enum wire_ack { WIRE_ACK_MEMORY, WIRE_ACK_DISK };

/* The policies of schema/policies.def; AUTO stands for the one in the model's profile. */
enum wire_policy {
#define POLICY(name, text, summary) WIRE_POLICY_##name,
#include "schema/policies.def"
#undef POLICY
    WIRE_POLICY_AUTO,
    WIRE_POLICY_COUNT
};

enum wire_mismatch { WIRE_MISMATCH_DROP, WIRE_MISMATCH_FAIL };

/*
 * An array of ids, kinds, step numbers or [step, prefix] pairs: `encoded` are its items, without
 * the array's own header.
 */
struct wire_list {
    struct bytes encoded;
    uint32_t count;
};

struct wire_have {
    uint64_t version;
    int64_t step;
    bool has_kept;
    struct wire_list kept; /* numbers of steps, strictly ascending, none beyond `step` */
};

/* Bits of wire_request.given, one for each distinct option name. */
enum wire_field {
    WIRE_FIELD_protocol,
    WIRE_FIELD_client,
    WIRE_FIELD_token,
    WIRE_FIELD_thread,
    WIRE_FIELD_expect,
    WIRE_FIELD_key,
    WIRE_FIELD_response_id,
    WIRE_FIELD_tool_calls,
    WIRE_FIELD_model,
    WIRE_FIELD_turn,
    WIRE_FIELD_final,
    WIRE_FIELD_tokens,
    WIRE_FIELD_prefix,
    WIRE_FIELD_visible,
    WIRE_FIELD_ttl_ms,
    WIRE_FIELD_retention_ms,
    WIRE_FIELD_segments,
    WIRE_FIELD_ack,
    WIRE_FIELD_tool_call,
    WIRE_FIELD_policy,
    WIRE_FIELD_turns,
    WIRE_FIELD_prefixes,
    WIRE_FIELD_on_mismatch,
    WIRE_FIELD_have,
    WIRE_FIELD_last,
    WIRE_FIELD_max_bytes,
    WIRE_FIELD_max_tokens,
    WIRE_FIELD_pin,
    WIRE_FIELD_touch,
    WIRE_FIELD_threads,
    WIRE_FIELD_from,
    WIRE_FIELD_at,
    WIRE_FIELD_to,
    WIRE_FIELD_starts_with,
    WIRE_FIELD_cursor,
    WIRE_FIELD_limit,
    WIRE_FIELD_segment,
    WIRE_FIELD_claim,
    WIRE_FIELD_COUNT
};

struct wire_request {
    uint32_t msgid;
    enum wire_method method;
    uint64_t given; /* 1 << WIRE_FIELD_name */

    struct bytes client, token, thread, key, response_id, model, prefix, visible, tool_call, from,
        starts_with, cursor;
    uint64_t protocol, expect, turn, turns, tokens, ttl_ms, retention_ms, last, max_bytes,
        max_tokens, at, limit, claim;
    int64_t to;
    struct wire_list tool_calls, segments, threads, prefixes;
    /* Of a replay: `prefix` as a list, newest first; `prefix` is its first. */
    struct wire_list prefix_list;
    bool prefix_is_list; /* it came as an array */
    struct wire_have have;
    enum wire_ack ack;
    enum wire_policy policy;
    enum wire_mismatch on_mismatch;
    enum wire_kind segment;
    bool final, touch, pin;

    /* A note of who executes it, for itself: the hash of one of the names in it. Parsing leaves
     * `hashed` empty. */
    struct bytes hashed;
    uint8_t hashed_kind;
    uint64_t hash_low, hash_high;
    /* And what was seen under it in that turn, maybe; 0: nobody looked. */
    uint64_t looked_turn;
    const void *likely;

    unsigned payload_count;
    uint64_t payload_bytes; /* sum of the sizes */
    struct bytes payloads[WIRE_PAYLOADS_MAX];
};

static inline bool wire_given(const struct wire_request *request, enum wire_field field)
{
    return (request->given >> field & 1) != 0;
}

/* What a bad request is answered with; all text is static but for the names, cut and cleaned. */
struct wire_error {
    enum status status;
    char option[64];   /* "" when no option is to blame */
    char message[192]; /* one sentence: what is wrong and what to do */
    /* Extras of single codes; -1 and REASON_NONE and "" mean absent. */
    int64_t version;
    const char *cause;
    enum reason reason;
};

/* Fills in `error` (message is printf-like, never given client bytes) and returns `status`. */
__attribute__((format(printf, 4, 5))) enum status wire_fail(struct wire_error *error,
                                                            enum status status, const char *option,
                                                            const char *format, ...);

#endif
