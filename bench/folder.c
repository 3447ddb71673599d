/* See folder.h. */
#include "bench/folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

void folder_remove(const char *name)
{
    DIR *directory = opendir(name);
    const struct dirent *entry;
    while (directory != NULL && (entry = readdir(directory)) != NULL) {
        unlinkat(dirfd(directory), entry->d_name, 0);
    }
    if (directory != NULL) {
        closedir(directory);
    }
    rmdir(name);
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
