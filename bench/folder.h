/* Folders of files that a workload makes for itself, and that must not stay behind. */
#ifndef RETHREAD_BENCH_FOLDER_H
#define RETHREAD_BENCH_FOLDER_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct folder {
    char name[PATH_MAX];
    int end; /* closed: the guard removes the folder */
    pid_t guard;
};

/*
 * Makes an empty folder in `place` (NULL or "temp": in $TMPDIR, else in /tmp). A process of its own
 * guards it: it removes the folder when this one ends, however it ends. False, after a message on
 * stderr.
 */
bool folder_make(struct folder *folder, const char *place);
/* Removes it, when there is one; of a zeroed one as well. */
void folder_end(struct folder *folder);

/* Removes the folder and all in it. */
void folder_remove(const char *name);

/* Sum of the sizes of the files in it whose names begin with `start`. */
uint64_t folder_bytes(const char *name, const char *start);

#endif
