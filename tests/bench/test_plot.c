/* A report with something for every picture, drawn by gnuplot where it is installed. */
#include "bench/plot.h"

#include "bench/folder.h"
#include "bench/plot_rows.h"
#include "bench/targets.h"

#include "tests/lib/suite.h"

#include <math.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static struct report report;
static char directory[] = "/tmp/rethread-plot-XXXXXX";

static struct summary around(double value)
{
    struct samples samples = {.count = 3, .value = {value * 0.9, value, value * 1.15}};
    return summary_of(&samples);
}

static void add_kv(const char *op, uint64_t size, uint64_t in_flight, const char *peer, double ours,
                   double theirs)
{
    struct report_row row = {
        .bench = "kv",
        .peer = peer,
        .params = {{.name = "op", .text = op},
                   {.name = "size_bytes", .number = size},
                   {.name = "in_flight", .number = in_flight},
                   {.name = "data", .text = "none"},
                   {.name = "loops", .number = 1}},
        .metric = "server_cpu_per_op",
        .unit = "ns",
        .ours = around(ours),
        .theirs = around(theirs),
    };
    report_add(&report, &row);
    row.metric = "throughput";
    row.more_is_better = true;
    row.ours = around(1e6 / ours);
    row.theirs = around(1e6 / theirs);
    report_add(&report, &row);
}

static void fill_kv(void)
{
    static const uint64_t sizes[] = {64, 1024, 4096, 16384, 65536};
    static const uint64_t depths[] = {1, 16, 64};
    static const char *const ops[] = {"append", "replay"};
    for (unsigned o = 0; o < 2; o++) {
        for (unsigned s = 0; s < 5; s++) {
            for (unsigned d = 0; d < 3; d++) {
                double ours = 1000 + (double)sizes[s] / 4 + 7000 / (double)depths[d];
                add_kv(ops[o], sizes[s], depths[d], "redis", ours, ours * 1.2 + 900);
                add_kv(ops[o], sizes[s], depths[d], "memcached", ours, ours * 1.1 + 1800);
            }
        }
    }
}

static void add_one(const char *bench, const char *metric, const char *peer, const char *word,
                    const char *word_value, const char *x, uint64_t x_value, double ours,
                    double theirs)
{
    struct report_row row = {.bench = bench,
                             .peer = peer,
                             .params = {{.name = x, .number = x_value},
                                        {.name = word, .text = word_value},
                                        {.name = "loops", .number = 1}},
                             .metric = metric,
                             .unit = "u",
                             .ours = around(ours),
                             .theirs = around(theirs)};
    report_add(&report, &row);
}

static void fill_others(void)
{
    static const uint64_t ttls[] = {60, 300, 900, 3600, 86400};
    for (unsigned i = 0; i < 5; i++) {
        add_one("continuity", "complete", "memory-only", "by", "ttl", "ttl_s", ttls[i], 0.87,
                0.1 + 0.2 * i);
        add_one("continuity", "complete", "redis", "by", "memory", "memory_bytes",
                (uint64_t)16 << (20 + i), 0.9, 0.3 + 0.12 * i);
        add_one("scale", "server_cpu_per_op", "redis", "op", i % 2 == 0 ? "append" : "replay",
                "threads", (uint64_t)pow(10, 4 + i / 2.0), 2000 + 100.0 * i, 4000 + 300.0 * i);
        add_one("index", "find_batched", i % 2 == 0 ? "cds_lfht" : "ck_ht", "kind", "any", "keys",
                (uint64_t)pow(10, 5 + i / 2), 100.0 + 30 * i, 300.0 + 50 * i);
    }
    static struct hist hist[2];
    for (uint64_t i = 1; i < 100000; i++) {
        for (unsigned k = 0; k < 2; k++) {
            uint64_t ns = 100000 + i * (k + 1) + (i % 1000 == 0 ? i * 20 * (k + 1) : 0);
            hist_record(&hist[k], ns);
        }
    }
    report_latency(&report, "kv", "latency at 50%", "rethread", &hist[0]);
    report_latency(&report, "kv", "latency at 50%", "redis", &hist[1]);
    report_latency(&report, "noise", "latency", "rethread", &hist[0]);
    for (unsigned i = 0; i < 1440; i++) {
        report_point(&report, "churn", "disk", "live", i, 100 + 30 * sin(i / 200.0));
        report_point(&report, "churn", "disk", "tree's file", i, 140);
        report_point(&report, "churn", "memory", "used", i, 40 + 20 * sin(i / 100.0));
    }
}

static void setup(void)
{
    (void)signal(SIGPIPE, SIG_IGN); /* as main does */
    ck_assert(report_create(&report));
    ck_assert_ptr_nonnull(mkdtemp(directory));
}

static void teardown(void)
{
    if (getenv("RETHREAD_KEEP") == NULL) {
        folder_remove(directory);
    }
    report_destroy(&report);
}

static bool has_gnuplot(void)
{
    return access("/usr/bin/gnuplot", X_OK) == 0;
}

/* The whole file, to be freed; NULL: there is none. */
static char *read_file(const char *name)
{
    FILE *in = fopen(name, "r");
    char *text = calloc(1, 1 << 22);
    ck_assert_ptr_nonnull(text);
    if (in == NULL) {
        free(text);
        return NULL;
    }
    size_t size = fread(text, 1, (1 << 22) - 1, in);
    text[size] = '\0';
    fclose(in);
    return text;
}

START_TEST(test_every_picture)
{
    fill_kv();
    fill_others();
    ck_assert(plot_write(&report, directory));
    if (!has_gnuplot()) {
        ck_assert_uint_eq(report.plot_count, 0);
        ck_assert_ptr_nonnull(strstr(report.notes[0], "gnuplot"));
        return;
    }
    ck_assert_uint_eq(report.plot_count, plot_picture_count + 3);
    for (unsigned i = 0; i < report.plot_count; i++) {
        char *text = read_file(report.plots[i].file);
        ck_assert_ptr_nonnull(text);
        ck_assert_ptr_nonnull(strstr(text, "</svg>"));
        ck_assert(strstr(report.plots[i].file, "ratios") != NULL || strstr(text, "rethread") ||
                  strstr(text, "live"));
        free(text);
    }
}
END_TEST

START_TEST(test_only_what_was_measured)
{
    add_kv("append", 1024, 16, "redis", 1000, 2000);
    ck_assert(plot_write(&report, directory));
    ck_assert_uint_eq(report.plot_count, has_gnuplot() ? 3 : 0); /* ratios, cpu, throughput */
}
END_TEST

START_TEST(test_nothing)
{
    ck_assert(plot_write(&report, directory));
    ck_assert_uint_eq(report.plot_count, 0);
}
END_TEST

START_TEST(test_no_room)
{
    ck_assert(!plot_write(&report, "/proc/nowhere/plots"));
}
END_TEST

START_TEST(test_panels)
{
    fill_kv();
    for (unsigned i = 0; i < plot_picture_count; i++) {
        bool is_kv = strncmp(plot_pictures[i].name, "kv", 2) == 0;
        ck_assert_uint_eq(plot_count_panels(&plot_pictures[i], &report), is_kv ? 4 : 0);
    }
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    ck_assert_ptr_nonnull(out);
    plot_write_panels(&plot_pictures[0], &report, out);
    fclose(out);
    /* By size and 16 in flight: five places, in order, ours and both peers. */
    const char *at = strstr(text, "$panel3 << EOD\n\"64 B\"");
    ck_assert_ptr_nonnull(at);
    at = strstr(at, "\n\"1 KiB\" ");
    ck_assert_ptr_nonnull(at);
    at = strstr(at, "\n\"64 KiB\" ");
    ck_assert_ptr_nonnull(at);
    ck_assert_ptr_nonnull(strstr(at, "title \"memcached\""));
    free(text);
}
END_TEST

int main(void)
{
    return SUITE_RUN("plot", setup, teardown, 60, test_every_picture, test_only_what_was_measured,
                     test_nothing, test_no_room, test_panels);
}
