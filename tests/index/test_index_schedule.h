/*
 * Schedules: a few contexts on one operating-system thread that switch only at chosen points, so
 * that a test can run every order of their steps and each order again.
 *
 * Depth first, all schedules with a bounded number of preemptions (a switch away from a context
 * that could have gone on), or random ones from a seed. A context that never ends shows as too many
 * steps.
 */
#ifndef RETHREAD_TESTS_INDEX_TEST_INDEX_SCHEDULE_H
#define RETHREAD_TESTS_INDEX_TEST_INDEX_SCHEDULE_H

#include "tests/lib/trial.h"

#include <check.h>
#include <stdbool.h>
#include <ucontext.h>

#if defined(__SANITIZE_THREAD__)
#define SCHEDULE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define SCHEDULE_TSAN 1
#endif
#endif
#ifdef SCHEDULE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

/* Check writes to a file at each of its assertions, also the good ones: millions here. */
#define MUST(condition)                                                                            \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            ck_abort_msg("%s", #condition);                                                        \
        }                                                                                          \
    } while (0)

enum { CONTEXTS_MAX = 3, STEPS_MAX = 4000, STACK_BYTES = 256 * 1024 };

struct decision {
    uint8_t chosen;
    uint8_t before; /* who ran until here */
    uint8_t runnable;
};

static struct decision decisions[STEPS_MAX];
static unsigned decided; /* how many of them are prescribed */
static unsigned step_count;
static unsigned context_count;
static unsigned current;
static uint8_t runnable; /* a bit per context */
static bool exploring;
static void (*context_body)(unsigned which);
static void (*step_check)(void); /* what must hold at every point */
static uint64_t random_seed;     /* 0: follow `decisions`, then keep running the same context */
static ucontext_t contexts[CONTEXTS_MAX];
static ucontext_t home;
static uint8_t stacks[CONTEXTS_MAX][STACK_BYTES];
#ifdef SCHEDULE_TSAN
static void *fibers[CONTEXTS_MAX + 1];
#endif

static void switch_to(ucontext_t *from, ucontext_t *to, unsigned fiber)
{
#ifdef SCHEDULE_TSAN
    __tsan_switch_to_fiber(fibers[fiber], 0);
#else
    (void)fiber;
#endif
    swapcontext(from, to);
}

static unsigned lowest(unsigned set)
{
    return (unsigned)__builtin_ctz(set);
}

/* Who runs next, by prescription, by chance or by staying. */
static unsigned decide(void)
{
    MUST(step_count < STEPS_MAX); /* or somebody waits for somebody */
    struct decision *decision = &decisions[step_count];
    bool stays = (runnable >> current & 1) != 0;
    if (step_count >= decided) {
        decision->chosen = (uint8_t)(stays ? current : lowest(runnable));
        if (random_seed != 0 && (!stays || trial_below(&random_seed, 4) == 0)) {
            do {
                decision->chosen = (uint8_t)(trial_below(&random_seed, context_count));
            } while ((runnable >> decision->chosen & 1) == 0);
        }
    }
    decision->before = (uint8_t)current;
    decision->runnable = runnable;
    MUST((runnable >> decision->chosen & 1) != 0);
    step_count++;
    return decision->chosen;
}

static void schedule_point(void)
{
    if (!exploring) {
        return;
    }
    exploring = false;
    step_check();
    exploring = true;
    unsigned from = current;
    unsigned next = decide();
    if (next != from) {
        current = next;
        switch_to(&contexts[from], &contexts[next], next);
    }
}

static void context_main(int which)
{
    context_body((unsigned)which);
    runnable &= (uint8_t) ~(1u << which);
    if (runnable == 0) {
        switch_to(&contexts[which], &home, CONTEXTS_MAX);
    }
    current = decide();
    switch_to(&contexts[which], &contexts[current], current);
}

static void context_create(unsigned c)
{
    getcontext(&contexts[c]);
    contexts[c].uc_stack.ss_sp = stacks[c];
    contexts[c].uc_stack.ss_size = STACK_BYTES;
    contexts[c].uc_link = NULL;
    makecontext(&contexts[c], (void (*)(void))(void *)context_main, 1, (int)c);
#ifdef SCHEDULE_TSAN
    fibers[c] = __tsan_create_fiber(0);
#endif
}

/* Runs one schedule from beginning to end. */
static void schedule_run(void)
{
    step_count = 0;
    runnable = (uint8_t)((1u << context_count) - 1);
    for (unsigned c = 0; c < context_count; c++) {
        context_create(c);
    }
    current = 0;
    current = decide();
    exploring = true;
    switch_to(&home, &contexts[current], current);
    exploring = false;
#ifdef SCHEDULE_TSAN
    for (unsigned c = 0; c < context_count; c++) {
        __tsan_destroy_fiber(fibers[c]);
    }
#endif
}

static bool is_preemption(const struct decision *decision, unsigned chosen)
{
    return chosen != decision->before && (decision->runnable >> decision->before & 1) != 0;
}

/* The schedule after the last one, depth first; false when all were run. */
static bool schedule_advance(unsigned preemptions_max)
{
    unsigned preemptions = 0;
    for (unsigned i = 0; i < step_count; i++) {
        preemptions += is_preemption(&decisions[i], decisions[i].chosen);
    }
    for (unsigned i = step_count; i-- > 0;) {
        struct decision *decision = &decisions[i];
        preemptions -= is_preemption(decision, decision->chosen);
        bool stays = (decision->runnable >> decision->before & 1) != 0;
        unsigned first = stays ? decision->before : lowest(decision->runnable);
        /* In the order: the first choice, then the others from low to high. */
        unsigned next = decision->chosen == first ? 0 : decision->chosen + 1u;
        while (next < context_count && (next == first || (decision->runnable >> next & 1) == 0)) {
            next++;
        }
        if (next < context_count &&
            preemptions + is_preemption(decision, next) <= preemptions_max) {
            decision->chosen = (uint8_t)next;
            decided = i + 1;
            return true;
        }
    }
    return false;
}

/* `random` 0: depth first from the schedule without preemptions. */
static void schedule_start(unsigned count, uint64_t random, void (*body)(unsigned which),
                           void (*check)(void))
{
    MUST(count <= CONTEXTS_MAX);
    context_count = count;
    context_body = body;
    step_check = check;
    random_seed = random;
    decided = 0;
#ifdef SCHEDULE_TSAN
    fibers[CONTEXTS_MAX] = __tsan_get_current_fiber();
#endif
}

#endif
