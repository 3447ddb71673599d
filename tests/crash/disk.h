/*
 * A disk after a power cut: from a trace (tests/crash/trace.h), the files as they may be found.
 *
 * What it assumes of a file system is little. A sync of a file keeps all that was written to it
 * before, an O_DSYNC write keeps itself. Of later writes any may be there or not, 512 bytes at a
 * time, and the file may have grown without them (zeros). A sync of the directory keeps all names;
 * of what was created, renamed or removed since, some may have happened or not, in order for each
 * file. After a failed sync what it should have kept may be lost for ever.
 */
#ifndef RETHREAD_TESTS_CRASH_DISK_H
#define RETHREAD_TESTS_CRASH_DISK_H

#include "tests/crash/trace.h"

enum { DISK_SECTOR = 512, DISK_NAMES_MAX = 64, DISK_NAME_BYTES = 48 };

/* ---- The trace ----------------------------------------------------------------------------- */

struct trace {
    uint8_t *data;
    size_t size;
    size_t count; /* of events */
    const struct trace_event **events;
};

/* False: no trace, or a broken one. Events lie in `data`, their bytes behind them. */
bool trace_load(struct trace *trace, const char *path);
void trace_free(struct trace *trace);

static inline const uint8_t *trace_data(const struct trace_event *event)
{
    return (const uint8_t *)(event + 1);
}

/* ---- The disk ------------------------------------------------------------------------------ */

/* Something that may be on the disk or not. */
struct disk_write {
    uint32_t file;
    bool truncate;
    bool must;   /* it is */
    bool doomed; /* no later sync keeps it */
    uint64_t offset;
    uint64_t size;
    const uint8_t *data; /* NULL: zeros */
};

struct disk_file {
    uint8_t *data; /* what is sure */
    size_t size;
    size_t capacity;
    bool doomed; /* some write of it is */
};

struct disk_name {
    char text[DISK_NAME_BYTES];
    uint32_t file;
};

struct disk_names {
    unsigned count;
    struct disk_name names[DISK_NAMES_MAX];
};

/* A change of names that may have happened or not. */
struct disk_move {
    uint32_t file;
    char from[DISK_NAME_BYTES]; /* "": it was created */
    char to[DISK_NAME_BYTES];   /* "": it was removed */
};

struct disk {
    struct disk_file *files; /* by number; files are never forgotten */
    uint32_t file_count;
    struct disk_names seen; /* as the program saw them */
    struct disk_names sure;
    struct disk_move *moves;
    size_t move_count, move_capacity;
    struct disk_write *writes;
    size_t write_count, write_capacity;
    uint32_t *handles; /* files, by handle */
    uint32_t handle_count, handle_capacity;
    /* For building states. */
    struct disk_file work;
    uint8_t *block;
};

void disk_init(struct disk *disk);
void disk_free(struct disk *disk);

/* The next event has happened. */
void disk_step(struct disk *disk, const struct trace_event *event);

/*
 * Makes the files of one state in `directory`, by writing what differs; other files there are
 * removed. `next` is the event that was under way (NULL: none). `random` chooses; 0 in *random
 * gives the state in which everything is there (as after a mere end of the program). False: errno.
 */
bool disk_make(struct disk *disk, const struct trace_event *next, uint64_t *random,
               const char *directory);

#endif
