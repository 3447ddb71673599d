/* Turns by thread, each thread's in the order of the file; what is not a workload is refused. */
#include "bench/trace.h"

#include "tests/lib/suite.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static char name[] = "/tmp/rethread-trace-XXXXXX";
static struct trace trace;

static void setup(void)
{
    int fd = mkstemp(name);
    ck_assert_int_ge(fd, 0);
    close(fd);
    int null = open("/dev/null", O_WRONLY); /* messages for the operator */
    dup2(null, STDERR_FILENO);
    close(null);
}

static void teardown(void)
{
    unlink(name);
}

static void write_rows(const char *text)
{
    FILE *out = fopen(name, "w");
    ck_assert_ptr_nonnull(out);
    fputs(text, out);
    ck_assert_int_eq(fclose(out), 0);
}

#define ROW(thread, tokens, thinking, idle)                                                        \
    "{\"thread\": \"" thread "\", \"turn\": 0, \"out_tokens\": " tokens                            \
    ", \"thinking\": " thinking ", \"idle_before\": " idle "}\n"

START_TEST(test_rows_are_sorted_by_thread)
{
    write_rows(ROW("b", "10", "true", "null") ROW("a", "3", "false", "null") ROW(
        "b", "0", "true", "1.5") ROW("a", "20", "true", "300.0004") ROW("b", "7", "true", "0"));
    ck_assert(trace_read(&trace, name));
    ck_assert_uint_eq(trace.turn_count, 5);
    ck_assert_uint_eq(trace.thread_count, 2);
    ck_assert_str_eq(trace.ids[0], "b");
    ck_assert_str_eq(trace.ids[1], "a");
    static const struct trace_turn expected[] = {
        {0, 0, 40, 0}, {0, 2, 1, 1500}, {0, 4, 28, 0}, {1, 1, 0, 0}, {1, 3, 80, 300000}};
    for (unsigned i = 0; i < 5; i++) {
        const struct trace_turn *turn = &trace.turns[i];
        ck_assert_uint_eq(turn->thread, expected[i].thread);
        ck_assert_uint_eq(turn->row, expected[i].row);
        ck_assert_uint_eq(turn->thinking_bytes, expected[i].thinking_bytes);
        ck_assert_uint_eq(turn->idle_before_ms, expected[i].idle_before_ms);
    }
    trace_free(&trace);
    ck_assert_ptr_null(trace.turns);
}
END_TEST

START_TEST(test_a_turn_has_its_limit)
{
    write_rows(ROW("a", "99999999", "true", "null"));
    ck_assert(trace_read(&trace, name));
    ck_assert_uint_eq(trace.turns[0].thinking_bytes, 1 << 20);
    trace_free(&trace);
}
END_TEST

static const char *const wrong[] = {
    "",
    "not JSON\n",
    "{\"thread\": 1, \"out_tokens\": 1, \"thinking\": true, \"idle_before\": null}\n",
    "{\"thread\": \"a\", \"thinking\": true, \"idle_before\": null}\n",
    "{\"thread\": \"a\", \"out_tokens\": 1, \"idle_before\": null}\n",
    ROW("a", "1", "true", "-1"),
    ROW("a", "1", "true", "0") "[]\n",
    ROW("0123456789012345678901234567890123456789012345678901234567890123", "1", "true", "0"),
};

START_TEST(test_wrong_files)
{
    write_rows(wrong[_i]);
    ck_assert(!trace_read(&trace, name));
    ck_assert_ptr_null(trace.turns);
}
END_TEST

START_TEST(test_no_file)
{
    ck_assert(!trace_read(&trace, "/tmp/rethread-trace-that-is-not-there"));
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("trace");
    TCase *all = tcase_create("trace");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_test(all, test_rows_are_sorted_by_thread);
    tcase_add_test(all, test_a_turn_has_its_limit);
    tcase_add_loop_test(all, test_wrong_files, 0, sizeof wrong / sizeof *wrong);
    tcase_add_test(all, test_no_file);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
