/*
 * The log: groups of bytes, appended in batches, durable after one fdatasync, read back in order.
 *
 * A data directory holds segments `log-<number>` of WAL_SEGMENT_BYTES, filled with zeros when made,
 * so that a batch is one write and one fdatasync and the file's length stays. A *group* is one
 * change, opaque here, with a sequence number that grows by one. Each group carries its length,
 * sequence and an XXH3-64 over all of it; a batch ends where the first group fails to check.
 * Segments whose groups are all in the tree are filled with zeros again, off the path of
 * acknowledgements, and used anew: erased bytes do not linger in them.
 *
 * Threading: the writer appends and syncs, the filler trims; nothing else touches a struct wal.
 * Every error leaves the log as it was on disk and *dead*: after a failed write or fdatasync nobody
 * knows what is there, so it must be reopened (wal_revive) before it takes more.
 */
#ifndef RETHREAD_STORE_WAL_H
#define RETHREAD_STORE_WAL_H

#include "base/bytes.h"
#include "base/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    WAL_SEGMENT_BYTES = 16 << 20,
    WAL_SPARE_SEGMENTS = 2,
    WAL_GROUP_HEADER_BYTES =
        24, /* u32 mark, u32 bytes, u64 sequence, u64 XXH3-64 of all the rest */
};

struct wal;

/* errno of the call that failed, and which it was; for logs and refusals. */
struct wal_trouble {
    int error;
    const char *call; /* "write", "fdatasync", "open", ... static */
    char text[160];   /* one sentence; no client bytes */
};

/*
 * Called for each whole group at start, in order, with sequences > `applied`. Returns false to stop
 * with an error (the group could not be applied).
 */
typedef bool wal_group_fn(void *context, uint64_t sequence, struct bytes group);

/*
 * Opens the log in the directory `fd`, plays what is there beyond `applied` and is ready to append
 * from the sequence behind the last. What is torn at the end is cut off: it was never acknowledged.
 * A hole (a damaged group with valid later ones behind it) is no torn end: the damaged segment is
 * set aside as `log-<number>.damaged`, *damaged is set, and what came before it holds.
 * STATUS_INTERNAL: trouble says why.
 */
enum status wal_open(int directory_fd, uint64_t applied, wal_group_fn *play, void *context,
                     struct wal **wal, bool *damaged, struct wal_trouble *trouble);
void wal_close(struct wal *wal);

/* The sequence the next group gets. */
uint64_t wal_next_sequence(const struct wal *wal);

/* Adds a group to the batch under way (its bytes are copied); no I/O but for making room in memory.
 * Returns its sequence; 0: no memory. */
uint64_t wal_add(struct wal *wal, struct bytes group);

/* Writes the batch and flushes it: afterwards all its groups survive a crash. On an error the wal
 * is dead, the groups of this batch are to be counted as never written (recovery decides which of
 * them are there), and their sequences are not used again. An empty batch does nothing. */
enum status wal_sync(struct wal *wal, struct wal_trouble *trouble);

/* Everything up to `sequence` is in the tree: segments that hold nothing newer are zeroed for use
 * anew or removed. Safe beside wal_add and wal_sync of another operating-system thread. A segment
 * that has taken groups and is older than `older_ms` is left behind at the next sync, so that its
 * bytes can go. */
enum status wal_trim(struct wal *wal, uint64_t sequence, struct wal_trouble *trouble);

/* A dead log gets a fresh segment, beginning behind every sequence ever handed out. What the tree
 * lacks of the older groups is still in the older segments. Fails while the cause lasts. */
enum status wal_revive(struct wal *wal, struct wal_trouble *trouble);

struct wal_numbers {
    uint64_t bytes; /* of all files */
    uint64_t batches;
    uint64_t groups;
};

struct wal_numbers wal_numbers(const struct wal *wal); /* any operating-system thread */

#endif
