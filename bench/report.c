/* Collects rows, curves and notes; see report.h. Touches nothing else. */
#include "bench/report.h"

#include <assert.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { POINTS_STEP = 256, WORD_BYTES = 64 };

bool report_create(struct report *report)
{
    *report = (struct report){.rows = calloc(REPORT_ROWS_MAX, sizeof(struct report_row)),
                              .curves = calloc(REPORT_CURVES_MAX, sizeof(struct report_curve))};
    if (report->rows == NULL || report->curves == NULL) {
        report_destroy(report);
        return false;
    }
    return true;
}

void report_destroy(struct report *report)
{
    for (unsigned i = 0; i < report->note_count; i++) {
        free(report->notes[i]);
    }
    for (unsigned i = 0; i < report->curve_count; i++) {
        free(report->curves[i].points);
    }
    for (unsigned i = 0; i < report->plot_count; i++) {
        free(report->plots[i].file);
    }
    free(report->curves);
    free(report->rows);
    *report = (struct report){.rows = NULL};
}

void report_add(struct report *report, const struct report_row *row)
{
    assert(report->row_count < REPORT_ROWS_MAX);
    assert(row->bench != NULL && row->metric != NULL && row->unit != NULL);
    report->rows[report->row_count++] = *row;
}

void report_note(struct report *report, const char *note)
{
    for (unsigned i = 0; i < report->note_count; i++) {
        if (strcmp(report->notes[i], note) == 0) {
            return;
        }
    }
    assert(report->note_count < REPORT_NOTES_MAX);
    char *copy = strdup(note);
    if (copy != NULL) {
        report->notes[report->note_count++] = copy;
    }
}

static struct report_curve *find_curve(struct report *report, const char *bench, const char *plot,
                                       const char *name)
{
    for (unsigned i = 0; i < report->curve_count; i++) {
        struct report_curve *curve = &report->curves[i];
        if (strcmp(curve->bench, bench) == 0 && strcmp(curve->plot, plot) == 0 &&
            strcmp(curve->name, name) == 0) {
            return curve;
        }
    }
    assert(report->curve_count < REPORT_CURVES_MAX);
    struct report_curve *curve = &report->curves[report->curve_count++];
    curve->bench = bench;
    snprintf(curve->plot, sizeof curve->plot, "%s", plot);
    snprintf(curve->name, sizeof curve->name, "%s", name);
    return curve;
}

void report_point(struct report *report, const char *bench, const char *plot, const char *name,
                  double x, double y)
{
    struct report_curve *curve = find_curve(report, bench, plot, name);
    assert(curve->count < REPORT_POINTS_MAX);
    if (curve->count % POINTS_STEP == 0) {
        struct report_point *points =
            realloc(curve->points, (curve->count + POINTS_STEP) * sizeof *points);
        if (points == NULL) {
            return;
        }
        curve->points = points;
    }
    curve->points[curve->count++] = (struct report_point){x, y};
}

void report_latency(struct report *report, const char *bench, const char *plot, const char *name,
                    const struct hist *hist_ns)
{
    enum { PER_DECADE = 10, DECADES = 5 };
    for (unsigned i = 0; i <= PER_DECADE * DECADES; i++) {
        double above = pow(10, -(double)i / PER_DECADE);
        if (above * (double)hist_ns->count < 1) {
            break;
        }
        uint64_t ns = hist_percentile(hist_ns, 1 - above);
        report_point(report, bench, plot, name, 1 / above, (double)ns / 1000);
    }
}

void report_plot(struct report *report, const char *file, const char *caption)
{
    assert(report->plot_count < REPORT_PLOTS_MAX);
    struct report_plot *plot = &report->plots[report->plot_count];
    plot->file = strdup(file);
    plot->caption = caption;
    report->plot_count += plot->file != NULL;
}

void report_forget_plots(struct report *report, unsigned from)
{
    while (report->plot_count > from) {
        free(report->plots[--report->plot_count].file);
    }
}

const struct report_param *report_param(const struct report_row *row, const char *name)
{
    for (unsigned i = 0; i < REPORT_PARAMS_MAX && row->params[i].name != NULL; i++) {
        if (strcmp(row->params[i].name, name) == 0) {
            return &row->params[i];
        }
    }
    return NULL;
}

/* One word of params. */
struct wanted {
    char name[WORD_BYTES];
    char value[WORD_BYTES];
    bool is_near;
};

/* Takes the next word off `*params`; false: there is none. */
static bool next_wanted(const char **params, struct wanted *wanted)
{
    *params += strspn(*params, " ");
    size_t name = strcspn(*params, "=~");
    if ((*params)[name] == '\0') {
        return false;
    }
    const char *value = *params + name + 1;
    size_t size = strcspn(value, " ");
    assert(name < WORD_BYTES && size < WORD_BYTES);
    *wanted = (struct wanted){.is_near = (*params)[name] == '~'};
    memcpy(wanted->name, *params, name);
    memcpy(wanted->value, value, size);
    *params = value + size;
    return true;
}

static bool has_value(const struct report_param *param, const char *value)
{
    if (param->text != NULL) {
        return strcmp(param->text, value) == 0;
    }
    char number[WORD_BYTES];
    snprintf(number, sizeof number, "%" PRIu64, param->number);
    return strcmp(number, value) == 0;
}

double report_distance(const struct report_row *row, const char *params)
{
    double far = 0;
    struct wanted wanted;
    while (next_wanted(&params, &wanted)) {
        const struct report_param *param = report_param(row, wanted.name);
        if (param == NULL || (!wanted.is_near && !has_value(param, wanted.value))) {
            return INFINITY;
        }
        if (wanted.is_near) {
            far += fabs(log(fmax((double)param->number, 1)) - log(strtod(wanted.value, NULL)));
        }
    }
    return far;
}

double report_ratio(const struct report_row *row)
{
    if (row->ours.count == 0 || row->theirs.count == 0) {
        return NAN;
    }
    return row->more_is_better ? row->ours.median / row->theirs.median
                               : row->theirs.median / row->ours.median;
}
