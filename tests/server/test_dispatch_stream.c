/* Streamed steps, frame by frame, over the real domain and a driven disk tier; no sockets. */
#include "server/dispatch.h"
#include "tests/lib/notation.h"
#include "tests/lib/reply.h"
#include "tests/lib/tier_model.h"
#include "wire/cursor.h"
#include "wire/parse.h"

#include <check.h>
#include <inttypes.h>
#include <stdio.h>

enum { CLAIM_MS = 60000, FRAME_MAX_BYTES = 1 << 20 };

static struct clock_driven driven;
static struct clock_driven wall;
static struct tier_model *model;
static struct threads *threads;
static struct dispatch *dispatch;
static struct net_handler handler;
static struct net_reply reply;
static uint64_t claim; /* of the last begin */

static void open_all(void)
{
    clock_driven_init(&driven, 3600000);
    clock_driven_init(&wall, 1700000000000);
    struct tier_model_settings tier = {.wall = &wall.clock};
    model = tier_model_create(&tier);
    struct threads_settings settings = {
        .memory_bytes = 64 << 20,
        .ttl_ms = 300000,
        .retention_ms = 86400000,
        .frame_max_bytes = FRAME_MAX_BYTES,
        .tombstones = 1024,
        .lanes_max = 2,
        .clock = &driven.clock,
        .wall = &wall.clock,
        .tier = tier_model_tier(model),
        .hash_secret = tier_model_secret(model),
    };
    threads = threads_create(&settings);
    struct dispatch_settings mine = {
        .threads = threads, .shares = 1, .frame_max_bytes = FRAME_MAX_BYTES, .has_disk = true};
    dispatch = dispatch_create(&mine);
    ck_assert_ptr_nonnull(dispatch);
    handler = dispatch_handler(dispatch);
    memset(&reply, 0, sizeof reply);
    handler.online(handler.context);
}

static void close_all(void)
{
    tier_model_set_at_once(model, true);
    handler.offline(handler.context);
    reply_reset(&reply);
    dispatch_destroy(dispatch);
    threads_destroy(threads);
    tier_model_destroy(model);
}

static void tend(void)
{
    handler.offline(handler.context);
    handler.online(handler.context);
    handler.tend(handler.context);
}

/* Serves one request, in which %C stands for the claim; returns all that was answered so far. */
static const char *serve(const char *request)
{
    static char *answer;
    char text[512], number[24];
    snprintf(number, sizeof number, "%" PRIu64, claim);
    const char *mark = strstr(request, "%C");
    int before = mark ? (int)(mark - request) : (int)strlen(request);
    snprintf(text, sizeof text, "%.*s%s%s", before, request, mark ? number : "",
             mark ? mark + 2 : "");
    struct bytes frame = notation_encode(text), body = {0};
    bool deferred = true;
    reply_reset(&reply);
    unsigned done =
        handler.serve(handler.context, &reply, &frame, 1, (struct net_deferral){0}, &deferred);
    ck_assert_uint_eq(done, 1);
    free((void *)frame.data);
    free(answer);
    answer = NULL;
    if (reply.size == 0) {
        return "";
    }
    uint64_t need;
    ck_assert_uint_eq(wire_frame_next(bytes_of(reply.out, reply.size), UINT32_MAX, &body, &need),
                      WIRE_FRAME_WHOLE);
    ck_assert_uint_eq(need, reply.size);
    answer = notation_decode(body);
    ck_assert_ptr_nonnull(answer);
    return answer;
}

static void is(const char *request, const char *answer)
{
    ck_assert_str_eq(serve(request), answer);
}

static void begin(const char *request, const char *head)
{
    const char *answer = serve(request);
    ck_assert_msg(strncmp(answer, head, strlen(head)) == 0, "%s", answer);
    char *rest;
    claim = strtoull(answer + strlen(head), &rest, 10);
    ck_assert_uint_gt(claim, 0);
    ck_assert_uint_le(claim, INT64_MAX);
    ck_assert_str_eq(rest, ", \"claim_expires_in_ms\": 60000}]]");
}

START_TEST(results_as_they_are_listed)
{
    begin("[0, 1, 'begin', [{'thread': 't', 'segment': 'tokens'}]]",
          "[1, 1, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 0, \"claim\": ");
    is("[0, 2, 'chunk', [{'thread': 't', 'claim': %C}, b'abc', b'defgh']]",
       "[1, 2, nil, [{\"bytes\": 8, \"claim_expires_in_ms\": 60000}]]");
    is("[0, 3, 'chunk', [{'thread': 't', 'claim': %C}]]",
       "[1, 3, nil, [{\"bytes\": 8, \"claim_expires_in_ms\": 60000}]]");
    is("[0, 4, 'stat', [{'thread': 't'}]]",
       "[1, 4, nil, [{\"status\": \"miss\", \"reason\": \"never_seen\", \"vouch_ms\": 0, "
       "\"version\": nil, \"step_count\": nil, \"bytes\": nil, \"tokens\": nil, \"age_ms\": nil, "
       "\"idle_ms\": nil, \"expires_in_ms\": nil, \"tier\": nil, \"in_flight\": true}]]");
    is("[0, 5, 'commit', [{'thread': 't', 'claim': %C, 'segments': ['opaque']}, b'sig']]",
       "[1, 5, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 1, \"created\": true, "
       "\"duplicate\": false, \"lost\": 0, \"expires_in_ms\": 86400000}]]");
    ck_assert_ptr_nonnull(strstr(serve("[0, 6, 'replay', [{'thread': 't'}]]"),
                                 "\"segments\": [[\"tokens\", 8], [\"opaque\", 3]]"));
    begin("[0, 7, 'begin', [{'thread': 't'}]]",
          "[1, 7, nil, [{\"thread\": b\"t\", \"step\": 1, \"version\": 1, \"claim\": ");
    is("[0, 8, 'abort', [{'thread': 't', 'claim': %C}]]", "[1, 8, nil, [{\"aborted\": true}]]");
    ck_assert_ptr_null(strstr(serve("[0, 9, 'stat', [{'thread': 't'}]]"), "in_flight"));
}
END_TEST

START_TEST(errors_as_they_are_listed)
{
    static const struct {
        const char *request, *parts[3];
    } cases[] = {
        {"[0, 1, 'append', [{'thread': 't'}, b'x']]",
         {"\"code\": \"conflict\"", "\"version\": 0", "\"cause\": \"claimed\""}},
        {"[0, 1, 'begin', [{'thread': 't'}]]",
         {"\"code\": \"conflict\"", "\"version\": 0", "\"cause\": \"claimed\""}},
        {"[0, 1, 'chunk', [{'thread': 't', 'claim': 1}, b'x']]",
         {"\"code\": \"conflict\"", "begin again", "\"cause\": \"claimed\""}},
        {"[0, 1, 'chunk', [{'thread': 't', 'claim': 0}, b'x']]",
         {"\"code\": \"bad_request\"", "\"option\": \"claim\"", ""}},
        {"[0, 1, 'chunk', [{'thread': 't'}, b'x']]",
         {"\"code\": \"bad_request\"", "\"option\": \"claim\"", ""}},
        {"[0, 1, 'chunk', [{'thread': 't', 'claim': %C}, b'']]",
         {"\"code\": \"bad_request\"", "", ""}},
        {"[0, 1, 'chunk', [{'thread': 't', 'claim': %C}, b(1048000)]]",
         {"\"code\": \"too_large\"", "", ""}},
        {"[0, 1, 'commit', [{'thread': 't', 'claim': %C}]]",
         {"\"code\": \"bad_request\"", "\"option\": \"segment\"", ""}},
        {"[0, 1, 'commit', [{'thread': 't', 'claim': %C, 'expect': 4}, b'x']]",
         {"\"code\": \"conflict\"", "\"version\": 0", "\"cause\": \"version\""}},
        {"[0, 1, 'begin', [{'thread': 't', 'segment': 'image'}]]",
         {"\"code\": \"bad_request\"", "\"option\": \"segment\"", ""}},
        {"[0, 1, 'begin', [{'thread': 'u'}, b'x']]", {"\"code\": \"bad_request\"", "payload", ""}},
        {"[0, 1, 'abort', [{'thread': 'u', 'claim': %C}]]",
         {"\"code\": \"conflict\"", "\"version\": 0", "\"cause\": \"claimed\""}},
    };
    begin("[0, 7, 'begin', [{'thread': 't', 'segment': 'tokens'}]]",
          "[1, 7, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 0, \"claim\": ");
    is("[0, 2, 'chunk', [{'thread': 't', 'claim': %C}, b'abc']]",
       "[1, 2, nil, [{\"bytes\": 3, \"claim_expires_in_ms\": 60000}]]");
    for (unsigned i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        const char *answer = serve(cases[i].request);
        for (unsigned part = 0; part < 3; part++) {
            ck_assert_msg(strstr(answer, cases[i].parts[part]) != NULL, "%s\n  answers %s",
                          cases[i].request, answer);
        }
    }
    /* And the claim has stayed through all of it. */
    is("[0, 2, 'chunk', [{'thread': 't', 'claim': %C}, b'd']]",
       "[1, 2, nil, [{\"bytes\": 4, \"claim_expires_in_ms\": 60000}]]");
}
END_TEST

START_TEST(a_commit_waits_for_the_disk)
{
    begin("[0, 1, 'begin', [{'thread': 't'}]]",
          "[1, 1, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 0, \"claim\": ");
    is("[0, 2, 'chunk', [{'thread': 't', 'claim': %C}, b'abc']]",
       "[1, 2, nil, [{\"bytes\": 3, \"claim_expires_in_ms\": 60000}]]");
    ck_assert_uint_eq(tier_model_waiting(model, TIER_MODEL_LOG), 0);
    is("[0, 3, 'commit', [{'thread': 't', 'claim': %C, 'key': 'k', 'ack': 'disk'}]]", "");
    ck_assert_uint_eq(reply.laters, 1);
    tend();
    ck_assert_uint_eq(reply.size, 0);
    ck_assert_uint_eq(tier_model_advance(model, TIER_MODEL_LOG, 1), 1);
    tend();
    ck_assert_uint_eq(reply.laters, 0);
    struct bytes body;
    uint64_t need;
    ck_assert_uint_eq(wire_frame_next(bytes_of(reply.out, reply.size), UINT32_MAX, &body, &need),
                      WIRE_FRAME_WHOLE);
    char *answer = notation_decode(body);
    ck_assert_str_eq(answer, "[1, 3, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 1, "
                             "\"created\": true, \"duplicate\": false, \"lost\": 0, "
                             "\"expires_in_ms\": 86400000}]]");
    free(answer);
    tier_model_run(model);
    tend();
    is("[0, 4, 'commit', [{'thread': 't', 'claim': %C, 'key': 'k', 'ack': 'disk'}]]",
       "[1, 4, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 1, \"created\": true, "
       "\"duplicate\": true, \"lost\": 0, \"expires_in_ms\": 86400000}]]");
}
END_TEST

START_TEST(a_commit_the_disk_did_not_take)
{
    begin("[0, 1, 'begin', [{'thread': 't'}]]",
          "[1, 1, nil, [{\"thread\": b\"t\", \"step\": 0, \"version\": 0, \"claim\": ");
    is("[0, 3, 'commit', [{'thread': 't', 'claim': %C, 'key': 'k', 'ack': 'disk'}, b'x']]", "");
    tier_model_fail(model);
    tend();
    struct bytes body;
    uint64_t need;
    ck_assert_uint_eq(wire_frame_next(bytes_of(reply.out, reply.size), UINT32_MAX, &body, &need),
                      WIRE_FRAME_WHOLE);
    char *answer = notation_decode(body);
    ck_assert_ptr_nonnull(strstr(answer, "\"code\": \"read_only\""));
    ck_assert_ptr_nonnull(strstr(answer, "same key"));
    free(answer);
    ck_assert_ptr_nonnull(strstr(serve("[0, 4, 'stat', [{'thread': 't'}]]"), "\"version\": 1"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatch: stream");
    TCase *tcase = tcase_create("stream");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, results_as_they_are_listed);
    tcase_add_test(tcase, errors_as_they_are_listed);
    tcase_add_test(tcase, a_commit_waits_for_the_disk);
    tcase_add_test(tcase, a_commit_the_disk_did_not_take);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
