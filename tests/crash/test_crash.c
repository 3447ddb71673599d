/*
 * Crash states of the store: lives of a scripted program that end anywhere, power cuts at any
 * moment, and what is found afterwards.
 *
 * By itself some seconds' worth. `test_crash --states 100000 [--seed S] [--workers N]` runs as many
 * as told and says how fast; `test_crash --trace FILE EVENT STATE` makes the state that a failure
 * named, in FILE.d, and judges it.
 */
#include "tests/crash/crash.h"
#include "tests/crash/disk.h"
#include "tests/crash/judge.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { CHANGES = 120, LIVES = 4, SAMPLE_STATES = 1500, LOSS_STATES = 400, ROUND_STATES = 5000 };

static struct crash_run run;

/* A few lives: ended anywhere, in their first steps even, or closed. */
static const char *live(struct crash_run *at, uint64_t seed, unsigned changes, unsigned unsynced)
{
    static char text[100];
    uint64_t random = seed;
    for (unsigned i = 0; i < LIVES; i++) {
        struct script script = {.seed = seed * LIVES + i,
                                .changes = changes / 2 + (unsigned)trial_below(&random, changes),
                                .end = trial_below(&random, 3) ? SCRIPT_DIE : SCRIPT_CLOSE};
        uint64_t dice = trial_below(&random, 4);
        uint64_t die_at = dice == 0   ? 1 + trial_below(&random, 60)
                          : dice == 1 ? 1 + trial_below(&random, 2000)
                                      : 0;
        int code = crash_life(at, &script, unsynced, die_at, unsynced != 0);
        if (code != SCRIPT_DONE && code != TRACE_DIED) {
            snprintf(text, sizeof text, "life %u of seed %" PRIu64 " ended with %d", i, seed, code);
            return text;
        }
    }
    return NULL;
}

static void setup(void)
{
    ck_assert(crash_begin(&run));
}

static void teardown(void)
{
    crash_end(&run);
}

static void report(const char *what, const struct crash_findings *findings)
{
    printf("%s: %" PRIu64 " states, %" PRIu64 " bad%s%s\n", what, findings->states, findings->bad,
           findings->text[0] ? ": " : "", findings->text);
}

START_TEST(nothing_is_lost)
{
    const char *text = live(&run, 1 + (uint64_t)_i, CHANGES, 0);
    ck_assert_msg(!text, "%s", text);
    struct crash_findings findings =
        crash_explore(&run, trial_count(SAMPLE_STATES), (uint64_t)_i, 2, 0, true, false);
    report("synced", &findings);
    ck_assert_msg(findings.bad == 0 && findings.died == 0, "%s", findings.text);
}
END_TEST

/* What the harness is worth: without one of the syncs it finds losses. */
static void finds_losses(const char *what, unsigned unsynced)
{
    const char *text = live(&run, 7, CHANGES, unsynced);
    ck_assert_msg(!text, "%s", text);
    struct crash_findings findings = crash_explore(&run, LOSS_STATES, 7, 2, 20, true, true);
    report(what, &findings);
    ck_assert_msg(findings.bad > 0, "no loss without syncs: %s", what);
}

START_TEST(without_syncs_losses_are_found)
{
    finds_losses("nothing synced", TRACE_LOG | TRACE_TREE | TRACE_FOLDER);
}
END_TEST

START_TEST(without_syncs_of_the_log_losses_are_found)
{
    finds_losses("log not synced", TRACE_LOG);
}
END_TEST

START_TEST(without_syncs_of_the_tree_losses_are_found)
{
    finds_losses("tree not synced", TRACE_TREE);
}
END_TEST

START_TEST(without_syncs_of_names_losses_are_found)
{
    finds_losses("names not synced", TRACE_FOLDER);
}
END_TEST

/* ---- The long run -------------------------------------------------------------------------- */

/* Rounds of lives; every other round goes on from a crash state of the one before. */
static int run_many(uint64_t states, uint64_t seed, unsigned workers)
{
    struct crash_run runs[2];
    uint64_t random = seed;
    uint64_t done = 0;
    uint64_t exploring_ms = 0;
    printf("seed %" PRIu64 ", %u workers\n", seed, workers);
    if (!crash_begin(&runs[0]) || !crash_begin(&runs[1])) {
        return 1;
    }
    for (uint64_t round = 0; done < states; round++) {
        struct crash_run *this = &runs[round % 2];
        struct crash_run *before = &runs[(round + 1) % 2];
        crash_clear(this->data);
        unlink(this->trace);
        bool inherits = round % 4 != 0;
        uint64_t way = trial_random(&random) | 1;
        if (inherits && !crash_inherit(this, before, &way)) {
            fprintf(stderr, "no state of %s\n", before->trace);
            return 1;
        }
        uint64_t own = seed * 1000 + round;
        const char *text = live(this, own, CHANGES, 0);
        if (text) {
            fprintf(stderr, "%s, in %s\n", text, this->folder);
            return 1;
        }
        uint64_t left = states - done < ROUND_STATES ? states - done : ROUND_STATES;
        uint64_t begun = script_now_ms();
        struct crash_findings findings =
            crash_explore(this, left, trial_random(&random), workers, 0, true, false);
        uint64_t took_ms = script_now_ms() - begun + 1;
        exploring_ms += took_ms;
        done += findings.states;
        printf("round %" PRIu64 " (%s), seed %" PRIu64 ": %" PRIu64 " states, %" PRIu64
               " states/s, %" PRIu64 " bad\n",
               round, inherits ? "after a crash" : "from nothing", own, findings.states,
               findings.states * 1000 / took_ms, findings.bad);
        fflush(stdout);
        if (findings.bad > 0 || findings.died > 0) {
            fprintf(stderr, "%s\n", findings.text);
            return 1;
        }
    }
    printf("%" PRIu64 " crash states, %" PRIu64 " states/s, nothing lost, nothing wrong\n", done,
           done * 1000 / (exploring_ms + 1));
    crash_end(&runs[0]);
    crash_end(&runs[1]);
    return 0;
}

/* The state that a failure named. */
static int run_one(const char *path, size_t cut, uint64_t way)
{
    struct trace trace;
    struct disk disk;
    struct ledger ledger = {0};
    struct judge judge;
    char directory[CRASH_PATH_BYTES];
    if (!trace_load(&trace, path) || cut > trace.count) {
        fprintf(stderr, "no trace\n");
        return 1;
    }
    snprintf(directory, sizeof directory, "%.200s.d", path);
    mkdir(directory, 0700);
    disk_init(&disk);
    for (size_t i = 0; i < cut; i++) {
        disk_step(&disk, trace.events[i]);
        ledger_step(&ledger, trace.events[i]);
    }
    bool good = disk_make(&disk, cut < trace.count ? trace.events[cut] : NULL, &way, directory);
    judge_init(&judge, directory);
    good = good && judge_open(&judge);
    if (good) {
        good = judge_look(&judge, &ledger, JUDGE_AUDIT | (ledger.failed > 0 ? JUDGE_LOOSE : 0));
        judge_close(&judge);
    }
    printf("durable %u of %u: %s\n", ledger.kept, ledger.count, good ? "good" : judge.text);
    judge_free(&judge);
    ledger_free(&ledger);
    disk_free(&disk);
    trace_free(&trace);
    return good ? 0 : 1;
}

static uint64_t option(int count, char **words, const char *name, uint64_t otherwise)
{
    for (int i = 1; i + 1 < count; i++) {
        if (strcmp(words[i], name) == 0) {
            return strtoull(words[i + 1], NULL, 10);
        }
    }
    return otherwise;
}

int main(int count, char **words)
{
    int code = crash_script(count, words);
    if (code >= 0) {
        return code;
    }
    if (count == 5 && strcmp(words[1], "--trace") == 0) {
        return run_one(words[2], strtoull(words[3], NULL, 10), strtoull(words[4], NULL, 10));
    }
    uint64_t states = option(count, words, "--states", 0);
    if (states > 0) {
        return run_many(states, option(count, words, "--seed", 1),
                        (unsigned)option(count, words, "--workers", 2));
    }
    Suite *suite = suite_create("crash");
    TCase *all = tcase_create("crash");
    tcase_add_checked_fixture(all, setup, teardown);
    tcase_add_loop_test(all, nothing_is_lost, 0, 2);
    tcase_add_test(all, without_syncs_losses_are_found);
    tcase_add_test(all, without_syncs_of_the_log_losses_are_found);
    tcase_add_test(all, without_syncs_of_the_tree_losses_are_found);
    tcase_add_test(all, without_syncs_of_names_losses_are_found);
    suite_add_tcase(suite, all);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed ? 1 : 0;
}
