/* rethread-bench: measures rethread beside what would be picked instead. Table of workloads. */
#include "bench/options.h"
#include "bench/plot.h"
#include "bench/progress.h"
#include "bench/report.h"
#include "bench/workload.h"

#include "base/log.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const struct workload *const workloads[] = {
    &workload_kv,         &workload_agent,  &workload_noise,   &workload_index,
    &workload_expiry,     &workload_memory, &workload_durable, &workload_scale,
    &workload_continuity, &workload_churn,  &workload_restart};

enum { WORKLOADS = sizeof workloads / sizeof *workloads, EXIT_WRONG = 1, EXIT_USAGE = 2 };

static void explain(FILE *out)
{
    fputs("Usage: rethread-bench WORKLOAD [OPTION]...\n\nWorkloads:\n", out);
    for (unsigned i = 0; i < WORKLOADS; i++) {
        fprintf(out, "  %-22s %s\n", workloads[i]->name, workloads[i]->help);
    }
    fprintf(out, "  %-22s %s\n\nOptions:\n", "all", "each of them");
    options_explain(out);
}

static bool write_file(const struct report *report, const char *name, char **command)
{
    FILE *out = fopen(name, "w");
    if (out == NULL) {
        fprintf(stderr, "rethread-bench: %s: %s\n", name, strerror(errno));
        return false;
    }
    if (command != NULL) {
        report_write_page(report, out, name, command);
    } else {
        report_write_json(report, out);
    }
    bool failed = ferror(out) != 0;
    if (fclose(out) != 0 || failed) {
        fprintf(stderr, "rethread-bench: cannot write %s\n", name);
        return false;
    }
    return true;
}

static bool run_one(const struct workload *workload, const struct options *options,
                    struct report *report)
{
    struct timespec begin;
    struct timespec end;
    clock_gettime(CLOCK_MONOTONIC, &begin);
    bool good = workload->run(options, report);
    clock_gettime(CLOCK_MONOTONIC, &end);
    progress_clear();
    if (isatty(STDERR_FILENO) != 0) {
        fprintf(stderr, "%s: %s in %ld s\n", workload->name, good ? "measured" : "FAILED",
                (long)(end.tv_sec - begin.tv_sec));
    }
    return good;
}

/* One that fails does not keep the others from being measured. */
static bool run_all(const struct options *options, struct report *report)
{
    bool good = true;
    for (unsigned i = 0; i < WORKLOADS; i++) {
        if (!run_one(workloads[i], options, report)) {
            char note[128];
            snprintf(note, sizeof note, "%s failed: its rows are missing.", workloads[i]->name);
            report_note(report, note);
            good = false;
        }
    }
    return good;
}

static bool run(const struct options *options, struct report *report)
{
    if (options_is_all(options)) {
        return run_all(options, report);
    }
    for (unsigned i = 0; i < WORKLOADS; i++) {
        if (strcmp(options->workload, workloads[i]->name) == 0) {
            return run_one(workloads[i], options, report);
        }
    }
    fprintf(stderr, "rethread-bench: no workload %s; see --help\n", options->workload);
    return false;
}

/* What was measured is written even when a part of it failed. */
static bool write_all(const struct options *options, struct report *report, char **command)
{
    bool good = options->plot == NULL || plot_write(report, options->plot);
    report_write_table(report, stdout);
    good = (options->json == NULL || write_file(report, options->json, NULL)) && good;
    return (options->report == NULL || write_file(report, options->report, command)) && good;
}

int main(int argc, char **argv)
{
    struct options options;
    if (!options_parse(&options, argc, argv)) {
        return EXIT_USAGE;
    }
    if (options.help || options.workload == NULL) {
        explain(options.help ? stdout : stderr);
        return options.help ? 0 : EXIT_USAGE;
    }
    struct report report;
    if (!report_create(&report)) {
        fputs("rethread-bench: no memory\n", stderr);
        return EXIT_WRONG;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    log_open(STDERR_FILENO, LOG_ERROR);
    bool good = run(&options, &report);
    if (good || report.row_count != 0) {
        good = write_all(&options, &report, argv) && good;
    }
    report_destroy(&report);
    return good ? 0 : EXIT_WRONG;
}
