/*
 * Calls on files that fail: the scripted program with one call, or all from one on, failing with
 * ENOSPC or EIO, cut short, or not flushing; at one place after the other.
 *
 * Each time the program goes on and comes to its end; what it was promised is there after the next
 * start, and after a power cut; a lack of space is over when there is space again, a failed disk
 * stays read-only until restart; reading goes on meanwhile. By itself a sample; `test_inject --all`
 * tries every place.
 */
#include "tests/crash/crash.h"
#include "tests/crash/judge.h"
#include "tests/lib/suite.h"
#include "tests/lib/trial.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CHANGES = 40, WORKERS = 8, STATES = 12, PLACES_MAX = 100000 };

struct profile {
    const char *name;
    struct trace_fault fault;
    bool at_open;
};

#define LASTING .lasting = true
#define CUT     .cut = true
#define EACH(name, call, place, error_, ...)                                                       \
    {name, {.calls = (call), .places = (place), .error = (error_), __VA_ARGS__}, false},           \
    {                                                                                              \
        name ", at start", {.calls = (call), .places = (place), .error = (error_), __VA_ARGS__},   \
            true                                                                                   \
    }

static const struct profile profiles[] = {
    EACH("log full", TRACE_CALL_WRITE, TRACE_LOG, ENOSPC, LASTING),
    EACH("log full once", TRACE_CALL_WRITE, TRACE_LOG, ENOSPC, .lasting = false),
    EACH("log full in the middle of a write", TRACE_CALL_WRITE, TRACE_LOG, ENOSPC, LASTING, CUT),
    EACH("log written in pieces", TRACE_CALL_WRITE, TRACE_LOG, ENOSPC, CUT),
    EACH("log not written", TRACE_CALL_WRITE, TRACE_LOG, EIO, LASTING),
    EACH("log not written once", TRACE_CALL_WRITE, TRACE_LOG, EIO, .lasting = false),
    EACH("log not flushed", TRACE_CALL_SYNC, TRACE_LOG, EIO, LASTING),
    EACH("log not flushed once", TRACE_CALL_SYNC, TRACE_LOG, EIO, .lasting = false),
    EACH("log full at a flush", TRACE_CALL_SYNC, TRACE_LOG, ENOSPC, .lasting = false),
    EACH("no new segment", TRACE_CALL_OPEN, TRACE_LOG, ENOSPC, LASTING),
    EACH("no new segment ever", TRACE_CALL_OPEN, TRACE_LOG, EIO, LASTING),
    EACH("no new name", TRACE_CALL_RENAME, TRACE_LOG, EIO, LASTING),
    EACH("no new name for want of space", TRACE_CALL_RENAME, TRACE_LOG, ENOSPC, .lasting = false),
    EACH("nothing removed", TRACE_CALL_UNLINK, TRACE_LOG, EIO, LASTING),
    EACH("names not flushed", TRACE_CALL_SYNC, TRACE_FOLDER, EIO, LASTING),
    EACH("names not flushed once", TRACE_CALL_SYNC, TRACE_FOLDER, EIO, .lasting = false),
    EACH("tree full", TRACE_CALL_WRITE, TRACE_TREE, ENOSPC, LASTING),
    EACH("tree full once", TRACE_CALL_WRITE, TRACE_TREE, ENOSPC, .lasting = false),
    EACH("tree cut short", TRACE_CALL_WRITE, TRACE_TREE, ENOSPC, CUT),
    EACH("tree not written", TRACE_CALL_WRITE, TRACE_TREE, EIO, LASTING),
    EACH("tree not written once", TRACE_CALL_WRITE, TRACE_TREE, EIO, .lasting = false),
    EACH("tree not flushed", TRACE_CALL_SYNC, TRACE_TREE, EIO, LASTING),
    EACH("tree not flushed once", TRACE_CALL_SYNC, TRACE_TREE, EIO, .lasting = false),
    EACH("all full", TRACE_CALL_WRITE, TRACE_LOG | TRACE_TREE, ENOSPC, LASTING),
    EACH("all broken", TRACE_CALL_WRITE | TRACE_CALL_SYNC, TRACE_LOG | TRACE_TREE | TRACE_FOLDER,
         EIO, LASTING),
};
enum { PROFILES = sizeof profiles / sizeof profiles[0] };

/* Shared with the workers; each adds with an atomic operation. */
struct counts {
    _Atomic uint64_t runs;
    _Atomic uint64_t faults;
    _Atomic uint64_t refused;
    _Atomic uint64_t states;
};

static struct counts *counts;

static void add(_Atomic uint64_t *to, uint64_t number)
{
    atomic_fetch_add_explicit(to, number, memory_order_relaxed); /* a number */
}

/* False: said on stderr. *fired: the fault came about. */
static bool run_place(const struct crash_run *before, struct crash_run *run,
                      const struct profile *profile, uint64_t place, bool *fired)
{
    uint64_t random = (place + 1) * PROFILES + (uint64_t)(profile - profiles);
    char text[400];
    uint64_t faults;
    struct script script = {.seed = 100 + random,
                            .changes = CHANGES,
                            .end = random % 4 == 0 ? SCRIPT_DIE : SCRIPT_CLOSE,
                            .fault = profile->fault,
                            .fault_at_open = profile->at_open};
    script.fault.skip = place;
    crash_clear(run->data);
    unlink(run->trace);
    uint64_t way = random | 1;
    if (!crash_inherit(run, before, &way)) {
        fprintf(stderr, "no state to begin with\n");
        return false;
    }
    int code = crash_life(run, &script, 0, 0, true);
    if (code != SCRIPT_DONE && code != TRACE_DIED && code != SCRIPT_REFUSED) {
        fprintf(stderr, "%s, call %" PRIu64 ": ended with %d, in %s\n", profile->name, place, code,
                run->folder);
        return false;
    }
    add(&counts->runs, 1);
    add(&counts->refused, code == SCRIPT_REFUSED);
    struct crash_findings findings =
        crash_explore(run, STATES, random, 1, 50 + (unsigned)(random % 50), true, true);
    add(&counts->states, findings.states);
    if (findings.bad + findings.died > 0) {
        fprintf(stderr, "%s, call %" PRIu64 ", after a power cut: %s\n", profile->name, place,
                findings.text);
        return false;
    }
    if (!crash_judge(run, JUDGE_AUDIT, &faults, text)) {
        fprintf(stderr, "%s, call %" PRIu64 ": %s, in %s\n", profile->name, place, text,
                run->folder);
        return false;
    }
    add(&counts->faults, faults);
    *fired = faults > 0 || code == SCRIPT_REFUSED;
    return true;
}

/* One worker's share. */
static int run_share(const struct crash_run *before, unsigned worker, bool all)
{
    static const uint64_t sample[] = {0, 1, 4, 11};
    struct crash_run run;
    unsigned number = 0;
    if (!crash_begin(&run)) {
        return 1;
    }
    for (unsigned i = 0; i < PROFILES; i++) {
        bool fired = true;
        for (uint64_t place = 0; fired && place < PLACES_MAX; place++) {
            if (!all && place == trial_count(sizeof sample / sizeof sample[0])) {
                break;
            }
            if (number++ % WORKERS != worker) {
                continue;
            }
            if (!run_place(before, &run, &profiles[i], all ? place : sample[place], &fired)) {
                return 1; /* the folder stays */
            }
        }
        number = i; /* workers need not agree on how many places there were */
    }
    crash_end(&run);
    return 0;
}

/* Whether all shares went well. */
static bool run_shares(bool all)
{
    struct crash_run before;
    struct script script = {.seed = 3, .changes = 150, .end = SCRIPT_DIE};
    pid_t pids[WORKERS];
    counts = mmap(NULL, sizeof *counts, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (counts == MAP_FAILED || !crash_begin(&before) ||
        crash_life(&before, &script, 0, 0, false) != TRACE_DIED) {
        return false;
    }
    fflush(NULL);
    for (unsigned i = 0; i < WORKERS; i++) {
        pids[i] = fork();
        if (pids[i] == 0) {
            _exit(run_share(&before, i, all));
        }
    }
    bool good = true;
    for (unsigned i = 0; i < WORKERS; i++) {
        int status;
        waitpid(pids[i], &status, 0);
        good &= WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    printf("%" PRIu64 " runs, %" PRIu64 " calls failed, %" PRIu64 " starts refused, %" PRIu64
           " crash states: %s\n",
           counts->runs, counts->faults, counts->refused, counts->states, good ? "good" : "bad");
    crash_end(&before);
    return good;
}

START_TEST(failing_calls_lose_nothing)
{
    ck_assert(run_shares(false));
}
END_TEST

int main(int count, char **words)
{
    int code = crash_script(count, words);
    if (code >= 0) {
        return code;
    }
    if (count == 2 && strcmp(words[1], "--all") == 0) {
        return run_shares(true) ? 0 : 1;
    }
    return SUITE_RUN("inject", NULL, NULL, 300, failing_calls_lose_nothing);
}
