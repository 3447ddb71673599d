/* Peers that are given up, and peers that are not: silence, slowness, and who hoards memory. */
#include "net/connection.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"

#include <check.h>
#include <stdlib.h>
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

/* Until the kernel's buffers on both sides are full, though the loop comes round and round. */
static void wait_until_stuck(void)
{
    uint64_t before, now = UINT64_MAX;
    do {
        before = now;
        usleep(400000);
        for (int i = 0; i < 4; i++) {
            echo_come_round(&server);
        }
        now = echo_count(&server, METRIC_BYTES_SENT) + echo_count(&server, METRIC_BYTES_RECEIVED);
    } while (now != before);
}

/* Reads until the server has sent so much more: not faster than it gets to know. */
static size_t read_until_sent(int fd, uint64_t more_bytes)
{
    static uint8_t some[64 * KIB];
    uint64_t sent = echo_count(&server, METRIC_BYTES_SENT);
    size_t got = 0;
    while (echo_count(&server, METRIC_BYTES_SENT) < sent + more_bytes) {
        for (size_t goal = got + 256 * KIB; got < goal;) {
            ssize_t part = echo_recv(fd, some, goal - got < sizeof some ? goal - got : sizeof some);
            ck_assert_int_gt(part, 0);
            got += (size_t)part;
        }
        echo_come_round(&server);
    }
    return got;
}

START_TEST(a_reader_that_never_reads_is_given_up)
{
    start();
    int fd = echo_connect_narrow(&server);
    echo_send_number(fd, 'R', 8 * MIB);
    ECHO_WAIT(echo_pins() == 1);
    wait_until_stuck();
    echo_pass(&server, NET_STALL_MS - 2000);
    ck_assert_uint_eq(net_connections(server.net), 1);
    echo_pass(&server, 4000);
    ECHO_WAIT(net_connections(server.net) == 0);
    ck_assert_int_eq(echo_pins(), 0);
    ck_assert_uint_eq(echo_count(&server, METRIC_CONNECTIONS_DROPPED), 1);
    close(fd);
    stop();
}
END_TEST

START_TEST(a_slow_reader_is_kept)
{
    start();
    int fd = echo_connect_narrow(&server);
    echo_send_number(fd, 'R', 16 * MIB);
    ECHO_WAIT(echo_pins() == 1);
    for (int i = 0; i < 5; i++) {
        echo_pass(&server, NET_STALL_MS / 2);
        read_until_sent(fd, 1);
    }
    ck_assert_uint_eq(net_connections(server.net), 1);
    close(fd);
    stop();
}
END_TEST

START_TEST(a_peer_that_ignores_the_last_answer_is_closed)
{
    start();
    int fd = echo_connect(&server);
    echo_send(fd, "junk!", 5);
    echo_expect_refusal(fd, STATUS_BAD_REQUEST);
    ck_assert_uint_eq(net_connections(server.net), 1);
    echo_pass(&server, NET_LINGER_MS + 500);
    ECHO_WAIT(net_connections(server.net) == 0);
    close(fd);
    stop();
}
END_TEST

START_TEST(an_unfinished_request_that_stalls_is_given_up)
{
    start();
    int stalled = echo_connect(&server);
    int slow = echo_connect(&server);
    int idle = echo_connect(&server);
    echo_send(stalled, "\xce\x00\x00\x00\x20", 5);
    echo_send(slow, "\xce\x00\x00\x00\x20", 5);
    ECHO_WAIT(net_connections(server.net) == 3 && net_buffer_bytes(server.net) == 2 * 64);
    for (int i = 0; i < 4; i++) {
        echo_pass(&server, NET_STALL_MS / 3);
        echo_send(slow, "E", 1);
        ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == 11 + (unsigned)i);
    }
    echo_expect_end(stalled);
    ECHO_WAIT(net_connections(server.net) == 2);
    echo_send_frame(idle, 'E', "idle is fine", 12);
    echo_expect(idle, "idle is fine", 12);
    close(stalled);
    close(slow);
    close(idle);
    stop();
}
END_TEST

START_TEST(idle_connections_end_by_their_timeout)
{
    echo_prepare(&server);
    server.settings.idle_timeout_ms = 60000;
    echo_start(&server);
    int idle = echo_connect(&server);
    int half = echo_connect(&server);
    int busy = echo_connect(&server);
    echo_send(half, "\xce\x00\x00", 3);
    ECHO_WAIT(net_connections(server.net) == 3 && echo_count(&server, METRIC_BYTES_RECEIVED) == 3);
    for (int i = 0; i < 5; i++) {
        echo_pass(&server, 15000);
        echo_send_frame(busy, 'E', "busy", 4);
        echo_expect(busy, "busy", 4);
    }
    echo_expect_end(idle);
    echo_expect_end(half);
    ECHO_WAIT(net_connections(server.net) == 1);
    close(idle);
    close(half);
    close(busy);
    stop();
}
END_TEST

/* ---- The cap ------------------------------------------------------------------------------ */

/* It never has room: while it waits, nobody who holds much is left in peace. */
static void ask_for_too_much(void)
{
    int fd = echo_connect(&server);
    echo_send_number(fd, 'M', 2 * MIB);
    echo_pass_until_answered(&server, fd);
    echo_expect_refusal(fd, STATUS_BUSY);
    close(fd);
}

START_TEST(hoarders_fill_the_cap_and_lose)
{
    enum { HOARDERS = 40, PART = 100 * KIB, LARGE = 200 * KIB };
    uint8_t *data = echo_random_bytes(LARGE, 3);
    memcpy(data, "\xce\x00\x08\x00\x00", 5);
    echo_prepare(&server);
    server.settings.frame_max_bytes = 512 * KIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
    int hoarders[HOARDERS];
    size_t sent[HOARDERS] = {0}, all = 0;
    for (int i = 0; i < HOARDERS; i++) {
        hoarders[i] = echo_connect(&server);
    }
    for (int i = 0; i > 0 || all <= 3 * MIB; i = (i + 1) % HOARDERS) {
        size_t more = echo_try_send(hoarders[i], data + sent[i], PART - sent[i]);
        sent[i] += more;
        all += more;
    }
    ECHO_WAIT(net_buffer_bytes(server.net) > MIB / 2);
    wait_until_stuck();
    /* Small requests are served meanwhile. */
    int small = echo_connect(&server);
    for (int i = 0; i < 100; i++) {
        echo_send_frame(small, 'E', "small", 5);
        echo_expect(small, "small", 5);
        /* One receive may overshoot, and every connection has its floor. */
        ck_assert_uint_le(net_buffer_bytes(server.net),
                          MIB + NET_QUOTA_BYTES + HOARDERS * NET_FLOOR_BYTES);
    }
    echo_pass(&server, NET_NO_ROOM_MS - 1000);
    /* A large one comes late: it waits while the hoarders run out of time, then it is served. */
    int large = echo_connect(&server);
    echo_send_frame(large, 'H', data, LARGE);
    ECHO_WAIT(net_connections(server.net) == HOARDERS + 2);
    echo_pass_until_answered(&server, large);
    echo_expect_hash(large, data, LARGE);
    for (int i = 0; i < HOARDERS; i++) {
        while (!echo_has_answered(hoarders[i])) {
            ask_for_too_much();
        }
        echo_expect_refusal(hoarders[i], STATUS_BUSY);
        close(hoarders[i]);
    }
    ECHO_WAIT(net_connections(server.net) == 2 && net_buffer_bytes(server.net) == 0);
    free(data);
    close(small);
    close(large);
    stop();
}
END_TEST

/* What they began with is little: it may stay, and is no reason to keep others waiting. */
START_TEST(many_small_beginnings_leave_room)
{
    enum { HOLDERS = 300, LARGE = 200 * KIB };
    uint8_t *data = echo_random_bytes(LARGE, 3);
    echo_prepare(&server);
    server.settings.frame_max_bytes = 512 * KIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
    int holders[HOLDERS];
    for (int i = 0; i < HOLDERS; i++) {
        holders[i] = echo_connect(&server);
        echo_send(holders[i], "\xce", 1);
    }
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == HOLDERS);
    ck_assert_uint_le(net_buffer_bytes(server.net), HOLDERS * 64);
    int large = echo_connect(&server);
    echo_send_frame(large, 'H', data, LARGE);
    echo_expect_hash(large, data, LARGE);
    ck_assert_uint_eq(net_connections(server.net), HOLDERS + 1);
    for (int i = 0; i < HOLDERS; i++) {
        close(holders[i]);
    }
    free(data);
    close(large);
    stop();
}
END_TEST

/* Each holds less than what it may own whatever the cap says, together they hold all of it. */
START_TEST(a_crowd_of_small_hoarders_loses_too)
{
    enum { HOLDERS = 300, PART = 4000, LARGE = 200 * KIB };
    uint8_t *data = echo_random_bytes(LARGE, 3);
    memcpy(data, "\xce\x00\x00\xff\xff", 5);
    echo_prepare(&server);
    server.settings.frame_max_bytes = 512 * KIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
    int holders[HOLDERS];
    for (int i = 0; i < HOLDERS; i++) {
        holders[i] = echo_connect(&server);
        echo_send(holders[i], data, PART);
    }
    int modest = echo_connect(&server);
    echo_send(modest, data, 300);
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == HOLDERS * PART + 300);
    ck_assert_uint_gt(net_buffer_bytes(server.net), MIB);
    echo_pass(&server, NET_HOARD_MS - 1000);
    int large = echo_connect(&server);
    echo_send_frame(large, 'H', data, LARGE);
    ECHO_WAIT(net_connections(server.net) == HOLDERS + 2);
    echo_pass(&server, 3500);
    echo_expect_hash(large, data, LARGE);
    for (int i = 0; i < HOLDERS; i++) {
        echo_expect_refusal(holders[i], STATUS_BUSY);
        close(holders[i]);
    }
    ECHO_WAIT(net_connections(server.net) == 2);
    free(data);
    close(modest);
    close(large);
    stop();
}
END_TEST

/* Both began in the same moment: the one that waits outlasts the one that is waited for. */
START_TEST(who_waits_is_served_when_a_hoarder_has_lost)
{
    enum { LARGE = 50 * KIB };
    echo_prepare(&server);
    server.settings.frame_max_bytes = 512 * KIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
    uint8_t *data = echo_random_bytes(LARGE, 6);
    int hoarder = echo_connect_narrow(&server);
    echo_send_number(hoarder, 'R', 8 * MIB);
    ECHO_WAIT(net_buffer_bytes(server.net) > MIB);
    wait_until_stuck();
    int large = echo_connect(&server);
    echo_send_frame(large, 'H', data, LARGE);
    echo_pass(&server, NET_HOARD_MS - 500);
    ck_assert_uint_eq(net_connections(server.net), 2);
    echo_pass(&server, 1000);
    echo_expect_hash(large, data, LARGE);
    ECHO_WAIT(net_connections(server.net) == 1 && echo_pins() == 0);
    free(data);
    close(hoarder);
    close(large);
    stop();
}
END_TEST

/* By reference or copied. */
START_TEST(readers_that_hoard_replies_lose)
{
    enum { LARGE = 4 * MIB };
    echo_prepare(&server);
    server.settings.frame_max_bytes = 5 * MIB;
    server.settings.buffers_max_bytes = 16 * MIB;
    echo_start(&server);
    uint8_t *data = echo_random_bytes(LARGE, 5);
    int hoarder = echo_connect_narrow(&server);
    echo_send_number(hoarder, _i == 0 ? 'R' : 'M', 15 * MIB);
    ECHO_WAIT(net_buffer_bytes(server.net) > 8 * MIB);
    wait_until_stuck();
    echo_pass(&server, NET_NO_ROOM_MS);
    ck_assert_uint_eq(net_connections(server.net), 1); /* nobody wanted the room */
    int large = echo_connect(&server);
    uint8_t *frame = malloc(LARGE + 64);
    ck_assert_ptr_nonnull(frame);
    size_t size = echo_put_frame(frame, 'H', data, LARGE);
    for (size_t sent = 0; sent < size; usleep(1000)) {
        /* The clock creeps: the hoarder has run out of time already, the large one has not. */
        size_t more = echo_try_send(large, frame + sent, size - sent);
        sent += more;
        if (more == 0) {
            echo_come_round(&server);
            clock_driven_advance(&server.clock, 1);
        }
    }
    echo_expect_hash(large, data, LARGE);
    ECHO_WAIT(net_connections(server.net) == 1 && echo_pins() == 0);
    free(frame);
    free(data);
    close(hoarder);
    close(large);
    stop();
}
END_TEST

/* Slow, but at a fair pace: it keeps its reply although others want the room. */
START_TEST(a_steady_reader_is_kept_under_pressure)
{
    enum { REPLY = 15 * MIB };
    uint8_t *data = echo_random_bytes(3 * MIB, 5);
    uint8_t *rest = malloc(REPLY);
    ck_assert_ptr_nonnull(rest);
    memcpy(data, "\xce\x00\x3f\xff\xff", 5);
    echo_prepare(&server);
    server.settings.frame_max_bytes = 5 * MIB;
    server.settings.buffers_max_bytes = 6 * MIB; /* less than the reply alone */
    echo_start(&server);
    int reader = echo_connect_narrow(&server);
    echo_send_number(reader, 'R', REPLY);
    ECHO_WAIT(echo_pins() == 1);
    wait_until_stuck();
    size_t read_bytes = 0;
    for (int i = 0; i < 6; i++) {
        int large = echo_connect(&server);
        echo_try_send(large, data, 3 * MIB);
        echo_pass(&server, 1500);
        ck_assert_uint_lt(echo_count(&server, METRIC_BYTES_RECEIVED), MIB); /* it is kept waiting */
        read_bytes += read_until_sent(reader, 64 * KIB);
        echo_pass(&server, 500);
        close(large);
    }
    ck_assert_int_eq(echo_pins(), 1);
    while (read_bytes < REPLY + 5) {
        ssize_t part = echo_recv(reader, rest, REPLY + 5 - read_bytes);
        ck_assert_int_gt(part, 0);
        read_bytes += (size_t)part;
    }
    free(rest);
    free(data);
    close(reader);
    stop();
}
END_TEST

START_TEST(a_reply_without_room_waits_then_is_busy)
{
    echo_prepare(&server);
    server.settings.frame_max_bytes = 512 * KIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
    int fd = echo_connect(&server);
    echo_send_number(fd, 'M', 2 * MIB); /* more than the cap: it never has room */
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == 10);
    echo_pass(&server, NET_NO_ROOM_MS - 1500);
    ck_assert_uint_eq(echo_served(&server), 0);
    echo_pass(&server, 3500);
    size_t size;
    uint8_t *body = echo_receive(fd, &size);
    ck_assert_uint_eq(size, 7); /* it names the request that it answers */
    ck_assert_int_eq(memcmp(body, (uint8_t[]){'X', STATUS_BUSY, 'M', 0, 0x20, 0, 0}, 7), 0);
    free(body);
    echo_expect_end(fd);
    close(fd);
    stop();
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("patience");
    TCase *time = tcase_create("time");
    tcase_add_test(time, a_reader_that_never_reads_is_given_up);
    tcase_add_test(time, a_slow_reader_is_kept);
    tcase_add_test(time, a_peer_that_ignores_the_last_answer_is_closed);
    tcase_add_test(time, an_unfinished_request_that_stalls_is_given_up);
    tcase_add_test(time, idle_connections_end_by_their_timeout);
    suite_add_tcase(s, time);
    TCase *cap = tcase_create("cap");
    tcase_add_test(cap, hoarders_fill_the_cap_and_lose);
    tcase_add_test(cap, many_small_beginnings_leave_room);
    tcase_add_test(cap, a_crowd_of_small_hoarders_loses_too);
    tcase_add_test(cap, who_waits_is_served_when_a_hoarder_has_lost);
    tcase_add_loop_test(cap, readers_that_hoard_replies_lose, 0, 2);
    tcase_add_test(cap, a_steady_reader_is_kept_under_pressure);
    tcase_add_test(cap, a_reply_without_room_waits_then_is_busy);
    suite_add_tcase(s, cap);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
