/* Panels from rows; see plot_rows.h. Touches the stream it is given. */
#include "bench/plot_rows.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

enum { SYSTEMS_MAX = 8, PLACES_MAX = 32, LABEL_BYTES = 32 };

#define CPU       "server_cpu_per_op"
#define KV_COMMON " data=none loops=1"

const struct plot_picture plot_pictures[] = {
    {"kv-cpu",
     "kv: the server's CPU time for one request",
     {{"kv", CPU, "op=append size_bytes=1024" KV_COMMON, "in_flight", PLOT_COUNTS, PLOT_BARS,
       "append 1 KiB", "in flight on each connection", "server CPU, us per request", 1e-3},
      {"kv", CPU, "op=replay size_bytes=1024" KV_COMMON, "in_flight", PLOT_COUNTS, PLOT_BARS,
       "replay 1 KiB", "in flight on each connection", "server CPU, us per request", 1e-3},
      {"kv", CPU, "op=append in_flight=16" KV_COMMON, "size_bytes", PLOT_SIZES, PLOT_BARS,
       "append, 16 in flight", "size", "server CPU, us per request", 1e-3},
      {"kv", CPU, "op=replay in_flight=16" KV_COMMON, "size_bytes", PLOT_SIZES, PLOT_BARS,
       "replay, 16 in flight", "size", "server CPU, us per request", 1e-3}}},
    {"kv-throughput",
     "kv: throughput",
     {{"kv", "throughput", "op=append size_bytes=1024" KV_COMMON, "in_flight", PLOT_COUNTS,
       PLOT_BARS, "append 1 KiB", "in flight on each connection", "thousand requests/s", 0},
      {"kv", "throughput", "op=replay size_bytes=1024" KV_COMMON, "in_flight", PLOT_COUNTS,
       PLOT_BARS, "replay 1 KiB", "in flight on each connection", "thousand requests/s", 0},
      {"kv", "throughput", "op=append in_flight=16" KV_COMMON, "size_bytes", PLOT_SIZES, PLOT_BARS,
       "append, 16 in flight", "size", "thousand requests/s", 0},
      {"kv", "throughput", "op=replay in_flight=16" KV_COMMON, "size_bytes", PLOT_SIZES, PLOT_BARS,
       "replay, 16 in flight", "size", "thousand requests/s", 0}}},
    {"index",
     "The index alone, by number of keys",
     {{"index", "find_batched", "loops=1", "keys", PLOT_COUNTS, PLOT_BARS, "lookup, batched",
       "keys", "ns", 0},
      {"index", "find", "loops=1", "keys", PLOT_COUNTS, PLOT_BARS, "lookup, one by one", "keys",
       "ns", 0},
      {"index", "insert", "loops=1", "keys", PLOT_COUNTS, PLOT_BARS, "insert", "keys", "ns", 0},
      {"index", "remove", "loops=1", "keys", PLOT_COUNTS, PLOT_BARS, "find and remove", "keys",
       "ns", 0}}},
    {"continuity",
     "Follow-ups that find their whole reasoning",
     {{"continuity", "complete", "by=ttl", "ttl_s", PLOT_SECONDS, PLOT_LINES, "by ttl",
       "ttl of memory", "% complete", 100},
      {"continuity", "complete", "by=memory", "memory_bytes", PLOT_SIZES, PLOT_LINES,
       "by memory budget", "memory", "% complete", 100}}},
    {"scale",
     "Cost of an operation by number of threads",
     {{"scale", CPU, "op=append", "threads", PLOT_COUNTS, PLOT_LINES, "append", "threads",
       "server CPU, us per request", 1e-3},
      {"scale", CPU, "op=replay", "threads", PLOT_COUNTS, PLOT_LINES, "replay", "threads",
       "server CPU, us per request", 1e-3}}},
};
const unsigned plot_picture_count = sizeof plot_pictures / sizeof *plot_pictures;

const char *plot_colour(const char *name, unsigned number)
{
    static const char *const named[][2] = {
        {"rethread", "#1f6feb"}, {"redis", "#d1603d"},     {"memcached", "#4c9f70"},
        {"cds_lfht", "#d1603d"}, {"ck_ht", "#4c9f70"},     {"memory-only", "#9aa0a6"},
        {"quiet", "#9aa0a6"},    {"fdatasync", "#9aa0a6"},
    };
    static const char *const others[] = {"#1f6feb", "#d1603d", "#4c9f70",
                                         "#9c6ade", "#9aa0a6", "#c9a227"};
    for (unsigned i = 0; i < sizeof named / sizeof *named; i++) {
        if (strcmp(named[i][0], name) == 0) {
            return named[i][1];
        }
    }
    return others[number % (sizeof others / sizeof *others)];
}

/* ---- From rows to a grid of places along x and systems ---- */

struct place {
    double x;
    char label[LABEL_BYTES];
    struct summary cell[SYSTEMS_MAX];
};

struct grid {
    unsigned system_count;
    unsigned place_count;
    const char *system[SYSTEMS_MAX];
    struct place place[PLACES_MAX];
};

static void put_scaled(char label[LABEL_BYTES], uint64_t number, uint64_t base,
                       const char *const units[4])
{
    unsigned unit = 0;
    while (number >= base && number % base == 0 && unit < 3) {
        number /= base;
        unit++;
    }
    snprintf(label, LABEL_BYTES, "%" PRIu64 "%s", number, units[unit]);
}

static void put_label(char label[LABEL_BYTES], const struct report_param *param,
                      enum plot_scale scale)
{
    uint64_t number = param->number;
    switch (scale) {
    case PLOT_TEXT:
        snprintf(label, LABEL_BYTES, "%s", param->text != NULL ? param->text : "");
        return;
    case PLOT_COUNTS:
        put_scaled(label, number, 1000, (const char *const[]){"", " k", " M", " G"});
        return;
    case PLOT_SIZES:
        put_scaled(label, number, 1024, (const char *const[]){" B", " KiB", " MiB", " GiB"});
        return;
    case PLOT_SECONDS:
        if (number % 3600 == 0) {
            snprintf(label, LABEL_BYTES, "%" PRIu64 " h", number / 3600);
        } else {
            snprintf(label, LABEL_BYTES, "%" PRIu64 " min", number / 60);
        }
        return;
    }
}

static unsigned find_system(struct grid *grid, const char *name)
{
    unsigned at = 0;
    while (at < grid->system_count && strcmp(grid->system[at], name) != 0) {
        at++;
    }
    if (at == grid->system_count && at < SYSTEMS_MAX) {
        grid->system[grid->system_count++] = name;
    }
    return at;
}

static struct place *find_place(struct grid *grid, const struct report_param *param,
                                enum plot_scale scale)
{
    char label[LABEL_BYTES];
    put_label(label, param, scale);
    for (unsigned i = 0; i < grid->place_count; i++) {
        if (strcmp(grid->place[i].label, label) == 0) {
            return &grid->place[i];
        }
    }
    if (grid->place_count == PLACES_MAX) {
        return NULL;
    }
    struct place *place = &grid->place[grid->place_count++];
    place->x = scale == PLOT_TEXT ? grid->place_count : (double)param->number;
    memcpy(place->label, label, sizeof label);
    return place;
}

static int by_x(const void *a, const void *b)
{
    const struct place *left = a;
    const struct place *right = b;
    return (left->x > right->x) - (left->x < right->x);
}

static void collect(const struct plot_panel *panel, const struct report *report, struct grid *grid)
{
    *grid = (struct grid){.system_count = 0};
    for (unsigned i = 0; i < report->row_count; i++) {
        const struct report_row *row = &report->rows[i];
        const struct report_param *param = report_param(row, panel->x);
        if (param == NULL || strcmp(row->bench, panel->bench) != 0 ||
            strcmp(row->metric, panel->metric) != 0 || report_distance(row, panel->params) > 0) {
            continue;
        }
        struct place *place = find_place(grid, param, panel->scale);
        unsigned ours = find_system(grid, "rethread");
        unsigned theirs = row->peer != NULL ? find_system(grid, row->peer) : SYSTEMS_MAX;
        if (place != NULL && ours < SYSTEMS_MAX) {
            place->cell[ours] = row->ours;
        }
        if (place != NULL && theirs < SYSTEMS_MAX) {
            place->cell[theirs] = row->theirs;
        }
    }
    qsort(grid->place, grid->place_count, sizeof grid->place[0], by_x);
}

unsigned plot_count_panels(const struct plot_picture *picture, const struct report *report)
{
    unsigned count = 0;
    for (unsigned i = 0; i < PLOT_PANELS_MAX && picture->panels[i].bench != NULL; i++) {
        struct grid grid;
        collect(&picture->panels[i], report, &grid);
        count += grid.place_count != 0;
    }
    return count;
}

/* ---- Drawing ---- */

static void write_grid(const struct plot_panel *panel, const struct grid *grid, unsigned number,
                       FILE *out)
{
    double factor = panel->factor > 0 ? panel->factor : 1;
    fprintf(out, "$panel%u << EOD\n", number);
    for (unsigned p = 0; p < grid->place_count; p++) {
        const struct place *place = &grid->place[p];
        fprintf(out, "\"%s\"", place->label);
        for (unsigned s = 0; s < grid->system_count; s++) {
            const struct summary *cell = &place->cell[s];
            if (cell->count == 0) {
                fputs(" ? ? ?", out);
            } else {
                fprintf(out, " %.6g %.6g %.6g", cell->median * factor, cell->min * factor,
                        cell->max * factor);
            }
        }
        fputc('\n', out);
    }
    fputs("EOD\n", out);
}

static void write_plot(const struct plot_panel *panel, const struct grid *grid, unsigned number,
                       FILE *out)
{
    fputs("plot ", out);
    for (unsigned s = 0; s < grid->system_count; s++) {
        const char *name = grid->system[s];
        unsigned column = 2 + 3 * s;
        fprintf(out, "%s$panel%u using ", s == 0 ? "" : ", ", number);
        if (panel->form == PLOT_BARS) {
            fprintf(out, "%u:%u:%u:xtic(1) lc rgb '%s' title \"%s\"", column, column + 1,
                    column + 2, plot_colour(name, s), name);
        } else {
            fprintf(out,
                    "0:%u:%u:%u:xtic(1) with yerrorlines lw 2 pt 7 ps 0.6 lc rgb '%s' title \"%s\"",
                    column, column + 1, column + 2, plot_colour(name, s), name);
        }
    }
    fputc('\n', out);
}

void plot_write_panels(const struct plot_picture *picture, const struct report *report, FILE *out)
{
    for (unsigned i = 0; i < PLOT_PANELS_MAX && picture->panels[i].bench != NULL; i++) {
        const struct plot_panel *panel = &picture->panels[i];
        struct grid grid;
        collect(panel, report, &grid);
        if (grid.place_count == 0) {
            continue;
        }
        write_grid(panel, &grid, i, out);
        fprintf(out,
                "set title '%s'\nset xlabel '%s'\nset ylabel '%s'\n"
                "set yrange [0:*]\nset offsets %s\n",
                panel->title, panel->x_label, panel->y_label,
                panel->form == PLOT_BARS ? "0,0,graph 0.05,0" : "0.2,0.2,graph 0.05,0");
        fputs(panel->form == PLOT_BARS ? "set style data histogram\n"
                                         "set style histogram errorbars gap 1.2 lw 1\n"
                                         "set style fill solid 0.9 noborder\nset boxwidth 0.9\n"
                                       : "set style data lines\n",
              out);
        write_plot(panel, &grid, i, out);
    }
}
