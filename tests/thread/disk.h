/*
 * Threads over a disk tier, on a driven schedule: nothing becomes durable, applied or loaded before
 * the test says so. Header only, for the tests of what reaches the disk and comes back.
 *
 * NOW is what a lane answers at this moment ("again": it is put back), IS what the answer comes to
 * when everything that is under way is brought to its end.
 */
#ifndef RETHREAD_TESTS_THREAD_DISK_H
#define RETHREAD_TESTS_THREAD_DISK_H

#include "tests/lib/domain.h"
#include "tests/lib/suite.h"
#include "tests/lib/tier_model.h"

#include <stdio.h>

enum {
    RETENTION_MS = 60000,
    ROUNDS_MAX = 50,
};

static struct clock_driven wall;
static struct tier_model *model;
static struct tier_model_settings tier_settings;
static struct threads_settings settings;
static struct domain domain;
static struct domain second; /* another lane of the same threads, when open */

#define NOW(line, answer)        ck_assert_str_eq(domain_say(&domain, line), answer)
#define IS(line, answer)         ck_assert_str_eq(say(&domain, line), answer)
#define METRIC_IS(metric, value) ck_assert_uint_eq(domain_metric(&domain, METRIC_##metric), value)

static inline void open_model(void)
{
    model = tier_model_create(&tier_settings);
    settings.tier = tier_model_tier(model);
    settings.hash_secret = tier_model_secret(model);
}

static inline void setup(void)
{
    clock_driven_init(&wall, 1700000000000);
    tier_settings = (struct tier_model_settings){.wall = &wall.clock};
    settings = domain_settings();
    settings.retention_ms = RETENTION_MS;
    settings.wall = &wall.clock;
    open_model();
    domain_open(&domain, settings);
}

static inline void close_domain(void)
{
    tier_model_set_at_once(model, true); /* a lane waits for what is under way */
    domain_close(&domain);
    tier_model_set_at_once(model, false);
}

static inline void teardown(void)
{
    close_domain();
    tier_model_destroy(model);
}

/* As after a restart of the process: other threads, the same disk. */
static inline void restart(void)
{
    close_domain();
    domain_open(&domain, settings);
}

/* With other settings, from the beginning. */
static inline void start_over(void)
{
    close_domain();
    tier_model_destroy(model);
    open_model();
    domain_open(&domain, settings);
}

static inline void turn(struct domain *at)
{
    lane_offline(at->lane);
    lane_online(at->lane);
    lane_tend(at->lane);
}

/* Everything under way comes to its end. */
static inline void run(void)
{
    for (int i = 0; i < 4; i++) {
        tier_model_run(model);
        turn(&domain);
        if (second.lane) {
            turn(&second);
        }
    }
}

static inline const char *say(struct domain *at, const char *line)
{
    const char *answer = domain_say(at, line);
    for (int rounds = 0; strcmp(answer, "again") == 0 && rounds < ROUNDS_MAX; rounds++) {
        run();
        answer = domain_say(at, line);
    }
    return answer;
}

/* A second lane. Only the lane is its own. */
static inline void open_second(void)
{
    second = (struct domain){.threads = domain.threads, .lane = lane_open(domain.threads, 1, 2)};
    ck_assert_ptr_nonnull(second.lane);
    lane_online(second.lane);
    lane_read_clock(second.lane);
}

static inline void close_second(void)
{
    run();
    lane_offline(second.lane);
    lane_close(second.lane);
    second.lane = NULL;
}

static inline void wait_ms(uint64_t by_ms)
{
    domain_wait(&domain, by_ms);
    if (second.lane) {
        lane_read_clock(second.lane);
    }
}

/* All that is due to leave memory leaves it. */
static inline void sweep(void)
{
    for (int i = 0; i < 4; i++) {
        lane_tend_fully(domain.lane);
        run();
    }
}

/* Nothing is used for longer than its ttl, but for less than its retention. */
static inline void demote_all(void)
{
    run();
    wait_ms(2 * DOMAIN_TTL_MS);
    sweep();
    METRIC_IS(THREADS_LIVE, 0);
}

/* What the tier has due, it asks for; the lanes answer. */
static inline void due(void)
{
    tier_model_due(model);
    run();
}

#endif
