/*
 * A workload of conversations, read from a gzipped file of JSON lines: who thought, how much, and
 * after how long a pause.
 */
#ifndef RETHREAD_BENCH_TRACE_H
#define RETHREAD_BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_ID_BYTES = 64 };

struct trace_turn {
    uint32_t thread;         /* in order of first appearance, from 0 */
    uint32_t row;            /* of the file */
    uint32_t thinking_bytes; /* of the trace it leaves; 0: it did not think */
    uint64_t idle_before_ms; /* since the turn before it in its thread was done */
};

struct trace {
    struct trace_turn *turns; /* by thread, and those of a thread in order */
    size_t turn_count;
    uint32_t thread_count;
    char (*ids)[TRACE_ID_BYTES]; /* of the threads */
};

/* False, after a message on stderr: the file is not there or not of this kind. */
bool trace_read(struct trace *trace, const char *name);
void trace_free(struct trace *trace);

#endif
