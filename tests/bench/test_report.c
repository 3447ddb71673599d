/* Rows, notes and curves as the report writes them. */
#include "bench/report.h"

#include "tests/lib/suite.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static struct report report;

static struct summary of(double a, double b, double c)
{
    struct samples samples = {.count = 3, .value = {a, b, c}};
    return summary_of(&samples);
}

static struct report_row row_of(const char *bench, bool more_is_better)
{
    return (struct report_row){
        .bench = bench,
        .peer = "redis",
        .what = "append \"1\" KiB",
        .params = {{.name = "op", .text = "append"}, {.name = "size_bytes", .number = 1024}},
        .metric = "throughput",
        .unit = "thousand/s",
        .more_is_better = more_is_better,
        .ours = of(300, 200, 250),
        .theirs = of(100, 90, 125),
    };
}

static void setup(void)
{
    ck_assert(report_create(&report));
}

static void teardown(void)
{
    report_destroy(&report);
}

enum form { TABLE, JSON, PAGE };

static char *text_of(enum form form)
{
    static char *const command[] = {"rethread-bench", "kv", NULL};
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    switch (form) {
    case TABLE:
        report_write_table(&report, out);
        break;
    case JSON:
        report_write_json(&report, out);
        break;
    case PAGE:
        report_write_page(&report, out, "out/page.md", command);
        break;
    }
    fclose(out);
    return text;
}

START_TEST(test_ratio)
{
    struct report_row row = row_of("kv", true);
    ck_assert_double_eq_tol(report_ratio(&row), 2.5, 1e-9);
    row.more_is_better = false;
    ck_assert_double_eq_tol(report_ratio(&row), 0.4, 1e-9);
    row.theirs = (struct summary){.count = 0};
    ck_assert(isnan(report_ratio(&row)));
}
END_TEST

START_TEST(test_json)
{
    struct report_row row = row_of("kv", true);
    report_add(&report, &row);
    row.peer = NULL;
    row.theirs = (struct summary){.count = 0};
    report_add(&report, &row);
    char *text = text_of(JSON);
    char *second = strchr(text, '\n');
    ck_assert_ptr_nonnull(second);
    *second++ = '\0';
    json_t *first = json_loads(text, 0, NULL);
    ck_assert_ptr_nonnull(first);
    ck_assert_str_eq(json_string_value(json_object_get(first, "bench")), "kv");
    ck_assert_str_eq(json_string_value(json_object_get(first, "peer")), "redis");
    json_t *params = json_object_get(first, "params");
    ck_assert_str_eq(json_string_value(json_object_get(params, "op")), "append");
    ck_assert_int_eq(json_integer_value(json_object_get(params, "size_bytes")), 1024);
    ck_assert_str_eq(json_string_value(json_object_get(first, "metric")), "throughput");
    ck_assert_str_eq(json_string_value(json_object_get(first, "unit")), "thousand/s");
    ck_assert_double_eq_tol(json_number_value(json_object_get(first, "ours")), 250, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(first, "ours_max")), 300, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(first, "theirs")), 100, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(first, "theirs_min")), 90, 1e-9);
    ck_assert_double_eq_tol(json_number_value(json_object_get(first, "ratio")), 2.5, 1e-9);
    ck_assert_int_eq(json_integer_value(json_object_get(first, "rounds")), 3);
    json_decref(first);
    json_t *alone = json_loads(second, 0, NULL);
    ck_assert_ptr_nonnull(alone);
    ck_assert(json_is_null(json_object_get(alone, "peer")));
    ck_assert(json_is_null(json_object_get(alone, "theirs")));
    ck_assert(json_is_null(json_object_get(alone, "ratio")));
    json_decref(alone);
    free(text);
}
END_TEST

START_TEST(test_table)
{
    struct report_row row = row_of("kv", true);
    report_add(&report, &row);
    row = row_of("agent", false);
    row.theirs = (struct summary){.count = 0};
    report_add(&report, &row);
    row = row_of("kv", false);
    report_add(&report, &row);
    report_note(&report, "nothing was left out");
    report_note(&report, "nothing was left out");
    char *text = text_of(TABLE);
    const char *kv = strstr(text, "### kv\n");
    ck_assert_ptr_nonnull(kv);
    ck_assert_ptr_null(strstr(kv + 1, "### kv\n"));
    ck_assert_ptr_nonnull(strstr(text, "### agent\n"));
    ck_assert_ptr_nonnull(strstr(text, "250 (200 to 300)"));
    ck_assert_ptr_nonnull(strstr(text, "redis 100 (90 to 125)"));
    ck_assert_ptr_nonnull(strstr(text, "| 2.50"));
    ck_assert_ptr_nonnull(strstr(text, "| 0.40"));
    const char *note = strstr(text, "Note: nothing was left out");
    ck_assert_ptr_nonnull(note);
    ck_assert_ptr_null(strstr(note + 1, "Note: "));
    free(text);
}
END_TEST

START_TEST(test_page)
{
    struct report_row row = row_of("kv", true);
    report_add(&report, &row);
    report_plot(&report, "out/kv.svg", "kv beside redis");
    report_plot(&report, "elsewhere/kv.svg", "other");
    char *text = text_of(PAGE);
    ck_assert_ptr_nonnull(strstr(text, "    rethread-bench kv\n"));
    ck_assert_ptr_nonnull(strstr(text, "Machine: "));
    const char *targets = strstr(text, "### Targets");
    ck_assert_ptr_nonnull(targets);
    ck_assert_ptr_nonnull(strstr(targets, "### kv"));
    ck_assert_ptr_nonnull(strstr(text, "![kv beside redis](kv.svg)"));
    ck_assert_ptr_nonnull(strstr(text, "![other](elsewhere/kv.svg)"));
    free(text);
}
END_TEST

START_TEST(test_curves)
{
    for (unsigned i = 0; i < 1000; i++) {
        report_point(&report, "churn", "memory", i % 2 == 0 ? "used" : "live", i, i * 2.0);
    }
    ck_assert_uint_eq(report.curve_count, 2);
    ck_assert_uint_eq(report.curves[0].count, 500);
    ck_assert_str_eq(report.curves[1].name, "live");
    ck_assert_double_eq_tol(report.curves[1].points[499].y, 1998, 1e-9);
    static struct hist hist;
    hist_clear(&hist);
    for (uint64_t i = 1; i <= 1000; i++) {
        hist_record(&hist, i * 1000);
    }
    report_latency(&report, "kv", "latency", "rethread", &hist);
    const struct report_curve *curve = &report.curves[2];
    ck_assert_uint_eq(curve->count, 31);
    ck_assert_double_eq_tol(curve->points[10].x, 10, 1e-6);
    ck_assert_double_eq_tol(curve->points[10].y, 900, 900.0 / 32);
    ck_assert_double_eq_tol(curve->points[30].y, 1000, 1000.0 / 32);
}
END_TEST

int main(void)
{
    return SUITE_RUN("report", setup, teardown, 0, test_ratio, test_json, test_table, test_page,
                     test_curves);
}
