/* The table of targets and its judge; see targets.h. Touches the streams it is given. */
#include "bench/targets.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define RATIO   TARGET_RATIO
#define INVERSE TARGET_INVERSE
#define LEAST   TARGET_LEAST
#define MOST    TARGET_MOST
#define TARGET(bench, peer, metric, params, kind, at_least, aim, unit, words, why)                 \
    {bench, peer, metric, params, kind, at_least, aim, unit, words, why},
const struct target targets[] = {
#include "bench/targets.def"
};
#undef TARGET
enum { TARGET_COUNT = sizeof targets / sizeof *targets, COLUMNS = 5, CELL_BYTES = 96 };
const unsigned target_count = TARGET_COUNT;

/* ---- Which row is meant, and whether it keeps the target ---- */

/* How far the row is from what is meant: 0 for the very one; infinite for one that is not meant. */
static double distance(const struct target *target, const struct report_row *row)
{
    if (strcmp(row->bench, target->bench) != 0 || strcmp(row->metric, target->metric) != 0 ||
        (target->peer != NULL && (row->peer == NULL || strcmp(row->peer, target->peer) != 0))) {
        return INFINITY;
    }
    return report_distance(row, target->params);
}

static double measured_of(const struct target *target, const struct report_row *row)
{
    switch (target->kind) {
    case TARGET_RATIO:
        return report_ratio(row);
    case TARGET_INVERSE:
        return 1 / report_ratio(row);
    case TARGET_LEAST:
    case TARGET_MOST:
        return row->ours.count != 0 ? row->ours.median : NAN;
    }
    return NAN;
}

static bool more_is_better(const struct target *target)
{
    return target->kind == TARGET_RATIO || target->kind == TARGET_LEAST;
}

static bool is_kept(const struct target *target, double measured, double limit)
{
    return more_is_better(target) ? measured >= limit : measured <= limit;
}

struct target_result target_judge(const struct target *target, const struct report *report)
{
    struct target_result result = {.verdict = TARGET_NOT_MEASURED};
    double nearest = INFINITY;
    for (unsigned i = 0; i < report->row_count; i++) {
        const struct report_row *row = &report->rows[i];
        double far = distance(target, row);
        double measured = isfinite(far) ? measured_of(target, row) : NAN;
        if (!isfinite(measured) || far > nearest) {
            continue;
        }
        bool is_worse = result.row == NULL || is_kept(target, result.measured, measured);
        if (far < nearest || is_worse) {
            nearest = far;
            result.measured = measured;
            result.row = row;
            result.is_other_size = far > 0.01;
        }
    }
    if (result.row != NULL) {
        result.verdict = is_kept(target, result.measured, target->aim)        ? TARGET_AIM_MET
                         : is_kept(target, result.measured, target->at_least) ? TARGET_MET
                                                                              : TARGET_MISSED;
    }
    return result;
}

/* ---- The table ---- */

static void put_value(char cell[CELL_BYTES], const struct target *target, double value)
{
    bool is_whole = fabs(value - round(value)) < 1e-9;
    int digits = is_whole || value >= 100 ? 0 : value >= 10 ? 1 : 2;
    if (value < 0.1 && !is_whole) {
        digits = 3;
    }
    const char *space = strcmp(target->unit, "x") == 0 ? "" : " ";
    if (strcmp(target->unit, "share") == 0) {
        /* Rounding must not turn one lost follow-up into none. */
        snprintf(cell, CELL_BYTES, "%.2f%%", floor(value * 10000) / 100);
    } else {
        snprintf(cell, CELL_BYTES, "%.*f%s%s", digits, value, space, target->unit);
    }
}

static void put_verdict(char cell[CELL_BYTES], const struct target *target,
                        const struct target_result *result)
{
    static const char *const words[] = {"not measured", "MISSED", "met", "aim met"};
    snprintf(cell, CELL_BYTES, "%s", words[result->verdict]);
    const char *near = strchr(target->params, '~');
    if (result->is_other_size && near != NULL) {
        char name[CELL_BYTES] = "";
        const char *begin = near;
        while (begin > target->params && begin[-1] != ' ') {
            begin--;
        }
        snprintf(name, sizeof name, "%.*s", (int)(near - begin), begin);
        snprintf(cell, CELL_BYTES, "%s at %" PRIu64 " %s", words[result->verdict],
                 report_param(result->row, name)->number, name);
    }
}

static void put_target(char cells[COLUMNS][CELL_BYTES], const struct target *target,
                       const struct target_result *result)
{
    snprintf(cells[0], CELL_BYTES, "%s", target->words);
    snprintf(cells[1], CELL_BYTES, "-");
    if (result->row != NULL) {
        put_value(cells[1], target, result->measured);
    }
    put_value(cells[2], target, target->at_least);
    put_value(cells[3], target, target->aim);
    put_verdict(cells[4], target, result);
}

static void write_cells(FILE *out, char cells[COLUMNS][CELL_BYTES], const int widths[COLUMNS])
{
    for (unsigned i = 0; i < COLUMNS; i++) {
        fprintf(out, "| %-*s ", widths[i], cells[i]);
    }
    fputs("|\n", out);
}

static bool needs_reason(const struct report *report, unsigned t)
{
    return target_judge(&targets[t], report).verdict == TARGET_MISSED && targets[t].why[0] != '\0';
}

/* A reason that several share stands once, behind all of them. */
static void write_reasons(const struct report *report, FILE *out)
{
    bool written[TARGET_COUNT] = {false};
    for (unsigned t = 0; t < target_count; t++) {
        if (written[t] || !needs_reason(report, t)) {
            continue;
        }
        fprintf(out, "Missed: %s", targets[t].words);
        for (unsigned other = t + 1; other < target_count; other++) {
            if (strcmp(targets[other].why, targets[t].why) == 0 && needs_reason(report, other)) {
                fprintf(out, "; %s", targets[other].words);
                written[other] = true;
            }
        }
        fprintf(out, ". %s\n\n", targets[t].why);
    }
}

void targets_write(const struct report *report, bool all, FILE *out)
{
    char head[COLUMNS][CELL_BYTES] = {"target", "measured", "at least", "aim", "verdict"};
    int widths[COLUMNS];
    unsigned counts[TARGET_AIM_MET + 1] = {0};
    for (unsigned i = 0; i < COLUMNS; i++) {
        widths[i] = (int)strlen(head[i]);
    }
    char cells[COLUMNS][CELL_BYTES];
    for (unsigned t = 0; t < target_count; t++) {
        struct target_result result = target_judge(&targets[t], report);
        counts[result.verdict]++;
        put_target(cells, &targets[t], &result);
        for (unsigned i = 0; i < COLUMNS; i++) {
            int width = (int)strlen(cells[i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    if (!all && counts[TARGET_NOT_MEASURED] == target_count) {
        return;
    }
    fputs("### Targets\n\n", out);
    write_cells(out, head, widths);
    for (unsigned i = 0; i < COLUMNS; i++) {
        fprintf(out, "|%.*s", widths[i] + 2,
                "----------------------------------------------------------------------------------"
                "----------------");
    }
    fputs("|\n", out);
    for (unsigned t = 0; t < target_count; t++) {
        struct target_result result = target_judge(&targets[t], report);
        if (all || result.verdict != TARGET_NOT_MEASURED) {
            put_target(cells, &targets[t], &result);
            write_cells(out, cells, widths);
        }
    }
    fprintf(out, "\n%u of %u met, %u of them the aim as well; %u missed, %u not measured.\n\n",
            counts[TARGET_MET] + counts[TARGET_AIM_MET], target_count, counts[TARGET_AIM_MET],
            counts[TARGET_MISSED], counts[TARGET_NOT_MEASURED]);
    write_reasons(report, out);
}
