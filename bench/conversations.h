/*
 * Conversations to play: how many turns each has and how many bytes of reasoning each turn leaves
 * (0 where the model did not think), from a workload's file, or from a built-in distribution that
 * was fitted to workload-claudecode-dev.
 *
 * The distribution: turns by quantiles; of conversations of similar length, the share of turns that
 * think by quantiles; bytes by quantiles, and a factor for each conversation. The same ones every
 * time. Where a workload's file says nothing of what it has, nothing is capped but a turn's bytes
 * (1 MiB, as everywhere that workload files are read).
 */
#ifndef RETHREAD_BENCH_CONVERSATIONS_H
#define RETHREAD_BENCH_CONVERSATIONS_H

#include <stdbool.h>
#include <stdint.h>

struct conversation {
    uint32_t first; /* its first turn's place in `bytes` */
    uint32_t turns;
};

struct conversations {
    uint32_t count;
    uint32_t turn_count; /* of all */
    struct conversation *all;
    uint32_t *bytes; /* of the steps, by conversation and turn */
    /* The greatest. */
    uint32_t turns_max;
    uint32_t step_bytes_max;
    uint64_t thread_bytes_max;
};

/* What they come to, to compare and to tell. */
struct conversations_summary {
    double turns;          /* of a conversation, on average */
    double thinking_share; /* of all turns */
    double step_bytes;     /* of a turn that thinks, on average */
    double replay_steps;   /* of a turn's whole replay, on average over all turns */
    double replay_bytes;   /* likewise */
    uint64_t replay_bytes_p90;
};

/* `file` NULL: the built-in distribution. False, after a message on stderr. */
bool conversations_open(struct conversations *conversations, const char *file);
void conversations_close(struct conversations *conversations);

bool conversations_sum(const struct conversations *conversations,
                       struct conversations_summary *summary); /* false: no memory */

/* For protocol_values: `shape` is a struct conversations, `thread` one of them. */
uint32_t conversations_size_of(const void *shape, uint32_t thread, uint32_t step);

/*
 * An order to play them in: mixed by `seed`, and the short ones last, so that those who play them
 * end together. `order` has `count` places.
 */
void conversations_order(const struct conversations *conversations, uint64_t seed, uint32_t *order);

#endif
