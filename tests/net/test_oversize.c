/* Frames within frame_max that no buffer can hold: refused by name, passed over, nothing lost. */
#include "net/connection.h"
#include "tests/lib/echo.h"
#include "tests/lib/suite.h"

#include <check.h>
#include <stdlib.h>
#include <unistd.h>

enum { MIB = 1024 * 1024, HEAD_BYTES = 5 };

static struct echo_server server;

static void start(void)
{
    echo_prepare(&server);
    server.settings.frame_max_bytes = 64 * MIB;
    server.settings.buffers_max_bytes = MIB;
    echo_start(&server);
}

/* A whole frame of `body_bytes` that begins with "Ename", between two small ones. */
static uint8_t *make_input(size_t body_bytes, size_t *size)
{
    uint8_t *input = calloc(1, body_bytes + 64);
    ck_assert_ptr_nonnull(input);
    uint8_t *at = input + echo_put_frame(input, 'E', "before", 6);
    at[0] = 0xce;
    bytes_store_be32(at + 1, (uint32_t)body_bytes);
    memcpy(at + HEAD_BYTES, "Ename..", 7);
    at += HEAD_BYTES + body_bytes;
    at += echo_put_frame(at, 'E', "behind", 6);
    *size = (size_t)(at - input);
    return input;
}

static void expect_passed_over(int fd)
{
    echo_expect(fd, "before", 6);
    size_t size;
    uint8_t *body = echo_receive(fd, &size);
    ck_assert_uint_eq(size, 10);
    ck_assert_uint_eq(body[0], 'X');
    ck_assert_uint_eq(body[1], STATUS_OVER_BUDGET);
    ck_assert_mem_eq(body + 2, "Ename..", 8);
    free(body);
    echo_expect(fd, "behind", 6);
}

START_TEST(the_connection_goes_on_behind_it)
{
    start();
    int fd = echo_connect(&server);
    size_t size;
    uint8_t *input = make_input(8 * MIB, &size);
    for (int i = 0; i < 3; i++) {
        echo_send(fd, input, size);
        expect_passed_over(fd);
    }
    ck_assert_uint_eq(net_connections(server.net), 1);
    ECHO_WAIT(net_buffer_bytes(server.net) == 0);
    free(input);
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(however_it_is_cut)
{
    start();
    size_t size;
    uint8_t *input = make_input(MIB, &size);
    /* Around the first frame's end, the header and the msgid; then in the middle and at the end. */
    uint64_t sent = 0;
    const size_t far[] = {100, 70000, MIB / 2, size - 40, size - 12, size - 11, size - 1};
    for (size_t cut = 1; cut < 48 + sizeof far / sizeof far[0]; cut++) {
        size_t first = cut < 48 ? cut : far[cut - 48];
        int fd = echo_connect(&server);
        echo_send(fd, input, first);
        ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == sent + first);
        echo_send(fd, input + first, size - first);
        sent += size;
        expect_passed_over(fd);
        close(fd);
    }
    free(input);
    echo_stop(&server);
}
END_TEST

START_TEST(the_largest_that_fits_is_served)
{
    start();
    int fd = echo_connect(&server);
    size_t size = MIB - NET_SPARE_BYTES - HEAD_BYTES - 1;
    uint8_t *data = calloc(1, size + 1);
    ck_assert_ptr_nonnull(data);
    echo_send_frame(fd, 'H', data, size);
    echo_expect_hash(fd, data, size);
    echo_send_frame(fd, 'H', data, size + 1);
    echo_expect_refusal(fd, STATUS_OVER_BUDGET);
    free(data);
    close(fd);
    echo_stop(&server);
}
END_TEST

START_TEST(one_that_stops_coming_is_given_up)
{
    start();
    int fd = echo_connect(&server);
    size_t size;
    uint8_t *input = make_input(8 * MIB, &size);
    echo_send(fd, input, 2 * MIB);
    echo_expect(fd, "before", 6);
    echo_expect_refusal(fd, STATUS_OVER_BUDGET);
    ECHO_WAIT(echo_count(&server, METRIC_BYTES_RECEIVED) == 2 * MIB);
    echo_pass(&server, NET_STALL_MS - 2000);
    ck_assert_uint_eq(net_connections(server.net), 1);
    echo_pass(&server, 5000);
    echo_expect_end(fd);
    free(input);
    close(fd);
    echo_stop(&server);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("oversize");
    TCase *cases = tcase_create("oversize");
    tcase_set_timeout(cases, suite_limit(60));
    tcase_add_test(cases, the_connection_goes_on_behind_it);
    tcase_add_test(cases, however_it_is_cut);
    tcase_add_test(cases, the_largest_that_fits_is_served);
    tcase_add_test(cases, one_that_stops_coming_is_given_up);
    suite_add_tcase(suite, cases);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
