/*
 * Thread records: made, put into the index, killed and buried. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_THREAD_H
#define RETHREAD_THREAD_THREAD_H

#include "thread/journal.h"
#include "thread/lookup.h"

/*
 * A record without a spine, claimed: it takes the claim with it into the index, so that nobody
 * comes between. NULL: no memory. thread_discard undoes it, its recall included.
 */
struct thread *thread_create(struct lane *lane, const struct lookup_key *key, uint64_t ttl_ms);
void thread_discard(struct lane *lane, struct thread *thread);

/* Puts it where `found` (nobody alive) was found. False: somebody else was first. */
bool thread_publish(struct lane *lane, const struct lookup *found, struct thread *thread);

/*
 * Instead of a spine with steps: one that says what is gone under the name. It is nothing but the
 * draft it gets before it is published, and lives as long as that. NULL: no memory.
 */
struct thread *thread_create_unborn(struct lane *lane, const struct lookup *gone);

/* What an unborn thread takes, but for its draft. */
uint64_t thread_unborn_bytes(struct bytes id);

/* When it was created, and so when it dies by its age. Before publication. */
void thread_set_age(const struct lane *lane, struct thread *thread, uint64_t created_ms);
uint64_t thread_created_ms(const struct lane *lane, const struct thread *thread);

/* The upper half of its name's hash. */
uint64_t thread_hash_high(const struct lane *lane, const struct thread *thread);

/* Lets go of a thread that was never published, but has steps that will be buried. */
void thread_abandon(struct lane *lane, struct thread *thread);

/*
 * Has the sweep look at the thread when its present deadline has passed. For deadlines that moved
 * to an earlier time: later ones are found out by the sweep itself.
 */
void thread_retick(struct lane *lane, struct thread *thread);

/* Ends it if it is overdue. True: it was, and nobody else did. */
bool thread_expire(struct lane *lane, struct thread *thread);

/* A thread took the place of this unborn one, which is claimed: it goes, with its draft. */
void thread_born(struct lane *lane, struct thread *unborn);

/* After life_kill: the thread is gone, from the disk as well. The change that an answer may have to
 * wait for, see journal_erase. */
struct tier_change *thread_end(struct lane *lane, struct thread *thread, enum reason reason,
                               enum journal_wait wait);

/* After life_kill or life_end (REASON_NONE: no tombstones): takes the thread out of the index
 * and lets its steps go. Of an unborn one, for whatever reason: what was there before is back. */
void thread_bury(struct lane *lane, struct thread *thread, enum reason reason);

/* Loaded, and not used since: a hint. */
static inline bool thread_is_from_disk(const struct thread *thread)
{
    /* Relaxed: a hint for who asks where it is. */
    return !thread_is_compact(thread) &&
           atomic_load_explicit(&rest_of(thread)->from_disk, memory_order_relaxed);
}

/* It was used by a client: it no longer is what the disk had. */
static inline void thread_used(struct thread *thread)
{
    if (thread_is_from_disk(thread)) {
        /* Relaxed: only `source` and `tier` hang on it. */
        atomic_store_explicit(&rest_of(thread)->from_disk, 0, memory_order_relaxed);
    }
}

/* Gives up one of a thread record's holds. */
void thread_let_go(struct epoch_member *member, struct thread *thread);

#endif
