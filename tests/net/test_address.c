/* Addresses: what is read, what is refused, and that both directions agree. */
#include "net/address.h"

#include "tests/lib/suite.h"

#include <check.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

START_TEST(reads_back_what_it_writes)
{
    static const char *const texts[] = {"127.0.0.1:7411", "0.0.0.0:0",  "255.255.255.255:65535",
                                        "[::1]:7411",     "[::]:65535", "[2001:db8::8:800]:1"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct net_address address;
        char text[NET_ADDRESS_TEXT_BYTES];
        ck_assert_msg(net_address_parse(texts[i], &address), "%s", texts[i]);
        ck_assert_str_eq(net_address_format(&address, text), texts[i]);
    }
}
END_TEST

START_TEST(refuses_all_else)
{
    static const char *const texts[] = {
        "",
        ":",
        "127.0.0.1",
        "127.0.0.1:",
        ":7411",
        "[]:1",
        "[::1]",
        "[::1]:",
        "::1:7411",
        "[::1:7411",
        "::1]:7411",
        "127.0.0.1:x",
        "127.0.0.1:65536",
        "127.0.0.1:-1",
        "127.0.0.1:1 ",
        " 127.0.0.1:1",
        "localhost:1",
        "127.0.0.256:1",
        "[127.0.0.1]:1",
        "[fe80::1%lo]:1",
        "127.0.0.1:7411:1",
        "[::1]x:1",
        "[x]:1",
        "127.0.0.1:99999999999999999999",
        "[0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]:1"};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct net_address address;
        ck_assert_msg(!net_address_parse(texts[i], &address), "\"%s\"", texts[i]);
    }
}
END_TEST

START_TEST(knows_what_only_this_machine_reaches)
{
    static const struct {
        const char *text;
        bool local;
    } cases[] = {{"127.0.0.1:1", true},      {"127.9.9.9:1", true},        {"[::1]:1", true},
                 {"0.0.0.0:1", false},       {"10.0.0.1:1", false},        {"[::]:1", false},
                 {"[2001:db8::1]:1", false}, {"126.255.255.255:1", false}, {"128.0.0.1:1", false}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct net_address address;
        ck_assert(net_address_parse(cases[i].text, &address));
        ck_assert_msg(net_address_is_local(&address) == cases[i].local, "%s", cases[i].text);
    }
}
END_TEST

START_TEST(unix_sockets_have_a_text)
{
    struct net_address address = {.size = sizeof(sa_family_t)};
    struct sockaddr_un *un = (struct sockaddr_un *)&address.storage;
    char text[NET_ADDRESS_TEXT_BYTES];
    un->sun_family = AF_UNIX;
    ck_assert_str_eq(net_address_format(&address, text), "unix");
    ck_assert(net_address_is_local(&address));
    /* The longest path has no room for its NUL. */
    memset(un->sun_path, 'p', sizeof un->sun_path);
    address.size = sizeof *un;
    net_address_format(&address, text);
    ck_assert_uint_eq(strlen(text), strlen("unix:") + sizeof un->sun_path);
    memcpy(un->sun_path, "/run/s", 7);
    address.size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 7);
    ck_assert_str_eq(net_address_format(&address, text), "unix:/run/s");
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("address");
    TCase *c = tcase_create("text");
    tcase_add_test(c, reads_back_what_it_writes);
    tcase_add_test(c, refuses_all_else);
    tcase_add_test(c, knows_what_only_this_machine_reaches);
    tcase_add_test(c, unix_sockets_have_a_text);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    return suite_main(suite());
}
