/* Envelopes, raw access, and bytes that no server sends. */
#include "client/decode.h"
#include "tests/client/fake.h"

#include <stdlib.h>
#include <sys/resource.h>

static bool envelope_of(const void *data, size_t size, struct client_envelope *envelope)
{
    return client_decode_envelope((struct rethread_bytes){data, size}, envelope);
}

static bool envelope_of_text(const char *text, struct client_envelope *envelope)
{
    struct bytes body = notation_encode(text);
    bool read = envelope_of(body.data, body.size, envelope);
    free((void *)(uintptr_t)body.data);
    return read;
}

START_TEST(envelopes_tell_who_they_are_for)
{
    struct client_envelope envelope;
    ck_assert(envelope_of_text("[1, 4294967295, nil, [{}]]", &envelope));
    ck_assert(envelope.has_msgid);
    ck_assert_uint_eq(envelope.msgid, UINT32_MAX);
    ck_assert(envelope_of_text("[1, nil, {'code': 'too_large'}, nil]", &envelope));
    ck_assert(!envelope.has_msgid);
    ck_assert(!envelope_of_text("[1, 4294967296, nil, [{}]]", &envelope));
    ck_assert(!envelope_of_text("[1, -1, nil, [{}]]", &envelope));
    ck_assert(!envelope_of_text("[0, 1, nil, [{}]]", &envelope));
    ck_assert(!envelope_of_text("[2, 1, nil, [{}]]", &envelope));
    ck_assert(!envelope_of_text("[1, 1, nil]", &envelope));
    ck_assert(!envelope_of_text("[1, 1, nil, [{}], 1]", &envelope));
    ck_assert(!envelope_of_text("{1: 1}", &envelope));
    ck_assert(!envelope_of_text("1", &envelope));
}
END_TEST

static enum rethread_status decode_text(enum rethread_method method, const char *text,
                                        struct rethread_result **result)
{
    struct bytes body = notation_encode(text);
    enum rethread_status status =
        client_decode((struct rethread_bytes){body.data, body.size}, method, result);
    if (status == RETHREAD_OK)
        (*result)->memory = (void *)(uintptr_t)body.data;
    else
        free((void *)(uintptr_t)body.data);
    return status;
}

START_TEST(responses_have_one_result_or_one_error)
{
    static const char *const BAD[] = {
        "[1, 1, nil, nil]",     "[1, 1, nil, []]",          "[1, 1, nil, [1]]",
        "[1, 1, nil, {}]",      "[1, 1, {'code': 1}, nil]", "[1, 1, {'code': 'x'}, [{}]]",
        "[1, 1, 'wrong', nil]", "[1, nil, nil, [{}]]",
    };
    struct rethread_result *result;
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        ck_assert_int_eq(decode_text(RETHREAD_METHOD_PING, BAD[i], &result),
                         RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_int_eq(decode_text(RETHREAD_METHOD_PING, "[1, 1, nil, [{}]]", &result), RETHREAD_OK);
    rethread_result_free(result);
}
END_TEST

START_TEST(raw_bytes_are_all_there)
{
    struct rethread_result *result;
    ck_assert_int_eq(
        decode_text(RETHREAD_METHOD_OTHER, "[1, 1, nil, [{'a': [1]}, b'x', b'', b'yz']]", &result),
        RETHREAD_OK);
    struct rethread_bytes map = rethread_result_map(result);
    struct rethread_bytes raw = rethread_result_raw(result);
    char *text = notation_decode(bytes_of(map.data, map.size));
    ck_assert_str_eq(text, "{\"a\": [1]}");
    free(text);
    text = notation_decode(bytes_of(raw.data, raw.size));
    ck_assert_str_eq(text, "[1, 1, nil, [{\"a\": [1]}, b\"x\", b\"\", b\"yz\"]]");
    free(text);
    ck_assert_uint_eq(rethread_result_payload_count(result), 3);
    ck_assert(fake_same(rethread_result_payload(result, 0), "x"));
    ck_assert(fake_same(rethread_result_payload(result, 1), ""));
    ck_assert(fake_same(rethread_result_payload(result, 2), "yz"));
    ck_assert_ptr_null(rethread_result_payload(result, 3).data);
    rethread_result_free(result);
}
END_TEST

/* ---- Hostile bytes -------------------------------------------------------------------------- */

static const char *const GOLDEN[] = {
    "[1, 1, nil, [{'protocol': 1, 'server': 'rethread', 'frame_max': 67108864}]]",
    "[1, 1, nil, [{'thread': b't', 'step': 4, 'version': 5, 'created': false, 'lost': 300}]]",
    "[1, 1, nil, [{'status': 'partial', 'thread': b't', 'version': 12, 'head': 3, 'steps': ["
    "{'step': 0, 'missing': 'expired'}, {'step': 1, 'final': true, 'model': b'm', 'tool_calls': "
    "[b'c1', b'c2'], 'segments': [['text', 3], ['opaque', 2]], 'source': 'memory'}]}, b'abc', "
    "b'de']]",
    "[1, 1, nil, [{'status': 'complete', 'found': 1, 'in_flight': true, 'kept_from': 2, 'dropped': "
    "2, "
    "'extends': false, 'steps': [{'step': 2, 'visible': b'0123456789abcdef', 'segments': []}]}]]",
    ("[1, 1, nil, [{'thread': b't', 'step': 4, 'version': 5, 'claim': 9223372036854775807, "
     "'claim_expires_in_ms': 60000, 'bytes': 7, 'aborted': true}]]"),
    "[1, 1, nil, [{'touched': 2, 'missing': [[b'a', 'expired'], [b'b', 'never_seen']]}]]",
    "[1, 1, nil, [{'threads': [{'thread': b'a', 'version': 1}, {'thread': b'b'}], 'cursor': nil}]]",
    "[1, 1, nil, [{'server': {'uptime_ms': 5}, 'memory': {'used_bytes': 70000}}]]",
    "[1, 1, {'code': 'conflict', 'message': 'not so', 'cause': 'version', 'version': 8}, nil]",
};

/* Decodes, as every method, a copy that ends where memory ends, for AddressSanitizer to watch. */
static void decode_all(const uint8_t *bytes, size_t size)
{
    for (int method = RETHREAD_METHOD_OTHER; method <= RETHREAD_METHOD_ABORT; method++) {
        uint8_t *copy = malloc(size > 0 ? size : 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, bytes, size);
        struct rethread_bytes body = {copy, size};
        struct client_envelope envelope;
        struct rethread_result *result = NULL;
        if (!client_decode_envelope(body, &envelope) ||
            client_decode(body, (enum rethread_method)method, &result) != RETHREAD_OK) {
            ck_assert_ptr_null(result);
            free(copy);
            continue;
        }
        result->memory = copy;
        rethread_result_free(result);
    }
}

START_TEST(no_truncation_passes)
{
    struct bytes body = notation_encode(GOLDEN[_i]);
    struct client_envelope envelope;
    ck_assert(envelope_of(body.data, body.size, &envelope));
    for (size_t size = 0; size < body.size; size++) {
        uint8_t *copy = malloc(size + 1);
        ck_assert_ptr_nonnull(copy);
        memcpy(copy, body.data, size);
        ck_assert(!envelope_of(copy, size, &envelope));
        free(copy);
    }
    uint8_t *longer = malloc(body.size + 1);
    ck_assert_ptr_nonnull(longer);
    memcpy(longer, body.data, body.size);
    longer[body.size] = 0xC0;
    ck_assert(!envelope_of(longer, body.size + 1, &envelope));
    free(longer);
    free((void *)(uintptr_t)body.data);
}
END_TEST

START_TEST(every_corruption_is_survived)
{
    struct bytes body = notation_encode(GOLDEN[_i]);
    uint8_t *bytes = (uint8_t *)(uintptr_t)body.data;
    for (size_t at = 0; at < body.size; at++) {
        uint8_t right = bytes[at];
        for (unsigned wrong = 0; wrong < 256; wrong++) {
            bytes[at] = (uint8_t)wrong;
            decode_all(bytes, body.size);
        }
        bytes[at] = right;
    }
    free(bytes);
}
END_TEST

START_TEST(bombs_are_refused_before_anything_is_allocated)
{
    static const uint8_t HUGE_ARRAY[] = {0xDD, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t HUGE_MAP[] = {0xDF, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t HUGE_BIN[] = {0x94, 1, 1, 0xC0, 0xC6, 0xFF, 0xFF, 0xFF, 0xFF};
    static const uint8_t HUGE_EXT[] = {0xC9, 0xFF, 0xFF, 0xFF, 0xFF, 1};
    static const uint8_t HUGE_STEPS[] = {0x94, 1,   1,   0xC0, 0x91, 0x81, 0xA5, 's', 't',
                                         'e',  'p', 's', 0xDD, 0x10, 0,    0,    0};
    struct client_envelope envelope;
    uint8_t nested[100];
    ck_assert(!envelope_of(HUGE_ARRAY, sizeof HUGE_ARRAY, &envelope));
    ck_assert(!envelope_of(HUGE_MAP, sizeof HUGE_MAP, &envelope));
    ck_assert(!envelope_of(HUGE_BIN, sizeof HUGE_BIN, &envelope));
    ck_assert(!envelope_of(HUGE_EXT, sizeof HUGE_EXT, &envelope));
    ck_assert(!envelope_of(HUGE_STEPS, sizeof HUGE_STEPS, &envelope));
    memset(nested, 0x91, sizeof nested);
    nested[sizeof nested - 1] = 0;
    ck_assert(!envelope_of(nested, sizeof nested, &envelope));
    ck_assert(!envelope_of(NULL, 0, &envelope));
    ck_assert(envelope_of_text("[1, 1, nil, [{'a': [[[[[1]]]]]}]]", &envelope));
    ck_assert(!envelope_of_text("[1, 1, nil, [{'a': [[[[[[1]]]]]]}]]", &envelope));
}
END_TEST

#if defined(__has_feature)
#define HAS_FEATURE(feature) __has_feature(feature)
#else
#define HAS_FEATURE(feature) 0
#endif

/* Sanitizers reserve terabytes of addresses, and end the process when they get none. */
static void limit_memory(void)
{
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__) &&                             \
    !HAS_FEATURE(address_sanitizer) && !HAS_FEATURE(thread_sanitizer)
    struct rlimit limit = {.rlim_cur = 64 * 1024 * 1024, .rlim_max = RLIM_INFINITY};
    ck_assert_int_eq(setrlimit(RLIMIT_AS, &limit), 0);
#endif
}

/* Well-formed, but each item far smaller than what it would take in memory: 130 MB in all. */
START_TEST(tiny_items_do_not_swell)
{
    enum { ITEMS = 1000000, HEAD = 33 };
    static const char HEADER[HEAD + 1] = "\x94\x01\x01\xC0\x91\x82\xA6status\xA4miss\xA5steps\xDD";
    size_t head = strlen(HEADER);
    uint8_t *body = calloc(1, head + 4 + ITEMS);
    ck_assert_ptr_nonnull(body);
    memcpy(body, HEADER, head);
    body[head + 1] = (uint8_t)(ITEMS >> 16);
    body[head + 2] = (uint8_t)(ITEMS >> 8 & 0xFF);
    body[head + 3] = (uint8_t)(ITEMS & 0xFF);
    memset(body + head + 4, 0x80, ITEMS);
    struct rethread_bytes bytes = {body, head + 4 + ITEMS};
    struct client_envelope envelope;
    struct rethread_result *result;
    ck_assert(client_decode_envelope(bytes, &envelope));
    limit_memory();
    ck_assert_int_eq(client_decode(bytes, RETHREAD_METHOD_REPLAY, &result),
                     RETHREAD_PROTOCOL_VIOLATION);
    free(body);
}
END_TEST

int main(void)
{
    enum { GOLDEN_COUNT = sizeof GOLDEN / sizeof GOLDEN[0] };
    Suite *suite = suite_create("client/decode");
    TCase *sound = tcase_create("sound");
    tcase_add_test(sound, envelopes_tell_who_they_are_for);
    tcase_add_test(sound, responses_have_one_result_or_one_error);
    tcase_add_test(sound, raw_bytes_are_all_there);
    suite_add_tcase(suite, sound);
    TCase *hostile = tcase_create("hostile");
    tcase_add_loop_test(hostile, no_truncation_passes, 0, GOLDEN_COUNT);
    tcase_add_loop_test(hostile, every_corruption_is_survived, 0, GOLDEN_COUNT);
    tcase_add_test(hostile, bombs_are_refused_before_anything_is_allocated);
    tcase_add_test(hostile, tiny_items_do_not_swell);
    suite_add_tcase(suite, hostile);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
