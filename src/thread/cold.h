/*
 * What is not in memory but may be on disk: asking the tier, and what came of it. Private to
 * src/thread/.
 *
 * A name that the index does not know and the disk may know gets a *cold record* in the index,
 * which says that it is being loaded: exactly one lane asks, the others find the record and are put
 * back until its answer has taken its place. Whoever ends a thread that is not in memory (its
 * retention is over) holds its name by such a record too. So all that happens to a name is decided
 * in the index, whether it is in memory or not. Without a tier there are no cold records.
 */
#ifndef RETHREAD_THREAD_COLD_H
#define RETHREAD_THREAD_COLD_H

#include "thread/lookup.h"

/* Asks the disk for the name, which the index does not have. False: the disk cannot know it. */
bool cold_ask(struct lane *lane, const struct lookup_key *key);

/*
 * The record of a step key: a step's, a tombstone, a cold answer, or NULL: nobody knows it. True in
 * *loading: the disk is being asked; come again.
 */
struct index_record *cold_find_key(struct lane *lane, const struct lookup_key *key, bool *loading);

/*
 * Whether it is known where the keys of a step that `writer` (the name of a thread) is about to
 * commit lead so far; asks for all that are not. Marks those that the disk knows to be another's.
 */
bool cold_know_keys(struct lane *lane, struct step *step, struct index_hash writer);

/* Whether a writer of the key, found as `cold`, shares it with another thread. */
bool cold_is_shared(const struct cold *cold, struct index_hash writer);

/* Who replaced or removed an answer retires it. A loading one is its load's, which comes for it. */
void cold_retire(struct lane *lane, struct cold *cold);

static inline enum cold_state cold_state(const struct cold *cold)
{
    return (enum cold_state)cold->record.flags;
}

/*
 * Names whose erasure is under way, counted by a few of their bits: until it is done the disk may
 * still answer with the thread, and must not be believed; nor what was asked before it was done.
 */
void cold_erasing_begins(struct threads *threads, struct index_hash name);
void cold_erasing_ends(struct threads *threads, struct index_hash name);

/* By which the disk knows what was found corrupt, or is under an unborn thread; 0: not known. */
uint64_t cold_corrupt_uid(const struct lookup *corrupt);

/* Has the disk forget a thread of which it can give nothing back. NULL: that cannot be done now. */
struct tier_change *cold_forget(struct lane *lane, const struct lookup *corrupt);

/* Such a thread was started afresh under its name: what the disk has of the old one goes. */
void cold_replaced(struct lane *lane, const struct lookup *corrupt);

/* Events of the tier. */
void cold_loaded(struct lane *lane, struct tier_load *load);
void cold_due(struct lane *lane, struct tier_due *due);

#endif
