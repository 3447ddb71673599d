/*
 * Compact threads: one plain step in one object. Private to src/thread/.
 *
 * They are what most of a cache full of short threads consists of, so every byte beside id and
 * payload counts, and so does every object that an append has to make. Replays, stat, list, touch,
 * forget, expiry and eviction take them as they are. Whatever else is asked of one first *unfolds*
 * it: an ordinary thread with a copy of the step takes its place. The dead life word of the compact
 * one leads to the ordinary one (life_moved_to), so that whoever comes by it in the meantime goes
 * on there, and nobody waits.
 */
#ifndef RETHREAD_THREAD_COMPACT_H
#define RETHREAD_THREAD_COMPACT_H

#include "thread/life.h"
#include "thread/lookup.h"

enum { COMPACT_PAYLOAD_BYTES_MAX = 4096 }; /* beyond it the bytes saved are not worth the copy */

/* Whether an append can be the only step of a compact thread. */
bool compact_suits(const struct lane *lane, const struct wire_request *request);

/* The thread with its step, not yet published. NULL: no memory (want is noted). */
struct thread *compact_create(struct lane *lane, const struct lookup_key *key,
                              const struct wire_request *request);

/* It left the index, or never came into it though others may have seen it. */
void compact_retire(struct lane *lane, struct thread *thread);

/*
 * What was found, if it is a compact thread, gives way to an ordinary one, and `found` is brought
 * up to date: the thread may have ended meanwhile. STATUS_AGAIN: not now.
 */
enum status compact_unfold(struct lane *lane, struct lookup *found);

/* As spine_snapshot, for who looks at steps: of a compact thread, a spine made in `alone`. */
struct snapshot compact_snapshot(const struct lane *lane, const struct thread *thread,
                                 struct alone *alone);

/* The epoch's callback for RETIRE_COMPACT. */
bool compact_reclaim(void *context, struct epoch_member *member, void *object);

#endif
