/* Pictures as scripts that a gnuplot child reads from a pipe; see plot.h. Writes the directory. */
#include "bench/plot.h"

#include "bench/plot_rows.h"
#include "bench/targets.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { WIDTH = 960, PANEL_HEIGHT = 360, NOT_FOUND = 127 };

enum outcome { DRAWN, ABSENT, FAILED };

/* ---- gnuplot ---- */

struct child {
    pid_t pid;
    FILE *in;
};

static bool start(struct child *child)
{
    int pipe_fds[2];
    *child = (struct child){.pid = -1};
    if (pipe(pipe_fds) != 0) {
        return false;
    }
    fflush(NULL);
    child->pid = fork();
    if (child->pid == 0) {
        dup2(pipe_fds[0], STDIN_FILENO);
        close(pipe_fds[0]);
        close(pipe_fds[1]);
        execlp("gnuplot", "gnuplot", (char *)NULL);
        _exit(NOT_FOUND);
    }
    close(pipe_fds[0]);
    child->in = child->pid > 0 ? fdopen(pipe_fds[1], "w") : NULL;
    if (child->in == NULL) {
        close(pipe_fds[1]);
    }
    return child->in != NULL;
}

static enum outcome finish(struct child *child)
{
    int status = -1;
    if (child->in != NULL) {
        fclose(child->in);
    }
    if (child->pid <= 0 || waitpid(child->pid, &status, 0) != child->pid || !WIFEXITED(status)) {
        return FAILED;
    }
    return WEXITSTATUS(status) == 0 ? DRAWN : WEXITSTATUS(status) == NOT_FOUND ? ABSENT : FAILED;
}

/* ---- Pictures that are not made of rows ---- */

static void write_head(FILE *out, const char *file, unsigned panel_rows)
{
    fprintf(out,
            "set terminal svg size %d,%d dynamic noenhanced rounded font 'Helvetica,13' background "
            "'white'\n"
            "set output '%s'\n"
            "set border 3 lc rgb '#888888'\n"
            "set tics nomirror out textcolor rgb '#333333'\n"
            "set grid ytics lt 1 lc rgb '#e4e4e4'\n"
            "set key outside top center horizontal reverse Left samplen 1.5 textcolor rgb "
            "'#333333'\n"
            "set errorbars 0.6 lc rgb '#666666'\n"
            "set datafile missing '?'\n",
            WIDTH, (int)panel_rows * PANEL_HEIGHT + 30, file);
}

/* One line of the overview: where the bar ends, and the two marks. All are ratios. */
struct bar {
    const char *words;
    double measured;
    double at_least;
    double aim;
    enum target_verdict verdict;
};

static unsigned collect_bars(const struct report *report, struct bar *bars, unsigned max)
{
    unsigned count = 0;
    for (unsigned t = 0; t < target_count && count < max; t++) {
        const struct target *target = &targets[t];
        struct target_result result = target_judge(target, report);
        if (result.verdict == TARGET_NOT_MEASURED ||
            (target->kind != TARGET_RATIO && target->kind != TARGET_INVERSE)) {
            continue;
        }
        bool inverse = target->kind == TARGET_INVERSE;
        bars[count++] = (struct bar){
            .words = target->words,
            .measured = inverse ? 1 / result.measured : result.measured,
            .at_least = inverse ? 1 / target->at_least : target->at_least,
            .aim = inverse ? 1 / target->aim : target->aim,
            .verdict = result.verdict,
        };
    }
    return count;
}

static void write_bars(FILE *out, const struct bar *bars, unsigned count)
{
    static const char *const colours[] = {"0xbbbbbb", "0xd1603d", "0x6ea8fe", "0x1f6feb"};
    fputs("$bars << EOD\n", out);
    double most = 2;
    double least = 0.7;
    for (unsigned i = 0; i < count; i++) {
        const struct bar *bar = &bars[i];
        most = fmax(most, fmax(bar->measured, bar->aim));
        least = fmin(least, bar->measured);
        fprintf(out, "%u \"%s\" %.6g %.6g %.6g %s\n", i, bar->words, bar->measured, bar->at_least,
                bar->aim, colours[bar->verdict]);
    }
    fprintf(out,
            "EOD\n"
            "set title 'Ratios beside the peers, and the targets' font ',15'\n"
            "set logscale x 2\n"
            "set xrange [%.6g:%.6g]\n"
            "set yrange [%.1f:-0.5]\n"
            "set xlabel 'times better than the peer (1: the same)'\n"
            "unset grid\nset grid xtics lt 1 lc rgb '#e4e4e4'\n"
            "set arrow from 1,graph 0 to 1,graph 1 nohead lc rgb '#555555'\n"
            "set key outside bottom center horizontal\n"
            "set ytics scale 0\n"
            "set style fill solid 1 noborder\n"
            "most = %.6g\n",
            least / 1.2, most * 1.5, count - 0.5, most * 1.45);
    fputs("plot $bars using 3:1:(1):3:($1-0.32):($1+0.32):6:ytic(2) with boxxyerror lc rgb variable"
          " notitle, \\\n"
          "  '' using (most):1:(sprintf('%.2f', $3)) with labels right font ',12'"
          " tc rgb '#222222' notitle, \\\n"
          "  '' using 4:1 with points pt 9 ps 0.9 lc rgb '#111111' title 'at least', \\\n"
          "  '' using 5:1 with points pt 6 ps 0.9 lw 1.5 lc rgb '#111111' title 'aim', \\\n"
          "  NaN with boxes lc rgb '#1f6feb' title 'aim met', \\\n"
          "  NaN with boxes lc rgb '#6ea8fe' title 'met', \\\n"
          "  NaN with boxes lc rgb '#d1603d' title 'missed'\n",
          out);
}

/* ---- Curves ---- */

static bool is_latency(const struct report_curve *curve)
{
    return strncmp(curve->plot, "latency", 7) == 0;
}

static void write_axes(FILE *out, const struct report_curve *curve)
{
    if (is_latency(curve)) {
        fputs("set logscale xy\nset format y '%g'\nset ylabel 'us'\nset xlabel 'percentile'\n"
              "set xtics ('50' 2, '90' 10, '99' 100, '99.9' 1e3, '99.99' 1e4, '99.999' 1e5)\n",
              out);
    } else {
        fputs("set xlabel 'minutes'\nset ylabel 'MiB'\nset yrange [0:*]\n"
              "set offsets 0,0,graph 0.05,0\n",
              out);
    }
    fprintf(out, "set title \"%s: %s\"\n", curve->bench, curve->plot);
}

static bool is_of(const struct report_curve *curve, const struct report_curve *first)
{
    return strcmp(curve->bench, first->bench) == 0 && strcmp(curve->plot, first->plot) == 0;
}

static bool is_first(const struct report *report, unsigned at)
{
    for (unsigned i = 0; i < at; i++) {
        if (is_of(&report->curves[i], &report->curves[at])) {
            return false;
        }
    }
    return true;
}

/* The curves of one bench and plot, in one panel. */
static void write_curves(FILE *out, const struct report *report, const struct report_curve *first)
{
    write_axes(out, first);
    for (unsigned i = 0; i < report->curve_count; i++) {
        const struct report_curve *curve = &report->curves[i];
        if (!is_of(curve, first)) {
            continue;
        }
        fprintf(out, "$curve%u << EOD\n", i);
        for (unsigned p = 0; p < curve->count; p++) {
            fprintf(out, "%.6g %.6g\n", curve->points[p].x, curve->points[p].y);
        }
        fputs("EOD\n", out);
    }
    fputs("plot ", out);
    unsigned number = 0;
    for (unsigned i = 0; i < report->curve_count; i++) {
        const struct report_curve *curve = &report->curves[i];
        if (is_of(curve, first)) {
            fprintf(out, "%s$curve%u with lines lw 2 lc rgb '%s' title \"%s\"",
                    number == 0 ? "" : ", ", i, plot_colour(curve->name, number), curve->name);
            number++;
        }
    }
    fputs("\nunset logscale\nset offsets\nset xtics autofreq\nset yrange [*:*]\n", out);
}

/* ---- All pictures ---- */

struct drawing {
    struct report *report;
    struct child child;
    const char *directory;
};

static void begin(struct drawing *drawing, const char *name, const char *caption, unsigned rows)
{
    char file[PATH_MAX];
    snprintf(file, sizeof file, "%s/%s.svg", drawing->directory, name);
    fputs("reset\n", drawing->child.in);
    write_head(drawing->child.in, file, rows);
    report_plot(drawing->report, file, caption);
}

static void draw_ratios(struct drawing *drawing)
{
    struct bar bars[64];
    unsigned count = collect_bars(drawing->report, bars, sizeof bars / sizeof *bars);
    if (count != 0) {
        begin(drawing, "ratios", "Ratios beside the peers, and the targets", 1 + count / 14);
        write_bars(drawing->child.in, bars, count);
    }
}

static void draw_rows(struct drawing *drawing)
{
    for (unsigned i = 0; i < plot_picture_count; i++) {
        const struct plot_picture *picture = &plot_pictures[i];
        unsigned panels = plot_count_panels(picture, drawing->report);
        if (panels != 0) {
            unsigned columns = panels > 1 ? 2 : 1;
            begin(drawing, picture->name, picture->caption, (panels + columns - 1) / columns);
            fprintf(drawing->child.in, "set multiplot layout %u,%u\n",
                    (panels + columns - 1) / columns, columns);
            plot_write_panels(picture, drawing->report, drawing->child.in);
            fputs("unset multiplot\n", drawing->child.in);
        }
    }
}

/* One picture for the latencies, one for what changed over time. */
static void draw_curves(struct drawing *drawing, bool latency, const char *name,
                        const char *caption)
{
    const struct report *report = drawing->report;
    unsigned panels = 0;
    for (unsigned i = 0; i < report->curve_count; i++) {
        panels += is_latency(&report->curves[i]) == latency && is_first(report, i);
    }
    if (panels == 0) {
        return;
    }
    unsigned columns = panels > 1 ? 2 : 1;
    begin(drawing, name, caption, (panels + columns - 1) / columns);
    fprintf(drawing->child.in, "set multiplot layout %u,%u\n", (panels + columns - 1) / columns,
            columns);
    for (unsigned i = 0; i < report->curve_count; i++) {
        if (is_latency(&report->curves[i]) == latency && is_first(report, i)) {
            write_curves(drawing->child.in, report, &report->curves[i]);
        }
    }
    fputs("unset multiplot\n", drawing->child.in);
}

bool plot_write(struct report *report, const char *directory)
{
    if (mkdir(directory, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "rethread-bench: %s: %s\n", directory, strerror(errno));
        return false;
    }
    struct drawing drawing = {.report = report, .directory = directory};
    unsigned plots = report->plot_count;
    if (start(&drawing.child)) {
        draw_ratios(&drawing);
        draw_rows(&drawing);
        draw_curves(&drawing, true, "latency", "Latency by percentile");
        draw_curves(&drawing, false, "over-time", "Memory and disk over time");
    }
    enum outcome outcome = finish(&drawing.child);
    if (outcome == DRAWN) {
        return true;
    }
    report_forget_plots(report, plots);
    if (outcome == ABSENT) {
        report_note(report, "gnuplot is not installed: no plots were drawn (apt-get install "
                            "gnuplot-nox).");
        return true;
    }
    fputs("rethread-bench: gnuplot did not draw the plots\n", stderr);
    return false;
}
