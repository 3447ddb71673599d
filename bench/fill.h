/*
 * Fills a data directory through the server's own threads and store, in a process of its own,
 * faster than clients could.
 */
#ifndef RETHREAD_BENCH_FILL_H
#define RETHREAD_BENCH_FILL_H

#include "bench/protocol.h"

#include <stdbool.h>
#include <stdint.h>

struct fill {
    const char *bench; /* for the progress line and messages */
    const char *directory;
    const struct protocol_values *values;
    uint64_t memory_bytes;
    uint32_t begin; /* threads */
    uint32_t end;
    uint32_t steps;                                           /* of each thread, or */
    uint32_t (*steps_of)(const void *shape, uint32_t thread); /* unless NULL; shape: the values' */
    /* The last so many threads are appended when all before are in the tree; then comes SIGKILL.
     * 0: it is closed as it should be. */
    uint32_t tail;
};

/* False, after a message on stderr. */
bool fill_directory(const struct fill *fill);

#endif
