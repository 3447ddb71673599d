/*
 * The servers of a comparison: rethread first, then its peers, started or attached to as the
 * options say. Started ones run on core 0, the generator on core 1 (where there are two); with two
 * loops the servers have both cores.
 */
#ifndef RETHREAD_BENCH_SIDES_H
#define RETHREAD_BENCH_SIDES_H

#include "bench/options.h"
#include "bench/protocol.h"
#include "bench/report.h"
#include "bench/server.h"

#include <limits.h>

enum { SIDES_MAX = 3, SIDES_WORDS_MAX = 8 };

enum sides_peers { SIDES_REDIS = 1, SIDES_MEMCACHED = 2, SIDES_REDIS_LISTS = 4 /* instead */ };

/* What a workload wants started; where a member is 0, the common setting holds. */
struct sides_wanted {
    unsigned peers;        /* of enum sides_peers; left out (and noted) where not installed */
    const char *data;      /* rethread's folder (--data DIR); NULL: none */
    const char *peer_data; /* Redis's folder: appendonly yes, appendfsync always; NULL: none */
    unsigned loops; /* rethread's --loops, memcached's -t; Redis: io-threads; 0: --loops, or 1 */
    const char *memory;                /* rethread's --memory and memcached's -m; 0: 4G */
    uint32_t ttl_s;                    /* of rethread's default; 0: 300 */
    const char *more[SIDES_WORDS_MAX]; /* further words for rethread-server */
};

struct side {
    const char *name; /* "rethread", "redis", "memcached" */
    const struct protocol *protocol;
    struct server server;
};

struct sides {
    unsigned count; /* side[0] is rethread */
    unsigned core;  /* that servers are started on; PRECEDENCE_ANY_CORE */
    struct side side[SIDES_MAX];
};

/* False, after a message on stderr. */
bool sides_open(struct sides *sides, const struct options *options, struct report *report,
                const struct sides_wanted *wanted);
void sides_close(struct sides *sides);

/* Who goes when in a round: A B C, C B A, A B C … `at` counts from 0. */
static inline unsigned sides_turn(const struct sides *sides, unsigned round, unsigned at)
{
    return round % 2 == 0 ? at : sides->count - 1 - at;
}

/* rethread-server beside this program. False: there is none. */
bool sides_find_program(char path[PATH_MAX]);

#endif
