/*
 * The life word: one 64-bit atomic per thread that decides between use, claim and removal.
 *
 *   bit 63 dead (then bits 0..7 are the reason), bit 62 claimed, bit 61 claimed for upkeep only,
 *   bits 48..60 stamp, bits 0..47 deadline in ms.
 *   dead and bit 61: it moved; bits 0..31 are the arena ref of the thread in its place.
 *
 * The deadline is the last use plus what the thread is *kept* for: its retention, or without one
 * its ttl. While a step is streamed into it the thread lives at least until the streamer's claim
 * ends (streams_until_ms, which changes under the claim of the word only, and each time with the
 * stamp: so the word that a kill replaces vouches for it as well). Besides, a thread dies by its
 * age at a time that never changes. A reset to another ttl moves the stamp, too.
 *
 * 1. A refresh is a compare-and-swap to the later deadline: it succeeds only on a word that is not
 *    dead, so a refresh that was answered is never followed by a removal before that deadline.
 * 2. A claim is taken only on a word that is neither dead, claimed nor overdue; while it is held
 *    nobody else claims or kills. What is done under it happens before the next claim.
 * 3. A kill for being overdue succeeds only on an unclaimed word whose deadline has passed: the
 *    word it replaces is the word it judged.
 * 4. A demotion (the thread stays on disk, no reason) is done under the claim, so that no change of
 *    the thread comes between, and only on the word that was judged.
 * All are lock-free; a failed compare-and-swap means that another operation took effect.
 */
#ifndef RETHREAD_THREAD_LIFE_H
#define RETHREAD_THREAD_LIFE_H

#include "thread/records.h"

#define LIFE_DEAD      (UINT64_C(1) << 63)
#define LIFE_CLAIM     (UINT64_C(1) << 62)
#define LIFE_UPKEEP    (UINT64_C(1) << 61)
#define LIFE_STAMP_ONE (UINT64_C(1) << 48)
#define LIFE_STAMP     (LIFE_UPKEEP - LIFE_STAMP_ONE)
#define LIFE_DEADLINE  (LIFE_STAMP_ONE - 1)

enum life { LIFE_ALIVE, LIFE_OVERDUE, LIFE_CLAIMED, LIFE_GONE };

static inline uint64_t life_load(const struct thread *thread)
{
    /* Pairs with the releases below: who sees a word sees what its writer did before. */
    return atomic_load_explicit(&thread->life, memory_order_acquire);
}

static inline bool life_swap(struct thread *thread, uint64_t *word, uint64_t fresh)
{
    /* Acquire pairs with the word's last writer, release with every later load or swap of it. */
    return atomic_compare_exchange_weak_explicit(&thread->life, word, fresh, memory_order_acq_rel,
                                                 memory_order_acquire);
}

/* How long a use keeps the thread. */
static inline uint64_t life_keep_ms(const struct thread *thread)
{
    /* Relaxed, both: ordered by the word, whose reset follows the store of new ones. */
    uint64_t retention_ms =
        thread_is_compact(thread)
            ? 0
            : atomic_load_explicit(&rest_of(thread)->retention_ms, memory_order_relaxed);
    return retention_ms ? retention_ms
                        : atomic_load_explicit(&thread->ttl_ms, memory_order_relaxed);
}

/* When the claim on the step that is being streamed ends; 0: none is. */
static inline uint64_t life_streams_until_ms(const struct thread *thread)
{
    /* Pairs with the release in life_stream. */
    return thread_is_compact(thread)
               ? 0
               : atomic_load_explicit(&rest_of(thread)->streams_until_ms, memory_order_acquire);
}

/* When it is gone if it is not used again. */
static inline uint64_t life_end_ms(const struct thread *thread, uint64_t word)
{
    uint64_t deadline_ms = word & LIFE_DEADLINE;
    uint64_t until_ms = life_streams_until_ms(thread);
    deadline_ms = until_ms > deadline_ms ? until_ms : deadline_ms;
    uint64_t dies_ms = thread_dies_ms(thread);
    return deadline_ms < dies_ms ? deadline_ms : dies_ms;
}

/* How long it is there at the least, unless it is ended on purpose. The end of a stream is a use,
 * and may come at once. */
static inline uint64_t life_remaining_ms(const struct thread *thread, uint64_t word,
                                         uint64_t now_ms)
{
    uint64_t end_ms = life_end_ms(thread, word);
    uint64_t sure_ms = word & LIFE_DEADLINE;
    uint64_t used_ms = now_ms + life_keep_ms(thread);
    sure_ms = used_ms > sure_ms ? used_ms : sure_ms;
    end_ms = sure_ms < end_ms ? sure_ms : end_ms;
    return end_ms > now_ms ? end_ms - now_ms : 0;
}

static inline uint64_t life_used_ms(const struct thread *thread, uint64_t word)
{
    uint64_t keep_ms = life_keep_ms(thread);
    return (word & LIFE_DEADLINE) > keep_ms ? (word & LIFE_DEADLINE) - keep_ms : 0;
}

/* The word of a compact thread that was unfolded. */
static inline uint64_t life_moved(uint32_t to)
{
    return LIFE_DEAD | LIFE_UPKEEP | to;
}

/* The arena ref of what it was unfolded to; 0: it was not. Who has read the word with acquire sees
 * all of that thread. */
static inline uint32_t life_moved_to(uint64_t word)
{
    uint64_t moved = LIFE_DEAD | LIFE_UPKEEP;
    return (word & moved) == moved ? (uint32_t)word : 0;
}

static inline bool life_is_demoted(uint64_t word)
{
    return word == LIFE_DEAD;
}

/* REASON_NONE: it was demoted. */
static inline enum reason life_reason(uint64_t word)
{
    return (enum reason)(word & 0xff);
}

/*
 * CLAIMED here: overdue, but an append is at work on it; its outcome is not known yet. `word` was
 * read from the thread.
 */
static inline enum life life_judge(const struct thread *thread, uint64_t word, uint64_t now_ms)
{
    for (;;) {
        if (word & LIFE_DEAD) {
            return LIFE_GONE;
        }
        if (life_end_ms(thread, word) > now_ms) {
            return LIFE_ALIVE;
        }
        /* A stream that ended after the word was read, and no longer counts, was a use: the word
         * with that use is there by now. */
        uint64_t again = life_load(thread);
        if (again == word) {
            return word & LIFE_CLAIM ? LIFE_CLAIMED : LIFE_OVERDUE;
        }
        word = again;
    }
}

/*
 * What a use does to the deadline: nothing, move it to now + the thread's ttl but never back, or
 * move it there exactly. Who sets another ttl stores it first and then resets, which always changes
 * the word: whoever read the old ttl has also read the word before the reset, so its swap fails and
 * it reads both again.
 */
enum life_use { LIFE_KEEP, LIFE_EXTEND, LIFE_RESET };

/*
 * A claim that another loop holds stays. Returns what the word was judged to be; only ALIVE was
 * refreshed.
 */
enum life life_refresh(struct thread *thread, uint64_t now_ms, enum life_use use);

/* Takes the claim. ALIVE: it is ours. CLAIMED: another's. */
enum life life_claim(struct thread *thread, uint64_t now_ms);

/* The same for who will not change what the thread holds: nobody's expectations are at stake. */
enum life life_claim_for_upkeep(struct thread *thread, uint64_t now_ms);

/* Whether a claim that was in the way is, still, of one that may change the thread. */
static inline bool life_is_changing(const struct thread *thread)
{
    return (life_load(thread) & (LIFE_CLAIM | LIFE_UPKEEP)) == LIFE_CLAIM;
}

/* Gives the claim back. */
void life_release(struct thread *thread, uint64_t now_ms, enum life_use use);

/* Sets or, with 0, takes back the end of the streamer's claim. Under the claim of the word; who
 * takes it back has entered the use before. */
void life_stream(struct thread *thread, uint64_t until_ms);

/* Kills an overdue or, with `now_ms` = UINT64_MAX, any unclaimed thread. True: ours to bury. */
bool life_kill(struct thread *thread, uint64_t now_ms, enum reason reason);

/* Kills an unclaimed thread, overdue or not, unless a step is being streamed into it. */
bool life_evict(struct thread *thread, uint64_t now_ms);

/* Why an overdue thread is gone. */
enum reason life_end_reason(const struct thread *thread, uint64_t now_ms);

/* The claim, and the thread, end, if its word is still `word`; with REASON_NONE it was demoted. */
bool life_end(struct thread *thread, uint64_t word, enum reason reason);

#endif
