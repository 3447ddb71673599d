/* Every method's request, taken apart by msgpack-c and compared with what it must say. */
#include "tests/client/fake.h"

#include "client/encode.h"

#include <stdlib.h>

static struct fake fake;

static void setup(void)
{
    fake_open(&fake, NULL, NULL, NULL);
}

static void teardown(void)
{
    fake_close(&fake);
}

#define SENDS(call, text)                                                                          \
    do {                                                                                           \
        uint32_t msgid = 0;                                                                        \
        ck_assert_int_eq(call, RETHREAD_OK);                                                       \
        ck_assert_uint_eq(fake_expect(&fake, text), msgid);                                        \
    } while (false)

START_TEST(hello_says_who_calls)
{
    struct rethread_hello_options options = {
        .protocol = rethread_u64(1),
        .client = rethread_text("worker/2"),
        .token = rethread_text("secret"),
    };
    SENDS(rethread_submit_hello(fake.connection, &options, &msgid),
          "\"hello\", [{\"protocol\": 1, \"client\": \"worker/2\", \"token\": b\"secret\"}]]");
    SENDS(rethread_submit_hello(fake.connection, NULL, &msgid), "\"hello\", [{}]]");
}
END_TEST

START_TEST(ping_and_info_say_nothing)
{
    SENDS(rethread_submit_ping(fake.connection, &msgid), "\"ping\", [{}]]");
    SENDS(rethread_submit_info(fake.connection, &msgid), "\"info\", [{}]]");
}
END_TEST

START_TEST(append_sends_every_option)
{
    struct rethread_bytes calls[] = {rethread_text("call_1"), rethread_text("call_2")};
    struct rethread_segment segments[] = {
        {.bytes = rethread_text("because")},
        {RETHREAD_KIND_TOKENS, rethread_text("\1\2\3\4")},
        {RETHREAD_KIND_OPAQUE, rethread_text("sealed")},
    };
    struct rethread_append_options options = {
        .thread = rethread_text("t"),
        .expect = rethread_u64(0),
        .key = rethread_text("k"),
        .response_id = rethread_text("resp_1"),
        .tool_calls = {calls, 2},
        .model = rethread_text("m"),
        .turn = rethread_u64(300),
        .final = rethread_bool(false),
        .tokens = rethread_u64(70000),
        .prefix = rethread_text("0123456789abcdef"),
        .visible = rethread_text("fedcba9876543210"),
        .ttl_ms = rethread_u64(31536000000),
        .retention_ms = rethread_u64(0),
        .segments = {segments, 3},
        .ack = RETHREAD_ACK_MEMORY,
    };
    SENDS(rethread_submit_append(fake.connection, &options, &msgid),
          "\"append\", [{\"thread\": b\"t\", \"expect\": 0, \"key\": b\"k\", \"response_id\": "
          "b\"resp_1\", \"tool_calls\": [b\"call_1\", b\"call_2\"], \"model\": b\"m\", \"turn\": "
          "300, \"final\": false, \"tokens\": 70000, \"prefix\": b\"0123456789abcdef\", "
          "\"visible\": b\"fedcba9876543210\", \"ttl_ms\": 31536000000, \"retention_ms\": 0, "
          "\"segments\": [\"text\", \"tokens\", \"opaque\"], "
          "\"ack\": \"memory\"}, b\"because\", b\"\\x01\\x02\\x03\\x04\", b\"sealed\"]]");
    options = (struct rethread_append_options){.thread = rethread_text("t"),
                                               .segments = {segments, 1},
                                               .final = rethread_bool(true),
                                               .ack = RETHREAD_ACK_DISK};
    SENDS(rethread_submit_append(fake.connection, &options, &msgid),
          "\"append\", [{\"thread\": b\"t\", \"final\": true, \"ack\": \"disk\"}, b\"because\"]]");
}
END_TEST

START_TEST(a_bare_step_says_so)
{
    struct rethread_append_options options = {
        .thread = rethread_text("t"), .tool_calls = {&options.thread, 0}, .bare = true};
    SENDS(rethread_submit_append(fake.connection, &options, &msgid),
          "\"append\", [{\"thread\": b\"t\", \"tool_calls\": [], \"segments\": []}]]");
    options.bare = false;
    SENDS(rethread_submit_append(fake.connection, &options, &msgid),
          "\"append\", [{\"thread\": b\"t\", \"tool_calls\": []}]]");
}
END_TEST

START_TEST(replay_sends_every_option)
{
    struct rethread_bytes prefixes[] = {rethread_text("0123456789abcdef"),
                                        rethread_text("fedcba9876543210")};
    struct rethread_step_prefix now[] = {{0, prefixes[0]}, {300, prefixes[1]}};
    uint64_t kept[] = {1, 70000};
    struct rethread_replay_options options = {
        .thread = rethread_text("t"),
        .response_id = rethread_text("r"),
        .tool_call = rethread_text("c"),
        .prefix = {prefixes, 2},
        .policy = "last_turns",
        .turn = rethread_u64(0),
        .turns = rethread_u64(3),
        .prefixes = {now, 2},
        .on_mismatch = "fail",
        .have = {.set = true, .version = 9, .step = 70000, .kept = {kept, 2}},
        .last = rethread_u64(2),
        .max_bytes = rethread_u64(INT64_MAX),
        .max_tokens = rethread_u64(0),
        .model = rethread_text("m"),
        .pin = rethread_bool(true),
        .touch = rethread_bool(false),
    };
    SENDS(rethread_submit_replay(fake.connection, &options, &msgid),
          "\"replay\", [{\"thread\": b\"t\", \"response_id\": b\"r\", \"tool_call\": b\"c\", "
          "\"prefix\": [b\"0123456789abcdef\", b\"fedcba9876543210\"], \"policy\": "
          "\"last_turns\", \"turn\": 0, \"turns\": 3, \"prefixes\": [[0, b\"0123456789abcdef\"], "
          "[300, b\"fedcba9876543210\"]], \"on_mismatch\": \"fail\", \"have\": {\"version\": 9, "
          "\"step\": 70000, \"kept\": [1, 70000]}, \"last\": 2, \"max_bytes\": "
          "9223372036854775807, \"max_tokens\": 0, \"model\": b\"m\", \"pin\": true, \"touch\": "
          "false}]]");
    options = (struct rethread_replay_options){.thread = rethread_text("t")};
    SENDS(rethread_submit_replay(fake.connection, &options, &msgid),
          "\"replay\", [{\"thread\": b\"t\"}]]");
}
END_TEST

/* One prefix goes out as itself; an empty list that was given is still said. */
START_TEST(lists_of_a_replay_may_be_short)
{
    struct rethread_bytes prefix = rethread_text("0123456789abcdef");
    struct rethread_step_prefix none;
    uint64_t nothing;
    struct rethread_replay_options options = {.prefix = {&prefix, 1},
                                              .have = {.set = true, .version = 9, .step = -1}};
    SENDS(rethread_submit_replay(fake.connection, &options, &msgid),
          "\"replay\", [{\"prefix\": b\"0123456789abcdef\", \"have\": {\"version\": 9, \"step\": "
          "-1}}]]");
    options.prefix.count = 0;
    options.prefixes = (struct rethread_prefixes){&none, 0};
    options.have.kept = (struct rethread_steps){&nothing, 0};
    SENDS(rethread_submit_replay(fake.connection, &options, &msgid),
          "\"replay\", [{\"prefix\": [], \"prefixes\": [], \"have\": {\"version\": 9, \"step\": "
          "-1, \"kept\": []}}]]");
}
END_TEST

START_TEST(streaming_sends_every_option)
{
    struct rethread_bytes calls[] = {rethread_text("call_1")};
    struct rethread_bytes payloads[] = {rethread_text("bec"), rethread_text("ause")};
    struct rethread_segment segments[] = {
        {.bytes = rethread_text("more")},
        {RETHREAD_KIND_OPAQUE, rethread_text("sealed")},
    };
    struct rethread_begin_options begin = {
        .thread = rethread_text("t"), .expect = rethread_u64(3), .segment = "tokens"};
    SENDS(rethread_submit_begin(fake.connection, &begin, &msgid),
          "\"begin\", [{\"thread\": b\"t\", \"expect\": 3, \"segment\": \"tokens\"}]]");
    begin = (struct rethread_begin_options){.thread = rethread_text("t")};
    SENDS(rethread_submit_begin(fake.connection, &begin, &msgid),
          "\"begin\", [{\"thread\": b\"t\"}]]");
    struct rethread_chunk_options chunk = {rethread_text("t"), rethread_u64(INT64_MAX), payloads,
                                           2};
    SENDS(rethread_submit_chunk(fake.connection, &chunk, &msgid),
          "\"chunk\", [{\"thread\": b\"t\", \"claim\": 9223372036854775807}, b\"bec\", "
          "b\"ause\"]]");
    chunk.payload_count = 0;
    SENDS(rethread_submit_chunk(fake.connection, &chunk, &msgid),
          "\"chunk\", [{\"thread\": b\"t\", \"claim\": 9223372036854775807}]]");
    struct rethread_commit_options commit = {
        .thread = rethread_text("t"),
        .claim = rethread_u64(1),
        .expect = rethread_u64(0),
        .key = rethread_text("k"),
        .response_id = rethread_text("r"),
        .tool_calls = {calls, 1},
        .model = rethread_text("m"),
        .turn = rethread_u64(2),
        .final = rethread_bool(false),
        .tokens = rethread_u64(3),
        .prefix = rethread_text("0123456789abcdef"),
        .visible = rethread_text("fedcba9876543210"),
        .ttl_ms = rethread_u64(4),
        .retention_ms = rethread_u64(0),
        .segments = {segments, 2},
        .ack = RETHREAD_ACK_DISK,
    };
    SENDS(rethread_submit_commit(fake.connection, &commit, &msgid),
          "\"commit\", [{\"thread\": b\"t\", \"claim\": 1, \"expect\": 0, \"key\": b\"k\", "
          "\"response_id\": b\"r\", \"tool_calls\": [b\"call_1\"], \"model\": b\"m\", \"turn\": "
          "2, \"final\": false, \"tokens\": 3, \"prefix\": b\"0123456789abcdef\", \"visible\": "
          "b\"fedcba9876543210\", \"ttl_ms\": 4, \"retention_ms\": 0, \"segments\": [\"text\", "
          "\"opaque\"], \"ack\": \"disk\"}, b\"more\", b\"sealed\"]]");
    commit =
        (struct rethread_commit_options){.thread = rethread_text("t"), .claim = rethread_u64(1)};
    SENDS(rethread_submit_commit(fake.connection, &commit, &msgid),
          "\"commit\", [{\"thread\": b\"t\", \"claim\": 1}]]");
    commit.bare = true;
    SENDS(rethread_submit_commit(fake.connection, &commit, &msgid),
          "\"commit\", [{\"thread\": b\"t\", \"claim\": 1, \"segments\": []}]]");
    struct rethread_abort_options abort = {rethread_text("t"), rethread_u64(1)};
    SENDS(rethread_submit_abort(fake.connection, &abort, &msgid),
          "\"abort\", [{\"thread\": b\"t\", \"claim\": 1}]]");
}
END_TEST

START_TEST(the_smaller_methods_send_every_option)
{
    struct rethread_bytes ids[] = {rethread_text("a"), rethread_text("b")};
    struct rethread_stat_options stat = {rethread_text("t")};
    SENDS(rethread_submit_stat(fake.connection, &stat, &msgid),
          "\"stat\", [{\"thread\": b\"t\"}]]");
    struct rethread_touch_options touch = {.threads = {ids, 2}, .ttl_ms = rethread_u64(5)};
    SENDS(rethread_submit_touch(fake.connection, &touch, &msgid),
          "\"touch\", [{\"threads\": [b\"a\", b\"b\"], \"ttl_ms\": 5}]]");
    struct rethread_fork_options fork = {ids[0], ids[1], rethread_u64(7)};
    SENDS(rethread_submit_fork(fake.connection, &fork, &msgid),
          "\"fork\", [{\"thread\": b\"a\", \"from\": b\"b\", \"at\": 7}]]");
    struct rethread_rewind_options rewind = {ids[0], rethread_i64(-1)};
    SENDS(rethread_submit_rewind(fake.connection, &rewind, &msgid),
          "\"rewind\", [{\"thread\": b\"a\", \"to\": -1}]]");
    rewind.to = (struct rethread_i64){false, 0};
    SENDS(rethread_submit_rewind(fake.connection, &rewind, &msgid),
          "\"rewind\", [{\"thread\": b\"a\"}]]");
    struct rethread_forget_options forget = {ids[0]};
    SENDS(rethread_submit_forget(fake.connection, &forget, &msgid),
          "\"forget\", [{\"thread\": b\"a\"}]]");
    struct rethread_list_options list = {
        .starts_with = rethread_text(""), .cursor = ids[1], .limit = rethread_u64(10)};
    SENDS(rethread_submit_list(fake.connection, &list, &msgid),
          "\"list\", [{\"starts_with\": b\"\", \"cursor\": b\"b\", \"limit\": 10}]]");
}
END_TEST

START_TEST(raw_sends_what_it_is_given)
{
    struct bytes map = notation_encode("{'thread': 'x', 'later': [1, 2]}");
    struct rethread_bytes payloads[] = {rethread_text("p"), rethread_text("qq")};
    struct rethread_bytes options = {map.data, map.size};
    SENDS(rethread_submit_raw(fake.connection, "invent", options, payloads, 2, &msgid),
          "\"invent\", [{\"thread\": \"x\", \"later\": [1, 2]}, b\"p\", b\"qq\"]]");
    SENDS(rethread_submit_raw(fake.connection, "ping", (struct rethread_bytes){NULL, 0}, NULL, 0,
                              &msgid),
          "\"ping\", [{}]]");
    options.size--;
    uint32_t refused;
    ck_assert_int_eq(rethread_submit_raw(fake.connection, "x", options, NULL, 0, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(
        rethread_submit_raw(fake.connection, "x", rethread_text("\x93\1\2\3"), NULL, 0, &refused),
        RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(
        rethread_submit_raw(fake.connection, "x", rethread_text("\x80 "), NULL, 0, &refused),
        RETHREAD_INVALID_ARGUMENT);
    free((void *)(uintptr_t)map.data);
}
END_TEST

START_TEST(a_refused_request_leaves_nothing_behind)
{
    uint32_t refused = 0;
    struct rethread_segment other = {RETHREAD_KIND_OTHER, rethread_text("x")};
    struct rethread_append_options append = {.thread = rethread_text("t"), .segments = {&other, 1}};
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    other.kind = RETHREAD_KIND_TEXT;
    append.bare = true;
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    append.bare = false;
    append.segments.items = NULL;
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_segment text = {.bytes = rethread_text("x")};
    struct rethread_commit_options commit = {.segments = {&text, 1}, .bare = true};
    ck_assert_int_eq(rethread_submit_commit(fake.connection, &commit, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_chunk_options chunk = {.payload_count = 1};
    ck_assert_int_eq(rethread_submit_chunk(fake.connection, &chunk, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_replay_options replay = {.prefix = {NULL, 2}};
    ck_assert_int_eq(rethread_submit_replay(fake.connection, &replay, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    replay = (struct rethread_replay_options){.prefixes = {NULL, 1}};
    ck_assert_int_eq(rethread_submit_replay(fake.connection, &replay, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    replay = (struct rethread_replay_options){.have = {.set = true, .kept = {NULL, 1}}};
    ck_assert_int_eq(rethread_submit_replay(fake.connection, &replay, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_stat_options stat = {{NULL, 3}};
    ck_assert_int_eq(rethread_submit_stat(fake.connection, &stat, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    struct rethread_touch_options touch = {.threads = {NULL, 3}};
    ck_assert_int_eq(rethread_submit_touch(fake.connection, &touch, &refused),
                     RETHREAD_INVALID_ARGUMENT);
    ck_assert_uint_eq(rethread_outstanding(fake.connection), 0);
    ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ);
    SENDS(rethread_submit_ping(fake.connection, &msgid), "\"ping\", [{}]]");
}
END_TEST

/* A body of exactly the limit passes, one byte more does not. */
START_TEST(the_frame_limit_is_exact)
{
    enum { LIMIT = 1000 };
    static char trace[LIMIT];
    struct client_outgoing outgoing = {.first = 0};
    struct rethread_append_options append = {.thread = rethread_text("t")};
    struct rethread_bytes payload = {trace, 500};
    struct client_request request = {
        .method = RETHREAD_METHOD_APPEND,
        .name = "append",
        .options = &append,
        .payloads = &payload,
        .payload_stride = sizeof payload,
        .payload_count = 1,
    };
    ck_assert_int_eq(client_encode(&outgoing, &request, 1, LIMIT, false), RETHREAD_OK);
    size_t around = client_outgoing_size(&outgoing) - 5 - payload.size;
    client_outgoing_clear(&outgoing);
    for (int borrow = 0; borrow < 2; borrow++) {
        payload.size = LIMIT - around;
        ck_assert_int_eq(client_encode(&outgoing, &request, 1, LIMIT, borrow), RETHREAD_OK);
        ck_assert_uint_eq(client_outgoing_size(&outgoing), LIMIT + 5);
        payload.size++;
        ck_assert_int_eq(client_encode(&outgoing, &request, 2, LIMIT, borrow), RETHREAD_TOO_LARGE);
        ck_assert_uint_eq(client_outgoing_size(&outgoing), LIMIT + 5);
        client_outgoing_clear(&outgoing);
    }
}
END_TEST

START_TEST(a_large_payload_is_borrowed_only_when_asked)
{
    static char trace[3 * CLIENT_BORROW_BYTES_MIN];
    struct client_outgoing outgoing = {.first = 0};
    struct rethread_bytes payloads[RETHREAD_PAYLOADS_MAX + 3];
    for (size_t i = 0; i < RETHREAD_PAYLOADS_MAX + 3; i++)
        payloads[i] = (struct rethread_bytes){trace, sizeof trace};
    struct client_request request = {
        .name = "x",
        .payloads = payloads,
        .payload_stride = sizeof payloads[0],
        .payload_count = RETHREAD_PAYLOADS_MAX + 3,
    };
    ck_assert_int_eq(client_encode(&outgoing, &request, 1, SIZE_MAX, false), RETHREAD_OK);
    ck_assert_uint_eq(outgoing.borrowed_bytes, 0);
    size_t size = client_outgoing_size(&outgoing);
    client_outgoing_clear(&outgoing);
    ck_assert_int_eq(client_encode(&outgoing, &request, 1, SIZE_MAX, true), RETHREAD_OK);
    ck_assert_uint_eq(outgoing.borrowed_bytes, CLIENT_BORROWED_MAX * sizeof trace);
    ck_assert_uint_eq(client_outgoing_size(&outgoing), size);
    client_outgoing_clear(&outgoing);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/encode");
    TCase *methods = tcase_create("methods");
    tcase_add_checked_fixture(methods, setup, teardown);
    tcase_add_test(methods, hello_says_who_calls);
    tcase_add_test(methods, ping_and_info_say_nothing);
    tcase_add_test(methods, append_sends_every_option);
    tcase_add_test(methods, a_bare_step_says_so);
    tcase_add_test(methods, replay_sends_every_option);
    tcase_add_test(methods, lists_of_a_replay_may_be_short);
    tcase_add_test(methods, streaming_sends_every_option);
    tcase_add_test(methods, the_smaller_methods_send_every_option);
    tcase_add_test(methods, raw_sends_what_it_is_given);
    tcase_add_test(methods, a_refused_request_leaves_nothing_behind);
    suite_add_tcase(suite, methods);
    TCase *frames = tcase_create("frames");
    tcase_add_test(frames, the_frame_limit_is_exact);
    tcase_add_test(frames, a_large_payload_is_borrowed_only_when_asked);
    suite_add_tcase(suite, frames);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
