/* Numbers as people write them: the grammar, its edges, and that what is written reads back. */
#include "base/units.h"
#include "tests/lib/trial.h"

#include <check.h>

static void parses(bool (*parse)(const char *, uint64_t *), const char *text, uint64_t expected)
{
    uint64_t value = 42;
    ck_assert_msg(parse(text, &value), "\"%s\"", text);
    ck_assert_msg(value == expected, "\"%s\"", text);
}

static void refuses(bool (*parse)(const char *, uint64_t *), const char *text)
{
    uint64_t value = 42;
    ck_assert_msg(!parse(text, &value), "\"%s\"", text);
    ck_assert_uint_eq(value, 42);
}

START_TEST(counts)
{
    parses(units_parse_count, "0", 0);
    parses(units_parse_count, "007", 7);
    parses(units_parse_count, "18446744073709551615", UINT64_MAX);
    static const char *const bad[] = {"",
                                      "-1",
                                      "+1",
                                      " 1",
                                      "1 ",
                                      "1K",
                                      "1.5",
                                      "0x10",
                                      "1e3",
                                      "x",
                                      "18446744073709551616",
                                      "99999999999999999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refuses(units_parse_count, bad[i]);
    }
}
END_TEST

START_TEST(sizes)
{
    parses(units_parse_size, "0", 0);
    parses(units_parse_size, "123", 123);
    parses(units_parse_size, "1K", 1024);
    parses(units_parse_size, "64M", UINT64_C(67108864));
    parses(units_parse_size, "3g", UINT64_C(3221225472));
    parses(units_parse_size, "17179869183G", UINT64_C(17179869183) << 30);
    static const char *const bad[] = {
        "", "K", "1T", "1KB", "1 K", "1.5G", "-1K", "1KK", "17179869184G", "18446744073709551615K"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refuses(units_parse_size, bad[i]);
    }
}
END_TEST

START_TEST(durations)
{
    parses(units_parse_duration, "0", 0);
    parses(units_parse_duration, "1500", 1500);
    parses(units_parse_duration, "1500ms", 1500);
    parses(units_parse_duration, "90s", 90000);
    parses(units_parse_duration, "5m", 300000);
    parses(units_parse_duration, "24h", 86400000);
    parses(units_parse_duration, "30d", UINT64_C(2592000000));
    parses(units_parse_duration, "213503982334d", UINT64_C(213503982334) * 86400000);
    static const char *const bad[] = {"",   "m",    "5M",  "5S",   "5 m",          "1h30m",
                                      "1w", "1.5h", "-5s", "5msx", "213503982335d"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        refuses(units_parse_duration, bad[i]);
    }
}
END_TEST

START_TEST(written_in_the_largest_exact_unit)
{
    char text[UNITS_TEXT_BYTES];
    ck_assert_str_eq(units_format_size(0, text), "0");
    ck_assert_str_eq(units_format_size(1023, text), "1023");
    ck_assert_str_eq(units_format_size(1024, text), "1K");
    ck_assert_str_eq(units_format_size(1025, text), "1025");
    ck_assert_str_eq(units_format_size(UINT64_C(1) << 30, text), "1G");
    ck_assert_str_eq(units_format_size(UINT64_C(1536) << 20, text), "1536M");
    ck_assert_str_eq(units_format_size(UINT64_MAX, text), "18446744073709551615");
    ck_assert_str_eq(units_format_duration(0, text), "0");
    ck_assert_str_eq(units_format_duration(1, text), "1ms");
    ck_assert_str_eq(units_format_duration(1500, text), "1500ms");
    ck_assert_str_eq(units_format_duration(90000, text), "90s");
    ck_assert_str_eq(units_format_duration(300000, text), "5m");
    ck_assert_str_eq(units_format_duration(86400000, text), "1d");
    ck_assert_str_eq(units_format_duration(UINT64_MAX, text), "18446744073709551615ms");
}
END_TEST

START_TEST(what_is_written_reads_back)
{
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        char text[UNITS_TEXT_BYTES];
        uint64_t value, number = trial_random(&seed) >> trial_below(&seed, 64);
        if (i % 2) {
            number = number >> 40 << trial_below(&seed, 40);
        }
        ck_assert(units_parse_size(units_format_size(number, text), &value) && value == number);
        ck_assert(units_parse_duration(units_format_duration(number, text), &value));
        ck_assert(value == number);
    }
}
END_TEST

static Suite *suite(void)
{
    Suite *s = suite_create("units");
    TCase *c = tcase_create("units");
    tcase_add_test(c, counts);
    tcase_add_test(c, sizes);
    tcase_add_test(c, durations);
    tcase_add_test(c, written_in_the_largest_exact_unit);
    tcase_add_test(c, what_is_written_reads_back);
    suite_add_tcase(s, c);
    return s;
}

int main(void)
{
    SRunner *runner = srunner_create(suite());
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
