/*
 * What dispatch does when the domain says "again", and when a reply would not fit a frame. The
 * domain is made up here, since the real one cannot be held in those states from outside.
 */
#include "server/dispatch.h"
#include "tests/lib/notation.h"
#include "tests/lib/reply.h"
#include "thread/operations.h"
#include "thread/tier.h"

#include <check.h>
#include <stdio.h>

struct lane {
    uint64_t counts[METRIC_COUNT];
    bool online;
};

struct step {
    uint32_t segment_bytes;
};

static struct lane lane;
static unsigned again;         /* so many operations more say "again" */
static unsigned operations;    /* that were asked for */
static unsigned prefetches[2]; /* buckets, records */
static uint64_t work;          /* of all operations since the last tend */
static uint64_t work_of_each;
static struct step step_made;
static uint32_t steps_made;
static uint8_t payload[1 << 16];
static struct tier_change change_made;
static bool on_disk; /* where things are found */
static bool pends;   /* what can wait for the disk does */
static struct lane_wait *waits[8];
static unsigned wait_count;

/* ---- The made-up domain ---- */

static enum status outcome(void)
{
    assert(lane.online);
    operations++;
    work += work_of_each;
    if (again == 0) {
        return STATUS_OK;
    }
    again--;
    return STATUS_AGAIN;
}

struct lane *lane_open(struct threads *threads, unsigned share, unsigned shares)
{
    (void)threads;
    return share < shares ? &lane : NULL;
}

void lane_close(struct lane *closed)
{
    assert(closed == &lane);
}

void lane_online(struct lane *at)
{
    assert(!at->online);
    at->online = true;
}

void lane_offline(struct lane *at)
{
    assert(at->online);
    at->online = false;
}

uint64_t lane_read_clock(struct lane *at)
{
    assert(at->online);
    return 1;
}

uint64_t lane_work(const struct lane *at)
{
    assert(at->online);
    return work;
}

bool lane_tend(struct lane *at)
{
    work = 0;
    return at->counts[METRIC_DEFERRALS] > 0;
}

static int64_t charged;

void lane_await(struct lane *at, struct tier_change *pending, struct lane_wait *wait)
{
    assert(at->online && pending == &change_made && wait_count < 8);
    waits[wait_count++] = wait;
}

uint64_t lane_waits(const struct lane *at)
{
    (void)at;
    return 0;
}

void lane_charge(struct lane *at, int64_t bytes)
{
    (void)at;
    charged += bytes;
}

void lane_count(struct lane *at, enum metric metric, uint64_t by)
{
    at->counts[metric] += by;
}

void threads_metrics(struct lane *at, uint64_t values[METRIC_COUNT])
{
    memcpy(values, at->counts, sizeof at->counts);
}

void thread_prefetch_bucket(struct lane *at, const struct wire_request *request)
{
    (void)at;
    (void)request;
    prefetches[0]++;
}

void thread_prefetch_record(struct lane *at, const struct wire_request *request)
{
    (void)at;
    (void)request;
    prefetches[1]++;
}

enum status thread_append(struct lane *at, const struct wire_request *request,
                          struct thread_append_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_append_result){.version = 1, .pending = pends ? &change_made : NULL};
    return outcome();
}

enum status thread_replay(struct lane *at, const struct wire_request *request,
                          struct thread_replay_result *result, struct wire_error *error)
{
    (void)at;
    (void)error;
    *result = (struct thread_replay_result){
        .thread = request->thread,
        .from_disk = on_disk,
        .version = 1,
        .end = steps_made,
        .segment_count = steps_made,
    };
    return outcome();
}

const struct step *thread_replay_step(const struct lane *at,
                                      const struct thread_replay_result *result, uint32_t position,
                                      enum reason *missing)
{
    (void)at;
    assert(position < result->end);
    *missing = REASON_NONE;
    return &step_made;
}

void step_view(const struct step *step, struct step_view *view)
{
    *view = (struct step_view){
        .segment_count = 1,
        .payload_bytes = step->segment_bytes,
        .payload = bytes_of(payload, step->segment_bytes),
    };
}

enum wire_kind step_segment_kind(const struct step *step, unsigned segment)
{
    assert(step == &step_made && segment == 0);
    return WIRE_KIND_OPAQUE;
}

uint32_t step_segment_bytes(const struct step *step, unsigned segment)
{
    assert(segment == 0);
    return step->segment_bytes;
}

static int pins;

void step_pin(const struct step *step)
{
    assert(step == &step_made);
    pins++;
}

void step_unpin(const struct step *step)
{
    assert(step == &step_made);
    pins--;
}

enum status thread_stat(struct lane *at, const struct wire_request *request,
                        struct thread_stat_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_stat_result){.version = 1, .on_disk = on_disk};
    return outcome();
}

enum status thread_touch(struct lane *at, struct bytes id, bool has_ttl, uint64_t ttl_ms,
                         enum reason *missing)
{
    (void)at;
    (void)id;
    (void)has_ttl;
    (void)ttl_ms;
    *missing = REASON_NONE;
    return outcome();
}

enum status thread_fork(struct lane *at, const struct wire_request *request,
                        struct thread_fork_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_fork_result){.version = 1};
    return outcome();
}

enum status thread_rewind(struct lane *at, const struct wire_request *request,
                          struct thread_rewind_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result = (struct thread_rewind_result){.version = 1};
    return outcome();
}

enum status thread_forget(struct lane *at, const struct wire_request *request,
                          struct thread_forget_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    *result =
        (struct thread_forget_result){.forgotten = true, .pending = pends ? &change_made : NULL};
    return outcome();
}

enum status thread_list(struct lane *at, const struct wire_request *request,
                        struct thread_list_result *result, struct wire_error *error)
{
    (void)at;
    (void)request;
    (void)error;
    result->count = 1;
    result->listed[0] = (struct thread_listed){.id = bytes_text("t"), .on_disk = on_disk};
    result->more = false;
    return outcome();
}

enum status thread_give_up(struct lane *at, const struct wire_request *request,
                           struct wire_error *error)
{
    (void)at;
    (void)request;
    return wire_fail(error, STATUS_BUSY, "", "given up");
}

/* ---- The tests ---- */

static struct dispatch *dispatch;
static struct net_handler handler;
static struct net_reply reply;

static void open_with(bool has_disk)
{
    struct dispatch_settings settings = {
        .shares = 1, .frame_max_bytes = 65536, .patience_ms = 500, .has_disk = has_disk};
    memset(&lane, 0, sizeof lane);
    memset(prefetches, 0, sizeof prefetches);
    again = operations = 0;
    work = work_of_each = 0;
    steps_made = 0;
    pends = false;
    on_disk = false;
    wait_count = 0;
    memset(&reply, 0, sizeof reply);
    dispatch = dispatch_create(&settings);
    handler = dispatch_handler(dispatch);
    handler.online(handler.context);
}

static void open_all(void)
{
    open_with(false);
}

static void open_with_disk(void)
{
    open_with(true);
}

static void close_all(void)
{
    ck_assert_uint_eq(reply.laters, 0);
    handler.offline(handler.context);
    reply_reset(&reply);
    dispatch_destroy(dispatch);
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
};

enum { REQUESTS = sizeof requests / sizeof requests[0] };

static unsigned serve_deferred(const struct bytes *bodies, unsigned count,
                               struct net_deferral deferral, bool *deferred)
{
    reply_reset(&reply);
    *deferred = !*deferred; /* whatever stood there */
    return handler.serve(handler.context, &reply, bodies, count, deferral, deferred);
}

static unsigned serve(const struct bytes *bodies, unsigned count, unsigned attempts, bool *deferred)
{
    return serve_deferred(bodies, count, (struct net_deferral){attempts, attempts}, deferred);
}

static bool answered(const char *part)
{
    char *text = reply.size == 0 ? NULL : notation_decode(bytes_of(reply.out + 5, reply.size - 5));
    bool has = text != NULL && strstr(text, part) != NULL;
    free(text);
    return has;
}

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
    ck_assert_uint_eq(serve_deferred(&body, 1, (struct net_deferral){100000, 499}, &deferred), 0);
    ck_assert_uint_eq(serve_deferred(&body, 1, (struct net_deferral){31, 5000}, &deferred), 0);
    lane.counts[METRIC_DEFERRALS] = 0;
    unsigned attempts = 0;
    while (serve_deferred(&body, 1, (struct net_deferral){attempts, attempts * 10}, &deferred) ==
           0) {
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
    /* Others of the same iteration get one each. */
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), 1);
    ck_assert(!deferred);
    ck_assert_uint_eq(operations, 5);
    handler.tend(handler.context);
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), 4);
    work_of_each = 1;
    handler.tend(handler.context);
    ck_assert_uint_eq(serve(bodies, REQUESTS, 0, &deferred), REQUESTS);
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
    ck_assert_uint_eq(prefetches[0] + prefetches[1], 0);
    serve(bodies, 3, 0, &deferred);
    ck_assert_uint_eq(prefetches[0], 2);
    ck_assert_uint_eq(prefetches[1], 2);
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

/* What may wait for the disk, with the words of the error if the disk does not take it. */
static const struct {
    const char *request;
    const char *advice;
} may_wait[] = {
    {"[0, 5, 'append', [{'thread': 't', 'ack': 'disk', 'key': 'k'}, b'x']]", "with the same key"},
    {"[0, 5, 'append', [{'thread': 't', 'ack': 'disk'}, b'x']]", "ask stat"},
    {"[0, 5, 'append', [{'thread': 't', 'retention_ms': 0}, b'x']]", "not erased"},
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
    tcase_add_test(tcase, a_deferral_holds_up_what_follows);
    tcase_add_test(tcase, work_ends_a_turn);
    tcase_add_loop_test(tcase, a_touch_given_up_midway_says_so, 0, 2);
    tcase_add_test(tcase, hints_come_for_batches);
    tcase_add_loop_test(tcase, a_reply_never_exceeds_frame_max, 0, 3);
    tcase_add_test(tcase, a_touch_that_cannot_be_answered_touches_nothing);
    tcase_add_test(tcase, the_rest_goes_to_the_lane);
    suite_add_tcase(suite, tcase);
    TCase *disk = tcase_create("disk");
    tcase_add_checked_fixture(disk, open_with_disk, close_all);
    tcase_add_loop_test(disk, an_answer_waits_for_the_disk, 0, MAY_WAIT);
    tcase_add_loop_test(disk, the_disk_did_not_take_it, 0, MAY_WAIT);
    tcase_add_loop_test(disk, it_need_not_wait, 0, MAY_WAIT);
    tcase_add_loop_test(disk, without_a_later_reply_it_is_not_run, 0, MAY_WAIT);
    tcase_add_loop_test(disk, other_requests_need_no_later_reply, 0, 4);
    tcase_add_loop_test(disk, answers_say_where_it_was, 0, 2);
    suite_add_tcase(suite, disk);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
