/*
 * Disk records: how a change, a head, a step, a key and a tombstone are written down.
 *
 * All integers are big-endian. What goes into the tree is a value with a header: format version,
 * kind, and XXH3-64 over key, header and body (record_seal, record_check), so that a damaged value,
 * or one under another key, is noticed. A *group* is one change as the log holds it: everything the
 * tree needs to take it in, encoded (and compressed) once.
 *
 * Pure functions over bytes; no I/O, no state. Every decoder takes arbitrary bytes and returns
 * false for what it does not understand.
 */
#ifndef RETHREAD_STORE_RECORD_H
#define RETHREAD_STORE_RECORD_H

#include "base/bytes.h"
#include "thread/tier.h"

struct ZSTD_CCtx_s;

enum {
    RECORD_FORMAT = 2,        /* what is written */
    RECORD_FORMAT_OLDEST = 1, /* and read */
    RECORD_SEAL_BYTES = 16,   /* header of a tree value */
    RECORD_VALUE_MAX = 4080,  /* a tree value with its header: chunks are cut to this */
};

enum record_compression { RECORD_PLAIN, RECORD_ZSTD };

/*
 * A growing buffer of malloc; starts zeroed, and size 0 empties it for use anew. `failed` sticks
 * when memory ran out (what was in it before is still whole); set it to false to go on. It keeps
 * the compressor that its groups need: one buffer, one operating-system thread at a time.
 */
struct record_buffer {
    uint8_t *data;
    size_t size;
    size_t capacity;
    bool failed;
    struct ZSTD_CCtx_s *compressor; /* private: made when first needed */
};

void record_buffer_free(struct record_buffer *buffer);
/* Makes room for `size` more bytes; false: no memory (`failed` is set). */
bool record_buffer_reserve(struct record_buffer *buffer, size_t size);

/*
 * Appends the change to the buffer as one group; false: no memory, the buffer is as before.
 * Token ids are packed (store/tokens.h), and payloads of 64 bytes or more compressed one by one
 * where that gains an eighth or more. `secret`: of index_hash, 192 bytes, to name the steps' keys.
 * A step below change->inherited is as old as head.shared; a NULL step is written as corrupt.
 */
bool record_put_group(struct record_buffer *buffer, const struct tier_change *change,
                      const uint8_t *secret, enum record_compression compression);

/* A key of a step, as named in a group. */
struct record_key {
    struct index_hash name;
    uint8_t kind; /* enum record_kind */
};

/* A group, opened. Bytes lead into it. */
struct record_group {
    enum tier_change_kind kind;
    enum reason reason;
    uint32_t drop_from;
    struct tier_head head;
    uint32_t recall_count;
    uint32_t step_count;
    struct bytes recalls; /* private: those not yet walked */
    struct bytes steps;   /* private: likewise */
    uint32_t steps_left;  /* private */
};

/* Looks over all of it (but for the checksums of its blobs), so that the walks that follow end
 * early for nothing. False: damaged. */
bool record_open_group(struct bytes bytes, struct record_group *group);
/* The next of the recalls, of the steps; false: no more. */
bool record_next_recall(struct record_group *group, struct recall_entry *entry);

/* A step as the tree stores it: `blob` (meta and payload) is cut into chunks as it is. */
struct record_step {
    uint32_t number;
    uint32_t version;
    bool corrupt;   /* only a place: the step could not be read when this was written */
    bool inherited; /* its keys are not to be entered */
    unsigned key_count;
    struct bytes keys; /* private */
    struct bytes blob;
};

bool record_next_step(struct record_group *group, struct record_step *step);
bool record_next_key(struct record_step *step, struct record_key *key);

/*
 * A blob back into its parts. record_step_bytes: how much scratch that takes (0: damaged; it is
 * bounded by what the blob's bytes can give). All of the parts lie in the scratch; the blob may go
 * afterwards. record_open_step also compares the blob's checksum.
 */
size_t record_step_bytes(struct bytes blob);
bool record_open_step(struct bytes blob, uint8_t *scratch, size_t scratch_bytes,
                      struct step_parts *parts);
/*
 * A blob with its payload compressed, written to the buffer in place of what was there; or the blob
 * itself: when it is compressed already, is too small, gains too little or is damaged, or when
 * there is no memory.
 */
struct bytes record_compress_step(struct record_buffer *buffer, struct bytes blob);
/* The blob's keys, to take them out of the tree again. Its first RECORD_VALUE_MAX -
 * RECORD_SEAL_BYTES bytes are enough for this. */
bool record_step_keys(struct bytes blob, struct record_step *keys);

/* ---- Tree values: encoded without, checked with their seal ---------------------------------- */

enum record_value {
    RECORD_HEAD = 1,
    RECORD_RECALL,
    RECORD_CHUNK,
    RECORD_NAME,
    RECORD_KEY,
    RECORD_TOMB,
    RECORD_META,
};

/* Fills in the 16 bytes before `body` (value = header + body, both within one buffer). */
void record_seal(uint8_t *value, size_t value_bytes, struct bytes key, enum record_value kind);
/* The body, or an empty `data` when format, kind or checksum are not as they must be. */
struct bytes record_check(struct bytes value, struct bytes key, enum record_value kind);
/* The format that the value of a body is written in; `body` is from record_check, and not empty. */
unsigned record_body_format(struct bytes body);
/* Whether a value that fails record_check was written by a newer format. */
bool record_is_newer(struct bytes value);

size_t record_head_bytes(const struct tier_head *head);
void record_put_head(uint8_t *at, const struct tier_head *head); /* record_head_bytes of them */
/* Heads of format 1 have no floor: it is 0. */
bool record_open_head(struct bytes body, unsigned format, struct tier_head *head);

enum { RECORD_RECALL_BYTES = 49, RECORD_KEY_BYTES = 34, RECORD_TOMB_BYTES = 34 };
void record_put_recall(uint8_t *at, const struct recall_entry *entry);
bool record_open_recall(struct bytes body, struct recall_entry *entry);

#endif
