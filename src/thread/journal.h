/*
 * The journal: what becomes of threads, told to the tier. Private to src/thread/.
 *
 * A thread is *kept* while it has a retention and there is a tier: then every change of it is
 * submitted under its claim, after it took effect in memory, so that the tier learns them in order.
 * Nothing here fails half-way: an operation asks journal_is_full before it begins, and what the
 * tier does not take, because it is read-only, leaves the thread *unsaved*: it stays in memory, and
 * the next change of it is whole.
 */
#ifndef RETHREAD_THREAD_JOURNAL_H
#define RETHREAD_THREAD_JOURNAL_H

#include "thread/spine.h"
#include "thread/tier.h"

static inline bool journal_keeps(const struct lane *lane, const struct thread *thread)
{
    /* Relaxed: it only ever goes to 0, under the claim. */
    return lane->tier &&
           atomic_load_explicit(&rest_of(thread)->retention_ms, memory_order_relaxed) > 0;
}

/* Whether neither it nor what goes on from it may ever reach the disk that is there. */
static inline bool journal_memory_only(const struct lane *lane, const struct thread *thread)
{
    return lane->tier && (thread_is_unborn(thread) ? thread->record.flags & THREAD_MEMORY_ONLY
                                                   : !journal_keeps(lane, thread));
}

static inline bool journal_is_full(const struct lane *lane)
{
    /* What takes no writes is not waited for: memory goes on without it. */
    return lane->tier && lane->tier->calls->is_full(lane->tier) &&
           !lane->tier->calls->is_read_only(lane->tier);
}

/* What an answer waits for. */
enum journal_wait { JOURNAL_NO_WAIT, JOURNAL_WAIT_DURABLE, JOURNAL_WAIT_APPLIED };

/*
 * Under the claim, or of a thread that nobody else can reach: the thread is now as it is;
 * positions from `from` on are new since the last change, what was there before is gone for
 * `reason`. `entry`: the recall entry this change added, or NULL. Returns the change when it was
 * taken, else NULL.
 */
struct tier_change *journal_put(struct lane *lane, struct thread *thread, uint32_t from,
                                enum reason reason, const struct recall_entry *entry,
                                enum journal_wait wait);

/*
 * Under the claim, or after the kill: nothing of the thread is to stay on disk. Tried again until
 * it is done. NULL: nothing was there.
 */
struct tier_change *journal_erase(struct lane *lane, struct thread *thread, enum reason reason,
                                  enum journal_wait wait);

/* The same of a thread that is not in memory. `marker` holds its name until it is done, so that
 * nobody loads it meanwhile; NULL: nobody would believe it anyway. The disk keeps the tombstone.
 * `asked_used_ms`: as in struct tier_change. */
struct tier_change *journal_erase_cold(struct lane *lane, const struct tier_head *head,
                                       enum reason reason, enum journal_wait wait,
                                       struct cold *marker, uint64_t asked_used_ms);

/* Whether the disk has all of it, so that memory may let it go. */
bool journal_is_saved(const struct thread *thread);

/* Within this time of a use that is worth telling the disk is told of it. */
uint64_t journal_tell_ms(const struct thread *thread);

/* Whether replays and touches left something to be told: the last use (to the millisecond, when
 * `exactly`), another ttl, a failed change. */
bool journal_has_news(const struct lane *lane, const struct thread *thread, bool exactly);

/*
 * From the sweep, without the claim: submits what replays and touches left to be told . True: there
 * is nothing to tell.
 */
bool journal_settle(struct lane *lane, struct thread *thread, bool exactly);

/* Hands out what the tier has to say, and submits again what failed. */
void journal_tend(struct lane *lane);

/* Before the lane closes: waits for all that is under way. False: it did not come to its end. */
bool journal_drain(struct lane *lane);

#endif
