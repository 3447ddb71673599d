/*
 * A draft: the bytes of a step that is being streamed, as they come. Private to src/thread/.
 *
 * A chain of blocks of the arena: what came is copied once when it comes and once more when the
 * step is committed, and never moved in between. It belongs to its thread, and is touched only
 * under the thread's claim, or by who killed the thread; so it is freed at once, without a grace.
 *
 * All drafts together may take a quarter of the memory budget: nothing of them can be evicted.
 */
#ifndef RETHREAD_THREAD_DRAFT_H
#define RETHREAD_THREAD_DRAFT_H

#include "thread/lane.h"
#include "wire/request.h"

struct draft {
    uint64_t claim; /* who names it may go on with the step */
    uint64_t payload_bytes;
    uint64_t charged_bytes; /* of the quarter */
    bool afresh;            /* what is gone under the name is not to be gone on with */
    enum wire_kind kind;
    uint32_t first; /* arena refs of its blocks; 0: none */
    uint32_t last;
};

/* What all drafts together may take. */
static inline uint64_t draft_limit_bytes(const struct threads *threads)
{
    return threads->settings.memory_bytes / 4;
}

/*
 * An empty draft. `beside_bytes`: what exists for its sake only, and counts with it. STATUS_AGAIN:
 * no memory (want is noted). STATUS_OVER_BUDGET, with the error: drafts take all they may.
 */
enum status draft_create(struct lane *lane, uint64_t claim, enum wire_kind kind,
                         uint64_t beside_bytes, struct draft **draft, struct wire_error *error);
void draft_free(struct lane *lane, struct draft *draft); /* NULL is fine */

/* Adds the payloads, all or, with a status as above, none. */
enum status draft_add(struct lane *lane, struct draft *draft, const struct bytes *payloads,
                      unsigned count, struct wire_error *error);

/* Copies its payload_bytes out, in order. */
void draft_read(const struct lane *lane, const struct draft *draft, uint8_t *to);

#endif
