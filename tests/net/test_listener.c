/* Listening sockets: ports that are picked, files that are replaced and files that are not. */
#include "net/listener.h"

#include "base/log.h"

#include "tests/lib/suite.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

static char folder[] = "/tmp/rethread-listener-XXXXXX";
static char path[64];

static void setup(void)
{
    log_open(-1, LOG_ERROR); /* failures are wanted here */
    ck_assert_ptr_nonnull(mkdtemp(folder));
    snprintf(path, sizeof path, "%s/socket", folder);
}

static void teardown(void)
{
    unlink(path);
    ck_assert_int_eq(rmdir(folder), 0);
}

static bool can_connect(const struct net_address *address)
{
    int fd = socket(address->storage.ss_family, SOCK_STREAM, 0);
    ck_assert_int_ge(fd, 0);
    int failed = connect(fd, (const struct sockaddr *)&address->storage, address->size);
    close(fd);
    return !failed;
}

START_TEST(port_zero_picks_a_free_one)
{
    struct net_listener a, b;
    struct net_address any;
    char text[NET_ADDRESS_TEXT_BYTES];
    ck_assert(net_address_parse("127.0.0.1:0", &any));
    ck_assert(net_listener_open(&a, &any));
    ck_assert(net_listener_open(&b, &any));
    ck_assert_str_ne(net_address_format(&a.address, text), "127.0.0.1:0");
    ck_assert_int_ne(memcmp(&a.address.storage, &b.address.storage, a.address.size), 0);
    ck_assert(can_connect(&a.address));
    ck_assert_int_ne(fcntl(a.fd, F_GETFL) & O_NONBLOCK, 0);
    ck_assert_int_ne(fcntl(a.fd, F_GETFD) & FD_CLOEXEC, 0);
    net_listener_close(&b);
    ck_assert(!can_connect(&b.address));
    struct net_listener again;
    ck_assert(!net_listener_open(&again, &a.address)); /* in use */
    ck_assert_int_eq(again.fd, -1);
    net_listener_close(&a);
    net_listener_close(&a);
    ck_assert(net_listener_open(&again, &a.address));
    net_listener_close(&again);
}
END_TEST

START_TEST(a_unix_socket_is_the_owners_and_goes)
{
    struct net_listener listener;
    struct stat file;
    ck_assert(net_listener_open_unix(&listener, path));
    ck_assert(can_connect(&listener.address));
    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert(S_ISSOCK(file.st_mode));
    ck_assert_uint_eq(file.st_mode & 0777, 0600);
    /* Somebody listens: it is not taken away. */
    struct net_listener second;
    ck_assert(!net_listener_open_unix(&second, path));
    ck_assert(can_connect(&listener.address));
    net_listener_close(&listener);
    ck_assert_int_eq(stat(path, &file), -1);
}
END_TEST

START_TEST(a_stale_socket_is_replaced)
{
    struct net_listener listener;
    ck_assert(net_listener_open_unix(&listener, path));
    close(listener.fd); /* as a killed server leaves it */
    ck_assert(!can_connect(&listener.address));
    struct net_listener next;
    ck_assert(net_listener_open_unix(&next, path));
    ck_assert(can_connect(&next.address));
    net_listener_close(&next);
}
END_TEST

START_TEST(what_is_no_socket_is_left_alone)
{
    struct net_listener listener;
    struct stat file;
    int fd = open(path, O_CREAT | O_WRONLY, 0644);
    ck_assert_int_eq((int)write(fd, "precious", 8), 8);
    close(fd);
    ck_assert(!net_listener_open_unix(&listener, path));
    ck_assert_int_eq(stat(path, &file), 0);
    ck_assert_int_eq((int)file.st_size, 8);
}
END_TEST

START_TEST(a_successors_socket_is_not_removed)
{
    struct net_listener first, second;
    struct stat file;
    char other[80];
    ck_assert(net_listener_open_unix(&first, path));
    /* The first one's file stays somewhere, so that its inode is not used again. */
    snprintf(other, sizeof other, "%s.old", path);
    ck_assert_int_eq(rename(path, other), 0);
    ck_assert(net_listener_open_unix(&second, path));
    net_listener_close(&first);
    ck_assert_int_eq(stat(path, &file), 0);
    net_listener_close(&second);
    ck_assert_int_eq(unlink(other), 0);
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("listener");
    TCase *c = tcase_create("listener");
    tcase_add_checked_fixture(c, setup, teardown);
    tcase_add_test(c, port_zero_picks_a_free_one);
    tcase_add_test(c, a_unix_socket_is_the_owners_and_goes);
    tcase_add_test(c, a_stale_socket_is_replaced);
    tcase_add_test(c, what_is_no_socket_is_left_alone);
    tcase_add_test(c, a_successors_socket_is_not_removed);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
