/* Frame bodies in, frames out, over the real domain on a driven clock; no sockets. */
#include "server/dispatch.h"
#include "tests/lib/examples.h"
#include "tests/lib/notation.h"
#include "tests/lib/reply.h"
#include "tests/lib/trial.h"
#include "tests/wire/golden.h"
#include "wire/cursor.h"
#include "wire/parse.h"

#include <check.h>
#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>

enum { TTL_MS = 300000, FRAME_MAX_BYTES = 64 << 20 };

static struct clock_driven driven;
static struct threads *threads;
static struct dispatch *dispatch;
static struct net_handler handler;
static struct net_reply reply;

static void gauges(void *context, uint64_t values[METRIC_COUNT])
{
    ck_assert_ptr_eq(context, &driven);
    values[METRIC_LOOPS] = 77;
}

static void open_with(uint64_t frame_max_bytes)
{
    clock_driven_init(&driven, 3600000);
    struct threads_settings settings = {
        .memory_bytes = 64 << 20,
        .ttl_ms = TTL_MS,
        .frame_max_bytes = frame_max_bytes,
        .tombstones = 1024,
        .lanes_max = 2,
        .clock = &driven.clock,
    };
    threads = threads_create(&settings);
    ck_assert_ptr_nonnull(threads);
    struct dispatch_settings mine = {
        .threads = threads,
        .shares = 1,
        .frame_max_bytes = frame_max_bytes,
        .gauges = gauges,
        .gauges_context = &driven,
    };
    dispatch = dispatch_create(&mine);
    ck_assert_ptr_nonnull(dispatch);
    handler = dispatch_handler(dispatch);
    memset(&reply, 0, sizeof reply);
    handler.online(handler.context);
}

static void open_all(void)
{
    open_with(FRAME_MAX_BYTES);
}

static void close_all(void)
{
    handler.offline(handler.context);
    reply_reset(&reply);
    dispatch_destroy(dispatch);
    threads_destroy(threads);
}

/* Time passes, and the loop tends until it has nothing more to do. */
static void pass(uint64_t ms)
{
    clock_driven_advance(&driven, ms);
    for (unsigned turn = 0; turn < 100; turn++) {
        handler.offline(handler.context);
        handler.online(handler.context);
        handler.tend(handler.context);
    }
}

/* The frame at *at of the reply, checked; moves on to the next. */
static struct bytes next_body(size_t *at)
{
    struct bytes body = {0};
    uint64_t need;
    struct bytes rest = bytes_of(reply.out + *at, reply.size - *at);
    ck_assert_uint_eq(wire_frame_next(rest, UINT32_MAX, &body, &need), WIRE_FRAME_WHOLE);
    ck_assert(wire_walk(body));
    *at += need;
    return body;
}

/* Serves bodies of one turn; all are answered. */
static void serve(const struct bytes *bodies, unsigned count)
{
    bool deferred = true;
    reply_reset(&reply);
    unsigned done =
        handler.serve(handler.context, &reply, bodies, count, (struct net_deferral){0}, &deferred);
    ck_assert_uint_eq(done, count);
    ck_assert(!deferred);
}

/* The answer to one request, as text; freed by the next call. */
static const char *ask(const char *request)
{
    static char *answer;
    struct bytes body = notation_encode(request);
    serve(&body, 1);
    size_t at = 0;
    struct bytes answered = next_body(&at);
    ck_assert_uint_eq(at, reply.size);
    free(answer);
    answer = notation_decode(answered);
    ck_assert_ptr_nonnull(answer);
    free((void *)body.data);
    return answer;
}

static void expect(const char *request, const char *part)
{
    const char *answer = ask(request);
    ck_assert_msg(strstr(answer, part) != NULL, "%s\n  answers %s\n  without %s", request, answer,
                  part);
}

/* ---- The contract ---- */

/*
 * Claims are random: where the page shows one, the server's own takes its place, in what is
 * answered and then in what is asked.
 */
struct page_claim {
    uint8_t written[9]; /* as in the page: its mark and 8 bytes */
    uint8_t real[9];
};

static uint8_t *find_claim(const uint8_t *frame, size_t size)
{
    static const uint8_t key[] = {0xA5, 'c', 'l', 'a', 'i', 'm', 0xCF};
    uint8_t *at = memmem(frame, size, key, sizeof key);
    return at != NULL ? at + sizeof key - 1 : NULL;
}

static void put_real_claim(struct example *example, struct page_claim *claim)
{
    uint8_t *at = find_claim(example->frame, example->frame_bytes);
    bool asks = example->frame[WIRE_HEADER_BYTES + 1] == 0;
    if (at == NULL) {
        return;
    }
    if (!asks) {
        uint8_t *answered = find_claim(reply.out, reply.size);
        ck_assert_msg(answered != NULL, "wire.md:%u: no claim", example->line);
        memcpy(claim->written, at, sizeof claim->written);
        memcpy(claim->real, answered, sizeof claim->real);
        ck_assert_msg(memcmp(claim->written, claim->real, sizeof claim->real) != 0, "not random");
    }
    ck_assert_msg(memcmp(at, claim->written, sizeof claim->written) == 0,
                  "wire.md:%u: not the claim of the last begin", example->line);
    memcpy(at, claim->real, sizeof claim->real);
}

START_TEST(the_examples_of_the_contract)
{
    static struct page_claim claim;
    const struct example *examples;
    unsigned count = examples_read("schema/wire.md", &examples);
    ck_assert_uint_gt(count, 40);
    for (unsigned i = 0; i < count; i++) {
        static struct example one;
        const struct example *example = &one;
        one = examples[i];
        put_real_claim(&one, &claim);
        if (example->pass_ms > 0) {
            pass(example->pass_ms);
        }
        if (example->frame[WIRE_HEADER_BYTES + 1] == 0) {
            struct bytes body = bytes_of(example->frame + WIRE_HEADER_BYTES,
                                         example->frame_bytes - WIRE_HEADER_BYTES);
            serve(&body, 1);
            pass(0);
            continue;
        }
        if (!bytes_equal(bytes_of(reply.out, reply.size),
                         bytes_of(example->frame, example->frame_bytes))) {
            size_t at = 0;
            ck_abort_msg("wire.md:%u: the server answers\n%s", example->line,
                         notation_decode(next_body(&at)));
        }
    }
}
END_TEST

enum presence { OPTIONAL, ALWAYS };

static const struct field {
    enum wire_method method;
    const char *name;
    enum presence presence;
} fields[] = {
#define RESULT(M, NAME, TYPE, PRESENCE, SUMMARY) {WIRE_METHOD_##M, #NAME, PRESENCE},
#include "schema/results.def"
#undef RESULT
};

enum { FIELDS = sizeof fields / sizeof fields[0] };

static unsigned seen[FIELDS];

static bool is_key(const msgpack_object *key, const char *name)
{
    return key->type == MSGPACK_OBJECT_STR && key->via.str.size == strlen(name) &&
           memcmp(key->via.str.ptr, name, key->via.str.size) == 0;
}

/* Every key of the result is listed, once, and no key that is always there lacks. */
static void check_fields(enum wire_method method, const char *request)
{
    const char *answer = ask(request);
    msgpack_unpacked unpacked;
    size_t at = WIRE_HEADER_BYTES;
    msgpack_unpacked_init(&unpacked);
    ck_assert_int_eq(msgpack_unpack_next(&unpacked, (const char *)reply.out, reply.size, &at),
                     MSGPACK_UNPACK_SUCCESS);
    ck_assert_int_eq(unpacked.data.via.array.ptr[3].type, MSGPACK_OBJECT_ARRAY);
    msgpack_object_map map = unpacked.data.via.array.ptr[3].via.array.ptr[0].via.map;
    unsigned listed = 0;
    for (unsigned f = 0; f < FIELDS; f++) {
        unsigned found = 0;
        for (uint32_t i = 0; fields[f].method == method && i < map.size; i++) {
            found += is_key(&map.ptr[i].key, fields[f].name);
        }
        if (fields[f].method == method) {
            ck_assert_msg(found == 1 || (found == 0 && fields[f].presence == OPTIONAL),
                          "%s: %s %u times in %s", request, fields[f].name, found, answer);
        }
        listed += found;
        seen[f] += found;
    }
    ck_assert_msg(listed == map.size, "%s: an unlisted field in %s", request, answer);
    msgpack_unpacked_destroy(&unpacked);
}

/* A request whose %s is the claim that was answered last. */
static const char *with_claim(const char *format)
{
    static char text[256];
    char number[24];
    const uint8_t *claim = find_claim(reply.out, reply.size);
    static uint64_t last;
    last = claim != NULL ? bytes_load_be64(claim + 1) : last;
    snprintf(number, sizeof number, "%" PRIu64, last);
    const char *at = strstr(format, "%s");
    snprintf(text, sizeof text, "%.*s%s%s", (int)(at - format), format, number, at + 2);
    return text;
}

static void check_fields_of_streams(void)
{
    check_fields(WIRE_METHOD_BEGIN, "[0, 1, 'begin', [{'thread': 's'}]]");
    check_fields(WIRE_METHOD_CHUNK,
                 with_claim("[0, 1, 'chunk', [{'thread': 's', 'claim': %s}, b'x']]"));
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 's'}]]");
    check_fields(WIRE_METHOD_COMMIT,
                 with_claim("[0, 1, 'commit', [{'thread': 's', 'claim': %s}]]"));
    check_fields(WIRE_METHOD_BEGIN, "[0, 1, 'begin', [{'thread': 's'}]]");
    const char *abort_it = with_claim("[0, 1, 'abort', [{'thread': 's', 'claim': %s}]]");
    check_fields(WIRE_METHOD_STAT, "[0, 1, 'stat', [{'thread': 's'}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 's'}]]");
    check_fields(WIRE_METHOD_ABORT, abort_it);
}

START_TEST(results_have_the_listed_fields)
{
    check_fields(WIRE_METHOD_HELLO, "[0, 1, 'hello', [{}]]");
    check_fields(WIRE_METHOD_PING, "[0, 1, 'ping', [{}]]");
    check_fields(WIRE_METHOD_APPEND, "[0, 1, 'append', [{'thread': 'a', 'prefix': b(16)}, b'x']]");
    check_fields(WIRE_METHOD_APPEND, "[0, 1, 'append', [{'thread': 'b', 'prefix': b(16)}, b'x']]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 'a'}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'prefix': b(16)}]]");
    check_fields(WIRE_METHOD_REPLAY,
                 "[0, 1, 'replay', [{'thread': 'a', 'have': {'version': 9, 'step': 0}}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 'none'}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'response_id': 'none'}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 'a', 'policy': 'none'}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'prefix': ['0123456789abcdef', b(16)]}]]");
    check_fields(WIRE_METHOD_REPLAY,
                 "[0, 1, 'replay', [{'thread': 'a', 'policy': 'none', 'pin': true, "
                 "'have': {'version': 1, 'step': 0, 'kept': [0]}}]]");
    check_fields(WIRE_METHOD_STAT, "[0, 1, 'stat', [{'thread': 'a'}]]");
    check_fields_of_streams();
    check_fields(WIRE_METHOD_STAT, "[0, 1, 'stat', [{'thread': 'none'}]]");
    check_fields(WIRE_METHOD_TOUCH, "[0, 1, 'touch', [{'threads': ['a', 'none']}]]");
    check_fields(WIRE_METHOD_FORK, "[0, 1, 'fork', [{'thread': 'f', 'from': 'a'}]]");
    check_fields(WIRE_METHOD_REWIND, "[0, 1, 'rewind', [{'thread': 'f', 'to': -1}]]");
    check_fields(WIRE_METHOD_REPLAY, "[0, 1, 'replay', [{'thread': 'f'}]]");
    check_fields(WIRE_METHOD_LIST, "[0, 1, 'list', [{}]]");
    check_fields(WIRE_METHOD_FORGET, "[0, 1, 'forget', [{'thread': 'f'}]]");
    check_fields(WIRE_METHOD_FORGET, "[0, 1, 'forget', [{'thread': 'f'}]]");
    check_fields(WIRE_METHOD_INFO, "[0, 1, 'info', [{}]]");
    for (unsigned f = 0; f < FIELDS; f++) {
        ck_assert_msg(seen[f] > 0, "no result had %s", fields[f].name);
    }
}
END_TEST

START_TEST(info_has_the_gauges_of_the_server)
{
    expect("[0, 1, 'info', [{}]]", "\"loops\": 77");
    ask("[0, 2, 'append', [{'thread': 't'}, b'abc']]");
    ask("[0, 3, 'replay', [{'thread': 't'}]]");
    ask("[0, 4, 'replay', [{'thread': 'none'}]]");
    ask("[0, 5, 'nothing', [{}]]");
    const char *answer = ask("[0, 6, 'info', [{}]]");
    ck_assert_ptr_nonnull(strstr(answer, "\"requests\": 5, \"errors\": 1"));
    ck_assert_ptr_nonnull(strstr(answer, "\"appends\": 1"));
    ck_assert_ptr_nonnull(strstr(answer, "\"replays_complete\": 1, \"replays_partial\": 0, "
                                         "\"replays_miss\": 1"));
    ck_assert_ptr_nonnull(strstr(answer, "\"payload_bytes\": 3"));
}
END_TEST

START_TEST(every_field_of_a_step)
{
    ask("[0, 1, 'append', [{'thread': 't', 'response_id': 'r', 'tool_calls': ['c', b'd'],"
        " 'model': 'm', 'turn': 7, 'final': true, 'tokens': 0,"
        " 'segments': ['tokens', 'opaque', 'text']}, b'abcd', b'e', b'fg']]");
    expect("[0, 2, 'replay', [{'thread': 't'}]]",
           "\"steps\": [{\"step\": 0, \"turn\": 7, \"final\": true, \"model\": b\"m\", "
           "\"response_id\": b\"r\", \"tool_calls\": [b\"c\", b\"d\"], \"tokens\": 0, "
           "\"segments\": [[\"tokens\", 4], [\"opaque\", 1], [\"text\", 2]], "
           "\"source\": \"memory\"}], \"expires_in_ms\": 300000}, b\"abcd\", b\"e\", b\"fg\"]]");
    ask("[0, 3, 'append', [{'thread': 't', 'segments': []}]]");
    expect("[0, 4, 'replay', [{'thread': 't', 'last': 1}]]",
           "\"steps\": [{\"step\": 1, \"turn\": 7, \"final\": true, \"model\": nil, "
           "\"response_id\": nil, \"tool_calls\": [], \"tokens\": nil, \"segments\": [], "
           "\"source\": \"memory\"}], \"expires_in_ms\": 300000}]]");
    expect("[0, 5, 'replay', [{'thread': 't', 'max_bytes': 0}]]",
           "\"steps\": [{\"step\": 0, \"missing\": \"budget\"}, {\"step\": 1, \"turn\"");
    expect("[0, 6, 'replay', [{'thread': 't', 'policy': 'none'}]]", "\"steps\": []");
}
END_TEST

START_TEST(pages_of_a_list)
{
    close_all();
    open_with(65536);
    /* 400 ids of 255 bytes: more than one frame of 64 KiB, whatever limit is asked for. */
    char request[512];
    for (unsigned i = 0; i < 400; i++) {
        snprintf(request, sizeof request,
                 "[0, 1, 'append', [{'thread': 'thread %03u %.*s'}, b'x']]", i, 244,
                 "........................................................................"
                 "........................................................................"
                 "........................................................................"
                 "............................");
        expect(request, "\"created\": true");
    }
    unsigned found = 0;
    unsigned pages = 0;
    char cursor[256] = "b''";
    do {
        snprintf(request, sizeof request, "[0, 1, 'list', [{'limit': 1000, 'cursor': %s}]]",
                 cursor);
        const char *answer = ask(request);
        ck_assert_uint_le(reply.size, 65536 + WIRE_HEADER_BYTES);
        for (const char *p = answer; (p = strstr(p, "\"thread\": ")) != NULL; p++) {
            found++;
        }
        const char *last = strstr(answer, "\"cursor\": ");
        snprintf(cursor, sizeof cursor, "%s", last + strlen("\"cursor\": "));
        *strrchr(cursor, '}') = '\0';
        ck_assert_uint_lt(++pages, 1000);
    } while (strcmp(cursor, "nil") != 0);
    ck_assert_uint_eq(found, 400);
}
END_TEST

/* ---- Turns ---- */

START_TEST(a_batch_takes_effect_in_order)
{
    static const char *const requests[] = {
        "[0, 1, 'append', [{'thread': 't', 'expect': 0}, b'one']]",
        "[0, 2, 'replay', [{'thread': 't'}]]",
        "[0, 3, 'append', [{'thread': 't', 'expect': 1}, b'two']]",
        "[0, 4, 'bad', [{}]]",
        "[0, 5, 'replay', [{'thread': 't'}]]",
        "[0, 6, 'forget', [{'thread': 't'}]]",
        "[0, 7, 'replay', [{'thread': 't'}]]",
    };
    static const char *const parts[] = {
        "[1, 1, nil, [{\"thread\"",    "b\"one\"]]",           "\"version\": 2",
        "[1, 4, {\"code\": \"unknown", "b\"one\", b\"two\"]]", "\"forgotten\": true",
        "\"reason\": \"forgotten\"",
    };
    struct bytes bodies[7];
    for (unsigned i = 0; i < 7; i++) {
        bodies[i] = notation_encode(requests[i]);
    }
    serve(bodies, 7);
    size_t at = 0;
    for (unsigned i = 0; i < 7; i++) {
        char *answer = notation_decode(next_body(&at));
        ck_assert_msg(strstr(answer, parts[i]) != NULL, "%s: %s", requests[i], answer);
        free(answer);
        free((void *)bodies[i].data);
    }
    ck_assert_uint_eq(at, reply.size);
}
END_TEST

/* Sizes around every width of a bin header, and around what goes by reference. */
START_TEST(payloads_of_every_size)
{
    static const unsigned sizes[] = {1,    255,   256,   257,   4095,  4096,
                                     4097, 65535, 65536, 65537, 70000, 200000};
    enum { SIZES = sizeof sizes / sizeof sizes[0] };
    char request[1024];
    unsigned large = 0;
    for (unsigned i = 0; i < SIZES; i++) {
        snprintf(request, sizeof request,
                 "[0, 1, 'append', [{'thread': 't'}, b(%u), b'<%u>', b(%u)]]", sizes[i], i,
                 sizes[SIZES - 1 - i]);
        ask(request);
        large += sizes[i] >= NET_REFER_BYTES_MIN ? 2 : 0;
    }
    const char *answer = ask("[0, 2, 'replay', [{'thread': 't'}]]");
    ck_assert_uint_eq(reply.refers, large);
    const char *at = strstr(answer, "\"expires_in_ms\"");
    for (unsigned i = 0; i < SIZES; i++) {
        unsigned around[] = {sizes[i], sizes[SIZES - 1 - i]};
        char middle[16];
        snprintf(middle, sizeof middle, "<%u>", i);
        for (unsigned k = 0; k < 3; k++) {
            at = strstr(at, "b\"") + 2;
            if (k == 1) {
                ck_assert(strncmp(at, middle, strlen(middle)) == 0);
            } else {
                ck_assert_uint_eq(strspn(at, "x"), around[k / 2]);
            }
        }
    }
    ck_assert_ptr_null(strstr(at, "b\""));
}
END_TEST

START_TEST(a_pinned_payload_outlives_its_thread)
{
    ask("[0, 1, 'append', [{'thread': 't'}, b(50000)]]");
    struct bytes body = notation_encode("[0, 2, 'replay', [{'thread': 't'}]]");
    serve(&body, 1);
    free((void *)body.data);
    const void *object = reply.referred;
    const uint8_t *data = reply.referred_data;
    ck_assert_uint_eq(reply.refers, 1);
    handler.pin(object);
    expect("[0, 3, 'forget', [{'thread': 't'}]]", "true");
    for (unsigned i = 0; i < 50; i++) { /* others would take the memory if it were free */
        ask("[0, 4, 'append', [{'thread': 'u'}, b(49000)]]");
        ask("[0, 4, 'forget', [{'thread': 'u'}]]");
        pass(1);
    }
    for (unsigned i = 0; i < 50000; i++) {
        if (data[i] != 'x') {
            ck_abort_msg("byte %u of a pinned payload changed", i);
        }
    }
    handler.unpin(object);
    pass(1);
}
END_TEST

START_TEST(a_full_reply_ends_the_turn)
{
    struct bytes bodies[3];
    for (unsigned i = 0; i < 3; i++) {
        bodies[i] = notation_encode("[0, 1, 'ping', [{}]]");
    }
    bool deferred = true;
    reply.full = true;
    ck_assert_uint_eq(
        handler.serve(handler.context, &reply, bodies, 3, (struct net_deferral){0}, &deferred), 1);
    ck_assert(!deferred);
    reply.full = false;
    for (unsigned i = 0; i < 3; i++) {
        free((void *)bodies[i].data);
    }
}
END_TEST

START_TEST(no_room_does_nothing_or_says_so)
{
    ask("[0, 1, 'append', [{'thread': 't'}, b(3000), b(3000)]]");
    struct bytes append = notation_encode("[0, 2, 'append', [{'thread': 't'}, b'x']]");
    bool deferred = true;
    reply_reset(&reply);
    reply.room_max = 100; /* not even the small answer fits */
    ck_assert_uint_eq(
        handler.serve(handler.context, &reply, &append, 1, (struct net_deferral){0}, &deferred), 0);
    ck_assert(!deferred);
    ck_assert_uint_eq(reply.size, 0);
    struct bytes none = {0};
    ck_assert(!handler.refuse(handler.context, &reply, none, STATUS_TOO_LARGE));
    free((void *)append.data);
    reply.room_max = NET_REPLY_SMALL_BYTES;
    expect("[0, 3, 'stat', [{'thread': 't'}]]", "\"version\": 1"); /* the append did nothing */
    expect("[0, 4, 'replay', [{'thread': 't'}]]", "\"code\": \"over_budget\"");
    reply.room_max = 0;
    expect("[0, 5, 'replay', [{'thread': 't'}]]", "\"status\": \"complete\"");
}
END_TEST

START_TEST(refusals)
{
    static const struct {
        enum status status;
        const char *request;
        const char *part;
    } rows[] = {
        {STATUS_SHUTTING_DOWN, "[0, 9, 'ping', [{}]]", "[1, 9, {\"code\": \"shutting_down\""},
        {STATUS_SHUTTING_DOWN, "[0, 9, 'nothing', 1]", "[1, 9, {\"code\": \"shutting_down\""},
        {STATUS_BUSY, "[0, 9, 'append', [{'thread': 't'}, b'x']]", "[1, 9, {\"code\": \"busy\""},
        {STATUS_SHUTTING_DOWN, "nil", "[1, nil, {\"code\": \"shutting_down\""},
        {STATUS_TOO_LARGE, NULL, "[1, nil, {\"code\": \"too_large\""},
        {STATUS_BAD_REQUEST, NULL, "[1, nil, {\"code\": \"bad_request\""},
    };
    for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        struct bytes body = {0};
        if (rows[i].request != NULL) {
            body = notation_encode(rows[i].request);
        }
        reply_reset(&reply);
        ck_assert(handler.refuse(handler.context, &reply, body, rows[i].status));
        size_t at = 0;
        char *answer = notation_decode(next_body(&at));
        ck_assert_msg(strncmp(answer, rows[i].part, strlen(rows[i].part)) == 0, "%s", answer);
        free(answer);
        free((void *)body.data);
    }
    expect("[0, 1, 'replay', [{'thread': 't'}]]", "never_seen"); /* nothing was done */
}
END_TEST

/* ---- Bad input ---- */

START_TEST(errors_by_name)
{
    ask("[0, 1, 'append', [{'thread': 't', 'turn': 2}, b'x']]");
    expect("[0, 2, 'append', [{'thread': 't', 'expect': 0}, b'x']]", "\"cause\": \"exists\"");
    expect("[0, 2, 'append', [{'thread': 't', 'expect': 5}, b'x']]",
           "\"version\": 1, \"cause\": \"version\"");
    expect("[0, 2, 'append', [{'thread': 't', 'turn': 1}, b'x']]", "\"option\": \"turn\"");
    expect("[0, 2, 'append', [{'thread': 't', 'ack': 'disk'}, b'x']]", "\"option\": \"ack\"");
    expect("[0, 2, 'rewind', [{'thread': 'none', 'to': 0}]]", "\"code\": \"not_found\"");
    expect("[0, 2, 'rewind', [{'thread': 'none', 'to': 0}]]", "\"reason\": \"never_seen\"");
    expect("[0, 2, 'fork', [{'thread': 't', 'from': 't'}]]", "\"code\": \"conflict\"");
    expect("[0, 2, 'recall', [{}]]", "\"code\": \"unknown_method\"");
    expect("[0, 2, 'ping', [{'a': 1}]]", "\"option\": \"a\"");
}
END_TEST

/* Whatever comes: one sound frame for each body. */
START_TEST(every_corruption_gets_one_answer)
{
    struct bytes bytes = notation_encode(golden[_i]);
    uint8_t *copy = malloc(bytes.size);
    memcpy(copy, bytes.data, bytes.size);
    uint64_t seed = (uint64_t)_i;
    for (uint64_t round = 0; round < trial_count(3000); round++) {
        size_t at = trial_below(&seed, bytes.size);
        copy[at] = (uint8_t)trial_random(&seed);
        struct bytes body = bytes_of(
            copy, trial_below(&seed, 8) == 0 ? trial_below(&seed, bytes.size) : bytes.size);
        bool deferred;
        reply_reset(&reply);
        if (handler.serve(handler.context, &reply, &body, 1, (struct net_deferral){0}, &deferred) !=
            1) {
            ck_abort_msg("not answered");
        }
        struct bytes answer = {0};
        uint64_t need;
        if (wire_frame_next(bytes_of(reply.out, reply.size), FRAME_MAX_BYTES, &answer, &need) !=
                WIRE_FRAME_WHOLE ||
            need != reply.size || !wire_walk(answer)) {
            ck_abort_msg("not one sound frame");
        }
        copy[at] = bytes.data[at];
        if (round % 64 == 0) {
            pass(0);
        }
    }
    free(copy);
    free((void *)bytes.data);
}
END_TEST

/* No error carries what a client sent, but for the name of an unknown option. */
START_TEST(errors_hide_what_was_sent)
{
    static const char *const requests[] = {
        "[0, 1, 'CANARY', [{'thread': 'CANARY'}]]",
        "[0, 1, 'append', [{'thread': 'CANARY', 'turn': 'CANARY'}, b'CANARY']]",
        "[0, 1, 'append', [{'thread': 'CANARY', 'segments': ['CANARY']}, b'CANARY']]",
        "[0, 1, 'append', [{'thread': 'CANARY', 'ack': 'CANARY'}, b'CANARY']]",
        "[0, 1, 'append', [{'thread': 'CANARY'}, 'CANARY']]",
        "[0, 1, 'append', [{'thread': 'CANARY', 'expect': 7}, b'CANARY']]",
        "[0, 1, 'append', [{'thread': 'CANARY', 'key': 'CANARY', 'segments': []}, b'CANARY']]",
        "[0, 1, 'replay', [{'thread': 'CANARY', 'policy': 'CANARY'}]]",
        "[0, 1, 'replay', [{'response_id': 'CANARY', 'tool_call': 'CANARY'}]]",
        "[0, 1, 'replay', [{'prefix': 'CANARY'}]]",
        "[0, 1, 'fork', [{'thread': 'CANARY', 'from': 'CANARY2'}]]",
        "[0, 1, 'rewind', [{'thread': 'CANARY', 'to': 9}]]",
        "[0, 1, 'list', [{'cursor': 'CANARY'}]]",
        "[0, 1, 'hello', [{'token': 'CANARY', 'protocol': 'CANARY'}]]",
        "['CANARY', 1, 'CANARY', 'CANARY']",
    };
    for (unsigned i = 0; i < sizeof requests / sizeof requests[0]; i++) {
        const char *answer = ask(requests[i]);
        ck_assert_msg(strstr(answer, "\"code\"") != NULL, "no error: %s", answer);
        ck_assert_msg(strstr(answer, "CANARY") == NULL, "%s", answer);
    }
    expect("[0, 1, 'ping', [{'CAN\\xffARY': 1}]]", "\"option\": \"CAN?ARY\"");
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatch");
    TCase *tcase = tcase_create("contract");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, the_examples_of_the_contract);
    tcase_add_test(tcase, results_have_the_listed_fields);
    tcase_add_test(tcase, info_has_the_gauges_of_the_server);
    tcase_add_test(tcase, every_field_of_a_step);
    tcase_add_test(tcase, pages_of_a_list);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("turns");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, a_batch_takes_effect_in_order);
    tcase_add_test(tcase, payloads_of_every_size);
    tcase_add_test(tcase, a_pinned_payload_outlives_its_thread);
    tcase_add_test(tcase, a_full_reply_ends_the_turn);
    tcase_add_test(tcase, no_room_does_nothing_or_says_so);
    tcase_add_test(tcase, refusals);
    suite_add_tcase(suite, tcase);
    tcase = tcase_create("bad input");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, errors_by_name);
    tcase_add_loop_test(tcase, every_corruption_gets_one_answer, 0, GOLDEN_COUNT);
    tcase_add_test(tcase, errors_hide_what_was_sent);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
