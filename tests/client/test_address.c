/* Addresses as text, and connecting to what listens, does not listen, or does not answer. */
#include "client/address.h"
#include "client/connection.h"

#include <arpa/inet.h>
#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static struct client_address address;

START_TEST(addresses_are_taken_apart)
{
    ck_assert(client_address_parse("127.0.0.1:7411", &address));
    ck_assert(!address.is_unix && !address.is_numeric);
    ck_assert_str_eq(address.host, "127.0.0.1");
    ck_assert_str_eq(address.port, "7411");
    ck_assert(client_address_parse("some.host:1", &address));
    ck_assert_str_eq(address.host, "some.host");
    ck_assert(client_address_parse("[::1]:65535", &address));
    ck_assert(address.is_numeric);
    ck_assert_str_eq(address.host, "::1");
    ck_assert_str_eq(address.port, "65535");
    ck_assert(client_address_parse("unix:/run/a:b.sock", &address));
    ck_assert(address.is_unix);
    ck_assert_str_eq(address.path, "/run/a:b.sock");
}
END_TEST

START_TEST(what_is_no_address_is_refused)
{
    static const char *const BAD[] = {
        "",           "host",      "host:",   ":7411",       "host:0", "host:65536",
        "host:99999", "host:+1",   "host:1x", "::1:7411",    "[::1]",  "[::1]7411",
        "[]:7411",    "[::1:7411", "unix:",   "host:123456",
    };
    for (size_t i = 0; i < sizeof BAD / sizeof BAD[0]; i++)
        ck_assert_msg(!client_address_parse(BAD[i], &address), "took %s", BAD[i]);
    char text[400] = "unix:";
    memset(text + 5, 'p', 107);
    ck_assert(client_address_parse(text, &address));
    memset(text + 5, 'p', 108);
    ck_assert(!client_address_parse(text, &address));
    memset(text, 'h', 255);
    memcpy(text + 255, ":1", 3);
    ck_assert(client_address_parse(text, &address));
    memset(text, 'h', 256);
    memcpy(text + 256, ":1", 3);
    ck_assert(!client_address_parse(text, &address));
    struct rethread *connection;
    struct rethread_connect_options options = {.address = "[not-numeric]:1"};
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_INVALID_ARGUMENT);
    options.address = "nowhere";
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_INVALID_ARGUMENT);
    ck_assert_int_eq(rethread_connect(&options, NULL), RETHREAD_INVALID_ARGUMENT);
    options.address = "no-such-host.invalid:1";
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_UNRESOLVED);
    ck_assert_ptr_null(connection);
}
END_TEST

/* A listener on a free loopback port; -1 when the family is not there. */
static int listen_on(int family, char text[64])
{
    struct sockaddr_storage on = {.ss_family = (sa_family_t)family};
    struct sockaddr_in *v4 = (struct sockaddr_in *)&on;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&on;
    socklen_t size = family == AF_INET ? sizeof *v4 : sizeof *v6;
    if (family == AF_INET)
        v4->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    else
        v6->sin6_addr = in6addr_loopback;
    int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&on, size) != 0) {
        close(fd);
        return -1;
    }
    ck_assert_int_eq(listen(fd, 4), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)&on, &size), 0);
    snprintf(text, 64, family == AF_INET ? "127.0.0.1:%d" : "[::1]:%d",
             ntohs(family == AF_INET ? v4->sin_port : v6->sin6_port));
    return fd;
}

static void check_socket(const struct rethread *connection, bool is_tcp)
{
    int fd = rethread_fd(connection);
    int no_delay = 0;
    socklen_t size = sizeof no_delay;
    ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    if (!is_tcp)
        return;
    ck_assert_int_eq(getsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &no_delay, &size), 0);
    ck_assert_int_ne(no_delay, 0);
}

START_TEST(tcp_listeners_are_reached)
{
    int family = _i == 0 ? AF_INET : AF_INET6;
    char text[64];
    int listener = listen_on(family, text);
    if (listener < 0)
        return; /* a machine without IPv6 */
    struct rethread *connection;
    struct rethread_connect_options options = {.address = text, .connect_timeout_ms = 5000};
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_OK);
    int accepted = accept(listener, NULL, NULL);
    ck_assert_int_ge(accepted, 0);
    check_socket(connection, true);
    rethread_close(connection);
    char byte;
    ck_assert_int_eq(read(accepted, &byte, 1), 0);
    close(accepted);
    close(listener);
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_UNREACHABLE);
    ck_assert_int_eq(errno, ECONNREFUSED);
    ck_assert_ptr_null(connection);
}
END_TEST

/* localhost may be ::1 first: the next address is tried. */
START_TEST(every_address_of_a_name_is_tried)
{
    char text[64];
    char named[64];
    int listener = listen_on(AF_INET, text);
    ck_assert_int_ge(listener, 0);
    snprintf(named, sizeof named, "localhost:%s", strchr(text, ':') + 1);
    struct rethread *connection;
    struct rethread_connect_options options = {.address = named};
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_OK);
    rethread_close(connection);
    close(listener);
}
END_TEST

static char folder[] = "/tmp/rethread-test-XXXXXX";

static int listen_unix(char text[128], int backlog)
{
    struct sockaddr_un on = {.sun_family = AF_UNIX};
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(on.sun_path, sizeof on.sun_path, "%s/socket", folder);
    snprintf(text, 128, "unix:%s", on.sun_path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)&on, sizeof on), 0);
    ck_assert_int_eq(listen(fd, backlog), 0);
    return fd;
}

static void close_unix(int fd, const char *text)
{
    close(fd);
    ck_assert_int_eq(unlink(text + 5), 0);
    ck_assert_int_eq(rmdir(folder), 0);
}

START_TEST(unix_listeners_are_reached)
{
    char text[128];
    struct rethread *connection;
    int listener = listen_unix(text, 4);
    struct rethread_connect_options options = {.address = text};
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_OK);
    check_socket(connection, false);
    rethread_close(connection);
    close_unix(listener, text);
    ck_assert_int_eq(rethread_connect(&options, &connection), RETHREAD_UNREACHABLE);
    ck_assert_int_eq(errno, ENOENT);
}
END_TEST

/* A listener that accepts nobody: once its backlog is full, connecting takes for ever. */
START_TEST(connecting_keeps_its_deadline)
{
    enum { TRIES = 8 };
    char text[128];
    struct rethread *connections[TRIES];
    int listener = listen_unix(text, 0);
    struct rethread_connect_options options = {.address = text, .connect_timeout_ms = 60};
    enum rethread_status status = RETHREAD_OK;
    int made = 0;
    while (made < TRIES && status == RETHREAD_OK)
        status = rethread_connect(&options, &connections[made++]);
    ck_assert_int_eq(status, RETHREAD_TIMEOUT);
    for (int i = 0; i < made; i++)
        rethread_close(connections[i]);
    close_unix(listener, text);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("client/address");
    TCase *cases = tcase_create("text");
    tcase_add_test(cases, addresses_are_taken_apart);
    tcase_add_test(cases, what_is_no_address_is_refused);
    suite_add_tcase(suite, cases);
    cases = tcase_create("sockets");
    tcase_add_loop_test(cases, tcp_listeners_are_reached, 0, 2);
    tcase_add_test(cases, every_address_of_a_name_is_tried);
    tcase_add_test(cases, unix_listeners_are_reached);
    tcase_add_test(cases, connecting_keeps_its_deadline);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
