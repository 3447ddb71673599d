/*
 * The store: a disk tier in one directory. Composition of the room: log, tree, filter, the writer,
 * the filler, the pool; struct tier is its face towards the domain.
 *
 * Operating-system threads: the *writer* takes changes from its inbox, encodes them, writes batches
 * to the log (one fdatasync each) and delivers TIER_DURABLE; the *filler* brings groups from there
 * into the tree and delivers TIER_APPLIED, trims the log, looks for what is due; the *pool* loads.
 * The front (open, close) is the caller's.
 *
 * Directory: `lock` (held by flock while open), `tree.mdb`, `tree.mdb-lock`, `log-<number>`.
 *
 * States. OPEN: all well. FULL: no space or memory; read-only until a probe finds some, about every
 * second. FAILED: a write or flush failed, or the tree is broken; read-only until restart. Each
 * change of state is logged and raises the generation (thread/tier.h).
 */
#ifndef RETHREAD_STORE_STORE_H
#define RETHREAD_STORE_STORE_H

#include "thread/tier.h"

enum store_compression { STORE_COMPRESSION_NONE, STORE_COMPRESSION_ZSTD };

struct store_settings {
    const char *directory; /* made when it is not there (its parent must be) */
    uint64_t disk_bytes;
    uint64_t max_age_ms;
    uint64_t lag_max_bytes; /* submitted and not yet in the tree; beyond it submit says AGAIN */
    /* So much of the log is brought into the tree before the store opens; 0: what takes no time.
     * With more it opens at once, and what that bears upon is answered when it is in the tree. */
    uint64_t tail_at_once_bytes;
    uint32_t tombstones;
    unsigned pool; /* operating-system threads that load */
    enum store_compression compression;
    struct clock *wall;
    struct clock *clock; /* what the wall clock is watched by; NULL: the machine's monotonic one */
};

struct store;

/* What was wrong, as a sentence for the operator. */
struct store_refusal {
    char text[256];
};

/*
 * Takes the directory's lock, opens tree and log, fills the tree from the log (or begins to, see
 * tail_at_once_bytes), starts the threads.
 * NULL: refused, nothing was changed. Serves at once; the filter fills itself in the background.
 */
struct store *store_open(const struct store_settings *settings, struct store_refusal *refusal);

/* Writes out all that was submitted (unless the store failed), then stops. All ports are closed. */
void store_close(struct store *store);

struct tier *store_tier(struct store *store);
const uint8_t *store_secret(const struct store *store); /* 192 bytes, for threads_settings */

/* For tests and benchmarks on a driven clock: returns when everything submitted so far is in the
 * tree and what is due by now was asked for. */
void store_settle(struct store *store);

#endif
