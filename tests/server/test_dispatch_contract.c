/* What the server answers is what schema/ says: the page of examples, every field of every result.
 */
#include "tests/lib/examples.h"
#include "tests/server/test_dispatch.h"

#include <inttypes.h>
#include <msgpack.h>
#include <stdio.h>

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
        " 'model': 'm', 'turn': 7, 'final': true, 'tokens': 0, 'visible': '0123456789abcdef',"
        " 'segments': ['tokens', 'opaque', 'text']}, b'abcd', b'e', b'fg']]");
    expect("[0, 2, 'replay', [{'thread': 't'}]]",
           "\"steps\": [{\"step\": 0, \"turn\": 7, \"final\": true, \"model\": b\"m\", "
           "\"response_id\": b\"r\", \"tool_calls\": [b\"c\", b\"d\"], \"tokens\": 0, "
           "\"visible\": b\"0123456789abcdef\", "
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

int main(void)
{
    Suite *suite = suite_create("dispatch contract");
    TCase *tcase = tcase_create("contract");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, the_examples_of_the_contract);
    tcase_add_test(tcase, results_have_the_listed_fields);
    tcase_add_test(tcase, info_has_the_gauges_of_the_server);
    tcase_add_test(tcase, every_field_of_a_step);
    tcase_add_test(tcase, pages_of_a_list);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
