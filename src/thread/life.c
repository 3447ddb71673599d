/* The life word's transitions. */
#include "thread/life.h"

#include <assert.h>

/* The deadline after a use. `word` was read before, with acquire: see enum life_use. */
static uint64_t next_deadline(const struct thread *thread, uint64_t word, uint64_t now_ms,
                              enum life_use use)
{
    uint64_t old_ms = word & LIFE_DEADLINE;
    if (use == LIFE_KEEP) {
        return old_ms;
    }
    uint64_t keep_ms = life_keep_ms(thread);
    assert(keep_ms > 0 && now_ms + keep_ms <= LIFE_DEADLINE);
    return use == LIFE_RESET || now_ms + keep_ms > old_ms ? now_ms + keep_ms : old_ms;
}

/*
 * The word after a use, but for claims. A reset changes it even where the deadline stays what it
 * was: whoever read the ttl that was in force before has read this word before that, and its swap
 * of the word has to fail (another use's, an unfolding's). The stamp comes round after 8,191 resets
 * within the time of one load and swap, and then only at the very same deadline.
 */
static uint64_t used_word(const struct thread *thread, uint64_t word, uint64_t now_ms,
                          enum life_use use)
{
    uint64_t stamp = (use == LIFE_RESET ? word + LIFE_STAMP_ONE : word) & LIFE_STAMP;
    return stamp | next_deadline(thread, word, now_ms, use);
}

enum life life_refresh(struct thread *thread, uint64_t now_ms, enum life_use use)
{
    uint64_t word = life_load(thread);
    for (;;) {
        enum life life = life_judge(thread, word, now_ms);
        if (life != LIFE_ALIVE) {
            return life;
        }
        uint64_t fresh = used_word(thread, word, now_ms, use) | (word & (LIFE_CLAIM | LIFE_UPKEEP));
        /* The same tick again: nothing to write, so a hot thread's line stays shared. */
        if (fresh == word || life_swap(thread, &word, fresh)) {
            return LIFE_ALIVE;
        }
    }
}

static enum life claim(struct thread *thread, uint64_t now_ms, uint64_t how)
{
    uint64_t word = life_load(thread);
    for (;;) {
        if (word & LIFE_DEAD) {
            return LIFE_GONE;
        }
        if (word & LIFE_CLAIM) {
            return LIFE_CLAIMED;
        }
        if (life_judge(thread, word, now_ms) == LIFE_OVERDUE) {
            return LIFE_OVERDUE;
        }
        if (life_swap(thread, &word, word | how)) {
            return LIFE_ALIVE;
        }
    }
}

enum life life_claim(struct thread *thread, uint64_t now_ms)
{
    return claim(thread, now_ms, LIFE_CLAIM);
}

enum life life_claim_for_upkeep(struct thread *thread, uint64_t now_ms)
{
    return claim(thread, now_ms, LIFE_CLAIM | LIFE_UPKEEP);
}

void life_release(struct thread *thread, uint64_t now_ms, enum life_use use)
{
    uint64_t word = life_load(thread);
    uint64_t fresh;
    do {
        assert((word & LIFE_CLAIM) && !(word & LIFE_DEAD));
        fresh = used_word(thread, word, now_ms, use);
    } while (!life_swap(thread, &word, fresh));
}

void life_stream(struct thread *thread, uint64_t until_ms)
{
    /* Release pairs with the acquire in life_streams_until_ms: who sees that a stream has ended
     * sees the use that it was. */
    atomic_store_explicit(&rest_of(thread)->streams_until_ms, until_ms, memory_order_release);
    uint64_t word = life_load(thread);
    uint64_t fresh;
    do {
        assert((word & LIFE_CLAIM) && !(word & LIFE_DEAD));
        fresh = (word & ~LIFE_STAMP) | ((word + LIFE_STAMP_ONE) & LIFE_STAMP);
    } while (!life_swap(thread, &word, fresh));
}

bool life_kill(struct thread *thread, uint64_t now_ms, enum reason reason)
{
    assert(reason != REASON_NONE);
    uint64_t word = life_load(thread);
    for (;;) {
        if ((word & (LIFE_DEAD | LIFE_CLAIM)) || life_end_ms(thread, word) > now_ms) {
            return false;
        }
        if (life_swap(thread, &word, LIFE_DEAD | (uint64_t)reason)) {
            return true;
        }
    }
}

bool life_evict(struct thread *thread, uint64_t now_ms)
{
    uint64_t word = life_load(thread);
    for (;;) {
        /* The word vouches for what is read after it, see above. */
        if ((word & (LIFE_DEAD | LIFE_CLAIM)) || life_streams_until_ms(thread) > now_ms) {
            return false;
        }
        if (life_swap(thread, &word, LIFE_DEAD | (uint64_t)REASON_EVICTED)) {
            return true;
        }
    }
}

enum reason life_end_reason(const struct thread *thread, uint64_t now_ms)
{
    return thread_dies_ms(thread) <= now_ms ? REASON_MAX_AGE : REASON_EXPIRED;
}

bool life_end(struct thread *thread, uint64_t word, enum reason reason)
{
    assert((word & LIFE_CLAIM) && !(word & LIFE_DEAD));
    /* Pairs as in life_swap. */
    return atomic_compare_exchange_strong_explicit(&thread->life, &word,
                                                   LIFE_DEAD | (uint64_t)reason,
                                                   memory_order_acq_rel, memory_order_relaxed);
}
