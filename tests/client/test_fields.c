/* Every result's shape, from responses written as text, and what each field may not be. */
#include "client/decode.h"
#include "tests/client/fake.h"

#include <stdlib.h>

/* Decodes "[1, 7, nil, [...]]"; the result owns its bytes. */
static enum rethread_status decode(enum rethread_method method, const char *text,
                                   struct rethread_result **result)
{
    struct bytes encoded = notation_encode(text);
    struct rethread_bytes body = {encoded.data, encoded.size};
    struct client_envelope envelope;
    ck_assert(client_decode_envelope(body, &envelope));
    enum rethread_status status = client_decode(body, method, result);
    if (status == RETHREAD_OK)
        (*result)->memory = (void *)(uintptr_t)encoded.data;
    else
        free((void *)(uintptr_t)encoded.data);
    return status;
}

static struct rethread_result *result;

#define DECODES(METHOD, text)                                                                      \
    ck_assert_int_eq(decode(RETHREAD_METHOD_##METHOD, "[1, 7, nil, [" text "]]", &result),         \
                     RETHREAD_OK)

#define REFUSES(METHOD, text)                                                                      \
    do {                                                                                           \
        ck_assert_int_eq(decode(RETHREAD_METHOD_##METHOD, "[1, 7, nil, [" text "]]", &result),     \
                         RETHREAD_PROTOCOL_VIOLATION);                                             \
        ck_assert_ptr_null(result);                                                                \
    } while (false)

#define IS(number, expected)                                                                       \
    do {                                                                                           \
        ck_assert((number).set);                                                                   \
        ck_assert_uint_eq((number).value, expected);                                               \
    } while (false)

START_TEST(hello_result)
{
    DECODES(HELLO, "{'protocol': 1, 'server': 'rethread', 'version': '0.1', 'tenant': 'default', "
                   "'frame_max': 67108864, 'invented': [{'later': 1}]}");
    const struct rethread_hello_result *hello = rethread_result_hello(result);
    ck_assert_uint_eq(hello->protocol, 1);
    ck_assert(fake_same(hello->server, "rethread") && fake_same(hello->version, "0.1"));
    ck_assert(fake_same(hello->tenant, "default"));
    IS(hello->frame_max, 67108864);
    rethread_result_free(result);
    REFUSES(HELLO, "{'server': 'rethread'}");
    REFUSES(HELLO, "{'protocol': '1'}");
    REFUSES(HELLO, "{'protocol': 1, 'protocol': 1}");
    REFUSES(HELLO, "{'protocol': 1, 7: 1}");
}
END_TEST

START_TEST(append_result)
{
    DECODES(APPEND, "{'thread': b't', 'step': 4, 'version': 4294967296, 'created': false, "
                    "'duplicate': true, 'lost': 3, 'expires_in_ms': 300000}");
    const struct rethread_append_result *append = rethread_result_append(result);
    ck_assert(fake_same(append->thread, "t"));
    ck_assert_uint_eq(append->step, 4);
    ck_assert_uint_eq(append->version, 4294967296);
    ck_assert(!append->created && append->duplicate);
    ck_assert_uint_eq(append->lost, 3);
    IS(append->expires_in_ms, 300000);
    rethread_result_free(result);
    DECODES(APPEND, "{'step': 0, 'version': 1, 'created': true}");
    append = rethread_result_append(result);
    ck_assert_ptr_null(append->thread.data);
    ck_assert(append->created && !append->duplicate && !append->expires_in_ms.set);
    rethread_result_free(result);
    REFUSES(APPEND, "{'version': 1}");
    REFUSES(APPEND, "{'step': nil, 'version': 1}");
    REFUSES(APPEND, "{'step': -1, 'version': 1}");
    REFUSES(APPEND, "{'step': 0, 'version': 1, 'created': 1}");
}
END_TEST

static const char REPLAY[] =
    "[1, 7, nil, [{'status': 'partial', 'thread': b't', 'version': 12, 'head': 3, 'ambiguous': "
    "true, 'found': 2, 'in_flight': true, 'kept_from': 1, 'dropped': 0, 'extends': false, "
    "'first_changed': 1, 'expires_in_ms': 5, 'steps': ["
    "{'step': 0, 'missing': 'expired'}, "
    "{'step': 1, 'turn': 2, 'final': true, 'model': b'm', 'response_id': b'r', 'tool_calls': "
    "[b'c1', b'c2'], 'tokens': 9, 'visible': b'hash', 'segments': [['text', 3], ['opaque', 2, "
    "'more'], ['new', 1]], "
    "'source': 'memory'}, "
    "{'step': 2, 'turn': 2, 'final': false, 'model': nil, 'segments': [], 'source': 'disk'}, "
    "{'step': 3, 'segments': [['tokens', 4]], 'source': 'moon'}]}, b'abc', b'de', b'f', b'ghij']]";

START_TEST(replay_result)
{
    ck_assert_int_eq(decode(RETHREAD_METHOD_REPLAY, REPLAY, &result), RETHREAD_OK);
    const struct rethread_replay_result *replay = rethread_result_replay(result);
    ck_assert_int_eq(replay->status, RETHREAD_PARTIAL);
    ck_assert_int_eq(replay->reason, RETHREAD_REASON_NONE);
    ck_assert(fake_same(replay->thread, "t") && replay->ambiguous && !replay->vouch_ms.set);
    IS(replay->version, 12);
    IS(replay->head, 3);
    IS(replay->found, 2);
    ck_assert(replay->in_flight && replay->extends.set && !replay->extends.value);
    IS(replay->kept_from, 1);
    IS(replay->dropped, 0);
    IS(replay->first_changed, 1);
    IS(replay->expires_in_ms, 5);
    ck_assert_uint_eq(replay->step_count, 4);
    const struct rethread_step *steps = replay->steps;
    ck_assert_uint_eq(steps[0].step, 0);
    ck_assert_int_eq(steps[0].missing, RETHREAD_REASON_EXPIRED);
    ck_assert_uint_eq(steps[1].turn, 2);
    ck_assert(steps[1].final && !steps[2].final);
    ck_assert(fake_same(steps[1].model, "m") && fake_same(steps[1].response_id, "r"));
    ck_assert_ptr_null(steps[2].model.data);
    ck_assert_uint_eq(steps[1].tool_calls.count, 2);
    ck_assert(fake_same(steps[1].tool_calls.items[1], "c2"));
    IS(steps[1].tokens, 9);
    ck_assert(fake_same(steps[1].visible, "hash"));
    ck_assert_ptr_null(steps[2].visible.data);
    ck_assert_uint_eq(steps[1].segments.count, 3);
    const struct rethread_segment *segments = steps[1].segments.items;
    ck_assert(segments[0].kind == RETHREAD_KIND_TEXT && fake_same(segments[0].bytes, "abc"));
    ck_assert(segments[1].kind == RETHREAD_KIND_OPAQUE && fake_same(segments[1].bytes, "de"));
    ck_assert(segments[2].kind == RETHREAD_KIND_OTHER && fake_same(segments[2].bytes, "f"));
    ck_assert_uint_eq(steps[2].segments.count, 0);
    ck_assert(fake_same(steps[3].segments.items[0].bytes, "ghij"));
    ck_assert_int_eq(steps[1].source, RETHREAD_TIER_MEMORY);
    ck_assert_int_eq(steps[2].source, RETHREAD_TIER_DISK);
    ck_assert_int_eq(steps[3].source, RETHREAD_TIER_OTHER);
    rethread_result_free(result);
}
END_TEST

START_TEST(a_miss_says_why)
{
    DECODES(REPLAY, "{'status': 'miss', 'reason': 'never_seen', 'vouch_ms': 1000, 'thread': nil, "
                    "'version': nil, 'head': nil, 'steps': [], 'expires_in_ms': nil}");
    const struct rethread_replay_result *replay = rethread_result_replay(result);
    ck_assert_int_eq(replay->status, RETHREAD_MISS);
    ck_assert_int_eq(replay->reason, RETHREAD_REASON_NEVER_SEEN);
    IS(replay->vouch_ms, 1000);
    ck_assert(!replay->version.set && !replay->head.set && !replay->expires_in_ms.set);
    ck_assert_uint_eq(replay->step_count, 0);
    rethread_result_free(result);
    DECODES(REPLAY, "{'status': 'complete', 'version': 3, 'head': -1, 'steps': []}");
    replay = rethread_result_replay(result);
    ck_assert(!replay->head.set && !replay->found.set && !replay->in_flight);
    ck_assert(!replay->kept_from.set && !replay->dropped.set && !replay->extends.set);
    rethread_result_free(result);
    DECODES(REPLAY, "{'status': 'miss', 'reason': 'moonlight', 'steps': []}");
    ck_assert_int_eq(rethread_result_replay(result)->reason, RETHREAD_REASON_OTHER);
    rethread_result_free(result);
}
END_TEST

/* What would pass a part off as the whole, or one segment's bytes as another's. */
START_TEST(a_replay_that_contradicts_itself_is_refused)
{
    REFUSES(REPLAY, "{'steps': []}");
    REFUSES(REPLAY, "{'status': 'complete'}");
    REFUSES(REPLAY, "{'status': 'nearly', 'steps': []}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [], 'extends': 1}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [{'step': 0, 'missing': 'expired'}]}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [{'step': 0}]}");
    REFUSES(REPLAY, "{'status': 'partial', 'steps': [{'step': 0, 'missing': 'expired', "
                    "'segments': []}]}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [{'segments': []}]}");
#define ONE "{'status': 'complete', 'steps': [{'step': 0, 'segments': [['text', 3]]}]}"
    REFUSES(REPLAY, ONE);
    REFUSES(REPLAY, ONE ", b'ab'");
    REFUSES(REPLAY, ONE ", b'abcd'");
    REFUSES(REPLAY, ONE ", b'abc', b'd'");
    REFUSES(REPLAY, ONE ", 3");
    DECODES(REPLAY, ONE ", b'abc'");
    rethread_result_free(result);
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [{'step': 0, 'segments': [['text']]}]}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [{'step': 0, 'segments': [['text', -1]]}]}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': [7]}");
    REFUSES(REPLAY, "{'status': 'complete', 'steps': {'step': 0}}");
}
END_TEST

START_TEST(stat_result)
{
    DECODES(STAT, "{'status': 'complete', 'version': 2, 'step_count': 3, 'bytes': 4, 'tokens': 5, "
                  "'age_ms': 6, 'idle_ms': 7, 'expires_in_ms': 8, 'tier': 'memory'}");
    const struct rethread_stat_result *stat = rethread_result_stat(result);
    ck_assert_int_eq(stat->status, RETHREAD_COMPLETE);
    IS(stat->version, 2);
    IS(stat->step_count, 3);
    IS(stat->bytes, 4);
    IS(stat->tokens, 5);
    IS(stat->age_ms, 6);
    IS(stat->idle_ms, 7);
    IS(stat->expires_in_ms, 8);
    ck_assert_int_eq(stat->tier, RETHREAD_TIER_MEMORY);
    rethread_result_free(result);
    DECODES(STAT, "{'status': 'miss', 'reason': 'forgotten', 'version': 9, 'tier': nil}");
    stat = rethread_result_stat(result);
    ck_assert_int_eq(stat->reason, RETHREAD_REASON_FORGOTTEN);
    ck_assert_int_eq(stat->tier, RETHREAD_TIER_OTHER);
    ck_assert(!stat->in_flight && !stat->floor.set);
    rethread_result_free(result);
    DECODES(STAT, "{'status': 'complete', 'in_flight': true, 'floor': 3}");
    stat = rethread_result_stat(result);
    ck_assert(stat->in_flight);
    IS(stat->floor, 3);
    rethread_result_free(result);
    REFUSES(STAT, "{'version': 1}");
    REFUSES(STAT, "{'status': 'complete', 'in_flight': 1}");
}
END_TEST

START_TEST(touch_result)
{
    DECODES(TOUCH, "{'touched': 2, 'missing': [[b'a', 'expired'], ['b', 'never_seen', 1]]}");
    const struct rethread_touch_result *touch = rethread_result_touch(result);
    ck_assert_uint_eq(touch->touched, 2);
    ck_assert_uint_eq(touch->missing_count, 2);
    ck_assert(fake_same(touch->missing[0].thread, "a") && fake_same(touch->missing[1].thread, "b"));
    ck_assert_int_eq(touch->missing[0].reason, RETHREAD_REASON_EXPIRED);
    ck_assert_int_eq(touch->missing[1].reason, RETHREAD_REASON_NEVER_SEEN);
    rethread_result_free(result);
    REFUSES(TOUCH, "{'touched': 2, 'missing': [[b'a']]}");
    REFUSES(TOUCH, "{'missing': []}");
}
END_TEST

START_TEST(fork_rewind_and_forget_results)
{
    DECODES(FORK, "{'thread': b'new', 'version': 4}");
    ck_assert(fake_same(rethread_result_fork(result)->thread, "new"));
    ck_assert_uint_eq(rethread_result_fork(result)->version, 4);
    rethread_result_free(result);
    DECODES(REWIND, "{'version': 6, 'dropped': 2}");
    ck_assert_uint_eq(rethread_result_rewind(result)->version, 6);
    ck_assert_uint_eq(rethread_result_rewind(result)->dropped, 2);
    rethread_result_free(result);
    DECODES(FORGET, "{'forgotten': true}");
    ck_assert(rethread_result_forget(result)->forgotten);
    rethread_result_free(result);
    REFUSES(FORK, "{'thread': b'new'}");
    REFUSES(REWIND, "{'version': 6}");
    REFUSES(FORGET, "{}");
}
END_TEST

START_TEST(streaming_results)
{
    DECODES(BEGIN, "{'thread': b't', 'step': 4, 'version': 6, 'claim': 9223372036854775807, "
                   "'claim_expires_in_ms': 60000, 'later': []}");
    const struct rethread_begin_result *begin = rethread_result_begin(result);
    ck_assert(fake_same(begin->thread, "t"));
    ck_assert_uint_eq(begin->step, 4);
    ck_assert_uint_eq(begin->version, 6);
    ck_assert_uint_eq(begin->claim, INT64_MAX);
    ck_assert_uint_eq(begin->claim_expires_in_ms, 60000);
    rethread_result_free(result);
    DECODES(CHUNK, "{'bytes': 4294967296, 'claim_expires_in_ms': 5}");
    ck_assert_uint_eq(rethread_result_chunk(result)->bytes, 4294967296);
    ck_assert_uint_eq(rethread_result_chunk(result)->claim_expires_in_ms, 5);
    rethread_result_free(result);
    DECODES(COMMIT, "{'thread': b't', 'step': 4, 'version': 7, 'created': true, 'duplicate': "
                    "false, 'lost': 1, 'expires_in_ms': 9}");
    const struct rethread_append_result *commit = rethread_result_commit(result);
    ck_assert(fake_same(commit->thread, "t"));
    ck_assert_uint_eq(commit->step, 4);
    ck_assert_uint_eq(commit->version, 7);
    ck_assert(commit->created && !commit->duplicate);
    ck_assert_uint_eq(commit->lost, 1);
    IS(commit->expires_in_ms, 9);
    rethread_result_free(result);
    DECODES(ABORT, "{'aborted': true}");
    ck_assert(rethread_result_abort(result)->aborted);
    rethread_result_free(result);
    REFUSES(BEGIN, "{'step': 4}");
    REFUSES(BEGIN, "{'claim': 4}");
    REFUSES(BEGIN, "{'step': 0, 'claim': -4}");
    REFUSES(CHUNK, "{'claim_expires_in_ms': 5}");
    REFUSES(COMMIT, "{'version': 5}");
    REFUSES(ABORT, "{'aborted': 1}");
}
END_TEST

START_TEST(list_result)
{
    DECODES(LIST, "{'threads': [{'thread': b'a', 'version': 1, 'bytes': 2, 'idle_ms': 3, 'tier': "
                  "'memory'}, {'thread': b'b'}], 'cursor': b'next'}");
    const struct rethread_list_result *list = rethread_result_list(result);
    ck_assert_uint_eq(list->thread_count, 2);
    ck_assert(fake_same(list->threads[0].thread, "a") && fake_same(list->threads[1].thread, "b"));
    ck_assert_uint_eq(list->threads[0].version, 1);
    ck_assert_uint_eq(list->threads[0].bytes, 2);
    ck_assert_uint_eq(list->threads[0].idle_ms, 3);
    ck_assert_int_eq(list->threads[0].tier, RETHREAD_TIER_MEMORY);
    ck_assert(fake_same(list->cursor, "next"));
    rethread_result_free(result);
    DECODES(LIST, "{'threads': [], 'cursor': nil}");
    ck_assert_ptr_null(rethread_result_list(result)->cursor.data);
    rethread_result_free(result);
    REFUSES(LIST, "{'cursor': nil}");
    REFUSES(LIST, "{'threads': [{'version': 1}]}");
}
END_TEST

START_TEST(errors_carry_their_details)
{
    ck_assert_int_eq(decode(RETHREAD_METHOD_APPEND,
                            "[1, 7, {'code': 'conflict', 'message': 'not so', 'cause': 'version', "
                            "'version': 8, 'future': {}}, nil]",
                            &result),
                     RETHREAD_OK);
    const struct rethread_error *error = rethread_result_error(result);
    ck_assert_int_eq(rethread_result_status(result), RETHREAD_CONFLICT);
    ck_assert_int_eq(error->status, RETHREAD_CONFLICT);
    ck_assert_str_eq(error->code, "conflict");
    ck_assert_str_eq(error->message, "not so");
    ck_assert_str_eq(error->cause, "version");
    ck_assert_ptr_null(error->option);
    IS(error->version, 8);
    ck_assert_ptr_null(rethread_result_append(result));
    rethread_result_free(result);

    ck_assert_int_eq(decode(RETHREAD_METHOD_FORK,
                            "[1, 7, {'code': 'not_found', 'reason': 'evicted'}, nil]", &result),
                     RETHREAD_OK);
    ck_assert_int_eq(rethread_result_status(result), RETHREAD_NOT_FOUND);
    ck_assert_int_eq(rethread_result_error(result)->reason, RETHREAD_REASON_EVICTED);
    rethread_result_free(result);

    ck_assert_int_eq(
        decode(RETHREAD_METHOD_STAT,
               "[1, 7, {'code': 'bad_request', 'option': 'thread', 'message': nil}, nil]", &result),
        RETHREAD_OK);
    ck_assert_str_eq(rethread_result_error(result)->option, "thread");
    ck_assert_ptr_null(rethread_result_error(result)->message);
    rethread_result_free(result);

    ck_assert_int_eq(decode(RETHREAD_METHOD_STAT, "[1, 7, {'code': 'tea_time'}, nil]", &result),
                     RETHREAD_OK);
    ck_assert_int_eq(rethread_result_status(result), RETHREAD_SERVER_ERROR);
    ck_assert_str_eq(rethread_result_error(result)->code, "tea_time");
    rethread_result_free(result);

    ck_assert_int_eq(decode(RETHREAD_METHOD_STAT, "[1, 7, {'message': 'x'}, nil]", &result),
                     RETHREAD_PROTOCOL_VIOLATION);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/fields");
    TCase *shapes = tcase_create("shapes");
    tcase_add_test(shapes, hello_result);
    tcase_add_test(shapes, append_result);
    tcase_add_test(shapes, replay_result);
    tcase_add_test(shapes, a_miss_says_why);
    tcase_add_test(shapes, a_replay_that_contradicts_itself_is_refused);
    tcase_add_test(shapes, stat_result);
    tcase_add_test(shapes, touch_result);
    tcase_add_test(shapes, fork_rewind_and_forget_results);
    tcase_add_test(shapes, streaming_results);
    tcase_add_test(shapes, list_result);
    tcase_add_test(shapes, errors_carry_their_details);
    suite_add_tcase(suite, shapes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
