/* The end of net: the drain, what begins it, and who is told of it. */
#include "net/net.h"

#include "net/loop.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"

#include <check.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MIB = 1024 * 1024 };

static struct echo_server server;

static void start(unsigned loops)
{
    echo_prepare(&server);
    server.settings.loops = loops;
    echo_start(&server);
}

/* ---- Drain -------------------------------------------------------------------------------- */

/* At once, though its peers may stay for NET_FINISH_MS when they do not go by themselves. */
START_TEST(an_idle_server_ends_at_once)
{
    start(2);
    int fds[3] = {echo_connect(&server), echo_connect(&server), echo_connect(&server)};
    for (int i = 0; i < 3; i++) {
        echo_send_frame(fds[i], 'E', "x", 1);
        echo_expect(fds[i], "x", 1);
    }
    net_stop(server.net);
    for (int i = 0; i < 3; i++) {
        echo_expect_end(fds[i]);
    }
    if (_i == 1) {
        clock_driven_advance(&server.clock, NET_FINISH_MS);
        echo_join_now(&server);
    }
    for (int i = 0; i < 3; i++) {
        close(fds[i]);
    }
    if (_i == 0) {
        echo_join_now(&server);
    }
}
END_TEST

static bool somebody_listens(const struct net_address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    int failed = connect(fd, (const struct sockaddr *)&address->storage, address->size);
    close(fd);
    return !failed;
}

START_TEST(what_was_received_is_answered)
{
    enum { COUNT = 1000 };
    start(1);
    int gate = echo_connect(&server);
    int quick = echo_connect(&server);
    echo_send_frame(quick, 'E', "warm", 4);
    echo_expect(quick, "warm", 4);
    /* The loop is busy when the drain begins, so that all this waits in sockets and buffers. */
    echo_send_frame(gate, 'G', NULL, 0);
    echo_wait_at_gate();
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        echo_send_frame(quick, 'E', number, 4);
    }
    echo_send(quick, "\xce\x00\x00", 3);
    echo_wait_arrived(quick);
    net_stop(server.net);
    ECHO_WAIT(!somebody_listens(&server.address));
    echo_open_gate();
    echo_expect(gate, "", 0);
    for (uint32_t i = 0; i < COUNT; i++) {
        uint8_t number[4];
        bytes_store_be32(number, i);
        echo_expect(quick, number, 4);
    }
    echo_expect_end(gate);
    echo_expect_end(quick);
    close(gate);
    close(quick);
    echo_join(&server);
    ck_assert_uint_eq(server.echoes[0].refused, 0);
    ck_assert_uint_eq(server.echoes[0].served, COUNT + 2);
}
END_TEST

START_TEST(what_comes_later_is_refused)
{
    start(1);
    int reader = echo_connect_narrow(&server);
    int half = echo_connect(&server);
    int late = echo_connect(&server);
    uint8_t frame[64];
    size_t size = echo_put_frame(frame, 'E', "in two parts", 12);
    echo_send_number(reader, 'R', 8 * MIB); /* its unsent reply keeps the drain from ending */
    echo_send(half, frame, 9);
    echo_send_frame(late, 'E', "in time", 7);
    echo_expect(late, "in time", 7);
    ECHO_WAIT(echo_pins() == 1);
    net_stop(server.net);
    unsigned in_time = echo_until_drained(late);
    ck_assert(!somebody_listens(&server.address));
    echo_send(half, frame + 9, size - 9);
    echo_expect_refusal(half, STATUS_SHUTTING_DOWN);
    for (int i = 0; i < 100; i++) {
        echo_send_frame(late, 'E', "too late", 8);
    }
    for (int i = 0; i < 100; i++) {
        echo_expect_refusal(late, STATUS_SHUTTING_DOWN);
    }
    ck_assert_uint_eq(echo_served(&server), 2 + in_time);
    echo_expect_pattern(reader, 8 * MIB);
    echo_expect_end(reader);
    echo_expect_end(late);
    close(reader);
    close(half);
    close(late);
    echo_join(&server);
}
END_TEST

struct pipe {
    pthread_t thread;
    int fd;
    _Atomic bool refused;
    _Atomic bool ended;
};

/* Takes the whole answers off: refusals come after the others. Returns how much is left. */
static size_t take_answers(struct pipe *pipe, uint8_t *answers, size_t size)
{
    size_t at = 0;
    while (size - at >= 5) {
        size_t body = bytes_load_be32(answers + at + 1);
        ck_assert_uint_eq(answers[at], 0xce);
        ck_assert(body == 4 || body == 7);
        if (size - at < 5 + body) {
            break;
        }
        if (body == 7) {
            ck_assert_int_eq(answers[at + 5], 'X');
            atomic_store(&pipe->refused, true);
        }
        ck_assert(body == 7 || !atomic_load(&pipe->refused));
        at += 5 + body;
    }
    memmove(answers, answers + at, size - at);
    return size - at;
}

/* Sends without end, and reads whatever comes, until the server has said its last. */
static void *pipe_on_and_on(void *context)
{
    enum { FRAMES = 500 };
    struct pipe *pipe = context;
    uint8_t frames[FRAMES * 10], answers[64 * 1024];
    size_t size = 0, at = 0, held = 0;
    for (int i = 0; i < FRAMES; i++) {
        size += echo_put_frame(frames + size, 'E', "ever", 4);
    }
    for (;;) {
        struct pollfd ready = {.fd = pipe->fd, .events = POLLIN | POLLOUT};
        ck_assert_int_eq(poll(&ready, 1, -1), 1);
        at = (at + echo_try_send(pipe->fd, frames + at, size - at)) % size;
        ssize_t got = recv(pipe->fd, answers + held, sizeof answers - held, MSG_DONTWAIT);
        if (got == 0) {
            break;
        }
        ck_assert_msg(got > 0 || errno == EAGAIN, "recv: %s", strerror(errno));
        held = take_answers(pipe, answers, held + (got > 0 ? (size_t)got : 0));
    }
    ck_assert_uint_eq(held, 0);
    atomic_store(&pipe->ended, true);
    return NULL;
}

/* There is no end to its refusals: after NET_LATE_MS without other work it is told to go. */
START_TEST(who_goes_on_sending_does_not_hold_the_drain)
{
    enum { PIPES = 3 };
    static struct pipe pipes[PIPES];
    start(1);
    int reader = echo_connect_narrow(&server);
    echo_send_number(reader, 'R', 8 * MIB);
    ECHO_WAIT(echo_pins() == 1);
    for (int i = 0; i < PIPES; i++) {
        pipes[i].fd = echo_connect(&server);
        ck_assert_int_eq(pthread_create(&pipes[i].thread, NULL, pipe_on_and_on, &pipes[i]), 0);
    }
    ECHO_WAIT(echo_served(&server) > 10000);
    net_stop(server.net);
    /* Its unsent reply keeps the drain from ending before all of them have come late. */
    for (int i = 0; i < PIPES; i++) {
        ECHO_WAIT(atomic_load(&pipes[i].refused));
    }
    echo_expect_pattern(reader, 8 * MIB);
    echo_come_round(&server);
    clock_driven_advance(&server.clock, NET_LATE_MS);
    echo_expect_end(reader);
    for (int i = 0; i < PIPES; i++) {
        ECHO_WAIT(atomic_load(&pipes[i].ended));
        pthread_join(pipes[i].thread, NULL);
    }
    clock_driven_advance(&server.clock, NET_FINISH_MS);
    echo_join_now(&server);
    for (int i = 0; i < PIPES; i++) {
        close(pipes[i].fd);
    }
    close(reader);
}
END_TEST

START_TEST(who_waits_for_long_is_told_of_the_drain)
{
    start(1);
    int fd = echo_connect(&server);
    echo_send_frame(fd, 'L', NULL, 0);
    echo_wait_arrived(fd);
    echo_come_round(&server);
    echo_come_round(&server);
    ck_assert_uint_eq(server.echoes[0].served, 0);
    net_stop(server.net);
    size_t size;
    uint8_t *body = echo_receive(fd, &size);
    ck_assert_uint_eq(size, 4);
    ck_assert_uint_gt(bytes_load_be32(body), 0); /* it was deferred before */
    free(body);
    close(fd);
    echo_join_now(&server);
}
END_TEST

START_TEST(a_drain_takes_no_longer_than_its_time)
{
    int fds[2];
    start(2);
    int reader = echo_connect_narrow(&server);
    echo_send_number(reader, 'R', 8 * MIB);
    ECHO_WAIT(echo_pins() == 1);
    for (int i = 0; i < 2; i++) {
        fds[i] = echo_connect(&server);
        echo_send_frame(fds[i], 'E', "x", 1);
        echo_expect(fds[i], "x", 1);
    }
    net_stop(server.net);
    (void)echo_until_drained(fds[1]); /* on the reader's loop */
    echo_pass(&server, server.settings.drain_ms - 1);
    ck_assert_int_eq(echo_pins(), 1); /* it has time to read, but never does */
    clock_driven_advance(&server.clock, 1);
    echo_join_now(&server);
    close(fds[0]);
    close(fds[1]);
    close(reader);
}
END_TEST

START_TEST(deferred_requests_are_answered_before_the_end)
{
    uint8_t body[8] = {0, 0, 0, 45, 'l', 'a', 's', 't'};
    uint8_t frames[64];
    size_t size = echo_put_frame(frames, 'D', body, sizeof body);
    size += echo_put_frame(frames + size, 'E', "behind", 6);
    start(1);
    int fd = echo_connect(&server);
    echo_send(fd, frames, size);
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == size);
    net_stop(server.net);
    echo_expect(fd, "last", 4);
    echo_expect(fd, "behind", 6);
    echo_expect_end(fd);
    close(fd);
    echo_join(&server);
}
END_TEST

/* What one loop retired only that loop can reclaim, and another's request may wait for it. */
START_TEST(a_loop_that_is_done_tends_on_until_all_are)
{
    start(2);
    int fd = echo_connect(&server);
    int other = echo_connect(&server); /* on the other loop */
    echo_send_number(fd, 'W', 1000);
    ECHO_WAIT(net_connections(server.net) == 2);
    ECHO_WAIT(atomic_load(&server.echoes[0].batches) + atomic_load(&server.echoes[1].batches) > 0);
    int idle = atomic_load(&server.echoes[0].batches) == 0 ? 0 : 1;
    net_stop(server.net);
    echo_expect_end(other);
    close(other);
    ECHO_WAIT(net_connections(server.net) == 1); /* that loop is done now */
    uint64_t tends = atomic_load(&server.echoes[idle].tends);
    ECHO_WAIT(atomic_load(&server.echoes[idle].tends) > tends + 5);
    clock_driven_advance(&server.clock, 1001);
    size_t size;
    uint8_t *body = echo_receive(fd, &size);
    ck_assert_uint_eq(size, 4);
    free(body);
    echo_expect_end(fd);
    close(fd);
    echo_join(&server);
}
END_TEST

/* ---- Signals ------------------------------------------------------------------------------ */

/* A process of its own, since signals are the process's. `ready` gets its port. */
static pid_t serve_in_child(int ready[2], bool clock_runs)
{
    ck_assert_int_eq(pipe(ready), 0);
    pid_t child = fork();
    ck_assert_int_ge(child, 0);
    if (child > 0) {
        ck_assert_int_eq((int)read(ready[0], &server.address, sizeof server.address),
                         (int)sizeof server.address);
        return child;
    }
    echo_prepare(&server);
    server.settings.catch_signals = true;
    server.settings.clock = clock_runs ? clock_monotonic() : &server.clock.clock;
    echo_start(&server);
    if (write(ready[1], &server.address, sizeof server.address) < 0) {
        _exit(3);
    }
    pthread_join(server.front, NULL);
    _exit(net_connections(server.net) == 0 ? 0 : 4);
}

static int status_of(pid_t child)
{
    int status;
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    ck_assert(WIFEXITED(status));
    return WEXITSTATUS(status);
}

START_TEST(a_signal_drains)
{
    static const int signals[] = {SIGTERM, SIGINT};
    for (int i = 0; i < 2; i++) {
        int ready[2];
        pid_t child = serve_in_child(ready, true);
        int fd = echo_connect(&server);
        echo_send_frame(fd, 'E', "x", 1);
        echo_expect(fd, "x", 1);
        ck_assert_int_eq(kill(child, signals[i]), 0);
        echo_expect_end(fd);
        close(fd);
        ck_assert_int_eq(status_of(child), 0);
        close(ready[0]);
        close(ready[1]);
    }
}
END_TEST

START_TEST(a_second_signal_breaks_the_drain_off)
{
    int ready[2];
    char first;
    /* Its clock stands still: neither the drain nor what is unsent runs out of time. */
    pid_t child = serve_in_child(ready, false);
    int fd = echo_connect_narrow(&server);
    echo_send_number(fd, 'R', 8 * MIB);
    ck_assert_int_eq((int)echo_recv(fd, &first, 1), 1);
    ck_assert_int_eq(kill(child, SIGTERM), 0);
    ECHO_WAIT(!somebody_listens(&server.address));
    ck_assert_int_eq(waitpid(child, NULL, WNOHANG), 0);
    ck_assert_int_eq(kill(child, SIGTERM), 0);
    ck_assert_int_eq(status_of(child), 0);
    close(fd);
    close(ready[0]);
    close(ready[1]);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("net drain");
    TCase *drain = tcase_create("drain");
    tcase_add_loop_test(drain, an_idle_server_ends_at_once, 0, 2);
    tcase_add_test(drain, what_was_received_is_answered);
    tcase_add_test(drain, what_comes_later_is_refused);
    tcase_add_test(drain, who_goes_on_sending_does_not_hold_the_drain);
    tcase_add_test(drain, a_loop_that_is_done_tends_on_until_all_are);
    tcase_add_test(drain, who_waits_for_long_is_told_of_the_drain);
    tcase_add_test(drain, a_drain_takes_no_longer_than_its_time);
    tcase_add_test(drain, deferred_requests_are_answered_before_the_end);
    suite_add_tcase(s, drain);
    TCase *signals = tcase_create("signals");
    tcase_add_test(signals, a_signal_drains);
    tcase_add_test(signals, a_second_signal_breaks_the_drain_off);
    suite_add_tcase(s, signals);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
