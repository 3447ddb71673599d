/* See folder.h. */
#include "bench/folder.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
    TREE_FILES = 16,
    GUARD_END = STDERR_FILENO + 1,
    REMOVE_TRIES = 100,
    REMOVE_PAUSE_NS = 20000000
};

static int remove_entry(const char *name, const struct stat *stat, int kind, struct FTW *place)
{
    (void)stat;
    (void)kind;
    (void)place;
    (void)remove(name);
    return 0;
}

void folder_remove(const char *name)
{
    (void)nftw(name, remove_entry, TREE_FILES, FTW_DEPTH | FTW_PHYS);
}

/* A server that this process started may still be ending, and write. */
static _Noreturn void guard(const char *name, int end)
{
    /* Sockets and the ends of other folders' guards are not this process's to hold. */
    (void)dup2(end, GUARD_END); /* which may be it already */
    (void)close_range(GUARD_END + 1, UINT_MAX, 0);
    (void)setsid(); /* what ends the whole group leaves the guard */
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGHUP, SIG_IGN);
    char nothing;
    while (read(GUARD_END, &nothing, 1) < 0 && errno == EINTR) {
    }
    for (unsigned try = 0; try < REMOVE_TRIES && access(name, F_OK) == 0; try++) {
        folder_remove(name);
        (void)nanosleep(&(struct timespec){.tv_nsec = REMOVE_PAUSE_NS}, NULL);
    }
    _exit(0);
}

static bool start_guard(struct folder *folder)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) {
        return false;
    }
    folder->guard = fork();
    if (folder->guard == 0) {
        close(ends[1]);
        guard(folder->name, ends[0]);
    }
    close(ends[0]);
    folder->end = ends[1];
    if (folder->guard < 0) {
        close(ends[1]);
        return false;
    }
    return true;
}

bool folder_make(struct folder *folder, const char *place)
{
    *folder = (struct folder){.end = -1};
    if (place == NULL || strcmp(place, "temp") == 0) {
        const char *given = getenv("TMPDIR");
        place = given != NULL && given[0] != '\0' ? given : "/tmp";
    }
    int size = snprintf(folder->name, sizeof folder->name, "%s/rethread-bench-XXXXXX", place);
    bool made = size > 0 && (size_t)size < sizeof folder->name && mkdtemp(folder->name) != NULL;
    if (made && start_guard(folder)) {
        return true;
    }
    fprintf(stderr, "rethread-bench: no folder can be made in %s: %s\n", place, strerror(errno));
    if (made) {
        folder_remove(folder->name);
    }
    *folder = (struct folder){.guard = 0};
    return false;
}

void folder_end(struct folder *folder)
{
    if (folder->guard <= 0) {
        return;
    }
    close(folder->end);
    (void)waitpid(folder->guard, NULL, 0);
    *folder = (struct folder){.guard = 0};
}

uint64_t folder_bytes(const char *name, const char *start)
{
    uint64_t bytes = 0;
    DIR *directory = opendir(name);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        struct stat stat;
        /* A file may go meanwhile. */
        if (strncmp(entry->d_name, start, strlen(start)) == 0 &&
            fstatat(dirfd(directory), entry->d_name, &stat, 0) == 0) {
            bytes += (uint64_t)stat.st_size;
        }
    }
    if (directory != NULL) {
        closedir(directory);
    }
    return bytes;
}
