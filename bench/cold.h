/*
 * How long a real server takes to replay a thread that is on disk alone, byte for byte:
 * conversations of some steps, each replayed once after a restart.
 */
#ifndef RETHREAD_BENCH_COLD_H
#define RETHREAD_BENCH_COLD_H

#include "bench/options.h"
#include "bench/report.h"

#include <stdbool.h>

/* Adds its rows and curves under "continuity". False, after a message on stderr. */
bool cold_measure(const struct options *options, struct report *report);

#endif
