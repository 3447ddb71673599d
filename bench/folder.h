/* A folder of files that a workload made for itself. */
#ifndef RETHREAD_BENCH_FOLDER_H
#define RETHREAD_BENCH_FOLDER_H

/* Removes the files in it and the folder. */
void folder_remove(const char *name);

#endif
