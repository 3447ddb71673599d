/*
 * The load generator: one operating-system thread, epoll, the same loop for every protocol.
 *
 * Closed loop in batches: each connection sends `in_flight` requests in one write, waits until all
 * are answered, and sends the next. Every reply is checked byte for byte as it comes in.
 */
#ifndef RETHREAD_BENCH_LOAD_H
#define RETHREAD_BENCH_LOAD_H

#include "bench/protocol.h"
#include "bench/server.h"

enum { LOAD_ERROR_BYTES = 256 };

struct load;

struct load_job {
    const struct protocol_values *values;
    enum protocol_op op;
    uint64_t count;     /* requests */
    uint64_t key_count; /* append and forget take each key once, in order; replay any, at random */
};

struct load_result {
    double seconds;
    double requests_per_second;
    double server_cpu_ns; /* per request; 0 when the server's process is not known */
    char error[LOAD_ERROR_BYTES];
};

/* Connects; values may be up to value_bytes. NULL, with a reason in `error`, when that fails. */
struct load *load_open(const struct protocol *protocol, const struct server *server,
                       unsigned connections, unsigned in_flight, size_t value_bytes,
                       char error[LOAD_ERROR_BYTES]);
void load_close(struct load *load); /* NULL is allowed */

/* False, with result->error set, after the first wrong reply or lost connection. */
bool load_run(struct load *load, const struct load_job *job, struct load_result *result);

#endif
