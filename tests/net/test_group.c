/* Groups: who is served together gets what is his, whole and in order, whatever befalls others. */
#include "net/group.h"
#include "net/loop.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"
#include "wire/request.h"

#include <check.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum { KIB = 1024, CLIENTS_MAX = 100 };

static struct echo_server server;
static int gate; /* holds the loop up, so that what others send is there at once when it goes on */
static int clients[CLIENTS_MAX];

static void setup(void)
{
    echo_prepare(&server);
    echo_start(&server);
    gate = echo_connect(&server);
}

static void teardown(void)
{
    close(gate);
    echo_stop(&server);
}

static void connect_clients(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        clients[i] = echo_connect(&server);
        echo_send_frame(clients[i], 'E', "here", 4); /* it has been accepted */
        echo_expect(clients[i], "here", 4);
    }
}

static void close_clients(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        close(clients[i]);
    }
}

static void shut_gate(void)
{
    echo_send_number(gate, 'G', 0);
    echo_wait_at_gate();
}

static void pass_gate(unsigned count)
{
    for (unsigned i = 0; i < count; i++) {
        echo_wait_arrived(clients[i]);
    }
    echo_open_gate();
    echo_expect(gate, "", 0);
}

static void send_requests(unsigned client, unsigned count)
{
    uint8_t text[2] = {(uint8_t)client, 0};
    for (unsigned i = 0; i < count; i++) {
        text[1] = (uint8_t)i;
        echo_send_frame(clients[client], 'E', text, sizeof text);
    }
}

static void expect_answers(unsigned client, unsigned count)
{
    uint8_t text[2] = {(uint8_t)client, 0};
    for (unsigned i = 0; i < count; i++) {
        text[1] = (uint8_t)i;
        echo_expect(clients[client], text, sizeof text);
    }
}

/* Clients of so many requests each; all are there at once. Returns how many groups it took. */
static uint64_t play(unsigned count, unsigned requests)
{
    connect_clients(count);
    shut_gate();
    for (unsigned i = 0; i < count; i++) {
        send_requests(i, requests);
    }
    uint64_t before = atomic_load(&server.echoes[0].groups);
    pass_gate(count);
    for (unsigned i = 0; i < count; i++) {
        expect_answers(i, requests);
    }
    close_clients(count);
    return atomic_load(&server.echoes[0].groups) - before;
}

START_TEST(many_connections_make_one_group)
{
    ck_assert_uint_eq(play(30, 1), 1);
    ck_assert_uint_eq(atomic_load(&server.echoes[0].group_max), 30);
}
END_TEST

START_TEST(a_group_has_a_limit)
{
    ck_assert_uint_le(play(CLIENTS_MAX, 1), 4); /* libevent tells of 32 at first */
    ck_assert_uint_eq(atomic_load(&server.echoes[0].group_max), NET_BATCH_MAX);
}
END_TEST

/* Twelve connections fit a group, and the thirteenth begins the next: nobody's requests are torn
 * apart for others. */
START_TEST(what_does_not_fit_begins_the_next)
{
    uint64_t batches = atomic_load(&server.echoes[0].batches);
    ck_assert_uint_eq(play(20, 5), 2);
    ck_assert_uint_eq(atomic_load(&server.echoes[0].group_max), 60);
    /* Each was served at once, besides the gate's and each one's first. */
    ck_assert_uint_eq(atomic_load(&server.echoes[0].batches) - batches, 20 + 1 + 20);
}
END_TEST

START_TEST(more_than_a_group_of_one_connection)
{
    play(3, 50);
    play(3, 150);
}
END_TEST

/* More input at once than the scratch holds: none of it is written over before it has run. */
START_TEST(input_lies_apart)
{
    enum { COUNT = 24, FRAMES = 5, SIZE = 12 * KIB };
    connect_clients(COUNT);
    shut_gate();
    uint8_t *data = echo_random_bytes(COUNT + SIZE, 5);
    for (unsigned i = 0; i < COUNT; i++) {
        for (unsigned f = 0; f < FRAMES; f++) {
            echo_send_frame(clients[i], 'H', data + i, SIZE + f - FRAMES);
        }
    }
    pass_gate(COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        for (unsigned f = 0; f < FRAMES; f++) {
            echo_expect_hash(clients[i], data + i, SIZE + f - FRAMES);
        }
    }
    free(data);
    close_clients(COUNT);
}
END_TEST

/* Every kind of turn beside every other: parts of frames, replies of all sizes, deferrals, nonsense
 * and peers that are gone. */
START_TEST(each_gets_his_own)
{
    enum { COUNT = 32 };
    uint64_t seed = 3, rounds = trial_count(20);
    uint8_t part[64];
    for (uint64_t round = 0; round < rounds; round++) {
        unsigned kinds[COUNT];
        connect_clients(COUNT);
        shut_gate();
        for (unsigned i = 0; i < COUNT; i++) {
            kinds[i] = (unsigned)trial_below(&seed, 7);
            switch (kinds[i]) {
            case 0:
                send_requests(i, 1 + (unsigned)i % 9);
                break;
            case 1:
                echo_send_number(clients[i], 'R', i * 10 * KIB + 1);
                break;
            case 2:
                echo_send_number(clients[i], 'M', i * 10 * KIB + 1);
                break;
            case 3:
                echo_send_frame(clients[i], 'D', "\0\0\0\3late", 8);
                break;
            case 4: /* the rest comes later */
                echo_send(clients[i], part, echo_put_frame(part, 'E', "whole", 5) - 3);
                break;
            case 5:
                echo_send(clients[i], "nonsense", 8);
                break;
            default: /* answered into nowhere */
                send_requests(i, 3);
                setsockopt(clients[i], SOL_SOCKET, SO_LINGER, &(struct linger){.l_onoff = 1},
                           sizeof(struct linger));
            }
        }
        for (unsigned i = 0; i < COUNT; i++) {
            echo_wait_arrived(clients[i]);
        }
        for (unsigned i = 0; i < COUNT; i++) {
            if (kinds[i] == 6) {
                close(clients[i]);
            }
        }
        echo_open_gate();
        echo_expect(gate, "", 0);
        for (unsigned i = 0; i < COUNT; i++) {
            switch (kinds[i]) {
            case 0:
                expect_answers(i, 1 + (unsigned)i % 9);
                break;
            case 1:
            case 2:
                echo_expect_pattern(clients[i], i * 10 * KIB + 1);
                break;
            case 3:
                echo_expect(clients[i], "late", 4);
                break;
            case 4:
                echo_send(clients[i], "ole", 3);
                echo_expect(clients[i], "whole", 5);
                break;
            case 5:
                echo_expect_refusal(clients[i], STATUS_BAD_REQUEST);
                echo_expect_end(clients[i]);
                break;
            default:
                break;
            }
            if (kinds[i] != 6) {
                close(clients[i]);
            }
        }
    }
}
END_TEST

/* ---- Who waits for whom ------------------------------------------------------------------- */

/* So much of a frame, whose body is `size` bytes: the command and zeros. */
static void send_part(unsigned client, char command, uint32_t size, size_t from, size_t to)
{
    uint8_t *frame = calloc(1, WIRE_HEADER_BYTES + (size_t)size);
    ck_assert_ptr_nonnull(frame);
    frame[0] = WIRE_HEADER_MARK;
    bytes_store_be32(frame + 1, size);
    frame[WIRE_HEADER_BYTES] = (uint8_t)command;
    echo_send(clients[client], frame + from, to - from);
    free(frame);
}

/* The loop goes on and stands still at the gate of another connection. Then it ends there too. */
static void go_on_to_next_gate(void)
{
    echo_open_gate();
    echo_expect(gate, "", 0);
    echo_wait_at_gate();
}

static void pass_next_gate(unsigned client)
{
    echo_open_gate();
    echo_expect(clients[client], "", 0);
}

/* Here the large request is what the loop stands still at. */
START_TEST(no_answer_waits_for_a_large_request)
{
    enum { SIZE = 300 * KIB };
    connect_clients(2);
    send_part(1, 'G', SIZE, 0, SIZE);
    echo_wait_arrived(clients[1]);
    echo_come_round(&server);
    shut_gate();
    send_requests(0, 1);
    echo_wait_arrived(clients[0]);
    send_part(1, 'G', SIZE, SIZE, SIZE + WIRE_HEADER_BYTES);
    echo_wait_arrived(clients[1]);
    go_on_to_next_gate();
    expect_answers(0, 1);
    pass_next_gate(1);
    close_clients(2);
}
END_TEST

/* What was answered leaves before more is run than takes a while. */
START_TEST(no_answer_waits_for_many_requests_of_some_size)
{
    enum { COUNT = 5, SIZE = 40 * KIB };
    connect_clients(COUNT);
    shut_gate();
    send_requests(0, 1);
    echo_wait_arrived(clients[0]);
    for (unsigned i = 1; i < COUNT; i++) {
        send_part(i, i + 1 < COUNT ? 'H' : 'G', SIZE, 0, WIRE_HEADER_BYTES + SIZE);
        echo_wait_arrived(clients[i]);
    }
    go_on_to_next_gate();
    expect_answers(0, 1);
    pass_next_gate(COUNT - 1);
    close_clients(COUNT);
}
END_TEST

/* Parts of large frames are no requests, but receiving them takes its time. */
START_TEST(no_answer_waits_for_many_parts_of_frames)
{
    enum { COUNT = 10, PART = 40 * KIB, SIZE = 2048 * KIB };
    connect_clients(COUNT);
    shut_gate();
    send_requests(0, 1);
    echo_wait_arrived(clients[0]);
    for (unsigned i = 1; i < COUNT - 1; i++) {
        send_part(i, 'H', SIZE, 0, PART);
        echo_wait_arrived(clients[i]);
    }
    echo_send_number(clients[COUNT - 1], 'G', 0);
    echo_wait_arrived(clients[COUNT - 1]);
    go_on_to_next_gate();
    expect_answers(0, 1);
    pass_next_gate(COUNT - 1);
    close_clients(COUNT);
}
END_TEST

/* The sockets take no more of what is not received. */
static void fill_sockets(void)
{
    uint64_t before;
    do {
        before = echo_count(&server, METRIC_BYTES_SENT);
        echo_come_round(&server);
        echo_come_round(&server);
    } while (echo_count(&server, METRIC_BYTES_SENT) != before);
}

/* Of a reply that the socket did not take whole, nothing leaves before the others are answered. */
START_TEST(no_answer_waits_for_the_rest_of_a_large_reply)
{
    enum { SIZE = 12 * 1024 * KIB };
    connect_clients(2);
    echo_send_number(clients[1], 'R', SIZE);
    echo_wait_arrived(clients[1]);
    fill_sockets();
    shut_gate();
    ck_assert_uint_lt(echo_drain(clients[1]), SIZE); /* from here on there is room for more */
    echo_send_number(clients[0], 'Q', (uint32_t)clients[1]);
    echo_wait_arrived(clients[0]);
    echo_open_gate();
    echo_expect(gate, "", 0);
    echo_expect(clients[0], "\0\0\0\0", 4);
    close_clients(2);
}
END_TEST

/* However many large replies wait, little of them goes out between two looks at who wants what. */
START_TEST(an_iteration_moves_little_of_what_is_large)
{
    enum { COUNT = 6, SIZE = 12 * 1024 * KIB };
    connect_clients(COUNT);
    for (unsigned i = 0; i < COUNT; i++) {
        echo_send_number(clients[i], 'R', SIZE);
        echo_wait_arrived(clients[i]);
    }
    fill_sockets();
    shut_gate();
    for (unsigned i = 0; i < COUNT; i++) {
        ck_assert_uint_lt(echo_drain(clients[i]), SIZE);
    }
    atomic_store(&server.echoes[0].moved_max, 0);
    echo_open_gate();
    for (unsigned i = 0; i < COUNT; i++) {
        uint8_t part[64 * KIB];
        ck_assert_int_eq(recv(clients[i], part, sizeof part, MSG_WAITALL), sizeof part);
    }
    ck_assert_uint_ge(atomic_load(&server.echoes[0].moved_max), NET_SHARE_BYTES / 2);
    ck_assert_uint_lt(atomic_load(&server.echoes[0].moved_max), 2 * NET_SHARE_BYTES);
    close_clients(COUNT);
}
END_TEST

/* Where nobody else wants anything, more of it goes out at once. */
START_TEST(what_is_large_moves_faster_alone)
{
    enum { SIZE = 12 * 1024 * KIB };
    connect_clients(1);
    echo_send_number(clients[0], 'R', SIZE);
    echo_wait_arrived(clients[0]);
    fill_sockets();
    shut_gate();
    ck_assert_uint_lt(echo_drain(clients[0]), SIZE);
    atomic_store(&server.echoes[0].moved_max, 0);
    clock_driven_advance(&server.clock, NET_ALONE_MS + 1);
    echo_open_gate();
    ECHO_WAIT(atomic_load(&server.echoes[0].moved_max) > 2 * NET_SHARE_BYTES);
    close_clients(1);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("group");
    TCase *c = tcase_create("group");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, many_connections_make_one_group);
    tcase_add_test(c, a_group_has_a_limit);
    tcase_add_test(c, what_does_not_fit_begins_the_next);
    tcase_add_test(c, more_than_a_group_of_one_connection);
    tcase_add_test(c, input_lies_apart);
    tcase_add_test(c, each_gets_his_own);
    tcase_add_test(c, no_answer_waits_for_a_large_request);
    tcase_add_test(c, no_answer_waits_for_many_requests_of_some_size);
    tcase_add_test(c, no_answer_waits_for_many_parts_of_frames);
    tcase_add_test(c, no_answer_waits_for_the_rest_of_a_large_reply);
    tcase_add_test(c, an_iteration_moves_little_of_what_is_large);
    tcase_add_test(c, what_is_large_moves_faster_alone);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
