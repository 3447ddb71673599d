/*
 * The load generator: one operating-system thread, epoll, the same loop for every protocol. Every
 * reply is checked byte for byte as it comes in.
 *
 * Closed loop: each connection sends `in_flight` requests in one write, waits until all are
 * answered, and sends the next. Open loop (`rate`): requests are due at fixed times, whatever the
 * server does; latency counts from when a request was due, so that a stall is charged to all whom
 * it kept waiting (no coordinated omission).
 */
#ifndef RETHREAD_BENCH_LOAD_H
#define RETHREAD_BENCH_LOAD_H

#include "bench/hist.h"
#include "bench/protocol.h"
#include "bench/server.h"

enum { LOAD_ERROR_BYTES = 256 };

struct load;

struct load_shape {
    unsigned connections;
    unsigned in_flight;       /* on each connection, at most PROTOCOL_IN_FLIGHT_MAX */
    size_t request_bytes_max; /* the steps' bytes, without what the protocol adds */
    size_t reply_bytes_max;   /* likewise, of all steps of the longest thread */
    uint32_t steps_max;       /* of the longest thread: what the protocol adds is per step */
};

/* What this connection asks next; false: nothing more on this connection. */
typedef bool load_next_fn(void *context, unsigned connection, struct protocol_item *item);
/* Called for each request that was answered; must be quick. */
typedef void load_done_fn(void *context, unsigned connection, const struct protocol_item *item,
                          uint64_t latency_ns);
/* Called between the turns of a running load, about every watch_ms; must be quick. */
typedef void load_watch_fn(void *context, double seconds_since_start);

/* Ends after `count` requests or `seconds`, whichever is first, and when nothing more is asked. */
struct load_job {
    const struct protocol_values *values;
    load_next_fn *next;
    load_done_fn *done;   /* or NULL */
    void *context;        /* of both */
    uint64_t count;       /* 0: no limit */
    double seconds;       /* 0: no limit */
    double rate;          /* requests per second over all connections: open loop. 0: closed */
    struct hist *hist_ns; /* latencies are added here; NULL: not wanted */
    load_watch_fn *watch; /* or NULL */
    void *watch_context;
    uint32_t watch_ms;
};

struct load_result {
    uint64_t count; /* requests answered */
    double seconds;
    double requests_per_second;
    double server_cpu_ns; /* per request; 0 when the server's process is not known */
    char error[LOAD_ERROR_BYTES];
};

/* Connects. NULL, with a reason in `error`, when that fails. */
struct load *load_open(const struct protocol *protocol, const struct server *server,
                       const struct load_shape *shape, char error[LOAD_ERROR_BYTES]);
void load_close(struct load *load); /* NULL is allowed */

/*
 * False, with result->error set, after the first wrong reply or lost connection; then the load can
 * only be closed.
 */
bool load_run(struct load *load, const struct load_job *job, struct load_result *result);

/*
 * Likewise, while `other` runs a job of its own from the same loop (closed or open), until the
 * first job is done; then what `other` still waits for is awaited. Either's error is an error. CPU
 * time is not told apart, and so not told.
 */
bool load_run_beside(struct load *load, const struct load_job *job, struct load_result *result,
                     struct load *other, const struct load_job *other_job,
                     struct load_result *other_result);

/* ---- Sources for `next` that several workloads use ---------------------------------------------
 */

/* Each thread once, in order over all connections: append of step 0, or forget. */
struct load_each {
    enum protocol_op op;
    uint32_t thread; /* the next */
    uint32_t end;    /* behind the last */
};
load_next_fn load_each; /* context: struct load_each */

/* Replays of one-step threads, any of the first `threads`, at random. */
struct load_any {
    uint32_t threads;
    uint64_t state; /* any start; moves on */
};
load_next_fn load_any; /* context: struct load_any */

#endif
