/*
 * The two servers of a comparison: rethread and its peer, started or attached to as the options
 * say. Started ones run on core 0, the generator on core 1 (where there are two).
 */
#ifndef RETHREAD_BENCH_SIDES_H
#define RETHREAD_BENCH_SIDES_H

#include "bench/options.h"
#include "bench/protocol.h"
#include "bench/report.h"
#include "bench/server.h"

#include <limits.h>

struct side {
    const struct protocol *protocol; /* NULL: there is no such side */
    struct server server;
};

struct sides {
    struct side ours;
    struct side theirs;
};

/* False, after a message on stderr. A peer that is not installed is left out, and noted. */
bool sides_open(struct sides *sides, const struct options *options, struct report *report);
void sides_close(struct sides *sides);

/* rethread-server beside this program. False: there is none. */
bool sides_find_program(char path[PATH_MAX]);

#endif
