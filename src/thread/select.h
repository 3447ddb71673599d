/*
 * Which steps of a thread a replay returns, which are missing and why, which are left out. Private
 * to src/thread/.
 *
 * In this order: the policy and, with `pin`, the thread's floor leave steps out; `have` skips what
 * the caller holds and compares it; `last` limits; prefixes and models that do not fit make steps
 * missing, and so do the budgets, oldest first.
 */
#ifndef RETHREAD_THREAD_SELECT_H
#define RETHREAD_THREAD_SELECT_H

#include "thread/life.h"
#include "thread/operations.h"
#include "thread/spine.h"

struct replay {
    struct lane *lane;
    const struct wire_request *request;
    struct thread_replay_result *result;
    struct wire_error *error;
    bool touch;
    bool known; /* what was asked for led to a thread that is there */
};

/* The spine that is walked. */
static inline const struct spine *select_spine(const struct thread_replay_result *result)
{
    return result->spine ? result->spine : (const struct spine *)&result->alone;
}

/* Whether a step is being streamed into the thread. */
static inline bool select_in_flight(const struct lane *lane, const struct thread *thread)
{
    return life_streams_until_ms(thread) > lane->now_ms;
}

/* `end`: positions below it are asked for; UINT32_MAX means all. With `pin` the thread's claim is
 * taken, and the floor moves. */
enum status select_steps(struct replay *replay, struct thread *thread, const struct snapshot *now,
                         uint32_t end);

#endif
