/* Frame bodies in, frames out, over the real domain on a driven clock; no sockets. */
#include "tests/lib/trial.h"
#include "tests/server/test_dispatch.h"
#include "tests/wire/golden.h"

#include <stdio.h>

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

/* Several connections' bodies are prepared together and served by parts; a refusal or a serve of
 * others in between changes nothing for the rest. */
START_TEST(prepared_bodies_are_served_by_parts)
{
    struct bytes bodies[4];
    char request[100];
    for (unsigned i = 0; i < 4; i++) {
        snprintf(request, sizeof request, "[0, %u, 'append', [{'thread': 't%u'}, b'own%u']]", i, i,
                 i);
        bodies[i] = notation_encode(request);
    }
    handler.prepare(handler.context, bodies, 4);
    ck_assert(handler.refuse(handler.context, &reply, bodies[3], STATUS_SHUTTING_DOWN));
    serve(bodies, 1);
    serve(bodies + 1, 3);
    expect("[0, 9, 'replay', [{'thread': 't0'}]]", "b\"own0\"]]");
    /* The same again, where `ask` has made others of the jobs. */
    serve(bodies + 1, 2);
    expect("[0, 9, 'stat', [{'thread': 't0'}]]", "\"step_count\": 1");
    expect("[0, 9, 'replay', [{'thread': 't1'}]]", "b\"own1\", b\"own1\"]]");
    expect("[0, 9, 'replay', [{'thread': 't2'}]]", "b\"own2\", b\"own2\"]]");
    expect("[0, 9, 'replay', [{'thread': 't3'}]]", "b\"own3\"]]");
    for (unsigned i = 0; i < 4; i++) {
        free((void *)bodies[i].data);
    }
}
END_TEST

/* Sizes around every width of a bin header, and around what goes by reference. */
START_TEST(payloads_of_every_size)
{
    static const unsigned sizes[] = {1,    255,   256,   257,   2047,  2048,
                                     2049, 65535, 65536, 65537, 70000, 200000};
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
    ask("[0, 1, 'append', [{'thread': 't'}, b(2000), b(2000)]]");
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
    TCase *tcase = tcase_create("turns");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_test(tcase, a_batch_takes_effect_in_order);
    tcase_add_test(tcase, prepared_bodies_are_served_by_parts);
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
