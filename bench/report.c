/* Rows to table, page and JSON; see report.h. Reads /proc/cpuinfo for the page. */
#include "bench/report.h"

#include "bench/json.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { COLUMNS = 6, CELL_BYTES = 96 };

struct line {
    char cell[COLUMNS][CELL_BYTES];
};

bool report_create(struct report *report)
{
    *report = (struct report){.rows = calloc(REPORT_ROWS_MAX, sizeof(struct report_row))};
    return report->rows != NULL;
}

void report_destroy(struct report *report)
{
    for (unsigned i = 0; i < report->note_count; i++) {
        free(report->notes[i]);
    }
    free(report->rows);
    *report = (struct report){.rows = NULL};
}

void report_add(struct report *report, const struct report_row *row)
{
    assert(report->row_count < REPORT_ROWS_MAX);
    report->rows[report->row_count++] = *row;
}

void report_note(struct report *report, const char *note)
{
    assert(report->note_count < REPORT_NOTES_MAX);
    char *copy = strdup(note);
    if (copy != NULL) {
        report->notes[report->note_count++] = copy;
    }
}

double report_ratio(const struct report_row *row)
{
    if (row->ours.count == 0 || row->theirs.count == 0) {
        return NAN;
    }
    return row->more_is_better ? row->ours.median / row->theirs.median
                               : row->theirs.median / row->ours.median;
}

static int digits_of(double value)
{
    return value >= 100 ? 0 : value >= 10 ? 1 : 2;
}

static void put_summary(char cell[CELL_BYTES], const char *name, const struct summary *summary)
{
    if (summary->count == 0) {
        snprintf(cell, CELL_BYTES, "-");
        return;
    }
    int digits = digits_of(summary->median);
    snprintf(cell, CELL_BYTES, "%s%.*f (%.*f to %.*f)", name, digits, summary->median, digits,
             summary->min, digits, summary->max);
}

static struct line line_of(const struct report_row *row)
{
    struct line line;
    char peer[32] = "";
    if (row->peer != NULL) {
        snprintf(peer, sizeof peer, "%s ", row->peer);
    }
    snprintf(line.cell[0], CELL_BYTES, "%s", row->what);
    snprintf(line.cell[1], CELL_BYTES, "%s", row->metric);
    snprintf(line.cell[2], CELL_BYTES, "%s", row->unit);
    put_summary(line.cell[3], "", &row->ours);
    put_summary(line.cell[4], peer, &row->theirs);
    double ratio = report_ratio(row);
    if (isfinite(ratio)) {
        snprintf(line.cell[5], CELL_BYTES, "%.2f", ratio);
    } else {
        snprintf(line.cell[5], CELL_BYTES, "-");
    }
    return line;
}

static void put_line(FILE *out, const struct line *line, const int widths[COLUMNS])
{
    for (unsigned i = 0; i < COLUMNS; i++) {
        fprintf(out, "| %-*s ", widths[i], line->cell[i]);
    }
    fputs("|\n", out);
}

static void write_bench(const struct report *report, const char *bench, FILE *out)
{
    static const struct line head = {
        {"case", "metric", "unit", "rethread: median (min to max)", "peer", "ratio"}};
    int widths[COLUMNS];
    for (unsigned i = 0; i < COLUMNS; i++) {
        widths[i] = (int)strlen(head.cell[i]);
    }
    for (unsigned r = 0; r < report->row_count; r++) {
        struct line line = line_of(&report->rows[r]);
        for (unsigned i = 0; i < COLUMNS; i++) {
            int width = (int)strlen(line.cell[i]);
            widths[i] = width > widths[i] ? width : widths[i];
        }
    }
    fprintf(out, "### %s\n\n", bench);
    put_line(out, &head, widths);
    for (unsigned i = 0; i < COLUMNS; i++) {
        fputs("|", out);
        for (int k = 0; k < widths[i] + 2; k++) {
            fputc('-', out);
        }
    }
    fputs("|\n", out);
    for (unsigned r = 0; r < report->row_count; r++) {
        if (strcmp(report->rows[r].bench, bench) == 0) {
            struct line line = line_of(&report->rows[r]);
            put_line(out, &line, widths);
        }
    }
    fputc('\n', out);
}

void report_write_table(const struct report *report, FILE *out)
{
    for (unsigned r = 0; r < report->row_count; r++) {
        if (r == 0 || strcmp(report->rows[r].bench, report->rows[r - 1].bench) != 0) {
            write_bench(report, report->rows[r].bench, out);
        }
    }
    for (unsigned i = 0; i < report->note_count; i++) {
        fprintf(out, "Note: %s\n", report->notes[i]);
    }
}

static void json_side(struct json *json, const char *name, const struct summary *summary)
{
    static const char *const suffixes[] = {"", "_min", "_max"};
    const double values[] = {summary->median, summary->min, summary->max};
    for (unsigned i = 0; i < sizeof values / sizeof *values; i++) {
        char member[32];
        snprintf(member, sizeof member, "%s%s", name, suffixes[i]);
        json_number(json, member, summary->count != 0 ? values[i] : NAN);
    }
}

static void json_row(struct json *json, const struct report_row *row)
{
    json_object_begin(json, NULL);
    json_text(json, "bench", row->bench);
    json_text(json, "peer", row->peer);
    json_object_begin(json, "params");
    for (unsigned i = 0; i < REPORT_PARAMS_MAX && row->params[i].name != NULL; i++) {
        const struct report_param *param = &row->params[i];
        if (param->text != NULL) {
            json_text(json, param->name, param->text);
        } else {
            json_count(json, param->name, param->number);
        }
    }
    json_object_end(json);
    json_text(json, "metric", row->metric);
    json_side(json, "ours", &row->ours);
    json_side(json, "theirs", &row->theirs);
    json_number(json, "ratio", report_ratio(row));
    json_text(json, "unit", row->unit);
    json_count(json, "rounds", row->ours.count);
    json_object_end(json);
}

void report_write_json(const struct report *report, FILE *out)
{
    struct json json;
    json_start(&json, out);
    for (unsigned r = 0; r < report->row_count; r++) {
        json_row(&json, &report->rows[r]);
    }
}

static void write_machine(FILE *out)
{
    char model[128] = "unknown processor";
    FILE *cpus = fopen("/proc/cpuinfo", "r");
    char text[256];
    while (cpus != NULL && fgets(text, sizeof text, cpus) != NULL) {
        if (sscanf(text, "model name : %127[^\n]", model) == 1) {
            break;
        }
    }
    if (cpus != NULL) {
        fclose(cpus);
    }
    struct utsname system = {.release = "unknown"};
    (void)uname(&system);
    fprintf(out, "Machine: %ld cores, %s, Linux %s.\n", sysconf(_SC_NPROCESSORS_ONLN), model,
            system.release);
}

void report_write_page(const struct report *report, FILE *out, char *const *command)
{
    char day[32] = "";
    time_t now = time(NULL);
    struct tm parts;
    if (gmtime_r(&now, &parts) != NULL) {
        (void)strftime(day, sizeof day, "%Y-%m-%d", &parts);
    }
    fprintf(out, "# rethread-bench, %s\n\n    ", day);
    for (char *const *word = command; *word != NULL; word++) {
        fprintf(out, "%s%s", *word, word[1] != NULL ? " " : "\n\n");
    }
    write_machine(out);
    fputs("A ratio above 1 means better than the peer; it is that of the medians.\n\n", out);
    report_write_table(report, out);
}
