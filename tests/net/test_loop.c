/* Iterations: upkeep comes round, work that is left is hurried, waiting is done offline. */
#include "net/loop.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <check.h>
#include <errno.h>
#include <event2/event.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct echo_server server;

/* ---- A kernel without memory -------------------------------------------------------------- */

static _Atomic unsigned watch_failures_percent;
static _Atomic unsigned watch_failures;

/* libevent's calls come here as well: some of those that watch a socket fail. */
int epoll_ctl(int epoll_fd, int operation, int fd, struct epoll_event *event)
{
    static _Atomic uint64_t seed;
    if (operation != EPOLL_CTL_DEL) {
        uint64_t random = atomic_fetch_add(&seed, 1);
        if (trial_below(&random, 100) < atomic_load(&watch_failures_percent)) {
            atomic_fetch_add(&watch_failures, 1);
            errno = ENOMEM;
            return -1;
        }
    }
    return (int)syscall(SYS_epoll_ctl, epoll_fd, operation, fd, event);
}

/* ---- Waits that are counted ---------------------------------------------------------------- */

static _Atomic uint64_t waits;        /* of the loops and the front */
static _Atomic uint64_t wasted_waits; /* of a loop that was to be called again at once */

int epoll_wait(int epoll_fd, struct epoll_event *events, int room, int limit_ms)
{
    uint64_t tends = atomic_load(&server.echoes[0].tends);
    atomic_fetch_add(&waits, 1);
    /* The front has no timers: who waits for a time is the loop. */
    if (limit_ms > 0 && tends > 0 && tends < server.echoes[0].tend_calls_wanted) {
        atomic_fetch_add(&wasted_waits, 1);
    }
    return (int)syscall(SYS_epoll_wait, epoll_fd, events, room, limit_ms);
}

static void say_nothing(int severity, const char *text)
{
    (void)severity;
    (void)text;
}

static uint64_t now_ms(void)
{
    return clock_read_ms(clock_monotonic());
}

START_TEST(an_idle_loop_tends_and_sleeps)
{
    echo_prepare(&server);
    server.settings.loops = 2;
    echo_start(&server);
    echo_come_round(&server);
    uint64_t start_ms = now_ms();
    uint64_t tends = server.echoes[0].tends, before = waits;
    ECHO_WAIT(server.echoes[0].tends >= tends + 15);
    uint64_t more = server.echoes[0].tends - tends, more_waits = waits - before;
    uint64_t ticks = (now_ms() - start_ms) / NET_TICK_MS;
    ck_assert_uint_le(more, ticks + 5);
    /* Those of both loops: some wake a moment too early for their tick, and wait again. */
    ck_assert_uint_le(more_waits, 4 * ticks + 20);
    echo_stop(&server);
}
END_TEST

START_TEST(work_that_is_left_does_not_wait)
{
    echo_prepare(&server);
    server.echoes[0].tend_calls_wanted = 2000;
    echo_start(&server);
    ECHO_WAIT(server.echoes[0].tends >= 2000);
    ck_assert_uint_eq(wasted_waits, 0);
    echo_stop(&server);
}
END_TEST

START_TEST(served_while_work_is_left)
{
    echo_prepare(&server);
    server.echoes[0].tend_calls_wanted = 1000000000;
    echo_start(&server);
    int fd = echo_connect(&server);
    for (int i = 0; i < 100; i++) {
        echo_send_frame(fd, 'E', "x", 1);
        echo_expect(fd, "x", 1);
    }
    close(fd);
    ECHO_WAIT(net_connections(server.net) == 0);
    echo_stop(&server);
}
END_TEST

/* Deferred requests are tried often at first, then once a millisecond: no spinning. */
START_TEST(a_long_deferral_sleeps_in_between)
{
    uint8_t body[5] = {0, 0, 1, 0, 'x'}; /* 256 times */
    echo_prepare(&server);
    echo_start(&server);
    int fd = echo_connect(&server);
    uint64_t start_ms = now_ms(), before = waits;
    echo_send_frame(fd, 'D', body, sizeof body);
    echo_expect(fd, "x", 1);
    uint64_t more_waits = waits - before, took_ms = now_ms() - start_ms;
    ck_assert_uint_ge(took_ms, 200);
    ck_assert_uint_le(more_waits, 256 + 2 * took_ms);
    close(fd);
    echo_stop(&server);
}
END_TEST

/* Of many who wait for long one looks each millisecond, each of them at a tick; once one finds it
 * the others have it too, with what they sent behind it. */
START_TEST(one_looks_for_all_who_wait_for_long)
{
    enum { WAITING = 40, TICKS = 8 };
    int fds[WAITING];
    echo_prepare(&server);
    echo_start(&server);
    uint64_t before = now_ms();
    for (unsigned i = 0; i < WAITING; i++) {
        fds[i] = echo_connect(&server);
        echo_send_frame(fds[i], 'L', NULL, 0);
        echo_send_frame(fds[i], 'E', "y", 1);
    }
    int fd = echo_connect(&server); /* nobody else waits */
    for (unsigned i = 0; i < TICKS; i++) {
        usleep(NET_TICK_MS * 1000);
        echo_send_frame(fd, 'E', "x", 1);
        echo_expect(fd, "x", 1); /* the loop has not been kept from running */
    }
    atomic_store(&server.echoes[0].has_it, true);
    uint64_t looks = 0;
    for (unsigned i = 0; i < WAITING; i++) {
        size_t size;
        uint8_t *attempts = echo_receive(fds[i], &size);
        ck_assert_uint_eq(size, 4);
        looks += bytes_load_be32(attempts);
        free(attempts);
        echo_expect(fds[i], "y", 1);
        close(fds[i]);
    }
    uint64_t took_ms = now_ms() - before;
    ck_assert_uint_ge(looks, WAITING * (TICKS / 4));
    ck_assert_uint_le(looks, WAITING * (2 + took_ms / NET_TICK_MS) + 2 * took_ms);
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(counts_and_charges_are_reported)
{
    echo_prepare(&server);
    echo_start(&server);
    ECHO_WAIT(server.echoes[0].charged_bytes > NET_QUOTA_BYTES); /* the loop's own buffers */
    int64_t before = server.echoes[0].charged_bytes;
    int fd = echo_connect(&server);
    echo_send(fd,
              "\xce\x00\x00\x00\x09"
              "Ehal",
              9);
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == 9);
    ECHO_WAIT(server.echoes[0].charged_bytes > before + 64);
    ck_assert_uint_eq(net_buffer_bytes(server.net), 64);
    ck_assert_uint_eq(echo_count(&server, METRIC_BYTES_RECEIVED), 9);
    echo_send(fd, "E", 1);
    echo_send(fd, "rest", 4);
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_ACCEPTED) == 1);
    close(fd);
    ECHO_WAIT(net_connections(server.net) == 0);
    echo_stop(&server); /* checks that all is given back */
}
END_TEST

/* A connection that cannot be watched is looked at without being told, in all that it does. */
START_TEST(unwatched_connections_are_served)
{
    enum { ROUNDS = 300, LARGE = 2 * 1024 * 1024 };
    event_set_log_callback(say_nothing);
    echo_prepare(&server);
    server.settings.loops = 2;
    echo_start(&server);
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 50 == 0) { /* now and then nothing can be watched */
            atomic_store(&watch_failures_percent, i % 100 == 0 ? 50 : 100);
        }
        int fd = echo_connect_narrow(&server);
        echo_send_frame(fd, 'E', "one", 3);
        echo_expect(fd, "one", 3);
        if (i % 10 == 0) {
            echo_send_number(fd, 'R', LARGE);
            echo_expect_pattern(fd, LARGE);
        } else if (i % 10 == 1) {
            echo_send(fd, "junk!", 5);
            echo_expect_refusal(fd, STATUS_BAD_REQUEST);
            echo_expect_end(fd);
            usleep(5000); /* it lingers */
        } else if (i % 10 == 2) {
            shutdown(fd, SHUT_WR);
            echo_expect_end(fd);
        }
        close(fd);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    ck_assert_uint_gt(atomic_load(&watch_failures), ROUNDS / 2);
    int fds[20];
    for (int i = 0; i < 20; i++) {
        fds[i] = echo_connect(&server);
        echo_send_frame(fds[i], 'E', "one", 3);
        echo_expect(fds[i], "one", 3);
    }
    echo_stop(&server);
    for (int i = 0; i < 20; i++) {
        echo_expect_end(fds[i]);
        close(fds[i]);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("loop");
    TCase *c = tcase_create("loop");
    tcase_add_test(c, an_idle_loop_tends_and_sleeps);
    tcase_add_test(c, work_that_is_left_does_not_wait);
    tcase_add_test(c, served_while_work_is_left);
    tcase_add_test(c, a_long_deferral_sleeps_in_between);
    tcase_add_test(c, one_looks_for_all_who_wait_for_long);
    tcase_add_test(c, counts_and_charges_are_reported);
    tcase_add_test(c, unwatched_connections_are_served);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
