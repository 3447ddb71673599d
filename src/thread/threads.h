/*
 * The domain: all threads of the server, and the lanes through which loops reach them.
 *
 * A struct threads is shared by all loops. Each loop has one *lane*: its epoch membership, its
 * cache of the arena, its counters, its share of the sweep. A lane is used by one operating-system
 * thread at a time; nothing in it is locked.
 *
 * Every operation (thread/operations.h) is called with the lane online and may hand out pointers
 * into shared records; these stay valid until the lane goes offline, unless pinned (step_pin).
 *
 * Progress. No operation waits for another: what is claimed by another loop at this moment makes
 * an operation return STATUS_AGAIN or a conflict.
 */
#ifndef RETHREAD_THREAD_THREADS_H
#define RETHREAD_THREAD_THREADS_H

#include "base/clock.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct threads;
struct lane;
struct tier;
struct profiles;

struct threads_settings {
    uint64_t memory_bytes;           /* budget for payloads and overhead together */
    uint64_t ttl_ms;                 /* of threads that name none, as is the next */
    uint64_t retention_ms;           /* with a tier; 0: memory only, for good */
    uint64_t max_age_ms;             /* 0: no limit */
    uint64_t frame_max_bytes;        /* a replay never selects more than fits into one frame */
    uint64_t claim_timeout_ms;       /* of a streamed step, after its last chunk; 0: a minute */
    const struct profiles *profiles; /* borrowed; NULL: the built-in ones */
    uint32_t tombstones;             /* how many gone threads and keys are remembered */
    unsigned lanes_max;
    struct clock *clock;
    struct tier *tier;          /* thread/tier.h; NULL: memory only */
    struct clock *wall;         /* with a tier: its time */
    const uint8_t *hash_secret; /* of the index, 192 bytes, the tier's; NULL: a random one */
    /* Called from any operating-system thread when the lane of that share should be tended soon,
     * because the tier has news for it. Only with a tier; NULL: lanes are tended often enough. */
    void (*wake)(void *context, unsigned share);
    void *wake_context;
};

struct threads *threads_create(const struct threads_settings *settings); /* NULL: no memory */
void threads_destroy(struct threads *threads); /* after its lanes closed */

/* The sweep is shared out: this lane sweeps share `share` of `shares`. NULL beyond lanes_max. */
struct lane *lane_open(struct threads *threads, unsigned share, unsigned shares);

/*
 * Waits for what the tier has of the lane's. False: it did not answer for too long and has it
 * still, so that neither the lane nor the threads nor the tier may be taken apart: end the process.
 */
bool lane_close(struct lane *lane);

/* Around epoll_wait: pointers handed out earlier are void after lane_offline. */
void lane_online(struct lane *lane);
void lane_offline(struct lane *lane);

/*
 * The lane's time, read once and used by all operations until the next call: call it when the loop
 * wakes and before each connection's turn.
 */
uint64_t lane_read_clock(struct lane *lane);

/*
 * A bounded share of the upkeep: sweeps for overdue threads (a whole pass about every second),
 * evicts near the budget, buries what died, reclaims memory. Call it on every iteration and at
 * least every 50 ms. Returns true when work is left that should not wait for the next event.
 */
bool lane_tend(struct lane *lane);

/*
 * When the process is about to end, before lane_close: tells the disk the last uses of the threads
 * in this lane's share, which it would otherwise take to be older than they are. Offline.
 */
void lane_settle(struct lane *lane);

/*
 * Roughly how many steps this lane's operations have gone through since it was last tended: a
 * caller that runs many requests ends its turn when they add up.
 */
uint64_t lane_work(const struct lane *lane);

/* Tends until nothing overdue is left in this lane's share and nothing waits for burial. */
void lane_tend_fully(struct lane *lane);

/*
 * An answer that waits for the disk. An operation whose result has a `pending` change took effect
 * in memory; its answer is due when `done` is called, once, from lane_tend or lane_close, with
 * STATUS_OK or, when the disk did not take it, STATUS_READ_ONLY. lane_await follows the operation
 * at once; `wait` is the caller's and stays where it is until then.
 */
struct lane_wait {
    void (*done)(struct lane_wait *wait, enum status status);
};

struct tier_change;
void lane_await(struct lane *lane, struct tier_change *pending, struct lane_wait *wait);

/* Changes on their way to the disk and loads from it that this lane waits for. */
uint64_t lane_waits(const struct lane *lane);

/* Buffers held elsewhere on behalf of clients count against the budget (negative gives back). */
void lane_charge(struct lane *lane, int64_t bytes);

enum metric {
#define METRIC(section, name, section_text, name_text, type, unit, summary) METRIC_##name,
#include "schema/metrics.def"
#undef METRIC
    METRIC_COUNT
};

/* Adds to one of this lane's COUNTERs. */
void lane_count(struct lane *lane, enum metric metric, uint64_t by);

/* Sums the counters of all lanes and computes the gauges this room knows; the others stay 0. */
void threads_metrics(struct lane *lane, uint64_t values[METRIC_COUNT]);

#endif
