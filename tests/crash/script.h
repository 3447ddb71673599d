/*
 * The scripted program: one life of a lane over a store, under the recorder.
 *
 * It opens the directory, says by the ledger of its earlier lives after which change the store is
 * (which is judged here too), and submits changes of every kind: appends, rewinds, both in one,
 * whole puts, touches, forks, erasures, steps larger than a segment of the log. A life ends by
 * closing the store or, so that what was not flushed may be lost, between any two calls.
 */
#ifndef RETHREAD_TESTS_CRASH_SCRIPT_H
#define RETHREAD_TESTS_CRASH_SCRIPT_H

#include "base/clock.h"
#include "tests/crash/ledger.h"

enum script_end { SCRIPT_CLOSE, SCRIPT_DIE };

struct script {
    const char *directory;
    uint64_t seed;
    unsigned changes;
    enum script_end end;
    /* When fault.calls is not 0: it is set when the store is open, or before; taken back after so
     * many changes, and then as many follow again. A life that dies does so before. */
    struct trace_fault fault;
    bool fault_at_open;
};

enum script_result {
    SCRIPT_DONE = 0,
    SCRIPT_WRONG = 1,   /* said on stderr */
    SCRIPT_REFUSED = 2, /* the directory was refused while a fault was set */
};

/* Exit codes: enum script_result, TRACE_DIED. */
int script_run(const struct script *script);

/* Of the machine's clock: by it patience ends. */
static inline uint64_t script_now_ms(void)
{
    return clock_read_ms(clock_monotonic());
}

#endif
