/* Rows to table, page and JSON; see report.h. Reads /proc/cpuinfo for the page. */
#include "bench/report.h"

#include "bench/json.h"
#include "bench/targets.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { COLUMNS = 6, CELL_BYTES = 112, PEER_BYTES = 32 };

struct line {
    char cell[COLUMNS][CELL_BYTES];
};

/* ---- Table ---- */

static int digits_of(double value)
{
    return value >= 100 ? 0 : value >= 10 ? 1 : 2;
}

void report_put_summary(char *text, size_t size, const struct summary *summary)
{
    if (summary->count == 0) {
        snprintf(text, size, "-");
        return;
    }
    int digits = digits_of(summary->median);
    if (summary->count == 1) {
        snprintf(text, size, "%.*f", digits, summary->median);
        return;
    }
    snprintf(text, size, "%.*f (%.*f to %.*f)", digits, summary->median, digits, summary->min,
             digits, summary->max);
}

static struct line line_of(const struct report_row *row)
{
    struct line line;
    snprintf(line.cell[0], CELL_BYTES, "%s", row->what);
    snprintf(line.cell[1], CELL_BYTES, "%s", row->metric);
    snprintf(line.cell[2], CELL_BYTES, "%s", row->unit);
    report_put_summary(line.cell[3], CELL_BYTES, &row->ours);
    int peer = 0;
    if (row->peer != NULL && row->theirs.count != 0) {
        peer = snprintf(line.cell[4], PEER_BYTES, "%s ", row->peer);
        peer = peer < PEER_BYTES ? peer : PEER_BYTES - 1;
    }
    report_put_summary(line.cell[4] + peer, CELL_BYTES - (size_t)peer, &row->theirs);
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
        for (unsigned i = 0; i < COLUMNS && strcmp(report->rows[r].bench, bench) == 0; i++) {
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

static void write_benches(const struct report *report, FILE *out)
{
    for (unsigned r = 0; r < report->row_count; r++) {
        bool is_first = true;
        for (unsigned i = 0; i < r && is_first; i++) {
            is_first = strcmp(report->rows[i].bench, report->rows[r].bench) != 0;
        }
        if (is_first) {
            write_bench(report, report->rows[r].bench, out);
        }
    }
}

static void write_notes(const struct report *report, FILE *out)
{
    for (unsigned i = 0; i < report->note_count; i++) {
        fprintf(out, "Note: %s\n\n", report->notes[i]);
    }
}

void report_write_table(const struct report *report, FILE *out)
{
    targets_write(report, false, out);
    write_benches(report, out);
    write_notes(report, out);
}

/* ---- JSON ---- */

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

/* ---- Page ---- */

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

/* The plot's file as the page must call it: plain where both are in one folder. */
static const char *link_of(const char *file, const char *page)
{
    const char *page_end = strrchr(page, '/');
    const char *file_end = strrchr(file, '/');
    size_t page_size = page_end != NULL ? (size_t)(page_end - page) : 0;
    size_t file_size = file_end != NULL ? (size_t)(file_end - file) : 0;
    bool is_beside = page_size == file_size && strncmp(page, file, file_size) == 0;
    return is_beside && file_end != NULL ? file_end + 1 : file;
}

static void write_plots(const struct report *report, const char *name, FILE *out)
{
    if (report->plot_count != 0) {
        fputs("### Plots\n\n", out);
    }
    for (unsigned i = 0; i < report->plot_count; i++) {
        const struct report_plot *plot = &report->plots[i];
        fprintf(out, "![%s](%s)\n\n", plot->caption, link_of(plot->file, name));
    }
}

void report_write_page(const struct report *report, FILE *out, const char *name,
                       char *const *command)
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
    targets_write(report, true, out);
    write_benches(report, out);
    write_notes(report, out);
    write_plots(report, name, out);
}
