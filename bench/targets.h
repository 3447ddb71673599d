/*
 * Judges a report by the targets of targets.def: which rows each of them means, and whether they
 * keep it.
 */
#ifndef RETHREAD_BENCH_TARGETS_H
#define RETHREAD_BENCH_TARGETS_H

#include "bench/report.h"

#include <stdio.h>

enum target_kind {
    TARGET_RATIO,   /* report_ratio, at least */
    TARGET_INVERSE, /* 1 / report_ratio: ours as a share of theirs, at most */
    TARGET_LEAST,   /* ours, at least */
    TARGET_MOST,    /* ours, at most */
};

struct target {
    const char *bench;
    const char *peer; /* NULL: any */
    const char *metric;
    const char *params; /* "name=value name~value", see targets.def */
    enum target_kind kind;
    double at_least;
    double aim;
    const char *unit; /* "x" for shares and ratios */
    const char *words;
    const char *why;
};

enum target_verdict { TARGET_NOT_MEASURED, TARGET_MISSED, TARGET_MET, TARGET_AIM_MET };

struct target_result {
    enum target_verdict verdict;
    double measured;              /* in the target's own unit */
    const struct report_row *row; /* NULL: not measured */
    bool is_other_size;           /* the row's value of a `~` param is another one */
};

extern const struct target targets[];
extern const unsigned target_count;

struct target_result target_judge(const struct target *target, const struct report *report);

/*
 * The table of all targets that the report has something to say of, or with `all` of every one, and
 * the missed ones' reasons. Writes nothing when there is nothing to say.
 */
void targets_write(const struct report *report, bool all, FILE *out);

#endif
