/*
 * The threads that an import has met, and what the server is known to have of each.
 */
#ifndef RETHREAD_CLI_ROSTER_H
#define RETHREAD_CLI_ROSTER_H

#include "rethread.h"

#include <stdbool.h>
#include <stdint.h>
#include <xxhash.h>

enum standing {
    STANDING_NEW,     /* nothing was sent */
    STANDING_ASKED,   /* its first step is under way: whether it exists is about to be known */
    STANDING_OPEN,    /* steps are added behind what the server has */
    STANDING_REFUSED, /* the server has something else: its later lines are refused too */
    STANDING_BROKEN,  /* a line of it was bad: its later lines are not whole */
};

struct known_thread {
    struct rethread_bytes id; /* its own copy */
    enum standing standing;
    uint64_t next;    /* the number of the next line's step */
    uint64_t users;   /* rows so far that came after a user message */
    uint64_t version; /* the server's, once all that was sent is committed */

    /* What the server had before: one digest per step; known_count 0 for a thread it had not. */
    XXH128_hash_t *known;
    uint64_t known_count;
};

struct roster {
    void *tree; /* by id */
    uint64_t count;
};

/* The thread of that id, new if it was not met before. */
struct known_thread *roster_find(struct roster *roster, struct rethread_bytes id);
void roster_free(struct roster *roster);

/* Kinds, sizes and bytes of a trace. */
XXH128_hash_t roster_digest(struct rethread_segments segments);

/*
 * Takes over what the server has of a thread. NULL, or why the import cannot build on it (static
 * text).
 */
const char *roster_learn(struct known_thread *thread, const struct rethread_replay_result *replay);

#endif
