/* Which row a target means, and what it says of it. */
#include "bench/targets.h"

#include "tests/lib/suite.h"

#include <stdlib.h>
#include <string.h>

static struct report report;

static struct summary one(double value)
{
    struct samples samples = {.count = 0};
    samples_add(&samples, value);
    return summary_of(&samples);
}

/* A row of bench "b", metric "cost" (less is better), with one or two params. */
static void add(const char *peer, const char *op, uint64_t keys, double ours, double theirs)
{
    struct report_row row = {
        .bench = "b",
        .peer = peer,
        .what = "what",
        .params = {{.name = "op", .text = op}, {.name = "keys", .number = keys}},
        .metric = "cost",
        .unit = "ns",
        .ours = one(ours),
    };
    if (theirs > 0) {
        row.theirs = one(theirs);
    }
    report_add(&report, &row);
}

static struct target target_of(const char *params, enum target_kind kind, double at_least,
                               double aim)
{
    return (struct target){"b", NULL, "cost", params, kind, at_least, aim, "x", "words", "why"};
}

static enum target_verdict verdict(const char *params, enum target_kind kind, double at_least,
                                   double aim)
{
    struct target target = target_of(params, kind, at_least, aim);
    return target_judge(&target, &report).verdict;
}

static void setup(void)
{
    ck_assert(report_create(&report));
}

static void teardown(void)
{
    report_destroy(&report);
}

START_TEST(test_ratio)
{
    add("redis", "get", 10, 100, 200);
    ck_assert_int_eq(verdict("", TARGET_RATIO, 2.1, 3), TARGET_MISSED);
    ck_assert_int_eq(verdict("", TARGET_RATIO, 2, 3), TARGET_MET);
    ck_assert_int_eq(verdict("", TARGET_RATIO, 1.5, 2), TARGET_AIM_MET);
}
END_TEST

START_TEST(test_inverse)
{
    add("redis", "get", 10, 100, 200);
    ck_assert_int_eq(verdict("", TARGET_INVERSE, 0.4, 0.1), TARGET_MISSED);
    ck_assert_int_eq(verdict("", TARGET_INVERSE, 0.5, 0.1), TARGET_MET);
    ck_assert_int_eq(verdict("", TARGET_INVERSE, 0.7, 0.5), TARGET_AIM_MET);
}
END_TEST

START_TEST(test_values)
{
    add(NULL, "get", 10, 100, 0);
    ck_assert_int_eq(verdict("", TARGET_MOST, 99, 50), TARGET_MISSED);
    ck_assert_int_eq(verdict("", TARGET_MOST, 100, 50), TARGET_MET);
    ck_assert_int_eq(verdict("", TARGET_MOST, 200, 100), TARGET_AIM_MET);
    ck_assert_int_eq(verdict("", TARGET_LEAST, 101, 102), TARGET_MISSED);
    ck_assert_int_eq(verdict("", TARGET_LEAST, 100, 101), TARGET_MET);
    ck_assert_int_eq(verdict("", TARGET_RATIO, 0.1, 0.1), TARGET_NOT_MEASURED);
}
END_TEST

START_TEST(test_only_what_is_meant)
{
    add("redis", "get", 10, 100, 200);
    ck_assert_int_eq(verdict("op=get keys=10", TARGET_RATIO, 2, 9), TARGET_MET);
    ck_assert_int_eq(verdict("op=set", TARGET_RATIO, 2, 9), TARGET_NOT_MEASURED);
    ck_assert_int_eq(verdict("keys=100", TARGET_RATIO, 2, 9), TARGET_NOT_MEASURED);
    ck_assert_int_eq(verdict("loops=1", TARGET_RATIO, 2, 9), TARGET_NOT_MEASURED);
    struct target target = target_of("", TARGET_RATIO, 2, 9);
    target.peer = "memcached";
    ck_assert_int_eq(target_judge(&target, &report).verdict, TARGET_NOT_MEASURED);
    target.peer = "redis";
    ck_assert_int_eq(target_judge(&target, &report).verdict, TARGET_MET);
    target.metric = "price";
    ck_assert_int_eq(target_judge(&target, &report).verdict, TARGET_NOT_MEASURED);
    target.metric = "cost";
    target.bench = "c";
    ck_assert_int_eq(target_judge(&target, &report).verdict, TARGET_NOT_MEASURED);
}
END_TEST

START_TEST(test_worst_counts)
{
    add("redis", "get", 10, 100, 200);
    add("redis", "get", 20, 100, 120);
    add("redis", "get", 30, 100, 400);
    struct target target = target_of("op=get", TARGET_RATIO, 1.1, 9);
    struct target_result result = target_judge(&target, &report);
    ck_assert_double_eq_tol(result.measured, 1.2, 1e-9);
    ck_assert_ptr_eq(result.row, &report.rows[1]);
    target.kind = TARGET_MOST;
    add(NULL, "get", 40, 500, 0);
    ck_assert_double_eq_tol(target_judge(&target, &report).measured, 500, 1e-9);
}
END_TEST

START_TEST(test_nearest_size)
{
    add("redis", "get", 1000, 100, 900);
    add("redis", "get", 100000, 100, 300);
    struct target target = target_of("op=get keys~1000000", TARGET_RATIO, 2, 9);
    struct target_result result = target_judge(&target, &report);
    ck_assert_double_eq_tol(result.measured, 3, 1e-9);
    ck_assert(result.is_other_size);
    add("redis", "get", 1000000, 100, 150);
    result = target_judge(&target, &report);
    ck_assert_double_eq_tol(result.measured, 1.5, 1e-9);
    ck_assert(!result.is_other_size && result.verdict == TARGET_MISSED);
}
END_TEST

/* What the table says, as text to be freed. */
static char *table(bool all)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    targets_write(&report, all, out);
    fclose(out);
    return text;
}

static void add_replay(const char *peer, uint64_t in_flight, double ours, double theirs)
{
    report_add(&report, &(struct report_row){
                            .bench = "kv",
                            .peer = peer,
                            .params = {{.name = "op", .text = "replay"},
                                       {.name = "size_bytes", .number = 1024},
                                       {.name = "in_flight", .number = in_flight},
                                       {.name = "data", .text = "none"},
                                       {.name = "loops", .number = 1}},
                            .metric = "server_cpu_per_op",
                            .unit = "ns",
                            .ours = one(ours),
                            .theirs = one(theirs),
                        });
}

START_TEST(test_table)
{
    char *text = table(false);
    ck_assert_str_eq(text, "");
    free(text);
    add_replay("redis", 16, 100, 260);
    text = table(false);
    const char *line = strstr(text, "| replay 1 KiB, 16 in flight, beside Redis ");
    ck_assert_ptr_nonnull(line);
    ck_assert_ptr_nonnull(strstr(line, "| 2.60x "));
    ck_assert_ptr_nonnull(strstr(line, "| aim met "));
    ck_assert_ptr_null(strstr(text, "lfht"));
    free(text);
    text = table(true);
    ck_assert_ptr_nonnull(strstr(text, "lfht"));
    ck_assert_ptr_nonnull(strstr(text, "not measured"));
    free(text);
}
END_TEST

static unsigned count_of(const char *text, const char *needle)
{
    unsigned count = 0;
    for (const char *at = text; (at = strstr(at, needle)) != NULL; at++) {
        count++;
    }
    return count;
}

START_TEST(test_shared_reason_stands_once)
{
    add_replay("redis", 1, 100, 101);
    add_replay("memcached", 1, 100, 200); /* the same reason, but met */
    add_replay("memcached", 16, 100, 101);
    add_replay("memcached", 64, 100, 101);
    char *text = table(false);
    ck_assert_uint_eq(count_of(text, "Missed: "), 2);
    ck_assert_ptr_nonnull(strstr(text, "\nMissed: replay 1 KiB, 1 in flight, beside Redis. "));
    ck_assert_ptr_nonnull(strstr(text, "\nMissed: replay 1 KiB, 16 in flight, beside memcached; "
                                       "replay 1 KiB, 64 in flight, beside memcached. "));
    free(text);
}
END_TEST

START_TEST(test_share_is_not_rounded_up)
{
    struct report_row row = {
        .bench = "continuity",
        .params = {{.name = "ttl_s", .number = 300},
                   {.name = "memory_bytes", .number = UINT64_C(64) << 20}},
        .metric = "complete",
        .unit = "share",
        .more_is_better = true,
        .ours = one(0.99997),
    };
    report_add(&report, &row);
    char *text = table(false);
    ck_assert_ptr_nonnull(strstr(text, "| 99.99% "));
    ck_assert_ptr_nonnull(strstr(text, "MISSED"));
    free(text);
}
END_TEST

/* Each entry of targets.def can be met: params that can be read, an aim not below the least. */
START_TEST(test_entries)
{
    ck_assert_uint_gt(target_count, 20);
    for (unsigned i = 0; i < target_count; i++) {
        const struct target *target = &targets[i];
        bool more = target->kind == TARGET_RATIO || target->kind == TARGET_LEAST;
        ck_assert(more ? target->aim >= target->at_least : target->aim <= target->at_least);
        ck_assert(target->at_least > 0 && target->words[0] != '\0');
        ck_assert_int_eq(target_judge(target, &report).verdict, TARGET_NOT_MEASURED);
    }
}
END_TEST

int main(void)
{
    return SUITE_RUN("targets", setup, teardown, 0, test_ratio, test_inverse, test_values,
                     test_only_what_is_meant, test_worst_counts, test_nearest_size, test_table,
                     test_shared_reason_stands_once, test_share_is_not_rounded_up, test_entries);
}
