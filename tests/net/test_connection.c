/* Connections over real sockets: framing, order, back-pressure, limits, peers to be given up. */
#include "net/connection.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { KIB = 1024, MIB = 1024 * 1024 };

static struct echo_server server;

static void start(void)
{
    echo_prepare(&server);
    echo_start(&server);
}

static void stop(void)
{
    echo_stop(&server);
}

static void no_delay(int fd)
{
    int on = 1;
    ck_assert_int_eq(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on), 0);
}

/* ---- Framing ------------------------------------------------------------------------------ */

START_TEST(frames_split_at_every_byte)
{
    uint8_t frames[256];
    size_t size = echo_put_frame(frames, 'E', "one", 3);
    size += echo_put_frame(frames + size, 'E', "", 0);
    size += echo_put_frame(frames + size, 'E', "the third of them", 17);
    start();
    int fd = echo_connect(&server);
    no_delay(fd);
    uint64_t sent = 0;
    for (size_t cut = 1; cut < size; cut++) {
        echo_send(fd, frames, cut);
        /* The first part has been looked at before the second is sent. */
        ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == sent + cut);
        sent += size;
        echo_send(fd, frames + cut, size - cut);
        echo_expect(fd, "one", 3);
        echo_expect(fd, "", 0);
        echo_expect(fd, "the third of them", 17);
    }
    close(fd);
    stop();
}
END_TEST

START_TEST(bytes_one_by_one)
{
    uint8_t frame[64];
    size_t size = echo_put_frame(frame, 'E', "slowly", 6);
    start();
    int fd = echo_connect(&server);
    no_delay(fd);
    for (size_t i = 0; i < size; i++) {
        echo_send(fd, frame + i, 1);
        ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == i + 1);
    }
    echo_expect(fd, "slowly", 6);
    close(fd);
    stop();
}
END_TEST

/* Around every size at which input changes its place: floor, copied, scratch, and far above. */
START_TEST(frames_of_all_sizes_in_parts_of_all_sizes)
{
    static const size_t sizes[] = {4000,          4096,      16 * KIB - 6, 16 * KIB,    17 * KIB,
                                   256 * KIB - 6, 256 * KIB, 300 * KIB,    5 * MIB + 77};
    static const size_t parts[] = {1000, 16 * KIB, 100 * KIB + 1, 32 * MIB};
    start();
    int fd = echo_connect(&server);
    for (size_t s = 0; s < sizeof sizes / sizeof *sizes; s++) {
        uint8_t *data = echo_random_bytes(sizes[s], s);
        uint8_t *frames = malloc(2 * sizes[s] + 64);
        ck_assert_ptr_nonnull(frames);
        size_t size = echo_put_frame(frames, 'H', data, sizes[s]);
        size += echo_put_frame(frames + size, 'E', "between", 7);
        size += echo_put_frame(frames + size, 'H', data, sizes[s] - 1);
        for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
            for (size_t at = 0; at < size; at += parts[p]) {
                echo_send(fd, frames + at, size - at < parts[p] ? size - at : parts[p]);
            }
            echo_expect_hash(fd, data, sizes[s]);
            echo_expect(fd, "between", 7);
            echo_expect_hash(fd, data, sizes[s] - 1);
        }
        free(frames);
        free(data);
    }
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    close(fd);
    stop();
}
END_TEST

static void expect_refused_and_closed(const void *said, size_t size, enum status status)
{
    start();
    int fd = echo_connect(&server);
    int other = echo_connect(&server);
    echo_send_frame(fd, 'E', "before", 6);
    echo_send(fd, said, size);
    echo_expect(fd, "before", 6);
    echo_expect_refusal(fd, status);
    echo_expect_end(fd);
    echo_send_frame(other, 'E', "still here", 10);
    echo_expect(other, "still here", 10);
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_DROPPED) == 1);
    close(fd);
    close(other);
    stop();
}

START_TEST(lost_framing_is_told_and_closed)
{
    expect_refused_and_closed("\xc1 what is this", 14, STATUS_BAD_REQUEST);
}
END_TEST

START_TEST(a_frame_too_large_is_told_and_closed)
{
    expect_refused_and_closed("\xce\xff\xff\xff\xff", 5, STATUS_TOO_LARGE);
}
END_TEST

/* The peer is in the middle of sending: a close would reset the connection and lose the answer. */
START_TEST(the_last_answer_arrives_while_the_peer_sends)
{
    size_t size = 24 * MIB; /* more than the kernel takes before the server has answered */
    uint8_t *data = echo_random_bytes(size, 1);
    memcpy(data, "\xce\x7f\xff\xff\xff", 5);
    start();
    for (int i = 0; i < 3; i++) {
        int fd = echo_connect(&server);
        echo_send(fd, data, size);
        echo_expect_refusal(fd, STATUS_TOO_LARGE);
        echo_expect_end(fd);
        close(fd);
    }
    free(data);
    stop();
}
END_TEST

/* ---- Order, quotas, back-pressure --------------------------------------------------------- */

START_TEST(ten_thousand_pipelined_requests)
{
    enum { COUNT = 10000, FRAME = 5 + 1 + 4 };
    uint8_t *frames = malloc(COUNT * FRAME);
    ck_assert_ptr_nonnull(frames);
    start();
    int fd = echo_connect(&server);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        echo_put_frame(frames + (size_t)i * FRAME, 'E', number, 4);
    }
    echo_send(fd, frames, COUNT * FRAME);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        echo_expect(fd, number, 4);
    }
    ck_assert_uint_eq(echo_served(&server), COUNT);
    ck_assert_uint_eq(server.echoes[0].batch_max, NET_BATCH_MAX);
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    free(frames);
    close(fd);
    stop();
}
END_TEST

/* A thousand requests of one connection wait: another's waits for a turn of them, not for all. */
START_TEST(a_pipelining_hog_lets_others_through)
{
    enum { COUNT = 1000 };
    uint8_t frames[6 + COUNT * 8];
    size_t size = echo_put_frame(frames, 'G', NULL, 0);
    for (int i = 0; i < COUNT; i++) {
        size += echo_put_frame(frames + size, 'E', "me", 2);
    }
    start();
    int hog = echo_connect(&server);
    int other = echo_connect(&server);
    echo_send_frame(other, 'E', "warm", 4);
    echo_expect(other, "warm", 4);
    for (int i = 0; i < 3; i++) {
        size_t answer_size;
        echo_send(hog, frames, size);
        echo_wait_at_gate();
        echo_send_frame(other, 'N', NULL, 0);
        echo_wait_arrived(hog);
        echo_wait_arrived(other);
        uint64_t before = echo_served(&server);
        echo_open_gate();
        uint8_t *answer = echo_receive(other, &answer_size);
        ck_assert_uint_eq(answer_size, 4);
        /* What is left of the turn under way and at most one turn more. */
        ck_assert_uint_le(bytes_load_be32(answer), before + 2 * NET_BATCH_MAX);
        free(answer);
        echo_expect(hog, "", 0);
        for (int k = 0; k < COUNT; k++) {
            echo_expect(hog, "me", 2);
        }
    }
    close(hog);
    close(other);
    stop();
}
END_TEST

START_TEST(large_replies_arrive_whole_in_order)
{
    static const uint32_t sizes[] = {1,         4096,          256 * KIB - 5, 256 * KIB,
                                     300 * KIB, 5 * MIB + 333, 12 * MIB};
    start();
    int fd = echo_connect(&server);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            echo_send_number(fd, 'R', sizes[i]);
            echo_send_number(fd, 'M', sizes[i]);
            echo_send_frame(fd, 'E', "next", 4);
        }
        for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
            echo_expect_pattern(fd, sizes[i]);
            echo_expect_pattern(fd, sizes[i]);
            echo_expect(fd, "next", 4);
        }
    }
    ECHO_WAIT(net_buffer_bytes(server.net) == 0 && echo_pins() == 0);
    close(fd);
    stop();
}
END_TEST

START_TEST(replies_of_many_pieces)
{
    start();
    int fd = echo_connect(&server);
    for (uint32_t count = 1; count < 100000; count = count * 3 + 1) {
        echo_send_number(fd, 'P', count);
        echo_send_frame(fd, 'E', "behind", 6);
        echo_expect_pattern(fd, (size_t)count * 8);
        echo_expect(fd, "behind", 6);
    }
    close(fd);
    stop();
}
END_TEST

START_TEST(nothing_runs_while_replies_are_unsent)
{
    start();
    int fd = echo_connect_narrow(&server);
    int other = echo_connect(&server);
    echo_send_number(fd, 'R', 16 * MIB);
    ECHO_WAIT(echo_served(&server) == 1);
    for (int i = 0; i < 1000; i++) {
        echo_send_frame(fd, 'E', "later", 5);
    }
    for (int i = 0; i < 50; i++) {
        echo_send_frame(other, 'E', "now", 3);
        echo_expect(other, "now", 3);
    }
    ck_assert_uint_eq(echo_served(&server), 51);
    ck_assert_int_eq(echo_pins(), 1);
    echo_expect_pattern(fd, 16 * MIB);
    for (int i = 0; i < 1000; i++) {
        echo_expect(fd, "later", 5);
    }
    close(fd);
    close(other);
    stop();
}
END_TEST

/* ---- Deferral ----------------------------------------------------------------------------- */

static size_t put_deferred(uint8_t *at, uint32_t times, const char *text)
{
    uint8_t body[64];
    bytes_store_be32(body, times);
    memcpy(body + 4, text, strlen(text));
    return echo_put_frame(at, 'D', body, 4 + strlen(text));
}

START_TEST(deferred_requests_keep_their_order)
{
    uint8_t frames[512];
    size_t size = echo_put_frame(frames, 'E', "first", 5);
    size += put_deferred(frames + size, 7, "second");
    size += echo_put_frame(frames + size, 'E', "third", 5);
    size += put_deferred(frames + size, 60, "fourth"); /* by the timer in the end */
    size += put_deferred(frames + size, 1, "fifth");
    start();
    int fd = echo_connect(&server);
    int other = echo_connect(&server);
    for (int i = 0; i < 20; i++) {
        echo_send(fd, frames, size);
        echo_send_frame(other, 'E', "not deferred", 12);
        echo_expect(other, "not deferred", 12);
        echo_expect(fd, "first", 5);
        echo_expect(fd, "second", 6);
        echo_expect(fd, "third", 5);
        echo_expect(fd, "fourth", 6);
        echo_expect(fd, "fifth", 5);
    }
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    close(fd);
    close(other);
    stop();
}
END_TEST

/* ---- Half-closed, idle, stalled ----------------------------------------------------------- */

/* The time of a deferral is that of its request alone, and turns are paced when it lasts. */
START_TEST(deferrals_are_timed_and_paced)
{
    uint8_t wait[64];
    uint8_t number[4];
    uint8_t *body;
    size_t size, at;
    start();
    int fd = echo_connect(&server);
    bytes_store_be32(number, 700);
    at = echo_put_frame(wait, 'W', number, 4);
    at += echo_put_frame(wait + at, 'W', number, 4);
    echo_send(fd, wait, at);
    for (int i = 0; i < 2; i++) {
        uint64_t batches = atomic_load(&server.echoes[0].batches);
        /* The clock stands still: it is tried on and on. */
        ECHO_WAIT(atomic_load(&server.echoes[0].batches) > batches + 40);
        uint64_t start_ms = clock_read_ms(clock_monotonic());
        batches = atomic_load(&server.echoes[0].batches);
        usleep(100000);
        batches = atomic_load(&server.echoes[0].batches) - batches;
        /* Once a millisecond, however long this has slept. */
        ck_assert_uint_lt(batches, 2 * (clock_read_ms(clock_monotonic()) - start_ms) + 20);
        echo_pass(&server, 600);
        ck_assert_uint_eq(echo_served(&server), (uint64_t)i);
        echo_pass(&server, 200);
        body = echo_receive(fd, &size);
        ck_assert_uint_eq(size, 4);
        ck_assert_uint_gt(bytes_load_be32(body), 32);
        free(body);
    }
    close(fd);
    stop();
}
END_TEST

START_TEST(a_half_closed_peer_gets_its_answers)
{
    uint8_t frames[128];
    size_t size = put_deferred(frames, 50, "late");
    start();
    int fd = echo_connect_narrow(&server);
    echo_send_frame(fd, 'E', "one", 3);
    echo_send_number(fd, 'R', 4 * MIB);
    echo_send(fd, frames, size);
    echo_send_frame(fd, 'E', "two", 3);
    ck_assert_int_eq(shutdown(fd, SHUT_WR), 0);
    echo_expect(fd, "one", 3);
    echo_expect_pattern(fd, 4 * MIB);
    echo_expect(fd, "late", 4);
    echo_expect(fd, "two", 3);
    echo_expect_end(fd);
    ECHO_WAIT(net_connections(server.net) == 0);
    close(fd);
    stop();
}
END_TEST

START_TEST(a_peer_that_goes_in_mid_frame_leaves_nothing)
{
    start();
    for (int i = 0; i < 10; i++) {
        int fd = echo_connect(&server);
        echo_send(fd, "\xce\x00\x01\x00\x00 and then", 14);
        close(fd);
    }
    int reader = echo_connect_narrow(&server);
    echo_send_number(reader, 'R', 8 * MIB);
    ECHO_WAIT(echo_pins() == 1);
    close(reader);
    ECHO_WAIT(net_connections(server.net) == 0);
    ck_assert_uint_eq(net_buffer_bytes(server.net), 0);
    ck_assert_int_eq(echo_pins(), 0);
    stop();
}
END_TEST

/* ---- The cap ------------------------------------------------------------------------------ */

START_TEST(declared_sizes_take_no_memory)
{
    enum { COUNT = 200 };
    int fds[COUNT];
    uint8_t said[1024] = {0xce, 0x01, 0xff, 0xff, 0xff};
    start();
    for (int i = 0; i < COUNT; i++) {
        fds[i] = echo_connect(&server);
        echo_send(fds[i], said, sizeof said);
    }
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == COUNT * sizeof said);
    ck_assert_uint_eq(net_buffer_bytes(server.net), COUNT * KIB);
    for (int i = 0; i < COUNT; i++) {
        close(fds[i]);
    }
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    stop();
}
END_TEST

START_TEST(idle_connections_are_cheap)
{
    struct rlimit limit;
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &limit), 0);
    limit.rlim_cur = limit.rlim_max;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &limit), 0);
    uint64_t possible = limit.rlim_max > 400 ? (limit.rlim_max - 200) / 2 : 100;
    unsigned count = (unsigned)trial_count(possible < 9000 ? possible : 9000);
    int *fds = calloc(count, sizeof *fds);
    ck_assert_ptr_nonnull(fds);
    start();
    ECHO_WAIT(server.echoes[0].charged_bytes > 0);
    int64_t before = server.echoes[0].charged_bytes;
    for (unsigned i = 0; i < count; i++) {
        fds[i] = echo_connect(&server);
        if (i % 16 == 0) { /* and idle again after a request */
            echo_send_frame(fds[i], 'E', "x", 1);
            echo_expect(fds[i], "x", 1);
        }
    }
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_ACCEPTED) == count);
    ck_assert_uint_eq(net_buffer_bytes(server.net), 0);
    ck_assert_uint_lt(sizeof(struct net_connection) - sizeof(struct event), 512);
    /* The struct and a place in a list that may be half empty. */
    int64_t each = (server.echoes[0].charged_bytes - before) / (int64_t)count;
    ck_assert_int_le(each, (int64_t)(sizeof(struct net_connection) + 2 * sizeof(void *) + 8));
    for (unsigned i = 0; i < count; i++) {
        close(fds[i]);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    free(fds);
    stop();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("connection");
    TCase *framing = tcase_create("framing");
    tcase_add_test(framing, frames_split_at_every_byte);
    tcase_add_test(framing, bytes_one_by_one);
    tcase_add_test(framing, frames_of_all_sizes_in_parts_of_all_sizes);
    tcase_add_test(framing, lost_framing_is_told_and_closed);
    tcase_add_test(framing, a_frame_too_large_is_told_and_closed);
    tcase_add_test(framing, the_last_answer_arrives_while_the_peer_sends);
    suite_add_tcase(s, framing);
    TCase *order = tcase_create("order");
    tcase_add_test(order, ten_thousand_pipelined_requests);
    tcase_add_test(order, a_pipelining_hog_lets_others_through);
    tcase_add_test(order, large_replies_arrive_whole_in_order);
    tcase_add_test(order, replies_of_many_pieces);
    tcase_add_test(order, nothing_runs_while_replies_are_unsent);
    tcase_add_test(order, deferred_requests_keep_their_order);
    tcase_add_test(order, deferrals_are_timed_and_paced);
    suite_add_tcase(s, order);
    TCase *peers = tcase_create("peers");
    tcase_add_test(peers, a_half_closed_peer_gets_its_answers);
    tcase_add_test(peers, a_peer_that_goes_in_mid_frame_leaves_nothing);
    suite_add_tcase(s, peers);
    TCase *cap = tcase_create("cap");
    tcase_add_test(cap, declared_sizes_take_no_memory);
    tcase_add_test(cap, idle_connections_are_cheap);
    suite_add_tcase(s, cap);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
