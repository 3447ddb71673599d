/*
 * A data directory checked offline: the tree and what the log still holds beyond it.
 *
 * The one header of the store that a tool may include. Changes no record; holds the directory's
 * lock meanwhile, shared, so that no server can start on it.
 */
#ifndef RETHREAD_STORE_VERIFY_H
#define RETHREAD_STORE_VERIFY_H

#include <stdint.h>

struct verify_settings {
    const char *directory;
    /* Called with one line of text for each damage (no ids), and now and then with the records
     * looked at so far. Either may be NULL. */
    void (*found)(void *context, const char *text);
    void (*progress)(void *context, uint64_t records);
    void *context;
};

enum verify_result {
    VERIFY_SOUND,
    VERIFY_DAMAGED,
    VERIFY_UNREADABLE, /* not a data directory, in use by a server, not readable: see text */
};

struct verify_report {
    uint64_t threads; /* in the tree, as are the next */
    uint64_t steps;
    uint64_t records;
    uint64_t bytes;
    uint64_t log_groups; /* changes that are not in the tree yet */
    uint64_t log_bytes;
    uint64_t damaged;
    char text[256]; /* one sentence; empty but for VERIFY_UNREADABLE */
};

enum verify_result verify_run(const struct verify_settings *settings, struct verify_report *report);

#endif
