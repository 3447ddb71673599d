/* Answers that wait for the disk, and what is said of things that were found there. */
#include "tests/server/made_up.h"

static void open_with_disk(void)
{
    open_with(true);
}

/* What may wait for the disk, with the words of the error if the disk does not take it. */
static const struct {
    const char *request;
    const char *advice;
} may_wait[] = {
    {"[0, 5, 'append', [{'thread': 't', 'ack': 'disk', 'key': 'k'}, b'x']]", "with the same key"},
    {"[0, 5, 'append', [{'thread': 't', 'ack': 'disk'}, b'x']]", "ask stat"},
    {"[0, 5, 'append', [{'thread': 't', 'retention_ms': 0}, b'x']]", "not erased"},
    {"[0, 5, 'commit', [{'thread': 't', 'claim': 9, 'ack': 'disk', 'key': 'k'}]]", "same key"},
    {"[0, 5, 'commit', [{'thread': 't', 'claim': 9, 'retention_ms': 0}, b'x']]", "not erased"},
    {"[0, 5, 'forget', [{'thread': 't'}]]", "gone from memory"},
};

enum { MAY_WAIT = sizeof may_wait / sizeof may_wait[0] };

START_TEST(an_answer_waits_for_the_disk)
{
    struct bytes body = notation_encode(may_wait[_i].request);
    struct bytes ping = notation_encode("[0, 6, 'ping', [{}]]");
    struct bytes two[] = {body, ping};
    bool deferred = false;
    pends = true;
    ck_assert_uint_eq(serve(two, 2, 0, &deferred), 2);
    ck_assert(answered("[1, 6, nil, [{}]]")); /* and goes on meanwhile */
    ck_assert_uint_eq(wait_count, 1);
    ck_assert_uint_eq(reply.laters, 1);
    ck_assert_uint_eq(lane.counts[METRIC_REQUESTS], 2);
    reply_reset(&reply);
    waits[0]->done(waits[0], STATUS_OK);
    ck_assert(answered("[1, 5, nil, [{"));
    ck_assert_uint_eq(lane.counts[METRIC_ERRORS], 0);
    free((void *)body.data);
    free((void *)ping.data);
}
END_TEST

START_TEST(the_disk_did_not_take_it)
{
    struct bytes body = notation_encode(may_wait[_i].request);
    bool deferred = false;
    pends = true;
    ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 1);
    ck_assert_uint_eq(reply.size, 0);
    waits[0]->done(waits[0], STATUS_READ_ONLY);
    ck_assert(answered("[1, 5, {\"code\": \"read_only\""));
    ck_assert(answered(may_wait[_i].advice));
    ck_assert_uint_eq(lane.counts[METRIC_ERRORS], 1);
    free((void *)body.data);
}
END_TEST

/* What was reserved is given back when nothing is to be waited for. */
START_TEST(it_need_not_wait)
{
    struct bytes body = notation_encode(may_wait[_i].request);
    bool deferred = false;
    again = 1;
    ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 0);
    ck_assert(deferred);
    ck_assert_uint_eq(reply.laters, 0);
    ck_assert_uint_eq(serve(&body, 1, 1, &deferred), 1);
    ck_assert(answered("[1, 5, nil, [{"));
    ck_assert_uint_eq(wait_count, 0);
    free((void *)body.data);
}
END_TEST

/* Nothing is run that could not be answered. */
START_TEST(without_a_later_reply_it_is_not_run)
{
    struct bytes body = notation_encode(may_wait[_i].request);
    bool deferred = true;
    reply.no_laters = true;
    ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 0);
    ck_assert(!deferred);
    ck_assert_uint_eq(operations, 0);
    reply.no_laters = false;
    free((void *)body.data);
}
END_TEST

/* Hot appends reserve nothing. */
START_TEST(other_requests_need_no_later_reply)
{
    static const char *const others[] = {
        "[0, 5, 'append', [{'thread': 't', 'ack': 'memory', 'retention_ms': 9}, b'x']]",
        "[0, 5, 'append', [{'thread': 't'}, b'x']]",
        "[0, 5, 'rewind', [{'thread': 't', 'to': 0}]]",
        "[0, 5, 'replay', [{'thread': 't'}]]",
        "[0, 5, 'begin', [{'thread': 't'}]]",
        "[0, 5, 'chunk', [{'thread': 't', 'claim': 9}, b'x']]",
        "[0, 5, 'commit', [{'thread': 't', 'claim': 9}]]",
        "[0, 5, 'abort', [{'thread': 't', 'claim': 9}]]",
    };
    struct bytes body = notation_encode(others[_i]);
    bool deferred = true;
    reply.no_laters = true;
    ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 1);
    ck_assert(answered("[1, 5, nil, [{"));
    reply.no_laters = false;
    free((void *)body.data);
}
END_TEST

START_TEST(answers_say_where_it_was)
{
    static const struct {
        const char *request;
        const char *said[2];
    } looks[] = {
        {"[0, 5, 'replay', [{'thread': 't'}]]", {"\"source\": \"memory\"", "\"source\": \"disk\""}},
        {"[0, 5, 'stat', [{'thread': 't'}]]", {"\"tier\": \"memory\"", "\"tier\": \"disk\""}},
        {"[0, 5, 'list', [{}]]", {"\"tier\": \"memory\"", "\"tier\": \"disk\""}},
    };
    bool deferred = false;
    on_disk = _i;
    steps_made = 1;
    step_made.segment_bytes = 1;
    for (unsigned i = 0; i < 3; i++) {
        struct bytes body = notation_encode(looks[i].request);
        ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 1);
        ck_assert(answered(looks[i].said[on_disk]));
        ck_assert(!answered(looks[i].said[!on_disk]));
        free((void *)body.data);
    }
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("waiting");
    TCase *disk = tcase_create("disk");
    tcase_add_checked_fixture(disk, open_with_disk, close_all);
    tcase_add_loop_test(disk, an_answer_waits_for_the_disk, 0, MAY_WAIT);
    tcase_add_loop_test(disk, the_disk_did_not_take_it, 0, MAY_WAIT);
    tcase_add_loop_test(disk, it_need_not_wait, 0, MAY_WAIT);
    tcase_add_loop_test(disk, without_a_later_reply_it_is_not_run, 0, MAY_WAIT);
    tcase_add_loop_test(disk, other_requests_need_no_later_reply, 0, 8);
    tcase_add_loop_test(disk, answers_say_where_it_was, 0, 2);
    suite_add_tcase(suite, disk);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
