/*
 * Crash runs: lives of the scripted program under the recorder, and their crash states judged.
 *
 * Everything of a run lies in a folder of its own: `data` (the store's directory), `trace`, and a
 * directory of states for each worker. A folder stays when something was found in it.
 */
#ifndef RETHREAD_TESTS_CRASH_CRASH_H
#define RETHREAD_TESTS_CRASH_CRASH_H

#include "tests/crash/script.h"

enum { CRASH_PATH_BYTES = 256, CRASH_WORKERS_MAX = 16 };

struct crash_run {
    char folder[CRASH_PATH_BYTES]; /* in memory where there is a file system for that */
    char data[CRASH_PATH_BYTES];
    char trace[CRASH_PATH_BYTES];
};

struct crash_findings {
    uint64_t states;
    uint64_t bad;
    uint64_t died;  /* workers, on a signal or an assertion, or that came to a halt */
    char text[800]; /* of the first one: where it is, what is wrong */
};

bool crash_begin(struct crash_run *run);
void crash_end(struct crash_run *run); /* removes the folder */
void crash_clear(const char *directory);

/*
 * A life of the script, in a process of its own. `unsynced`: bits of enum trace_place. `die_at`: it
 * ends with that event of its trace (0: it does not). Returns the exit code, 128 + the number of a
 * signal, or 255 when it took too long.
 */
int crash_life(const struct crash_run *run, const struct script *script, unsigned unsynced,
               uint64_t die_at, bool quiet);

/* Instead of earlier lives: a crash state of another run, that `random` chooses, is what is there.
 */
bool crash_inherit(struct crash_run *run, const struct crash_run *from, uint64_t *random);

/* Judges so many crash states of the run, spread over all moments of its trace from `first` parts
 * of 100 on, with as many workers. `stop`: at the first that is wrong. */
struct crash_findings crash_explore(const struct crash_run *run, uint64_t states, uint64_t seed,
                                    unsigned workers, unsigned from_percent, bool stop, bool quiet);

/* Judges the files in `data` as they are. *faults: how many calls failed as told, in all lives. */
bool crash_judge(const struct crash_run *run, unsigned flags, uint64_t *faults, char text[400]);

/* Called first by main: the script, in a life's process; -1: this is no such process. */
int crash_script(int count, char **words);

#endif
