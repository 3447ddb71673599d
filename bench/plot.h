/*
 * Draws a report as SVG pictures through gnuplot: ratios beside their targets, cost and throughput
 * of kv, latency curves, continuity, cost by number of threads, and what changed over time. A
 * picture for which nothing was measured is not made.
 */
#ifndef RETHREAD_BENCH_PLOT_H
#define RETHREAD_BENCH_PLOT_H

#include "bench/report.h"

#include <stdbool.h>

/*
 * Makes `directory` if it is not there, and the pictures in it; the report gets their names.
 * Without gnuplot a note says so, and that is no failure. False, after a message on stderr: nothing
 * can be written there, or gnuplot refused. SIGPIPE must be ignored: it comes from a gnuplot that
 * is not there.
 */
bool plot_write(struct report *report, const char *directory);

#endif
