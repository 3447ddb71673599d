/*
 * Thread records: made, put into the index, killed and buried. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_THREAD_H
#define RETHREAD_THREAD_THREAD_H

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
 * Has the sweep look at the thread when its present deadline has passed. For deadlines that moved
 * to an earlier time: later ones are found out by the sweep itself.
 */
void thread_retick(struct lane *lane, struct thread *thread);

/* After life_kill: takes the thread out of the index and lets its steps go. */
void thread_bury(struct lane *lane, struct thread *thread, enum reason reason);

/* Gives up one of a thread record's holds. */
void thread_let_go(struct epoch_member *member, struct thread *thread);

#endif
