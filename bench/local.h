/*
 * The server's own threads and store inside this process, with one lane: for workloads that drive
 * the clock, and to fill a data directory faster than clients could.
 */
#ifndef RETHREAD_BENCH_LOCAL_H
#define RETHREAD_BENCH_LOCAL_H

#include "base/clock.h"
#include "store/store.h"
#include "thread/operations.h"

#include <stdbool.h>
#include <stdint.h>

enum { LOCAL_TOMBSTONES = 65536 };

struct local_settings {
    const char *directory; /* NULL: memory only */
    uint64_t memory_bytes;
    uint64_t disk_bytes;
    uint64_t ttl_ms;
    uint64_t retention_ms;
    uint32_t tombstones;
    struct clock *clock;
    struct clock *wall;
};

struct local {
    struct store *store; /* NULL: memory only */
    struct threads *threads;
    struct lane *lane;
};

/* False, after a message on stderr; local_close is due either way. */
bool local_open(struct local *local, const struct local_settings *settings);
void local_close(struct local *local);

/* One turn of the loop that a server would have. */
void local_tend(struct local *local);

/* Everything submitted is in the tree, and everything due is swept. */
void local_settle(struct local *local);

/*
 * Whether what answered `status` is to be asked once more, having tended the lane. What it waits
 * for is the work of other operating-system threads, in real time.
 */
bool local_try_again(struct local *local, enum status status, unsigned *tries);

/* One payload as the thread's next step, asked for until it is no longer put back. */
enum status local_append(struct local *local, struct bytes thread, struct bytes payload,
                         struct thread_append_result *result);

#endif
