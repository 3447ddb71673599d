/* Frames, envelopes, payloads, rules across options; and bad input that must never be read past. */
#include "tests/lib/edge.h"
#include "tests/lib/notation.h"
#include "tests/lib/trial.h"
#include "tests/wire/golden.h"
#include "wire/parse.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static struct edge edge;
static struct wire_request request;
static struct wire_error error;
static bool has_msgid;

static void map_edge(void)
{
    edge = edge_map(1 << 17);
}

static void unmap_edge(void)
{
    edge_unmap(&edge);
}

static bool contains(struct bytes outer, struct bytes inner)
{
    return inner.size == 0 ||
           (inner.data >= outer.data && inner.data + inner.size <= outer.data + outer.size);
}

/* An assertion that costs nothing while it holds: Check's own write to a pipe each time. */
#define HOLDS(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ck_abort_msg("does not hold: %s", #condition);                                         \
        }                                                                                          \
    } while (0)

/* What the lists of a replay hold is in the frame and in range. */
static void walk_lists(struct bytes body)
{
    struct bytes prefix;
    uint64_t step;
    HOLDS(contains(body, request.prefix_list.encoded));
    HOLDS(contains(body, request.prefixes.encoded));
    HOLDS(contains(body, request.have.kept.encoded));
    uint32_t left = request.prefix_list.count;
    for (struct wire_list list = request.prefix_list; wire_list_next(&list, &prefix); left--) {
        HOLDS(contains(body, prefix) && prefix.size == WIRE_PREFIX_BYTES);
    }
    HOLDS(left == 0);
    left = request.prefixes.count;
    for (struct wire_list list = request.prefixes; wire_pair_next(&list, &step, &prefix); left--) {
        HOLDS(contains(body, prefix) && prefix.size == WIRE_PREFIX_BYTES && step <= INT64_MAX);
    }
    HOLDS(left == 0);
    uint64_t least = 0;
    left = request.have.kept.count;
    for (struct wire_list list = request.have.kept; wire_step_next(&list, &step); left--) {
        HOLDS(step >= least && (int64_t)step <= request.have.step);
        least = step + 1;
    }
    HOLDS(left == 0);
    HOLDS(wire_given(&request, WIRE_FIELD_turns) == (request.policy == WIRE_POLICY_LAST_TURNS));
}

/* Parses at the edge, and checks what holds of every outcome. */
static enum status parse_bytes(struct bytes bytes)
{
    struct bytes body = edge_put(&edge, bytes);
    memset(&request, 0xA5, sizeof request);
    memset(&error, 0xA5, sizeof error);
    enum status status = wire_parse(body, &request, &has_msgid, &error);
    if (status == STATUS_OK) {
        HOLDS(has_msgid);
        HOLDS(request.method < WIRE_METHOD_COUNT);
        HOLDS(request.payload_count <= WIRE_PAYLOADS_MAX);
        uint64_t total = 0;
        for (unsigned i = 0; i < request.payload_count; i++) {
            HOLDS(contains(body, request.payloads[i]) && request.payloads[i].size > 0);
            total += request.payloads[i].size;
        }
        HOLDS(total == request.payload_bytes);
        HOLDS(contains(body, request.thread) && contains(body, request.cursor));
        HOLDS(contains(body, request.tool_calls.encoded));
        HOLDS(contains(body, request.threads.encoded));
        struct wire_list list = request.tool_calls;
        struct bytes id;
        while (wire_list_next(&list, &id)) {
            HOLDS(contains(body, id) && id.size >= 1 && id.size <= WIRE_ID_BYTES_MAX);
        }
        walk_lists(body);
    } else {
        HOLDS(status == error.status);
        HOLDS(status == STATUS_BAD_REQUEST || status == STATUS_UNKNOWN_METHOD);
        HOLDS(strnlen(error.option, sizeof error.option) < sizeof error.option);
        HOLDS(strnlen(error.message, sizeof error.message) > 0);
        HOLDS(strnlen(error.message, sizeof error.message) < sizeof error.message);
        for (const char *c = error.option; *c != '\0'; c++) {
            HOLDS(*c >= 0x20 && *c <= 0x7E);
        }
    }
    return status;
}

static enum status parse(const char *text)
{
    struct bytes bytes = notation_encode(text);
    enum status status = parse_bytes(bytes);
    free((void *)bytes.data);
    return status;
}

/* ---- Frames ---- */

START_TEST(frames)
{
    static const uint8_t input[] = {0xCE, 0, 0, 0, 2, 0x90, 0xC0, 0xCE, 0, 0, 0, 0};
    struct bytes body;
    uint64_t need;
    for (size_t size = 0; size <= sizeof input; size++) {
        struct bytes given = edge_put(&edge, bytes_of(input, size));
        enum wire_frame frame = wire_frame_next(given, 65536, &body, &need);
        ck_assert_uint_eq(frame, size < 7 ? WIRE_FRAME_PARTIAL : WIRE_FRAME_WHOLE);
        ck_assert_uint_eq(need, size < 5 ? 0 : 7);
        if (frame == WIRE_FRAME_WHOLE) {
            ck_assert_ptr_eq(body.data, given.data + 5);
            ck_assert_uint_eq(body.size, 2);
        }
    }
    ck_assert_uint_eq(wire_frame_next(bytes_of(input + 7, 5), 65536, &body, &need),
                      WIRE_FRAME_WHOLE);
    ck_assert_uint_eq(body.size, 0);
}
END_TEST

START_TEST(frames_that_are_refused)
{
    struct bytes body;
    uint64_t need;
    for (unsigned mark = 0; mark < 256; mark++) {
        uint8_t byte = (uint8_t)mark;
        enum wire_frame frame = wire_frame_next(bytes_of(&byte, 1), 65536, &body, &need);
        ck_assert_uint_eq(frame, mark == 0xCE ? WIRE_FRAME_PARTIAL : WIRE_FRAME_BROKEN);
    }
    static const uint8_t limit[] = {0xCE, 0, 1, 0, 0};
    static const uint8_t beyond[] = {0xCE, 0, 1, 0, 1};
    static const uint8_t huge[] = {0xCE, 0xFF, 0xFF, 0xFF, 0xFF};
    ck_assert_uint_eq(wire_frame_next(bytes_of(limit, 5), 65536, &body, &need), WIRE_FRAME_PARTIAL);
    ck_assert_uint_eq(wire_frame_next(bytes_of(beyond, 5), 65536, &body, &need),
                      WIRE_FRAME_TOO_LARGE);
    ck_assert_uint_eq(wire_frame_next(bytes_of(huge, 5), 65536, &body, &need),
                      WIRE_FRAME_TOO_LARGE);
    ck_assert_uint_eq(wire_frame_next(bytes_of(huge, 5), UINT32_MAX, &body, &need),
                      WIRE_FRAME_PARTIAL);
    ck_assert_uint_eq(need, UINT64_C(0xFFFFFFFF) + 5);
}
END_TEST

/* ---- Requests ---- */

START_TEST(golden_requests)
{
    ck_assert_msg(parse(golden[_i]) == STATUS_OK, "%s: %s", golden[_i], error.message);
}
END_TEST

#define SAME(field, text) ck_assert(bytes_equal(request.field, bytes_text(text)))

/* The fields point into the parsed bytes, so these are looked at while they are there. */
START_TEST(an_append_with_everything)
{
    ck_assert_uint_eq(parse(golden[3]), STATUS_OK);
    ck_assert_uint_eq(request.msgid, UINT32_MAX);
    ck_assert_uint_eq(request.method, WIRE_METHOD_APPEND);
    SAME(thread, "conv\xff"
                 "1");
    SAME(key, "k-1");
    SAME(response_id, "resp_1");
    SAME(model, "m");
    SAME(prefix, "xxxxxxxxxxxxxxxx");
    ck_assert_uint_eq(request.expect, 70000);
    ck_assert_uint_eq(request.turn, 3);
    ck_assert_uint_eq(request.tokens, 200);
    ck_assert_uint_eq(request.ttl_ms, 300000);
    ck_assert(wire_given(&request, WIRE_FIELD_retention_ms) && request.retention_ms == 0);
    ck_assert(wire_given(&request, WIRE_FIELD_final) && !request.final);
    ck_assert_uint_eq(request.ack, WIRE_ACK_MEMORY);
    struct bytes id;
    struct wire_list calls = request.tool_calls;
    ck_assert(wire_list_next(&calls, &id) && bytes_equal(id, bytes_text("call_1")));
    ck_assert(wire_list_next(&calls, &id) && bytes_equal(id, bytes_text("call_2")));
    ck_assert(!wire_list_next(&calls, &id));
    struct wire_list kinds = request.segments;
    for (unsigned k = 0; k < WIRE_KIND_COUNT; k++) {
        enum wire_kind kind;
        ck_assert(wire_kind_next(&kinds, &kind));
        ck_assert_uint_eq(kind, k);
    }
    ck_assert_uint_eq(request.payload_count, 3);
    ck_assert_uint_eq(request.payloads[0].size, 300);
    SAME(payloads[2], "\xff");
}
END_TEST

START_TEST(a_replay_with_everything)
{
    ck_assert_uint_eq(parse(golden[5]), STATUS_OK);
    SAME(thread, "conv-1");
    SAME(model, "m");
    ck_assert_uint_eq(request.have.version, 2);
    ck_assert_int_eq(request.have.step, -1);
    ck_assert_uint_eq(request.last, 4);
    ck_assert_uint_eq(request.max_bytes, 9000000000);
    ck_assert_uint_eq(request.policy, WIRE_POLICY_ALL);
    ck_assert(!request.touch);
    ck_assert_uint_eq(parse(golden[6]), STATUS_OK);
    SAME(response_id, "resp_1");
    ck_assert_uint_eq(request.policy, WIRE_POLICY_NONE);
    ck_assert(request.touch); /* the default */
}
END_TEST

START_TEST(a_replay_with_all_that_binds_it)
{
    ck_assert_uint_eq(parse(golden[16]), STATUS_OK);
    ck_assert_uint_eq(request.policy, WIRE_POLICY_LAST_TURNS);
    ck_assert_uint_eq(request.turns, 2);
    ck_assert_uint_eq(request.turn, 3);
    ck_assert(request.prefix_is_list);
    SAME(prefix, "0123456789abcdef");
    ck_assert_uint_eq(request.prefix_list.count, 2);
    ck_assert_uint_eq(request.prefixes.count, 2);
    ck_assert_uint_eq(request.on_mismatch, WIRE_MISMATCH_FAIL);
    ck_assert_uint_eq(request.have.kept.count, 2);
    ck_assert_uint_eq(request.max_tokens, 300);
    ck_assert(request.pin && request.touch);
}
END_TEST

START_TEST(a_streamed_append)
{
    ck_assert_uint_eq(parse(golden[17]), STATUS_OK);
    ck_assert_uint_eq(request.method, WIRE_METHOD_BEGIN);
    ck_assert_uint_eq(request.segment, WIRE_KIND_OPAQUE);
    ck_assert_uint_eq(parse(golden[18]), STATUS_OK);
    ck_assert_uint_eq(request.method, WIRE_METHOD_CHUNK);
    ck_assert_uint_eq(request.claim, INT64_MAX);
    ck_assert_uint_eq(request.payload_count, 2);
    ck_assert_uint_eq(request.payload_bytes, 12);
    SAME(payloads[1], " think");
    ck_assert_uint_eq(parse(golden[19]), STATUS_OK);
    ck_assert_uint_eq(request.method, WIRE_METHOD_COMMIT);
    ck_assert_uint_eq(request.claim, 1);
    ck_assert(wire_given(&request, WIRE_FIELD_expect) && request.expect == 0);
    ck_assert_uint_eq(request.ack, WIRE_ACK_DISK);
    SAME(visible, "xxxxxxxxxxxxxxxx");
    SAME(payloads[0], "signed");
    ck_assert(!request.final); /* there are tool calls */
    ck_assert_uint_eq(parse(golden[20]), STATUS_OK);
    ck_assert_uint_eq(request.method, WIRE_METHOD_ABORT);
    /* A chunk may be empty, a sign of life; a commit brings nothing, or nothing but a bare step. */
    ck_assert_uint_eq(parse("[0, 1, 'chunk', [{'thread': 't', 'claim': 1}]]"), STATUS_OK);
    ck_assert_uint_eq(parse("[0, 1, 'commit', [{'thread': 't', 'claim': 1}]]"), STATUS_OK);
    ck_assert(request.final && !wire_given(&request, WIRE_FIELD_segments));
    ck_assert_uint_eq(parse("[0, 1, 'commit', [{'thread': 't', 'claim': 1, 'segments': []}]]"),
                      STATUS_OK);
    ck_assert_uint_eq(
        parse("[0, 1, 'commit', [{'thread': 't', 'claim': 1, 'segments': ['tokens']}, b(8)]]"),
        STATUS_OK);
}
END_TEST

START_TEST(other_methods_values)
{
    ck_assert_uint_eq(parse("[0, 1, 'rewind', [{'thread': 't', 'to': -1}]]"), STATUS_OK);
    ck_assert_int_eq(request.to, -1);
    ck_assert_uint_eq(parse("[0, 1, 'rewind', [{'to': 4294967295, 'thread': 't'}]]"), STATUS_OK);
    ck_assert_int_eq(request.to, 4294967295);
    ck_assert_uint_eq(parse("[0, 1, 'fork', [{'from': 'o', 'thread': 't', 'at': 0}]]"), STATUS_OK);
    SAME(thread, "t");
    SAME(from, "o");
    ck_assert(wire_given(&request, WIRE_FIELD_at) && request.at == 0);
    ck_assert_uint_eq(parse("[0, 1, 'list', [{'starts_with': 'ab', 'cursor': b'c'}]]"), STATUS_OK);
    SAME(starts_with, "ab");
    SAME(cursor, "c");
    ck_assert(!wire_given(&request, WIRE_FIELD_limit));
}
END_TEST

START_TEST(final_follows_the_tool_calls)
{
    ck_assert_uint_eq(parse("[0, 1, 'append', [{'thread': 't'}, b'x']]"), STATUS_OK);
    ck_assert(request.final);
    ck_assert_uint_eq(parse("[0, 1, 'append', [{'thread': 't', 'tool_calls': []}, b'x']]"),
                      STATUS_OK);
    ck_assert(request.final);
    ck_assert_uint_eq(parse("[0, 1, 'append', [{'thread': 't', 'tool_calls': ['c']}, b'x']]"),
                      STATUS_OK);
    ck_assert(!request.final);
}
END_TEST

static const struct bad {
    const char *text;
    enum status status;
    bool has_msgid;
    const char *option;
} bad[] = {
    /* Envelopes. */
    {"nil", STATUS_BAD_REQUEST, false, ""},
    {"{0: 1}", STATUS_BAD_REQUEST, false, ""},
    {"[]", STATUS_BAD_REQUEST, false, ""},
    {"[0]", STATUS_BAD_REQUEST, false, ""},
    {"[0, 7]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping']", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping', [{}], 1]", STATUS_BAD_REQUEST, true, ""},
    {"[1, 7, nil, [{}]]", STATUS_BAD_REQUEST, true, ""},
    {"[2, 'ping', [{}]]", STATUS_BAD_REQUEST, false, ""},
    {"['0', 7, 'ping', [{}]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, -1, 'ping', [{}]]", STATUS_BAD_REQUEST, false, ""},
    {"[0, 4294967296, 'ping', [{}]]", STATUS_BAD_REQUEST, false, ""},
    {"[0, nil, 'ping', [{}]]", STATUS_BAD_REQUEST, false, ""},
    {"[0, '7', 'ping', [{}]]", STATUS_BAD_REQUEST, false, ""},
    {"[0, 7, 1, [{}]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, b'ping', [{}]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping', {}]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping', []]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping', [[]]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'ping', [nil]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, '', [{}]]", STATUS_UNKNOWN_METHOD, true, ""},
    {"[0, 7, 'pings', [{}]]", STATUS_UNKNOWN_METHOD, true, ""},
    {"[0, 7, 'PING', [{}]]", STATUS_UNKNOWN_METHOD, true, ""},
    {"[0, 7, 'ping\\x00', [{}]]", STATUS_UNKNOWN_METHOD, true, ""},
    /* Payloads. */
    {"[0, 7, 'ping', [{}, b'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'replay', [{'thread': 't'}, b'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}, 'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}, b'']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}, b'x', b'']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}, nil]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}, [b'x']]]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'append', [{'thread': 't'}]]", STATUS_BAD_REQUEST, true, "segments"},
    {"[0, 7, 'append', [{'thread': 't', 'segments': []}, b'x']]", STATUS_BAD_REQUEST, true,
     "segments"},
    {"[0, 7, 'append', [{'thread': 't', 'segments': ['text']}]]", STATUS_BAD_REQUEST, true,
     "segments"},
    {"[0, 7, 'append', [{'thread': 't', 'segments': ['text', 'tokens']}, b'abcd', b'abc']]",
     STATUS_BAD_REQUEST, true, "segments"},
    {"[0, 7, 'append', [{'thread': 't', 'ack': 'tape'}, b'x']]", STATUS_BAD_REQUEST, true, "ack"},
    {"[0, 7, 'begin', [{'thread': 't'}, b'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'abort', [{'thread': 't', 'claim': 1}, b'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'chunk', [{'thread': 't', 'claim': 1}, 'x']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'chunk', [{'thread': 't', 'claim': 1}, b'x', b'']]", STATUS_BAD_REQUEST, true, ""},
    {"[0, 7, 'chunk', [{'thread': 't'}, b'x']]", STATUS_BAD_REQUEST, true, "claim"},
    {"[0, 7, 'chunk', [{'thread': 't', 'claim': 0}, b'x']]", STATUS_BAD_REQUEST, true, "claim"},
    {"[0, 7, 'commit', [{'thread': 't', 'claim': 1, 'segments': []}, b'x']]", STATUS_BAD_REQUEST,
     true, "segments"},
    {"[0, 7, 'commit', [{'thread': 't', 'claim': 1, 'segments': ['text']}]]", STATUS_BAD_REQUEST,
     true, "segments"},
    {"[0, 7, 'commit', [{'thread': 't', 'claim': 1, 'segments': ['tokens']}, b'abc']]",
     STATUS_BAD_REQUEST, true, "segments"},
    {"[0, 7, 'commit', [{'claim': 1}]]", STATUS_BAD_REQUEST, true, "thread"},
    /* Policies. */
    {"[0, 7, 'replay', [{'thread': 't', 'turns': 1}]]", STATUS_BAD_REQUEST, true, "turns"},
    {"[0, 7, 'replay', [{'thread': 't', 'policy': 'last_turns'}]]", STATUS_BAD_REQUEST, true,
     "turns"},
    {"[0, 7, 'replay', [{'thread': 't', 'policy': 'auto', 'turns': 1}]]", STATUS_BAD_REQUEST, true,
     "turns"},
    /* Step keys. */
    {"[0, 7, 'replay', [{'prefix': [b(16)], 'tool_call': 'c'}]]", STATUS_BAD_REQUEST, true,
     "prefix"},
    {"[0, 7, 'replay', [{}]]", STATUS_BAD_REQUEST, true, "thread"},
    {"[0, 7, 'replay', [{'response_id': 'r', 'tool_call': 'c'}]]", STATUS_BAD_REQUEST, true,
     "tool_call"},
    {"[0, 7, 'replay', [{'thread': 't', 'tool_call': 'c', 'prefix': b(16)}]]", STATUS_BAD_REQUEST,
     true, "prefix"},
};

START_TEST(bad_requests)
{
    const struct bad *row = &bad[_i];
    ck_assert_msg(parse(row->text) == row->status, "%s", row->text);
    ck_assert_msg(has_msgid == row->has_msgid, "%s", row->text);
    ck_assert_str_eq(error.option, row->option);
    if (has_msgid) {
        ck_assert_uint_eq(request.msgid, 7);
    }
}
END_TEST

START_TEST(up_to_64_payloads)
{
    for (unsigned count = 63; count <= 66; count++) {
        char *text = NULL;
        size_t size = 0;
        FILE *out = open_memstream(&text, &size);
        fputs("[0, 7, 'append', [{'thread': 't'}", out);
        for (unsigned i = 0; i < count; i++) {
            fputs(", b'x'", out);
        }
        fputs("]]", out);
        fclose(out);
        ck_assert_uint_eq(parse(text), count <= 64 ? STATUS_OK : STATUS_BAD_REQUEST);
        free(text);
    }
}
END_TEST

START_TEST(token_payloads_of_whole_tokens)
{
    for (unsigned size = 1; size <= 12; size++) {
        char text[128];
        snprintf(
            text, sizeof text,
            "[0, 7, 'append', [{'thread': 't', 'segments': ['text', 'tokens']}, b'abc', b(%u)]]",
            size);
        ck_assert_uint_eq(parse(text), size % 4 == 0 ? STATUS_OK : STATUS_BAD_REQUEST);
    }
}
END_TEST

/* ---- Bad input ---- */

START_TEST(every_truncation)
{
    struct bytes bytes = notation_encode(golden[_i]);
    for (size_t size = 0; size < bytes.size; size++) {
        HOLDS(parse_bytes(bytes_of(bytes.data, size)) != STATUS_OK);
    }
    free((void *)bytes.data);
}
END_TEST

START_TEST(trailing_bytes)
{
    struct bytes bytes = notation_encode(golden[_i]);
    uint8_t *longer = malloc(bytes.size + 1);
    memcpy(longer, bytes.data, bytes.size);
    longer[bytes.size] = 0xC0;
    ck_assert_uint_eq(parse_bytes(bytes_of(longer, bytes.size + 1)), STATUS_BAD_REQUEST);
    free(longer);
    free((void *)bytes.data);
}
END_TEST

/* Every byte, to every other value. */
START_TEST(every_corruption_of_a_byte)
{
    struct bytes bytes = notation_encode(golden[_i]);
    uint8_t *copy = malloc(bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    for (size_t at = 0; at < bytes.size; at++) {
        for (unsigned value = 0; value < 256; value++) {
            copy[at] = (uint8_t)value;
            parse_bytes(bytes_of(copy, bytes.size));
        }
        copy[at] = bytes.data[at];
    }
    free(copy);
    free((void *)bytes.data);
}
END_TEST

static const struct {
    const char *bytes;
    size_t size;
} bombs[] = {
#define BOMB(text)                                                                                 \
    {                                                                                              \
        text, sizeof text - 1                                                                      \
    }
    BOMB(""),
    BOMB("\xdd\xff\xff\xff\xff"),
    BOMB("\xdc\xff\xff"),
    BOMB("\xdf\xff\xff\xff\xff"),
    BOMB("\xc6\xff\xff\xff\xff"),
    BOMB("\xdb\xff\xff\xff\xff"),
    BOMB("\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"),
    BOMB("\x94\x00\x07\xa6"
         "append\xdd\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "append\x91\xdf\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "append\x91\x81\xaatool_calls\xdd\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "append\x91\x81\xa8segments\xdd\x00\x00\x00\x40"),
    BOMB("\x94\x00\x07\xa6"
         "append\x92\x81\xa6thread\xa1t\xc6\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "append\xdc\xff\xff\x81\xa6thread\xa1t\xc4\x01x"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa4have\x91\x91\x91\x91\x91\x91\x91\x91\x91"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa6prefix\xdd\x00\x00\x04\x00"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa6prefix\xdd\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa8prefixes\xdd\x00\x00\x40\x00\x92\x00"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa8prefixes\xdd\xff\xff\xff\xff\x92\x00\xdb\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa8prefixes\x91\xdd\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa4have\x83\xa4kept\xdd\xff\xff\xff\xff\x00\x01\x02"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa4have\xdf\xff\xff\xff\xff\xa4kept\x90"),
    BOMB("\x94\x00\x07\xa6"
         "replay\x91\x81\xa4have\x83\xa4kept\x91\x91\x91\x91\x91\x91\x91\x91\x91\x91"),
    BOMB("\x94\x00\x07\xa5"
         "chunk\xdd\xff\xff\xff\xff\x80\xc4\x01x"),
    BOMB("\x94\x00\x07\xdb\xff\xff\xff\xff"),
    BOMB("\x94\x00\x07\xa5"
         "touch\x91\x81\xa7threads\xdd\x00\x00\x10\x00\xa1t"),
};

START_TEST(bombs_do_nothing)
{
    ck_assert_uint_eq(parse_bytes(bytes_of(bombs[_i].bytes, bombs[_i].size)), STATUS_BAD_REQUEST);
}
END_TEST

/* Golden requests with some bytes changed, cut out or doubled. */
START_TEST(random_mutations)
{
    uint64_t seed = 3;
    uint8_t bytes[2048];
    for (uint64_t round = 0; round < trial_count(300); round++) {
        for (unsigned g = 0; g < GOLDEN_COUNT; g++) {
            struct bytes whole = notation_encode(golden[g]);
            size_t size = whole.size;
            for (unsigned variant = 0; variant < 20; variant++) {
                memcpy(bytes, whole.data, whole.size);
                size = whole.size;
                for (uint64_t change = 0; change <= trial_below(&seed, 4); change++) {
                    size_t at = trial_below(&seed, size);
                    size_t run = 1 + trial_below(&seed, size - at < 8 ? size - at : 8);
                    switch (trial_below(&seed, 3)) {
                    case 0:
                        bytes[at] = (uint8_t)trial_random(&seed);
                        break;
                    case 1:
                        memmove(bytes + at + run, bytes + at, size - at);
                        size += run;
                        break;
                    default:
                        run = run < size ? run : size - 1;
                        run = run < size - at ? run : size - at;
                        memmove(bytes + at, bytes + at + run, size - at - run);
                        size -= run;
                        break;
                    }
                    size = size > 0 ? size : 1;
                }
                parse_bytes(bytes_of(bytes, size));
            }
            free((void *)whole.data);
        }
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("parse");
    TCase *tcase = tcase_create("frames");
    tcase_add_checked_fixture(tcase, map_edge, unmap_edge);
    tcase_add_test(tcase, frames);
    tcase_add_test(tcase, frames_that_are_refused);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("requests");
    tcase_add_checked_fixture(tcase, map_edge, unmap_edge);
    tcase_add_loop_test(tcase, golden_requests, 0, GOLDEN_COUNT);
    tcase_add_test(tcase, an_append_with_everything);
    tcase_add_test(tcase, a_replay_with_everything);
    tcase_add_test(tcase, a_replay_with_all_that_binds_it);
    tcase_add_test(tcase, a_streamed_append);
    tcase_add_test(tcase, other_methods_values);
    tcase_add_test(tcase, final_follows_the_tool_calls);
    tcase_add_loop_test(tcase, bad_requests, 0, sizeof bad / sizeof bad[0]);
    tcase_add_test(tcase, up_to_64_payloads);
    tcase_add_test(tcase, token_payloads_of_whole_tokens);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("bad input");
    tcase_add_checked_fixture(tcase, map_edge, unmap_edge);
    tcase_add_loop_test(tcase, every_truncation, 0, GOLDEN_COUNT);
    tcase_add_loop_test(tcase, trailing_bytes, 0, GOLDEN_COUNT);
    tcase_add_loop_test(tcase, every_corruption_of_a_byte, 0, GOLDEN_COUNT);
    tcase_add_loop_test(tcase, bombs_do_nothing, 0, sizeof bombs / sizeof bombs[0]);
    tcase_add_test(tcase, random_mutations);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
