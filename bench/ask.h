/*
 * Replays over one connection that waits, each judged by its bytes: for servers that have just been
 * started, whose replies come from disk or say that they are not ready yet.
 */
#ifndef RETHREAD_BENCH_ASK_H
#define RETHREAD_BENCH_ASK_H

#include "bench/protocol.h"
#include "bench/server.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ask {
    int fd;
    const struct protocol *protocol;
    size_t in_max;
    size_t in_size;
    uint8_t *in;
    uint8_t *out;
};

enum ask_answer {
    ASK_RIGHT, /* every byte */
    ASK_LATER, /* refused: it is still loading */
    ASK_WRONG,
    ASK_LOST, /* nothing came, or the connection ended */
};

/* `reply_bytes_max`: of all that is asked at once, as the protocol needs it. False: not connected.
 */
bool ask_open(struct ask *ask, const struct protocol *protocol, const struct server *server,
              size_t reply_bytes_max);
void ask_close(struct ask *ask); /* of a zeroed one as well */

/* All at once, at most PROTOCOL_IN_FLIGHT_MAX; the worst of their answers. */
enum ask_answer ask_replays(struct ask *ask, const struct protocol_values *values,
                            const struct protocol_item *items, unsigned count);

#endif
