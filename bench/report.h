/*
 * Collects what was measured: rows, one for each metric of each case and peer; curves for the
 * plots; notes. Writes them as a table (laid out by hand and Markdown at once), as a page that
 * opens with the targets, and as JSON, one object per row.
 *
 * Strings are borrowed and must outlive the report, but for `what`, notes and what curves are
 * called, which are copied.
 */
#ifndef RETHREAD_BENCH_REPORT_H
#define RETHREAD_BENCH_REPORT_H

#include "bench/hist.h"
#include "bench/summary.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    REPORT_ROWS_MAX = 4096,
    REPORT_PARAMS_MAX = 8,
    REPORT_WHAT_BYTES = 80,
    REPORT_NOTES_MAX = 32,
    REPORT_CURVES_MAX = 256,
    REPORT_CURVE_BYTES = 48,
    REPORT_POINTS_MAX = 16384, /* of one curve */
    REPORT_PLOTS_MAX = 32,
};

struct report_param {
    const char *name; /* NULL ends the list early */
    const char *text; /* NULL: it is the number */
    uint64_t number;
};

struct report_row {
    const char *bench;
    const char *peer; /* NULL: measured alone */
    char what[REPORT_WHAT_BYTES];
    struct report_param params[REPORT_PARAMS_MAX];
    const char *metric;
    const char *unit;
    bool more_is_better;
    struct summary ours;
    struct summary theirs; /* count 0: measured alone */
};

struct report_point {
    double x;
    double y;
};

struct report_curve {
    const char *bench;
    char plot[REPORT_CURVE_BYTES]; /* curves of one bench and plot share a picture */
    char name[REPORT_CURVE_BYTES]; /* in the legend */
    unsigned count;
    struct report_point *points;
};

/* A picture that was made, for the page. */
struct report_plot {
    char *file;
    const char *caption;
};

struct report {
    unsigned row_count;
    unsigned note_count;
    unsigned curve_count;
    unsigned plot_count;
    struct report_row *rows;
    struct report_curve *curves;
    char *notes[REPORT_NOTES_MAX];
    struct report_plot plots[REPORT_PLOTS_MAX];
};

bool report_create(struct report *report); /* false: no memory */
void report_destroy(struct report *report);

void report_add(struct report *report, const struct report_row *row);
/* A line that the reader of the table must know, such as a peer that was left out. */
void report_note(struct report *report, const char *note);

/*
 * The next point of a curve, which the first one begins. Plots that are drawn: "memory" and "disk"
 * (x: minutes, y: MiB).
 */
void report_point(struct report *report, const char *bench, const char *plot, const char *name,
                  double x, double y);
/*
 * A curve of latencies: what share of them is above what. Plots whose names begin with "latency"
 * are drawn so; the rest of the name tells them apart ("latency at 50%").
 */
void report_latency(struct report *report, const char *bench, const char *plot, const char *name,
                    const struct hist *hist_ns);

/* The file is copied. */
void report_plot(struct report *report, const char *file, const char *caption);
void report_forget_plots(struct report *report, unsigned from); /* that one and those after it */

/* The parameter of that name; NULL: it has none. */
const struct report_param *report_param(const struct report_row *row, const char *name);

/*
 * How far the row is from these params, words like "op=append keys~1000": 0 when it has every
 * value, more for another number where it says `~`, infinite when it lacks one or has another.
 */
double report_distance(const struct report_row *row, const char *params);

/* Of the medians; above 1 is better than the peer; not a number when there is nothing to compare.
 */
double report_ratio(const struct report_row *row);

/* Median and, when there was more than one round, least and greatest, with fitting digits. */
void report_put_summary(char *text, size_t size, const struct summary *summary);

void report_write_table(const struct report *report, FILE *out);
void report_write_json(const struct report *report, FILE *out);
/*
 * The targets, the table and the plots, with the machine, the day and the command that made them.
 * `name` is the page's file, to which plots are linked.
 */
void report_write_page(const struct report *report, FILE *out, const char *name,
                       char *const *command);

#endif
