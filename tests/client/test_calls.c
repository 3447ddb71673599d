/* The public calls against a fake server: every method, pipelining, event loops, bad endings. */
#include "tests/client/fake.h"

#include <stdlib.h>
#include <time.h>

/* ---- Synchronous calls ---------------------------------------------------------------------- */

static const struct {
    const char *method;
    const char *response; /* after the msgid */
} ANSWERS[] = {
    {"hello", "nil, [{'protocol': 1, 'server': 'fake'}]"},
    {"ping", "nil, [{}]"},
    {"append", "nil, [{'thread': b't', 'step': 2, 'version': 3}]"},
    {"replay", "nil, [{'status': 'complete', 'steps': [{'step': 0, 'segments': [['text', 2]]}]}, "
               "b'ab']"},
    {"stat", "nil, [{'status': 'miss', 'reason': 'evicted'}]"},
    {"touch", "nil, [{'touched': 1, 'missing': []}]"},
    {"fork", "{'code': 'not_found', 'reason': 'expired'}, nil"},
    {"rewind", "nil, [{'version': 5, 'dropped': 1}]"},
    {"forget", "nil, [{'forgotten': true}]"},
    {"list", "nil, [{'threads': [], 'cursor': nil}]"},
    {"info", "nil, [{'server': {'loops': 2}}]"},
    {"begin", "nil, [{'step': 2, 'claim': 77}]"},
    {"chunk", "nil, [{'bytes': 5}]"},
    {"commit", "nil, [{'step': 2, 'version': 3}]"},
    {"abort", "{'code': 'conflict', 'cause': 'claimed', 'version': 3}, nil"},
    {"invent", "nil, [{'x': 1}, b'back']"},
};

static void answer_all(struct fake *fake)
{
    struct fake_request request;
    while (fake_next(fake->fd, &request)) {
        size_t i = 0;
        char method[32] = "";
        ck_assert_int_eq(sscanf(request.text, "[0, %*u, \"%31[a-z]", method), 1);
        while (strcmp(ANSWERS[i].method, method) != 0)
            i++;
        fake_send(fake->fd, "[1, %u, %s]", request.msgid, ANSWERS[i].response);
        fake_done(&request);
    }
}

START_TEST(every_method_has_a_synchronous_call)
{
    struct fake fake;
    struct rethread_result *result;
    fake_open(&fake, NULL, answer_all, NULL);
    struct rethread *to = fake.connection;
    struct rethread_bytes id = rethread_text("t");
#define CALLS(expected, call)                                                                      \
    ck_assert_int_eq(call, expected);                                                              \
    ck_assert_ptr_nonnull(result);
    CALLS(RETHREAD_OK, rethread_hello(to, NULL, &result));
    ck_assert(fake_same(rethread_result_hello(result)->server, "fake"));
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_ping(to, &result));
    ck_assert_int_eq(rethread_result_method(result), RETHREAD_METHOD_PING);
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_append(to, &(struct rethread_append_options){.thread = id, .bare = true},
                          &result));
    ck_assert_uint_eq(rethread_result_append(result)->version, 3);
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_replay(to, &(struct rethread_replay_options){.thread = id}, &result));
    ck_assert(fake_same(rethread_result_replay(result)->steps[0].segments.items[0].bytes, "ab"));
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_stat(to, &(struct rethread_stat_options){id}, &result));
    ck_assert_int_eq(rethread_result_stat(result)->reason, RETHREAD_REASON_EVICTED);
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_touch(to, &(struct rethread_touch_options){.threads = {&id, 1}}, &result));
    ck_assert_uint_eq(rethread_result_touch(result)->touched, 1);
    rethread_result_free(result);
    CALLS(RETHREAD_NOT_FOUND,
          rethread_fork(to, &(struct rethread_fork_options){.thread = id, .from = id}, &result));
    ck_assert_int_eq(rethread_result_error(result)->reason, RETHREAD_REASON_EXPIRED);
    ck_assert_ptr_null(rethread_result_fork(result));
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_rewind(to, &(struct rethread_rewind_options){id, rethread_i64(-1)}, &result));
    ck_assert_uint_eq(rethread_result_rewind(result)->dropped, 1);
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_forget(to, &(struct rethread_forget_options){id}, &result));
    ck_assert(rethread_result_forget(result)->forgotten);
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_list(to, NULL, &result));
    ck_assert_uint_eq(rethread_result_list(result)->thread_count, 0);
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_info(to, &result));
    ck_assert_uint_eq(rethread_result_info(result)->metrics[0].value, 2);
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_begin(to, &(struct rethread_begin_options){.thread = id}, &result));
    struct rethread_u64 claim = rethread_u64(rethread_result_begin(result)->claim);
    ck_assert_uint_eq(claim.value, 77);
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_chunk(to, &(struct rethread_chunk_options){id, claim, &id, 1}, &result));
    ck_assert_uint_eq(rethread_result_chunk(result)->bytes, 5);
    rethread_result_free(result);
    CALLS(RETHREAD_OK,
          rethread_commit(to, &(struct rethread_commit_options){.thread = id, .claim = claim},
                          &result));
    ck_assert_uint_eq(rethread_result_commit(result)->version, 3);
    rethread_result_free(result);
    CALLS(RETHREAD_CONFLICT,
          rethread_abort(to, &(struct rethread_abort_options){id, claim}, &result));
    ck_assert_str_eq(rethread_result_error(result)->cause, "claimed");
    ck_assert_ptr_null(rethread_result_abort(result));
    rethread_result_free(result);
    CALLS(RETHREAD_OK, rethread_call_raw(to, "invent", rethread_text(""), &id, 1, &result));
    ck_assert(fake_same(rethread_result_payload(result, 0), "back"));
    rethread_close(to);
    fake.connection = NULL;
    /* A result outlives its connection. */
    ck_assert(fake_same(rethread_result_payload(result, 0), "back"));
    rethread_result_free(result);
    fake_close(&fake);
}
END_TEST

START_TEST(whoever_needs_only_the_status_passes_null)
{
    struct fake fake;
    struct rethread_bytes id = rethread_text("t");
    fake_open(&fake, NULL, answer_all, NULL);
    ck_assert_int_eq(rethread_ping(fake.connection, NULL), RETHREAD_OK);
    ck_assert_int_eq(
        rethread_fork(fake.connection, &(struct rethread_fork_options){id, id, {false, 0}}, NULL),
        RETHREAD_NOT_FOUND);
    ck_assert_int_eq(rethread_ping(NULL, NULL), RETHREAD_INVALID_ARGUMENT);
    ck_assert_uint_eq(rethread_outstanding(fake.connection), 0);
    fake_close(&fake);
}
END_TEST

/* ---- Large requests ------------------------------------------------------------------------- */

enum {
    LARGE_BYTES = 5000000,
    LARGE_COUNT = 3,
};

static uint8_t large[LARGE_COUNT][LARGE_BYTES];

static void fill_large(void)
{
    for (size_t i = 0; i < LARGE_COUNT; i++)
        for (size_t j = 0; j < LARGE_BYTES; j++)
            large[i][j] = (uint8_t)(i * 77 + j * 131 + j / 1021);
}

static void large_segments(struct rethread_segment segments[LARGE_COUNT + 1])
{
    for (size_t i = 0; i < LARGE_COUNT; i++)
        segments[i] = (struct rethread_segment){RETHREAD_KIND_TEXT, {large[i], LARGE_BYTES}};
    segments[LARGE_COUNT] = (struct rethread_segment){.bytes = rethread_text("small")};
}

/* The body ends in the payloads, each behind the head of a bin 32, and a bin 8 of "small". */
static void check_large_request(const struct fake_request *request)
{
    const uint8_t *at = request->body + request->size - 7;
    ck_assert_mem_eq(at, "\xC4\5small", 7);
    for (size_t i = LARGE_COUNT; i-- > 0;) {
        at -= LARGE_BYTES;
        for (size_t j = 0; j < LARGE_BYTES; j++)
            if (at[j] != (uint8_t)(i * 77 + j * 131 + j / 1021))
                ck_abort_msg("payload %zu differs at %zu", i, j);
        at -= 5;
        ck_assert_uint_eq(at[0], 0xC6);
        ck_assert_uint_eq((size_t)at[1] << 24 | (size_t)at[2] << 16 | (size_t)at[3] << 8 | at[4],
                          LARGE_BYTES);
    }
}

static void answer_large(struct fake *fake)
{
    struct fake_request request;
    while (fake_next(fake->fd, &request)) {
        if (request.size > LARGE_BYTES)
            check_large_request(&request);
        fake_send(fake->fd, "[1, %u, nil, [{'step': 0, 'version': 1}]]", request.msgid);
        fake_done(&request);
    }
}

START_TEST(large_payloads_arrive_byte_for_byte)
{
    struct fake fake;
    struct rethread_segment segments[LARGE_COUNT + 1];
    struct rethread_append_options options = {.thread = rethread_text("t"),
                                              .segments = {segments, LARGE_COUNT + 1}};
    uint32_t msgid;
    fill_large();
    large_segments(segments);
    fake_open(&fake, NULL, answer_large, NULL);
    ck_assert_int_eq(rethread_append(fake.connection, &options, NULL), RETHREAD_OK);
    ck_assert_int_eq(rethread_submit_append(fake.connection, &options, &msgid), RETHREAD_OK);
    /* A copy was made: the caller may do with its bytes what it likes. */
    memset(large, 0, sizeof large);
    ck_assert_int_eq(rethread_collect(fake.connection, msgid, -1, NULL), RETHREAD_OK);
    fake_close(&fake);
}
END_TEST

/* The server reads nothing until the call has given up; what it reads then is still the request. */
START_TEST(a_call_that_gives_up_leaves_a_whole_frame)
{
    struct fake fake;
    struct rethread_segment segments[LARGE_COUNT + 1];
    struct rethread_append_options options = {.thread = rethread_text("t"),
                                              .segments = {segments, LARGE_COUNT + 1}};
    fill_large();
    large_segments(segments);
    fake_open(&fake, &(struct rethread_connect_options){.call_timeout_ms = 30}, NULL, NULL);
    ck_assert_int_eq(rethread_append(fake.connection, &options, NULL), RETHREAD_TIMEOUT);
    memset(large, 0, sizeof large);
    ck_assert_uint_eq(rethread_outstanding(fake.connection), 0);
    fake.serve = answer_large;
    ck_assert_int_eq(pthread_create(&fake.server, NULL, fake_run, &fake), 0);
    fake.has_server = true;
    uint32_t msgid;
    ck_assert_int_eq(rethread_submit_ping(fake.connection, &msgid), RETHREAD_OK);
    ck_assert_int_eq(rethread_collect(fake.connection, msgid, -1, NULL), RETHREAD_OK);
    fake_close(&fake);
}
END_TEST

/* ---- Pipelining ----------------------------------------------------------------------------- */

static struct fake piped;

static void open_piped(void)
{
    fake_open(&piped, &(struct rethread_connect_options){.outstanding_max = 6}, NULL, NULL);
}

static void close_piped(void)
{
    fake_close(&piped);
}

/* Six requests, answered in the order 4 2 6 1 3 5. */
static void exchange_six(uint32_t msgids[6])
{
    static const int ORDER[] = {3, 1, 5, 0, 2, 4};
    for (int i = 0; i < 6; i++)
        ck_assert_int_eq(rethread_submit_ping(piped.connection, &msgids[i]), RETHREAD_OK);
    for (int i = 0; i < 6; i++)
        ck_assert_uint_eq(fake_expect(&piped, "\"ping\", [{}]]"), msgids[i]);
    for (int i = 0; i < 6; i++)
        fake_send(piped.fd, "[1, %u, nil, [{'order': %d}]]", msgids[ORDER[i]], i);
}

static void check_order(const struct rethread_result *result, int order)
{
    char expected[32];
    struct rethread_bytes map = rethread_result_map(result);
    char *text = notation_decode(bytes_of(map.data, map.size));
    snprintf(expected, sizeof expected, "{\"order\": %d}", order);
    ck_assert_str_eq(text, expected);
    free(text);
}

START_TEST(responses_are_collected_by_msgid)
{
    static const int ARRIVAL[] = {3, 1, 4, 0, 5, 2};
    uint32_t msgids[6];
    exchange_six(msgids);
    for (int i = 0; i < 6; i++) {
        struct rethread_result *result;
        ck_assert_int_eq(rethread_collect(piped.connection, msgids[i], 1000, &result), RETHREAD_OK);
        check_order(result, ARRIVAL[i]);
        rethread_result_free(result);
        ck_assert_int_eq(rethread_collect(piped.connection, msgids[i], 1000, &result),
                         RETHREAD_IDLE);
        ck_assert_ptr_null(result);
    }
}
END_TEST

START_TEST(responses_come_in_the_order_of_arrival)
{
    static const int ORDER[] = {3, 1, 5, 0, 2, 4};
    uint32_t msgids[6];
    uint32_t msgid;
    exchange_six(msgids);
    for (int i = 0; i < 6; i++) {
        struct rethread_result *result;
        ck_assert_uint_eq(rethread_outstanding(piped.connection), (size_t)(6 - i));
        ck_assert_int_eq(rethread_next(piped.connection, 1000, &msgid, &result), RETHREAD_OK);
        ck_assert_uint_eq(msgid, msgids[ORDER[i]]);
        check_order(result, i);
        rethread_result_free(result);
    }
    ck_assert_int_eq(rethread_next(piped.connection, -1, &msgid, NULL), RETHREAD_IDLE);
}
END_TEST

START_TEST(outstanding_requests_are_bounded)
{
    uint32_t msgids[6];
    uint32_t msgid;
    exchange_six(msgids);
    ck_assert_int_eq(rethread_submit_ping(piped.connection, &msgid), RETHREAD_FULL);
    ck_assert_int_eq(rethread_ping(piped.connection, NULL), RETHREAD_FULL);
    ck_assert_int_eq(rethread_collect(piped.connection, msgids[5], 1000, NULL), RETHREAD_OK);
    ck_assert_int_eq(rethread_submit_ping(piped.connection, &msgid), RETHREAD_OK);
}
END_TEST

START_TEST(abandoned_responses_are_dropped)
{
    uint32_t msgids[6];
    uint32_t msgid;
    exchange_six(msgids);
    rethread_abandon(piped.connection, msgids[3]);
    rethread_abandon(piped.connection, 12345);
    ck_assert_uint_eq(rethread_outstanding(piped.connection), 5);
    ck_assert_int_eq(rethread_collect(piped.connection, msgids[3], -1, NULL), RETHREAD_IDLE);
    ck_assert_int_eq(rethread_next(piped.connection, 1000, &msgid, NULL), RETHREAD_OK);
    ck_assert_uint_eq(msgid, msgids[1]);
    rethread_abandon(piped.connection, msgids[5]); /* has arrived by now */
    ck_assert_int_eq(rethread_next(piped.connection, 1000, &msgid, NULL), RETHREAD_OK);
    ck_assert_uint_eq(msgid, msgids[0]);
}
END_TEST

START_TEST(a_timeout_leaves_the_request_outstanding)
{
    uint32_t msgid;
    uint32_t other = 77;
    ck_assert_int_eq(rethread_submit_ping(piped.connection, &msgid), RETHREAD_OK);
    ck_assert_int_eq(rethread_collect(piped.connection, msgid, 0, NULL), RETHREAD_TIMEOUT);
    ck_assert_int_eq(rethread_collect(piped.connection, msgid, 20, NULL), RETHREAD_TIMEOUT);
    ck_assert_int_eq(rethread_next(piped.connection, 0, &other, NULL), RETHREAD_TIMEOUT);
    ck_assert_uint_eq(other, 77);
    fake_send(piped.fd, "[1, %u, nil, [{}]]", fake_expect(&piped, "\"ping\", [{}]]"));
    ck_assert_int_eq(rethread_collect(piped.connection, msgid, 0, NULL), RETHREAD_OK);
}
END_TEST

/* A synchronous call that timed out: its response comes late, and is nobody's. */
START_TEST(a_late_response_goes_to_nobody)
{
    struct fake fake;
    fake_open(&fake, &(struct rethread_connect_options){.call_timeout_ms = 20}, NULL, NULL);
    struct rethread_result *result;
    uint32_t msgid;
    ck_assert_int_eq(rethread_ping(fake.connection, &result), RETHREAD_TIMEOUT);
    ck_assert_ptr_null(result);
    uint32_t late = fake_expect(&fake, "\"ping\", [{}]]");
    ck_assert_int_eq(rethread_submit_info(fake.connection, &msgid), RETHREAD_OK);
    ck_assert_uint_ne(msgid, late);
    fake_send(fake.fd, "[1, %u, nil, [{}]]", late);
    fake_send(fake.fd, "[1, %u, nil, [{}]]", msgid);
    ck_assert_int_eq(rethread_next(fake.connection, 1000, &msgid, &result), RETHREAD_OK);
    ck_assert_ptr_nonnull(rethread_result_info(result));
    rethread_result_free(result);
    fake_close(&fake);
}
END_TEST

static void answer_two_at_once(struct fake *fake)
{
    struct fake_request request;
    uint32_t held = 0;
    for (int i = 0; i < 2; i++) {
        ck_assert(fake_next(fake->fd, &request));
        if (i == 0)
            held = request.msgid;
        else
            fake_send(fake->fd, "[1, %u, nil, [{'step': 7, 'version': 8}]]", request.msgid);
        fake_done(&request);
    }
    fake_send(fake->fd, "[1, %u, nil, [{}]]", held);
}

START_TEST(synchronous_calls_leave_others_responses_alone)
{
    struct fake fake;
    struct rethread_result *result;
    struct rethread_append_options append = {.thread = rethread_text("t"), .bare = true};
    uint32_t msgid;
    fake_open(&fake, NULL, answer_two_at_once, NULL);
    ck_assert_int_eq(rethread_submit_ping(fake.connection, &msgid), RETHREAD_OK);
    ck_assert_int_eq(rethread_append(fake.connection, &append, &result), RETHREAD_OK);
    ck_assert_uint_eq(rethread_result_append(result)->step, 7);
    rethread_result_free(result);
    ck_assert_int_eq(rethread_collect(fake.connection, msgid, 1000, NULL), RETHREAD_OK);
    fake_close(&fake);
}
END_TEST

START_TEST(unsent_bytes_are_bounded)
{
    static char trace[3000];
    struct fake fake;
    struct rethread_segment segment = {.bytes = {trace, sizeof trace}};
    struct rethread_append_options append = {.thread = rethread_text("t"),
                                             .segments = {&segment, 1}};
    struct rethread_connect_options options = {.unsent_max_bytes = 2000, .frame_max_bytes = 4000};
    uint32_t msgid;
    fake_open(&fake, &options, NULL, NULL);
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_OK);
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_FULL);
    ck_assert_uint_eq(rethread_outstanding(fake.connection), 1);
    struct fake_request request;
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(rethread_pump(fake.connection, RETHREAD_WRITE), RETHREAD_OK);
        ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ);
        ck_assert(fake_next(fake.fd, &request));
        ck_assert_uint_eq(request.msgid, msgid);
        fake_done(&request);
        ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_OK);
    }
    struct rethread_segment two[] = {segment, segment};
    append.segments = (struct rethread_segments){two, 2};
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_TOO_LARGE);
    ck_assert_int_eq(rethread_append(fake.connection, &append, NULL), RETHREAD_TOO_LARGE);
    fake_close(&fake);
}
END_TEST

/* ---- Event loops ---------------------------------------------------------------------------- */

enum {
    LOOP_REQUESTS = 400,
};

static char loop_trace[20000];

/* Reads some requests before it answers, the last first. */
static void answer_in_batches(struct fake *fake)
{
    enum { BATCH = 20 };
    for (int done = 0; done < LOOP_REQUESTS; done += BATCH) {
        uint32_t msgids[BATCH];
        for (int i = 0; i < BATCH; i++) {
            uint8_t header[5];
            ck_assert(fake_read(fake->fd, header, sizeof header));
            size_t size = fake_body_size(header);
            uint8_t *body = malloc(size);
            ck_assert_ptr_nonnull(body);
            ck_assert(fake_read(fake->fd, body, size));
            msgids[i] = body[2] < 0x80    ? body[2]
                        : body[2] == 0xCC ? body[3]
                                          : (uint32_t)body[3] << 8 | body[4];
            ck_assert_mem_eq(body + size - sizeof loop_trace, loop_trace, sizeof loop_trace);
            free(body);
        }
        for (int i = BATCH; i-- > 0;)
            fake_send(fake->fd, "[1, %u, nil, [{'step': %u, 'version': 1}]]", msgids[i], msgids[i]);
    }
}

START_TEST(an_event_loop_drives_it_without_blocking)
{
    struct fake fake;
    struct rethread_segment segment = {.bytes = {loop_trace, sizeof loop_trace}};
    struct rethread_append_options append = {.thread = rethread_text("t"),
                                             .segments = {&segment, 1}};
    uint32_t msgid;
    bool seen[LOOP_REQUESTS + 1] = {false};
    for (size_t i = 0; i < sizeof loop_trace; i++)
        loop_trace[i] = (char)(i % 101);
    fake_open(&fake, NULL, answer_in_batches, NULL);
    ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ);
    for (int i = 0; i < LOOP_REQUESTS; i++)
        ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_OK);
    ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ | RETHREAD_WRITE);
    while (rethread_outstanding(fake.connection) > 0) {
        int wants = rethread_wants(fake.connection);
        struct pollfd ready = {.fd = rethread_fd(fake.connection)};
        ready.events = (short)(((wants & RETHREAD_READ) != 0 ? POLLIN : 0) |
                               ((wants & RETHREAD_WRITE) != 0 ? POLLOUT : 0));
        ck_assert_int_eq(poll(&ready, 1, -1), 1);
        ck_assert_int_eq(rethread_pump(fake.connection,
                                       ((ready.revents & POLLIN) != 0 ? RETHREAD_READ : 0) |
                                           ((ready.revents & POLLOUT) != 0 ? RETHREAD_WRITE : 0)),
                         RETHREAD_OK);
        struct rethread_result *result;
        while (rethread_next(fake.connection, 0, &msgid, &result) == RETHREAD_OK) {
            ck_assert_uint_eq(rethread_result_append(result)->step, msgid);
            ck_assert(msgid >= 1 && msgid <= LOOP_REQUESTS && !seen[msgid]);
            seen[msgid] = true;
            rethread_result_free(result);
        }
    }
    ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ);
    fake_close(&fake);
}
END_TEST

/* Nobody reads at the other end: pump sends what fits and comes back. */
START_TEST(a_full_socket_does_not_block)
{
    struct fake fake;
    struct rethread_segment segment = {.bytes = {large[0], LARGE_BYTES}};
    struct rethread_append_options append = {.thread = rethread_text("t"),
                                             .segments = {&segment, 1}};
    uint32_t msgid;
    fake_open(&fake, NULL, NULL, NULL);
    ck_assert_int_eq(rethread_submit_append(fake.connection, &append, &msgid), RETHREAD_OK);
    for (int i = 0; i < 3; i++)
        ck_assert_int_eq(rethread_pump(fake.connection, RETHREAD_READ | RETHREAD_WRITE),
                         RETHREAD_OK);
    ck_assert_int_eq(rethread_wants(fake.connection), RETHREAD_READ | RETHREAD_WRITE);
    ck_assert_int_eq(rethread_next(fake.connection, 0, &msgid, NULL), RETHREAD_TIMEOUT);
    fake_hang_up(&fake);
    ck_assert_int_eq(rethread_pump(fake.connection, RETHREAD_READ | RETHREAD_WRITE),
                     RETHREAD_CLOSED);
    ck_assert_int_eq(rethread_wants(fake.connection), 0);
    ck_assert_int_eq(rethread_next(fake.connection, -1, &msgid, NULL), RETHREAD_CLOSED);
    fake_close(&fake);
}
END_TEST

static void hang_up_in_the_middle(struct fake *fake)
{
    uint8_t some[100000];
    ck_assert(fake_read(fake->fd, some, sizeof some));
    fake_send(fake->fd, "[1, nil, {'code': 'too_large', 'message': 'no'}, nil]");
    fake_hang_up(fake);
}

START_TEST(a_server_may_close_while_it_is_sent_to)
{
    struct fake fake;
    struct rethread_segment segments[LARGE_COUNT + 1];
    struct rethread_append_options append = {.thread = rethread_text("t"),
                                             .segments = {segments, LARGE_COUNT + 1}};
    large_segments(segments);
    fake_open(&fake, NULL, hang_up_in_the_middle, NULL);
    ck_assert_int_eq(rethread_append(fake.connection, &append, NULL), RETHREAD_CLOSED);
    ck_assert_ptr_nonnull(rethread_connection_error(fake.connection));
    ck_assert_int_eq(rethread_connection_error(fake.connection)->status, RETHREAD_TOO_LARGE);
    ck_assert_int_eq(rethread_append(fake.connection, &append, NULL), RETHREAD_CLOSED);
    fake_close(&fake);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/calls");
    TCase *cases = tcase_create("synchronous");
    tcase_add_test(cases, every_method_has_a_synchronous_call);
    tcase_add_test(cases, whoever_needs_only_the_status_passes_null);
    tcase_add_test(cases, large_payloads_arrive_byte_for_byte);
    tcase_add_test(cases, a_call_that_gives_up_leaves_a_whole_frame);
    suite_add_tcase(suite, cases);
    cases = tcase_create("pipelined");
    tcase_add_checked_fixture(cases, open_piped, close_piped);
    tcase_add_test(cases, responses_are_collected_by_msgid);
    tcase_add_test(cases, responses_come_in_the_order_of_arrival);
    tcase_add_test(cases, outstanding_requests_are_bounded);
    tcase_add_test(cases, abandoned_responses_are_dropped);
    tcase_add_test(cases, a_timeout_leaves_the_request_outstanding);
    tcase_add_test(cases, a_late_response_goes_to_nobody);
    tcase_add_test(cases, synchronous_calls_leave_others_responses_alone);
    tcase_add_test(cases, unsent_bytes_are_bounded);
    suite_add_tcase(suite, cases);
    cases = tcase_create("loops");
    tcase_add_test(cases, an_event_loop_drives_it_without_blocking);
    tcase_add_test(cases, a_full_socket_does_not_block);
    tcase_add_test(cases, a_server_may_close_while_it_is_sent_to);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
