/* Bytes arriving in every way there is, and peers that do not keep to the contract. */
#include "client/connection.h"
#include "tests/client/fake.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>

static struct fake fake;

static void setup(void)
{
    fake_open(&fake, NULL, NULL, NULL);
}

static void teardown(void)
{
    fake_close(&fake);
}

static uint32_t submit_ping(void)
{
    uint32_t msgid;
    ck_assert_int_eq(rethread_submit_ping(fake.connection, &msgid), RETHREAD_OK);
    return msgid;
}

static uint32_t submit_replay(void)
{
    struct rethread_replay_options options = {.thread = rethread_text("t")};
    uint32_t msgid;
    ck_assert_int_eq(rethread_submit_replay(fake.connection, &options, &msgid), RETHREAD_OK);
    return msgid;
}

static enum rethread_status collect(uint32_t msgid)
{
    return rethread_collect(fake.connection, msgid, 0, NULL);
}

static enum rethread_status pump(void)
{
    return rethread_pump(fake.connection, RETHREAD_READ | RETHREAD_WRITE);
}

/* ---- Sound bytes ---------------------------------------------------------------------------- */

#define RESPONSE_1                                                                                 \
    "[1, 1, nil, [{'status': 'complete', 'version': 1, 'head': 0, 'steps': [{'step': 0, "          \
    "'segments': [['text', 3]]}]}, b'abc']]"
static const char *const RESPONSES[] = {
    RESPONSE_1,
    "[1, 2, {'code': 'busy', 'message': 'later'}, nil]",
    "[1, 3, nil, [{}]]",
};

static size_t join_responses(uint8_t joined[1024])
{
    size_t total = 0;
    for (size_t i = 0; i < sizeof RESPONSES / sizeof RESPONSES[0]; i++) {
        size_t size;
        uint8_t *frame = fake_text_frame(RESPONSES[i], &size);
        ck_assert_uint_le(total + size, 1024);
        memcpy(joined + total, frame, size);
        total += size;
        free(frame);
    }
    return total;
}

/* Sends the three responses in parts that end at `cuts`, pumping after each. */
static void receive_in_parts(size_t part, size_t first)
{
    uint8_t joined[1024];
    size_t total = join_responses(joined);
    ck_assert_uint_eq(submit_replay(), 1);
    ck_assert_uint_eq(submit_ping(), 2);
    ck_assert_uint_eq(submit_ping(), 3);
    for (size_t at = 0; at < total;) {
        size_t size = at == 0 ? first : part;
        if (size > total - at)
            size = total - at;
        fake_write(fake.fd, joined + at, size);
        ck_assert_int_eq(pump(), RETHREAD_OK);
        at += size;
    }
    struct rethread_result *result;
    ck_assert_int_eq(rethread_collect(fake.connection, 1, 0, &result), RETHREAD_OK);
    ck_assert(fake_same(rethread_result_replay(result)->steps[0].segments.items[0].bytes, "abc"));
    rethread_result_free(result);
    ck_assert_int_eq(collect(2), RETHREAD_BUSY);
    ck_assert_int_eq(collect(3), RETHREAD_OK);
    ck_assert_int_eq(collect(3), RETHREAD_IDLE);
}

START_TEST(responses_may_be_cut_anywhere)
{
    uint8_t joined[1024];
    size_t total = join_responses(joined);
    for (size_t cut = 1; cut <= total; cut++) {
        teardown();
        setup();
        receive_in_parts(total, cut);
    }
}
END_TEST

START_TEST(responses_may_come_byte_by_byte)
{
    receive_in_parts(1, 1);
}
END_TEST

/* One replay with a payload of `size`, patterned, as a frame. */
static uint8_t *large_frame(unsigned msgid, size_t size, size_t *frame_size)
{
    char text[200];
    snprintf(text, sizeof text,
             "[1, %u, nil, [{'status': 'complete', 'steps': [{'step': 0, 'segments': "
             "[['opaque', %zu]]}]}, b'']]",
             msgid, size);
    struct bytes head = notation_encode(text);
    size_t body_size = head.size - 2 + 5 + size; /* an empty bin 8 becomes a bin 32 */
    uint8_t *body = malloc(body_size);
    ck_assert_ptr_nonnull(body);
    memcpy(body, head.data, head.size - 2);
    uint8_t *bin = body + head.size - 2;
    *bin++ = 0xC6;
    for (int shift = 24; shift >= 0; shift -= 8)
        *bin++ = (uint8_t)(size >> shift);
    for (size_t i = 0; i < size; i++)
        bin[i] = (uint8_t)(i * 131 + i / 509);
    uint8_t *frame = fake_frame(body, body_size, frame_size);
    free(body);
    free((void *)(uintptr_t)head.data);
    return frame;
}

static void check_large(uint32_t msgid, size_t size)
{
    struct rethread_result *result;
    ck_assert_int_eq(rethread_collect(fake.connection, msgid, 0, &result), RETHREAD_OK);
    struct rethread_bytes bytes = rethread_result_replay(result)->steps[0].segments.items[0].bytes;
    ck_assert_uint_eq(bytes.size, size);
    size_t same = 0;
    while (same < size && ((const uint8_t *)bytes.data)[same] == (uint8_t)(same * 131 + same / 509))
        same++;
    ck_assert_uint_eq(same, size);
    rethread_result_free(result);
}

/* Sizes around the point where a response's buffer changes hands instead of being copied. */
START_TEST(large_responses_arrive_whole)
{
    static const size_t SIZES[] = {65000, 65400, 65450, 65536, 65600, 131072, 300000, 1000003};
    size_t size = SIZES[_i];
    size_t frame_size[3];
    uint32_t first = submit_replay();
    uint32_t second = submit_replay();
    uint32_t third = submit_replay();
    uint8_t *frames[3] = {large_frame(first, size, &frame_size[0]),
                          large_frame(second, 100, &frame_size[1]),
                          large_frame(third, size, &frame_size[2])};
    for (int i = 0; i < 3; i++) {
        for (size_t at = 0; at < frame_size[i];) {
            size_t part = 1 + (at * 7919 + 13) % 50000;
            part = part < frame_size[i] - at ? part : frame_size[i] - at;
            fake_write(fake.fd, frames[i] + at, part);
            /* The second frame may come in the same read as the end of the first. */
            if (i != 0 || at + part < frame_size[i])
                ck_assert_int_eq(pump(), RETHREAD_OK);
            at += part;
        }
        free(frames[i]);
    }
    check_large(third, size);
    check_large(first, size);
    check_large(second, 100);
}
END_TEST

/* The read that completes a large frame also brings the start of the next. */
START_TEST(a_read_may_end_one_large_frame_and_begin_another)
{
    size_t payload_size = 65000;
    size_t size;
    size_t next_size;
    uint32_t first = submit_replay();
    uint32_t second = submit_ping();
    uint8_t *frame = large_frame(first, payload_size, &size);
    free(frame);
    payload_size += 65536 - size;
    frame = large_frame(first, payload_size, &size);
    ck_assert_uint_eq(size, 65536);
    char text[64];
    snprintf(text, sizeof text, "[1, %u, nil, [{}]]", second);
    uint8_t *next = fake_text_frame(text, &next_size);
    fake_write(fake.fd, frame, 3);
    ck_assert_int_eq(pump(), RETHREAD_OK);
    fake_write(fake.fd, frame + 3, size - 3);
    fake_write(fake.fd, next, next_size);
    ck_assert_int_eq(pump(), RETHREAD_OK);
    ck_assert_int_eq(pump(), RETHREAD_OK);
    check_large(first, payload_size);
    ck_assert_int_eq(collect(second), RETHREAD_OK);
    free(frame);
    free(next);
}
END_TEST

START_TEST(a_declared_size_costs_nothing_until_it_is_sent)
{
    static const uint8_t HEADER[] = {0xCE, 0x03, 0xFF, 0xFF, 0xFF}; /* just below the limit */
    static uint8_t some[100000];
    submit_ping();
    fake_write(fake.fd, HEADER, sizeof HEADER);
    ck_assert_int_eq(pump(), RETHREAD_OK);
    ck_assert_uint_le(fake.connection->incoming.capacity, 256 * 1024);
    fake_write(fake.fd, some, sizeof some);
    ck_assert_int_eq(pump(), RETHREAD_OK);
    ck_assert_uint_le(fake.connection->incoming.capacity, 512 * 1024);
}
END_TEST

/* ---- Peers that break the contract ---------------------------------------------------------- */

static void violates(const void *bytes, size_t size)
{
    uint32_t first = submit_ping();
    uint32_t second = submit_ping();
    uint32_t msgid = 0;
    fake_write(fake.fd, bytes, size);
    ck_assert_int_eq(pump(), RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_int_eq(rethread_wants(fake.connection), 0);
    ck_assert_int_eq(rethread_submit_ping(fake.connection, &msgid), RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_int_eq(collect(first), RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_int_eq(rethread_next(fake.connection, 0, &msgid, NULL), RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_uint_eq(msgid, second);
    ck_assert_int_eq(rethread_next(fake.connection, 0, &msgid, NULL), RETHREAD_IDLE);
}

static void text_violates(const char *text)
{
    size_t size;
    uint8_t *frame = fake_text_frame(text, &size);
    violates(frame, size);
    free(frame);
}

START_TEST(bytes_that_are_no_frame)
{
    violates("HTTP/1.1 400", 12);
}
END_TEST

START_TEST(a_frame_above_the_limit)
{
    static const uint8_t HEADER[] = {0xCE, 0x04, 0x01, 0x00, 0x01};
    violates(HEADER, sizeof HEADER);
}
END_TEST

START_TEST(four_gigabytes_declared)
{
    static const uint8_t HEADER[] = {0xCE, 0xFF, 0xFF, 0xFF, 0xFF};
    violates(HEADER, sizeof HEADER);
}
END_TEST

START_TEST(an_empty_frame)
{
    static const uint8_t HEADER[] = {0xCE, 0, 0, 0, 0};
    violates(HEADER, sizeof HEADER);
}
END_TEST

START_TEST(a_huge_array)
{
    static const uint8_t FRAME[] = {0xCE, 0, 0, 0, 5, 0xDD, 0xFF, 0xFF, 0xFF, 0xFF};
    violates(FRAME, sizeof FRAME);
}
END_TEST

START_TEST(a_request_from_the_server)
{
    text_violates("[0, 1, 'ping', [{}]]");
}
END_TEST

START_TEST(a_response_that_nobody_waits_for)
{
    text_violates("[1, 99, nil, [{}]]");
}
END_TEST

START_TEST(a_result_of_the_wrong_shape)
{
    text_violates("[1, 1, nil, [7]]");
}
END_TEST

START_TEST(a_second_response_to_one_request)
{
    uint32_t first = submit_ping();
    uint32_t second = submit_ping();
    fake_send(fake.fd, "[1, %u, nil, [{}]]", first);
    fake_send(fake.fd, "[1, %u, nil, [{}]]", first);
    ck_assert_int_eq(pump(), RETHREAD_PROTOCOL_VIOLATION);
    ck_assert_int_eq(collect(first), RETHREAD_OK);
    ck_assert_int_eq(collect(second), RETHREAD_PROTOCOL_VIOLATION);
}
END_TEST

/* ---- Endings -------------------------------------------------------------------------------- */

START_TEST(what_came_before_the_end_is_kept)
{
    uint32_t first = submit_ping();
    uint32_t second = submit_ping();
    uint32_t third = submit_ping();
    uint32_t msgid;
    fake_send(fake.fd, "[1, %u, nil, [{}]]", second);
    fake_write(fake.fd, "\xCE\0\0", 3);
    fake_hang_up(&fake);
    ck_assert_int_eq(rethread_collect(fake.connection, first, 1000, NULL), RETHREAD_CLOSED);
    ck_assert_uint_eq(rethread_outstanding(fake.connection), 2);
    ck_assert_int_eq(rethread_next(fake.connection, 1000, &msgid, NULL), RETHREAD_OK);
    ck_assert_uint_eq(msgid, second);
    ck_assert_int_eq(rethread_next(fake.connection, 1000, &msgid, NULL), RETHREAD_CLOSED);
    ck_assert_uint_eq(msgid, third);
    ck_assert_int_eq(rethread_next(fake.connection, 1000, &msgid, NULL), RETHREAD_IDLE);
    ck_assert_int_eq(rethread_submit_ping(fake.connection, &msgid), RETHREAD_CLOSED);
    ck_assert_int_eq(rethread_ping(fake.connection, NULL), RETHREAD_CLOSED);
}
END_TEST

/* The server says why, closes, and only then does the client try to send: no signal, no loss. */
START_TEST(the_last_word_of_a_server_is_heard)
{
    ck_assert_ptr_null(rethread_connection_error(fake.connection));
    fake_send(fake.fd, "[1, nil, {'code': 'shutting_down', 'message': 'draining'}, nil]");
    fake_hang_up(&fake);
    ck_assert_int_eq(rethread_ping(fake.connection, NULL), RETHREAD_CLOSED);
    const struct rethread_error *error = rethread_connection_error(fake.connection);
    ck_assert_ptr_nonnull(error);
    ck_assert_int_eq(error->status, RETHREAD_SHUTTING_DOWN);
    ck_assert_str_eq(error->message, "draining");
}
END_TEST

/* A peer that reads no more, but keeps its own side open and silent: nothing will ever come. */
START_TEST(a_peer_that_takes_nothing_is_gone)
{
    uint32_t first = submit_ping();
    uint32_t second = submit_ping();
    fake_send(fake.fd, "[1, %u, nil, [{}]]", first);
    ck_assert_int_eq(shutdown(fake.fd, SHUT_RD), 0);
    ck_assert_int_eq(rethread_collect(fake.connection, first, 10000, NULL), RETHREAD_OK);
    ck_assert_int_eq(rethread_ping(fake.connection, NULL), RETHREAD_CLOSED);
    ck_assert_int_eq(rethread_collect(fake.connection, second, 10000, NULL), RETHREAD_CLOSED);
}
END_TEST

/* ---- Deadlines ------------------------------------------------------------------------------ */

static _Atomic bool trickle_enough;

static void trickle(struct fake *of)
{
    static const uint8_t HEADER[] = {0xCE, 0, 1, 0, 0};
    fake_write(of->fd, HEADER, sizeof HEADER);
    while (!atomic_load(&trickle_enough)) { /* pairs with the store when the deadline has passed */
        struct timespec pause = {.tv_nsec = 5000000};
        fake_write(of->fd, "\x94", 1);
        nanosleep(&pause, NULL);
    }
}

START_TEST(a_trickle_does_not_put_off_the_deadline)
{
    struct fake slow;
    uint32_t msgid;
    fake_open(&slow, NULL, trickle, NULL);
    ck_assert_int_eq(rethread_submit_ping(slow.connection, &msgid), RETHREAD_OK);
    struct timespec start;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    /* The trickle goes on until this has come back. */
    ck_assert_int_eq(rethread_collect(slow.connection, msgid, 50, NULL), RETHREAD_TIMEOUT);
    clock_gettime(CLOCK_MONOTONIC, &end);
    atomic_store(&trickle_enough, true);
    double took_ms =
        (double)(end.tv_sec - start.tv_sec) * 1e3 + (double)(end.tv_nsec - start.tv_nsec) / 1e6;
    ck_assert_double_ge(took_ms, 49);
    fake_close(&slow);
}
END_TEST

static void stream(struct fake *of)
{
    static const uint8_t HEADER[] = {0xCE, 3, 0, 0, 0};
    static uint8_t some[1 << 20];
    fake_write(of->fd, HEADER, sizeof HEADER);
    for (int i = 0; i < 40; i++)
        fake_write(of->fd, some, sizeof some);
}

/* However fast the peer sends, a look at what has arrived is one look. */
START_TEST(a_stream_does_not_hold_a_look)
{
    enum { LOOK_BYTES = 4 * 1024 * 1024 + 64 * 1024 };
    struct fake fast;
    uint32_t msgid;
    size_t held = 0;
    fake_open(&fast, NULL, stream, NULL);
    ck_assert_int_eq(rethread_submit_ping(fast.connection, &msgid), RETHREAD_OK);
    while (held < 30 << 20) {
        ck_assert_int_eq(rethread_collect(fast.connection, msgid, 0, NULL), RETHREAD_TIMEOUT);
        size_t now = client_buffer_size(&fast.connection->incoming);
        ck_assert_uint_le(now - held, LOOK_BYTES);
        held = now;
    }
    fake_close(&fast);
}
END_TEST

/* ---- Attaching ------------------------------------------------------------------------------ */

START_TEST(only_stream_sockets_can_be_attached)
{
    struct rethread *connection;
    int ends[2];
    ck_assert_int_eq(pipe(ends), 0);
    ck_assert_int_eq(rethread_attach(ends[0], NULL, &connection), RETHREAD_INVALID_ARGUMENT);
    ck_assert_ptr_null(connection);
    ck_assert_int_eq(fcntl(ends[0], F_GETFL) & O_NONBLOCK, 0);
    close(ends[0]);
    close(ends[1]);
    ck_assert_int_eq(rethread_attach(-1, NULL, &connection), RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
    ck_assert_int_eq(rethread_attach(ends[0], NULL, &connection), RETHREAD_INVALID_ARGUMENT);
    close(ends[0]);
    close(ends[1]);
    ck_assert_int_eq(rethread_attach(fake.fd, NULL, NULL), RETHREAD_INVALID_ARGUMENT);
    rethread_close(NULL);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/connection");
    TCase *cases = tcase_create("bytes");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, responses_may_be_cut_anywhere);
    tcase_add_test(cases, responses_may_come_byte_by_byte);
    tcase_add_loop_test(cases, large_responses_arrive_whole, 0, 8);
    tcase_add_test(cases, a_read_may_end_one_large_frame_and_begin_another);
    tcase_add_test(cases, a_declared_size_costs_nothing_until_it_is_sent);
    suite_add_tcase(suite, cases);
    cases = tcase_create("violations");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, bytes_that_are_no_frame);
    tcase_add_test(cases, a_frame_above_the_limit);
    tcase_add_test(cases, four_gigabytes_declared);
    tcase_add_test(cases, an_empty_frame);
    tcase_add_test(cases, a_huge_array);
    tcase_add_test(cases, a_request_from_the_server);
    tcase_add_test(cases, a_response_that_nobody_waits_for);
    tcase_add_test(cases, a_result_of_the_wrong_shape);
    tcase_add_test(cases, a_second_response_to_one_request);
    suite_add_tcase(suite, cases);
    cases = tcase_create("endings");
    tcase_add_checked_fixture(cases, setup, teardown);
    tcase_add_test(cases, what_came_before_the_end_is_kept);
    tcase_add_test(cases, the_last_word_of_a_server_is_heard);
    tcase_add_test(cases, a_peer_that_takes_nothing_is_gone);
    tcase_add_test(cases, a_trickle_does_not_put_off_the_deadline);
    tcase_add_test(cases, a_stream_does_not_hold_a_look);
    tcase_add_test(cases, only_stream_sockets_can_be_attached);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
