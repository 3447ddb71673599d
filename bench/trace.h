/*
 * A workload of conversations: who thought, how much, and after how long a pause. Read from a
 * gzipped file of JSON lines, one for each turn, or made up.
 *
 * A row has `thread` and its output as `out_tokens` or `out_bytes`; then either `thinking` (whether
 * it leaves a trace) and `idle_before` (seconds since the turn before it in its thread was done, or
 * null), or `t` (seconds since the start), and then every turn thinks.
 */
#ifndef RETHREAD_BENCH_TRACE_H
#define RETHREAD_BENCH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { TRACE_ID_BYTES = 64, TRACE_TURN_BYTES_MAX = 1 << 20 };

struct trace_turn {
    uint32_t thread;         /* in order of first appearance, from 0 */
    uint32_t row;            /* of the file */
    uint32_t thinking_bytes; /* of the trace it leaves; 0: it did not think */
    uint64_t idle_before_ms; /* since the turn before it in its thread was done, or the start */
};

struct trace {
    struct trace_turn *turns; /* by thread, and those of a thread in order */
    size_t turn_count;
    uint32_t thread_count;
    bool is_timed;               /* rows say `t` */
    char (*ids)[TRACE_ID_BYTES]; /* of the threads */
    uint8_t *text;               /* what was thought, turn by turn; NULL before trace_think */
    uint64_t *text_at;           /* of each turn, and the end */
};

/* False, after a message on stderr: the file is not there or not of this kind. */
bool trace_read(struct trace *trace, const char *name);

/*
 * Conversations like those of coding agents: how many turns, how long the pauses, how much is
 * thought follows what was measured of real ones. The same each time.
 */
bool trace_make(struct trace *trace);

/* Makes the text of every turn: words, which compress about as reasoning does. */
bool trace_think(struct trace *trace);

void trace_free(struct trace *trace);

#endif
