/*
 * Tombstones: who is gone and why, in a bounded ring. Private to src/thread/.
 */
#ifndef RETHREAD_THREAD_GRAVEYARD_H
#define RETHREAD_THREAD_GRAVEYARD_H

#include "thread/lane.h"

bool graveyard_open(struct threads *threads); /* false: no memory */
void graveyard_close(struct threads *threads);

/*
 * Puts a tombstone where `record` is in the index (kind and hash are its own). Nothing happens when
 * the record is no longer there. `small`: as struct tombstone has it; `version`: a thread's, or the
 * fingerprint of a key's writer.
 */
void graveyard_bury(struct lane *lane, const struct index_record *record, uint64_t hash_high,
                    enum reason reason, uint16_t small, uint32_t version, uint32_t steps);

/* How far back never_seen can be vouched for. */
uint64_t graveyard_vouch_ms(const struct lane *lane);

uint64_t graveyard_count(const struct threads *threads);

#endif
