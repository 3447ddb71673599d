/*
 * The domain over a disk tier against the same model of the contract: threads leave memory all the
 * time and come back, the disk is behind, read-only now and then, the process starts again, and no
 * answer may show any of that.
 */
#include "tests/thread/model_acts.h"

/* A few turns of the loop and of the disk, in any order. */
static void do_turns(void)
{
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

/* Whatever is idle leaves memory; LOADED_MS is how long a thread stays that was just loaded. */
static void do_demote(void)
{
    domain_wait(&domain, one_in(2) ? 1001 : 5);
    expire_all();
    for (int i = 0; i < 3; i++) {
        tier_model_run(disk);
        lane_tend_fully(domain.lane);
    }
}

static void do_due(void)
{
    tier_model_due(disk);
    tend();
}

/* Everything but forget, which is refused then. */
static void do_trouble(void)
{
    static void (*const acts[])(void) = {do_append, do_append, do_replay, do_replay,
                                         do_touch,  do_fork,   do_rewind, do_turns};
    tier_model_fail(disk);
    for (unsigned i = 1 + below(12); i > 0; i--) {
        acts[below(sizeof acts / sizeof acts[0])]();
    }
    if (tier_model_tier(disk)->calls->is_read_only(tier_model_tier(disk))) {
        tier_model_heal(disk);
    }
}

/*
 * Other threads over the same disk. The last use may be told to the disk a 64th of the retention
 * late; to what it comes the thread itself tells.
 */
static void do_restart(void)
{
    for (unsigned t = 0; t < THREADS; t++) {
        if (threads[t].alive && threads[t].deadline_ms - now_ms() <= threads[t].ttl_ms / 32 + 1) {
            return; /* it might be over, or not */
        }
    }
    struct threads_settings settings = domain.settings;
    for (int i = 0; i < 3; i++) {
        tier_model_run(disk);
        lane_tend_fully(domain.lane);
    }
    tier_model_set_at_once(disk, true);
    domain_close(&domain);
    domain_open(&domain, settings);
    tier_model_set_at_once(disk, false);
    for (unsigned t = 0; t < THREADS; t++) {
        struct ask look;
        struct thread_stat_result got;
        ask_begin(&look, WIRE_METHOD_STAT, name_of(t));
        while (put_back(thread_stat(domain.lane, &look.request, &got, &error))) {
        }
        SAME(got.state == THREAD_MISS, !threads[t].alive);
        if (threads[t].alive) {
            uint64_t left_ms = threads[t].deadline_ms - now_ms();
            HOLDS(got.expires_in_ms <= left_ms);
            HOLDS(got.expires_in_ms + threads[t].ttl_ms / 64 + 1 >= left_ms);
            threads[t].deadline_ms = now_ms() + got.expires_in_ms;
        }
    }
}

/* Not both in one run: what memory alone has during the trouble goes with a restart. */
static void do_hard_times(void)
{
    if (in_trouble) {
        do_trouble();
    } else if (one_in(3)) {
        do_restart();
    }
}

static void do_disk(void)
{
    static const struct {
        const char *name;
        unsigned weight;
        void (*act)(void);
    } acts[] = {{"turns", 60, do_turns},
                {"demote", 25, do_demote},
                {"due", 8, do_due},
                {"trouble or restart", 7, do_hard_times}};
    unsigned at = below(100);
    for (size_t i = 0; i < sizeof acts / sizeof *acts; i++) {
        if (at < acts[i].weight) {
            doing = acts[i].name;
            acts[i].act();
            return;
        }
        at -= acts[i].weight;
    }
}

START_TEST(no_answer_shows_what_is_in_memory)
{
    run_operations(trial_count(30000), do_disk);
}
END_TEST

START_TEST(no_answer_shows_what_the_disk_lacks)
{
    in_trouble = true;
    run_operations(trial_count(30000), do_disk);
}
END_TEST

/* Runs that found something. An old life that was due was erased a second time, and its numbers
 * took the place of a later one's. */
START_TEST(what_is_erased_again_leaves_later_lives_alone)
{
    in_trouble = true;
    run_operations_of(1795367069, 19500, do_disk);
}
END_TEST

/* A thread that was due, had told of a use meanwhile and left memory was erased all the same. */
START_TEST(what_was_used_since_it_was_due_stays)
{
    in_trouble = true;
    run_operations_of(95028, 19500, do_disk);
}
END_TEST

static void setup(void)
{
    clock_driven_init(&wall, 1700000000000);
    struct tier_model_settings tier = {.wall = &wall.clock, .tombstones = 1 << 20};
    disk = tier_model_create(&tier);
    keep_ms = 20 * DOMAIN_TTL_MS;
    struct threads_settings settings = model_settings();
    settings.ttl_ms = 3;
    settings.retention_ms = keep_ms;
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
    return SUITE_RUN("model: disk", setup, teardown, 0, no_answer_shows_what_is_in_memory,
                     no_answer_shows_what_the_disk_lacks,
                     what_is_erased_again_leaves_later_lives_alone,
                     what_was_used_since_it_was_due_stays);
}
