/*
 * A day of 5-minute-TTL conversations with a retention of an hour, compressed in time, through the
 * server's own threads and store: what a minute's batch costs to bring to the disk, and what the
 * files come to beside what lives in them.
 */
#include "bench/folder.h"
#include "bench/progress.h"
#include "bench/traffic.h"
#include "bench/workload.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    MINUTE_MS = 60 * 1000,
    STOPS = 24 * 60,
    STOPS_QUICK = 8 * 60,
    WARM_STOPS = 90, /* until as much is erased as is put in; its batches do not count */
    AT_ONCE = 1024,
    AT_ONCE_QUICK = 128,
    AT_ONCE_MAX = 65536,
};

struct batches {
    unsigned count;
    uint64_t us[STOPS];
    uint64_t cpu_us[STOPS];
};

struct churn {
    struct batches batches;
    uint64_t live_peak;
    uint64_t files_peak;
    uint64_t tree_peak;
    struct traffic_counts counts;
};

static uint64_t most(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

/* A stop is a minute. */
static void add_points(struct report *report, double minute, const struct traffic_look *look)
{
    const double mib = 1 << 20;
    report_point(report, "churn", "memory", "used", minute, (double)look->memory_bytes / mib);
    report_point(report, "churn", "disk", "live", minute, (double)look->live_bytes / mib);
    report_point(report, "churn", "disk", "tree's file", minute, (double)look->tree_bytes / mib);
    report_point(report, "churn", "disk", "log's files", minute, (double)look->log_bytes / mib);
}

static bool play(struct churn *churn, struct traffic *traffic, unsigned stops,
                 struct report *report)
{
    for (unsigned stop = 0; stop < stops; stop++) {
        struct traffic_look look;
        progress_show("churn: %02u:%02u", stop / 60, stop % 60);
        if (!traffic_play(traffic, &look)) {
            return false;
        }
        if (look.disk_threads < look.threads_least || look.disk_threads > look.threads_most) {
            fprintf(stderr,
                    "rethread-bench: churn: minute %u: %" PRIu64 " threads on disk, not %" PRIu64
                    " to %" PRIu64 "\n",
                    stop, look.disk_threads, look.threads_least, look.threads_most);
            return false;
        }
        add_points(report, stop, &look);
        churn->live_peak = most(churn->live_peak, look.live_bytes);
        churn->tree_peak = most(churn->tree_peak, look.tree_bytes);
        churn->files_peak = most(churn->files_peak, look.tree_bytes + look.log_bytes);
        if (stop >= WARM_STOPS) {
            churn->batches.us[churn->batches.count] = look.batch_us;
            churn->batches.cpu_us[churn->batches.count++] = look.batch_cpu_us;
        }
    }
    traffic_count(traffic, &churn->counts);
    return true;
}

static int by_value(const void *a, const void *b)
{
    uint64_t left = *(const uint64_t *)a;
    uint64_t right = *(const uint64_t *)b;
    return (left > right) - (left < right);
}

static struct summary one(double value)
{
    struct samples samples = {0};
    samples_add(&samples, value);
    return summary_of(&samples);
}

static void report_one(struct report *report, struct report_row *row, const char *metric,
                       const char *unit, double value)
{
    row->metric = metric;
    row->unit = unit;
    row->ours = one(value);
    report_add(report, row);
}

static void report_all(struct churn *churn, unsigned stops, uint64_t at_once, struct report *report)
{
    struct batches *batches = &churn->batches;
    unsigned middle = batches->count / 2;
    unsigned last = batches->count - 1;
    qsort(batches->us, batches->count, sizeof *batches->us, by_value);
    qsort(batches->cpu_us, batches->count, sizeof *batches->cpu_us, by_value);
    struct report_row row = {
        .bench = "churn",
        .params = {{.name = "at_once", .number = at_once},
                   {.name = "appends", .number = churn->counts.appends},
                   {.name = "append_bytes", .number = churn->counts.append_bytes},
                   {.name = "live_peak_bytes", .number = churn->live_peak}},
    };
    snprintf(row.what, sizeof row.what,
             "%u hours, %" PRIu64 " appends, %" PRIu64 " MiB live at most", stops / 60,
             churn->counts.appends, churn->live_peak >> 20);
    double median_us = (double)batches->us[middle];
    double median_cpu_us = (double)most(batches->cpu_us[middle], 1);
    report_one(report, &row, "batch_median", "ms", median_us / 1000);
    report_one(report, &row, "batch_max", "ms", (double)batches->us[last] / 1000);
    report_one(report, &row, "batch_max_over_median", "times",
               (double)batches->us[last] / median_us);
    report_one(report, &row, "batch_cpu_max_over_median", "times",
               (double)batches->cpu_us[last] / median_cpu_us);
    report_one(report, &row, "tree_over_live_peak", "times",
               (double)churn->tree_peak / (double)churn->live_peak);
    report_one(report, &row, "file_over_live_peak", "times",
               (double)churn->files_peak / (double)churn->live_peak);
}

static bool run(const struct options *options, struct report *report)
{
    struct folder folder;
    if (!folder_make(&folder, options->data)) {
        return false;
    }
    unsigned stops = options->quick ? STOPS_QUICK : STOPS;
    uint64_t at_once = options->quick ? AT_ONCE_QUICK : AT_ONCE;
    if (options->count != 0) {
        at_once = options->count < AT_ONCE_MAX ? options->count : AT_ONCE_MAX;
    }
    struct traffic_settings settings = {
        .directory = folder.name,
        .seed = 1,
        .memory_bytes = options->memory_bytes != 0 ? options->memory_bytes : UINT64_C(1) << 30,
        .ttl_ms = 5 * MINUTE_MS,
        .retention_ms = 60 * MINUTE_MS,
        .stop_ms = MINUTE_MS,
        .at_once = (uint32_t)at_once,
        .start_of_day_ms = UINT64_C(10) * 60 * MINUTE_MS,
    };
    struct churn *churn = calloc(1, sizeof *churn);
    struct traffic *traffic = churn != NULL ? traffic_start(&settings) : NULL;
    bool good = traffic != NULL && play(churn, traffic, stops, report);
    if (traffic != NULL) {
        traffic_end(traffic);
    }
    progress_clear();
    if (good) {
        report_all(churn, stops, at_once, report);
    }
    free(churn);
    folder_end(&folder);
    return good;
}

const struct workload workload_churn = {
    .name = "churn",
    .help = "a day of conversations, compressed: cost of a batch, size of the files",
    .run = run,
};
