/*
 * Operating-system threads with a lane each, for tests that race. Header only.
 *
 * What must hold is said with CREW_HOLDS: it ends the process, from whatever operating-system
 * thread.
 */
#ifndef RETHREAD_TESTS_LIB_CREW_H
#define RETHREAD_TESTS_LIB_CREW_H

#include "tests/lib/domain.h"
#include "tests/lib/trial.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { CREW_MAX = 8, CREW_TRIES_MAX = 60000, CREW_TRIES_QUICK = 1000 };

struct crew;

struct mate {
    struct crew *crew;
    struct lane *lane; /* online while the mate works */
    unsigned number;
    uint64_t random; /* state of trial_random */
    void (*work)(struct mate *mate);
    pthread_t thread;
};

struct crew {
    struct domain *domain;
    pthread_barrier_t start;
    _Atomic unsigned working; /* mates that others wait for */
    unsigned count;
    struct mate mates[CREW_MAX];
};

#define CREW_HOLDS(condition)                                                                      \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s does not hold\n", __FILE__, __LINE__, #condition);          \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

/* Whether the mates that matter are still at it: those who follow them ask. */
static inline bool crew_works(const struct mate *mate)
{
    /* Pairs with the release in crew_done. */
    return atomic_load_explicit(&mate->crew->working, memory_order_acquire) > 0;
}

static inline void crew_done(struct mate *mate)
{
    /* Pairs with the acquire in crew_works. */
    atomic_fetch_sub_explicit(&mate->crew->working, 1, memory_order_release);
}

/*
 * A turn of the loop: offline for a moment, the clock read. Off the processor as well, as loops
 * mostly are then: who is preempted while online holds back everybody's memory.
 */
static inline void crew_turn(struct mate *mate)
{
    lane_tend(mate->lane);
    lane_offline(mate->lane);
    sched_yield();
    lane_online(mate->lane);
    lane_read_clock(mate->lane);
}

/*
 * Before what others are in the way of is tried again; *tries counts. The last try comes a minute
 * later at the earliest: those who are kept off the processor get to it by then, and only what
 * hangs does not.
 */
static inline void crew_try_again(struct mate *mate, unsigned *tries)
{
    CREW_HOLDS(++*tries < CREW_TRIES_MAX);
    crew_turn(mate);
    if (*tries > CREW_TRIES_QUICK) {
        const struct timespec moment = {.tv_nsec = 1000000};
        lane_offline(mate->lane);
        nanosleep(&moment, NULL);
        lane_online(mate->lane);
        lane_read_clock(mate->lane);
    }
}

static void *crew_main(void *argument)
{
    struct mate *mate = argument;
    pthread_barrier_wait(&mate->crew->start);
    lane_online(mate->lane);
    lane_read_clock(mate->lane);
    mate->work(mate);
    while (crew_works(mate)) { /* a lane is tended as long as it is open */
        crew_turn(mate);
    }
    lane_offline(mate->lane);
    return NULL;
}

/* The domain's own lane goes offline meanwhile, so that it holds nobody back. */
static inline void crew_run(struct domain *domain, unsigned leaders, unsigned count,
                            void (*const work[])(struct mate *mate))
{
    struct crew crew = {.domain = domain, .count = count};
    assert(count <= CREW_MAX);
    atomic_init(&crew.working, leaders);
    pthread_barrier_init(&crew.start, NULL, count);
    lane_offline(domain->lane);
    for (unsigned i = 0; i < count; i++) {
        struct lane *lane = lane_open(domain->threads, i, count);
        CREW_HOLDS(lane);
        crew.mates[i] = (struct mate){.crew = &crew, .lane = lane, .number = i, .work = work[i]};
        crew.mates[i].random = i * 7919 + 1;
    }
    for (unsigned i = 0; i < count; i++) {
        CREW_HOLDS(pthread_create(&crew.mates[i].thread, NULL, crew_main, &crew.mates[i]) == 0);
    }
    for (unsigned i = 0; i < count; i++) {
        pthread_join(crew.mates[i].thread, NULL);
    }
    for (unsigned i = 0; i < count; i++) {
        lane_close(crew.mates[i].lane);
    }
    pthread_barrier_destroy(&crew.start);
    lane_online(domain->lane);
    lane_read_clock(domain->lane);
}

#endif
