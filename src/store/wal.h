/*
 * The log: groups of bytes, appended in batches, durable after one fdatasync, read back in order.
 *
 * A data directory holds segments `log-<number>` of WAL_SEGMENT_BYTES, filled with zeros when made,
 * so that a batch is one write and one fdatasync and the file's length stays. A *group* is one
 * change, opaque here, with a sequence number. A batch lies in one segment; one that is larger than
 * a segment makes its own larger. Segments whose groups are all in the tree are filled with zeros
 * again, off the path of acknowledgements, and used anew: erased bytes do not linger in them.
 *
 * On disk (integers big-endian). A segment begins with 64 bytes: "rethrlog", u32 format, u32 0, u64
 * number (that of its name), u64 first sequence, u64 durable, u64 salt (random, of this use), u64
 * 0, u64 XXH3-64 of the 56 before; magic, format and hash stay where they are in every format.
 * Groups follow, each at a multiple of 8: u32 bytes, u32 place in its batch (from 1), u64 sequence,
 * u64 XXH3-64 of the body, u64 XXH3-64 of the 24 before, seeded with the salt; then the body. So
 * what an earlier use or a client left behind is never taken for a group.
 *
 * Gaps, torn ends, holes. Within a segment sequences grow by one. `durable` says up to where all
 * was flushed before the segment was begun: what is missing between it and `first` belongs to
 * batches that failed and never were acknowledged. A batch is written only when the one before is
 * flushed, so a group at place p of its batch vouches for all before sequence - p + 1. What is
 * missing or damaged and vouched for by nothing is a torn end; what is vouched for, is not there
 * and is not in the tree either is a hole.
 *
 * Threading: the writer appends, syncs and revives, the filler trims; nothing else touches a struct
 * wal. Every error of wal_sync leaves the log *dead*: after a failed write or fdatasync nobody
 * knows what is there, so it must be revived (wal_revive) or opened anew before it takes more.
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
    WAL_HEADER_BYTES = 64,
    WAL_GROUP_HEADER_BYTES = 32,
    WAL_GROUP_BYTES_MAX = 1 << 30,
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
 * Opens the log in the directory `directory_fd` (which must stay open), plays what is there beyond
 * `applied` and is ready to append behind it. What is torn at the end is left out: it was never
 * acknowledged. At a hole *damaged is set and trouble->text names the segment; what came before it
 * is played, what came behind is not, and the segments concerned are set aside as
 * `log-<number>.damaged`: at once, or by wal_trim when what was played from them is in the tree.
 * STATUS_INTERNAL: trouble says why (newer format, not readable, not applied); all files are left
 * as they are.
 */
enum status wal_open(int directory_fd, uint64_t applied, wal_group_fn *play, void *context,
                     struct wal **wal, bool *damaged, struct wal_trouble *trouble);
void wal_close(struct wal *wal);

/* The same walk for a tool: `play` sees what is beyond `applied`, no file is changed or set aside.
 */
enum status wal_verify(int directory_fd, uint64_t applied, wal_group_fn *play, void *context,
                       bool *damaged, struct wal_trouble *trouble);

/* The sequence the next group gets. */
uint64_t wal_next_sequence(const struct wal *wal);

/* Adds a group to the batch under way (its bytes are copied); no I/O but for making room in memory.
 * Returns its sequence; 0: no memory, or beyond WAL_GROUP_BYTES_MAX. */
uint64_t wal_add(struct wal *wal, struct bytes group);

/* Writes the batch and flushes it: afterwards all its groups survive a crash. On an error the wal
 * is dead, the groups of this batch are to be counted as never written (recovery decides which of
 * them are there), and their sequences are not used again. An empty batch does nothing. */
enum status wal_sync(struct wal *wal, struct wal_trouble *trouble);

/*
 * Everything up to `sequence` is durable in the tree: segments that hold nothing newer are zeroed
 * for use anew or removed, and WAL_SPARE_SEGMENTS are kept ready, or for a while as many as came
 * back at once. Safe beside the writer's calls. A segment that has taken groups and was begun
 * `older_ms` ago is left behind, at once when all of it is in the tree, or else at the next sync,
 * so that its bytes can go. An error hurts no group and not the log: the rest is tried again at a
 * later call.
 */
enum status wal_trim(struct wal *wal, uint64_t sequence, uint64_t older_ms,
                     struct wal_trouble *trouble);

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
