/* The life word's transitions. */
#include "thread/life.h"

#include <assert.h>

static uint64_t later(uint64_t word, uint64_t deadline_ms, bool exactly)
{
    uint64_t old_ms = word & LIFE_DEADLINE;
    return exactly || deadline_ms > old_ms ? deadline_ms : old_ms;
}

enum life life_refresh(struct thread *thread, uint64_t now_ms, uint64_t ttl_ms, bool exactly)
{
    assert(ttl_ms > 0 && now_ms + ttl_ms <= LIFE_DEADLINE);
    uint64_t word = life_load(thread);
    for (;;) {
        enum life life = life_judge(word, now_ms);
        if (life != LIFE_ALIVE) {
            return life;
        }
        uint64_t fresh = later(word, now_ms + ttl_ms, exactly) | (word & LIFE_CLAIM);
        /* The same tick again: nothing to write, so a hot thread's line stays shared. */
        if (fresh == word || life_swap(thread, &word, fresh)) {
            return LIFE_ALIVE;
        }
    }
}

enum life life_claim(struct thread *thread, uint64_t now_ms)
{
    uint64_t word = life_load(thread);
    for (;;) {
        if (word & LIFE_DEAD) {
            return LIFE_GONE;
        }
        if (word & LIFE_CLAIM) {
            return LIFE_CLAIMED;
        }
        if (life_judge(word, now_ms) == LIFE_OVERDUE) {
            return LIFE_OVERDUE;
        }
        if (life_swap(thread, &word, word | LIFE_CLAIM)) {
            return LIFE_ALIVE;
        }
    }
}

void life_release(struct thread *thread, uint64_t refresh_ms, bool exactly)
{
    uint64_t word = life_load(thread);
    uint64_t fresh;
    do {
        assert((word & LIFE_CLAIM) && !(word & LIFE_DEAD));
        fresh = refresh_ms > 0 ? later(word, refresh_ms, exactly) : word & LIFE_DEADLINE;
    } while (!life_swap(thread, &word, fresh));
}

bool life_kill(struct thread *thread, uint64_t now_ms, enum reason reason)
{
    assert(reason != REASON_NONE);
    uint64_t word = life_load(thread);
    for (;;) {
        if ((word & (LIFE_DEAD | LIFE_CLAIM)) || (word & LIFE_DEADLINE) > now_ms) {
            return false;
        }
        if (life_swap(thread, &word, LIFE_DEAD | (uint64_t)reason)) {
            return true;
        }
    }
}
