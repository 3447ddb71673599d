/* Puts processes into real time and back; see urgent.h. */
#include "bench/urgent.h"

#include "bench/precedence.h"

#include <time.h>
#include <unistd.h>

enum { REST_NS = 250000000 };

/* One that spins must not keep from its core the one that it waits for. */
static bool have_cores(const struct sides *sides)
{
    for (unsigned i = 0; i < sides->count; i++) {
        if (!sides->side[i].server.started) {
            return false;
        }
    }
    return sides->core != PRECEDENCE_ANY_CORE && sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

void urgent_begin(const struct sides *sides, struct report *report)
{
    bool good = have_cores(sides);
    for (unsigned i = 0; good && i < sides->count; i++) {
        good = precedence_real_time(sides->side[i].server.pid, true);
    }
    good = good && precedence_real_time(0, true);
    if (!good) {
        urgent_end(sides);
        report_note(report,
                    "noise and agent took latencies in ordinary scheduling, since real time "
                    "needs a privilege and a core for each: they hold waits for a core.");
    }
}

void urgent_rest(void)
{
    const struct timespec rest = {.tv_nsec = REST_NS};
    (void)nanosleep(&rest, NULL);
}

void urgent_end(const struct sides *sides)
{
    (void)precedence_real_time(0, false);
    for (unsigned i = 0; i < sides->count; i++) {
        if (sides->side[i].server.started) {
            (void)precedence_real_time(sides->side[i].server.pid, false);
        }
    }
}

unsigned urgent_parts(double seconds)
{
    unsigned parts = (unsigned)(seconds / URGENT_PART_S + 0.5);
    return parts > 0 ? parts : 1;
}
