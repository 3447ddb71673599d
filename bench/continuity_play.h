/*
 * Plays conversations, turn by turn with their pauses, through the server's own threads and store
 * on a driven clock, and through a model of Redis.
 *
 * A turn first replays its thread, as a worker would, then leaves its trace if it thought. A
 * *follow-up* has a turn that thought before it; it is complete when every trace before it came
 * back byte for byte, judged by what was put in, never by what the reply says of itself.
 */
#ifndef RETHREAD_BENCH_CONTINUITY_PLAY_H
#define RETHREAD_BENCH_CONTINUITY_PLAY_H

#include "bench/trace.h"

#include <stdbool.h>
#include <stdint.h>

struct continuity_case {
    const struct trace *trace; /* after trace_think */
    uint64_t memory_bytes;
    uint64_t ttl_ms;
    uint64_t retention_ms;
    const char *directory; /* NULL: memory only */
    const char *label;     /* for the progress line */
};

struct continuity_counts {
    uint64_t follow_ups;
    uint64_t complete;
    uint64_t from_disk;
};

/* False, after a message on stderr: something failed that must not. */
bool continuity_play(const struct continuity_case *played, struct continuity_counts *counts);

/* The order of turns, by when they come; each thread's follow one another. */
struct continuity_turns {
    const struct trace *trace;
    size_t *begin;    /* of each thread's turns, and the end */
    size_t *next;     /* of each thread */
    uint64_t *due_ms; /* when that comes, from 0 */
};

bool continuity_turns_open(struct continuity_turns *turns, const struct trace *trace);
void continuity_turns_close(struct continuity_turns *turns);
/* The next turn and when it comes. False: there is none left. */
bool continuity_turns_next(struct continuity_turns *turns, size_t *turn, uint64_t *at_ms);

#endif
