/* The pictures that are made of a report's rows: a table of panels, and how each is drawn. */
#ifndef RETHREAD_BENCH_PLOT_ROWS_H
#define RETHREAD_BENCH_PLOT_ROWS_H

#include "bench/report.h"

#include <stdio.h>

enum { PLOT_PANELS_MAX = 4 };

enum plot_form { PLOT_BARS, PLOT_LINES };
enum plot_scale { PLOT_COUNTS, PLOT_SIZES, PLOT_SECONDS, PLOT_TEXT }; /* of x */

/* One bar or line for each system; x is a param of the rows, y their metric. */
struct plot_panel {
    const char *bench; /* NULL: there is no such panel */
    const char *metric;
    const char *params; /* as for report_distance */
    const char *x;
    enum plot_scale scale;
    enum plot_form form;
    const char *title;
    const char *x_label;
    const char *y_label;
    double factor; /* of y; 0: 1 */
};

struct plot_picture {
    const char *name;
    const char *caption;
    struct plot_panel panels[PLOT_PANELS_MAX];
};

extern const struct plot_picture plot_pictures[];
extern const unsigned plot_picture_count;

/* How many of its panels have anything to show. */
unsigned plot_count_panels(const struct plot_picture *picture, const struct report *report);
/* Those, as commands of gnuplot. */
void plot_write_panels(const struct plot_picture *picture, const struct report *report, FILE *out);

/* A system's own, or for another name the one of that number. */
const char *plot_colour(const char *name, unsigned number);

#endif
