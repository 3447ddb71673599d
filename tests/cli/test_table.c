/* Aligned tables, and numbers as people read them. */
#include "cli/table.c"
#include "cli/keep.c"
#include "cli/report.c"

#include <check.h>

START_TEST(sizes)
{
    char text[TABLE_HUMAN_BYTES];
    ck_assert_str_eq(table_size(0, text), "0 B");
    ck_assert_str_eq(table_size(1023, text), "1023 B");
    ck_assert_str_eq(table_size(1024, text), "1.0 KiB");
    ck_assert_str_eq(table_size(1229, text), "1.2 KiB");
    ck_assert_str_eq(table_size(1048575, text), "1.0 MiB");
    ck_assert_str_eq(table_size(UINT64_C(3) << 30, text), "3.0 GiB");
    ck_assert_str_eq(table_size(UINT64_MAX, text), "16.0 EiB");
}
END_TEST

START_TEST(durations)
{
    char text[TABLE_HUMAN_BYTES];
    ck_assert_str_eq(table_duration(0, text), "0 ms");
    ck_assert_str_eq(table_duration(999, text), "999 ms");
    ck_assert_str_eq(table_duration(1500, text), "1.5 s");
    ck_assert_str_eq(table_duration(59999, text), "59.9 s");
    ck_assert_str_eq(table_duration(299000, text), "4m 59s");
    ck_assert_str_eq(table_duration(3600000, text), "1h 00m");
    ck_assert_str_eq(table_duration(UINT64_C(273600000), text), "3d 4h");
}
END_TEST

START_TEST(counts)
{
    char text[TABLE_HUMAN_BYTES];
    ck_assert_str_eq(table_count(0, text), "0");
    ck_assert_str_eq(table_count(999, text), "999");
    ck_assert_str_eq(table_count(1553, text), "1,553");
    ck_assert_str_eq(table_count(UINT64_MAX, text), "18,446,744,073,709,551,615");
}
END_TEST

static char *printed(struct table *table)
{
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    table_print(table, out);
    fclose(out);
    return text;
}

START_TEST(aligns_and_leaves_out_empty_columns)
{
    static const char *const headers[] = {"NAME", "N", "NONE", "NOTE"};
    struct table *table = table_create("lrll", headers);
    const char *const cells[] = {"a", "1", "", "x", "grüße", "1,000", "", ""};
    for (size_t i = 0; i < sizeof cells / sizeof *cells; i++)
        table_add(table, cli_text(cells[i]));
    char *text = printed(table);
    ck_assert_str_eq(text, "NAME       N  NOTE\n"
                           "a          1  x\n"
                           "grüße  1,000\n");
    free(text);
    table_destroy(table);
}
END_TEST

START_TEST(next_page_keeps_widths_and_repeats_no_header)
{
    static const char *const headers[] = {"A", "B"};
    struct table *table = table_create("lr", headers);
    table_add(table, cli_text("long one"));
    table_add(table, cli_text("1"));
    free(printed(table));
    table_add(table, cli_text("x"));
    table_add(table, cli_text("2"));
    char *text = printed(table);
    ck_assert_str_eq(text, "x         2\n");
    free(text);
    table_destroy(table);
}
END_TEST

START_TEST(nothing_prints_nothing)
{
    static const char *const headers[] = {"A"};
    struct table *table = table_create("l", headers);
    char *text = printed(table);
    ck_assert_str_eq(text, "");
    free(text);
    table_destroy(table);
}
END_TEST

int main(void)
{
    Suite *suite = suite_create("cli/table");
    TCase *tests = tcase_create("table");
    tcase_add_test(tests, sizes);
    tcase_add_test(tests, durations);
    tcase_add_test(tests, counts);
    tcase_add_test(tests, aligns_and_leaves_out_empty_columns);
    tcase_add_test(tests, next_page_keeps_widths_and_repeats_no_header);
    tcase_add_test(tests, nothing_prints_nothing);
    suite_add_tcase(suite, tests);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
