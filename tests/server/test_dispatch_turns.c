/*
 * What dispatch does when the domain says "again", and when a reply would not fit a frame.
 */
#include "tests/server/made_up.h"

#include <stdio.h>

static void open_all(void)
{
    open_with(false);
}

static const char *const requests[] = {
    "[0, 5, 'append', [{'thread': 't'}, b'x']]",
    "[0, 5, 'replay', [{'thread': 't'}]]",
    "[0, 5, 'stat', [{'thread': 't'}]]",
    "[0, 5, 'touch', [{'threads': ['t']}]]",
    "[0, 5, 'fork', [{'thread': 't', 'from': 'u'}]]",
    "[0, 5, 'rewind', [{'thread': 't', 'to': 0}]]",
    "[0, 5, 'forget', [{'thread': 't'}]]",
    "[0, 5, 'list', [{}]]",
    "[0, 5, 'begin', [{'thread': 't'}]]",
    "[0, 5, 'chunk', [{'thread': 't', 'claim': 9}, b'x']]",
    "[0, 5, 'commit', [{'thread': 't', 'claim': 9}]]",
    "[0, 5, 'abort', [{'thread': 't', 'claim': 9}]]",
};

enum { REQUESTS = sizeof requests / sizeof requests[0] };

START_TEST(again_is_deferred_then_done)
{
    struct bytes body = notation_encode(requests[_i]);
    bool deferred = false;
    again = 3;
    for (unsigned attempts = 0; attempts < 3; attempts++) {
        ck_assert_uint_eq(serve(&body, 1, attempts, &deferred), 0);
        ck_assert(deferred);
        ck_assert_uint_eq(reply.size, 0);
    }
    ck_assert_uint_eq(serve(&body, 1, 3, &deferred), 1);
    ck_assert(!deferred);
    ck_assert(answered("[1, 5, nil, [{"));
    ck_assert_uint_eq(operations, 4);
    ck_assert_uint_eq(lane.counts[METRIC_DEFERRALS], 3);
    ck_assert_uint_eq(lane.counts[METRIC_REQUESTS], 1);
    ck_assert_uint_eq(lane.counts[METRIC_ERRORS], 0);
    free((void *)body.data);
}
END_TEST

START_TEST(again_for_too_long_is_busy)
{
    struct bytes body = notation_encode(requests[_i]);
    bool deferred = false;
    again = UINT32_MAX;
    /* Neither many turns in a moment nor a long time without turns is too long. */
    ck_assert_uint_eq(
        serve_deferred(&body, 1, (struct net_deferral){100000, 499, false}, &deferred), 0);
    ck_assert_uint_eq(serve_deferred(&body, 1, (struct net_deferral){31, 5000, false}, &deferred),
                      0);
    lane.counts[METRIC_DEFERRALS] = 0;
    unsigned attempts = 0;
    while (serve_deferred(&body, 1, (struct net_deferral){attempts, attempts * 10, false},
                          &deferred) == 0) {
        ck_assert(deferred);
        attempts++;
    }
    ck_assert_uint_eq(attempts, 50);
    ck_assert(!deferred);
    ck_assert(answered("[1, 5, {\"code\": \"busy\", \"message\": \"given up\"}, nil]"));
    ck_assert_uint_eq(lane.counts[METRIC_DEFERRALS], 50);
    ck_assert_uint_eq(lane.counts[METRIC_ERRORS], 1);
    free((void *)body.data);
}
END_TEST

/* Room on the disk takes as long as the disk does, and is waited for unless there is no time. */
START_TEST(again_for_want_of_room_lasts_longer)
{
    static const struct net_deferral go_on[] = {
        {100000, 500, false},
        {100000, DISPATCH_ROOM_PATIENCE_MS - 1, false},
        {31, DISPATCH_ROOM_PATIENCE_MS, false},
        {100000, 499, true},
    };
    static const struct net_deferral end[] = {
        {32, DISPATCH_ROOM_PATIENCE_MS, false},
        {32, 500, true},
    };
    struct bytes body = notation_encode(requests[_i]);
    bool deferred = false;
    again = UINT32_MAX;
    awaits_room = true;
    for (size_t i = 0; i < sizeof go_on / sizeof *go_on; i++) {
        ck_assert_uint_eq(serve_deferred(&body, 1, go_on[i], &deferred), 0);
        ck_assert(deferred);
    }
    for (size_t i = 0; i < sizeof end / sizeof *end; i++) {
        ck_assert_uint_eq(serve_deferred(&body, 1, end[i], &deferred), 1);
        ck_assert(!deferred);
        ck_assert(answered("\"busy\""));
    }
    awaits_room = false;
    free((void *)body.data);
}
END_TEST

/* Room on the disk comes for all at once: one asks for all. */
START_TEST(again_for_want_of_room_is_patient)
{
    struct bytes body = notation_encode(requests[_i]);
    bool deferred = false;
    again = UINT32_MAX;
    awaits_room = true;
    ck_assert_uint_eq(serve_deferred(&body, 1, (struct net_deferral){0}, &deferred), 0);
    ck_assert(deferred);
    ck_assert(reply.patient);
    awaits_room = false;
    ck_assert_uint_eq(serve_deferred(&body, 1, (struct net_deferral){0}, &deferred), 0);
    ck_assert(!reply.patient);
    free((void *)body.data);
}
END_TEST

/* What follows a deferred request waits with it; attempts belong to the first body alone. */
START_TEST(a_deferral_holds_up_what_follows)
{
    struct bytes bodies[REQUESTS];
    bool deferred = false;
    for (unsigned i = 0; i < REQUESTS; i++) {
        bodies[i] = notation_encode(requests[i]);
    }
    ck_assert_uint_eq(serve(bodies, 2, 0, &deferred), 2);
    ck_assert_uint_eq(operations, 2);
    again = 1;
    ck_assert_uint_eq(serve(bodies, REQUESTS, 500, &deferred), REQUESTS); /* the first is busy */
    ck_assert_uint_eq(operations, 2 + REQUESTS);
    struct bytes ping = notation_encode("[0, 5, 'ping', [{}]]");
    struct bytes two[] = {ping, bodies[0], bodies[1]};
    again = 1;
    ck_assert_uint_eq(serve(two, 3, 500, &deferred), 1); /* the second was never offered before */
    ck_assert(deferred);
    ck_assert_uint_eq(operations, 3 + REQUESTS);
    for (unsigned i = 0; i < REQUESTS; i++) {
        free((void *)bodies[i].data);
    }
    free((void *)ping.data);
}
END_TEST

/* A turn that has gone through enough steps ends, at the earliest after its first request. */
START_TEST(work_ends_a_turn)
{
    struct bytes bodies[REQUESTS];
    bool deferred = false;
    for (unsigned i = 0; i < REQUESTS; i++) {
        bodies[i] = notation_encode(requests[i]);
    }
    work_of_each = DISPATCH_WORK_MAX / 3;
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), 4);
    ck_assert(!deferred);
    ck_assert_uint_eq(operations, 4);
    ck_assert_uint_eq(lane.counts[METRIC_REQUESTS], 4);
    ck_assert(reply.hurries); /* who was answered before waits for no more of it */
    /* Others of the same iteration do not pay for it, whether they want much or little. */
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), 4);
    ck_assert(!deferred);
    ck_assert_uint_eq(operations, 8);
    work_of_each = 1;
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), REQUESTS);
    ck_assert(!reply.hurries);
    for (unsigned i = 0; i < REQUESTS; i++) {
        free((void *)bodies[i].data);
    }
}
END_TEST

/* Those before it are refreshed by then: it must not say that nothing was done. */
START_TEST(a_touch_given_up_midway_says_so)
{
    static const char *const several[] = {
        "[0, 5, 'touch', [{'threads': ['t', 'u', 'v']}]]",
        "[0, 5, 'touch', [{'threads': ['t']}]]",
    };
    struct bytes body = notation_encode(several[_i]);
    bool deferred = false;
    again = 1;
    ck_assert_uint_eq(serve(&body, 1, 500, &deferred), 1);
    ck_assert(answered("\"code\": \"busy\""));
    ck_assert_int_eq(answered("given up"), _i == 1); /* the domain's words: nothing was done */
    ck_assert_int_eq(answered("any of the rest may have been refreshed"), _i == 0);
    free((void *)body.data);
}
END_TEST

START_TEST(hints_come_for_batches)
{
    struct bytes bodies[3];
    bool deferred = false;
    bodies[0] = notation_encode(requests[0]);
    bodies[1] = notation_encode("[0, 5, 'nothing', [{}]]");
    bodies[2] = notation_encode(requests[1]);
    serve(bodies, 1, 0, &deferred);
    ck_assert_str_eq(prefetches, "");
    serve(bodies, 3, 0, &deferred);
    ck_assert_str_eq(prefetches,
                     "ddbbrrs"); /* a step for all, then the next; the last as they come */
    for (unsigned i = 0; i < 3; i++) {
        free((void *)bodies[i].data);
    }
}
END_TEST

/* Around frame_max, by copy and by reference: never a longer frame, never half of one. */
START_TEST(a_reply_never_exceeds_frame_max)
{
    static const uint32_t sizes[] = {100, 3000, 5000};
    struct bytes body = notation_encode(requests[1]);
    bool deferred = false;
    bool refused = false;
    step_made.segment_bytes = sizes[_i];
    for (steps_made = 1; steps_made < 400; steps_made++) {
        ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 1);
        ck_assert_uint_le(reply.size, 65536 + 5);
        ck_assert_uint_eq(reply.size - 5, bytes_load_be32(reply.out + 1));
        refused = answered("\"code\": \"too_large\"");
        if (refused) {
            break;
        }
        ck_assert(answered("\"status\": \"complete\""));
        ck_assert_uint_eq(reply.refers, sizes[_i] < NET_REFER_BYTES_MIN ? 0 : steps_made);
    }
    ck_assert(refused);
    ck_assert_uint_gt(steps_made * (sizes[_i] + 120), 60000); /* and not much earlier */
    ck_assert_uint_eq(lane.counts[METRIC_REPLAYS_COMPLETE], steps_made - 1);
    free((void *)body.data);
}
END_TEST

START_TEST(a_touch_that_cannot_be_answered_touches_nothing)
{
    char *request = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&request, &size);
    fputs("[0, 5, 'touch', [{'threads': ['t'", out);
    for (unsigned i = 1; i < 4096; i++) {
        fputs(", 't'", out);
    }
    fputs("]}]]", out);
    fclose(out);
    struct bytes body = notation_encode(request);
    bool deferred = false;
    ck_assert_uint_eq(serve(&body, 1, 0, &deferred), 1);
    ck_assert(answered("\"code\": \"too_large\""));
    ck_assert(answered("\"option\": \"threads\""));
    ck_assert_uint_eq(operations, 0);
    free((void *)body.data);
    free(request);
}
END_TEST

START_TEST(the_rest_goes_to_the_lane)
{
    int64_t before = charged;
    handler.charge(handler.context, 4096);
    handler.charge(handler.context, -96);
    ck_assert_int_eq(charged - before, 4000);
    handler.count(handler.context, METRIC_BYTES_SENT, 7);
    ck_assert_uint_eq(lane.counts[METRIC_BYTES_SENT], 7);
    ck_assert(!handler.tend(handler.context));
    lane.counts[METRIC_DEFERRALS] = 1;
    ck_assert(handler.tend(handler.context));
    handler.pin(&step_made);
    ck_assert_int_eq(pins, 1);
    handler.unpin(&step_made);
    ck_assert_int_eq(pins, 0);
    handler.read_clock(handler.context);
    struct dispatch_settings none = {.share = 1, .shares = 1, .frame_max_bytes = 65536};
    ck_assert_ptr_null(dispatch_create(&none)); /* no lane, no dispatch */
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("dispatch turns");
    TCase *tcase = tcase_create("turns");
    tcase_add_checked_fixture(tcase, open_all, close_all);
    tcase_add_loop_test(tcase, again_is_deferred_then_done, 0, REQUESTS);
    tcase_add_loop_test(tcase, again_for_too_long_is_busy, 0, REQUESTS);
    tcase_add_loop_test(tcase, again_for_want_of_room_lasts_longer, 0, REQUESTS);
    tcase_add_loop_test(tcase, again_for_want_of_room_is_patient, 0, REQUESTS);
    tcase_add_test(tcase, a_deferral_holds_up_what_follows);
    tcase_add_test(tcase, work_ends_a_turn);
    tcase_add_loop_test(tcase, a_touch_given_up_midway_says_so, 0, 2);
    tcase_add_test(tcase, hints_come_for_batches);
    tcase_add_loop_test(tcase, a_reply_never_exceeds_frame_max, 0, 3);
    tcase_add_test(tcase, a_touch_that_cannot_be_answered_touches_nothing);
    tcase_add_test(tcase, the_rest_goes_to_the_lane);
    suite_add_tcase(suite, tcase);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
