/* Puts processes into real time and back; see urgent.h. */
#include "bench/urgent.h"

#include <dirent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { REST_NS = 250000000, PATH_BYTES = 64 };

static bool set_task(pid_t task, bool real_time)
{
    const struct sched_param param = {.sched_priority = real_time ? 1 : 0};
    return sched_setscheduler(task, real_time ? SCHED_FIFO : SCHED_OTHER, &param) == 0;
}

/* All tasks that it has by now. */
static bool set_process(pid_t process, bool real_time)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "/proc/%ld/task", (long)process);
    DIR *tasks = opendir(path);
    if (tasks == NULL) {
        return false;
    }
    bool good = true;
    for (struct dirent *entry; good && (entry = readdir(tasks)) != NULL;) {
        long task = strtol(entry->d_name, NULL, 10);
        good = task <= 0 || set_task((pid_t)task, real_time);
    }
    closedir(tasks);
    return good;
}

/* One that spins must not keep from its core the one that it waits for. */
static bool have_cores(const struct sides *sides)
{
    for (unsigned i = 0; i < sides->count; i++) {
        if (!sides->side[i].server.started) {
            return false;
        }
    }
    return sides->core != SERVER_ANY_CORE && sysconf(_SC_NPROCESSORS_ONLN) > 1;
}

void urgent_begin(const struct sides *sides, struct report *report)
{
    bool good = have_cores(sides);
    for (unsigned i = 0; good && i < sides->count; i++) {
        good = set_process(sides->side[i].server.pid, true);
    }
    good = good && set_task(0, true);
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
    (void)set_task(0, false);
    for (unsigned i = 0; i < sides->count; i++) {
        if (sides->side[i].server.started) {
            (void)set_process(sides->side[i].server.pid, false);
        }
    }
}

unsigned urgent_parts(double seconds)
{
    unsigned parts = (unsigned)(seconds / URGENT_PART_S + 0.5);
    return parts > 0 ? parts : 1;
}
