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
    ROW("a", "1", "true", "0") "{\"thread\": \"a\", \"out_tokens\": 1, \"t\": 2}\n",
    ROW("0123456789012345678901234567890123456789012345678901234567890123", "1", "true", "0"),
};

START_TEST(test_wrong_files)
{
    write_rows(wrong[_i]);
    ck_assert(!trace_read(&trace, name));
    ck_assert_ptr_null(trace.turns);
}
END_TEST

#define TIMED(thread, output, at)                                                                  \
    "{\"thread\": \"" thread "\", \"turn\": 0, " output ", \"t\": " at "}\n"

/* Rows that say when they came: the first turn keeps that, the others come to pauses. */
START_TEST(test_timed_rows)
{
    write_rows(TIMED("m0", "\"out_tokens\": 5", "1.5") TIMED("m1", "\"out_bytes\": 7", "2")
                   TIMED("m0", "\"out_tokens\": 0", "62"));
    ck_assert(trace_read(&trace, name));
    ck_assert_uint_eq(trace.turns[0].thinking_bytes, 20);
    ck_assert_uint_eq(trace.turns[0].idle_before_ms, 1500);
    ck_assert_uint_eq(trace.turns[1].thinking_bytes, 1);
    ck_assert_uint_eq(trace.turns[1].idle_before_ms, 60500);
    ck_assert_uint_eq(trace.turns[2].thinking_bytes, 7);
    ck_assert_uint_eq(trace.turns[2].idle_before_ms, 2000);
    trace_free(&trace);
}
END_TEST

START_TEST(test_text)
{
    write_rows(ROW("a", "100", "true", "null") ROW("a", "3", "false", "1")
                   ROW("a", "100", "true", "1"));
    ck_assert(trace_read(&trace, name));
    ck_assert(trace_think(&trace));
    ck_assert_uint_eq(trace.text_at[1], 400);
    ck_assert_uint_eq(trace.text_at[2], 400);
    ck_assert_uint_eq(trace.text_at[3], 800);
    ck_assert_int_ne(memcmp(trace.text, trace.text + 400, 400), 0);
    for (unsigned i = 0; i < 800; i++) {
        ck_assert(trace.text[i] >= ' ' && trace.text[i] < 0x7f);
    }
    trace_free(&trace);
}
END_TEST

/* About as the real ones that it follows, and the same twice. */
START_TEST(test_made_up)
{
    struct trace again;
    ck_assert(trace_make(&trace) && trace_make(&again));
    ck_assert_uint_eq(trace.turn_count, again.turn_count);
    ck_assert_uint_gt(trace.turn_count, 5000);
    size_t thinks = 0;
    size_t past_ttl = 0;
    for (size_t i = 0; i < trace.turn_count; i++) {
        ck_assert_uint_eq(trace.turns[i].thinking_bytes, again.turns[i].thinking_bytes);
        ck_assert_uint_eq(trace.turns[i].idle_before_ms, again.turns[i].idle_before_ms);
        ck_assert(i == 0 || trace.turns[i].thread >= trace.turns[i - 1].thread);
        thinks += trace.turns[i].thinking_bytes > 0;
        past_ttl += trace.turns[i].idle_before_ms > 300000;
    }
    ck_assert_uint_gt(thinks * 100, 30 * trace.turn_count);
    ck_assert_uint_lt(thinks * 100, 46 * trace.turn_count);
    ck_assert_uint_gt(past_ttl * 100, 3 * trace.turn_count);
    ck_assert_uint_lt(past_ttl * 100, 7 * trace.turn_count);
    trace_free(&trace);
    trace_free(&again);
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
    tcase_add_test(all, test_timed_rows);
    tcase_add_test(all, test_text);
    tcase_add_test(all, test_made_up);
    tcase_add_test(all, test_no_file);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
