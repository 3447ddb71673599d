/*
 * How far an import is: a line on stderr while that is a terminal, and the summary at the end.
 */
#ifndef RETHREAD_CLI_PROGRESS_H
#define RETHREAD_CLI_PROGRESS_H

#include <stdbool.h>
#include <stdint.h>

struct progress {
    uint64_t added;   /* steps that the server took */
    uint64_t known;   /* steps that it had already, byte for byte */
    uint64_t refused; /* steps of threads that differ */
    uint64_t threads_refused;
    uint64_t bad; /* lines */
    uint64_t threads;
    uint64_t payload_bytes; /* of the steps added */

    bool on_terminal;
    bool shown;
    uint64_t started_ms;
    uint64_t shown_ms;
};

void progress_start(struct progress *progress);

/* At most ten times a second, unless it is now. */
void progress_show(struct progress *progress, bool now);

/* Takes the line away, before anything else is written to stderr. */
void progress_clear(struct progress *progress);

/* Ends the line, and prints what came of it to stdout. */
void progress_summary(struct progress *progress, bool json);

#endif
