/* The command line; options.def has a line for each option. */
#ifndef RETHREAD_BENCH_OPTIONS_H
#define RETHREAD_BENCH_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#define OPTIONS_TYPE_FLAG  bool
#define OPTIONS_TYPE_COUNT uint64_t
#define OPTIONS_TYPE_SIZE  uint64_t
#define OPTIONS_TYPE_TEXT  const char *

struct options {
    const char *workload;
#define OPTION(member, kind, name, value, help) OPTIONS_TYPE_##kind member;
#include "bench/options.def"
#undef OPTION
};

/* False, after a message on stderr, when the line is wrong. Strings point into argv. */
bool options_parse(struct options *options, int argc, char **argv);

/* All workloads are wanted. With --quick that is the short pass behind `make bench`, which measures
 * a little more than each workload's own quick run has time for. */
bool options_is_all(const struct options *options);
bool options_is_pass(const struct options *options);

void options_explain(FILE *out);

#endif
