/* A folder of files that a workload made for itself. */
#ifndef RETHREAD_BENCH_FOLDER_H
#define RETHREAD_BENCH_FOLDER_H

#include <stdint.h>

/* Removes the files in it and the folder. */
void folder_remove(const char *name);

/* Sum of the sizes of the files in it whose names begin with `start`. */
uint64_t folder_bytes(const char *name, const char *start);

#endif
