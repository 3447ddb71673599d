/*
 * The trace: what a program did to the files of one directory, in the order in which it happened,
 * as tests/crash/recorder.c writes it and tests/crash/disk.c reads it.
 *
 * A trace is a file of events: a struct trace_event, then data_bytes bytes. Several lives of a
 * program may follow one another in it. The functions at the end are the recorder's; a program
 * finds them with dlsym and does without when it is not there.
 */
#ifndef RETHREAD_TESTS_CRASH_TRACE_H
#define RETHREAD_TESTS_CRASH_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* What the recorder takes from the environment. */
#define TRACE_DIRECTORY "RETHREAD_TRACE_DIRECTORY" /* whose files are watched; absolute */
#define TRACE_FILE      "RETHREAD_TRACE_FILE"      /* is appended to */
#define TRACE_UNSYNCED  "RETHREAD_TRACE_UNSYNCED"  /* bits of enum trace_place: is not synced */
#define TRACE_DIE_AT    "RETHREAD_TRACE_DIE_AT"    /* the process ends with this event */

enum { TRACE_DIED = 99 /* exit code */ };

enum trace_kind {
    TRACE_START, /* of a life; descriptors of earlier ones mean nothing any more */
    TRACE_OPEN,  /* data: name; TRACE_CREATED when it was not there */
    TRACE_WRITE, /* data, or none and TRACE_ZEROS */
    TRACE_TRUNCATE,
    TRACE_RENAME, /* data: both names, each with its 0 */
    TRACE_UNLINK, /* data: name */
    TRACE_SYNC,   /* fsync or fdatasync of a file */
    TRACE_SYNC_FAILED,
    TRACE_SYNC_DIRECTORY,
    TRACE_MARK, /* the program's own; handle: which */
};

enum trace_flag { TRACE_CREATED = 1, TRACE_ZEROS = 2, TRACE_DSYNC = 4 };

struct trace_event {
    uint32_t kind;
    uint32_t handle; /* of an open file: the number of its TRACE_OPEN in this life, from 1 */
    uint64_t offset;
    uint64_t size;
    uint32_t data_bytes;
    uint32_t flags;
};

/* ---- Faults -------------------------------------------------------------------------------- */

enum trace_place { TRACE_LOG = 1, TRACE_TREE = 2, TRACE_FOLDER = 4, TRACE_OTHER = 8 };

enum trace_call {
    TRACE_CALL_OPEN = 1, /* only what creates */
    TRACE_CALL_WRITE = 2,
    TRACE_CALL_SYNC = 4,
    TRACE_CALL_RENAME = 8,
    TRACE_CALL_UNLINK = 16,
    TRACE_CALL_TRUNCATE = 32,
};

struct trace_fault {
    unsigned calls;  /* bits of enum trace_call */
    unsigned places; /* bits of enum trace_place */
    uint64_t skip;   /* so many of these go well first */
    bool lasting;    /* every one from then on; else only the one */
    bool cut;        /* a write: half of it is done; when lasting, the next ones fail */
    int error;       /* errno */
};

typedef void trace_mark_fn(uint32_t mark, const void *data, size_t size);
/* NULL: no fault any more. The count of calls begins anew. */
typedef void trace_fault_fn(const struct trace_fault *fault);
/* Since the fault was set: calls that matched it, and those of them that failed. */
typedef uint64_t trace_count_fn(uint64_t *failed);
/* Ends the process between two calls, so that the trace has all that was done. */
typedef void trace_die_fn(void);

#endif
