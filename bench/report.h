/*
 * Collects what was measured, one row for each metric of each case, and writes it as a table (laid
 * out by hand and Markdown at once) and as JSON, one object per row.
 *
 * Strings are borrowed and must outlive the report, but for `what`, which is copied.
 */
#ifndef RETHREAD_BENCH_REPORT_H
#define RETHREAD_BENCH_REPORT_H

#include "bench/summary.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

enum {
    REPORT_ROWS_MAX = 1024,
    REPORT_PARAMS_MAX = 4,
    REPORT_WHAT_BYTES = 64,
    REPORT_NOTES_MAX = 8
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

struct report {
    unsigned row_count;
    unsigned note_count;
    struct report_row *rows;
    char *notes[REPORT_NOTES_MAX];
};

bool report_create(struct report *report); /* false: no memory */
void report_destroy(struct report *report);

void report_add(struct report *report, const struct report_row *row);
/* A line that the reader of the table must know, such as a peer that was left out. */
void report_note(struct report *report, const char *note);

/* Of the medians; above 1 is better than the peer; not a number when there is nothing to compare.
 */
double report_ratio(const struct report_row *row);

void report_write_table(const struct report *report, FILE *out);
void report_write_json(const struct report *report, FILE *out);
/* The table, with the machine, the day and the command that made it. */
void report_write_page(const struct report *report, FILE *out, char *const *command);

#endif
