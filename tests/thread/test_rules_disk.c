/*
 * The same histories over a disk tier: threads leave memory and come back, the process starts
 * again, steps are damaged on the disk, and the rules stay what they are.
 */
#include "tests/thread/rules_play.h"

enum { RETENTION_MS = 20000, TTL_MS = 3, LOADED_MS = 1001 };

/* A few turns of the loop and of the disk, in any order. */
static void do_turns(void)
{
    tell("turns\n");
    for (unsigned turns = 1 + below(4); turns > 0; turns--) {
        for (unsigned steps = below(6); steps > 0; steps--) {
            tier_model_step(disk);
        }
        if (one_in(3)) {
            lane_tend_fully(domain.lane);
        } else {
            tend();
        }
    }
}

static void sweep(void)
{
    for (int i = 0; i < 3; i++) {
        tier_model_run(disk);
        lane_tend_fully(domain.lane);
    }
}

/* Whatever is idle leaves memory; who was just loaded stays a while longer. */
static void do_demote(void)
{
    wait_for(one_in(2) ? LOADED_MS : 2 * TTL_MS);
    tell("demote\n");
    sweep();
}

static void do_due(void)
{
    tell("due\n");
    tier_model_due(disk);
    tend();
}

/* A step that only the disk has is damaged there. */
static void do_damage(void)
{
    unsigned t = pick();
    struct rules_thread *thread = &rules.threads[t];
    if (!thread->alive || thread->draft.lives || thread->length == thread->lost) {
        return;
    }
    wait_for(LOADED_MS);
    sweep();
    if (!thread->alive || thread->draft.lives) {
        return;
    }
    uint32_t at = thread->lost + below(thread->length - thread->lost);
    tell("damage t%u step %u\n", t, at);
    HOLDS(tier_model_damage(disk, thread_name(t), at));
    thread->places[at].corrupt = true;
}

/*
 * Other threads over the same disk: nothing that was streamed is on it. The last use may be told to
 * it a 64th of the retention late; to what that comes the thread itself tells.
 */
static void do_restart(void)
{
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        if (rules.threads[t].alive &&
            rules.threads[t].deadline_ms - now_ms() <= RETENTION_MS / 32 + 1) {
            return; /* it might be over, or not */
        }
    }
    tell("restart\n");
    struct threads_settings settings = domain.settings;
    sweep();
    tier_model_set_at_once(disk, true);
    domain_close(&domain);
    domain_open(&domain, settings);
    tier_model_set_at_once(disk, false);
    rules_end_claims(&rules);
    for (unsigned t = 0; t < RULES_THREADS; t++) {
        struct rules_thread *thread = &rules.threads[t];
        struct thread_stat_result got = look_at(t);
        SAME(got.state == THREAD_MISS, !thread->alive);
        if (thread->alive) {
            uint64_t deadline_ms = now_ms() + got.expires_in_ms;
            HOLDS(deadline_ms <= thread->used_last_ms);
            HOLDS(deadline_ms + RETENTION_MS / 64 + 1 >= thread->deadline_ms);
            thread->deadline_ms = thread->used_last_ms = deadline_ms;
            thread->unsettled = false;
        }
    }
}

static void do_disk(void)
{
    static const struct act acts[] = {{"turns", 50, do_turns},
                                      {"demote", 30, do_demote},
                                      {"due", 6, do_due},
                                      {"damage", 7, do_damage},
                                      {"restart", 7, do_restart}};
    act(acts, sizeof acts / sizeof acts[0], 100);
}

START_TEST(no_replay_shows_what_was_in_memory)
{
    play_histories(8000, do_disk);
}
END_TEST

static void setup(void)
{
    clock_driven_init(&wall, 1700000000000);
    struct tier_model_settings tier = {.wall = &wall.clock, .tombstones = 1 << 12};
    disk = tier_model_create(&tier);
    struct threads_settings settings = rules_settings();
    settings.ttl_ms = TTL_MS;
    settings.retention_ms = RETENTION_MS;
    settings.tier = tier_model_tier(disk);
    settings.hash_secret = tier_model_secret(disk);
    settings.wall = &wall.clock;
    domain_open(&domain, settings);
}

static void teardown(void)
{
    tier_model_set_at_once(disk, true);
    domain_close(&domain);
    tier_model_destroy(disk);
}

int main(void)
{
    return SUITE_RUN("rules: disk", setup, teardown, 300, no_replay_shows_what_was_in_memory);
}
