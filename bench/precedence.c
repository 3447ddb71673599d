/* Cores, niceness and real time of what is measured; see precedence.h. */
#include "bench/precedence.h"

#include <dirent.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { HURRIED_NICE = -20, TEXT_BYTES = 64 };

void precedence_keep_to(unsigned core)
{
    cpu_set_t cores;
    CPU_ZERO(&cores);
    for (unsigned each = 0; each < CPU_SETSIZE; each++) {
        if (core == each || core == PRECEDENCE_ANY_CORE) {
            CPU_SET(each, &cores);
        }
    }
    (void)sched_setaffinity(0, sizeof cores, &cores);
}

/* Where sessions have a share of the cores each, a process's own niceness counts within one only.
 */
void precedence_hurry(bool hurry)
{
    (void)setpriority(PRIO_PROCESS, 0, hurry ? HURRIED_NICE : 0);
    int fd = open("/proc/self/autogroup", O_WRONLY | O_CLOEXEC);
    if (fd >= 0) {
        char text[TEXT_BYTES];
        int size = snprintf(text, sizeof text, "%d", hurry ? HURRIED_NICE : 0);
        (void)!write(fd, text, (size_t)size);
        close(fd);
    }
}

static bool set_task(pid_t task, bool real_time)
{
    const struct sched_param param = {.sched_priority = real_time ? 1 : 0};
    return sched_setscheduler(task, real_time ? SCHED_FIFO : SCHED_OTHER, &param) == 0;
}

bool precedence_real_time(pid_t process, bool real_time)
{
    if (process == 0) {
        return set_task(0, real_time);
    }
    char path[TEXT_BYTES];
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
