/*
 * What a server says of itself, and what the system says of it: asked beside a load, over a
 * connection of its own, so that it disturbs neither the load nor its replies.
 *
 * A gauge belongs to one operating-system thread. Each question is answered before the next.
 */
#ifndef RETHREAD_BENCH_GAUGE_H
#define RETHREAD_BENCH_GAUGE_H

#include "bench/server.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { GAUGE_REPLY_BYTES_MAX = 16 * 1024, GAUGE_ERROR_BYTES = 160 };
#define GAUGE_BROKEN SIZE_MAX

enum gauge_kind { GAUGE_RETHREAD, GAUGE_REDIS, GAUGE_MEMCACHED };

/* What a kind of server does not tell is 0. */
struct gauge_reading {
    uint64_t keys;             /* threads, keys, items that are in memory, overdue ones included */
    uint64_t held_bytes;       /* rethread: of payloads not yet freed; memcached: of items */
    uint64_t accounted_bytes;  /* all memory that the server says it uses */
    uint64_t stock_bytes;      /* and that it keeps beside that, free; rethread */
    uint64_t disk_batches;     /* of rethread's log, each with one flush */
    uint64_t disk_changes;     /* in these batches */
    uint64_t disk_batch_bytes; /* of a batch, a moving mean */
    uint64_t disk_flush_us;    /* of a write and its flush, a moving mean */
    uint64_t disk_lag_bytes;   /* taken, and not yet in the tree */
};

struct gauge {
    enum gauge_kind kind;
    int fd; /* non-blocking */
    bool asked;
    size_t size;
    char error[GAUGE_ERROR_BYTES];
    uint8_t in[GAUGE_REPLY_BYTES_MAX];
};

/* The peer's name as rows call it: "rethread", "redis", "memcached". */
enum gauge_kind gauge_kind_of(const char *name);

/* These return false with gauge->error set when it does not work. */
bool gauge_open(struct gauge *gauge, enum gauge_kind kind, const struct server *server);
void gauge_close(struct gauge *gauge); /* of a zeroed or failed one as well */

/* Asks and waits, at most some seconds. */
bool gauge_read(struct gauge *gauge, struct gauge_reading *reading);

/*
 * Without waiting: asks when nothing was asked, else takes the answer if it is there (*taken). The
 * reading is of some time between the two calls.
 */
bool gauge_poll(struct gauge *gauge, struct gauge_reading *reading, bool *taken);

/*
 * Reads the answer that `in` begins with: its length, 0 when it is not whole, GAUGE_BROKEN when it
 * is not one. What the server does not tell stays 0.
 */
size_t gauge_parse(enum gauge_kind kind, const uint8_t *in, size_t size,
                   struct gauge_reading *reading);

/* The process's resident memory; 0 when it is not known. */
uint64_t gauge_resident_bytes(const struct server *server);

#endif
