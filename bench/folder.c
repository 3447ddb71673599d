/* See folder.h. */
#include "bench/folder.h"

#include <dirent.h>
#include <stddef.h>
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
