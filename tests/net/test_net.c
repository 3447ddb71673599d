/* The whole of net: handing over, turning away, unix sockets. Its end is in test_net_drain.c. */
#include "net/net.h"

#include "base/log.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1024 * 1024 };

static struct echo_server server;

static void start(unsigned loops)
{
    echo_prepare(&server);
    server.settings.loops = loops;
    echo_start(&server);
}

START_TEST(connections_are_dealt_out_evenly)
{
    enum { COUNT = 40, LOOPS = 4 };
    int fds[COUNT];
    start(LOOPS);
    for (int i = 0; i < COUNT; i++) {
        fds[i] = echo_connect(&server);
        echo_send_frame(fds[i], 'E', "hello", 5);
    }
    for (int i = 0; i < COUNT; i++) {
        echo_expect(fds[i], "hello", 5);
    }
    for (int i = 0; i < LOOPS; i++) {
        ck_assert_uint_eq(server.echoes[i].served, COUNT / LOOPS);
    }
    ck_assert_uint_eq(net_connections(server.net), COUNT);
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_ACCEPTED) == COUNT);
    for (int i = 0; i < COUNT; i++) {
        close(fds[i]);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    echo_stop(&server);
}
END_TEST

struct burst {
    pthread_t thread;
    uint32_t number;
};

static void *run_burst(void *context)
{
    struct burst *burst = context;
    for (uint32_t round = 0; round < 20; round++) {
        int fd = echo_connect(&server);
        for (uint32_t i = 0; i < 100; i++) {
            uint8_t text[8];
            bytes_store_be32(text, burst->number);
            bytes_store_be32(text + 4, round * 1000 + i);
            echo_send_frame(fd, 'E', text, sizeof text);
        }
        echo_send_number(fd, 'R', 300000);
        for (uint32_t i = 0; i < 100; i++) {
            uint8_t text[8];
            bytes_store_be32(text, burst->number);
            bytes_store_be32(text + 4, round * 1000 + i);
            echo_expect(fd, text, sizeof text);
        }
        echo_expect_pattern(fd, 300000);
        close(fd);
    }
    return NULL;
}

START_TEST(many_clients_on_many_loops)
{
    struct burst bursts[6];
    start(3);
    for (uint32_t i = 0; i < 6; i++) {
        bursts[i].number = i;
        ck_assert_int_eq(pthread_create(&bursts[i].thread, NULL, run_burst, &bursts[i]), 0);
    }
    for (int i = 0; i < 6; i++) {
        pthread_join(bursts[i].thread, NULL);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    ck_assert_uint_eq(echo_served(&server), 6 * 20 * 101);
    echo_stop(&server);
}
END_TEST

START_TEST(too_many_are_turned_away)
{
    int fds[8];
    echo_prepare(&server);
    server.settings.connections_max = 5;
    echo_start(&server);
    for (int i = 0; i < 8; i++) {
        fds[i] = echo_connect(&server);
        if (i < 5) {
            echo_send_frame(fds[i], 'E', "in", 2);
            echo_expect(fds[i], "in", 2);
        } else {
            echo_expect_end(fds[i]);
        }
    }
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_REFUSED) == 3);
    for (int i = 0; i < 8; i++) {
        close(fds[i]);
    }
    ECHO_WAIT(net_connections(server.net) == 0);
    int fd = echo_connect(&server); /* the places are free again */
    echo_send_frame(fd, 'E', "in", 2);
    echo_expect(fd, "in", 2);
    close(fd);
    echo_stop(&server);
}
END_TEST

/* Out of descriptors: the peer is turned away rather than left hanging, and later ones get in. */
START_TEST(no_descriptor_left)
{
    struct rlimit before;
    start(1);
    int early = echo_connect(&server);
    echo_send_frame(early, 'E', "early", 5);
    echo_expect(early, "early", 5);
    /* A client's socket made in advance, and no descriptor more for the server. */
    int late = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(late, 0);
    ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &before), 0);
    struct rlimit tight = {.rlim_cur = (rlim_t)late + 1, .rlim_max = before.rlim_max};
    int filler[64];
    int fillers = 0;
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &tight), 0);
    while (fillers < 64 && (filler[fillers] = open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0) {
        fillers++;
    }
    ck_assert_int_eq(errno, EMFILE);
    log_open(STDERR_FILENO, LOG_ERROR);
    ck_assert_int_eq(
        connect(late, (const struct sockaddr *)&server.address.storage, server.address.size), 0);
    echo_expect_end(late);
    close(late);
    while (fillers > 0) {
        close(filler[--fillers]);
    }
    ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &before), 0);
    ECHO_WAIT(echo_count(&server, METRIC_CONNECTIONS_REFUSED) == 1);
    int next = echo_connect(&server);
    echo_send_frame(next, 'E', "next", 4);
    echo_expect(next, "next", 4);
    close(early);
    close(next);
    echo_stop(&server);
}
END_TEST

START_TEST(a_unix_socket_beside_tcp)
{
    char folder[] = "/tmp/rethread-net-XXXXXX";
    char path[64];
    struct stat file;
    struct net_address address;
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
    echo_prepare(&server);
    server.settings.unix_path = path;
    echo_start(&server);
    ck_assert(net_listening(server.net, 1, &address));
    ck_assert(!net_listening(server.net, 2, &address));
    ck_assert(net_listening(server.net, 1, &address));
    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert_uint_eq(file.st_mode & 0777, 0600);
    struct echo_server local = {.address = address};
    int fd = echo_connect(&local);
    int tcp = echo_connect(&server);
    echo_send_frame(fd, 'E', "unix", 4);
    echo_expect(fd, "unix", 4);
    echo_send_number(fd, 'R', 4 * MIB);
    echo_expect_pattern(fd, 4 * MIB);
    echo_send_frame(tcp, 'E', "tcp", 3);
    echo_expect(tcp, "tcp", 3);
    close(fd);
    close(tcp);
    echo_stop(&server);
    ck_assert_int_eq(stat(path, &file), -1);
    ck_assert_int_eq(rmdir(folder), 0);
}
END_TEST

START_TEST(created_and_destroyed_without_a_start)
{
    echo_prepare(&server);
    server.settings.loops = 2;
    struct net *net = net_create(&server.settings, server.handlers);
    ck_assert_ptr_nonnull(net);
    struct net_address address;
    ck_assert(net_listening(net, 0, &address));
    /* One socket cannot listen where another does. */
    server.settings.listen = &address;
    log_open(-1, LOG_ERROR);
    ck_assert_ptr_null(net_create(&server.settings, server.handlers));
    net_destroy(net);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("net");
    TCase *accepting = tcase_create("accepting");
    tcase_add_test(accepting, connections_are_dealt_out_evenly);
    tcase_add_test(accepting, many_clients_on_many_loops);
    tcase_add_test(accepting, too_many_are_turned_away);
    tcase_add_test(accepting, no_descriptor_left);
    tcase_add_test(accepting, a_unix_socket_beside_tcp);
    tcase_add_test(accepting, created_and_destroyed_without_a_start);
    suite_add_tcase(s, accepting);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
